//! What of agents and frameworks is used and offered, told by the roles that it is allocated to.
//!
//! The allocator publishes sums that say nothing of roles, for they change with every offer. Where roles are shown, all
//! offers, tasks and executors are gone through; a document that shows them is as long as that.

use std::collections::HashMap;

use meshos_proto::{
    meshos::allocator::v1::{Agent, Executor, Framework, TaskPlace},
    mesos::v1::{Resource, Task},
};
use meshos_types::{Resources, task_state::frees_resources};

use super::resources;
use crate::views::{
    Cluster,
    cluster::{agent_id, framework_id},
};

/// By agent id.
#[derive(Debug, Default)]
pub(in crate::mesos) struct Allocated<'a> {
    used: HashMap<&'a str, Vec<&'a Resource>>,
    offered: HashMap<&'a str, Vec<&'a Resource>>,
}

impl<'a> Allocated<'a> {
    pub(in crate::mesos) fn of(cluster: &'a Cluster) -> Self {
        let mut this = Self::default();
        let live = cluster.tasks().filter(|(_, place)| *place == TaskPlace::Live);
        for task in live.map(|(task, _)| task).filter(|task| holds(task)) {
            this.used.entry(&task.agent_id.value).or_default().extend(&task.resources);
        }
        for executor in cluster.executors() {
            this.used.entry(&executor.agent_id).or_default().extend(resources_of(executor));
        }
        for offer in cluster.offers() {
            this.offered.entry(&offer.agent_id.value).or_default().extend(&offer.resources);
        }
        this
    }

    pub(in crate::mesos) fn used(&self, agent: &Agent) -> Resources {
        told(self.used.get(agent_id(agent)), &agent.used)
    }

    pub(in crate::mesos) fn offered(&self, agent: &Agent) -> Resources {
        told(self.offered.get(agent_id(agent)), &agent.offered)
    }
}

/// What a framework's tasks and executors use.
pub(in crate::mesos) fn used(cluster: &Cluster, framework: &Framework) -> Resources {
    let id = framework_id(framework);
    let tasks = cluster.tasks_of(id, TaskPlace::Live).filter(|task| holds(task));
    let executors = cluster.executors_of(id).flat_map(resources_of);
    sum(tasks.flat_map(|task| &task.resources).chain(executors))
}

/// What a framework is offered.
pub(in crate::mesos) fn offered(cluster: &Cluster, framework: &Framework) -> Resources {
    sum(cluster.offers_of(framework_id(framework)).flat_map(|offer| &offer.resources))
}

fn holds(task: &Task) -> bool {
    !frees_resources(task.state())
}

fn resources_of(executor: &Executor) -> impl Iterator<Item = &Resource> {
    executor.info.iter().flat_map(|info| &info.resources)
}

/// The sum of the parts, if it is what the allocator says; the allocator knows best.
fn told(parts: Option<&Vec<&Resource>>, known: &[Resource]) -> Resources {
    let known = resources(known);
    let parts = sum(parts.into_iter().flatten().copied());
    if parts.unallocated() == known.unallocated() { parts } else { known }
}

fn sum<'a>(parts: impl Iterator<Item = &'a Resource>) -> Resources {
    resources(&parts.cloned().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use meshos_proto::mesos::v1::{Offer, resource::AllocationInfo};
    use meshos_types::{Format, RoleName, parse_resources};

    use super::*;
    use crate::mesos::render::shape::golden_cluster;

    #[test]
    fn the_captured_cluster_is_told_as_it_was_captured() {
        let cluster = golden_cluster();
        let all = Allocated::of(&cluster);
        let agent = cluster.agents.values().next().unwrap();
        assert_eq!(all.used(agent), resources(&agent.used));
        assert_eq!(all.offered(agent), resources(&agent.offered));
        let framework = cluster.frameworks.values().find(|framework| !framework.completed).unwrap();
        assert_eq!(used(&cluster, framework), resources(&framework.used));
        assert_eq!(offered(&cluster, framework), resources(&framework.offered));
    }

    #[test]
    fn parts_that_do_not_add_up_are_not_told() {
        let of = |text: &str, role: Option<&str>| {
            let mut all =
                parse_resources(text, &RoleName::star()).unwrap().resources.to_proto(Format::PostRefinement);
            for resource in &mut all {
                resource.allocation_info = role.map(|role| AllocationInfo { role: Some(role.to_owned()) });
            }
            all
        };
        let offer = Offer {
            resources: [of("cpus:1", Some("a")), of("cpus:2", Some("b"))].concat(),
            ..Offer::default()
        };
        let parts: Vec<&Resource> = offer.resources.iter().collect();
        assert_eq!(told(Some(&parts), &of("cpus:3", None)), resources(&offer.resources));
        assert_eq!(told(Some(&parts), &of("cpus:4", None)), resources(&of("cpus:4", None)));
        assert_eq!(told(None, &of("cpus:4", None)), resources(&of("cpus:4", None)));
    }
}
