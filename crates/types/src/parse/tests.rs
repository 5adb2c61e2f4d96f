use proptest::prelude::*;

use super::*;
use crate::{ranges::Ranges, scalar::Milli, testing::several};

fn parse(text: &str) -> Result<ParsedResources, ParseError> {
    parse_resources(text, &RoleName::star())
}

#[test]
fn text_form() {
    let parsed =
        parse(" cpus:4 ; mem ( eng ) : 1024;ports:[31000-32000, 40000-40010];zones:{a,b};cpus:0.5;gpus:0;")
            .unwrap();
    let all = &parsed.resources;
    assert_eq!((all.cpus(), all.reserved_to("eng").mem()), (Milli(4500), Milli::whole(1024)));
    assert_eq!(all.ports().to_string(), "[31000-32000, 40000-40010]");
    assert_eq!(all.len(), 4);
    let names: Vec<&str> = parsed.names.iter().map(String::as_str).collect();
    assert_eq!(names, ["cpus", "gpus", "mem", "ports", "zones"]);
    assert_eq!(parse("").unwrap(), ParsedResources::default());
}

#[test]
fn the_default_role_is_a_static_reservation() {
    let eng = RoleName::new("eng");
    for text in [
        "cpus:1;cpus(*):2;cpus(ops):4",
        r#"[
        {"name":"cpus","type":"SCALAR","scalar":{"value":1}},
        {"name":"cpus","type":"SCALAR","scalar":{"value":2},"role":"*"},
        {"name":"cpus","type":"SCALAR","scalar":{"value":4},"reservations":[{"type":"STATIC","role":"ops"}]}]"#,
    ] {
        let all = parse_resources(text, &eng).unwrap().resources;
        assert_eq!(all.reserved_to("eng").cpus(), Milli::whole(1), "{text}");
        assert_eq!(all.unreserved().cpus(), Milli::whole(2));
        assert_eq!(all.reserved_to("ops").cpus(), Milli::whole(4));
        assert!(all.iter().all(|resource| !resource.is_dynamically_reserved()));
    }
}

#[test]
fn a_bad_item_is_named() {
    for (text, item) in [
        ("mem:1;cpus", "cpus"),
        ("cpus:1:2", "cpus:1:2"),
        (":1", ":1"),
        ("cpus(eng:1", "cpus(eng:1"),
        ("cpus)eng(:1", "cpus)eng(:1"),
        ("cpus(eng)x:1", "cpus(eng)x:1"),
        ("cpus(a/):1", "cpus(a/):1"),
        ("cpus():1", "cpus():1"),
        ("cpus:-1", "cpus:-1"),
        ("cpus:many", "cpus:many"),
        ("cpus:", "cpus:"),
        ("ports:[1]", "ports:[1]"),
        ("ports:[2-1]", "ports:[2-1]"),
        ("zones:{a", "zones:{a"),
        ("gpus:0.5", "gpus:0.5"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(&format!("'{item}'")), "{text}: {error}");
    }
}

