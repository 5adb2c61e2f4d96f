//! The rules of checks and health checks.

use meshos_proto::mesos::v1::{self as pb, check_info, health_check};

pub(super) fn check(check: &pb::CheckInfo) -> Result<(), String> {
    use check_info::Type;
    let Some(kind) = check.r#type.and_then(|kind| Type::try_from(kind).ok()).filter(|k| *k != Type::Unknown)
    else {
        return Err("CheckInfo must specify 'type'".to_owned());
    };
    match kind {
        Type::Command => {
            let Some(command) = &check.command else {
                return Err("Expecting 'command' to be set for COMMAND check".to_owned());
            };
            command_has_value(&command.command)?;
        }
        Type::Http => {
            let Some(http) = &check.http else {
                return Err("Expecting 'http' to be set for HTTP check".to_owned());
            };
            path_is_absolute(http.path.as_deref())?;
        }
        Type::Tcp if check.tcp.is_none() => {
            return Err("Expecting 'tcp' to be set for TCP check".to_owned());
        }
        Type::Tcp | Type::Unknown => {}
    }
    times(&[
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])
}

pub(super) fn health_check(check: &pb::HealthCheck) -> Result<(), String> {
    use health_check::Type;
    let told = check.r#type.and_then(|kind| Type::try_from(kind).ok()).filter(|kind| *kind != Type::Unknown);
    let kind = match (told, &check.command, &check.http) {
        (Some(kind), ..) => kind,
        (None, Some(_), None) => Type::Command,
        (None, None, Some(_)) => Type::Http,
        _ => return Err("HealthCheck must specify 'type'".to_owned()),
    };
    match kind {
        Type::Command => {
            let Some(command) = &check.command else {
                return Err("Expecting 'command' to be set for COMMAND health check".to_owned());
            };
            command_has_value(command)?;
        }
        Type::Http => {
            let Some(http) = &check.http else {
                return Err("Expecting 'http' to be set for HTTP health check".to_owned());
            };
            if !matches!(http.scheme.as_deref(), None | Some("http" | "https")) {
                let scheme = http.scheme.as_deref().unwrap_or_default();
                return Err(format!("Unsupported HTTP health check scheme: '{scheme}'"));
            }
            path_is_absolute(http.path.as_deref())?;
        }
        Type::Tcp if check.tcp.is_none() => {
            return Err("Expecting 'tcp' to be set for TCP health check".to_owned());
        }
        Type::Tcp | Type::Unknown => {}
    }
    times(&[
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
        ("grace_period_seconds", check.grace_period_seconds),
    ])
}

fn command_has_value(command: &pb::CommandInfo) -> Result<(), String> {
    if command.value.as_deref().is_none_or(str::is_empty) {
        return Err("Command check must contain 'value'".to_owned());
    }
    Ok(())
}

fn path_is_absolute(path: Option<&str>) -> Result<(), String> {
    match path {
        Some(path) if !path.starts_with('/') => {
            Err(format!("The path '{path}' of HTTP check must start with '/'"))
        }
        _ => Ok(()),
    }
}

fn times(times: &[(&str, Option<f64>)]) -> Result<(), String> {
    match times.iter().find(|(_, value)| value.is_some_and(|value| value.is_nan() || value < 0.0)) {
        Some((field, _)) => Err(format!("Expecting '{field}' to be non-negative")),
        None => Ok(()),
    }
}
