//! What goes wrong, and when.

use std::time::Duration;

use meshos_mesh::Rng;
use turmoil::Sim;

use super::{AGENTS, ALLOCATORS, REGISTRIES, SCHEDULERS, store::Central};

/// One thing that goes wrong, or is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies; what runs on the machine lives on.
    Crash(&'static str),
    /// The process starts again.
    Restart(&'static str),
    /// No message passes between two hosts.
    Partition(&'static str, &'static str),
    /// Messages pass again.
    Heal(&'static str, &'static str),
    /// Messages between two hosts wait.
    Delay(&'static str, &'static str),
    /// Messages that waited arrive.
    Release(&'static str, &'static str),
    /// The host cannot reach the store.
    CutOff(&'static str),
    /// The host reaches the store again.
    Join(&'static str),
}

impl Fault {
    pub(super) fn inject(&self, sim: &mut Sim<'static>, central: &Central) {
        match *self {
            Self::Crash(host) => sim.crash(host),
            Self::Restart(host) => sim.bounce(host),
            Self::Partition(a, b) => sim.partition(a, b),
            Self::Heal(a, b) => sim.repair(a, b),
            Self::Delay(a, b) => sim.hold(a, b),
            Self::Release(a, b) => sim.release(a, b),
            Self::CutOff(host) => central.cut_off(host),
            Self::Join(host) => central.join(host),
        }
    }
}

/// Faults with their times; each is mended later.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The next one last.
    events: Vec<(Duration, Fault)>,
}

impl Schedule {
    /// About one fault in two seconds, each for up to ten; none for a host or pair that already has one.
    pub(super) fn new(rng: &Rng, until: Duration) -> Self {
        let mut events: Vec<(Duration, Fault)> = Vec::new();
        let mut busy: Vec<(Duration, Vec<&'static str>)> = Vec::new();
        let mut at = Duration::from_secs(3);
        while at < until {
            busy.retain(|(end, _)| *end > at);
            let (fault, mend, hosts) = draw(rng);
            let free = |host: &&'static str| busy.iter().all(|(_, hosts)| !hosts.contains(host));
            if hosts.iter().all(free) {
                let end = (at + Duration::from_millis(200 + rng.below(10_000))).min(until);
                events.push((at, fault));
                events.push((end, mend));
                busy.push((end, hosts));
            }
            at += Duration::from_millis(200 + rng.below(4_000));
        }
        events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self { events }
    }

    pub(super) fn due(&mut self, now: Duration) -> Vec<Fault> {
        let mut due = Vec::new();
        while self.events.last().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.events.pop().map(|(_, fault)| fault));
        }
        due
    }
}

fn draw(rng: &Rng) -> (Fault, Fault, Vec<&'static str>) {
    let control: Vec<&'static str> = REGISTRIES.into_iter().chain(ALLOCATORS).chain(SCHEDULERS).collect();
    let all: Vec<&'static str> = control.iter().copied().chain(AGENTS).collect();
    let pick = |hosts: &[&'static str]| hosts[usize::try_from(rng.below(hosts.len() as u64)).unwrap_or(0)];
    match rng.below(6) {
        0 | 1 => {
            let host = pick(&all);
            (Fault::Crash(host), Fault::Restart(host), vec![host])
        }
        2 => {
            let host = pick(&control);
            (Fault::CutOff(host), Fault::Join(host), vec![host])
        }
        kind => {
            let a = pick(&control);
            let b = loop {
                let b = pick(&all);
                if b != a {
                    break b;
                }
            };
            if kind == 3 {
                (Fault::Delay(a, b), Fault::Release(a, b), vec![a, b])
            } else {
                (Fault::Partition(a, b), Fault::Heal(a, b), vec![a, b])
            }
        }
    }
}
