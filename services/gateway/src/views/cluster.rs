//! What the allocator publishes: agents, frameworks, tasks, offers, executors, operations, settings of roles.
//!
//! The work of a change does not depend on how much there is. What is large is shared, so that a copy of the whole
//! (a picture that is rendered while the view goes on) copies no messages.

mod counts;
pub(crate) mod happenings;
mod map;
mod sums;
mod tasks;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::{
        Agent, AgentUsage, Change, Executor, ExecutorKey, Framework, FrameworkUsage, Master, RoleSettings,
        Snapshot, TaskPlace, WatchResponse, change::Body, watch_response::Body as Message,
    },
    mesos::v1::{Offer, Operation, Task, TaskState},
};

pub(crate) use counts::Counts;
use happenings::{Batch, Feed, Reader};
pub(crate) use map::Map;
pub(crate) use sums::{Amounts, Sums};
pub(crate) use tasks::Page;
use tasks::Tasks;

/// An id; copies share the text.
pub(crate) type Key = Arc<str>;

/// A framework's executors, by agent id and executor id.
type Executors = BTreeMap<(String, String), Arc<Executor>>;

/// The allocator's state as last heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) master: Master,
    /// By agent id.
    pub(crate) agents: Map<Arc<Agent>>,
    /// By framework id; completed ones too.
    pub(crate) frameworks: Map<Arc<Framework>>,
    /// What operators have set, by role.
    pub(crate) roles: BTreeMap<String, RoleSettings>,
    sums: Sums,
    tasks: Tasks,
    /// By framework id, then offer id.
    offers: Map<Map<Arc<Offer>>>,
    /// Framework of each offer.
    offer_owners: Map<Key>,
    /// By framework id.
    executors: Map<Arc<Executors>>,
    /// By the bytes of their uuid.
    operations: BTreeMap<Bytes, Arc<Operation>>,
    feed: Feed,
}

