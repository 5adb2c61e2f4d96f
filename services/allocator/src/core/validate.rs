//! What calls and tasks must look like; the texts are Mesos's (`src/master/validation.cpp`).

mod check;
mod container;
mod executor;
mod group;
mod resources;
mod task;

use meshos_proto::mesos::v1::scheduler::{Call, call::Type};
use meshos_types::scheduler_call::needed_field;

pub(crate) use executor::Given;
pub(crate) use group::{CheckedGroup, group};
pub(crate) use task::{Checked, TaskScene, submitter, task};

use super::CallError;

/// Text of a call without a field that its type needs.
pub(crate) fn expecting(field: &str) -> String {
    format!("Failed to validate scheduler::Call: Expecting '{field}' to be present")
}

/// Checks the shape of a call (5.2).
pub(crate) fn call(call: &Call) -> Result<(), CallError> {
    shape(call).map_err(|field| match field {
        Fault::Missing(field) => CallError::invalid(expecting(field)),
        Fault::Text(text) => CallError::Invalid(format!("Failed to validate scheduler::Call: {text}")),
    })
}

enum Fault {
    Missing(&'static str),
    Text(&'static str),
}

fn shape(call: &Call) -> Result<(), Fault> {
    let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok()).unwrap_or(Type::Unknown);
    if kind == Type::Unknown {
        return Err(Fault::Missing("type"));
    }
    if let Some((field, false)) = needed_field(call, kind) {
        return Err(Fault::Missing(field));
    }
    if let Some(subscribe) = call.subscribe.as_ref().filter(|_| kind == Type::Subscribe) {
        let inner = subscribe.framework_info.id.as_ref().filter(|id| !id.value.is_empty());
        let outer = call.framework_id.as_ref().filter(|id| !id.value.is_empty());
        if inner != outer {
            return Err(Fault::Text("'framework_id' differs from 'subscribe.framework_info.id'"));
        }
        return Ok(());
    }
    if call.framework_id.is_none() {
        return Err(Fault::Missing("framework_id"));
    }
    match (kind, &call.acknowledge, &call.acknowledge_operation_status) {
        (Type::Acknowledge, Some(acknowledge), _) => uuid(&acknowledge.uuid),
        (Type::AcknowledgeOperationStatus, _, Some(acknowledge)) if acknowledge.agent_id.is_none() => {
            Err(Fault::Missing("agent_id"))
        }
        (Type::AcknowledgeOperationStatus, _, Some(acknowledge)) => uuid(&acknowledge.uuid),
        (Type::UpdateFramework, ..) => {
            let inner = call.update_framework.as_ref().and_then(|update| update.framework_info.id.as_ref());
            if inner == call.framework_id.as_ref() {
                return Ok(());
            }
            Err(Fault::Text("'framework_id' differs from 'update_framework.framework_info.id'"))
        }
        _ => Ok(()),
    }
}

fn uuid(bytes: &[u8]) -> Result<(), Fault> {
    if bytes.len() == 16 && bytes.iter().any(|byte| *byte != 0) {
        Ok(())
    } else {
        Err(Fault::Text("Not a valid UUID"))
    }
}
