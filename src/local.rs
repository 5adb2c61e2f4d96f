//! A whole cluster in this process: every service, in-memory channels, the embedded store.

use std::{
    ffi::OsStr,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use meshos_mesh::Env;
use meshos_store::{Embedded, SharedStore};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    cli::{LocalArgs, from_environment, from_environment_and},
    single::{StopSignal, start_agent as start_agent_in},
};

/// Everything must serve within this time.
const READY: Duration = Duration::from_secs(60);
/// Longest time for an orderly end.
const DRAIN: Duration = Duration::from_secs(10);
/// Nothing breaks silently inside one process: the lease only has to outlive a busy moment.
const LEASE_TTL: Duration = Duration::from_secs(10);
const REGISTRY: &str = "registry";

pub(crate) async fn run(arguments: LocalArgs, log_file: Option<PathBuf>) -> anyhow::Result<()> {
    let arguments = LocalArgs { log_file, ..arguments };
    let stop = StopSignal::new()?;
    let env = Env::in_memory();
    let store = Embedded::open(arguments.data_dir.join("store"))?;
    env.tasks.spawn("leases", store.run_leases());
    let store: SharedStore = Arc::new(store);

    // The control plane ends before the agents, so that it does not replace the tasks that they end.
    let control = env.child();
    let gateway = start_control(&control, &store, &arguments).await?;
    let agents = start_agents(&env.child(), &arguments).await?;
    let ready = ready(&gateway, &agents, &arguments);
    timeout(READY, ready)
        .await
        .map_err(|_| anyhow::anyhow!("not everything served within {READY:?}; see the log"))?;
    announce(&gateway, &agents);

    stop.wait().await;
    control.tasks.shutdown(DRAIN).await;
    for agent in agents {
        agent.shutdown(arguments.keep_tasks).await;
    }
    if !env.tasks.shutdown(DRAIN).await {
        warn!("stopped before everything had ended");
    }
    Ok(())
}

async fn start_control(
    env: &Env,
    store: &SharedStore,
    arguments: &LocalArgs,
) -> anyhow::Result<meshos_gateway::Handle> {
    let mut settings: meshos_gateway::GatewayArgs = from_environment()?;
    settings.mesos_listen.clone_from(&arguments.mesos_listen);
    settings.marathon_listen.clone_from(&arguments.marathon_listen);
    // First: a port in use is the commonest mistake.
    let mut config = meshos_gateway::Config::from_args(&settings, "gateway");
    config.log_file.clone_from(&arguments.log_file);
    let gateway = meshos_gateway::start(env, Arc::clone(store), config).await?;

    let config = meshos_registry::Config {
        instance: REGISTRY.to_owned(),
        listen: REGISTRY.to_owned(),
        advertise: None,
        lease_ttl: LEASE_TTL,
        args: from_environment()?,
    };
    meshos_registry::start(env, Arc::clone(store), config).await?;

    let config = meshos_allocator::Config {
        listen: "allocator".to_owned(),
        advertise: None,
        instance: "allocator".to_owned(),
        lease_ttl: LEASE_TTL,
        args: from_environment()?,
    };
    meshos_allocator::start(env, Arc::clone(store), config).await?;

    if !leaves_out(arguments, "app-scheduler") {
        let mut config = meshos_app_scheduler::Config::new("app-scheduler", "app-scheduler");
        config.lease_ttl = LEASE_TTL;
        config.marathon = from_environment()?;
        meshos_app_scheduler::start(env, Arc::clone(store), config).await?;
    }
    if arguments.lb {
        let mut settings: meshos_lb_controller::LbArgs = from_environment()?;
        // As for everything else here: the network sees it only if somebody says so.
        if std::env::var_os("MESHOS_LB_BIND_ADDRESS").is_none() {
            settings.lb_bind_address = "127.0.0.1".to_owned();
        }
        let dir = arguments.data_dir.join("lb");
        let mut config = meshos_lb_controller::Config::new("lb-controller", settings, dir);
        config.keep_haproxy = arguments.keep_tasks;
        meshos_lb_controller::start(env, Some(Arc::clone(store)), config).await?;
    }
    Ok(gateway)
}

async fn start_agents(env: &Env, arguments: &LocalArgs) -> anyhow::Result<Vec<meshos_agent::Handle>> {
    let wish: SocketAddr = arguments.agent_listen.parse().with_context(|| {
        format!("--agent-listen {}: give an IP address and a port", arguments.agent_listen)
    })?;
    let mut agents = Vec::new();
    let mut port = wish.port();
    for number in 0..usize::from(arguments.agents) {
        agents.push(loop {
            let started = start_agent(env, arguments, number, (wish.ip(), port)).await?;
            // Port 0 stays: any free one. After a wished port come the next ones.
            port = if port == 0 { 0 } else { port.checked_add(1).context("no port is left for an agent")? };
            match started {
                // Only the first agent's port is a wish; the others take what is free.
                Err(meshos_agent::Error::Listen { .. }) if number > 0 && port != 0 => {}
                started => break started?,
            }
        });
    }
    Ok(agents)
}

async fn start_agent(
    env: &Env,
    arguments: &LocalArgs,
    number: usize,
    (host, port): (IpAddr, u16),
) -> anyhow::Result<Result<meshos_agent::Handle, meshos_agent::Error>> {
    // Absolute: the tasks' environment and the supervisor name it.
    let work_dir = std::path::absolute(&arguments.data_dir)?.join(format!("agent-{number}"));
    let required = ["--registry", REGISTRY, "--work_dir"].map(OsStr::new);
    let mut config: meshos_agent::Config =
        from_environment_and(&[required.as_slice(), &[work_dir.as_os_str()]].concat())?;
    (config.ip, config.port) = (host, port);
    config.log_file.clone_from(&arguments.log_file);
    if let Some(resources) = arguments.resources.get(number) {
        config.resources = Some(resources.clone());
    }
    if let Some(attributes) = arguments.attributes.get(number) {
        config.attributes = Some(attributes.clone());
    }
    Ok(start_agent_in(env, config).await)
}

/// Everything serves: leaders are known to the gateway and every agent is admitted.
async fn ready(gateway: &meshos_gateway::Handle, agents: &[meshos_agent::Handle], arguments: &LocalArgs) {
    gateway.cluster_synced().await;
    if !leaves_out(arguments, "app-scheduler") {
        gateway.apps_synced().await;
    }
    for agent in agents {
        agent.linked().await;
    }
}

#[allow(clippy::print_stdout, reason = "the one line that scripts wait for")]
fn announce(gateway: &meshos_gateway::Handle, agents: &[meshos_agent::Handle]) {
    let agents = agents.iter().filter_map(meshos_agent::Handle::http_address);
    let agents: Vec<String> = agents.map(|address| format!("http://{address}")).collect();
    println!(
        "meshos ready: mesos http://{}, marathon http://{}, agents {}",
        gateway.mesos_address,
        gateway.marathon_address,
        agents.join(" ")
    );
}

fn leaves_out(arguments: &LocalArgs, service: &str) -> bool {
    arguments.without.iter().any(|name| name == service)
}
