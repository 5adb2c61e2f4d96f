//! The definitions themselves, their versions and their service ports.

use std::{collections::BTreeSet, sync::Arc};

use meshos_proto::meshos::apps::v1::App;
use meshos_types::{app_port::service_ports_mut, app_ports};

use super::{Core, apps::Edit, health::is_checked};
use crate::{error::Refusal, store};

impl Core {
    /// Replaces each service port 0 by the lowest free one; ports that the app had before are used first.
    pub(super) fn assign_ports(
        &self,
        app: &mut App,
        old: Option<&App>,
        taken: &mut BTreeSet<u32>,
    ) -> Result<(), Refusal> {
        let (min, max) = (self.settings.args.local_port_min, self.settings.args.local_port_max);
        let range = u32::from(min)..u32::from(max);
        let explicit: BTreeSet<u32> = app_ports(app).map(|port| port.service).collect();
        let before = old.into_iter().flat_map(app_ports).map(|port| port.service);
        let mut before = before.filter(|port| range.contains(port) && !explicit.contains(port));
        let mut free = range.clone().filter(|port| !self.service_ports.contains_key(port));
        for wanted in service_ports_mut(app).filter(|port| **port == 0) {
            let port = match before.next() {
                Some(port) => port,
                None => free
                    .find(|port| !taken.contains(port) && !explicit.contains(port))
                    .ok_or(Refusal::NoServicePort { min, max })?,
            };
            taken.insert(port);
            *wanted = port;
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, edit: Edit) {
        match edit.new {
            Some(app) => self.set_spec(app),
            None => self.remove_spec(&edit.id),
        }
    }

    fn set_spec(&mut self, app: App) {
        let id = app.id.clone();
        let app = Arc::new(app);
        let state = self.apps.entry(id.clone()).or_default();
        let old = state.spec.replace(Arc::clone(&app));
        let most = self.settings.args.max_versions.max(1);
        state.versions.insert(app.version_ms, Arc::clone(&app));
        state.hold_surplus_until_ms = 0;
        if old.as_ref().is_none_or(|old| old.last_config_change_at_ms != app.last_config_change_at_ms) {
            state.backoff.reset();
        }
        let mut pruned = Vec::new();
        while state.versions.len() > most {
            pruned.extend(state.versions.pop_first().map(|(version, _)| version));
        }
        for version in pruned {
            self.out.remove(store::version_key(&id, version));
        }
        self.count_used(old.as_deref(), Some(&app));
        self.out.put_app(&app);
        // Another number of instances leaves each of them where it is.
        let same = old.is_some_and(|old| {
            old.last_config_change_at_ms == app.last_config_change_at_ms
                && is_checked(Some(&old)) == is_checked(Some(&app))
        });
        if !same {
            self.place_all(&id);
        }
        self.dirty.insert(id);
    }

    pub(super) fn remove_spec(&mut self, id: &str) {
        let Some(state) = self.apps.get_mut(id) else { return };
        let old = state.spec.take();
        let versions: Vec<u64> = std::mem::take(&mut state.versions).into_keys().collect();
        state.backoff.reset();
        state.failure = None;
        for version in versions {
            self.out.remove(store::version_key(id, version));
        }
        self.out.remove(store::failure_key(id));
        self.out.remove_app(id);
        self.count_used(old.as_deref(), None);
        self.place_all(id);
        self.dirty.insert(id.to_owned());
    }

    /// Keeps count of service ports and external volumes in use.
    pub(super) fn count_used(&mut self, old: Option<&App>, new: Option<&App>) {
        self.volumes.replace(old, new);
        for port in new.into_iter().flat_map(app_ports) {
            *self.service_ports.entry(port.service).or_default() += 1;
        }
        for port in old.into_iter().flat_map(app_ports) {
            if let Some(count) = self.service_ports.get_mut(&port.service) {
                *count -= 1;
                if *count == 0 {
                    self.service_ports.remove(&port.service);
                }
            }
        }
    }
}
