//! What an executor's call must have, in the order and with the words of Mesos.

use meshos_proto::mesos::v1::{
    TaskState,
    executor::{
        Call,
        call::{Type, Update},
    },
    task_status::Source,
};

/// Why a call is refused; the text after `Failed to validate Executor::Call: `.
pub(super) fn call(call: &Call) -> Result<Type, String> {
    let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
    let kind = kind.ok_or("Expecting 'type' to be present")?;
    let present = |is: bool, field: &str| match is {
        true => Ok(kind),
        false => Err(format!("Expecting '{field}' to be present")),
    };
    match kind {
        Type::Subscribe => {
            present(call.subscribe.is_some(), "subscribe")?;
            let updates = call.subscribe.iter().flat_map(|subscribe| &subscribe.unacknowledged_updates);
            updates.map(|inner| update(call, inner)).collect::<Result<Vec<()>, _>>()?;
            Ok(kind)
        }
        Type::Update => {
            present(call.update.is_some(), "update")?;
            call.update.as_ref().map_or(Ok(()), |inner| update(call, inner))?;
            Ok(kind)
        }
        Type::Message => present(call.message.is_some(), "message"),
        Type::Heartbeat | Type::Unknown => Ok(kind),
    }
}

fn update(call: &Call, update: &Update) -> Result<(), String> {
    let status = &update.status;
    let (executor, framework) = (&call.executor_id.value, &call.framework_id.value);
    let uuid = status.uuid.as_ref().ok_or("Expecting 'uuid' to be present")?;
    if uuid.len() != 16 || uuid.iter().all(|byte| *byte == 0) {
        return Err("Not a valid UUID".to_owned());
    }
    if let Some(other) = status.executor_id.as_ref().filter(|id| id.value != *executor) {
        return Err(format!(
            "ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {}",
            other.value
        ));
    }
    if status.source != Some(Source::Executor as i32) {
        return Err(format!(
            "Received Call from executor {executor} of framework {framework} with invalid source, expecting 'SOURCE_EXECUTOR'"
        ));
    }
    if status.state() == TaskState::TaskStaging {
        return Err(format!(
            "Received TASK_STAGING from executor {executor} of framework {framework} which is not allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meshos_proto::mesos::v1::{self as pb, executor::call::Subscribe};

    use super::*;

    fn of(kind: Type) -> Call {
        Call { r#type: Some(kind as i32), ..Call::default() }
    }

    #[test]
    fn sub_messages_must_be_there() {
        let text = |call: &Call| super::call(call).unwrap_err();
        assert_eq!(text(&Call::default()), "Expecting 'type' to be present");
        assert_eq!(text(&of(Type::Subscribe)), "Expecting 'subscribe' to be present");
        assert_eq!(text(&of(Type::Update)), "Expecting 'update' to be present");
        assert_eq!(text(&of(Type::Message)), "Expecting 'message' to be present");
        assert_eq!(super::call(&of(Type::Heartbeat)), Ok(Type::Heartbeat));
    }

    #[test]
    fn updates_are_an_executors_own() {
        let good = pb::TaskStatus {
            state: TaskState::TaskRunning as i32,
            source: Some(Source::Executor as i32),
            uuid: Some(Bytes::from_static(&[1; 16])),
            ..pb::TaskStatus::default()
        };
        let with = |status: pb::TaskStatus| {
            super::call(&Call { update: Some(Update { status }), ..of(Type::Update) })
        };
        assert_eq!(with(good.clone()), Ok(Type::Update));
        for (status, want) in [
            (pb::TaskStatus { uuid: None, ..good.clone() }, "Expecting 'uuid' to be present"),
            (pb::TaskStatus { uuid: Some(Bytes::from_static(b"x")), ..good.clone() }, "Not a valid UUID"),
            (pb::TaskStatus { source: None, ..good.clone() }, "expecting 'SOURCE_EXECUTOR'"),
            (pb::TaskStatus { state: TaskState::TaskStaging as i32, ..good.clone() }, "TASK_STAGING"),
            (
                pb::TaskStatus {
                    executor_id: Some(pb::ExecutorId { value: "o".to_owned() }),
                    ..good.clone()
                },
                "does not match ExecutorID",
            ),
        ] {
            let text = with(status.clone()).unwrap_err();
            assert!(text.contains(want), "{text}");
            let subscribe =
                Subscribe { unacknowledged_updates: vec![Update { status }], ..Subscribe::default() };
            assert!(super::call(&Call { subscribe: Some(subscribe), ..of(Type::Subscribe) }).is_err());
        }
    }
}
