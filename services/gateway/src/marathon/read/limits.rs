//! `resourceLimits` and `executorResources`

use meshos_proto::meshos::apps::v1::{ExecutorResources, ResourceLimits};

use super::faults::{Faults, Field, field};

pub(super) fn read(found: &Field<'_>, faults: &mut Faults) -> Option<ResourceLimits> {
    let object = faults.object(found)?;
    let mut limit = |name: &str| limit(&field(object, &found.path, name)?, faults);
    Some(ResourceLimits { cpus: limit("cpus"), mem: limit("mem") })
}

/// With the least that an executor gets where a part is not named, as upstream.
pub(super) fn executor(found: &Field<'_>, faults: &mut Faults) -> Option<ExecutorResources> {
    let object = faults.object(found)?;
    let mut amount = |name: &str, least: f64| {
        let found = field(object, &found.path, name);
        found.and_then(|found| faults.number(&found, least, f64::MAX)).unwrap_or(least)
    };
    Some(ExecutorResources {
        cpus: amount("cpus", 0.1),
        mem: amount("mem", 32.0),
        disk: amount("disk", 10.0),
    })
}

/// A number, or infinity for `unlimited`.
fn limit(found: &Field<'_>, faults: &mut Faults) -> Option<f64> {
    let Some(text) = found.value.as_str() else { return faults.number(found, 0.0, f64::MAX) };
    if text == "unlimited" {
        return Some(f64::INFINITY);
    }
    let rule = format!("'{text}' is an invalid resource limit. It must be 'unlimited' or a number");
    faults.read(&found.path, &rule);
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::marathon::read::app;

    #[test]
    fn an_executor_has_at_least_so_much() {
        let read = |sent| app(&json!({"executorResources": sent})).map(|update| update.executor_resources);
        let least = ExecutorResources { cpus: 0.1, mem: 32.0, disk: 10.0 };
        assert_eq!(read(json!({})).unwrap(), Some(least));
        assert_eq!(read(json!({"cpus": 2})).unwrap(), Some(ExecutorResources { cpus: 2.0, ..least }));
        let error = read(json!({"cpus": 0.05, "mem": "much"})).unwrap_err();
        let wanted = json!([
            {"path": "/executorResources/cpus", "errors": ["error.min"]},
            {"path": "/executorResources/mem", "errors": ["error.expected.jsnumber"]},
        ]);
        assert_eq!(error.body["details"], wanted);
    }

    #[test]
    fn a_limit_is_a_number_or_unlimited() {
        let read = |limits| app(&json!({"resourceLimits": limits})).unwrap().resource_limits.unwrap();
        let wanted = ResourceLimits { cpus: Some(f64::INFINITY), mem: Some(64.0) };
        assert_eq!(read(json!({"cpus": "unlimited", "mem": 64})), wanted);
        assert_eq!(read(json!({})), ResourceLimits::default());
        let error = app(&json!({"resourceLimits": {"cpus": "many", "mem": true}})).unwrap_err();
        let many = "'many' is an invalid resource limit. It must be 'unlimited' or a number";
        let wanted = json!([
            {"path": "/resourceLimits/cpus", "errors": [many]},
            {"path": "/resourceLimits/mem", "errors": ["error.expected.jsnumber"]},
        ]);
        assert_eq!(error.body["details"], wanted);
    }
}
