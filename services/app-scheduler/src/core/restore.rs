//! From stored records to a core: what a new leader begins with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meshos_mesh::Rng;
use meshos_proto::meshos::apps::v1::{Condition, Goal};

use super::{
    AppState, Core, Settings, deployments::Running, offers::Asking, timers::Timer, volumes::VolumeUsers,
};
use crate::store::{self, Records};

impl Core {
    /// Knows what is stored. What is left to do comes out with the first input.
    #[must_use]
    pub fn restore(settings: Settings, rng: Rng, records: Records, now_ms: u64) -> Self {
        let roles = records.apps.iter().map(|app| app.role.clone()).filter(|role| !role.is_empty());
        let roles = roles.chain([settings.args.mesos_role.clone()]).collect();
        let mut core = Self {
            settings,
            rng,
            now: now_ms,
            apps: BTreeMap::new(),
            instances: super::Instances::default(),
            deployments: BTreeMap::new(),
            finished: super::Finished::default(),
            groups: BTreeMap::new(),
            roots: BTreeMap::new(),
            roles,
            health: BTreeMap::new(),
            readiness: BTreeSet::new(),
            framework_id: records.framework_id.clone(),
            home_region: None,
            connected: false,
            service_ports: BTreeMap::new(),
            volumes: VolumeUsers::default(),
            last_version: 0,
            dirty: BTreeSet::new(),
            launchable: BTreeSet::new(),
            kills: BTreeMap::new(),
            asking: Asking::default(),
            patterns: super::Patterns::default(),
            timers: super::Timers::default(),
            queue_dirty: BTreeSet::new(),
            queue: BTreeMap::new(),
            out: super::Output::default(),
        };
        core.restore_groups(&records);
        core.restore_apps(&records);
        records.torn.iter().for_each(|key| core.out.remove(key.clone()));
        records.finished.iter().for_each(|finished| core.finished.insert(finished.clone()));
        core.restore_deployments(&records);
        core.restore_instances(records);
        core.dirty.extend(core.apps.keys().cloned());
        core
    }

    fn restore_groups(&mut self, records: &Records) {
        self.groups = records.groups.iter().map(|group| (group.id.clone(), group.clone())).collect();
        self.roots = records.roots.iter().map(|root| (root.version_ms, root.clone())).collect();
        let versions = records.roots.iter().map(|root| root.version_ms);
        let versions = versions.chain(records.groups.iter().map(|group| group.version_ms));
        self.last_version = versions.fold(self.last_version, u64::max);
    }

    fn restore_apps(&mut self, records: &Records) {
        for app in &records.apps {
            self.last_version = self.last_version.max(app.version_ms);
            self.count_used(None, Some(app));
            let app = Arc::new(app.clone());
            let state = self.apps.entry(app.id.clone()).or_default();
            state.versions.insert(app.version_ms, Arc::clone(&app));
            state.spec = Some(app);
        }
        for app in &records.versions {
            let state = self.apps.entry(app.id.clone()).or_default();
            state.versions.insert(app.version_ms, Arc::new(app.clone()));
        }
        for failure in &records.failures {
            self.apps.entry(failure.app_id.clone()).or_default().failure = Some(failure.clone());
        }
    }

    /// Locks apps again, and completes changes of definitions that were not stored whole.
    fn restore_deployments(&mut self, records: &Records) {
        for record in &records.deployments {
            self.last_version = self.last_version.max(record.version_ms);
            for app_id in &record.affected_apps {
                let state: &mut AppState = self.apps.entry(app_id.clone()).or_default();
                state.deployment = Some(record.id.clone());
                let target = record.targets.iter().find(|app| app.id == *app_id);
                let current = state.spec.as_ref().map(|app| app.version_ms);
                match target {
                    Some(app) if current.is_none_or(|current| current < app.version_ms) => {
                        self.complete_change(app.clone());
                    }
                    None if current.is_some() => self.remove_spec(app_id),
                    _ => {}
                }
            }
            self.deployments.insert(record.id.clone(), Running::restored(record.clone()));
            self.watch_deadline(record);
            if record.current_step == 0 {
                self.next_step(&record.id);
            }
        }
    }

    fn complete_change(&mut self, app: super::App) {
        self.roles.insert(app.role.clone());
        let state = self.apps.entry(app.id.clone()).or_default();
        let old = state.spec.replace(Arc::new(app.clone()));
        state.versions.insert(app.version_ms, Arc::new(app.clone()));
        self.count_used(old.as_deref(), Some(&app));
        self.out.put_app(&app);
    }

    fn restore_instances(&mut self, records: Records) {
        for instance in records.instances {
            let id = instance.id.clone();
            if instance.incarnation == 0 {
                // Of an older version of this program, which stored those too: it is made anew.
                self.out.remove(store::instance_key(&id));
                self.out.delta.removed_instances.push(id);
                continue;
            }
            match instance.condition() {
                Condition::Provisioned | Condition::Staging | Condition::Starting => {
                    let mut due = self.launch_deadline(&instance);
                    if instance.condition() == Condition::Provisioned {
                        // That it was confirmed is not stored: it is told anew first.
                        let confirm = self.settings.args.task_launch_confirm_timeout_ms;
                        due = due.max(self.now.saturating_add(confirm));
                    }
                    self.timers.set(due, Timer::Launch(id.clone(), instance.incarnation));
                }
                Condition::Unreachable | Condition::UnreachableInactive => {
                    self.timers.set(self.now, Timer::Unreachable(id.clone()));
                }
                _ => {}
            }
            if instance.goal() != Goal::Running {
                self.kills.insert(id.clone(), self.now);
            }
            let running = instance.condition() == Condition::Running;
            self.instances.insert(id.clone(), instance);
            self.place(&id);
            if running {
                self.watch_health(&id);
                self.watch_readiness(&id);
            }
        }
        self.repeat_kills(self.now.saturating_add(self.settings.args.kill_retry_timeout_ms));
    }
}

impl Core {
    /// The next subscription is without an id.
    pub(super) fn forget_framework(&mut self) {
        self.framework_id = None;
        self.out.remove(store::FRAMEWORK.to_owned());
        self.out.delta.framework_id = Some(String::new());
    }
}

/// Keeps the framework id; the first one is stored.
pub(super) fn store_framework(core: &mut Core, framework_id: String) {
    if core.framework_id.as_ref() != Some(&framework_id) {
        core.out.put_text(store::FRAMEWORK, &framework_id);
        core.out.delta.framework_id = Some(framework_id.clone());
        core.framework_id = Some(framework_id);
    }
}
