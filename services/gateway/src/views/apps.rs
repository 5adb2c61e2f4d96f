//! What the app-scheduler publishes: apps, instances, deployments, the queue.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use meshos_proto::meshos::apps::v1::{
    App, Delta, Deployment, FinishedDeployment, Group, HealthResult, Instance, InstanceReadiness, Queue,
    Snapshot, TaskFailure, WatchResponse, watch_response::Body,
};

use crate::marathon::{Hub, Leaving, Named};

/// The app-scheduler's state as last heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apps {
    /// By id.
    pub(crate) apps: BTreeMap<String, App>,
    /// Their definitions as lists show them, once one did.
    pub(crate) texts: BTreeMap<String, OnceLock<String>>,
    /// By app id, then instance id.
    instances: BTreeMap<String, BTreeMap<String, Instance>>,
    /// App of each instance.
    owners: HashMap<String, String>,
    /// By id.
    pub(crate) deployments: BTreeMap<String, Deployment>,
    /// Ids of the deployments that affect an app.
    affected: BTreeMap<String, BTreeSet<String>>,
    /// The last one of each app.
    failures: BTreeMap<String, TaskFailure>,
    /// By app id.
    pub(crate) queue: BTreeMap<String, Queue>,
    /// Groups that have a record, by id.
    pub(crate) groups: BTreeMap<String, Group>,
    /// What checks found, by instance id.
    health: BTreeMap<String, Vec<HealthResult>>,
    /// What readiness checks found, by instance id.
    readiness: BTreeMap<String, InstanceReadiness>,
    /// Deployments that ended and are still shown, by id.
    pub(crate) finished: BTreeMap<String, FinishedDeployment>,
    pub(crate) framework_id: String,
    /// The scheduler's flags by name, with their values as JSON.
    pub(crate) settings: BTreeMap<String, String>,
    /// Where it tells what happened.
    pub(crate) events: Arc<Hub>,
    /// Where it names those that load balancers are to let go of.
    pub(crate) leaving: Arc<Leaving>,
}

impl Apps {
    /// Definitions alone, as of another time.
    pub(crate) fn of(apps: Vec<App>, groups: Vec<Group>) -> Self {
        let mut view = Self::default();
        view.change(Delta { apps, groups, ..Delta::default() });
        view
    }

    /// Applies a message of the `Watch` stream. Parts of a snapshot add to what there is: see [`Self::replace`].
    pub(crate) fn apply(&mut self, message: WatchResponse) {
        match message.body {
            Some(Body::Snapshot(part)) => self.add(part),
            Some(Body::Delta(delta)) => self.change(delta),
            None => {}
        }
    }

    /// Begins anew with another picture; the old one. Readers of events hear that something may be missing.
    pub(crate) fn replace(&mut self, picture: Self) -> Self {
        self.events.interrupted();
        self.leaving.interrupted();
        let (events, leaving) = (Arc::clone(&self.events), Arc::clone(&self.leaving));
        let picture = Self { events, leaving, ..picture };
        std::mem::replace(self, picture)
    }

    /// Adds a part of a picture.
    fn add(&mut self, part: Snapshot) {
        let framework_id = Some(part.framework_id).filter(|id| !id.is_empty());
        self.settings.extend(part.settings);
        self.change(Delta {
            apps: part.apps,
            instances: part.instances,
            deployments: part.deployments,
            failures: part.failures,
            queue: part.queue,
            groups: part.groups,
            health: part.health,
            readiness: part.readiness,
            finished: part.finished,
            framework_id,
            ..Delta::default()
        });
    }

