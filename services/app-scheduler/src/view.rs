//! What readers see: the state as it is stored. It trails the core by what is being written.

mod parts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meshos_proto::meshos::apps::v1::{
    App, Condition, Delta, Deployment, FinishedDeployment, Group, Instance, InstanceHealth,
    InstanceReadiness, Queue, TaskFailure,
};

use crate::store::Records;

/// The committed state.
#[derive(Clone, Debug, Default)]
pub struct View {
    leader: String,
    settings: BTreeMap<String, String>,
    framework_id: String,
    apps: BTreeMap<String, Arc<App>>,
    instances: BTreeMap<String, Arc<Instance>>,
    deployments: BTreeMap<String, Deployment>,
    failures: BTreeMap<String, TaskFailure>,
    queue: BTreeMap<String, Queue>,
    groups: BTreeMap<String, Group>,
    health: BTreeMap<String, Arc<InstanceHealth>>,
    readiness: BTreeMap<String, InstanceReadiness>,
    finished: BTreeMap<String, FinishedDeployment>,
    by_condition: BTreeMap<i32, usize>,
}

impl View {
    /// As stored; `leader` names this replica.
    #[must_use]
    pub fn new(records: &Records, leader: String) -> Self {
        let mut view = Self { leader, ..Self::default() };
        view.apply(&Delta {
            apps: records.apps.clone(),
            instances: records.instances.clone(),
            deployments: records.deployments.iter().map(without_definitions).collect(),
            failures: records.failures.clone(),
            groups: records.groups.clone(),
            finished: records.finished.clone(),
            framework_id: records.framework_id.clone(),
            ..Default::default()
        });
        view
    }

    /// With the flags that readers are shown.
    #[must_use]
    pub fn with_settings(self, settings: BTreeMap<String, String>) -> Self {
        Self { settings, ..self }
    }

    /// Takes a change in: removals first, as every reader does. [`in_order`] makes such changes.
    pub fn apply(&mut self, delta: &Delta) {
        for id in &delta.removed_apps {
            self.apps.remove(id);
            self.failures.remove(id);
        }
        for id in &delta.removed_instances {
            self.health.remove(id);
            self.readiness.remove(id);
            let old = self.instances.remove(id);
            self.count(old.as_deref(), None);
        }
        for id in &delta.removed_deployments {
            self.deployments.remove(id);
        }
        for app_id in &delta.removed_queue {
            self.queue.remove(app_id);
        }
        for id in &delta.removed_groups {
            self.groups.remove(id);
        }
        for id in &delta.removed_finished {
            self.finished.remove(id);
        }
        self.put(delta);
    }

    fn put(&mut self, delta: &Delta) {
        for app in &delta.apps {
            self.apps.insert(app.id.clone(), Arc::new(app.clone()));
        }
        for instance in &delta.instances {
            self.put_instance(instance);
        }
        for deployment in &delta.deployments {
            self.deployments.insert(deployment.id.clone(), deployment.clone());
        }
        for failure in &delta.failures {
            self.failures.insert(failure.app_id.clone(), failure.clone());
        }
        for entry in &delta.queue {
            self.queue.insert(entry.app_id.clone(), entry.clone());
        }
        for health in &delta.health {
            if health.results.is_empty() {
                self.health.remove(&health.instance_id);
            } else {
                self.health.insert(health.instance_id.clone(), Arc::new(health.clone()));
            }
        }
        for readiness in &delta.readiness {
            if readiness.removed {
                self.readiness.remove(&readiness.instance_id);
            } else {
                self.readiness.insert(readiness.instance_id.clone(), readiness.clone());
            }
        }
        for finished in &delta.finished {
            let id = finished.deployment.as_ref().map(|one| one.id.clone()).unwrap_or_default();
            self.finished.insert(id, finished.clone());
        }
        for group in &delta.groups {
            self.groups.insert(group.id.clone(), group.clone());
        }
        if let Some(id) = &delta.framework_id {
            self.framework_id.clone_from(id);
        }
    }

    fn put_instance(&mut self, instance: &Instance) {
        let old = self.instances.insert(instance.id.clone(), Arc::new(instance.clone()));
        self.count(old.as_deref(), Some(instance));
    }

    fn count(&mut self, old: Option<&Instance>, new: Option<&Instance>) {
        if let Some(count) = old.and_then(|old| self.by_condition.get_mut(&old.condition)) {
            *count -= 1;
        }
        if let Some(new) = new {
            *self.by_condition.entry(new.condition).or_default() += 1;
        }
    }

    /// Numbers of apps, deployments and groups.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.apps.len(), self.deployments.len(), self.groups.len())
    }

    /// Instances in that condition.
    #[must_use]
    pub fn in_condition(&self, condition: Condition) -> usize {
        self.by_condition.get(&condition.into()).copied().unwrap_or(0)
    }
}

/// Readers need no definitions.
fn without_definitions(deployment: &Deployment) -> Deployment {
    Deployment { originals: Vec::new(), targets: Vec::new(), ..deployment.clone() }
}

