//! Containers that the Docker Engine runs.
//!
//! The engine is another program that may be away or hang. No call to it lasts for ever, what it must do for a container
//! is written down before, and what it did meanwhile is found out when it answers again.

pub(crate) mod auth;
mod create;
mod engine;
mod exec;
mod image;
mod inspect;
mod launch;
mod ledger;
mod output;
mod parameters;
mod recover;
mod tracked;
mod watch;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bollard::{
    models::ContainerUpdateBody,
    query_parameters::{KillContainerOptions, StatsOptions},
};
use futures::{StreamExt, stream::BoxStream};
use meshos_mesh::{Clock, Env, Tasks};
use tokio::{
    sync::{Semaphore, mpsc, watch as channel},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::warn;

use super::{
    ContainerSpec, Containerizer, ContainerizerError, Ended, Limits, NetworkStatus, Probe, ProbeKind,
    ProbeOutcome, Recovered, Usage, process::probe,
};
use crate::config::Config;
use auth::Credentials;
use create::name_of;
use engine::{Engine, EngineError};
use inspect::Seen;
use ledger::Ledger;
use tracked::Table;
use watch::Health;

/// Containers that are started at the same time.
const STARTING: usize = 16;
/// For a call that changes something small.
const CHANGE: Duration = Duration::from_secs(30);
/// For a look.
const LOOK: Duration = Duration::from_secs(5);
const SIGTERM: i32 = 15;

/// How the engine is reached and used.
#[derive(Clone, Debug)]
pub struct Settings {
    pub work_dir: PathBuf,
    /// The flag; absent: the variable, or the usual place.
    pub socket: Option<String>,
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// Credentials for registries as JSON, or `file://` and the path of it.
    pub config: Option<String>,
    /// Where `.docker/config.json` is looked for.
    pub home: Option<PathBuf>,
    pub remove_delay: Duration,
    pub kill_orphans: bool,
    /// Never more processor time than was asked for.
    pub cfs: bool,
}

impl Settings {
    /// As the agent's flags and its environment say.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let containers = &config.containers;
        Self {
            work_dir: config.work_dir.clone(),
            socket: containers.docker_socket.clone(),
            host: std::env::var("DOCKER_HOST").ok(),
            config: containers.docker_config.clone(),
            home: std::env::var_os("HOME").map(PathBuf::from),
            remove_delay: containers.docker_remove_delay,
            kill_orphans: containers.docker_kill_orphans,
            cfs: config.cgroups_enable_cfs,
        }
    }
}

/// Runs containers through the Docker Engine. Their sandboxes are made and filled by whoever calls.
#[derive(Clone, Debug)]
pub struct DockerContainerizer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    engine: Arc<Engine>,
    ledger: Ledger,
    table: Table,
    tasks: Tasks,
    clock: Clock,
    health: channel::Sender<Health>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<Ended>>>,
    starting: Semaphore,
    /// What is there of an agent before is known: what is not known belongs to nobody.
    recovered: AtomicBool,
}

impl DockerContainerizer {
    /// Watches the engine from now on, whether it is there or not.
    ///
    /// # Errors
    /// An address that cannot be used, a work directory that cannot be written.
    pub fn open(env: &Env, settings: Settings) -> Result<Self, String> {
        let engine = Engine::at(settings.socket.as_deref(), settings.host.as_deref())?;
        let fresh = env.rng.uuid().to_string();
        let ledger = Ledger::open(&settings.work_dir, &fresh)
            .map_err(|error| format!("{}: {error}", settings.work_dir.join("docker").display()))?;
        let shared = Arc::new(Shared {
            engine: Arc::new(engine),
            ledger,
            table: Table::default(),
            tasks: env.tasks.clone(),
            clock: env.clock.clone(),
            health: channel::Sender::new(Ok(())),
            listeners: Mutex::default(),
            starting: Semaphore::new(STARTING),
            recovered: AtomicBool::new(false),
            settings,
        });
        env.tasks.spawn("docker-watch", Arc::clone(&shared).watch());
        Ok(Self(shared))
    }

    /// Why the engine cannot be used at the moment, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.health.borrow().clone().err()
    }
}