    fn change(&mut self, delta: Delta) {
        // Before they are removed.
        let leaving: Vec<Named> = delta.leaving_instances.iter().map(|id| self.named(id)).collect();
        delta.removed_apps.iter().for_each(|id| self.remove_app(id));
        self.texts.extend(delta.apps.iter().map(|app| (app.id.clone(), OnceLock::new())));
        self.apps.extend(delta.apps.into_iter().map(|app| (app.id.clone(), app)));
        for id in &delta.removed_instances {
            self.remove_instance(id);
            self.health.remove(id);
            self.readiness.remove(id);
        }
        delta.instances.into_iter().for_each(|instance| self.put_instance(instance));
        delta.removed_deployments.iter().for_each(|id| self.remove_deployment(id));
        delta.deployments.into_iter().for_each(|deployment| self.put_deployment(deployment));
        self.failures.extend(delta.failures.into_iter().map(|failure| (failure.app_id.clone(), failure)));
        for id in &delta.removed_queue {
            self.queue.remove(id);
        }
        self.queue.extend(delta.queue.into_iter().map(|entry| (entry.app_id.clone(), entry)));
        for health in delta.health {
            if health.results.is_empty() {
                self.health.remove(&health.instance_id);
            } else {
                self.health.insert(health.instance_id, health.results);
            }
        }
        for readiness in delta.readiness {
            if readiness.removed {
                self.readiness.remove(&readiness.instance_id);
            } else {
                self.readiness.insert(readiness.instance_id.clone(), readiness);
            }
        }
        for id in &delta.removed_finished {
            self.finished.remove(id);
        }
        let ended =
            delta.finished.into_iter().filter_map(|one| Some((one.deployment.as_ref()?.id.clone(), one)));
        self.finished.extend(ended);
        for id in &delta.removed_groups {
            self.groups.remove(id);
        }
        self.groups.extend(delta.groups.into_iter().map(|group| (group.id.clone(), group)));
        if let Some(id) = delta.framework_id {
            self.framework_id = id;
        }
        if !leaving.is_empty() {
            self.leaving.name(leaving.into_iter().map(|named| self.named_now(named)).collect());
        }
        self.events.occurred(delta.occurrences);
    }

    /// One that is not known has nobody to let go of.
    fn named(&self, id: &str) -> Named {
        let known = self.owners.get(id).and_then(|app| self.instances.get(app)?.get(id));
        let (app, task) =
            known.map(|instance| (instance.app_id.clone(), instance.task_id.clone())).unwrap_or_default();
        Named { app, instance: id.to_owned(), task }
    }

    /// As it is after a change, or was before.
    fn named_now(&self, before: Named) -> Named {
        let now = self.named(&before.instance);
        if now.app.is_empty() { before } else { now }
    }

    fn remove_app(&mut self, id: &str) {
        self.apps.remove(id);
        self.texts.remove(id);
        self.failures.remove(id);
    }

    /// An instance stays with its app.
    fn put_instance(&mut self, instance: Instance) {
        if let Some(instances) = self.instances.get_mut(&instance.app_id)
            && let Some(known) = instances.get_mut(&instance.id)
        {
            *known = instance;
            return;
        }
        self.owners.insert(instance.id.clone(), instance.app_id.clone());
        self.instances.entry(instance.app_id.clone()).or_default().insert(instance.id.clone(), instance);
    }

    fn remove_instance(&mut self, id: &str) {
        let Some(app) = self.owners.remove(id) else { return };
        if let Some(instances) = self.instances.get_mut(&app) {
            instances.remove(id);
            if instances.is_empty() {
                self.instances.remove(&app);
            }
        }
    }

    fn put_deployment(&mut self, deployment: Deployment) {
        self.remove_deployment(&deployment.id);
        for app in &deployment.affected_apps {
            self.affected.entry(app.clone()).or_default().insert(deployment.id.clone());
        }
        self.deployments.insert(deployment.id.clone(), deployment);
    }

    fn remove_deployment(&mut self, id: &str) {
        let Some(deployment) = self.deployments.remove(id) else { return };
        for app in &deployment.affected_apps {
            if let Some(ids) = self.affected.get_mut(app) {
                ids.remove(id);
                if ids.is_empty() {
                    self.affected.remove(app);
                }
            }
        }
    }

