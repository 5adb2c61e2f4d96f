//! What goes wrong, and when.

use std::{collections::BTreeMap, time::Duration};

use meshos_agent::containerizer::{ExitStatus, sim::SimContainerizer};
use meshos_mesh::Rng;
use turmoil::Sim;

use super::{AGENTS, ALLOCATORS, REGISTRIES, SCHEDULERS, Script, store::Central};

/// Machines by the name of their agent's host.
type Machines = BTreeMap<&'static str, SimContainerizer>;

/// One thing that goes wrong, or is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies; what runs on the machine lives on.
    Crash(&'static str),
    /// The machine loses power: the agent dies, and all that runs with it.
    PowerLoss(&'static str),
    /// A task of the machine fails by itself.
    TaskFails(&'static str),
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
    pub(super) fn inject(&self, sim: &mut Sim<'static>, central: &Central, machines: &Machines) {
        match *self {
            Self::Crash(host) => sim.crash(host),
            Self::PowerLoss(host) => {
                sim.crash(host);
                machines[host].reboot();
            }
            Self::TaskFails(host) => {
                if let Some(container) = machines[host].running().keys().next() {
                    machines[host].end(container, ExitStatus::Code(1));
                }
            }
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

/// Faults with their times; each that lasts is mended later.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The next one last.
    events: Vec<(Duration, Fault)>,
}

impl Schedule {
    /// As the script says.
    pub(super) fn of(rng: &Rng, script: &Script) -> Self {
        if script.only_schedulers {
            Self::of_schedulers(rng, script.faults_until)
        } else {
            Self::new(rng, script.faults_until)
        }
    }

    /// App-schedulers die at any moment, about one in a second; each is back before long. Both may be gone.
    fn of_schedulers(rng: &Rng, until: Duration) -> Self {
        let mut events = Vec::new();
        for host in SCHEDULERS {
            let mut at = Duration::from_millis(3000 + rng.below(2000));
            while at < until {
                let end = (at + Duration::from_millis(1 + rng.below(700))).min(until);
                events.extend([(at, Fault::Crash(host)), (end, Fault::Restart(host))]);
                at = end + Duration::from_millis(50 + rng.below(3000));
            }
        }
        events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self { events }
    }

    /// About one fault in two seconds, each for up to ten; none for a host or pair that already has one.
    fn new(rng: &Rng, until: Duration) -> Self {
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
                events.extend(mend.map(|mend| (end, mend)));
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

fn draw(rng: &Rng) -> (Fault, Option<Fault>, Vec<&'static str>) {
    let control: Vec<&'static str> = REGISTRIES.into_iter().chain(ALLOCATORS).chain(SCHEDULERS).collect();
    let all: Vec<&'static str> = control.iter().copied().chain(AGENTS).collect();
    let pick = |hosts: &[&'static str]| hosts[usize::try_from(rng.below(hosts.len() as u64)).unwrap_or(0)];
    match rng.below(8) {
        0 | 1 => {
            let host = pick(&all);
            (Fault::Crash(host), Some(Fault::Restart(host)), vec![host])
        }
        2 => {
            let host = pick(&control);
            (Fault::CutOff(host), Some(Fault::Join(host)), vec![host])
        }
        3 => {
            let host = pick(&AGENTS);
            (Fault::PowerLoss(host), Some(Fault::Restart(host)), vec![host])
        }
        4 => {
            let host = pick(&AGENTS);
            (Fault::TaskFails(host), None, vec![host])
        }
        kind => {
            let a = pick(&control);
            let b = loop {
                let b = pick(&all);
                if b != a {
                    break b;
                }
            };
            if kind == 5 {
                (Fault::Delay(a, b), Some(Fault::Release(a, b)), vec![a, b])
            } else {
                (Fault::Partition(a, b), Some(Fault::Heal(a, b)), vec![a, b])
            }
        }
    }
}
