//! What a reader of Watch makes of the changes.

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::allocator::v1::{Agent, Framework, RoleSettings, Snapshot, Task, change::Body},
    mesos::v1 as pb,
};

/// All that is known, by key.
#[derive(Default, PartialEq, Debug)]
pub(super) struct View {
    pub(super) agents: BTreeMap<String, Agent>,
    pub(super) frameworks: BTreeMap<String, Framework>,
    pub(super) tasks: BTreeMap<(String, String, i32), Task>,
    pub(super) offers: BTreeMap<String, pb::Offer>,
    pub(super) roles: BTreeMap<String, RoleSettings>,
}

pub(super) fn task_key(task: &Task) -> (String, String, i32) {
    let inner = task.task.as_ref().unwrap();
    (inner.framework_id.value.clone(), inner.task_id.value.clone(), task.place)
}

impl View {
    pub(super) fn of(snapshot: Snapshot) -> Self {
        let mut view = Self::default();
        let agents = snapshot.agents.into_iter().map(Body::Agent);
        let frameworks = snapshot.frameworks.into_iter().map(Body::Framework);
        let tasks = snapshot.tasks.into_iter().map(Body::Task);
        let offers = snapshot.offers.into_iter().map(Body::Offer);
        let roles = snapshot.roles.into_iter().map(Body::Role);
        agents.chain(frameworks).chain(tasks).chain(offers).chain(roles).for_each(|body| view.apply(body));
        view
    }

    pub(super) fn apply(&mut self, body: Body) {
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
            Body::Task(task) => drop(self.tasks.insert(task_key(&task), task)),
            Body::TaskRemoved(key) => drop(self.tasks.remove(&(key.framework_id, key.task_id, key.place))),
            Body::Offer(offer) => drop(self.offers.insert(offer.id.value.clone(), offer)),
            Body::OfferRemoved(id) => drop(self.offers.remove(&id)),
            Body::Role(role) => drop(self.roles.insert(role.role.clone(), role)),
            Body::RoleRemoved(role) => drop(self.roles.remove(&role)),
            Body::Executor(_)
            | Body::ExecutorRemoved(_)
            | Body::Operation(_)
            | Body::OperationRemoved(_)
            | Body::AgentUsage(_)
            | Body::FrameworkUsage(_) => {}
        }
    }
}
