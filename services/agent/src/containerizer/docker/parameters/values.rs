//! Values of options, as `docker run` writes them.

use bollard::models::{DeviceMapping, DeviceRequest, PortBinding, ResourcesUlimits};

/// On when it is there without a value.
pub(super) fn flag(value: &str) -> Result<bool, String> {
    match value {
        "" | "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        other => Err(format!("'{other}' is neither true nor false")),
    }
}

pub(super) fn number(value: &str) -> Result<i64, String> {
    value.trim().parse().map_err(|_| format!("'{value}' is no whole number"))
}

pub(super) fn float(value: &str) -> Result<f64, String> {
    let number: Option<f64> = value.trim().parse().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("'{value}' is no number"))
}

/// Cores as the engine counts them.
#[allow(clippy::cast_possible_truncation, reason = "the cast clamps")]
pub(super) fn nano(cores: f64) -> i64 {
    (cores * 1e9) as i64
}

/// `512m`: a number and `b`, `k`, `m`, `g` or `t`, each with or without a `b` behind it.
#[allow(clippy::cast_possible_truncation, reason = "the cast clamps")]
pub(super) fn bytes(value: &str) -> Result<i64, String> {
    let bad = || format!("'{value}' is no size: write a number and b, k, m, g or t");
    let text = value.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = float(number).map_err(|_| bad())?;
    let power = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(bad()),
    };
    Ok((number * 1024_f64.powi(power)) as i64)
}

/// `NAME=VALUE`
pub(super) fn pair(value: &str) -> Result<(String, String), String> {
    let (name, value) =
        value.split_once('=').ok_or_else(|| format!("'{value}' must be of the form NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `nofile=1024` or `nofile=1024:2048`
pub(super) fn ulimit(value: &str) -> Result<ResourcesUlimits, String> {
    let (name, limits) = pair(value)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && soft > hard {
        return Err(format!("the soft limit {soft} is above the hard limit {hard}"));
    }
    Ok(ResourcesUlimits { name: Some(name), soft: Some(soft), hard: Some(hard) })
}

/// `/dev/x`, `/dev/x:/dev/y` or `/dev/x:/dev/y:rwm`
pub(super) fn device(value: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<_> = value.split(':').collect();
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (inside, mode) = match parts.as_slice() {
        [host] => (*host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *mode),
        [_, inside] => (*inside, "rwm"),
        [_, inside, mode] if is_mode(mode) => (*inside, *mode),
        _ => return Err(format!("'{value}' is no device: write HOST[:CONTAINER[:rwm]]")),
    };
    Ok(DeviceMapping {
        path_on_host: parts.first().map(|host| (*host).to_owned()),
        path_in_container: Some(inside.to_owned()),
        cgroup_permissions: Some(mode.to_owned()),
    })
}

/// `all`, a number, or `device=…`
pub(super) fn gpus(value: &str) -> Result<DeviceRequest, String> {
    let ids = value.strip_prefix("device=").map(|ids| ids.split(',').map(str::to_owned).collect());
    let count = match (&ids, value) {
        (Some(_), _) => None,
        (None, "" | "all") => Some(-1),
        (None, count) => Some(number(count)?),
    };
    let capabilities = Some(vec![vec!["gpu".to_owned()]]);
    Ok(DeviceRequest { count, device_ids: ids, capabilities, ..DeviceRequest::default() })
}

/// `80` is a port of tcp.
pub(super) fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// `[[ip:]host:]container[/protocol]`: the container's port, and where it is reached.
pub(super) fn publish(value: &str) -> Result<(String, PortBinding), String> {
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let parts: Vec<_> = ports.rsplitn(3, ':').collect();
    let container = parts.first().copied().filter(|port| is_port(port));
    let container =
        container.ok_or_else(|| format!("'{value}' is no port mapping: ranges are not supported"))?;
    let host = parts.get(1).copied().unwrap_or_default();
    if !host.is_empty() && !is_port(host) {
        return Err(format!("'{host}' is no port"));
    }
    let binding =
        PortBinding { host_ip: parts.get(2).map(|ip| (*ip).to_owned()), host_port: Some(host.to_owned()) };
    Ok((format!("{container}/{protocol}"), binding))
}

/// A volume without a source.
pub(super) fn is_anonymous(volume: &str) -> bool {
    !volume.contains(':')
}
