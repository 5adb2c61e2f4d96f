//! One test a rule.

use serde_json::json;

use super::super::*;
use crate::{ProtobufError, decode, mesos::v1 as mesos, missing_required};
use mesos::{
    CommandInfo, FrameworkId, FrameworkInfo, Labels, Offer, Resource, TaskId, TaskStatus, Uuid, WeightInfo,
    master, quota::QuotaConfig, scheduler::Call,
};

fn call(value: Value) -> Result<Call, JsonError> {
    from_json(&value)
}

fn refusal(value: Value) -> String {
    call(value).unwrap_err().to_string()
}

#[test]
#[allow(deprecated)] // `role` is, and that is the point
fn explicit_defaults_are_printed_unless_deprecated() {
    let info = FrameworkInfo { user: "root".into(), name: "f".into(), ..Default::default() };
    let text = to_json_string(&info);
    assert_eq!(text, r#"{"user":"root","name":"f","failover_timeout":0.0,"checkpoint":false}"#);
    assert_eq!(to_json_string(&CommandInfo::default()), r#"{"shell":true}"#);
    assert_eq!(to_json_string(&mesos::Filters::default()), r#"{"refuse_seconds":5.0}"#);
    let agent = mesos::AgentInfo { hostname: "h".into(), ..Default::default() };
    assert_eq!(to_json(&agent)["port"], json!(5051));
    let role = Resource { role: Some("*".into()), ..Default::default() };
    assert_eq!(to_json(&role)["role"], json!("*"));
}

#[test]
fn numbers_are_numbers_and_doubles_show_that_they_are() {
    let time = mesos::TimeInfo { nanoseconds: i64::MAX };
    assert_eq!(to_json_string(&time), r#"{"nanoseconds":9223372036854775807}"#);
    let weight = |weight| to_json_string(&WeightInfo { weight, role: None });
    assert_eq!(weight(2.0), r#"{"weight":2.0}"#);
    assert_eq!(weight(0.1), r#"{"weight":0.1}"#);
    assert_eq!(weight(1_795_148_288.822_961_8), r#"{"weight":1795148288.8229618}"#);
    assert_eq!(weight(f64::NEG_INFINITY), r#"{"weight":"-Infinity"}"#);
    let read = |value: Value| from_json::<WeightInfo>(&value).map(|w| w.weight);
    assert_eq!(read(json!({"weight": "Infinity"})), Ok(f64::INFINITY));
    assert_eq!(read(json!({"weight": "1.5"})), Ok(1.5));
    assert_eq!(read(json!({"weight": 3})), Ok(3.0));
    assert!(read(json!({"weight": "NaN"})).is_err());
}

#[test]
fn integers_come_as_numbers_or_text_and_must_fit() {
    let read =
        |value: Value| from_json::<mesos::TimeInfo>(&json!({"nanoseconds": value})).map(|t| t.nanoseconds);
    assert_eq!(read(json!("12")), Ok(12));
    assert_eq!(read(json!(1.9)), Ok(1));
    assert_eq!(
        read(json!("x")).unwrap_err().to_string(),
        "Failed to parse 'x' as a JSON number for field 'nanoseconds': not a number"
    );
    assert!(read(json!(u64::MAX)).is_err());
    let port = |port: Value| from_json::<mesos::Port>(&json!({"number": port})).map(|p| p.number);
    assert_eq!(port(json!(u32::MAX)), Ok(u32::MAX));
    assert!(port(json!(1u64 << 32)).is_err() && port(json!(-1)).is_err());
}

#[test]
fn booleans_come_also_as_text() {
    let read = |value: Value| from_json::<CommandInfo>(&json!({"shell": value})).map(|c| c.shell);
    assert_eq!(read(json!("false")), Ok(Some(false)));
    assert_eq!(read(json!(true)), Ok(Some(true)));
    let error = read(json!("no")).unwrap_err().to_string();
    assert!(error.starts_with("Failed to parse 'no' as a JSON boolean for field 'shell': "), "{error}");
}

#[test]
fn mesos_c74_unknown_enum_names_and_fields_are_dropped() {
    let read = call(json!({"type": "NO_SUCH", "no_such": {"a": [1]}, "framework_id": null})).unwrap();
    assert_eq!(read, Call::default());
    let state = json!({"task_id": {"value": "t"}, "state": "NO_SUCH"});
    assert_eq!(from_json::<TaskStatus>(&state), Err(JsonError::UnknownEnum("NO_SUCH".into())));
    let unknown = Call { r#type: Some(4711), ..Default::default() };
    assert_eq!(to_json_string(&unknown), "{}");
}

#[test]
fn mesos_c75_bytes_are_padded_base64() {
    let uuid = Uuid { value: vec![0xfb, 0xff, 0x00, 0x01].into() };
    assert_eq!(to_json_string(&uuid), r#"{"value":"+/8AAQ=="}"#);
    assert_eq!(from_json::<Uuid>(&json!({"value": "+/8AAQ=="})), Ok(uuid));
    let error = from_json::<Uuid>(&json!({"value": "%"})).unwrap_err().to_string();
    assert!(error.starts_with("Failed to base64 decode bytes field 'value': "), "{error}");
}

#[test]
fn wrong_types_are_named() {
    assert_eq!(refusal(json!([])), "Expecting a JSON object");
    assert_eq!(refusal(json!({"type": 1})), "Not expecting a JSON number for field 'type'");
    assert_eq!(refusal(json!({"framework_id": "x"})), "Not expecting a JSON string for field 'framework_id'");
    assert_eq!(refusal(json!({"framework_id": []})), "Not expecting a JSON array for field 'framework_id'");
    assert_eq!(
        refusal(json!({"framework_id": {"value": {}}})),
        "Not expecting a JSON object for field 'value'"
    );
    assert_eq!(
        refusal(json!({"framework_id": {"value": true}})),
        "Not expecting a JSON boolean for field 'value'"
    );
}

#[test]
fn missing_required_fields_are_listed_by_path() {
    let subscribe = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "u"}}});
    assert_eq!(refusal(subscribe), "Missing required fields: subscribe.framework_info.name");
    let task = json!({"task_id": {"value": "t"}});
    let launch = json!({"accept": {"operations": [{"launch": {"task_infos": [task.clone(), task]}}]}});
    assert_eq!(
        refusal(launch).split(": ").nth(1).unwrap().split(", ").collect::<Vec<_>>(),
        [0, 1]
            .map(|i| ["name", "agent_id"].map(|f| format!("accept.operations[0].launch.task_infos[{i}].{f}")))
            .concat()
    );
    assert_eq!(refusal(json!({"subscribe": {}, "kill": 1})), "Not expecting a JSON number for field 'kill'");
}

#[test]
fn protobuf_bodies_are_checked_for_required_fields() {
    let incomplete = prost::bytes::Bytes::from_static(&[0x0a, 0x00]); // framework_id: {}
    let error = decode::<Call>(&incomplete).unwrap_err();
    assert_eq!(error.to_string(), "Not initialized: framework_id.value");
    assert!(matches!(decode::<Call>(b"\x0a\xff"), Err(ProtobufError::Malformed(_))));
    let complete = Call { framework_id: Some(FrameworkId { value: "f".into() }), ..Default::default() };
    assert_eq!(decode::<Call>(&prost::Message::encode_to_vec(&complete)).unwrap(), complete);
    // A container id in two pieces, of which the second alone would be incomplete.
    let pieces = [&[0x0a, 0x03, 0x0a, 0x01, b'c'][..], &[0x0a, 0x00]].concat();
    assert_eq!(missing_required::<mesos::ContainerStatus>(&pieces), Vec::<String>::new());
    assert_eq!(missing_required::<TaskId>(b""), ["value"]);
}

#[test]
fn empty_lists_are_left_out_and_one_value_counts_as_a_list() {
    assert_eq!(to_json_string(&Labels::default()), "{}");
    let labels = from_json::<Labels>(&json!({"labels": {"key": "k"}})).unwrap();
    assert_eq!(to_json(&labels), json!({"labels": [{"key": "k"}]}));
    let revive = call(json!({"revive": {"roles": ["a", null, "b"]}})).unwrap();
    assert_eq!(revive.revive.unwrap().roles, ["a", "b"]);
}

#[test]
fn maps_are_objects_also_where_a_value_is_zero() {
    let config = json!({"role": "r", "limits": {"cpus": {"value": 0.0}, "mem": {"value": 2.5}}});
    let read: QuotaConfig = from_json(&config).unwrap();
    assert_eq!(read.limits["cpus"].value, 0.0);
    assert_eq!(to_json(&read), config);
    let null = json!({"role": "r", "limits": {"cpus": null}});
    assert!(from_json::<QuotaConfig>(&null).unwrap().limits.is_empty());
    let array = from_json::<QuotaConfig>(&json!({"role": "r", "limits": [{}]})).unwrap_err().to_string();
    assert_eq!(array, "Not expecting a JSON array for field 'limits'");
}

#[test]
fn a_drain_period_has_two_fields() {
    let drain = json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": "a"},
        "max_grace_period": {"seconds": 600, "nanos": 0}}});
    let read: master::Call = from_json(&drain).unwrap();
    assert_eq!(read.drain_agent.unwrap().max_grace_period.unwrap().seconds, 600);
}

#[test]
fn strings_are_escaped() {
    let id = TaskId { value: "\"\\/\n\u{1}\u{1f}é\u{8}".into() };
    assert_eq!(to_json_string(&id), r#"{"value":"\"\\/\n\u0001\u001Fé\b"}"#);
}

#[test]
fn bodies_that_are_no_json_say_where() {
    let error = |body: &[u8]| parse(body).unwrap_err().to_string();
    assert_eq!(error(b"{"), "syntax error at line 1 near: ");
    assert_eq!(error(b""), "syntax error at line 1 near: ");
    assert_eq!(error(b"{\n\"a\": nope}\n"), "syntax error at line 2 near: pe}");
    assert_eq!(parse(b" {\"a\":1}").unwrap(), json!({"a": 1}));
}

#[test]
fn fields_come_in_the_order_of_the_proto_file_and_required_ones_always() {
    let offer = Offer { hostname: "h".into(), resources: vec![Resource::default(); 2], ..Default::default() };
    let id = r#"{"value":""}"#;
    let resource = r#"{"name":"","type":"SCALAR"}"#;
    assert_eq!(
        to_json_string(&offer),
        format!(
            r#"{{"id":{id},"framework_id":{id},"agent_id":{id},"hostname":"h","resources":[{resource},{resource}]}}"#
        )
    );
}

#[test]
fn timestamps_keep_every_bit() {
    let text = r#"{"weight":1795148288.8229618}"#;
    assert_eq!(to_json_string(&from_json::<WeightInfo>(&parse(text.as_bytes()).unwrap()).unwrap()), text);
}
