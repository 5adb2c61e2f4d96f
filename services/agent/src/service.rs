//! Builds an agent from its parts and starts it.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use meshos_mesh::{Env, MAX_MESSAGE_BYTES, serve};
use meshos_proto::{
    meshos::{
        agent::v1::agent_server::AgentServer,
        registry::v1::{Leader, Register},
    },
    mesos::v1::{self as pb, agent_info::capability::Type as Capability},
};
use meshos_types::{AgentId, Resources};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::{
    Config, Error, MESOS_VERSION,
    checkpoint::{Checkpoint, Replay},
    containerizer::{Containerizer, ContainerizerError, SharedContainerizer},
    core::{Core, Input, Settings},
    detect, executors, grpc,
    housekeeping::{Housekeeping, Past},
    http::{self, Api, Facts, Sandboxes},
    link::Link,
    reconfiguration::{fits, permitted},
    runner::{EVENTS, Event, Identity, Parts, Runner, Status},
    session::Session,
    workdir::WorkDir,
};

/// What this agent can do.
const CAPABILITIES: [Capability; 6] = [
    Capability::MultiRole,
    Capability::HierarchicalRole,
    Capability::ReservationRefinement,
    Capability::ResizeVolume,
    Capability::AgentOperationFeedback,
    Capability::TaskResourceLimits,
];
/// Clients wait longer than this before they give an agent up.
const LONGEST_REREGISTRATION: Duration = Duration::from_secs(15);
/// Background work is given this long to end.
const ENDING: Duration = Duration::from_secs(5);
const SIGKILL: i32 = 9;
/// Beyond the longest grace period: SIGKILL, the end of the processes, the news of it.
const KILLING: Duration = Duration::from_secs(30);

/// A running agent. Dropping it leaves the agent running.
#[derive(Debug)]
pub struct Handle {
    env: Env,
    http_address: Option<SocketAddr>,
    grpc_address: Option<String>,
    status: watch::Receiver<Status>,
    events: mpsc::Sender<Event>,
    containerizer: SharedContainerizer,
    config: Config,
    /// As the flags made the agent at its start.
    identity: pb::AgentInfo,
}

impl Handle {
    /// Where the HTTP API listens; none when it is off.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Where the gRPC service listens; none when it is off.
    #[must_use]
    pub fn grpc_address(&self) -> Option<&str> {
        self.grpc_address.as_deref()
    }

    /// The id that the registry gave; none before.
    #[must_use]
    pub fn agent_id(&self) -> Option<AgentId> {
        self.status.borrow().agent_id.as_deref().map(AgentId::new)
    }

    /// Whether the allocator has accepted the link.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.status.borrow().linked
    }

    /// Waits until the allocator has accepted the link.
    pub async fn linked(&self) {
        let _ = self.status.clone().wait_for(|status| status.linked).await;
    }

    /// Waits until the registry refuses the agent, which happens at most once; why.
    pub async fn refused(&self) -> String {
        let mut status = self.status.clone();
        let Ok(status) = status.wait_for(|status| status.refused.is_some()).await else {
            return std::future::pending().await;
        };
        status.refused.clone().unwrap_or_default()
    }

    /// Reads the resources and attributes anew that flags name files for, or that are detected, and goes on with them.
    ///
    /// # Errors
    /// Why it goes on as before: flags that cannot be read, or too little for what runs.
    pub async fn reconfigure(&self) -> Result<(), Error> {
        let stopped = || Error::Reconfiguration("the agent ends".to_owned());
        let detected = detect::detect(&self.config)?;
        let info = detected
            .agent_info(&self.identity.hostname, u16::try_from(self.identity.port()).unwrap_or_default());
        let (reply, outcome) = oneshot::channel();
        let event = Event::Reconfigure { info: Box::new(info), resources: detected.resources, reply };
        self.events.send(event).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?.map_err(Error::Reconfiguration)
    }

    /// Ends the agent. Its tasks end before it, or run on for the next agent in this work directory.
    pub async fn shutdown(self, keep_tasks: bool) {
        if !keep_tasks {
            self.end_tasks().await;
        }
        if !self.env.tasks.shutdown(ENDING).await {
            warn!(work_dir = %self.config.work_dir.display(), "agent did not end in time");
        }
        // Nobody asks for a start any more.
        self.containerizer.stop().await;
    }

    async fn end_tasks(&self) {
        if self.events.send(Event::Input(Input::Shutdown)).await.is_err() {
            return;
        }
        // Answered after all that came before: the status is that of a stopping agent.
        let (reply, seen) = oneshot::channel();
        let _ = self.events.send(Event::View(reply)).await;
        let _ = seen.await;
        let mut status = self.status.clone();
        let mut before = usize::MAX;
        loop {
            let ended = timeout(KILLING, status.wait_for(|status| status.live == 0)).await.is_ok();
            let live = status.borrow().live;
            match (ended, live < before) {
                (true, _) => break,
                // Grace periods may be long: fewer tasks show that it goes on.
                (false, true) => before = live,
                (false, false) => {
                    return warn!(tasks = live, "tasks do not end");
                }
            }
        }
    }
}