impl Shared {
    fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Relaxed)
    }

    fn tell(&self, ended: &Ended) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(ended.clone()).is_ok());
    }

    /// Fails at once while the engine is known to be away.
    fn check(&self, container_id: &str) -> Result<(), ContainerizerError> {
        self.health.borrow().clone().map_err(|reason| ContainerizerError::container(container_id, reason))
    }

    async fn inspect(&self, container_id: &str) -> Result<Seen, EngineError> {
        let name = name_of(container_id);
        let call =
            self.engine.call(LOOK, |docker| async move { docker.inspect_container(&name, None).await });
        call.await.map(Seen::new)
    }

    /// Credentials that the operator gave; read anew each time, so that they may be changed.
    fn credentials(&self) -> Option<Credentials> {
        let text = match &self.settings.config {
            Some(config) => match config.strip_prefix("file://") {
                Some(path) => std::fs::read(path).map_err(|error| error.to_string()),
                None => Ok(config.clone().into_bytes()),
            },
            None => {
                let path = self.settings.home.as_ref()?.join(".docker/config.json");
                Ok(std::fs::read(path).ok()?)
            }
        };
        let parsed = text.and_then(|text| Credentials::parse(&text));
        parsed.inspect_err(|reason| warn!(reason, "credentials for registries cannot be read")).ok()
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), EngineError> {
        // The image, or the framework, may know better what asks it to end.
        let own = self.table.lock().get(container_id).and_then(|tracked| tracked.stop_signal.clone());
        let signal = own.filter(|_| signal == SIGTERM).unwrap_or_else(|| signal.to_string());
        let (name, options) = (name_of(container_id), KillContainerOptions { signal });
        let sent = self
            .engine
            .call(CHANGE, |docker| async move { docker.kill_container(&name, Some(options)).await })
            .await;
        match sent {
            // It has ended.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            other => other,
        }
    }

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        if let Some(reason) = self.health.borrow().clone().err() {
            return ProbeOutcome::Failed(reason);
        }
        let near = {
            let table = self.table.lock();
            table.get(&probe.container_id).map_or(probe::Near::Here, tracked::Tracked::near)
        };
        match &probe.kind {
            ProbeKind::Command(spec) => {
                let ran = exec::run(&self.engine, &probe.container_id, spec, probe.timeout).await;
                ran.map_or_else(ProbeOutcome::Failed, ProbeOutcome::Exited)
            }
            ProbeKind::Http { tls, v6, port, path } => {
                probe::within(probe.timeout, probe::http(*tls, (*v6, *port), path, near)).await
            }
            ProbeKind::Tcp { v6, port } => probe::within(probe.timeout, probe::tcp(*v6, *port, near)).await,
        }
    }

    async fn usage(&self, container_id: &str) -> Option<Usage> {
        self.check(container_id).ok()?;
        let (name, options) = (name_of(container_id), StatsOptions { stream: false, one_shot: true });
        let docker = self.engine.docker().await.ok()?;
        let mut stats = std::pin::pin!(docker.stats(&name, Some(options)));
        let stats = timeout(LOOK, stats.next()).await.ok()??.ok()?;
        let cpu = stats.cpu_stats.unwrap_or_default().cpu_usage.unwrap_or_default();
        let seconds =
            |nanoseconds: Option<u64>| Duration::from_nanos(nanoseconds.unwrap_or_default()).as_secs_f64();
        let memory = stats.memory_stats.unwrap_or_default();
        // The names of the older and the newer cgroups.
        let detail = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
        let resident = detail("total_rss").or_else(|| detail("anon")).or(memory.usage);
        Some(Usage {
            user_seconds: seconds(cpu.usage_in_usermode),
            system_seconds: seconds(cpu.usage_in_kernelmode),
            memory: resident.unwrap_or_default(),
            processes: stats.pids_stats.and_then(|pids| pids.current).unwrap_or_default(),
        })
    }
}

#[async_trait]
impl Containerizer for DockerContainerizer {
    fn events(&self) -> BoxStream<'static, Ended> {
        let (listener, events) = mpsc::unbounded_channel();
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        UnboundedReceiverStream::new(events).boxed()
    }

    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError> {
        Ok(self.0.recover().await)
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        self.0.check(&spec.container_id)
    }

    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        self.0.pull(spec).await
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        self.0.launch(spec).await
    }

    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError> {
        let host = create::limits(limits, self.0.settings.cfs);
        let body = ContainerUpdateBody {
            cpu_shares: host.cpu_shares,
            cpu_period: host.cpu_period,
            cpu_quota: host.cpu_quota,
            memory: host.memory,
            // Twice the memory, as the engine itself does; it would refuse more memory than memory and swap.
            memory_swap: host.memory.map(|memory| memory.saturating_mul(2)),
            memory_reservation: host.memory_reservation,
            ..ContainerUpdateBody::default()
        };
        let name = name_of(container_id);
        let call =
            self.0.engine.call(CHANGE, |docker| async move { docker.update_container(&name, body).await });
        call.await.map_err(|error| ContainerizerError::container(container_id, error))
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError> {
        let sent = self.0.signal(container_id, signal).await;
        sent.map_err(|error| ContainerizerError::container(container_id, error))
    }

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        self.0.probe(probe).await
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        self.0.cleanup(container_id).await
    }

    async fn usage(&self, container_id: &str, _pid: u32) -> Option<Usage> {
        self.0.usage(container_id).await
    }

    async fn network(&self, container_id: &str) -> NetworkStatus {
        let table = self.0.table.lock();
        table.get(container_id).map(|tracked| tracked.network.clone()).unwrap_or_default()
    }

    fn troubles(&self) -> Vec<String> {
        self.trouble().into_iter().collect()
    }

    async fn stop(&self) {
        // The delay is for those who look into ended containers while their agent is there.
        for entry in self.0.ledger.entries().into_iter().filter(|entry| entry.forgotten.is_some()) {
            if self.0.health.borrow().is_err() {
                return;
            }
            self.0.remove(&entry.container_id, &name_of(&entry.container_id)).await;
        }
    }
}
