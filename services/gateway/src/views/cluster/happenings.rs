//! What happens in the cluster, as told to readers without a gap: each change of the view, seen against what the
//! view held before it.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::{Agent, Change, Framework, TaskPlace, change::Body},
    mesos::v1::{AgentId, FrameworkId, FrameworkInfo, Task, TaskState, TaskStatus, task_status::Reason},
};
use tokio::sync::broadcast;

use super::{Cluster, agent_id, framework_id, is_away};

/// Batches that a reader may be behind before it is cut off.
const BEHIND: usize = 1024;

/// One thing that happened (Mesos 7.3).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Happening {
    TaskAdded(Box<Task>),
    TaskUpdated {
        framework_id: FrameworkId,
        status: Box<TaskStatus>,
        /// The newest state, which may be ahead of `status`.
        state: TaskState,
    },
    AgentAdded(Box<Agent>),
    AgentRemoved(AgentId),
    FrameworkAdded(Box<Framework>),
    FrameworkUpdated(Box<Framework>),
    FrameworkRemoved(Box<FrameworkInfo>),
}

/// What one message of the leader brought, in order. The encoded forms are made once for all readers.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) happenings: Vec<Happening>,
    pub(crate) json: OnceLock<Bytes>,
    pub(crate) protobuf: OnceLock<Bytes>,
    /// Tasks that left their place in this batch: they may turn up in another.
    moved: BTreeMap<(String, String), Task>,
    /// Told last: the ends of a framework's tasks come before its own.
    ends: Vec<Happening>,
}

#[cfg(test)]
impl Batch {
    pub(crate) fn of(happenings: Vec<Happening>) -> Self {
        Self { happenings, ..Self::default() }
    }
}

impl Batch {
    /// Notes a change that is about to be applied to `before`.
    pub(super) fn note(&mut self, before: &Cluster, change: &Change) {
        match &change.body {
            Some(Body::Agent(agent)) => self.agent(before, agent),
            Some(Body::AgentRemoved(id)) if is_known(before, id) => {
                self.happenings.push(Happening::AgentRemoved(AgentId { value: id.clone() }));
            }
            Some(Body::Framework(framework)) => self.framework(before, framework),
            Some(Body::Task(task)) => {
                if let Some(inner) = task.unpack() {
                    self.task(before, &inner, task.place());
                }
            }
            Some(Body::TaskRemoved(key)) => {
                if let Some(task) = before.task_at(&key.framework_id, key.place, &key.task_id) {
                    self.moved.insert((key.framework_id.clone(), key.task_id.clone()), task.clone());
                }
            }
            _ => {}
        }
    }

    fn agent(&mut self, before: &Cluster, agent: &Agent) {
        let known = is_known(before, agent_id(agent));
        if is_registered(agent) && !known {
            self.happenings.push(Happening::AgentAdded(Box::new(agent.clone())));
        }
    }

    fn framework(&mut self, before: &Cluster, framework: &Framework) {
        let known = before.frameworks.get(framework_id(framework));
        let told = match known {
            Some(known) if known.completed => return,
            Some(_) if framework.completed => {
                let info = framework.info.clone().unwrap_or_default();
                return self.ends.push(Happening::FrameworkRemoved(Box::new(info)));
            }
            Some(known) if same_framework(known, framework) => return,
            Some(_) => Happening::FrameworkUpdated(Box::new(framework.clone())),
            None if framework.completed => return,
            None => Happening::FrameworkAdded(Box::new(framework.clone())),
        };
        self.happenings.push(told);
    }

    fn task(&mut self, before: &Cluster, task: &Task, place: TaskPlace) {
        let (framework, id) = (&task.framework_id.value, &task.task_id.value);
        let moved = self.moved.remove(&(framework.clone(), id.clone()));
        let elsewhere = [TaskPlace::Live, TaskPlace::Unreachable];
        // A completed task does not come back: a live one of the same id is another.
        let there = || elsewhere.iter().find_map(|at| before.task_at(framework, *at as i32, id));
        let previous = before.task_at(framework, place as i32, id).or(moved.as_ref());
        let previous = if place == TaskPlace::Live { previous } else { previous.or_else(there) };
        match previous {
            None if place == TaskPlace::Completed => {}
            None => self.happenings.push(Happening::TaskAdded(Box::new(task.clone()))),
            Some(previous) => self.happenings.extend(updated(previous, task)),
        }
    }

    fn close(mut self) -> Self {
        self.happenings.append(&mut self.ends);
        self.moved.clear();
        self
    }
}

