//! The tasks of one simulated agent and their status updates: pure.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::{Acknowledge, Kill, Launch, StatusUpdate},
    mesos::v1::{self as pb, TaskState, task_status},
    packed::{self, Changing, Parts},
};
use prost::Message;

/// What became of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The framework knows that the task runs.
    Running,
    /// The framework knows that the task has ended; it is forgotten.
    Ended,
    /// The framework knows an earlier state.
    Earlier,
    /// It was not of the update that waits.
    Stale,
}

/// By task id.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tasks: BTreeMap<String, Task>,
    frameworks: BTreeMap<String, Arc<pb::FrameworkInfo>>,
    /// Makes the uuids of updates.
    updates: u64,
}

#[derive(Debug)]
struct Task {
    framework: Arc<pb::FrameworkInfo>,
    /// A `mesos.v1.Task` but for its state: what a new leader is told is made a thousand times at once.
    lasting: Vec<u8>,
    ports: Vec<u16>,
    /// What the framework has acknowledged.
    state: TaskState,
    /// Not acknowledged yet; the first has been sent.
    updates: VecDeque<(TaskState, u64)>,
}

impl Tasks {
    /// Takes tasks in; how many of them were there already.
    pub(crate) fn launch(&mut self, launch: Launch, states: &[TaskState]) -> (Vec<String>, u64) {
        let info = launch.framework.unwrap_or_default();
        let framework_id = info.id.clone().unwrap_or_default().value;
        let framework = self.frameworks.entry(framework_id).or_insert_with(|| Arc::new(info)).clone();
        let (mut new, mut repeated) = (Vec::new(), 0);
        for task in launch.tasks {
            let id = task.task_id.value;
            if self.tasks.contains_key(&id) {
                repeated += 1;
                continue;
            }
            let updates = states.iter().map(|state| (*state, self.next_update())).collect();
            let ports = ports_of(&task.resources);
            let whole = pb::Task {
                name: task.name,
                task_id: pb::TaskId { value: id.clone() },
                framework_id: framework.id.clone().unwrap_or_default(),
                resources: task.resources,
                ..pb::Task::default()
            };
            let lasting = Parts::of(&whole.encode_to_vec()).map(|parts| parts.lasting).unwrap_or_default();
            let task = Task {
                framework: Arc::clone(&framework),
                lasting,
                ports,
                state: TaskState::TaskStaging,
                updates,
            };
            self.tasks.insert(id.clone(), task);
            new.push(id);
        }
        (new, repeated)
    }

    /// The ports that a task has.
    pub(crate) fn ports(&self, id: &str) -> Vec<u16> {
        self.tasks.get(id).map(|task| task.ports.clone()).unwrap_or_default()
    }

    fn next_update(&mut self) -> u64 {
        self.updates += 1;
        self.updates
    }

    /// Whether anything waits for an acknowledgement.
    pub(crate) fn waits(&self) -> bool {
        self.tasks.values().any(|task| !task.updates.is_empty())
    }

    /// The oldest update that is not acknowledged.
    pub(crate) fn update(&self, agent: &str, id: &str) -> Option<StatusUpdate> {
        let task = self.tasks.get(id)?;
        let (state, number) = task.updates.front()?;
        let latest = task.updates.back().map_or(*state, |(state, _)| *state);
        let status = pb::TaskStatus {
            task_id: pb::TaskId { value: id.to_owned() },
            state: (*state).into(),
            source: Some(task_status::Source::Executor.into()),
            agent_id: Some(pb::AgentId { value: agent.to_owned() }),
            uuid: Some(uuid(*number)),
            ..pb::TaskStatus::default()
        };
        Some(StatusUpdate {
            framework_id: task.framework.id.clone(),
            status: Some(status),
            latest_state: latest.into(),
            traceparent: String::new(),
        })
    }

    /// The oldest update of each task that is not acknowledged.
    pub(crate) fn updates<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = StatusUpdate> + 'a {
        self.tasks.keys().filter_map(move |id| self.update(agent, id))
    }

    pub(crate) fn acknowledge(&mut self, acknowledge: &Acknowledge) -> Settled {
        let Some(id) = acknowledge.task_id.as_ref().map(|id| id.value.as_str()) else {
            return Settled::Stale;
        };
        let Some(task) = self.tasks.get_mut(id) else { return Settled::Stale };
        match task.updates.front() {
            Some((_, number)) if uuid(*number) == acknowledge.uuid => {}
            _ => return Settled::Stale,
        }
        if let Some((state, _)) = task.updates.pop_front() {
            task.state = state;
        }
        match task.state {
            TaskState::TaskRunning => Settled::Running,
            TaskState::TaskFinished | TaskState::TaskKilled | TaskState::TaskFailed => {
                self.tasks.remove(id);
                Settled::Ended
            }
            _ => Settled::Earlier,
        }
    }

    /// All running tasks end; ids of those that have an update to send now.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let running = |task: &&String| self.tasks[*task].state == TaskState::TaskRunning;
        let ids: Vec<String> = self.tasks.keys().filter(running).cloned().collect();
        ids.into_iter().filter(|id| self.end(id, TaskState::TaskFinished)).collect()
    }

    /// Whether the update is to be sent now.
    pub(crate) fn kill(&mut self, kill: &Kill) -> Option<String> {
        let id = kill.task_id.as_ref().map(|id| id.value.clone())?;
        self.end(&id, TaskState::TaskKilled).then_some(id)
    }

    /// The task died by itself. Whether the update is to be sent now.
    pub(crate) fn fail(&mut self, id: &str) -> bool {
        self.end(id, TaskState::TaskFailed)
    }

    fn end(&mut self, id: &str, state: TaskState) -> bool {
        let number = self.next_update();
        let Some(task) = self.tasks.get_mut(id) else { return false };
        if task.updates.iter().any(|(state, _)| *state == TaskState::TaskFinished) {
            return false;
        }
        task.updates.push_back((state, number));
        task.updates.len() == 1
    }

    /// All of them, and their frameworks, for a leader that knows nothing.
    pub(crate) fn report(&self, agent: &str) -> (Vec<Bytes>, Vec<Bytes>) {
        let task = |task: &Task| {
            let newest = task.updates.back().map_or(task.state, |(state, _)| *state);
            let (told, number) = task
                .updates
                .front()
                .map_or((task.state, None), |(state, number)| (*state, Some(uuid(*number))));
            let changing = Changing {
                agent_id: agent,
                state: newest.into(),
                status_update_state: Some(told.into()),
                status_update_uuid: number.as_deref(),
            };
            packed::join(&task.lasting, &changing, std::iter::empty())
        };
        let frameworks = self.frameworks.values().map(|info| info.encode_to_vec().into());
        (frameworks.collect(), self.tasks.values().map(task).collect())
    }
}

fn ports_of(resources: &[pb::Resource]) -> Vec<u16> {
    let ranges = resources.iter().filter(|resource| resource.name == "ports").flat_map(|resource| {
        resource.ranges.iter().flat_map(|ranges| &ranges.range).flat_map(|range| range.begin..=range.end)
    });
    ranges.filter_map(|port| u16::try_from(port).ok()).collect()
}

/// A UUID of version 4, as everybody checks.
fn uuid(number: u64) -> Bytes {
    let mut bytes = [0_u8; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    (bytes[6], bytes[8]) = (0x40, 0x80);
    bytes.to_vec().into()
}
