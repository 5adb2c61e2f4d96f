//! Executors that frameworks gave, of tasks and of task groups: an agent has each of them once, from the launch of
//! its first task until it ends. Executors of command tasks are the agent's own affair and are not known here.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::allocator::v1::{self as wire, ExecutorEnded, ExecutorKey, allocator_message, change},
    mesos::v1::{self as pb, scheduler::call},
};
use meshos_types::{AgentId, ExecutorId, FrameworkId, Resources, RoleName, TaskId};

use super::{Core, LinkId, account::Place, events, publish::executor_view};

/// An executor on one agent.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    /// As its agent has it: with the framework's id, its resources allocated.
    pub(crate) info: pb::ExecutorInfo,
    pub(crate) role: RoleName,
    /// Not allocated to a role, as the agent's own.
    pub(crate) resources: Resources,
}

type Key = (AgentId, FrameworkId, ExecutorId);

/// All executors of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Executors(BTreeMap<Key, Executor>);

impl Executors {
    pub(crate) fn get(&self, agent: &AgentId, framework: &FrameworkId, id: &str) -> Option<&Executor> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(agent.clone(), framework.clone(), ExecutorId::new(id)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&AgentId, &Executor)> {
        self.0.iter().map(|((agent, ..), executor)| (agent, executor))
    }

    /// The executors of a framework on an agent, as an offer names them.
    pub(crate) fn ids(&self, agent: &AgentId, framework: &FrameworkId) -> Vec<pb::ExecutorId> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let of_agent = self.of_agent(agent).filter(|(_, of, _)| of == framework);
        of_agent.map(|(_, _, id)| id.to_proto()).collect()
    }

    /// The frameworks that have executors on an agent.
    pub(crate) fn frameworks(&self, agent: &AgentId) -> Vec<FrameworkId> {
        let mut frameworks: Vec<_> =
            self.of_agent(agent).map(|(_, framework, _)| framework.clone()).collect();
        frameworks.dedup();
        frameworks
    }

    fn of_agent<'a>(&'a self, agent: &'a AgentId) -> impl Iterator<Item = &'a Key> {
        let begin = (agent.clone(), FrameworkId::new(""), ExecutorId::new(""));
        self.0.range(begin..).map(|(key, _)| key).take_while(move |key| key.0 == *agent)
    }
}

impl Core {
    /// An executor holds its resources from now on. Its framework and agent are known, and it is not.
    pub(super) fn enter_executor(&mut self, place: Place, info: pb::ExecutorInfo, resources: Resources) {
        self.hold_used(&place, &resources);
        if let Some(framework) = self.frameworks.get_mut(&place.framework) {
            framework.join_agent(&place.agent);
        }
        let id = ExecutorId::from(&info.executor_id);
        let executor = Executor { info, role: place.role, resources };
        let shown = executor_view((&place.agent, &executor));
        self.dirty.push(change::Body::Executor(Box::new(shown)));
        self.executors.0.insert((place.agent, place.framework, id), executor);
    }

    /// An executor has ended; whether it was known.
    fn end_executor(&mut self, key: &Key) -> bool {
        let Some(executor) = self.executors.0.remove(key) else { return false };
        let (agent, framework, id) = key.clone();
        let removed = ExecutorKey {
            framework_id: framework.to_string(),
            agent_id: agent.to_string(),
            executor_id: id.to_string(),
        };
        self.dirty.push(change::Body::ExecutorRemoved(removed));
        if let Some(known) = self.frameworks.get_mut(&framework) {
            known.leave_agent(&agent);
        }
        self.free_used(&Place { agent, framework, role: executor.role }, &executor.resources);
        true
    }

    /// All executors of an agent for which `of` holds have ended.
    pub(super) fn end_executors(&mut self, agent: &AgentId, of: impl Fn(&FrameworkId, &ExecutorId) -> bool) {
        let ended: Vec<Key> =
            self.executors.of_agent(agent).filter(|(_, framework, id)| of(framework, id)).cloned().collect();
        for key in ended {
            self.end_executor(&key);
        }
    }

    /// The framework is over, and its executors with it.
    pub(super) fn end_executors_of(&mut self, framework: &FrameworkId) {
        let Some(known) = self.frameworks.get(framework) else { return };
        for agent in known.agents.keys().cloned().collect::<Vec<_>>() {
            self.end_executors(&agent, |of, _| of == framework);
        }
    }