/// The update that led from one form of a task to the next, when it is one that readers are told of.
fn updated(previous: &Task, task: &Task) -> Option<Happening> {
    let status = task.statuses.last()?;
    let before = previous.statuses.last();
    let check = [Reason::TaskHealthCheckStatusUpdated, Reason::TaskCheckStatusUpdated];
    let newer =
        before.is_none_or(|before| before.uuid != status.uuid || before.timestamp != status.timestamp);
    let tells = before.is_none_or(|before| before.state != status.state)
        || (newer && status.reason.is_some() && check.contains(&status.reason()));
    tells.then(|| Happening::TaskUpdated {
        framework_id: task.framework_id.clone(),
        status: Box::new(status.clone()),
        state: task.state(),
    })
}

fn is_known(before: &Cluster, agent: &str) -> bool {
    before.agents.get(agent).is_some_and(|agent| is_registered(agent))
}

fn is_registered(agent: &Agent) -> bool {
    !agent.recovered && !is_away(agent)
}

/// Whether only figures differ.
fn same_framework(a: &Framework, b: &Framework) -> bool {
    let key = |framework: &Framework| {
        (framework.active, framework.connected, framework.recovered, framework.reregistered_at_ms)
    };
    a.info == b.info && a.offer_constraints == b.offer_constraints && key(a) == key(b)
}

/// Where batches are published; a copy of the view publishes nothing.
#[derive(Debug)]
pub(super) struct Feed(Option<broadcast::Sender<Arc<Batch>>>);

/// A reader's side: batches in order; an error once it was too slow, or the view began anew.
pub(crate) type Reader = broadcast::Receiver<Arc<Batch>>;

impl Default for Feed {
    fn default() -> Self {
        Self(Some(broadcast::Sender::new(BEHIND)))
    }
}

impl Clone for Feed {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Feed {
    pub(super) fn has_readers(&self) -> bool {
        self.0.as_ref().is_some_and(|readers| readers.receiver_count() > 0)
    }

    pub(super) fn subscribe(&self) -> Reader {
        match &self.0 {
            Some(readers) => readers.subscribe(),
            // Ended already.
            None => broadcast::channel(1).1,
        }
    }

