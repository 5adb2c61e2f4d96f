//! What happens in the cluster as events of the v1 operator API. Pure.

use bytes::Bytes;
use meshos_proto::{
    mesos::v1::{
        TimeInfo,
        master::{
            Event,
            event::{
                AgentAdded, AgentRemoved, FrameworkAdded, FrameworkRemoved, FrameworkUpdated, TaskAdded,
                TaskUpdated, Type,
            },
            response::get_frameworks,
        },
    },
    recordio,
};

use super::{super::call::Encoding, respond};
use crate::views::cluster::happenings::{Batch, Happening};

/// The batch as RecordIO; made once for all who read it in this encoding.
pub(super) fn encoded(encoding: Encoding, batch: &Batch) -> Bytes {
    let made = match encoding {
        Encoding::Json => &batch.json,
        Encoding::Protobuf => &batch.protobuf,
    };
    made.get_or_init(|| {
        let mut out = Vec::new();
        for happening in &batch.happenings {
            recordio::encode_into(&encoding.encode(&event(happening)), &mut out);
        }
        out.into()
    })
    .clone()
}

fn event(happening: &Happening) -> Event {
    let of = |kind: Type| Event { r#type: Some(kind as i32), ..Default::default() };
    match happening {
        Happening::TaskAdded(task) => {
            Event { task_added: Some(TaskAdded { task: (**task).clone() }), ..of(Type::TaskAdded) }
        }
        Happening::TaskUpdated { framework_id, status, state } => {
            let framework_id = framework_id.clone();
            let updated = TaskUpdated { framework_id, status: (**status).clone(), state: *state as i32 };
            Event { task_updated: Some(updated), ..of(Type::TaskUpdated) }
        }
        Happening::AgentAdded(agent) => {
            Event { agent_added: Some(AgentAdded { agent: respond::agent(agent) }), ..of(Type::AgentAdded) }
        }
        Happening::AgentRemoved(id) => {
            Event { agent_removed: Some(AgentRemoved { agent_id: id.clone() }), ..of(Type::AgentRemoved) }
        }
        Happening::FrameworkAdded(framework) => {
            let added = FrameworkAdded { framework: shown(framework) };
            Event { framework_added: Some(added), ..of(Type::FrameworkAdded) }
        }
        Happening::FrameworkUpdated(framework) => {
            let updated = FrameworkUpdated { framework: shown(framework) };
            Event { framework_updated: Some(updated), ..of(Type::FrameworkUpdated) }
        }
        Happening::FrameworkRemoved(info) => {
            let removed = FrameworkRemoved { framework_info: (**info).clone() };
            Event { framework_removed: Some(removed), ..of(Type::FrameworkRemoved) }
        }
    }
}

/// A framework that is there says that it never went: at time 0.
fn shown(framework: &meshos_proto::meshos::allocator::v1::Framework) -> get_frameworks::Framework {
    let unregistered_time = Some(TimeInfo { nanoseconds: 0 });
    get_frameworks::Framework { unregistered_time, ..respond::bare_framework(framework) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::{
        json::to_json,
        mesos::v1::{FrameworkId, Task, TaskState, TaskStatus},
    };
    use serde_json::json;

    #[test]
    fn events_are_those_of_a_real_master() {
        let framework_id = FrameworkId { value: "f".to_owned() };
        let task = Task { framework_id: framework_id.clone(), name: "n".to_owned(), ..Default::default() };
        let added = event(&Happening::TaskAdded(Box::new(task)));
        assert_eq!(to_json(&added)["task_added"]["task"]["name"], "n");
        let state = TaskState::TaskRunning;
        let status = Box::new(TaskStatus { state: state as i32, ..Default::default() });
        let updated = to_json(&event(&Happening::TaskUpdated { framework_id, status, state }));
        assert_eq!(updated["type"], "TASK_UPDATED");
        assert_eq!(updated["task_updated"]["framework_id"], json!({"value": "f"}));
        assert_eq!(updated["task_updated"]["status"]["state"], "TASK_RUNNING");
        assert_eq!(updated["task_updated"]["state"], "TASK_RUNNING");
        let framework = to_json(&event(&Happening::FrameworkAdded(Box::default())));
        let shown = &framework["framework_added"]["framework"];
        assert_eq!(shown["unregistered_time"], json!({"nanoseconds": 0}));
        assert_eq!(shown.get("offers"), None);
    }

    #[test]
    fn a_batch_is_encoded_once_for_each_encoding() {
        let batch = Batch::of(vec![Happening::FrameworkRemoved(Box::default()); 2]);
        let json = encoded(Encoding::Json, &batch);
        assert_eq!(json.as_ptr(), encoded(Encoding::Json, &batch).as_ptr());
        let mut decoder = recordio::Decoder::new(1 << 20);
        decoder.push(&encoded(Encoding::Protobuf, &batch));
        let first: Event = meshos_proto::decode(&decoder.next().unwrap().unwrap()).unwrap();
        assert_eq!(first.r#type(), Type::FrameworkRemoved);
        assert!(decoder.next().unwrap().is_some() && decoder.next().unwrap().is_none());
    }
}
