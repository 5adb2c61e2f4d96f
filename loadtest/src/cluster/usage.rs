//! What processes cost, from `/proc`.

use std::{collections::BTreeMap, fs};

use crate::{memory, statistics::mebibytes};

/// `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time in seconds so far, and resident memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    cpu: f64,
    rss: u64,
}

/// Of some processes, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(BTreeMap<String, Usage>);

impl Sample {
    pub(crate) fn of<'a>(processes: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let usage =
            |pid| Usage { cpu: cpu(pid).unwrap_or_default(), rss: memory::rss(pid).unwrap_or_default() };
        Self(processes.map(|(name, pid)| (short(name), usage(pid))).collect())
    }

    pub(crate) fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// CPU seconds since `before` and memory now: `registry 1.20 s 85 MiB, …`.
    pub(crate) fn since(&self, before: &Self) -> String {
        let parts = self.0.iter().map(|(name, now)| {
            let cpu = now.cpu - before.0.get(name).map_or(0.0, |before| before.cpu);
            format!("{name} {cpu:.2} s {:.0} MiB", mebibytes(now.rss))
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// CPU seconds since `before` of the processes whose name begins with `name`.
    pub(crate) fn cpu_since(&self, before: &Self, name: &str) -> f64 {
        let of = |sample: &Self| -> f64 {
            sample.0.iter().filter(|(n, _)| n.starts_with(name)).map(|(_, usage)| usage.cpu).sum()
        };
        of(self) - of(before)
    }

    /// Bytes by which the processes whose name begins with `name` have grown since `before`.
    pub(crate) fn grown_since(&self, before: &Self, name: &str) -> u64 {
        let of = |sample: &Self| -> u64 {
            sample.0.iter().filter(|(n, _)| n.starts_with(name)).map(|(_, usage)| usage.rss).sum()
        };
        of(self).saturating_sub(of(before))
    }
}

/// `allocator-0-<uuid>` is allocator-0.
fn short(name: &str) -> String {
    const UUID: usize = 36;
    let uuid = name.len().checked_sub(UUID + 1).filter(|at| name[*at..].matches('-').count() == 5);
    name[..uuid.unwrap_or(name.len())].to_owned()
}

/// User and system time of a process in seconds.
fn cpu(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_cost() {
        let me = std::process::id();
        assert!(cpu(me).is_some());
        assert!(memory::rss(me).is_some_and(|rss| rss > 0));
        assert_eq!(short("allocator-0-0e2c7a5a-1111-4222-8333-444455556666"), "allocator-0");
        assert_eq!(short("fleet-0"), "fleet-0");
    }
}