    pub(super) fn publish(&self, batch: Batch) {
        let batch = batch.close();
        if let (Some(readers), false) = (&self.0, batch.happenings.is_empty()) {
            // A reader that went away meanwhile is no failure.
            let _ = readers.send(Arc::new(batch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::{
        meshos::allocator::v1::{Delta, TaskKey, WatchResponse, watch_response},
        mesos::v1 as mesos,
        packed,
    };

    fn apply(cluster: &mut Cluster, changes: Vec<Body>) {
        let changes = changes.into_iter().map(|body| Change { body: Some(body) }).collect();
        let body = Some(watch_response::Body::Delta(Delta { changes }));
        cluster.apply(WatchResponse { epoch: 1, revision: 1, body });
    }

    fn heard(reader: &mut Reader) -> Vec<Happening> {
        let mut all = Vec::new();
        while let Ok(batch) = reader.try_recv() {
            all.extend(batch.happenings.iter().cloned());
        }
        all
    }

    fn status(state: TaskState, uuid: u8) -> TaskStatus {
        let uuid = Some(Bytes::copy_from_slice(&[uuid; 16]));
        TaskStatus { state: state as i32, uuid, ..Default::default() }
    }

    fn task(place: TaskPlace, state: TaskState, statuses: Vec<TaskStatus>) -> Body {
        let task = Task {
            task_id: mesos::TaskId { value: "t".to_owned() },
            framework_id: FrameworkId { value: "f".to_owned() },
            state: state as i32,
            statuses,
            ..Default::default()
        };
        Body::Task(Box::new(packed::Task::new(&task, place)))
    }

    fn removed(place: TaskPlace) -> Body {
        let place = place as i32;
        Body::TaskRemoved(TaskKey { framework_id: "f".to_owned(), task_id: "t".to_owned(), place })
    }

    fn framework(completed: bool) -> Framework {
        let info = FrameworkInfo { id: Some(FrameworkId { value: "f".to_owned() }), ..Default::default() };
        Framework { info: Some(info), completed, connected: !completed, ..Default::default() }
    }

    fn states(happenings: &[Happening]) -> Vec<String> {
        let name = |happening: &Happening| match happening {
            Happening::TaskAdded(task) => format!("added {:?}", task.state()),
            Happening::TaskUpdated { status, state, .. } => format!("{:?} {state:?}", status.state()),
            Happening::FrameworkRemoved(_) => "framework removed".to_owned(),
            other => format!("{other:?}").chars().take_while(|c| c.is_alphabetic()).collect(),
        };
        happenings.iter().map(name).collect()
    }

    #[test]
    fn mesos_c72_a_task_is_added_and_then_updated_once_for_each_state() {
        use TaskState::{TaskFinished, TaskRunning, TaskStaging, TaskStarting};
        let mut cluster = Cluster::default();
        let mut reader = cluster.subscribe();
        let live = TaskPlace::Live;
        let (starting, running) = (status(TaskStarting, 1), status(TaskRunning, 2));
        let done = vec![starting.clone(), running.clone(), status(TaskFinished, 3)];
        apply(&mut cluster, vec![task(live, TaskStaging, vec![])]);
        apply(&mut cluster, vec![task(live, TaskStarting, vec![starting.clone()])]);
        apply(&mut cluster, vec![task(live, TaskFinished, vec![starting, running])]);
        apply(&mut cluster, vec![task(live, TaskFinished, done.clone())]);
        apply(&mut cluster, vec![removed(live), task(TaskPlace::Completed, TaskFinished, done)]);
        assert_eq!(
            states(&heard(&mut reader)),
            [
                "added TaskStaging",
                "TaskStarting TaskStarting",
                "TaskRunning TaskFinished",
                "TaskFinished TaskFinished"
            ]
        );
    }

    #[test]
    fn a_health_update_is_told_though_the_state_stays() {
        let mut cluster = Cluster::default();
        let mut reader = cluster.subscribe();
        let running = TaskState::TaskRunning;
        apply(&mut cluster, vec![task(TaskPlace::Live, running, vec![status(running, 1)])]);
        apply(&mut cluster, vec![task(TaskPlace::Live, running, vec![status(running, 2)])]);
        let reason = Some(Reason::TaskHealthCheckStatusUpdated as i32);
        let healthy = TaskStatus { reason, ..status(running, 3) };
        apply(&mut cluster, vec![task(TaskPlace::Live, running, vec![healthy.clone()])]);
        apply(&mut cluster, vec![task(TaskPlace::Live, running, vec![healthy])]);
        assert_eq!(states(&heard(&mut reader)), ["added TaskRunning", "TaskRunning TaskRunning"]);
    }

    #[test]
    fn the_end_of_a_framework_comes_after_that_of_its_tasks() {
        let mut cluster = Cluster::default();
        let mut reader = cluster.subscribe();
        let running = TaskState::TaskRunning;
        apply(
            &mut cluster,
            vec![Body::Framework(framework(false)), task(TaskPlace::Live, running, vec![status(running, 1)])],
        );
        let killed = vec![status(running, 1), status(TaskState::TaskKilled, 2)];
        apply(
            &mut cluster,
            vec![
                Body::Framework(framework(true)),
                removed(TaskPlace::Live),
                task(TaskPlace::Completed, TaskState::TaskKilled, killed),
            ],
        );
        assert_eq!(
            states(&heard(&mut reader)),
            ["FrameworkAdded", "added TaskRunning", "TaskKilled TaskKilled", "framework removed"]
        );
    }

    #[test]
    fn agents_are_added_and_removed_but_a_silent_one_is_not_removed() {
        let mut cluster = Cluster::default();
        let mut reader = cluster.subscribe();
        let info =
            |id: &str| mesos::AgentInfo { id: Some(AgentId { value: id.to_owned() }), ..Default::default() };
        let agent = Agent { info: Some(info("a")), ..Default::default() };
        let away = Agent { unreachable: true, ..agent.clone() };
        apply(&mut cluster, vec![Body::Agent(Agent { recovered: true, ..agent.clone() })]);
        apply(&mut cluster, vec![Body::Agent(agent.clone()), Body::Agent(agent.clone())]);
        apply(&mut cluster, vec![Body::Agent(away)]);
        apply(&mut cluster, vec![Body::Agent(agent.clone())]);
        apply(&mut cluster, vec![Body::AgentRemoved("a".to_owned())]);
        let added = Happening::AgentAdded(Box::new(agent));
        let gone = Happening::AgentRemoved(AgentId { value: "a".to_owned() });
        assert_eq!(heard(&mut reader), [added.clone(), added, gone]);
    }

    #[test]
    fn figures_are_no_news_of_a_framework_and_a_new_picture_ends_the_stream() {
        let mut cluster = Cluster::default();
        let mut reader = cluster.subscribe();
        let used = vec![mesos::Resource::default()];
        apply(&mut cluster, vec![Body::Framework(framework(false))]);
        apply(&mut cluster, vec![Body::Framework(Framework { used, ..framework(false) })]);
        apply(&mut cluster, vec![Body::Framework(Framework { connected: false, ..framework(false) })]);
        assert_eq!(states(&heard(&mut reader)), ["FrameworkAdded", "FrameworkUpdated"]);
        let picture = cluster.clone();
        assert_eq!(picture.subscribe().try_recv().unwrap_err(), broadcast::error::TryRecvError::Closed);
        cluster = Cluster::default();
        assert_eq!(cluster.agents.len(), 0);
        assert_eq!(reader.try_recv().unwrap_err(), broadcast::error::TryRecvError::Closed);
    }
}