#[test]
fn json_form() {
    let text = r#"[{"name":"disk","type":"SCALAR","scalar":{"value":2048},"disk":{"source":{"type":"MOUNT","mount":{"root":"/mnt/d1"}}}}]"#;
    let parsed = parse(text).unwrap();
    let disk = parsed.resources.iter().next().unwrap();
    assert_eq!(disk.amount(), Some(Milli::whole(2048)));
    assert!(disk.disk.is_some() && !disk.is_divisible());
    for bad in
        ["[", "[1]", r#"[{"name":"cpus"}]"#, r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]"#]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn attributes() {
    let parsed =
        parse_attributes("rack:r1; zone:[1-3];os:linux;ssd:{a,b};level:-1.2345;url:http://x:1;odd:inf")
            .unwrap();
    let value = |name| parsed.get(name).unwrap().clone();
    assert_eq!(value("rack"), AttributeValue::Text("r1".into()));
    assert_eq!(value("zone"), AttributeValue::Ranges(Ranges::of(1, 3)));
    assert_eq!(value("ssd").to_string(), "{a, b}");
    assert_eq!(value("level"), AttributeValue::Scalar(-1.2345));
    assert_eq!(value("url"), AttributeValue::Text("http://x:1".into()));
    assert_eq!(value("odd"), AttributeValue::Text("inf".into()));
    assert_eq!(Attributes::from_proto(&parsed.to_proto()), Ok(parsed));
    for bad in ["rack", "rack:", ":r", "zone:[1-", "ssd:{a"] {
        let error = parse_attributes(&format!("a:b;{bad}")).unwrap_err().to_string();
        assert!(error.contains(&format!("'{bad}'")), "{error}");
    }
}

/// The text form; it can say only static reservations of one role.
fn print(resources: &Resources) -> String {
    let item = |resource: &Resource| match resource.reserved_role() {
        Some(role) => format!("{}({role}):{}", resource.name, resource.value),
        None => format!("{}:{}", resource.name, resource.value),
    };
    resources.iter().map(item).collect::<Vec<_>>().join(";")
}

/// JSON whose keys and words are those of resources, put together in any way.
fn json() -> impl Strategy<Value = serde_json::Value> {
    const WORDS: [&str; 36] = [
        "name",
        "type",
        "scalar",
        "ranges",
        "set",
        "role",
        "reservations",
        "reservation",
        "disk",
        "revocable",
        "shared",
        "value",
        "range",
        "begin",
        "end",
        "item",
        "persistence",
        "id",
        "source",
        "mount",
        "root",
        "volume",
        "container_path",
        "mode",
        "provider_id",
        "SCALAR",
        "RANGES",
        "SET",
        "cpus",
        "ports",
        "gpus",
        "eng",
        "STATIC",
        "DYNAMIC",
        "MOUNT",
        "*",
    ];
    let word = || prop::sample::select(WORDS.to_vec());
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        prop::num::f64::ANY.prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0..40_000_u64).prop_map(Into::into),
        word().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(word().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// An object that is nearly a resource.
fn nearly_a_resource() -> impl Strategy<Value = serde_json::Value> {
    let good = prop::sample::select(vec![
        serde_json::json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.5}, "role": "eng"}),
        serde_json::json!({"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 9}]}}),
        serde_json::json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 9}, "revocable": {},
            "disk": {"source": {"type": "MOUNT", "mount": {"root": "/mnt"}}}}),
    ]);
    let keys = prop::sample::select(vec!["name", "type", "scalar", "ranges", "role", "disk", "reservations"]);
    (good, prop::option::of((keys, json()))).prop_map(|(mut object, change)| {
        if let Some((key, value)) = change {
            object[key] = value;
        }
        object
    })
}

proptest! {
    #[test]
    fn no_json_panics_and_what_is_read_is_sound(
        objects in prop::collection::vec(prop_oneof![json(), nearly_a_resource()], 0..4),
    ) {
        let text = serde_json::Value::Array(objects).to_string();
        if let Ok(parsed) = parse(&text) {
            prop_assert!(parsed.resources.iter().all(|resource| !resource.value.is_empty()));
            let messages = parsed.resources.to_proto(crate::Format::PostRefinement);
            let distinct = parsed.resources.distinct();
            prop_assert_eq!(Resources::from_proto(&messages), Ok(distinct));
        }
    }

    #[test]
    fn what_is_printed_reads_back(list in several()) {
        let expressible =
            |r: &Resource| r.is_plain() && r.allocation.is_none() && !r.is_dynamically_reserved() && r.reservations.len() < 2;
        let all: Resources = list.into_iter().filter(expressible).collect();
        prop_assert_eq!(parse(&print(&all)).map(|parsed| parsed.resources), Ok(all));
    }

    #[test]
    fn no_text_panics(text in "[a-c:;(){}\\[\\]0-9.,*/ -]{0,40}") {
        let _ = (parse(&text), parse_attributes(&text));
    }
}
