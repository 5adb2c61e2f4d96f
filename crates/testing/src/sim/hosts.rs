//! The hosts of a simulated cluster and what each of them starts; also after a crash.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use meshos_agent::containerizer::sim::SimContainerizer;
use meshos_mesh::{Clock, Env, Metrics, Rng, Tasks};
use turmoil::Sim;

use super::{
    AGENTS, ALLOCATORS, REGISTRIES, SCHEDULERS, STORE,
    store::{Central, CentralHost},
    transport::simulated,
};

/// Every service listens here.
pub(crate) const PORT: u16 = 7050;
const LISTEN: &str = "0.0.0.0:7050";
const LEASE_TTL: Duration = Duration::from_secs(2);

/// The surroundings of a service on the simulated host that calls this.
pub(crate) fn environment(rng: Rng) -> Env {
    Env {
        clock: Clock::simulated(|| turmoil::since_epoch().unwrap_or_default()),
        rng,
        transport: simulated(),
        tasks: Tasks::new(),
        metrics: Metrics::new(),
    }
}

/// Where a host's service is reached.
fn address(host: &str) -> String {
    format!("{host}:{PORT}")
}

/// Randomness of a host: another sequence after each start, all of them from the seed.
#[derive(Clone, Debug)]
struct Seeds {
    seed: u64,
    starts: Arc<AtomicU64>,
}

impl Seeds {
    fn new(rng: &Rng) -> Self {
        Self { seed: rng.u64(), starts: Arc::default() }
    }

    fn next(&self) -> Rng {
        Rng::seeded(self.seed.wrapping_add(self.starts.fetch_add(1, Ordering::Relaxed)))
    }
}

/// The store's host.
pub(super) fn add_store(sim: &mut Sim<'static>, central_host: CentralHost) {
    let central_host = Arc::new(Mutex::new(Some(central_host)));
    sim.host(STORE, move || {
        let host = central_host.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            if let Some(host) = host {
                host.run().await;
            }
            Ok(())
        }
    });
}

/// The services' hosts.
pub(super) fn add(
    sim: &mut Sim<'static>,
    central: &Central,
    machines: &BTreeMap<&'static str, SimContainerizer>,
    work_dirs: &Path,
    seed: u64,
) {
    let rng = Rng::seeded(seed);
    for name in REGISTRIES.into_iter().chain(ALLOCATORS).chain(SCHEDULERS) {
        let (central, seeds) = (central.clone(), Seeds::new(&rng));
        sim.host(name, move || control(name, central.clone(), seeds.next()));
    }
    for name in AGENTS {
        let machine = machines[name].clone();
        let (seeds, work_dir) = (Seeds::new(&rng), work_dirs.join(name));
        sim.host(name, move || {
            let mut config = meshos_agent::Config::new(REGISTRIES.map(address).to_vec(), work_dir.clone());
            config.hostname = Some(name.to_owned());
            config.resources = Some("cpus:4;mem:4096;disk:4096;ports:[31000-31099]".to_owned());
            (config.http, config.housekeeping) = (false, false);
            agent(config, machine.clone(), seeds.next())
        });
    }
}

async fn control(name: &'static str, central: Central, rng: Rng) -> turmoil::Result {
    let env = environment(rng);
    let store = central.seen_from(name, env.rng.clone());
    if REGISTRIES.contains(&name) {
        let config = meshos_registry::Config {
            instance: name.to_owned(),
            listen: LISTEN.to_owned(),
            advertise: Some(address(name)),
            lease_ttl: LEASE_TTL,
            args: meshos_registry::RegistryArgs {
                agent_ping_timeout: Duration::from_secs(1),
                ..meshos_registry::RegistryArgs::default()
            },
        };
        meshos_registry::start(&env, store, config).await?;
    } else if ALLOCATORS.contains(&name) {
        let config = meshos_allocator::Config {
            listen: LISTEN.to_owned(),
            advertise: Some(address(name)),
            instance: name.to_owned(),
            lease_ttl: LEASE_TTL,
            args: meshos_allocator::AllocatorArgs::default(),
        };
        meshos_allocator::start(&env, store, config).await?;
    } else {
        let mut config = meshos_app_scheduler::Config::new(name, LISTEN);
        config.advertise = Some(address(name));
        meshos_app_scheduler::start(&env, store, config).await?;
    }
    std::future::pending().await
}

async fn agent(config: meshos_agent::Config, machine: SimContainerizer, rng: Rng) -> turmoil::Result {
    let env = environment(rng);
    let _handle = meshos_agent::start(&env, config, Arc::new(machine)).await?;
    std::future::pending().await
}
