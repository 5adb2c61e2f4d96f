//! S1: every agent is free, every framework wants everything.

use meshos_allocator::core::Input;
use meshos_proto::mesos::v1::WeightInfo;

use super::{RESOURCES, clock::Times, cluster::Cluster};
use crate::memory;

/// Agents and frameworks.
const SIZES: [(usize, usize); 5] =
    [(1_000, 100), (10_000, 200), (10_000, 1_000), (20_000, 2_000), (50_000, 6_000)];
const REPEATED: usize = 9;
/// Agents that come together.
const PART: usize = 500;

/// The law for growth: offers times the logarithm of the frameworks, with room for caches that are outgrown.
const GROWTH: f64 = 4.0;

pub(super) fn rows(most: usize, show: &impl Fn(&str)) -> anyhow::Result<()> {
    let mut first = None;
    for (agents, frameworks) in SIZES.into_iter().filter(|(agents, _)| *agents <= most) {
        for (name, roles) in [("one role", 1), ("a role each", frameworks)] {
            let (mut decision, mut messages) = cycle(agents, frameworks, roles)?;
            let name = format!("S1 {agents} × {frameworks}, {name}");
            show(&decision.row(&format!("{name}: decision"), agents));
            show(&messages.row(&format!("{name}: messages"), agents));
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let work = agents as f64 * (frameworks as f64).log2();
            let cost = decision.p50_us() / work;
            let growth = cost / *first.get_or_insert(cost);
            anyhow::ensure!(growth < GROWTH, "{name}: {growth:.1} times the cost per offer of the smallest");
        }
    }
    Ok(())
}

/// What idle agents cost. To be measured first, before there is memory to use again.
pub(super) fn idle(most: usize, show: &impl Fn(&str)) -> anyhow::Result<()> {
    let mut cluster = Cluster::new();
    let agents = most.min(50_000) / PART * PART;
    let before = memory::rss(std::process::id()).unwrap_or_default();
    for _ in 0..agents / PART {
        cluster.add_agents(PART, RESOURCES)?;
        cluster.settle();
    }
    let grown = memory::rss(std::process::id()).unwrap_or_default().saturating_sub(before);
    show(&format!("| S6 {agents} idle agents in the core (RSS) | {} B each |", grown / agents.max(1) as u64));
    Ok(())
}

/// Times of a full cycle: the first one, then again and again after all offers were taken back.
fn cycle(agents: usize, frameworks: usize, roles: usize) -> anyhow::Result<(Times, Times)> {
    let mut cluster = Cluster::new();
    cluster.add_agents(agents, RESOURCES)?;
    cluster.settle();
    for framework in 0..frameworks {
        cluster.add_framework(&format!("role-{}", framework % roles))?;
    }
    let (mut decision, mut messages) = (Times::default(), Times::default());
    for _ in 0..REPEATED {
        decision.add(|| cluster.core.decide(super::cluster::NOW));
        let outcome = messages.add(|| cluster.core.outcome());
        drop(outcome);
        // New weights of a role that is in use take all offers back.
        let weight = WeightInfo { weight: 1.0, role: Some("role-0".to_owned()) };
        cluster.input(Input::UpdateWeights(vec![weight]))?;
        anyhow::ensure!(cluster.core.outstanding_offers() == 0, "offers are left");
    }
    Ok((decision, messages))
}
