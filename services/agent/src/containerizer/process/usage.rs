//! What a process and all below it use.

use std::collections::BTreeSet;

use crate::{containerizer::Usage, procfs};

/// Sums over the process and all below it.
pub(super) fn of_tree(pid: i32) -> Option<Usage> {
    let ticks = constant(nix::unistd::SysconfVar::CLK_TCK, 100);
    let page = constant(nix::unistd::SysconfVar::PAGE_SIZE, 4096);
    let mut pids = BTreeSet::from([pid]);
    procfs::descendants(pid, &mut pids);
    let mut sum = Usage::default();
    for (user, system, pages) in pids.into_iter().filter_map(procfs::usage) {
        #[allow(clippy::cast_precision_loss, reason = "seconds are shown to the hundredth")]
        {
            sum.user_seconds += user as f64 / ticks as f64;
            sum.system_seconds += system as f64 / ticks as f64;
        }
        sum.memory += pages * page;
        sum.processes += 1;
    }
    (sum.processes > 0).then_some(sum)
}

fn constant(name: nix::unistd::SysconfVar, default: u64) -> u64 {
    nix::unistd::sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(default)
}