/// Adds a later change to an earlier one, so that both can be published as one.
pub fn merge(earlier: &mut Delta, later: Delta) {
    if !later.removed_apps.is_empty() {
        earlier.apps.retain(|app| !later.removed_apps.contains(&app.id));
        earlier.failures.retain(|failure| !later.removed_apps.contains(&failure.app_id));
    }
    if !later.removed_queue.is_empty() {
        earlier.queue.retain(|entry| !later.removed_queue.contains(&entry.app_id));
    }
    append(&mut earlier.apps, later.apps);
    append(&mut earlier.removed_apps, later.removed_apps);
    append(&mut earlier.instances, later.instances);
    append(&mut earlier.removed_instances, later.removed_instances);
    append(&mut earlier.deployments, later.deployments);
    append(&mut earlier.removed_deployments, later.removed_deployments);
    append(&mut earlier.failures, later.failures);
    append(&mut earlier.queue, later.queue);
    append(&mut earlier.removed_queue, later.removed_queue);
    append(&mut earlier.health, later.health);
    append(&mut earlier.occurrences, later.occurrences);
    append(&mut earlier.leaving_instances, later.leaving_instances);
    if !later.removed_groups.is_empty() {
        earlier.groups.retain(|group| !later.removed_groups.contains(&group.id));
    }
    append(&mut earlier.groups, later.groups);
    append(&mut earlier.readiness, later.readiness);
    if !later.removed_finished.is_empty() {
        let gone = |one: &FinishedDeployment| {
            one.deployment.as_ref().is_some_and(|one| later.removed_finished.contains(&one.id))
        };
        earlier.finished.retain(|one| !gone(one));
    }
    append(&mut earlier.finished, later.finished);
    append(&mut earlier.removed_finished, later.removed_finished);
    append(&mut earlier.removed_groups, later.removed_groups);
    if later.framework_id.is_some() {
        earlier.framework_id = later.framework_id;
    }
}

/// Mostly there is nothing yet: then it is handed on as it is.
fn append<T>(earlier: &mut Vec<T>, later: Vec<T>) {
    if earlier.is_empty() { *earlier = later } else { earlier.extend(later) }
}

/// Takes the last sight of what the change also removes out of it: instances with the condition in which they ended,
/// deployments that end. It has to be published first, since readers apply removals before anything else. Ids of
/// instances and deployments are never used again.
pub fn last_sights(delta: &mut Delta) -> Option<Delta> {
    if delta.removed_instances.is_empty() && delta.removed_deployments.is_empty() {
        return None;
    }
    let instances: BTreeSet<&String> = delta.removed_instances.iter().collect();
    let deployments: BTreeSet<&String> = delta.removed_deployments.iter().collect();
    delta.health.retain(|health| !instances.contains(&health.instance_id));
    delta.readiness.retain(|readiness| !instances.contains(&readiness.instance_id));
    let (gone_instances, instances) =
        std::mem::take(&mut delta.instances).into_iter().partition(|one| instances.contains(&one.id));
    let (gone_deployments, deployments) =
        std::mem::take(&mut delta.deployments).into_iter().partition(|one| deployments.contains(&one.id));
    delta.instances = instances;
    delta.deployments = deployments;
    let first = Delta { instances: gone_instances, deployments: gone_deployments, ..Default::default() };
    (first != Delta::default()).then_some(first)
}

/// The change as readers apply it.
pub fn in_order(mut delta: Delta) -> impl Iterator<Item = Delta> {
    let first = last_sights(&mut delta);
    first.into_iter().chain([delta])
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::Snapshot;

    use super::*;

    fn app(id: &str, version_ms: u64) -> App {
        App { id: id.into(), version_ms, ..Default::default() }
    }

    fn of(deltas: &[Delta]) -> Snapshot {
        let mut view = View::default();
        deltas.iter().cloned().flat_map(in_order).for_each(|delta| view.apply(&delta));
        view.snapshot()
    }

    #[test]
    fn merged_changes_are_worth_both() {
        let queue = |app_id: &str, count| Queue { app_id: app_id.into(), count, ..Default::default() };
        let deltas = [
            Delta { apps: vec![app("/a", 1)], queue: vec![queue("/a", 1)], ..Default::default() },
            Delta { removed_apps: vec!["/a".into()], removed_queue: vec!["/a".into()], ..Default::default() },
            Delta {
                apps: vec![app("/a", 2), app("/b", 2)],
                queue: vec![queue("/a", 2)],
                ..Default::default()
            },
            Delta { removed_apps: vec!["/b".into()], ..Default::default() },
        ];
        let mut merged = Delta::default();
        deltas.iter().for_each(|delta| merge(&mut merged, delta.clone()));
        assert_eq!(of(&[merged]), of(&deltas));
        assert_eq!(of(&deltas).apps, [app("/a", 2)]);
    }

    #[test]
    fn what_ends_is_seen_once_more_and_then_gone() {
        let instance = |condition: Condition| {
            let mut instance = Instance { id: "i".into(), ..Default::default() };
            instance.set_condition(condition);
            instance
        };
        let delta = Delta {
            instances: vec![instance(Condition::Running), instance(Condition::Killed)],
            removed_instances: vec!["i".into()],
            deployments: vec![Deployment { id: "d".into(), ..Default::default() }],
            removed_deployments: vec!["d".into()],
            ..Default::default()
        };
        let ordered: Vec<_> = in_order(delta.clone()).collect();
        assert_eq!((ordered[0].instances.len(), ordered[0].deployments.len()), (2, 1));
        assert_eq!(ordered[1].removed_instances, ["i"]);
        assert!(ordered[1].instances.is_empty());
        assert_eq!(of(&[delta]), Snapshot::default());
    }

    #[test]
    fn conditions_are_counted() {
        let mut view = View::default();
        let mut instance = Instance { id: "i".into(), ..Default::default() };
        for condition in [Condition::Scheduled, Condition::Running] {
            instance.set_condition(condition);
            view.apply(&Delta { instances: vec![instance.clone()], ..Default::default() });
        }
        assert_eq!((view.in_condition(Condition::Scheduled), view.in_condition(Condition::Running)), (0, 1));
        view.apply(&Delta { removed_instances: vec!["i".into()], ..Default::default() });
        assert_eq!(view.in_condition(Condition::Running), 0);
    }
}
