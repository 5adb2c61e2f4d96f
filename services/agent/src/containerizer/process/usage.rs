//! What processes and all below them use.

use std::collections::BTreeSet;

use futures::future::join_all;

use crate::{
    containerizer::Usage,
    procfs::{self, ProcessUsage},
};

/// Trees that a thread sums up: a handful are not worth a second one.
const SHARE: usize = 64;
/// Of those threads at most, so that a reader does not take the machine from the tasks.
const THREADS: usize = 4;

/// Sums over each of these processes and all below it, in their order; none where there is no such process.
pub(super) async fn of_trees(pids: Vec<Option<i32>>) -> Vec<Option<Usage>> {
    let share = pids.len().div_ceil(THREADS).max(SHARE);
    let shares = pids.chunks(share).map(|pids| {
        let pids = pids.to_owned();
        let count = pids.len();
        let sums = tokio::task::spawn_blocking(move || {
            let units = Units::of_kernel();
            pids.into_iter().map(|pid| of_tree(pid?, &units)).collect::<Vec<_>>()
        });
        async move { sums.await.unwrap_or_else(|_| vec![None; count]) }
    });
    join_all(shares).await.concat()
}

/// What the kernel counts in.
struct Units {
    /// In a second.
    ticks: u64,
    /// Bytes.
    page: u64,
}

impl Units {
    fn of_kernel() -> Self {
        let constant = |name, default| {
            let value = nix::unistd::sysconf(name).ok().flatten();
            value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default)
        };
        Self {
            ticks: constant(nix::unistd::SysconfVar::CLK_TCK, 100),
            page: constant(nix::unistd::SysconfVar::PAGE_SIZE, 4096),
        }
    }
}

fn of_tree(pid: i32, units: &Units) -> Option<Usage> {
    let mut sum = Usage::default();
    let (mut seen, mut open) = (BTreeSet::from([pid]), vec![pid]);
    while let Some(pid) = open.pop() {
        let Some(usage) = procfs::usage(pid) else { continue };
        add(&mut sum, usage, units);
        open.extend(procfs::children(pid, Some(usage.threads)).into_iter().filter(|pid| seen.insert(*pid)));
    }
    (sum.processes > 0).then_some(sum)
}

#[allow(clippy::cast_precision_loss, reason = "seconds are shown to the hundredth")]
fn add(sum: &mut Usage, usage: ProcessUsage, units: &Units) {
    sum.user_seconds += usage.user_ticks as f64 / units.ticks as f64;
    sum.system_seconds += usage.system_ticks as f64 / units.ticks as f64;
    sum.memory += usage.resident_pages * units.page;
    sum.processes += 1;
}
