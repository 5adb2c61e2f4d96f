//! What a reader of Watch makes of the changes.

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::allocator::v1::{Agent, Executor, Framework, Operation, RoleSettings, Snapshot, change::Body},
    mesos::v1 as pb,
    packed::Task,
};

/// All that is known, by key.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct View {
    pub(crate) agents: BTreeMap<String, Agent>,
    pub(crate) frameworks: BTreeMap<String, Framework>,
    pub(crate) tasks: BTreeMap<(String, String, i32), Task>,
    pub(crate) offers: BTreeMap<String, pb::Offer>,
    pub(crate) roles: BTreeMap<String, RoleSettings>,
    /// By framework, agent and executor.
    pub(crate) executors: BTreeMap<(String, String, String), Executor>,
    pub(crate) operations: BTreeMap<Vec<u8>, Operation>,
}

pub(crate) fn task_key(task: &Task) -> (String, String, i32) {
    let inner = task.unpack().unwrap();
    (inner.framework_id.value.clone(), inner.task_id.value.clone(), task.place)
}

impl View {
    pub(crate) fn of(snapshot: Snapshot) -> Self {
        let mut view = Self::default();
        let agents = snapshot.agents.into_iter().map(Body::Agent);
        let frameworks = snapshot.frameworks.into_iter().map(Body::Framework);
        let tasks = snapshot.tasks.into_iter().map(|task| Body::Task(Box::new(task)));
        let offers = snapshot.offers.into_iter().map(Body::Offer);
        let roles = snapshot.roles.into_iter().map(Body::Role);
        let executors = snapshot.executors.into_iter().map(|executor| Body::Executor(Box::new(executor)));
        let operations =
            snapshot.operations.into_iter().map(|operation| Body::Operation(Box::new(operation)));
        let all = agents.chain(frameworks).chain(tasks).chain(offers).chain(roles);
        all.chain(executors).chain(operations).for_each(|body| view.apply(body));
        view
    }

    pub(crate) fn apply(&mut self, body: Body) {
        match body {
            Body::Agent(agent) => {
                let id = agent.info.as_ref().unwrap().id.clone().unwrap().value;
                self.agents.insert(id, agent);
            }
            Body::AgentRemoved(id) => drop(self.agents.remove(&id)),
            Body::Framework(framework) => {
                let id = framework.info.as_ref().unwrap().id.clone().unwrap().value;
                self.frameworks.insert(id, framework);
            }
            Body::FrameworkRemoved(id) => {
                self.frameworks.remove(&id);
                self.tasks.retain(|(framework, ..), _| *framework != id);
            }
            Body::Task(task) => drop(self.tasks.insert(task_key(&task), *task)),
            Body::TaskRemoved(key) => drop(self.tasks.remove(&(key.framework_id, key.task_id, key.place))),
            Body::Offer(offer) => drop(self.offers.insert(offer.id.value.clone(), offer)),
            Body::OfferRemoved(id) => drop(self.offers.remove(&id)),
            Body::Role(role) => drop(self.roles.insert(role.role.clone(), role)),
            Body::RoleRemoved(role) => drop(self.roles.remove(&role)),
            Body::Executor(executor) => {
                let info = executor.info.as_ref().unwrap();
                let framework = info.framework_id.as_ref().unwrap().value.clone();
                let key = (framework, executor.agent_id.clone(), info.executor_id.value.clone());
                self.executors.insert(key, *executor);
            }
            Body::ExecutorRemoved(key) => {
                let gone = self.executors.remove(&(key.framework_id, key.agent_id, key.executor_id));
                assert!(gone.is_some(), "an executor that nobody knew is removed");
            }
            Body::Operation(operation) => {
                let uuid = operation.operation.as_ref().unwrap().uuid.value.to_vec();
                self.operations.insert(uuid, *operation);
            }
            Body::OperationRemoved(uuid) => drop(self.operations.remove(&uuid[..])),
            Body::AgentUsage(usage) => {
                let agent = self.agents.get_mut(&usage.agent_id).expect("usage of an agent that nobody knew");
                (agent.used, agent.offered) = (usage.used, usage.offered);
            }
            Body::FrameworkUsage(usage) => {
                let framework = self.frameworks.get_mut(&usage.framework_id);
                let framework = framework.expect("usage of a framework that nobody knew");
                (framework.used, framework.offered) = (usage.used, usage.offered);
            }
        }
    }
}
