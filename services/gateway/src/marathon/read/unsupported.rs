//! Fields that Marathon has and this version does not act on. A value that says nothing is accepted.

use serde_json::Value;

use super::{
    At,
    faults::{Faults, field},
};

/// The violation's text.
pub(super) const NOT_SUPPORTED: &str = "is not supported by this version of meshos; leave it out";

const FIELDS: [&str; 2] = ["residency", "executorResources"];

/// Refuses what would be ignored otherwise.
pub(super) fn check((object, base): At<'_>, faults: &mut Faults) {
    for name in FIELDS {
        if let Some(found) = field(object, base, name)
            && says_something(found.value)
        {
            faults.invalid(&found.path, NOT_SUPPORTED);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marathon::read::app;
    use serde_json::{Map, json};

    fn violations(value: Value) -> Value {
        let error = app(&value).unwrap_err();
        assert_eq!(error.body["message"], "Object is not valid");
        error.body["details"].clone()
    }

    #[test]
    fn what_is_not_done_is_refused_at_its_path() {
        for (name, value) in [
            ("residency", json!({"relaunchEscalationTimeoutSeconds": 10})),
            ("executorResources", json!({"cpus": 0.1})),
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
            "healthChecks": [], "readinessChecks": [], "secrets": {},
            "tty": false, "residency": null, "networks": [],
        });
        assert!(app(&body).is_ok());
        assert!(app(&json!({"networks": [{"mode": "HOST"}]})).is_ok());
    }
}
