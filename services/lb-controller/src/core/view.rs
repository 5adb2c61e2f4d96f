//! What others want to know.

use std::collections::BTreeMap;

use super::{Core, model::Problem, rules::Map, service::Service, slots::Slots};

impl Core {
    /// Everything that is not as apps ask for it.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let troubled = self.troubled.iter().filter_map(|unit| self.units.get(unit));
        let of_units = troubled.flat_map(|state| {
            state.problems.iter().chain(state.refused.as_ref().map(|(_, problem)| problem))
        });
        let mut all: Vec<Problem> = of_units.chain(self.host_problems.values().flatten()).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Units that have a text, in order.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        self.units.iter().filter(|(_, state)| !state.accepted.is_empty()).map(|(unit, _)| unit.as_str())
    }

    /// All services that are published, or those of one app.
    pub fn services<'a>(&'a self, app_id: &'a str) -> impl Iterator<Item = &'a Service> {
        let of_app = self.apps.get(app_id).and_then(|state| self.units.get(&state.unit));
        let all = app_id.is_empty().then(|| self.units.values());
        all.into_iter().flatten().chain(of_app).flat_map(|state| state.accepted.iter())
    }

    /// Whether the app has healthy tasks that are served besides this one.
    #[must_use]
    pub fn has_others_alive(&self, app_id: &str, task: &str) -> bool {
        let tasks = self.tasks.get(app_id).into_iter().flatten();
        tasks.filter(|(id, _)| *id != task).any(|(_, other)| {
            other.serving && !other.leaving && other.alive == Some(true) && other.address.is_some()
        })
    }

    /// The services of a unit as they are published.
    #[must_use]
    pub fn services_of_unit(&self, unit: &str) -> &[Service] {
        self.units.get(unit).map_or(&[], |state| state.accepted.as_slice())
    }

    /// The places of a backend.
    #[must_use]
    pub fn slots(&self, backend: &str) -> Option<&Slots> {
        self.slots.get(backend)
    }

    /// Forgets the places of a backend that is no more.
    pub fn forget_slots(&mut self, backend: &str) {
        self.slots.remove(backend);
    }

    /// The entries of a map.
    #[must_use]
    pub fn map(&self, map: Map) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.maps.get(&map).unwrap_or(&NONE)
    }

    #[must_use]
    pub fn settings(&self) -> &super::Settings {
        &self.settings
    }
}
