//! What a scheduler call must hold before anybody looks at its content.

use meshos_proto::mesos::v1::scheduler::{Call, call::Type};
use meshos_types::scheduler_call::needed_field;

/// Why a call is refused; the text after `Failed to validate scheduler::Call: `.
pub(super) fn scheduler_call(call: &Call) -> Result<Type, String> {
    let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
    let kind = kind.ok_or("Expecting 'type' to be present")?;
    if kind == Type::Subscribe {
        return subscribe(call).map(|()| kind);
    }
    if call.framework_id.is_none() {
        return Err("Expecting 'framework_id' to be present".to_owned());
    }
    if let Some((field, false)) = needed_field(call, kind) {
        return Err(format!("Expecting '{field}' to be present"));
    }
    match kind {
        Type::Unknown => return Err("the call's type is UNKNOWN".to_owned()),
        Type::Acknowledge => check_uuid(call.acknowledge.as_ref().map(|ack| &ack.uuid[..]))?,
        Type::AcknowledgeOperationStatus => {
            let ack = call.acknowledge_operation_status.as_ref();
            check_uuid(ack.map(|ack| &ack.uuid[..]))?;
            if ack.is_some_and(|ack| ack.agent_id.is_none()) {
                return Err("Expecting 'agent_id' to be present".to_owned());
            }
        }
        Type::UpdateFramework => {
            let info = call.update_framework.as_ref().map(|update| &update.framework_info);
            if info.and_then(|info| info.id.as_ref()) != call.framework_id.as_ref() {
                return Err("'framework_id' differs from 'update_framework.framework_info.id'".to_owned());
            }
        }
        _ => {}
    }
    Ok(kind)
}

fn subscribe(call: &Call) -> Result<(), String> {
    let subscribe = call.subscribe.as_ref().ok_or("Expecting 'subscribe' to be present")?;
    if subscribe.framework_info.id != call.framework_id {
        return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
    }
    Ok(())
}

/// 16 bytes whose version is one that there is; 16 zeros are none.
fn check_uuid(bytes: Option<&[u8]>) -> Result<(), String> {
    let version = bytes.filter(|bytes| bytes.len() == 16).map(|bytes| bytes[6] >> 4);
    match version {
        Some(1..=5) => Ok(()),
        _ => Err("Not a valid UUID".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::json;

    fn check(text: &str) -> Result<Type, String> {
        let value = serde_json::from_str(text).unwrap();
        scheduler_call(&json::from_json(&value).unwrap())
    }

    fn golden(body: &str) -> Result<Type, String> {
        Err(body.strip_prefix("Failed to validate scheduler::Call: ").unwrap().to_owned())
    }

    #[test]
    fn golden_refusals() {
        assert_eq!(check("{}"), golden(include_str!("../../tests/golden/err_no_type.body")));
        assert_eq!(
            check(r#"{"type":"NOSUCH"}"#),
            golden(include_str!("../../tests/golden/err_bad_type.body"))
        );
        let no_info = include_str!("../../tests/golden/err_subscribe_no_info.body");
        assert_eq!(check(r#"{"type":"SUBSCRIBE"}"#), golden(no_info));
        let differs = include_str!("../../tests/golden/err_subscribe_with_stream_id.body");
        let call = r#"{"type":"SUBSCRIBE","framework_id":{"value":"x"},"subscribe":{"framework_info":{"user":"u","name":"n"}}}"#;
        assert_eq!(check(call), golden(differs));
    }

    #[test]
    fn each_type_needs_its_message_and_a_framework() {
        for (kind, field) in [
            ("ACCEPT", "accept"),
            ("DECLINE", "decline"),
            ("KILL", "kill"),
            ("ACKNOWLEDGE", "acknowledge"),
            ("RECONCILE", "reconcile"),
            ("MESSAGE", "message"),
            ("REQUEST", "request"),
            ("SHUTDOWN", "shutdown"),
            ("UPDATE_FRAMEWORK", "update_framework"),
        ] {
            let bare = check(&format!(r#"{{"type":"{kind}"}}"#));
            assert_eq!(bare, Err("Expecting 'framework_id' to be present".to_owned()));
            let with_id = check(&format!(r#"{{"type":"{kind}","framework_id":{{"value":"f"}}}}"#));
            assert_eq!(with_id, Err(format!("Expecting '{field}' to be present")));
        }
        for kind in ["TEARDOWN", "REVIVE", "SUPPRESS"] {
            assert!(check(&format!(r#"{{"type":"{kind}","framework_id":{{"value":"f"}}}}"#)).is_ok());
        }
    }

    #[test]
    fn mesos_c75_acknowledge_needs_a_uuid() {
        let acknowledge = |uuid: &str| {
            check(&format!(
                r#"{{"type":"ACKNOWLEDGE","framework_id":{{"value":"f"}},"acknowledge":
                {{"agent_id":{{"value":"a"}},"task_id":{{"value":"t"}},"uuid":"{uuid}"}}}}"#
            ))
        };
        assert_eq!(acknowledge("WHeN5IZSQfupX9c02qSmFg=="), Ok(Type::Acknowledge));
        let refused = Err("Not a valid UUID".to_owned());
        assert_eq!(acknowledge("AAAAAAAAAAAAAAAAAAAAAA=="), refused);
        assert_eq!(acknowledge("WHeN"), refused);
    }

    #[test]
    fn type_unknown_is_refused() {
        assert!(check(r#"{"type":"UNKNOWN","framework_id":{"value":"f"}}"#).is_err());
    }
}
