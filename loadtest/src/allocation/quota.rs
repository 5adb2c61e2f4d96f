//! S3: as many roles with quota as agents and frameworks, half of the roles large, half small; nested roles, weights,
//! ports in many pieces.

use std::fmt::Write as _;

use meshos_allocator::core::Input;
use meshos_proto::{
    meshos::allocator::v1::UpdateQuotaRequest,
    mesos::v1::{WeightInfo, quota::QuotaConfig, scheduler::call, value::Scalar},
};

use super::{
    clock::Times,
    cluster::{Cluster, NOW},
};

const SIZES: [usize; 3] = [300, 1_000, 3_000];
/// An offer costs the logarithm of the number of roles, with room for caches that are outgrown.
const GROWTH: f64 = 4.0;
/// Full cycles: the first one, then again and again after all offers were taken back.
const REPEATED: usize = 9;
const DECLINES: usize = 300;
const ADDED: usize = 300;
/// Pieces of the ports.
const PIECES: usize = 100;

pub(super) fn rows(most: usize, show: &impl Fn(&str)) -> anyhow::Result<()> {
    let mut first = None;
    for size in SIZES.into_iter().filter(|size| *size <= most) {
        let name = format!("S3 {size} agents, roles and frameworks");
        let mut cluster = Cluster::new();
        cluster.add_agents(size, &resources())?;
        settings(&mut cluster, size)?;
        for number in 0..size {
            cluster.add_framework(&role(number))?;
        }
        let (mut decision, mut messages) = (Times::default(), Times::default());
        let mut offers = 0;
        for turn in 0..REPEATED {
            if turn > 0 {
                // New weights of a role that is in use take all offers back.
                cluster.input(Input::UpdateWeights(vec![weight(0)]))?;
                anyhow::ensure!(cluster.core.outstanding_offers() == 0, "offers are left");
                drop(cluster.core.outcome());
                cluster.held.clear();
            }
            decision.add(|| cluster.core.decide(NOW));
            let outcome = messages.add(|| cluster.core.outcome());
            cluster.hear(outcome);
            offers = cluster.core.outstanding_offers();
        }
        show(&decision.row(&format!("{name}: decision of the full cycle"), offers));
        show(&messages.row(&format!("{name}: its messages"), offers));
        show(
            &revived(&mut cluster, size)?.row(&format!("{name}: all frameworks revived, nothing to give"), 1),
        );
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = decision.p50_us() / offers.max(1) as f64;
        let growth = each / *first.get_or_insert(each);
        anyhow::ensure!(growth < GROWTH, "{name}: {growth:.1} times the cost per offer of the smallest");
        let (mut decision, mut messages) = declines(&mut cluster)?;
        show(&decision.row(&format!("{name}: one declined, decision"), 1));
        show(&messages.row(&format!("{name}: one declined, messages"), 1));
        show(&additions(&mut cluster, size)?.row(&format!("{name}: one framework added"), 1));
    }
    Ok(())
}

/// Every second framework is in a role below its top-level role.
fn role(number: usize) -> String {
    if number.is_multiple_of(2) { format!("role-{number}") } else { format!("role-{number}/below") }
}

fn resources() -> String {
    let mut text = "cpus:24;mem:4096;disk:4096;ports:[".to_owned();
    for piece in 0..PIECES {
        let begin = 31_000 + piece * 20;
        // Writing to a String does not fail.
        let _ = write!(text, "{}{begin}-{}", if piece == 0 { "" } else { "," }, begin + 9);
    }
    text + "]"
}

/// Small roles may have half an agent each, large ones one and a quarter: nearly everything is spoken for.
fn settings(cluster: &mut Cluster, size: usize) -> anyhow::Result<()> {
    let of = |cpus: f64, mem: f64| {
        let amounts =
            [("cpus".to_owned(), Scalar { value: cpus }), ("mem".to_owned(), Scalar { value: mem })];
        amounts.into_iter().collect()
    };
    let config = |number: usize| {
        let (cpus, mem) = if number.is_multiple_of(2) { (12.0, 2048.0) } else { (30.0, 5120.0) };
        QuotaConfig { role: format!("role-{number}"), guarantees: of(cpus, mem), limits: of(cpus, mem) }
    };
    let configs = (0..size).map(config).collect();
    let update = UpdateQuotaRequest { configs, force: true, remove: Vec::new() };
    cluster.input(Input::UpdateQuota(Box::new(update)))?;
    cluster.input(Input::UpdateWeights((0..size).map(weight).collect()))
}

fn weight(number: usize) -> WeightInfo {
    WeightInfo {
        weight: f64::from(u8::try_from(number % 5).unwrap_or_default() + 1),
        role: Some(format!("role-{number}")),
    }
}

/// Everybody wants everything, and nobody may have anything.
fn revived(cluster: &mut Cluster, size: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    let before = cluster.core.outstanding_offers();
    for _ in 0..9 {
        let revive = |number| {
            Cluster::call(number, call::Type::Revive, |call| call.revive = Some(call::Revive::default()))
        };
        let inputs: Vec<Input> = (0..size).map(revive).collect();
        times.add(|| -> anyhow::Result<()> {
            for input in inputs {
                cluster.core.handle(input, NOW)?;
            }
            cluster.core.decide(NOW);
            Ok(())
        })?;
        let outcome = cluster.core.outcome();
        cluster.hear(outcome);
    }
    anyhow::ensure!(cluster.core.outstanding_offers() == before, "there was something to give");
    Ok(times)
}

fn declines(cluster: &mut Cluster) -> anyhow::Result<(Times, Times)> {
    let (mut decision, mut messages) = (Times::default(), Times::default());
    for _ in 0..DECLINES {
        let input = Cluster::decline(&cluster.take_any()?);
        decision.add(|| -> anyhow::Result<()> {
            cluster.core.handle(input, NOW)?;
            cluster.core.decide(NOW);
            Ok(())
        })?;
        let outcome = messages.add(|| cluster.core.outcome());
        cluster.hear(outcome);
    }
    Ok((decision, messages))
}

/// Frameworks join roles that have all they may have.
fn additions(cluster: &mut Cluster, size: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for number in 0..ADDED {
        let outcome = times.add(|| -> anyhow::Result<_> {
            cluster.add_framework(&role(number % size))?;
            Ok(cluster.core.settle(NOW))
        })?;
        cluster.hear(outcome);
    }
    Ok(times)
}
