//! One service alone in its process, on TCP or TLS and a shared store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use meshos_agent::{
    config::Recover,
    containerizer::{SharedContainerizer, router::Router},
};
use meshos_lb_controller::{MarathonLbArgs, deploy::DeployArgs};
use meshos_mesh::{Env, config::MeshArgs, transport};
use meshos_store::SharedStore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::cli::{AgentArgs, Command, LbCommand};

/// Longest time for an orderly end.
const DRAIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(command: Command, log_file: Option<PathBuf>) -> anyhow::Result<()> {
    let name = command.name();
    match command {
        Command::Registry(arguments) => {
            let part = Part::open(name, &arguments.mesh).await?;
            let config = meshos_registry::Config {
                instance: part.instance.clone(),
                listen: arguments.mesh.listen.clone(),
                advertise: arguments.mesh.advertise.clone(),
                lease_ttl: arguments.mesh.lease_ttl,
                args: arguments.service,
            };
            let handle = meshos_registry::start(&part.env, part.store.clone(), config).await?;
            part.serve(name, &handle.address).await
        }
        Command::Allocator(arguments) => {
            let part = Part::open(name, &arguments.mesh).await?;
            let config = meshos_allocator::Config {
                listen: arguments.mesh.listen.clone(),
                advertise: arguments.mesh.advertise.clone(),
                instance: part.instance.clone(),
                lease_ttl: arguments.mesh.lease_ttl,
                args: arguments.service,
            };
            let handle = meshos_allocator::start(&part.env, part.store.clone(), config).await?;
            part.serve(name, &handle.address).await
        }
        Command::AppScheduler(arguments) => {
            let arguments = *arguments;
            let part = Part::open(name, &arguments.mesh).await?;
            let config =
                meshos_app_scheduler::Config::from_args(&arguments.mesh, arguments.service, &part.instance);
            let handle = meshos_app_scheduler::start(&part.env, part.store.clone(), config).await?;
            part.serve(name, handle.address()).await
        }
        Command::LbController(arguments) => {
            let arguments = *arguments;
            let part = Part::open(name, &arguments.mesh).await?;
            let mut config = meshos_lb_controller::Config::new(
                arguments.mesh.listen.clone(),
                arguments.service,
                "/run/meshos-lb",
            );
            // Connections outlive the controller: it may be an upgrade.
            config.keep_haproxy = true;
            let handle = meshos_lb_controller::start(&part.env, Some(part.store.clone()), config).await?;
            part.serve(name, &handle.address).await
        }
        Command::Sse(arguments) => marathon_lb(*arguments).await,
        Command::Gateway(arguments) => {
            let part = Part::open(name, &arguments.mesh).await?;
            let mut config = meshos_gateway::Config::from_args(&arguments.service, &arguments.mesh.listen);
            config.log_file = log_file;
            let handle = meshos_gateway::start(&part.env, part.store.clone(), config).await?;
            part.serve(name, &format!("{}, {}", handle.mesos_address, handle.marathon_address)).await
        }
        Command::Agent(mut arguments) => {
            arguments.config.log_file = log_file;
            Box::pin(agent(*arguments)).await
        }
        Command::Lb(LbCommand::Deploy(arguments)) => deploy(&arguments).await,
        Command::Local(_) | Command::Supervisor(_) => anyhow::bail!("{name} is no service of its own"),
    }
}

#[allow(clippy::print_stdout, reason = "what was deployed is what the command answers")]
async fn deploy(arguments: &DeployArgs) -> anyhow::Result<()> {
    match meshos_lb_controller::deploy::run(arguments).await {
        Ok(app) => println!("{app:#}"),
        Err(error) => {
            eprintln!("error: {error}");
            // The statuses that scripts know from marathon-lb.
            std::process::exit(i32::from(error.status()));
        }
    }
    Ok(())
}

