//! An agent as it is in its own eyes.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::allocator::v1::allocator_message,
    mesos::v1::{self as pb, TaskState},
};
use meshos_types::{Resources, task_state::frees_resources};

use crate::core::LinkId;

/// It keeps tasks through breaks and partitions.
#[derive(Default)]
pub(super) struct Node {
    pub(super) link: Option<LinkId>,
    pub(super) tasks: BTreeMap<(String, String), pb::Task>,
    pub(super) infos: BTreeMap<String, pb::FrameworkInfo>,
    /// By framework and id.
    pub(super) executors: BTreeMap<(String, String), pb::ExecutorInfo>,
    pub(super) total: Resources,
}

pub(super) fn hear_command(
    node: &mut Node,
    command: allocator_message::Body,
    accepted: &mut BTreeSet<(String, String)>,
) {
    use allocator_message::Body;
    match command {
        Body::Launch(launch) => {
            let info = launch.framework.unwrap();
            let framework = info.id.clone().unwrap();
            for executor in launch.tasks.iter().filter_map(|task| task.executor.as_ref()) {
                let key = (framework.value.clone(), executor.executor_id.value.clone());
                let known = node.executors.entry(key).or_insert_with(|| executor.clone());
                assert_eq!(known, executor, "another executor of the same id");
            }
            for task in launch.tasks {
                accepted.insert((framework.value.clone(), task.task_id.value.clone()));
                let record = pb::Task {
                    name: task.name,
                    task_id: task.task_id.clone(),
                    framework_id: framework.clone(),
                    agent_id: task.agent_id,
                    state: TaskState::TaskStaging.into(),
                    resources: task.resources,
                    executor_id: task.executor.map(|executor| executor.executor_id),
                    ..pb::Task::default()
                };
                node.tasks.insert((framework.value.clone(), task.task_id.value), record);
            }
            node.infos.insert(framework.value, info);
        }
        Body::Acknowledge(acknowledge) => {
            let key = (acknowledge.framework_id.unwrap().value, acknowledge.task_id.unwrap().value);
            if node.tasks.get(&key).is_some_and(|task| frees_resources(task.state())) {
                node.tasks.remove(&key);
            }
        }
        Body::ShutdownFramework(shutdown) => {
            let id = shutdown.framework_id.unwrap().value;
            node.tasks.retain(|(framework, _), _| *framework != id);
            node.infos.remove(&id);
            node.executors.retain(|(framework, _), _| *framework != id);
        }
        Body::ApplyOperation(apply) => {
            let read = |messages: &[pb::Resource]| Resources::from_proto(messages).unwrap();
            assert!(node.total.convert(&read(&apply.consumed), &read(&apply.produced)), "{apply:?}");
        }
        Body::Accepted(_)
        | Body::Kill(_)
        | Body::ShutdownExecutor(_)
        | Body::Refused(_)
        | Body::AcknowledgeOperation(_)
        | Body::FrameworkMessage(_) => {}
    }
}
