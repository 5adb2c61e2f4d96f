//! A whole cluster in simulated time, from a seed: every service on a host of its own, a store that hosts can be
//! cut off from, machines whose containers outlive their agents, and faults at random. The same seed gives the
//! same run.

mod faults;
mod hosts;
mod store;
mod transport;
mod user;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use meshos_agent::containerizer::sim::SimContainerizer;
use meshos_mesh::{Rng, Tasks};
use tempfile::TempDir;

pub use faults::Fault;
pub use user::Script;

use self::{faults::Schedule, store::Central};

/// Two of each control service, so that every leader has a standby.
const REGISTRIES: [&str; 2] = ["registry-a", "registry-b"];
const ALLOCATORS: [&str; 2] = ["allocator-a", "allocator-b"];
const SCHEDULERS: [&str; 2] = ["app-scheduler-a", "app-scheduler-b"];
const AGENTS: [&str; 3] = ["agent-a", "agent-b", "agent-c"];
const STORE: &str = "store";
const USER: &str = "user";

/// Simulated time that a cluster has to settle once nothing goes wrong any more: less than any periodic
/// reconciliation takes.
const SETTLING: Duration = Duration::from_secs(120);
/// 2026-01-01T00:00:00Z
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// What a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Containers that started and ended, with the simulated millisecond and the machine: equal for equal seeds.
    pub trace: Vec<String>,
    /// Faults in the order in which they came.
    pub faults: Vec<String>,
    /// Task ids that run at the end, by machine.
    pub running: BTreeMap<String, Vec<String>>,
    /// Task ids that the app-scheduler shows as running at the end.
    pub shown: Vec<String>,
    /// Instances that were wanted at the end.
    pub wanted: u32,
}

/// Runs the script with faults from `seed` until the cluster has settled again.
///
/// # Errors
/// Says which promise was broken, or that the cluster did not settle; with the seed to replay it.
pub fn run(seed: u64, script: &Script) -> Result<Report, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    align_task_ids();
    Cluster::new(seed, script).run().map_err(|why| format!("seed {seed}: {why}"))
}

/// A crash drops a runtime's tasks, and with them its connections, shard by shard; the shard is a task's id
/// modulo a small power of two, and ids count in the whole process. So every run begins at the same remainder,
/// and runs do not overlap.
fn align_task_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let next = || runtime.spawn(async {}).id().to_string().parse::<u64>().expect("a task's id is a number");
    while next() % 1024 != 0 {}
}

struct Cluster {
    sim: turmoil::Sim<'static>,
    central: Central,
    machines: BTreeMap<&'static str, SimContainerizer>,
    schedule: Schedule,
    outcome: Arc<Mutex<Option<user::Outcome>>>,
    trace: Vec<String>,
    faults: Vec<String>,
    seen: BTreeMap<&'static str, Vec<String>>,
    /// Where the agents keep their checkpoints.
    _work_dirs: TempDir,
}

impl Cluster {
    fn new(seed: u64, script: &Script) -> Self {
        let rng = Rng::seeded(seed);
        let mut sim = turmoil::Builder::new()
            .simulation_duration(script.faults_until + SETTLING)
            .tick_duration(Duration::from_millis(2))
            .epoch(UNIX_EPOCH + EPOCH)
            .min_message_latency(Duration::from_millis(0))
            .max_message_latency(Duration::from_millis(8))
            .tcp_capacity(1024)
            .rng_seed(rng.u64())
            .build();
        let (central, central_host) = Central::new();
        let work_dirs = tempfile::tempdir().expect("a temporary directory can be made");
        let machines: BTreeMap<_, _> = AGENTS.map(|name| (name, SimContainerizer::new(&Tasks::new()))).into();
        hosts::add_store(&mut sim, central_host);
        hosts::add(&mut sim, &central, &machines, work_dirs.path(), rng.u64());
        let outcome = Arc::default();
        user::add(&mut sim, &central, script, &outcome, rng.u64());
        let schedule = Schedule::of(&Rng::seeded(rng.u64()), script);
        Self {
            sim,
            central,
            machines,
            schedule,
            outcome,
            trace: Vec::new(),
            faults: Vec::new(),
            seen: BTreeMap::new(),
            _work_dirs: work_dirs,
        }
    }

    fn run(mut self) -> Result<Report, String> {
        loop {
            for fault in self.schedule.due(self.sim.elapsed()) {
                self.faults.push(format!("{:>7} ms {fault:?}", self.sim.elapsed().as_millis()));
                fault.inject(&mut self.sim, &self.central, &self.machines);
            }
            let finished = self.sim.step().map_err(|error| self.describe(&format!("{error}")))?;
            self.observe()?;
            if finished {
                return self.report();
            }
        }
    }

    /// Notes what started and ended, and checks what must hold at every moment.
    fn observe(&mut self) -> Result<(), String> {
        let mut instances: BTreeMap<String, &str> = BTreeMap::new();
        let mut doubled = None;
        for (name, machine) in &self.machines {
            let tasks = running(machine);
            for task in &tasks {
                let instance = task.split("._app.").next().unwrap_or(task).to_owned();
                if let Some(other) = instances.insert(instance.clone(), name) {
                    doubled = Some(format!("instance {instance} runs twice, on {other} and {name}"));
                }
            }
            let before = self.seen.insert(name, tasks.clone()).unwrap_or_default();
            let at = self.sim.elapsed().as_millis();
            let started = tasks.iter().filter(|task| !before.contains(task)).map(|task| ('+', task));
            let ended = before.iter().filter(|task| !tasks.contains(task)).map(|task| ('-', task));
            self.trace.extend(ended.chain(started).map(|(sign, task)| format!("{at} {name} {sign}{task}")));
        }
        doubled.map_or(Ok(()), |what| Err(self.describe(&what)))
    }

    fn report(self) -> Result<Report, String> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(user::Outcome { shown, wanted }) = outcome else {
            return Err(self.describe("the user's script did not end"));
        };
        let running =
            self.machines.iter().map(|(name, machine)| ((*name).to_owned(), running(machine))).collect();
        Ok(Report { trace: self.trace, faults: self.faults, running, shown, wanted })
    }

    fn describe(&self, what: &str) -> String {
        format!("{what}\nfaults:\n{}\ntrace:\n{}", self.faults.join("\n"), self.trace.join("\n"))
    }
}

/// Task ids of the containers that run, in order.
fn running(machine: &SimContainerizer) -> Vec<String> {
    let task =
        |spec: &meshos_agent::containerizer::ContainerSpec| spec.environment.get("MESOS_TASK_ID").cloned();
    let mut tasks: Vec<String> = machine.running().values().filter_map(task).collect();
    tasks.sort();
    tasks
}