    /// An app's instances, waiting ones too.
    pub(crate) fn instances_of<'a>(&'a self, app: &str) -> impl Iterator<Item = &'a Instance> + use<'a> {
        self.instances.get(app).into_iter().flat_map(BTreeMap::values)
    }

    /// What checks found of an instance.
    pub(crate) fn health_of(&self, instance: &str) -> &[HealthResult] {
        self.health.get(instance).map(Vec::as_slice).unwrap_or_default()
    }

    /// What its readiness check found of an instance.
    pub(crate) fn readiness_of(&self, instance: &str) -> Option<&InstanceReadiness> {
        self.readiness.get(instance)
    }

    /// All instances.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values().flat_map(BTreeMap::values)
    }

    /// Ids of the deployments that affect an app.
    pub(crate) fn deployments_of<'a>(&'a self, app: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        self.affected.get(app).into_iter().flatten()
    }

    /// The last failure of an app's task.
    pub(crate) fn failure_of(&self, app: &str) -> Option<&TaskFailure> {
        self.failures.get(app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(delta: Delta) -> WatchResponse {
        WatchResponse { revision: 1, body: Some(Body::Delta(delta)) }
    }

    fn instance(id: &str, app: &str) -> Instance {
        Instance { id: id.to_owned(), app_id: app.to_owned(), ..Default::default() }
    }

    #[test]
    fn instances_are_found_by_app() {
        let mut apps = Apps::default();
        apps.apply(delta(Delta {
            instances: vec![instance("i", "/a"), instance("j", "/a")],
            ..Default::default()
        }));
        assert_eq!(apps.instances_of("/a").count(), 2);
        apps.apply(delta(Delta {
            removed_instances: vec!["i".to_owned(), "j".to_owned()],
            ..Default::default()
        }));
        assert_eq!(apps.instances().count(), 0);
    }

    #[tokio::test]
    async fn one_that_leaves_and_is_removed_at_once_is_named_in_full() {
        let mut apps = Apps::default();
        let with_task = |task: &str| Instance { task_id: task.to_owned(), ..instance("i", "/a") };
        apps.apply(delta(Delta {
            instances: vec![with_task("t"), instance("j", "/a")],
            ..Default::default()
        }));
        let mut reader = apps.leaving.subscribe();
        apps.apply(delta(Delta {
            removed_instances: vec!["i".to_owned(), "j".to_owned()],
            leaving_instances: vec!["i".to_owned(), "x".to_owned()],
            ..Default::default()
        }));
        let of = |app: &str, id: &str, task: &str| Named {
            app: app.to_owned(),
            instance: id.to_owned(),
            task: task.to_owned(),
        };
        assert_eq!(*reader.recv().await.unwrap(), [of("/a", "i", "t"), of("", "x", "")]);
        apps.apply(delta(Delta {
            instances: vec![with_task("next")],
            leaving_instances: vec!["i".to_owned()],
            ..Default::default()
        }));
        assert_eq!(*reader.recv().await.unwrap(), [of("/a", "i", "next")]);
    }

    #[test]
    fn an_app_knows_its_deployments_until_they_end() {
        let mut apps = Apps::default();
        let deployment =
            Deployment { id: "d".to_owned(), affected_apps: vec!["/a".to_owned()], ..Default::default() };
        apps.apply(delta(Delta { deployments: vec![deployment], ..Default::default() }));
        assert_eq!(apps.deployments_of("/a").collect::<Vec<_>>(), ["d"]);
        apps.apply(delta(Delta { removed_deployments: vec!["d".to_owned()], ..Default::default() }));
        assert_eq!(apps.deployments_of("/a").count(), 0);
        assert!(apps.deployments.is_empty());
    }

    #[test]
    fn a_snapshot_replaces_everything() {
        let mut apps = Apps::default();
        apps.apply(delta(Delta { instances: vec![instance("i", "/a")], ..Default::default() }));
        let mut picture = Apps::default();
        let part = Snapshot { framework_id: "f".to_owned(), more: true, ..Default::default() };
        let last = Snapshot { instances: vec![instance("j", "/a")], ..Default::default() };
        for part in [part, last] {
            picture.apply(WatchResponse { revision: 9, body: Some(Body::Snapshot(part)) });
        }
        let old = apps.replace(picture);
        let ids = |apps: &Apps| apps.instances().map(|found| found.id.clone()).collect::<Vec<_>>();
        assert_eq!((ids(&old), ids(&apps)), (vec!["i".to_owned()], vec!["j".to_owned()]));
        assert_eq!(apps.framework_id, "f");
    }
}
