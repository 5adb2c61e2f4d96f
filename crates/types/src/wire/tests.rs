#![allow(deprecated)]

use meshos_proto::json::from_json;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{resource, several};

fn read(object: &Value) -> Result<Resource, ResourceError> {
    Resource::try_from(&from_json::<pb::Resource>(object).unwrap())
}

/// A cpus resource with these further fields.
fn cpus(fields: Value) -> Result<Resource, ResourceError> {
    let mut object = json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}});
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    read(&object)
}

#[test]
fn both_formats_say_the_same() {
    let labels = json!({"labels": [{"key": "k", "value": "v"}, {"key": "a"}]});
    let turned = json!({"labels": [{"key": "a"}, {"key": "k", "value": "v"}]});
    for (old, new) in [
        (json!({}), json!({"role": "*"})),
        (json!({"role": "eng"}), json!({"reservations": [{"type": "STATIC", "role": "eng"}]})),
        (json!({"role": "eng"}), json!({"role": "eng", "reservations": [{"type": "STATIC", "role": "eng"}]})),
        (
            json!({"role": "eng", "reservation": {}}),
            json!({"reservations": [{"type": "DYNAMIC", "role": "eng"}]}),
        ),
        (
            json!({"role": "eng", "reservation": {"principal": "p", "labels": labels}}),
            json!({"role": "eng", "reservation": {"principal": "p", "labels": labels},
                "reservations": [{"type": "DYNAMIC", "role": "eng", "principal": "p", "labels": turned}]}),
        ),
    ] {
        assert_eq!(cpus(old.clone()), cpus(new));
        assert!(cpus(old).is_ok());
    }
}

#[test]
fn every_rule_names_its_field() {
    let entry = |kind: &str, role: &str| json!({"type": kind, "role": role});
    let stack = |entries: &[Value]| json!({"reservations": entries});
    for (field, fields) in [
        ("name", json!({"name": ""})),
        ("type", json!({"type": "TEXT"})),
        ("scalar", json!({"scalar": null})),
        ("scalar", json!({"scalar": {"value": -1}})),
        ("scalar", json!({"scalar": {"value": "Infinity"}})),
        ("scalar", json!({"scalar": {"value": 1e-310}})),
        ("scalar", json!({"name": "gpus", "scalar": {"value": 0.5}})),
        ("ranges", json!({"ranges": {}})),
        ("set", json!({"set": {}})),
        ("ranges", json!({"type": "RANGES", "scalar": null, "ranges": {"range": [{"begin": 2, "end": 1}]}})),
        (
            "ranges",
            json!({"type": "RANGES", "scalar": null, "ranges": {"range": [{"begin": 5, "end": 9}, {"begin": 1, "end": 5}]}}),
        ),
        ("set", json!({"type": "SET", "scalar": null, "set": {"item": ["a", "a"]}})),
        ("reservation.type", json!({"role": "eng", "reservation": {"type": "DYNAMIC"}})),
        ("reservation.role", json!({"role": "eng", "reservation": {"role": "eng"}})),
        ("reservation", json!({"role": "*", "reservation": {}})),
        ("role", json!({"role": "/eng"})),
        ("reservations.type", stack(&[json!({"role": "eng"})])),
        ("reservations.type", stack(&[entry("UNKNOWN", "eng")])),
        ("reservations.role", stack(&[json!({"type": "STATIC"})])),
        ("reservations.role", stack(&[entry("STATIC", "*")])),
        ("reservations.role", stack(&[entry("STATIC", "a b")])),
        ("reservations", stack(&[entry("STATIC", "eng"), entry("STATIC", "eng/web")])),
        ("reservations", stack(&[entry("STATIC", "eng"), entry("DYNAMIC", "eng")])),
        ("reservations", stack(&[entry("STATIC", "eng/web"), entry("DYNAMIC", "eng")])),
        ("role", json!({"role": "ops", "reservations": [entry("STATIC", "eng")]})),
        ("reservation", json!({"role": "eng", "reservation": {}, "reservations": [entry("STATIC", "eng")]})),
        ("reservation", json!({"role": "eng", "reservations": [entry("DYNAMIC", "eng")]})),
        ("reservation", json!({"reservation": {}, "reservations": [entry("DYNAMIC", "eng")]})),
        (
            "reservation",
            json!({"role": "eng", "reservation": {"principal": "p"}, "reservations": [entry("DYNAMIC", "eng")]}),
        ),
        (
            "role",
            json!({"role": "eng", "reservations": [entry("STATIC", "eng"), entry("DYNAMIC", "eng/web")]}),
        ),
        (
            "reservation",
            json!({"reservation": {}, "reservations": [entry("STATIC", "eng"), entry("DYNAMIC", "eng/web")]}),
        ),
        ("revocable", json!({"revocable": {}, "role": "eng", "reservation": {}})),
        ("disk", json!({"disk": {}})),
        ("shared", json!({"name": "disk", "shared": {}})),
        ("allocation_info.role", json!({"allocation_info": {"role": "a//b"}})),
    ] {
        let error = cpus(fields.clone()).expect_err(&fields.to_string());
        assert_eq!(error.field, field, "{fields}: {error}");
    }
}

#[test]
fn the_error_reads_as_a_sentence() {
    let error = cpus(json!({"scalar": {"value": -1}})).unwrap_err();
    assert_eq!(error.to_string(), "invalid resource 'cpus': scalar value -1 is negative");
    let error =
        cpus(json!({"role": "ops", "reservations": [{"type": "STATIC", "role": "eng"}]})).unwrap_err();
    assert_eq!(error.to_string(), "invalid resource 'cpus': role is 'ops', but the reservation is for 'eng'");
}

#[test]
fn endpoints_get_both_formats() {
    let dynamic = cpus(json!({"role": "eng", "reservation": {"principal": "p"}})).unwrap();
    let message = dynamic.to_proto(Format::Endpoint).unwrap();
    assert_eq!(message.role.as_deref(), Some("eng"));
    assert_eq!(
        message.reservation.as_ref().map(|r| (r.r#type, r.principal.as_deref())),
        Some((None, Some("p")))
    );
    assert_eq!(message.reservations.len(), 1);
    let free = cpus(json!({})).unwrap();
    assert_eq!(free.to_proto(Format::Endpoint).unwrap().role.as_deref(), Some("*"));
    assert_eq!(free.to_proto(Format::PostRefinement).unwrap().role, None);
}

proptest! {
    #[test]
    fn messages_round_trip(resource in resource()) {
        for format in [Format::PreRefinement, Format::PostRefinement, Format::Endpoint] {
            let message = resource.to_proto(format);
            let hidden = format == Format::PreRefinement && resource.reservations.len() > 1;
            prop_assert_eq!(message.is_none(), hidden);
            if let Some(message) = message {
                prop_assert_eq!(Resource::try_from(&message), Ok(resource.clone()));
            }
        }
    }

    #[test]
    fn sets_of_resources_round_trip(list in several()) {
        let all: Resources = list.into_iter().collect();
        let messages = all.to_proto(Format::PostRefinement);
        prop_assert_eq!(Resources::from_proto(&messages), Ok(all.distinct()));
        let older = Resources::from_proto(&all.to_proto(Format::PreRefinement));
        prop_assert_eq!(older, Ok(all.distinct().filter(|resource| resource.reservations.len() < 2)));
    }
}
