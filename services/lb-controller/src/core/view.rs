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

    /// Whether the unit still has a right to all of these services: neither did it take one back since, nor did another
    /// one get its name or port.
    #[must_use]
    pub fn still_wants(&self, unit: &str, services: &[Service]) -> bool {
        let wanted = self.units.get(unit).map_or(&[][..], |state| state.wanted.as_slice());
        let same = |service: &Service, now: &Service| {
            service.backend == now.backend && service.port == now.port && (now.frontend || !service.frontend)
        };
        services.iter().all(|service| wanted.iter().any(|now| same(service, now)))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::core::{
        Candidate, Core, Settings,
        model::{App, Port},
    };

    fn app(id: &str, ports: &[u16], labels: &[(&str, &str)]) -> App {
        let group = ("HAPROXY_GROUP", "external");
        let labels = [&group].into_iter().chain(labels);
        App {
            id: id.to_owned(),
            labels: labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ports: ports.iter().map(|number| Port { number: *number, ..Port::default() }).collect(),
            instances: 1,
            ..App::default()
        }
    }

    /// The app's services, while HAProxy looks at them.
    fn looked_at(core: &mut Core) -> Candidate {
        core.put_app(app("/a", &[10_001, 10_002], &[]));
        let _changes = core.settle();
        core.candidates_to_check(&BTreeSet::from(["/a".to_owned()])).remove(0)
    }

    fn core() -> Core {
        Core::new(Settings { groups: vec!["external".to_owned()], ..Settings::default() })
    }

    #[test]
    fn what_was_taken_back_while_haproxy_looked_at_it_is_not_wanted_any_more() {
        let takes_back: [fn(&mut Core); 5] = [
            |core| core.remove_app("/a"),
            |core| core.put_app(app("/a", &[10_001, 10_002], &[("HAPROXY_GROUP", "other")])),
            |core| core.put_app(app("/a", &[10_001, 10_002], &[("HAPROXY_1_ENABLED", "false")])),
            |core| core.put_app(app("/a", &[10_001, 10_003], &[])),
            |core| core.block(10_002, true),
        ];
        for (index, take_back) in takes_back.into_iter().enumerate() {
            let mut core = core();
            let candidate = looked_at(&mut core);
            assert!(core.still_wants("/a", &candidate.services), "{index}");
            take_back(&mut core);
            let _changes = core.settle();
            assert!(!core.still_wants("/a", &candidate.services), "{index}");
        }
    }

    #[test]
    fn an_app_that_changes_all_the_time_is_published_all_the_same() {
        let mut core = core();
        let candidate = looked_at(&mut core);
        core.put_app(app("/a", &[10_001, 10_002, 10_003], &[("HAPROXY_0_VHOST", "a.test")]));
        let _changes = core.settle();
        assert!(core.still_wants("/a", &candidate.services));
    }
}
