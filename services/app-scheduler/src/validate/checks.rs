//! The rules for health checks and readiness checks.

use meshos_proto::meshos::apps::v1::{App, HealthCheck, HealthProtocol, task_check::Kind};
use meshos_types::{app_port::port_mappings, app_ports};

use super::{Found, MAX_SECONDS, container::is_docker};

/// Longest time that a health check may take, in seconds; it holds one of the places for checks meanwhile.
pub(super) const MAX_PROBE_SECONDS: u64 = 300;
const VISIBLE: &str = "must contain only visible ASCII characters, and no spaces";

/// As Marathon has it; the check's port must be one of the app's.
pub(super) fn readiness(app: &App, found: &mut Found) {
    found.check(app.readiness_checks.len() <= 1, "/readinessChecks", "error.maxLength");
    for (index, check) in app.readiness_checks.iter().enumerate() {
        let at = |field: &str| format!("/readinessChecks({index})/{field}");
        found.check(!check.name.is_empty(), &at("name"), "error.minLength");
        found.check(probe_path(&check.path), &at("path"), VISIBLE);
        let known = app_ports(app).any(|port| port.name == Some(check.port_name.as_str()));
        let unknown = format!("No port definition reference for portName {}", check.port_name);
        found.check(known, &at("portName"), unknown);
        found.check(check.interval_s <= MAX_SECONDS, &at("intervalSeconds"), "error.max");
        found.check(check.timeout_s <= MAX_PROBE_SECONDS, &at("timeoutSeconds"), "error.max");
        found.check(check.timeout_s >= 1, &at("timeoutSeconds"), "error.min");
        let shorter = check.timeout_s < check.interval_s;
        found.check(shorter, &at("timeoutSeconds"), "timeoutSeconds must be less than intervalSeconds");
        let statuses = &check.ready_statuses;
        let valid = !statuses.is_empty() && statuses.iter().all(|status| (100..=999).contains(status));
        found.check(valid, &at("httpStatusCodesForReady"), "must be statuses from 100 to 999");
    }
}

/// The check that is only told of.
pub(super) fn told(app: &App, found: &mut Found) {
    let Some(check) = &app.check else { return };
    found.check(!is_docker(app), "/check", "AppDefinition must not use 'checks' if using docker");
    let ports = app_ports(app).count();
    let known = |index: Option<u32>, port: Option<u32>| {
        port.is_some_and(|port| (1..=65_535).contains(&port))
            || index.is_some_and(|index| (index as usize) < ports)
    };
    let (addressed, path) = match &check.kind {
        Some(Kind::Http(http)) => (known(http.port_index, http.port), http.path.as_deref()),
        Some(Kind::Tcp(tcp)) => (known(tcp.port_index, tcp.port), None),
        _ => (true, None),
    };
    let rule =
        "Health check port indices must address an element of the ports array or container port mappings.";
    found.check(addressed, "/check", rule);
    found.check(path.is_none_or(probe_path), "/check/http/path", VISIBLE);
    for (field, value, most) in [
        ("intervalSeconds", check.interval_s, MAX_SECONDS),
        ("timeoutSeconds", check.timeout_s, MAX_PROBE_SECONDS),
        ("delaySeconds", check.delay_s, MAX_SECONDS),
    ] {
        found.check(value <= most, &format!("/check/{field}"), "error.max");
    }
}

pub(super) fn health_check(app: &App, check: &HealthCheck, at: &str, found: &mut Found) {
    let is_command = check.protocol() == HealthProtocol::Command;
    let commanded = check.command.as_ref().is_some_and(|command| !command.is_empty());
    found.check(!is_command || commanded, &format!("{at}/command"), "error.path.missing");
    let rule = "IPv6 can only be used for container type DOCKER and Mesos http/https/tcp health checks";
    use HealthProtocol::{MesosHttp, MesosHttps, MesosTcp};
    let by_agent = matches!(check.protocol(), MesosHttp | MesosHttps | MesosTcp);
    found.check(!check.ipv6 || (by_agent && is_docker(app)), &format!("{at}/ipProtocol"), rule);
    let delay = check.delay_s.unwrap_or_default();
    found.check(delay <= MAX_SECONDS, &format!("{at}/delaySeconds"), "error.max");
    let ports = app.port_definitions.len() + port_mappings(app).len();
    let known = check.port_index.is_some_and(|port| (port as usize) < ports);
    let addressed = check.port.is_some_and(|port| (1..=65_535).contains(&port)) || known;
    found.check(
        addressed || is_command,
        at,
        "Health check port indices must address an element of the ports array or container port mappings.",
    );
    let fine = check.path.as_deref().is_none_or(probe_path);
    found.check(fine, &format!("{at}/path"), VISIBLE);
    for (field, value, most) in [
        ("gracePeriodSeconds", check.grace_period_s, MAX_SECONDS),
        ("intervalSeconds", check.interval_s, MAX_SECONDS),
        ("timeoutSeconds", check.timeout_s, MAX_PROBE_SECONDS),
    ] {
        found.check(value <= most, &format!("{at}/{field}"), "error.max");
    }
}

/// Whether a path may stand in the request of a health check. A space or a line break would end it, and what follows
/// would be read as more of the request, or as another one.
pub fn probe_path(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_graphic())
}
