//! A whole cluster in this process, in real time: every service over in-memory channels, a store in memory, HTTP
//! on free ports, machines whose containers are in memory too.

use std::{sync::Arc, time::Duration};

use meshos_agent::containerizer::sim::SimContainerizer;
use meshos_mesh::{Env, Metrics, Tasks};
use meshos_store::{Embedded, SharedStore};
use tempfile::TempDir;

use crate::Http;

const STOP: Duration = Duration::from_secs(20);

/// What differs from one of everything.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Resources of each agent; as many agents.
    pub agents: Vec<String>,
    pub app_scheduler: bool,
    pub gateways: usize,
    /// Agents are named `h1`, `h2` and so on, as if each were a machine of its own.
    pub own_hosts: bool,
    pub allocator: meshos_allocator::AllocatorArgs,
    /// Fault domain of each agent, as JSON; fewer than agents: the others have none.
    pub domains: Vec<Option<String>>,
    /// Whether [`Cluster::start`] waits for all agents; one that the leader does not take never links.
    pub waits_for_agents: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let agents = vec!["cpus:4;mem:4096;disk:4096;ports:[31000-32000]".to_owned()];
        Self {
            agents,
            app_scheduler: true,
            gateways: 1,
            own_hosts: false,
            allocator: meshos_allocator::AllocatorArgs::default(),
            domains: Vec::new(),
            waits_for_agents: true,
        }
    }
}

/// One replica of the gateway.
#[derive(Debug)]
pub struct Gateway {
    pub mesos: Http,
    pub marathon: Http,
    env: Env,
}

impl Gateway {
    /// Stops this one alone.
    ///
    /// # Panics
    /// When something of it does not end.
    pub async fn stop(&self) {
        assert!(self.env.tasks.shutdown(STOP).await, "every task of the gateway ends");
    }
}

/// A running cluster; call [`Cluster::stop`] at the end.
#[derive(Debug)]
pub struct Cluster {
    pub env: Env,
    pub store: SharedStore,
    pub gateways: Vec<Gateway>,
    pub agents: Vec<meshos_agent::Handle>,
    pub machines: Vec<SimContainerizer>,
    _work_dirs: TempDir,
}

impl Cluster {
    /// Starts it and waits until everything serves.
    ///
    /// # Panics
    /// When a part does not start.
    pub async fn start(options: &ClusterOptions) -> Self {
        let env = Env::in_memory();
        let embedded = Embedded::in_memory();
        env.tasks.spawn("leases", embedded.run_leases());
        let store: SharedStore = Arc::new(embedded);
        let (mut gateways, mut handles) = (Vec::new(), Vec::new());
        for number in 0..options.gateways {
            let env = Env { metrics: Metrics::new(), ..env.child() };
            let listen = format!("gateway-{number}");
            let config = meshos_gateway::Config { listen, ..meshos_gateway::Config::default() };
            let handle = meshos_gateway::start(&env, Arc::clone(&store), config).await.expect("gateway");
            let (mesos, marathon) = (Http::new(&handle.mesos_address), Http::new(&handle.marathon_address));
            gateways.push(Gateway { mesos, marathon, env });
            handles.push(handle);
        }
        control(&env, &store, options).await;
        let work_dirs = tempfile::tempdir().expect("a temporary directory");
        let (mut agents, mut machines) = (Vec::new(), Vec::new());
        for (number, resources) in options.agents.iter().enumerate() {
            let machine = SimContainerizer::new(&Tasks::new());
            let mut config = meshos_agent::Config::new(
                vec!["registry".to_owned()],
                work_dirs.path().join(number.to_string()),
            );
            config.port = 0;
            config.resources = Some(resources.clone());
            config.hostname = options.own_hosts.then(|| format!("h{}", number + 1));
            config.domain = options.domains.get(number).cloned().flatten();
            let agent = meshos_agent::start(&env, config, Arc::new(machine.clone())).await.expect("agent");
            agents.push(agent);
            machines.push(machine);
        }
        for gateway in &handles {
            gateway.cluster_synced().await;
            if options.app_scheduler {
                gateway.apps_synced().await;
            }
        }
        for agent in agents.iter().filter(|_| options.waits_for_agents) {
            agent.linked().await;
        }
        Self { env, store, gateways, agents, machines, _work_dirs: work_dirs }
    }

    /// Stops everything.
    ///
    /// # Panics
    /// When something does not end.
    pub async fn stop(self) {
        assert!(self.env.tasks.shutdown(STOP).await, "every task ends");
    }
}

async fn control(env: &Env, store: &SharedStore, options: &ClusterOptions) {
    let lease_ttl = Duration::from_secs(10);
    let registry = meshos_registry::Config {
        instance: "registry".to_owned(),
        listen: "registry".to_owned(),
        advertise: None,
        lease_ttl,
        args: meshos_registry::RegistryArgs::default(),
    };
    meshos_registry::start(env, Arc::clone(store), registry).await.expect("registry");
    let allocator = meshos_allocator::Config {
        listen: "allocator".to_owned(),
        advertise: None,
        instance: "allocator".to_owned(),
        lease_ttl,
        args: options.allocator.clone(),
    };
    meshos_allocator::start(env, Arc::clone(store), allocator).await.expect("allocator");
    if options.app_scheduler {
        let scheduler = meshos_app_scheduler::Config::new("app-scheduler", "app-scheduler");
        meshos_app_scheduler::start(env, Arc::clone(store), scheduler).await.expect("app-scheduler");
    }
}
