//! Containers in memory, for simulations: no process, no file. The command's text tells how long one runs and
//! how it ends: `sleep 3; exit 1`, `exit 2`, `sleep 10`; any other text runs until it is killed. The command
//! `trap '' TERM; …` ignores SIGTERM. What is at `sim://missing` cannot be fetched, `sim://never` is never there; all
//! else is there at once.
//!
//! One value stands for one machine: it outlives the agents that use it, as a supervisor does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use meshos_mesh::Tasks;
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{
    ContainerSpec, Containerizer, ContainerizerError, Ended, Exit, ExitStatus, Limits, Probe, ProbeKind,
    ProbeOutcome, Recovered, Usage,
};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Containers of one simulated machine.
#[derive(Clone, Debug)]
pub struct SimContainerizer {
    tasks: Tasks,
    machine: Arc<Mutex<Machine>>,
}

#[derive(Debug, Default)]
struct Machine {
    next_pid: u32,
    containers: BTreeMap<String, Container>,
    readers: Vec<mpsc::UnboundedSender<Ended>>,
    /// How often each container was started; more than once is a defect of the agent.
    launches: BTreeMap<String, u32>,
    /// What probes of a container find; absent: that all is well.
    probes: BTreeMap<String, ProbeOutcome>,
}

#[derive(Debug)]
struct Container {
    pid: u32,
    spec: ContainerSpec,
    exit: Option<Exit>,
}

impl SimContainerizer {
    /// A machine without containers. `tasks` must live as long as the machine: not an agent's own.
    #[must_use]
    pub fn new(tasks: &Tasks) -> Self {
        Self { tasks: tasks.clone(), machine: Arc::default() }
    }

