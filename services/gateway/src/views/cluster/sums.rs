//! What all agents have together, kept as agents change: a scrape of metrics walks no agents.

use meshos_proto::{meshos::allocator::v1::Agent, mesos::v1::Resource};
use meshos_types::Milli;

use super::is_away;

/// Amounts of scalars by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Amounts(Vec<(String, Amount)>);

#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    firm: i64,
    revocable: i64,
}

impl Amounts {
    /// What is not revocable.
    pub(crate) fn firm(&self, name: &str) -> Milli {
        self.of(name).map_or(Milli::ZERO, |amount| Milli(amount.firm))
    }

    pub(crate) fn revocable(&self, name: &str) -> Milli {
        self.of(name).map_or(Milli::ZERO, |amount| Milli(amount.revocable))
    }

    /// What is not revocable, by name.
    pub(crate) fn all_firm(&self) -> impl Iterator<Item = (&str, Milli)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), Milli(amount.firm)))
    }

    fn of(&self, name: &str) -> Option<&Amount> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, amount)| amount)
    }

    fn step(&mut self, resources: &[Resource], more: bool) {
        for resource in resources {
            let Some(scalar) = resource.scalar else { continue };
            let place = self.0.iter().position(|(known, _)| *known == resource.name);
            let place = place.unwrap_or_else(|| {
                self.0.push((resource.name.clone(), Amount::default()));
                self.0.len() - 1
            });
            let amount = &mut self.0[place].1;
            let amount = if resource.revocable.is_some() { &mut amount.revocable } else { &mut amount.firm };
            let step = Milli::round(scalar.value).0;
            *amount = if more { amount.saturating_add(step) } else { amount.saturating_sub(step) };
        }
    }
}

/// Sums over the agents that are part of the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) total: Amounts,
    pub(crate) used: Amounts,
    pub(crate) offered: Amounts,
}

impl Sums {
    /// Adds an agent, or takes it away.
    pub(super) fn step(&mut self, agent: &Agent, more: bool) {
        if agent.recovered || is_away(agent) {
            return;
        }
        self.total.step(&agent.total, more);
        self.usage(agent, more);
    }

    /// The same, of what is used and offered alone.
    pub(super) fn usage(&mut self, agent: &Agent, more: bool) {
        if agent.recovered || is_away(agent) {
            return;
        }
        self.used.step(&agent.used, more);
        self.offered.step(&agent.offered, more);
    }
}