    /// What a report says of executors: the agent knows best.
    pub(super) fn adopt_executors(&mut self, agent: &AgentId, reported: Vec<pb::ExecutorInfo>) {
        let mut stay = BTreeSet::new();
        for info in reported {
            let Some(framework) = info.framework_id.as_ref().map(FrameworkId::from) else { continue };
            if !self.frameworks.contains_key(&framework) {
                continue;
            }
            let key = (agent.clone(), framework, ExecutorId::from(&info.executor_id));
            if !stay.insert((key.1.clone(), key.2.clone())) {
                continue;
            }
            if self.executors.0.get(&key).is_some_and(|known| known.info == info) {
                continue;
            }
            self.end_executor(&key);
            self.adopt_executor(key, info);
        }
        self.end_executors(agent, |framework, id| !stay.contains(&(framework.clone(), id.clone())));
    }

    fn adopt_executor(&mut self, (agent, framework, _): Key, info: pb::ExecutorInfo) {
        let Some(known) = self.frameworks.get(&framework) else { return };
        let resources = Resources::from_proto(&info.resources).unwrap_or_else(|error| {
            // It runs all the same: it is shown, and holds nothing.
            tracing::warn!(agent_id = %agent, framework_id = %framework, executor_id = info.executor_id.value, %error,
                "executor has resources that are not valid");
            Resources::new()
        });
        let role = resources.iter().find_map(|resource| resource.allocation.clone());
        let role = role.unwrap_or_else(|| known.default_role());
        self.enter_executor(Place { agent, framework, role }, info, resources.unallocated());
    }

    /// An executor has ended on its agent: its framework is told, best effort.
    pub(super) fn executor_ended(&mut self, link: LinkId, ended: ExecutorEnded) {
        self.counters.add("master/messages_exited_executor", 1);
        let Some(agent) = self.links.get(&link).cloned() else { return };
        let (Some(framework), Some(id)) = (ended.framework_id, ended.executor_id) else { return };
        let key = (agent, FrameworkId::from(framework), ExecutorId::from(id));
        if !self.is_started_anew(&key) && !self.end_executor(&key) {
            return;
        }
        let failure = events::executor_ended(&key.0, &key.2, ended.wait_status);
        self.send(&key.1, failure);
    }

    /// Whether the end crossed a launch: the agent tells the ends of an executor's tasks before its own, so one that is
    /// staging still came later, and the agent starts the executor anew for it.
    fn is_started_anew(&self, key: &Key) -> bool {
        let staging = |(of, task): &(FrameworkId, TaskId)| {
            let entry = self.frameworks.get(of).and_then(|known| known.ledger.live.get(task));
            *of == key.1
                && entry.is_some_and(|entry| {
                    entry.task.state() == pb::TaskState::TaskStaging
                        && entry.task.executor() == Some(key.2.as_str())
                })
        };
        self.executors.0.contains_key(key)
            && self.agents.get(&key.0).is_some_and(|agent| agent.tasks.iter().any(staging))
    }

    /// MESSAGE, best effort: whether the executor is there is for its agent to know.
    pub(super) fn message_to_executor(&mut self, id: &FrameworkId, message: call::Message) {
        let agent = AgentId::from(&message.agent_id);
        let Some(link) = self.agents.get(&agent).and_then(|agent| agent.link) else {
            return self.counters.add("master/invalid_framework_to_executor_messages", 1);
        };
        self.counters.add("master/valid_framework_to_executor_messages", 1);
        let message = wire::FrameworkMessage {
            framework_id: Some(id.to_proto()),
            executor_id: Some(message.executor_id),
            data: message.data,
        };
        self.command(link, allocator_message::Body::FrameworkMessage(message));
    }

    /// A message of an executor, for its framework.
    pub(super) fn message_to_framework(&mut self, link: LinkId, message: wire::FrameworkMessage) {
        self.counters.add("master/messages_executor_to_framework", 1);
        let agent = self.links.get(&link).cloned();
        let framework = message.framework_id.map(FrameworkId::from);
        let framework = framework.filter(|framework| self.frameworks.contains_key(framework));
        let (Some(agent), Some(framework), Some(executor)) = (agent, framework, message.executor_id) else {
            return self.counters.add("master/invalid_executor_to_framework_messages", 1);
        };
        self.counters.add("master/valid_executor_to_framework_messages", 1);
        self.send(&framework, events::message(&agent, executor, message.data));
    }

    /// SHUTDOWN: an agent that is away is not told later.
    pub(super) fn shut_down_executor(&mut self, id: &FrameworkId, shutdown: call::Shutdown) {
        let agent = AgentId::from(&shutdown.agent_id);
        let Some(link) = self.agents.get(&agent).and_then(|agent| agent.link) else { return };
        let shutdown = wire::ShutdownExecutor {
            framework_id: Some(id.to_proto()),
            executor_id: Some(shutdown.executor_id),
        };
        self.command(link, allocator_message::Body::ShutdownExecutor(shutdown));
    }
}
