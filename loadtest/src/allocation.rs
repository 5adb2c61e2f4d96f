//! The allocator's decisions by themselves, in this process: full cycles, changes of a cluster at rest, quota.
//!
//! Decision and messages are shown apart: the decision is what the core works out and books; the messages are what
//! frameworks and the readers of Watch are told of it.

mod clock;
mod cluster;
mod full;
mod quota;
mod steady;

/// What an agent of the benchmarks has.
const RESOURCES: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";

/// All figures, as rows of a table; sizes of more than `most` agents are left out.
pub(crate) fn rows(most: usize, show: impl Fn(&str)) -> anyhow::Result<()> {
    full::idle(most, &show)?;
    full::rows(most, &show)?;
    steady::rows(most, &show)?;
    quota::rows(most, &show)
}