/// Starts an agent: takes its work directory, finds again what runs, and registers in the background.
///
/// # Errors
/// Bad flags, a work directory that cannot be used or is used by another, an address that is taken, a
/// containerizer that does not answer.
pub async fn start(
    env: &Env,
    config: Config,
    containerizer: Arc<dyn Containerizer>,
) -> Result<Handle, Error> {
    let env = env.child();
    let work_dir = WorkDir::open(&config.work_dir)?;
    let config = Config { work_dir: work_dir.path.clone(), ..config };
    config.check()?;
    let config = Config { ip: detect::ip(&config).await?, ..config };
    let firewall = detect::firewall(&config)?;
    if !config.foreign.meaningless.is_empty() {
        info!(settings = config.foreign.meaningless.join(", "), "settings without a meaning here");
    }
    let detected = detect::detect(&config)?;
    let hostname =
        config.hostname.clone().unwrap_or_else(|| match config.ip.is_loopback() || !config.hostname_lookup {
            true => config.task_ip().to_string(),
            false => detect::hostname(),
        });
    let listener = listen(&config).await?;
    let http_address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let port = config.advertise_port.or(http_address.map(|address| address.port())).unwrap_or(config.port);
    let endpoint = SocketAddr::new(config.task_ip(), port).to_string();
    let identity = Identity {
        info: detected.agent_info(&hostname, port),
        version: MESOS_VERSION.to_owned(),
        endpoint: endpoint.clone(),
        capabilities: CAPABILITIES.map(|c| pb::agent_info::Capability { r#type: Some(c as i32) }).to_vec(),
    };
    let path = work_dir.checkpoint();
    let opened = if config.strict { Checkpoint::open(&path) } else { Checkpoint::open_leniently(&path) };
    let (checkpoint, replay) = opened?;
    check_reconfiguration(&config, &replay, (&identity.info, &detected.resources))?;
    let (events, inbox) = mpsc::channel(EVENTS);
    let sandboxes = Sandboxes::new(&work_dir.path);
    if let Some(log) = config.shown_log() {
        sandboxes.attach_file("/slave/log", log);
    }
    let past = Past::new();
    let (announced, info) = watch::channel(identity.info.clone());
    let announced_at_start = identity.info.clone();
    let (status, status_receiver) = watch::channel(Status::default());
    let renew = Arc::new(Notify::new());
    let parts = Parts {
        env: env.clone(),
        checkpoint,
        containerizer: Arc::clone(&containerizer),
        identity: identity.clone(),
        sandboxes: sandboxes.clone(),
        past: past.clone(),
        announced,
        status: status.clone(),
        events: events.clone(),
        renew: Arc::clone(&renew),
        work_dir,
    };
    let settings = Settings {
        ip: config.task_ip().to_string(),
        endpoint: endpoint.clone(),
        work_dir: config.work_dir.clone(),
        resources: detected.resources.clone(),
        recovery_timeout: config.recovery_timeout,
        shutdown_grace: config.executor_shutdown_grace_period,
        agent_info: identity.info.clone(),
        executor_registration_timeout: config.executor_registration_timeout,
        executor_reregistration_timeout: config.executor_reregistration_timeout.min(LONGEST_REREGISTRATION),
        executor_secret: executors::secret(&config)?,
        executor_environment: executors::environment(&config)?,
        max_completed_executors: config.max_completed_executors_per_framework,
        collect_nested: config.gc_non_executor_container_sandboxes,
        runtimes: config.runtimes()?,
        docker_grace: config.docker_grace(),
    };
    let (executor_secret, began) = (settings.executor_secret.clone(), Instant::now());
    let agent_id = match run_core(parts, settings, replay, inbox).await {
        Ok(agent_id) => agent_id,
        Err(error) => {
            // What a failed start leaves nobody would end.
            containerizer.stop().await;
            return Err(error);
        }
    };
    let recovery = began.elapsed();
    let housekeeping = Housekeeping::new(&env, &config, (events.clone(), sandboxes.clone(), past.clone()));
    if config.housekeeping {
        env.tasks.spawn("housekeeping", housekeeping.run());
    }
    let leader = start_session(&env, &config, (&identity, info), agent_id, (events.clone(), status, renew));
    let grpc_address = start_grpc(&env, &config, events.clone()).await?;
    if let Some(listener) = listener {
        let facts = Facts { executor_secret, firewall, recovery, leader };
        let api = Api::new(
            &env,
            &config,
            (identity, hostname, facts),
            (events.clone(), sandboxes, Arc::clone(&containerizer), past),
        );
        http::serve(&env, listener, api);
    }
    info!(work_dir = %config.work_dir.display(), endpoint, "agent started");
    Ok(Handle {
        env,
        http_address,
        grpc_address,
        status: status_receiver,
        events,
        containerizer,
        identity: announced_at_start,
        config,
    })
}

/// Ends everything that agents before left running in this work directory (`--recover=cleanup`). The next agent reports
/// it as ended.
///
/// # Errors
/// A work directory that is used by an agent, a containerizer that does not answer.
pub async fn clean_up(config: &Config, containerizer: &SharedContainerizer) -> Result<(), Error> {
    let _work_dir = WorkDir::open(&config.work_dir)?;
    let mut ended = containerizer.events();
    let containers = containerizer.recover().await?;
    info!(containers = containers.len(), "ending what agents before left");
    let mut running = BTreeSet::new();
    for container in containers.into_iter().filter(|container| container.exit.is_none()) {
        containerizer.signal(&container.container_id, SIGKILL).await?;
        running.insert(container.container_id);
    }
    while !running.is_empty() {
        let next = timeout(KILLING, ended.next()).await;
        let Ok(Some(ended)) = next else {
            return Err(ContainerizerError::container(
                &running.into_iter().collect::<Vec<_>>().join(", "),
                "does not end",
            )
            .into());
        };
        running.remove(&ended.container_id);
    }
    containerizer.stop().await;
    Ok(())
}

/// Whether the agent may go on as its flags make it now.
fn check_reconfiguration(
    config: &Config,
    replay: &Replay,
    (info, resources): (&pb::AgentInfo, &Resources),
) -> Result<(), Error> {
    if let Some(before) = &replay.info {
        permitted(config.reconfiguration_policy, before, info).map_err(Error::Reconfiguration)?;
    }
    let total = Resources::from_proto(replay.total.as_deref().unwrap_or_default()).unwrap_or_default();
    // Whether what runs fits as well is seen when it is known what does.
    fits(resources, &total, std::iter::empty()).map_err(Error::Reconfiguration)
}

async fn listen(config: &Config) -> Result<Option<TcpListener>, Error> {
    if !config.http {
        return Ok(None);
    }
    let address = SocketAddr::new(config.ip, config.port);
    TcpListener::bind(address).await.map(Some).map_err(|source| Error::Listen { address, source })
}

/// Recovers the state and starts the loop; the id from before, if there is one.
async fn run_core(
    mut parts: Parts,
    settings: Settings,
    replay: Replay,
    inbox: mpsc::Receiver<Event>,
) -> Result<Option<AgentId>, Error> {
    let started = Instant::now();
    // Before the recovery, so that no end falls between the two.
    let ended = parts.containerizer.events();
    let containers = parts.containerizer.recover().await?;
    let now = Runner::now(&parts.env, started);
    let resources = settings.resources.clone();
    let (core, effects) = Core::recover(settings, parts.env.rng.clone(), replay, containers, now);
    core.can_become(&resources).map_err(Error::Reconfiguration)?;
    let records = core.records();
    let path = parts.sandboxes.root().join("meta/agent.journal");
    parts.checkpoint.rewrite(&records).map_err(|e| Error::Checkpoint { path, reason: e.to_string() })?;
    core.shown().iter().for_each(|shown| parts.sandboxes.attach(shown));
    let agent_id = core.agent_id().cloned();
    let (id, live) = (agent_id.as_ref().map(AgentId::to_string), core.live());
    parts.status.send_modify(|status| (status.agent_id, status.live) = (id, live));
    let tasks = parts.env.tasks.clone();
    let runner = Runner::new(parts, core, started);
    tasks.spawn("agent", runner.run(effects, inbox, ended));
    Ok(agent_id)
}

fn start_session(
    env: &Env,
    config: &Config,
    (identity, info): (&Identity, watch::Receiver<pb::AgentInfo>),
    agent_id: Option<AgentId>,
    (events, status, renew): (mpsc::Sender<Event>, watch::Sender<Status>, Arc<Notify>),
) -> watch::Receiver<Option<Leader>> {
    let agent = pb::AgentInfo { id: agent_id.map(Into::into), ..identity.info.clone() };
    let register = Register {
        agent: Some(agent),
        version: identity.version.clone(),
        endpoint: identity.endpoint.clone(),
        capabilities: identity.capabilities.clone(),
    };
    let (leader, leader_receiver) = watch::channel(None);
    let addresses = config.registry.clone();
    let session = Session {
        env: env.clone(),
        addresses,
        register,
        info,
        events: events.clone(),
        leader,
        status,
        renew,
    };
    env.tasks.spawn("registry-session", session.run());
    let link = Link { env: env.clone(), leader: leader_receiver.clone(), events };
    env.tasks.spawn("allocator-link", link.run());
    leader_receiver
}

async fn start_grpc(
    env: &Env,
    config: &Config,
    events: mpsc::Sender<Event>,
) -> Result<Option<String>, Error> {
    let Some(address) = &config.grpc_listen else { return Ok(None) };
    let listener = env.transport.bind(address).await?;
    let service = AgentServer::new(grpc::Service { events }).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let serving = serve(env, "agent-grpc", listener, tonic::service::Routes::new(service)).await;
    serving.ready().await;
    Ok(Some(serving.address))
}