    /// Containers that run, by id, with what they run.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, ContainerSpec> {
        let machine = self.lock();
        let running = machine.containers.iter().filter(|(_, container)| container.exit.is_none());
        running.map(|(id, container)| (id.clone(), container.spec.clone())).collect()
    }

    /// How often containers were started in all.
    #[must_use]
    pub fn launches(&self) -> u32 {
        self.lock().launches.values().sum()
    }

    /// Ends a container as if its process had ended so.
    pub fn end(&self, container_id: &str, status: ExitStatus) {
        end(&self.machine, container_id, status);
    }

    /// What probes of a container find from now on.
    pub fn answer_probes(&self, container_id: &str, outcome: ProbeOutcome) {
        self.lock().probes.insert(container_id.to_owned(), outcome);
    }

    /// The machine loses power: nothing runs, nothing is remembered.
    pub fn reboot(&self) {
        self.lock().containers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(machine: &Mutex<Machine>, container_id: &str, status: ExitStatus) {
    let mut machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(container) = machine.containers.get_mut(container_id) else { return };
    if container.exit.is_some() {
        return;
    }
    let exit = Exit { status, out_of_memory: false };
    container.exit = Some(exit);
    let ended = Ended { container_id: container_id.to_owned(), exit };
    machine.readers.retain(|reader| reader.send(ended.clone()).is_ok());
}

#[async_trait]
impl Containerizer for SimContainerizer {
    fn events(&self) -> BoxStream<'static, Ended> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().readers.push(sender);
        UnboundedReceiverStream::new(receiver).boxed()
    }

    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError> {
        let machine = self.lock();
        let recovered = machine.containers.iter().map(|(id, container)| Recovered {
            container_id: id.clone(),
            pid: container.pid,
            exit: container.exit,
        });
        Ok(recovered.collect())
    }

    async fn prepare(&self, _spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        Ok(())
    }

    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        for uri in &spec.uris {
            match uri.value.as_str() {
                "sim://never" => std::future::pending().await,
                "sim://missing" => {
                    return Err(ContainerizerError::container(&spec.container_id, "the server answered 404"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        let id = spec.container_id.clone();
        let pid = {
            let mut machine = self.lock();
            if machine.containers.contains_key(&id) {
                return Err(ContainerizerError::container(&id, "exists already"));
            }
            if spec.program.starts_with("/no/such") {
                return Err(ContainerizerError::container(&id, "cannot execute: No such file or directory"));
            }
            machine.next_pid += 1;
            let pid = 1000 + machine.next_pid;
            *machine.launches.entry(id.clone()).or_default() += 1;
            machine.containers.insert(id.clone(), Container { pid, spec: spec.clone(), exit: None });
            pid
        };
        if let Some((time, code)) = plan(spec) {
            let machine = Arc::clone(&self.machine);
            self.tasks.spawn("sim-container", async move {
                sleep(time).await;
                end(&machine, &id, ExitStatus::Code(code));
            });
        }
        Ok(pid)
    }

    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError> {
        if let Some(container) = self.lock().containers.get_mut(container_id) {
            container.spec.limits = *limits;
        }
        Ok(())
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError> {
        let deaf = match self.lock().containers.get(container_id) {
            None => return Err(ContainerizerError::container(container_id, "does not exist")),
            Some(container) => signal == SIGTERM && command(&container.spec).contains("trap '' TERM"),
        };
        if !deaf && (signal == SIGKILL || signal == SIGTERM) {
            end(&self.machine, container_id, ExitStatus::Signal(signal));
        }
        Ok(())
    }

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        let outcome = self.lock().probes.get(&probe.container_id).cloned();
        outcome.unwrap_or_else(|| match &probe.kind {
            ProbeKind::Command(spec) => ProbeOutcome::Exited(plan(spec).map_or(0, |(_, code)| code)),
            ProbeKind::Http { .. } => ProbeOutcome::Status(200),
            ProbeKind::Tcp { .. } => ProbeOutcome::Connected(true),
        })
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        let mut machine = self.lock();
        match machine.containers.get(container_id) {
            Some(container) if container.exit.is_none() => {
                Err(ContainerizerError::container(container_id, "still runs"))
            }
            _ => {
                machine.containers.remove(container_id);
                Ok(())
            }
        }
    }

    async fn usage(&self, container_id: &str, _pid: u32) -> Option<Usage> {
        self.lock().containers.get(container_id).map(|_| Usage { processes: 1, ..Usage::default() })
    }

    async fn stop(&self) {}
}

fn command(spec: &ContainerSpec) -> String {
    format!("{} {}", spec.program, spec.arguments.join(" "))
}

/// When and how the container ends by itself; none: never.
fn plan(spec: &ContainerSpec) -> Option<(Duration, i32)> {
    let text = spec.arguments.last().map_or("", String::as_str);
    let mut time = Duration::ZERO;
    let mut code = None;
    for word in text.split(';').map(str::trim) {
        match word.split_once(' ') {
            Some(("sleep", seconds)) => {
                time += Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()?;
                code = code.or(Some(0));
            }
            Some(("exit", number)) => return Some((time, number.trim().parse().ok()?)),
            Some(("trap" | "echo", _)) => {}
            None if word == "true" => code = Some(0),
            None if word == "false" => code = Some(1),
            _ => return None,
        }
    }
    code.map(|code| (time, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> ContainerSpec {
        ContainerSpec { arguments: vec!["-c".to_owned(), text.to_owned()], ..ContainerSpec::default() }
    }

    #[test]
    fn the_command_tells_its_end() {
        let seconds = |n| Duration::from_secs(n);
        assert_eq!(plan(&shell("sleep 3; exit 1")), Some((seconds(3), 1)));
        assert_eq!(plan(&shell("exit 2")), Some((seconds(0), 2)));
        assert_eq!(plan(&shell("sleep 10")), Some((seconds(10), 0)));
        assert_eq!(plan(&shell("while true; do sleep 1; done")), None);
        assert_eq!(plan(&shell("sleep forever")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn conforms() {
        let tasks = Tasks::new();
        let sim = SimContainerizer::new(&tasks);
        let dir = tempfile::tempdir().unwrap();
        super::super::conformance::run(Arc::new(sim), dir.path()).await;
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
    }
}
