//! Fields that Marathon has and this version does not act on. A value that says nothing is accepted.

use serde_json::{Map, Value};

use super::{
    At,
    faults::{Faults, Field, field},
};

/// The violation's text.
const NOT_SUPPORTED: &str = "is not supported by this version of meshos; leave it out";

const FIELDS: [&str; 7] =
    ["container", "check", "residency", "executorResources", "resourceLimits", "tty", "ipAddress"];

/// Refuses what would be ignored otherwise.
pub(super) fn check((object, base): At<'_>, faults: &mut Faults) {
    for name in FIELDS {
        if let Some(found) = field(object, base, name)
            && says_something(found.value)
        {
            faults.invalid(&found.path, NOT_SUPPORTED);
        }
    }
    if let Some(found) = field(object, base, "networks") {
        networks(&found, faults);
    }
}

/// Whether a value differs from the default: not false, not empty.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(says_something),
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
    }
}

/// Only the host's network is there.
fn networks(found: &Field<'_>, faults: &mut Faults) {
    let Some(items) = faults.list(found) else { return };
    let entries: Vec<(Field<'_>, &Map<String, Value>)> =
        items.into_iter().filter_map(|item| faults.object(&item).map(|object| (item, object))).collect();
    let mut modes = Vec::new();
    for (item, object) in &entries {
        let mode = field(object, &item.path, "mode");
        let mode = mode.map_or(Some("container".to_owned()), |mode| {
            let word = faults.string(&mode)?.to_lowercase();
            if !["host", "container", "container/bridge"].contains(&word.as_str()) {
                faults.read(&mode.path, "error.unknown.enum.literal");
            }
            Some(word)
        });
        modes.extend(mode);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode != "container") {
        let rule =
            "May specify a single host network, single bridge network, or else 1-to-n container networks";
        faults.invalid(&found.path, rule);
    } else if modes.iter().any(|mode| mode != "host") {
        faults.invalid(&found.path, "only the network mode 'host' is supported by this version of meshos");
    }
    for (item, object) in entries {
        let named = field(object, "", "name").is_some()
            || field(object, "", "labels").is_some_and(|l| says_something(l.value));
        if named && object.get("mode").and_then(Value::as_str) == Some("host") {
            faults.invalid(&item.path, "Host networks may not have names or labels");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marathon::read::app;
    use serde_json::json;

    fn violations(value: Value) -> Value {
        let error = app(&value).unwrap_err();
        assert_eq!(error.body["message"], "Object is not valid");
        error.body["details"].clone()
    }

    #[test]
    fn what_is_not_done_is_refused_at_its_path() {
        for (name, value) in [
            ("container", json!({"type": "DOCKER", "docker": {"image": "x"}})),
            ("check", json!({"tcp": {"port": 1}})),
            ("residency", json!({"relaunchEscalationTimeoutSeconds": 10})),
            ("executorResources", json!({"cpus": 0.1})),
            ("resourceLimits", json!({"cpus": "unlimited"})),
            ("tty", json!(true)),
            ("ipAddress", json!({"networkName": "x"})),
        ] {
            let mut body = Map::new();
            body.insert(name.to_owned(), value);
            let wanted = json!([{"path": format!("/{name}"), "errors": [NOT_SUPPORTED]}]);
            assert_eq!(violations(Value::Object(body)), wanted);
        }
    }

    #[test]
    fn values_that_say_nothing_are_accepted() {
        let body = json!({
            "container": {"volumes": [], "docker": {}}, "healthChecks": [], "readinessChecks": [], "secrets": {},
            "tty": false, "residency": null, "networks": [],
        });
        assert!(app(&body).is_ok());
        assert!(app(&json!({"networks": [{"mode": "HOST"}]})).is_ok());
    }

    #[test]
    fn marathon_c19_networks_do_not_mix() {
        let mixed = violations(json!({"networks": [{"mode": "host"}, {"mode": "container", "name": "n"}]}));
        assert!(mixed[0]["errors"][0].as_str().unwrap().starts_with("May specify a single host network"));
        let bridge = violations(json!({"networks": [{"mode": "container/bridge"}]}));
        assert_eq!(bridge[0]["path"], "/networks");
        let named = violations(json!({"networks": [{"mode": "host", "name": "n"}]}));
        assert_eq!(named[0]["errors"], json!(["Host networks may not have names or labels"]));
        assert!(app(&json!({"networks": [{"mode": "moon"}]})).unwrap_err().body["message"] == "Invalid JSON");
    }
}
