//! What a call must have.

use meshos_proto::mesos::v1::{
    ContainerId,
    agent::{Call, call::Type},
};

/// Why a call is refused; the text after `Failed to validate agent::Call: `.
#[allow(deprecated, reason = "old calls are still made")]
pub(super) fn call(call: &Call) -> Result<Type, String> {
    let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
    let kind = kind.ok_or("Expecting 'type' to be present")?;
    // Whether the part is there, its name, its container, and whether that must be below another.
    let (there, name, container, below) = match kind {
        Type::GetMetrics => (call.get_metrics.is_some(), "get_metrics", None, false),
        Type::SetLoggingLevel => (call.set_logging_level.is_some(), "set_logging_level", None, false),
        Type::ListFiles => (call.list_files.is_some(), "list_files", None, false),
        Type::ReadFile => (call.read_file.is_some(), "read_file", None, false),
        Type::LaunchNestedContainer => {
            let part = call.launch_nested_container.as_ref();
            (part.is_some(), "launch_nested_container", part.map(|part| &part.container_id), true)
        }
        Type::WaitNestedContainer => {
            let part = call.wait_nested_container.as_ref();
            (part.is_some(), "wait_nested_container", part.map(|part| &part.container_id), true)
        }
        Type::KillNestedContainer => {
            let part = call.kill_nested_container.as_ref();
            (part.is_some(), "kill_nested_container", part.map(|part| &part.container_id), true)
        }
        Type::RemoveNestedContainer => {
            let part = call.remove_nested_container.as_ref();
            (part.is_some(), "remove_nested_container", part.map(|part| &part.container_id), true)
        }
        Type::LaunchNestedContainerSession => {
            let part = call.launch_nested_container_session.as_ref();
            (part.is_some(), "launch_nested_container_session", part.map(|part| &part.container_id), true)
        }
        Type::AttachContainerOutput => {
            let part = call.attach_container_output.as_ref();
            (part.is_some(), "attach_container_output", part.map(|part| &part.container_id), false)
        }
        Type::AttachContainerInput => return attach_input(call).map(|()| kind),
        Type::LaunchContainer => {
            let part = call.launch_container.as_ref();
            (part.is_some(), "launch_container", part.map(|part| &part.container_id), false)
        }
        Type::WaitContainer => {
            let part = call.wait_container.as_ref();
            (part.is_some(), "wait_container", part.map(|part| &part.container_id), false)
        }
        Type::KillContainer => {
            let part = call.kill_container.as_ref();
            (part.is_some(), "kill_container", part.map(|part| &part.container_id), false)
        }
        Type::RemoveContainer => {
            let part = call.remove_container.as_ref();
            (part.is_some(), "remove_container", part.map(|part| &part.container_id), false)
        }
        _ => return Ok(kind),
    };
    if !there {
        return Err(format!("Expecting '{name}' to be present"));
    }
    container.map_or(Ok(()), |id| container_id(id, name, below))?;
    Ok(kind)
}

fn container_id(id: &ContainerId, name: &str, below: bool) -> Result<(), String> {
    if below && id.parent.is_none() {
        return Err(format!("Expecting '{name}.container_id.parent' to be present"));
    }
    let bad = |value: &str| {
        value.is_empty() || value.contains(|c: char| matches!(c, '.' | '/' | '\\') || c.is_whitespace())
    };
    let mut next = Some(id);
    while let Some(id) = next {
        if bad(&id.value) {
            return Err(format!(
                "'{name}.container_id' is invalid: 'ContainerID.value' '{}' contains invalid characters",
                id.value
            ));
        }
        next = id.parent.as_deref();
    }
    Ok(())
}

/// The first record of an input names the container.
fn attach_input(call: &Call) -> Result<(), String> {
    use meshos_proto::mesos::v1::agent::call::attach_container_input::Type as Part;
    let part = call.attach_container_input.as_ref();
    let part = part.ok_or("Expecting 'attach_container_input' to be present")?;
    if part.r#type.is_none() {
        return Err("Expecting 'attach_container_input.type' to be present".to_owned());
    }
    match (part.r#type(), &part.container_id, &part.process_io) {
        (Part::ContainerId, Some(id), _) => container_id(id, "attach_container_input", false),
        (Part::ContainerId, None, _) => {
            Err("Expecting 'attach_container_input.container_id' to be present".to_owned())
        }
        (Part::ProcessIo, _, None) => {
            Err("Expecting 'attach_container_input.process_io' to be present".to_owned())
        }
        (Part::ProcessIo, _, Some(_)) => Ok(()),
        (Part::Unknown, ..) => Err("'attach_container_input.type' is unknown".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use meshos_proto::mesos::v1::agent::call;

    use super::*;

    #[test]
    fn parts_and_parents_must_be_there() {
        let of = |kind: Type| Call { r#type: Some(kind as i32), ..Call::default() };
        let text = |call: &Call| super::call(call).unwrap_err();
        assert_eq!(text(&Call::default()), "Expecting 'type' to be present");
        assert_eq!(text(&of(Type::ReadFile)), "Expecting 'read_file' to be present");
        assert_eq!(super::call(&of(Type::GetState)), Ok(Type::GetState));
        let id = |value: &str| ContainerId { value: value.to_owned(), parent: None };
        let session = |container_id: ContainerId| Call {
            launch_nested_container_session: Some(call::LaunchNestedContainerSession {
                container_id,
                ..Default::default()
            }),
            ..of(Type::LaunchNestedContainerSession)
        };
        assert!(text(&session(id("a"))).contains("container_id.parent"));
        let below = ContainerId { parent: Some(Box::new(id("p"))), ..id("a") };
        assert!(super::call(&session(below.clone())).is_ok());
        for bad in ["", "a.b", "../x", "a b"] {
            let below = ContainerId { value: bad.to_owned(), ..below.clone() };
            assert!(text(&session(below)).contains("is invalid"), "{bad}");
        }
    }
}
