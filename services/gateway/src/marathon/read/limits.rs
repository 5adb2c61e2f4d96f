//! `resourceLimits`

use meshos_proto::meshos::apps::v1::ResourceLimits;

use super::faults::{Faults, Field, field};

pub(super) fn read(found: &Field<'_>, faults: &mut Faults) -> Option<ResourceLimits> {
    let object = faults.object(found)?;
    let mut limit = |name: &str| limit(&field(object, &found.path, name)?, faults);
    Some(ResourceLimits { cpus: limit("cpus"), mem: limit("mem") })
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
