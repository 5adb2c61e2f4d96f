//! What the allocator publishes: agents, frameworks, tasks, offers, settings of roles.

pub(crate) mod happenings;

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::allocator::v1::{
        Agent, Change, Framework, Master, RoleSettings, Snapshot, Task, TaskPlace, WatchResponse,
        change::Body, watch_response::Body as Message,
    },
    mesos::v1::{Offer, TaskState},
};

use happenings::{Batch, Feed, Reader};

/// (framework, place, task); the place tells apart a completed task from a live one of the same id.
type TaskId = (String, i32, String);

/// How many tasks there are of each state, by the state's number.
pub(crate) type Counts = BTreeMap<i32, u32>;

/// The allocator's state as last heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) master: Master,
    /// By agent id.
    pub(crate) agents: BTreeMap<String, Agent>,
    /// By framework id; completed ones too.
    pub(crate) frameworks: BTreeMap<String, Framework>,
    /// What operators have set, by role.
    pub(crate) roles: BTreeMap<String, RoleSettings>,
    tasks: BTreeMap<TaskId, Task>,
    /// By framework id, then offer id.
    offers: BTreeMap<String, BTreeMap<String, Offer>>,
    /// Framework of each offer.
    offer_owners: BTreeMap<String, String>,
    /// By framework id, then agent id.
    counts: BTreeMap<String, BTreeMap<String, Counts>>,
    /// The same, by agent id, then framework id.
    agent_counts: BTreeMap<String, BTreeMap<String, Counts>>,
    feed: Feed,
}

impl Cluster {
    /// Applies a message of the `Watch` stream.
    pub(crate) fn apply(&mut self, message: WatchResponse) {
        match message.body {
            Some(Message::Snapshot(snapshot)) => self.replace(snapshot),
            Some(Message::Delta(delta)) => self.follow(delta.changes),
            None => {}
        }
    }

    /// Everything that happens from now on. Take it together with what it goes on from.
    pub(crate) fn subscribe(&self) -> Reader {
        self.feed.subscribe()
    }

    fn follow(&mut self, changes: Vec<Change>) {
        let watched = self.feed.has_readers();
        let mut batch = Batch::default();
        for change in changes {
            if watched {
                batch.note(self, &change);
            }
            self.change(change);
        }
        if watched {
            self.feed.publish(batch);
        }
    }

    /// Ends what was subscribed: between the old picture and this one anything may have happened.
    fn replace(&mut self, snapshot: Snapshot) {
        *self = Self { master: snapshot.master.unwrap_or_default(), ..Self::default() };
        let agents = snapshot.agents.into_iter().map(Body::Agent);
        let frameworks = snapshot.frameworks.into_iter().map(Body::Framework);
        let tasks = snapshot.tasks.into_iter().map(Body::Task);
        let offers = snapshot.offers.into_iter().map(Body::Offer);
        let roles = snapshot.roles.into_iter().map(Body::Role);
        for body in agents.chain(frameworks).chain(tasks).chain(offers).chain(roles) {
            self.change(Change { body: Some(body) });
        }
    }

    fn change(&mut self, change: Change) {
        match change.body {
            Some(Body::Agent(agent)) => {
                self.agents.insert(agent_id(&agent).to_owned(), agent);
            }
            Some(Body::AgentRemoved(id)) => {
                self.agents.remove(&id);
            }
            Some(Body::Framework(framework)) => {
                self.frameworks.insert(framework_id(&framework).to_owned(), framework);
            }
            Some(Body::FrameworkRemoved(id)) => self.forget_framework(&id),
            Some(Body::Task(task)) => self.put_task(task),
            Some(Body::TaskRemoved(key)) => self.remove_task(&(key.framework_id, key.place, key.task_id)),
            Some(Body::Offer(offer)) => self.put_offer(offer),
            Some(Body::OfferRemoved(id)) => self.remove_offer(&id),
            Some(Body::Role(settings)) => {
                self.roles.insert(settings.role.clone(), settings);
            }
            Some(Body::RoleRemoved(role)) => {
                self.roles.remove(&role);
            }
            Some(
                Body::Executor(_)
                | Body::ExecutorRemoved(_)
                | Body::Operation(_)
                | Body::OperationRemoved(_)
                | Body::AgentUsage(_)
                | Body::FrameworkUsage(_),
            )
            | None => {}
        }
    }

