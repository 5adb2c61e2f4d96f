//! Shared persistent volumes: several offers and tasks may have one at a time (Mesos 1.7). What is used or offered
//! of one stays free for others; for fair shares it counts once for each framework on an agent.

use std::collections::BTreeMap;

use meshos_types::{AgentId, FrameworkId, Quantities, Resources, RoleName};

use super::{Core, account::Place};

/// How often each framework has each shared volume, used and offered together.
#[derive(Debug, Default)]
pub(crate) struct SharedVolumes(BTreeMap<(AgentId, FrameworkId, RoleName), Resources>);

/// Takes `taken` away but for what is shared: that is not used up.
pub(crate) fn subtract_unshared(from: &mut Resources, taken: &Resources) {
    if !taken.digest().shared {
        return from.subtract_all(taken);
    }
    for resource in taken.iter().filter(|resource| !resource.shared) {
        from.subtract(resource);
    }
}

fn has_shared(resources: &Resources) -> bool {
    resources.digest().shared
}

impl SharedVolumes {
    /// Notes that `place` has `resources` as well. Returns by how much its share grows; none: by all of them.
    pub(crate) fn hold(&mut self, place: &Place, resources: &Resources) -> Option<Quantities> {
        if !has_shared(resources) {
            return None;
        }
        let held = self.0.entry(key(place)).or_default();
        let mut amount = resources.scalars();
        amount.subtract(&in_both(resources, held));
        held.add_all(&resources.shared());
        Some(amount)
    }

    /// Notes that `place` no longer has `resources`. Returns by how much its share shrinks; none: by all of them.
    pub(crate) fn free(&mut self, place: &Place, resources: &Resources) -> Option<Quantities> {
        if !has_shared(resources) {
            return None;
        }
        let held = self.0.get_mut(&key(place))?;
        held.subtract_all(&resources.shared());
        let mut amount = resources.scalars();
        amount.subtract(&in_both(resources, held));
        if held.is_empty() {
            self.0.remove(&key(place));
        }
        Some(amount)
    }
}

fn key(place: &Place) -> (AgentId, FrameworkId, RoleName) {
    (place.agent.clone(), place.framework.clone(), place.role.clone())
}

/// The size of the shared volumes that are in `held` as well.
fn in_both(resources: &Resources, held: &Resources) -> Quantities {
    resources.filter(|resource| resource.shared && held.contains_one(resource)).scalars()
}

impl Core {
    /// Takes back the offers of an agent that hold one of the shared volumes among `volumes`: they cease to be.
    pub(super) fn rescind_holders(&mut self, id: &AgentId, volumes: &Resources) {
        if !has_shared(volumes) {
            return;
        }
        let volumes = volumes.shared();
        let Some(agent) = self.agents.get(id) else { return };
        for offer in agent.offers.clone() {
            let held = self.offers.get(&offer).map(|offer| &offer.resources);
            if held.is_some_and(|held| volumes.iter().any(|volume| held.contains_one(volume))) {
                self.rescind(&offer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::operations::{plain, volume};

    #[test]
    fn a_shared_volume_counts_once_for_each_framework() {
        let shared: Resources = volume("disk:10", "eng", "v")
            .into_iter()
            .map(|resource| meshos_types::Resource { shared: true, ..resource })
            .collect();
        let both = {
            let mut both = plain("cpus:1");
            both.add_all(&shared);
            both
        };
        let place = |framework: &str| Place {
            agent: AgentId::new("s"),
            framework: FrameworkId::new(framework),
            role: RoleName::new("eng"),
        };
        let (all, cpus) = (both.scalars(), plain("cpus:1").scalars());
        let mut volumes = SharedVolumes::default();
        let (all, cpus) = (Some(all), Some(cpus));
        assert_eq!(volumes.hold(&place("a"), &both), all);
        assert_eq!(volumes.hold(&place("a"), &both), cpus);
        assert_eq!(volumes.hold(&place("b"), &both), all);
        assert_eq!(volumes.free(&place("a"), &both), cpus);
        assert_eq!(volumes.free(&place("a"), &both), all);
        assert_eq!(volumes.free(&place("b"), &both), all);
        assert_eq!(volumes.hold(&place("a"), &plain("cpus:1")), None);
        assert!(volumes.0.is_empty());
        let mut free = both.clone();
        subtract_unshared(&mut free, &both);
        assert_eq!(free, shared);
    }
}
