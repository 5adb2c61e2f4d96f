//! A backend and its servers.

use super::Text;
use crate::core::{
    charset::{self, Kind},
    model::{Check, Mode, Problem, Protocol},
    slots::{Slot, Slots},
};

/// In marathon-lb's order.
pub(super) fn backend(text: &mut Text<'_>, slots: &Slots) -> Result<(), Problem> {
    let service = text.service;
    let labels = &service.labels;
    let balance = labels.balance.as_deref().unwrap_or("roundrobin");
    text.add("BACKEND_HEAD", &[("balance", balance), ("mode", service.mode.name())])?;
    if service.mode == Mode::Http {
        if let Some(auth) = &labels.auth {
            let realm = auth.realm.replace(' ', "\\ ");
            text.line(&format!(
                "http-request auth realm {realm} unless {{ http_auth(user_{}) }}",
                service.backend
            ));
        }
        if labels.hsts {
            text.add_raw("BACKEND_HSTS_OPTIONS");
        }
        text.add_raw("BACKEND_HTTP_OPTIONS");
        paths(text)?;
    }
    networks(text)?;
    if labels.sticky && service.mode == Mode::Http {
        text.add("BACKEND_STICKY_OPTIONS", &[("cookieKey", &text.context.cookie_key)])?;
    }
    let check = check(text)?;
    for (number, slot) in (1..).zip(slots.iter()) {
        server(text, number, slot, &check)?;
    }
    Ok(())
}

/// Prefixes that are taken off and put on, and where `/` leads.
fn paths(text: &mut Text<'_>) -> Result<(), Problem> {
    let labels = &text.service.labels;
    let hosts: Vec<&str> =
        labels.vhosts.iter().map(String::as_str).filter(|host| !host.starts_with('*')).collect();
    let Some(first) = hosts.first() else { return Ok(()) };
    let (all, pattern) = (hosts.join(" "), hosts.join("|").replace('.', "\\."));
    // Before anything changes the path.
    if let Some(path) = &labels.redir {
        let path = path.replace('%', "%%");
        text.add("HTTP_BACKEND_REDIR", &[("hostname", &all), ("redirpath", &path)])?;
    }
    if let Some(path) = &labels.proxypass {
        let escaped = escaped(path.trim_end_matches('/'));
        let values =
            [("firstHost", *first), ("hosts", all.as_str()), ("hostname", first), ("proxypath", &escaped)];
        text.add("HTTP_BACKEND_PROXYPASS_GLUE", &values)?;
    }
    if let Some(path) = &labels.revproxy {
        let root = path.trim_end_matches('/').replace('%', "%%");
        text.add("HTTP_BACKEND_REVPROXY_GLUE", &[("hostname", &pattern), ("rootpath", &root)])?;
    }
    Ok(())
}

/// A path as a regular expression.
fn escaped(path: &str) -> String {
    let mut pattern = String::new();
    for c in path.chars() {
        if ".()*+".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn networks(text: &mut Text<'_>) -> Result<(), Problem> {
    let (acl, decide) = match text.service.mode {
        Mode::Http => ("HTTP_BACKEND_NETWORK_ALLOWED_ACL", "HTTP_BACKEND_ACL_ALLOW_DENY"),
        Mode::Tcp => ("TCP_BACKEND_NETWORK_ALLOWED_ACL", "TCP_BACKEND_ACL_ALLOW_DENY"),
    };
    for network in &text.service.labels.networks {
        text.add(acl, &[("network_allowed", network)])?;
    }
    if !text.service.labels.networks.is_empty() {
        text.add_raw(decide);
    }
    Ok(())
}

/// What checks add to each server: the values of the template, when there are checks.
struct CheckText {
    values: Vec<(&'static str, String)>,
    template: &'static str,
    tls: bool,
}

fn check(text: &mut Text<'_>) -> Result<Option<CheckText>, Problem> {
    let Some(check) = text.service.check.clone() else { return Ok(None) };
    // A path that cannot stand in the configuration leaves it at a connection.
    let path = charset::checked(check.path.as_deref().unwrap_or("/"), Kind::Query).ok();
    let http = text.service.mode == Mode::Http && check.protocol != Protocol::Tcp && path.is_some();
    let values = check_values(&check, path.unwrap_or_default());
    let (once, template) = if http {
        ("BACKEND_HTTP_HEALTHCHECK_OPTIONS", "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS")
    } else {
        ("BACKEND_TCP_HEALTHCHECK_OPTIONS", "BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS")
    };
    let mut borrowed: Vec<(&str, &str)> =
        values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    borrowed.extend([("healthCheckPort", ""), ("healthCheckPortOptions", "")]);
    text.add(once, &borrowed)?;
    let tls = http && check.protocol == Protocol::Https;
    Ok(Some(CheckText { values, template, tls }))
}

fn check_values(check: &Check, path: String) -> Vec<(&'static str, String)> {
    vec![
        ("healthCheckPortIndex", check.port_index.unwrap_or(0).to_string()),
        ("healthCheckProtocol", check.protocol.name().to_owned()),
        ("healthCheckPath", path),
        ("healthCheckTimeoutSeconds", check.timeout_s.max(1).to_string()),
        ("healthCheckIntervalSeconds", check.interval_s.max(1).to_string()),
        ("healthCheckGracePeriodSeconds", check.grace_period_s.to_string()),
        ("healthCheckMaxConsecutiveFailures", check.max_failures.to_string()),
        ("healthCheckFalls", check.max_failures.saturating_add(1).to_string()),
    ]
}

fn server(text: &mut Text<'_>, number: usize, slot: &Slot, check: &Option<CheckText>) -> Result<(), Problem> {
    let check_port = slot.endpoint.and_then(|endpoint| endpoint.check_port);
    // Named even where nobody is yet: only then can it be changed later.
    let own_port = text.service.check_port(&[0; 64]).is_some();
    let check_port = check_port.or(own_port.then_some(1)).map(|port| port.to_string());
    let checks = match check {
        Some(check) => {
            let port = check_port.clone().unwrap_or_default();
            let option = check_port.map(|port| format!(" port {port}")).unwrap_or_default();
            let mut values: Vec<(&str, &str)> =
                check.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            values.extend([("healthCheckPort", port.as_str()), ("healthCheckPortOptions", &option)]);
            let tls = if check.tls { " check-ssl verify none" } else { "" };
            text.filled(check.template, &values)? + tls
        }
        None => String::new(),
    };
    let (name, id) = (format!("s{number}"), number.to_string());
    // A place without a task: an address of its own, so that no two have the same cookie.
    let ip = slot.endpoint.map_or_else(|| "127.0.0.1".to_owned(), |endpoint| endpoint.ip.to_string());
    let port = slot.endpoint.map_or(number, |endpoint| usize::from(endpoint.port)).to_string();
    let state = if slot.ready { "" } else { " disabled" };
    text.add(
        "BACKEND_SERVER_OPTIONS",
        &[
            ("serverName", name.as_str()),
            ("serverId", &id),
            ("host", &ip),
            ("host_ipv4", &ip),
            ("port", &port),
            ("cookieOptions", ""),
            ("healthCheckOptions", &checks),
            ("otherOptions", state),
        ],
    )
}