    fn forget_framework(&mut self, id: &str) {
        self.frameworks.remove(id);
        let keys: Vec<TaskId> = self.task_range(id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remove_task(&key);
        }
        for offer in self.offers.remove(id).unwrap_or_default().into_keys() {
            self.offer_owners.remove(&offer);
        }
    }

    fn put_task(&mut self, task: Task) {
        let Some(inner) = &task.task else { return };
        let key = (inner.framework_id.value.clone(), task.place, inner.task_id.value.clone());
        self.remove_task(&key);
        self.count(&task, true);
        self.tasks.insert(key, task);
    }

    fn remove_task(&mut self, key: &TaskId) {
        if let Some(task) = self.tasks.remove(key) {
            self.count(&task, false);
        }
    }

    fn count(&mut self, task: &Task, more: bool) {
        let Some(inner) = &task.task else { return };
        let (framework, agent) = (&inner.framework_id.value, &inner.agent_id.value);
        step(&mut self.counts, (framework, agent), inner.state, more);
        step(&mut self.agent_counts, (agent, framework), inner.state, more);
    }

    fn put_offer(&mut self, offer: Offer) {
        let (id, owner) = (offer.id.value.clone(), offer.framework_id.value.clone());
        self.remove_offer(&id);
        self.offer_owners.insert(id.clone(), owner.clone());
        self.offers.entry(owner).or_default().insert(id, offer);
    }

    fn remove_offer(&mut self, id: &str) {
        let Some(owner) = self.offer_owners.remove(id) else { return };
        if let Some(offers) = self.offers.get_mut(&owner) {
            offers.remove(id);
            if offers.is_empty() {
                self.offers.remove(&owner);
            }
        }
    }

    fn task_range<'a>(&'a self, framework: &str) -> impl Iterator<Item = (&'a TaskId, &'a Task)> {
        let from = (framework.to_owned(), i32::MIN, String::new());
        let framework = framework.to_owned();
        self.tasks.range(from..).take_while(move |((owner, ..), _)| *owner == framework)
    }

    /// A framework's tasks of one place.
    pub(crate) fn tasks_of(
        &self,
        framework: &str,
        place: TaskPlace,
    ) -> impl Iterator<Item = &meshos_proto::mesos::v1::Task> {
        self.task_range(framework)
            .filter(move |((_, at, _), _)| *at == place as i32)
            .filter_map(|(_, t)| t.task.as_ref())
    }

    /// A task in one place.
    fn task_at(&self, framework: &str, place: i32, id: &str) -> Option<&meshos_proto::mesos::v1::Task> {
        self.tasks.get(&(framework.to_owned(), place, id.to_owned()))?.task.as_ref()
    }

    /// All tasks, with their place.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (&meshos_proto::mesos::v1::Task, TaskPlace)> {
        self.tasks.values().filter_map(|task| Some((task.task.as_ref()?, task.place())))
    }

    /// A framework's open offers.
    pub(crate) fn offers_of(&self, framework: &str) -> impl Iterator<Item = &Offer> {
        self.offers.get(framework).into_iter().flat_map(BTreeMap::values)
    }

    /// Number of open offers.
    pub(crate) fn offer_count(&self) -> usize {
        self.offer_owners.len()
    }

    /// A framework's tasks by agent.
    pub(crate) fn counts_of_framework(&self, id: &str) -> Option<&BTreeMap<String, Counts>> {
        self.counts.get(id)
    }

    /// An agent's tasks by framework.
    pub(crate) fn counts_of_agent(&self, id: &str) -> Option<&BTreeMap<String, Counts>> {
        self.agent_counts.get(id)
    }

    /// Tasks of one state in the whole cluster.
    pub(crate) fn count_of(&self, state: TaskState) -> u32 {
        let all = self.counts.values().flat_map(BTreeMap::values);
        all.filter_map(|counts| counts.get(&(state as i32))).sum()
    }
}

/// Counts one task more or less under two keys, and forgets what is empty.
fn step(
    counts: &mut BTreeMap<String, BTreeMap<String, Counts>>,
    (outer, inner): (&str, &str),
    state: i32,
    more: bool,
) {
    let group = counts.entry(outer.to_owned()).or_default();
    let states = group.entry(inner.to_owned()).or_default();
    let count = states.entry(state).or_default();
    *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
    if *count == 0 {
        states.remove(&state);
    }
    if states.is_empty() {
        group.remove(inner);
    }
    if group.is_empty() {
        counts.remove(outer);
    }
}