/// The load balancer where there is no store, as a task of the cluster that it serves. It ends with its HAProxy.
#[allow(clippy::print_stdout, reason = "the configuration is what --dry answers")]
async fn marathon_lb(arguments: MarathonLbArgs) -> anyhow::Result<()> {
    let stop = StopSignal::new()?;
    let env = Env::real(transport::tcp());
    // A task has its sandbox, which is gone with it.
    let sandbox = std::env::var_os("MESOS_SANDBOX").map(PathBuf::from);
    let dry = arguments.dry;
    let settings = arguments.settings(sandbox.as_deref());
    let dir = sandbox.unwrap_or_else(|| "/run".into()).join("meshos-lb");
    let config = meshos_lb_controller::Config::new("127.0.0.1:0", settings, dir);
    if dry {
        println!("{}", meshos_lb_controller::driver::dry(&config).await?);
        return Ok(());
    }
    let handle = meshos_lb_controller::start(&env, None, config).await?;
    info!(address = handle.address, "serving");
    stop.wait().await;
    env.tasks.shutdown(DRAIN).await;
    Ok(())
}

async fn agent(arguments: AgentArgs) -> anyhow::Result<()> {
    let stop = StopSignal::new()?;
    let env = Env::real(arguments.tls.transport()?);
    if arguments.config.recover == Recover::Cleanup {
        let containerizer: SharedContainerizer = Arc::new(Router::open(&env, &arguments.config)?);
        meshos_agent::clean_up(&arguments.config, &containerizer).await?;
        env.tasks.shutdown(DRAIN).await;
        return Ok(());
    }
    let handle = start_agent(&env, arguments.config).await?;
    let address = handle.http_address().map(|address| address.to_string());
    info!(address, "agent serving");
    let refused = tokio::select! {
        () = stop.wait() => None,
        () = reconfigure(&handle) => None,
        reason = handle.refused() => Some(reason),
    };
    // A node's tasks outlive its agent: it may be an upgrade. One that may not stay ends them.
    handle.shutdown(refused.is_none()).await;
    env.tasks.shutdown(DRAIN).await;
    refused.map_or(Ok(()), |reason| Err(anyhow::anyhow!("the registry refused this agent: {reason}")))
}

/// Has the agent read its resources and attributes anew on every SIGHUP.
async fn reconfigure(handle: &meshos_agent::Handle) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return std::future::pending().await };
    while hangup.recv().await.is_some() {
        match handle.reconfigure().await {
            Ok(()) => info!("resources and attributes read anew"),
            Err(error) => warn!(%error, "resources and attributes stay as they are"),
        }
    }
    std::future::pending().await
}

/// Starts an agent that runs tasks as its flags say.
pub(crate) async fn start_agent(
    env: &Env,
    config: meshos_agent::Config,
) -> Result<meshos_agent::Handle, meshos_agent::Error> {
    let containerizer = Router::open(env, &config)?;
    meshos_agent::start(env, config, Arc::new(containerizer)).await
}

/// What a service of the control plane runs on.
struct Part {
    env: Env,
    store: SharedStore,
    instance: String,
    stop: StopSignal,
}

impl Part {
    async fn open(name: &str, mesh: &MeshArgs) -> anyhow::Result<Self> {
        let stop = StopSignal::new()?;
        let env = Env::real(mesh.tls.transport()?);
        let opened =
            meshos_store::open(&mesh.store).await.with_context(|| format!("--store {}", mesh.store))?;
        if let Some(background) = opened.background {
            env.tasks.spawn("store", background);
        }
        let instance = mesh.instance.clone().unwrap_or_else(|| format!("{name}-{}", env.rng.uuid()));
        Ok(Self { env, store: Arc::clone(&opened.store), instance, stop })
    }

    async fn serve(self, name: &str, address: &str) -> anyhow::Result<()> {
        info!(service = name, instance = self.instance, address, "serving");
        self.stop.wait().await;
        if !self.env.tasks.shutdown(DRAIN).await {
            warn!(service = name, "stopped before everything had ended");
        }
        Ok(())
    }
}

/// SIGTERM and Ctrl-C, caught from the moment that this exists.
#[derive(Debug)]
pub(crate) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for one. A second one ends the process at once.
    pub(crate) async fn wait(mut self) {
        self.next().await;
        info!("stopping");
        #[allow(clippy::disallowed_methods, reason = "outlives every set of tasks on purpose")]
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(130);
        });
    }
}
