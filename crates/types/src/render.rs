//! Resources and attributes as objects of the operator endpoints' JSON (`/state`, `/slaves`, …).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    attributes::{AttributeValue, Attributes},
    resource::ResourceValue,
    resources::Resources,
    role::RoleName,
};

/// The scalars that are always there, with 0 when there is none.
const ALWAYS: [&str; 4] = ["disk", "mem", "gpus", "cpus"];

/// `{"cpus":1.0,"gpus":0.0,"mem":64.0,"disk":0.0,"ports":"[31000-32000]"}`: sums by name; revocable ones under
/// `<name>_revocable`.
pub fn resources_object(resources: &Resources) -> Value {
    let mut object: Map<String, Value> =
        ALWAYS.iter().map(|name| ((*name).to_owned(), Value::from(0.0))).collect();
    for (name, value) in resources.totals(|resource| !resource.revocable) {
        object.insert(name.to_owned(), resource_value(&value));
    }
    for (name, value) in resources.totals(|resource| resource.revocable) {
        object.insert(format!("{name}_revocable"), resource_value(&value));
    }
    Value::Object(object)
}

/// `{"eng":{…},…}`: a resources object for each role of a current reservation.
pub fn reserved_resources_object(resources: &Resources) -> Value {
    let by_role: BTreeMap<RoleName, Resources> = resources.reservations();
    by_role.iter().map(|(role, reserved)| (role.to_string(), resources_object(reserved))).collect()
}

fn resource_value(value: &ResourceValue) -> Value {
    match value {
        ResourceValue::Scalar(amount) => Value::from(amount.to_f64()),
        other => Value::from(other.to_string()),
    }
}

/// `{"rack":"r1","level":2.0}`: of a name given twice the last wins.
pub fn attributes_object(attributes: &Attributes) -> Value {
    let value = |value: &AttributeValue| match value {
        AttributeValue::Scalar(scalar) => Value::from(*scalar),
        other => Value::from(other.to_string()),
    };
    attributes.iter().map(|attribute| (attribute.name.clone(), value(&attribute.value))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        parse::{parse_attributes, parse_resources},
        resource::Resource,
    };

    fn resources(text: &str) -> Resources {
        parse_resources(text, &RoleName::star()).unwrap().resources
    }

    #[test]
    fn the_four_scalars_are_always_there() {
        assert_eq!(
            resources_object(&Resources::new()).to_string(),
            r#"{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0}"#
        );
    }

    #[test]
    fn sums_over_reservations() {
        let all = resources("cpus:0.1;cpus(eng):0.2;mem:64;ports:[1-2,5-5];ports(eng):[3-3];zones:{b,a};x:7");
        let want = json!({"cpus": 0.3, "mem": 64.0, "disk": 0.0, "gpus": 0.0, "ports": "[1-3, 5-5]", "zones": "{a, b}", "x": 7.0});
        assert_eq!(resources_object(&all), want);
        let eng = json!({"eng": {"cpus": 0.2, "mem": 0.0, "disk": 0.0, "gpus": 0.0, "ports": "[3-3]"}});
        assert_eq!(reserved_resources_object(&all), eng);
    }

    #[test]
    fn revocable_resources_stand_apart() {
        let mut all = resources("cpus:1");
        all.extend(
            resources("cpus:2;mem:3").into_iter().map(|resource| Resource { revocable: true, ..resource }),
        );
        let object = resources_object(&all);
        assert_eq!(
            (&object["cpus"], &object["cpus_revocable"], &object["mem_revocable"]),
            (&json!(1.0), &json!(2.0), &json!(3.0))
        );
        assert_eq!(object["mem"], json!(0.0));
    }

    #[test]
    fn attributes_are_numbers_or_strings() {
        let attributes = parse_attributes("rack:r1;zone:[1-3];level:2;ssd:{b,a};rack:r2").unwrap();
        let want = json!({"rack": "r2", "zone": "[1-3]", "level": 2.0, "ssd": "{a, b}"});
        assert_eq!(attributes_object(&attributes), want);
    }
}