impl Cluster {
    /// Applies a message of the `Watch` stream. A snapshot, or a part of one, is added to what is there.
    pub(crate) fn apply(&mut self, message: WatchResponse) {
        match message.body {
            Some(Message::Snapshot(snapshot)) => self.fill(snapshot),
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

    fn fill(&mut self, snapshot: Snapshot) {
        if let Some(master) = snapshot.master {
            self.master = master;
        }
        let agents = snapshot.agents.into_iter().map(Body::Agent);
        let frameworks = snapshot.frameworks.into_iter().map(Body::Framework);
        let tasks = snapshot.tasks.into_iter().map(|task| Body::Task(Box::new(task)));
        let offers = snapshot.offers.into_iter().map(Body::Offer);
        let roles = snapshot.roles.into_iter().map(Body::Role);
        let executors = snapshot.executors.into_iter().map(|executor| Body::Executor(Box::new(executor)));
        let operations =
            snapshot.operations.into_iter().map(|operation| Body::Operation(Box::new(operation)));
        let rest = offers.chain(roles).chain(executors).chain(operations);
        for body in agents.chain(frameworks).chain(tasks).chain(rest) {
            self.change(Change { body: Some(body) });
        }
    }

    fn change(&mut self, change: Change) {
        let Some(body) = change.body else { return };
        match body {
            Body::Agent(agent) => self.put_agent(agent),
            Body::AgentRemoved(id) => self.remove_agent(&id),
            Body::AgentUsage(usage) => self.use_agent(usage),
            Body::Framework(framework) => {
                self.frameworks.insert(framework_id(&framework).into(), Arc::new(framework));
            }
            Body::FrameworkRemoved(id) => self.forget_framework(&id),
            Body::FrameworkUsage(usage) => self.use_framework(usage),
            Body::Task(task) => self.tasks.put(&task),
            Body::TaskRemoved(key) => self.tasks.remove(&key.framework_id, key.place, &key.task_id),
            Body::Offer(offer) => self.put_offer(offer),
            Body::OfferRemoved(id) => self.remove_offer(&id),
            Body::Role(settings) => drop(self.roles.insert(settings.role.clone(), settings)),
            Body::RoleRemoved(role) => drop(self.roles.remove(&role)),
            Body::Executor(executor) => self.put_executor(*executor),
            Body::ExecutorRemoved(key) => self.remove_executor(key),
            Body::Operation(operation) => {
                if let Some(operation) = operation.operation {
                    self.operations.insert(operation.uuid.value.clone(), Arc::new(operation));
                }
            }
            Body::OperationRemoved(uuid) => drop(self.operations.remove(&uuid)),
        }
    }

    fn put_agent(&mut self, agent: Agent) {
        self.sums.step(&agent, true);
        let agent = Arc::new(agent);
        if let Some(known) = self.agents.get_mut(agent_id(&agent)) {
            let old = std::mem::replace(known, agent);
            self.sums.step(&old, false);
        } else {
            self.agents.insert(agent_id(&agent).into(), agent);
        }
    }

    fn remove_agent(&mut self, id: &str) {
        if let Some(agent) = self.agents.remove(id) {
            self.sums.step(&agent, false);
        }
    }

    fn use_agent(&mut self, usage: AgentUsage) {
        let Some(agent) = self.agents.get_mut(&usage.agent_id) else { return };
        let agent = Arc::make_mut(agent);
        self.sums.usage(agent, false);
        (agent.used, agent.offered) = (usage.used, usage.offered);
        self.sums.usage(agent, true);
    }

    fn use_framework(&mut self, usage: FrameworkUsage) {
        let Some(framework) = self.frameworks.get_mut(&usage.framework_id) else { return };
        let framework = Arc::make_mut(framework);
        (framework.used, framework.offered) = (usage.used, usage.offered);
    }

    fn forget_framework(&mut self, id: &str) {
        self.frameworks.remove(id);
        self.executors.remove(id);
        self.tasks.forget(id);
        for (offer, _) in self.offers.remove(id).unwrap_or_default().iter() {
            self.offer_owners.remove(offer);
        }
    }

    fn put_offer(&mut self, offer: Offer) {
        self.remove_offer(&offer.id.value);
        let id = Key::from(offer.id.value.as_str());
        let owner = offer.framework_id.value.as_str();
        let owner = self.offers.key(owner).map_or_else(|| owner.into(), Arc::clone);
        self.offer_owners.insert(Arc::clone(&id), Arc::clone(&owner));
        self.offers.entry_mut(&owner).insert(id, Arc::new(offer));
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

    fn put_executor(&mut self, executor: Executor) {
        let Some(info) = &executor.info else { return };
        let framework = info.framework_id.as_ref().map_or("", |id| &id.value);
        let key = (executor.agent_id.clone(), info.executor_id.value.clone());
        Arc::make_mut(self.executors.entry_mut(framework)).insert(key, Arc::new(executor));
    }

    fn remove_executor(&mut self, key: ExecutorKey) {
        let Some(executors) = self.executors.get_mut(&key.framework_id) else { return };
        let executors = Arc::make_mut(executors);
        executors.remove(&(key.agent_id, key.executor_id));
        if executors.is_empty() {
            self.executors.remove(&key.framework_id);
        }
    }

    /// What the agents have together.
    pub(crate) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// A framework's tasks of one place.
    pub(crate) fn tasks_of(&self, framework: &str, place: TaskPlace) -> impl Iterator<Item = &Task> {
        self.tasks.of(framework, place)
    }

    /// A task in one place.
    fn task_at(&self, framework: &str, place: i32, id: &str) -> Option<&Task> {
        self.tasks.get(framework, place, id)
    }

    /// All tasks, with their place.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (&Task, TaskPlace)> {
        self.tasks.all()
    }

    /// A page of all tasks.
    pub(crate) fn page(&self, page: &Page<'_>) -> Vec<&Arc<Task>> {
        self.tasks.page(page)
    }

    /// A framework's open offers.
    pub(crate) fn offers_of(&self, framework: &str) -> impl Iterator<Item = &Offer> {
        self.offers.get(framework).into_iter().flat_map(Map::values).map(AsRef::as_ref)
    }

    /// All open offers.
    pub(crate) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.offers.values().flat_map(Map::values).map(AsRef::as_ref)
    }

    /// Number of open offers.
    pub(crate) fn offer_count(&self) -> usize {
        self.offer_owners.len()
    }

    /// Executors that a framework gave, by agent.
    pub(crate) fn executors_of(&self, framework: &str) -> impl Iterator<Item = &Executor> {
        self.executors.get(framework).into_iter().flat_map(|of| of.values()).map(AsRef::as_ref)
    }

    /// All executors that frameworks gave.
    pub(crate) fn executors(&self) -> impl Iterator<Item = &Executor> {
        self.executors.values().flat_map(|of| of.values()).map(AsRef::as_ref)
    }

    /// Operations that are not over yet, or not acknowledged.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values().map(AsRef::as_ref)
    }

    /// A framework's tasks.
    pub(crate) fn counts_in_framework(&self, id: &str) -> Option<&Counts> {
        self.tasks.of_framework().get(id)
    }

    /// A framework's tasks by agent.
    pub(crate) fn counts_of_framework(&self, id: &str) -> Option<&Map<Counts>> {
        self.tasks.by_framework().get(id)
    }

    /// An agent's tasks by framework.
    pub(crate) fn counts_of_agent(&self, id: &str) -> Option<&Map<Counts>> {
        self.tasks.by_agent().get(id)
    }

    /// Tasks of one state in the whole cluster.
    pub(crate) fn count_of(&self, state: TaskState) -> u32 {
        self.tasks.counts().get(state)
    }
}

/// Whether the agent is no part of the cluster: out of contact, or declared gone.
pub(crate) fn is_away(agent: &Agent) -> bool {
    agent.unreachable || agent.gone
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
mod speed;
#[cfg(test)]
mod tests;
