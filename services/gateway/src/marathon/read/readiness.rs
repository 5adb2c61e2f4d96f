//! Readiness checks.

use std::collections::BTreeSet;

use meshos_proto::meshos::apps::v1::{HealthProtocol, ReadinessCheck, ReadinessCheckList};

use super::faults::{Faults, Field, field};

pub(super) fn checks(found: &Field<'_>, faults: &mut Faults) -> Option<ReadinessCheckList> {
    let items = faults.list(found)?;
    if items.len() > 1 {
        faults.read(&found.path, "error.maxLength");
    }
    Some(ReadinessCheckList { items: items.iter().filter_map(|item| check(item, faults)).collect() })
}

fn check(found: &Field<'_>, faults: &mut Faults) -> Option<ReadinessCheck> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let text = |name: &str, default: &str, faults: &mut Faults| {
        get(name).and_then(|value| faults.string(&value)).unwrap_or_else(|| default.to_owned())
    };
    let name = get("name").and_then(|name| faults.text(&name, 1, usize::MAX));
    let interval = get("intervalSeconds").and_then(|value| faults.integer(&value, u64::MAX));
    let timeout = get("timeoutSeconds").and_then(|value| faults.integer_from(&value, 1, u64::MAX));
    let protocol = get("protocol").and_then(|word| protocol(&word, faults));
    Some(ReadinessCheck {
        name: name.unwrap_or_else(|| "readinessCheck".to_owned()),
        protocol: protocol.unwrap_or(HealthProtocol::Http).into(),
        path: text("path", "/", faults),
        port_name: text("portName", "http-api", faults),
        interval_s: interval.unwrap_or(30),
        timeout_s: timeout.unwrap_or(10),
        ready_statuses: get("httpStatusCodesForReady")
            .and_then(|list| statuses(&list, faults))
            .unwrap_or_else(|| vec![200]),
        preserve_last_response: get("preserveLastResponse")
            .and_then(|flag| faults.boolean(&flag))
            .unwrap_or(false),
    })
}

fn protocol(found: &Field<'_>, faults: &mut Faults) -> Option<HealthProtocol> {
    match faults.string(found)?.to_uppercase().as_str() {
        "HTTP" => return Some(HealthProtocol::Http),
        "HTTPS" => return Some(HealthProtocol::Https),
        _ => faults.read(&found.path, "error.unknown.enum.literal"),
    }
    None
}

fn statuses(found: &Field<'_>, faults: &mut Faults) -> Option<Vec<u32>> {
    let items = faults.list(found)?;
    let statuses: Vec<u32> =
        items.iter().filter_map(|item| faults.integer_from(item, 100_u32, 999)).collect();
    if items.is_empty() {
        faults.read(&found.path, "error.minLength");
    }
    if statuses.iter().collect::<BTreeSet<_>>().len() < statuses.len() {
        faults.read(&found.path, "error.array.unique");
    }
    Some(statuses)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::marathon::read::app;

    #[test]
    fn checks_have_the_defaults_of_marathon() {
        let check = app(&json!({"readinessChecks": [{}]})).unwrap().readiness_checks.unwrap().items.remove(0);
        assert_eq!((check.name.as_str(), check.path.as_str()), ("readinessCheck", "/"));
        assert_eq!((check.port_name.as_str(), check.protocol), ("http-api", 1));
        assert_eq!((check.interval_s, check.timeout_s), (30, 10));
        assert_eq!((check.ready_statuses, check.preserve_last_response), (vec![200], false));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let detail =
            |checks: Value| app(&json!({"readinessChecks": checks})).unwrap_err().body["details"][0].clone();
        assert_eq!(detail(json!([{}, {}]))["errors"], json!(["error.maxLength"]));
        assert_eq!(detail(json!([{"protocol": "TCP"}]))["path"], "/readinessChecks(0)/protocol");
        let codes = detail(json!([{"httpStatusCodesForReady": [200, 200]}]));
        assert_eq!(codes["path"], "/readinessChecks(0)/httpStatusCodesForReady");
        for (check, path, code) in [
            (json!({"name": ""}), "name", "error.minLength"),
            (json!({"timeoutSeconds": 0}), "timeoutSeconds", "error.min"),
            (json!({"httpStatusCodesForReady": [99]}), "httpStatusCodesForReady(0)", "error.min"),
            (json!({"httpStatusCodesForReady": [1000]}), "httpStatusCodesForReady(0)", "error.max"),
        ] {
            let wanted = json!({"path": format!("/readinessChecks(0)/{path}"), "errors": [code]});
            assert_eq!(detail(json!([check])), wanted);
        }
    }
}