/// An agent's id; empty when it has none.
pub(crate) fn agent_id(agent: &Agent) -> &str {
    agent.info.as_ref().and_then(|info| info.id.as_ref()).map_or("", |id| &id.value)
}

/// A framework's id; empty when it has none.
pub(crate) fn framework_id(framework: &Framework) -> &str {
    framework.info.as_ref().and_then(|info| info.id.as_ref()).map_or("", |id| &id.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::{
        meshos::allocator::v1::{Delta, TaskKey},
        mesos::v1::{self as mesos},
    };

    fn task(id: &str, state: TaskState, place: TaskPlace) -> Task {
        let task = mesos::Task {
            task_id: mesos::TaskId { value: id.to_owned() },
            framework_id: mesos::FrameworkId { value: "f".to_owned() },
            agent_id: mesos::AgentId { value: "a".to_owned() },
            state: state as i32,
            ..Default::default()
        };
        Task { task: Some(task), place: place as i32 }
    }

    fn delta(changes: Vec<Body>) -> WatchResponse {
        let changes = changes.into_iter().map(|body| Change { body: Some(body) }).collect();
        WatchResponse { epoch: 1, revision: 2, body: Some(Message::Delta(Delta { changes })) }
    }

    #[test]
    fn counts_follow_the_tasks() {
        let mut cluster = Cluster::default();
        let live = TaskPlace::Live;
        cluster.apply(delta(vec![
            Body::Task(task("1", TaskState::TaskStaging, live)),
            Body::Task(task("2", TaskState::TaskStaging, live)),
            Body::Task(task("1", TaskState::TaskRunning, live)),
        ]));
        assert_eq!(cluster.count_of(TaskState::TaskStaging), 1);
        assert_eq!(cluster.count_of(TaskState::TaskRunning), 1);
        assert_eq!(cluster.counts_of_agent("a").unwrap()["f"].len(), 2);
        cluster.apply(delta(vec![Body::FrameworkRemoved("f".to_owned())]));
        assert!(cluster.counts_of_framework("f").is_none());
        assert!(cluster.counts_of_agent("a").is_none());
        assert_eq!(cluster.tasks().count(), 0);
    }

    #[test]
    fn a_completed_task_and_a_live_one_of_the_same_id_are_two() {
        let mut cluster = Cluster::default();
        cluster.apply(delta(vec![
            Body::Task(task("1", TaskState::TaskFinished, TaskPlace::Completed)),
            Body::Task(task("1", TaskState::TaskRunning, TaskPlace::Live)),
        ]));
        assert_eq!(cluster.tasks_of("f", TaskPlace::Completed).count(), 1);
        let place = TaskPlace::Live as i32;
        let key = TaskKey { framework_id: "f".to_owned(), task_id: "1".to_owned(), place };
        cluster.apply(delta(vec![Body::TaskRemoved(key)]));
        assert_eq!(cluster.tasks_of("f", TaskPlace::Completed).count(), 1);
        assert_eq!(cluster.tasks_of("f", TaskPlace::Live).count(), 0);
    }

    #[test]
    fn offers_are_found_by_framework_and_removed_by_id() {
        let mut cluster = Cluster::default();
        let offer = Offer {
            id: mesos::OfferId { value: "o".to_owned() },
            framework_id: mesos::FrameworkId { value: "f".to_owned() },
            ..Default::default()
        };
        cluster.apply(delta(vec![Body::Offer(offer)]));
        assert_eq!((cluster.offers_of("f").count(), cluster.offer_count()), (1, 1));
        cluster.apply(delta(vec![Body::OfferRemoved("o".to_owned()), Body::OfferRemoved("o".to_owned())]));
        assert_eq!((cluster.offers_of("f").count(), cluster.offer_count()), (0, 0));
    }

    #[test]
    fn a_snapshot_replaces_everything() {
        let mut cluster = Cluster::default();
        cluster.apply(delta(vec![Body::Task(task("1", TaskState::TaskRunning, TaskPlace::Live))]));
        let snapshot = Snapshot {
            tasks: vec![task("2", TaskState::TaskRunning, TaskPlace::Live)],
            ..Default::default()
        };
        cluster.apply(WatchResponse { epoch: 2, revision: 1, body: Some(Message::Snapshot(snapshot)) });
        let ids: Vec<_> = cluster.tasks().map(|(task, _)| task.task_id.value.as_str()).collect();
        assert_eq!(ids, ["2"]);
        assert_eq!(cluster.count_of(TaskState::TaskRunning), 1);
    }
}
