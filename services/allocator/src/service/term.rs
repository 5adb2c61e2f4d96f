//! One term of a leader: learn what must be known, then own the state until the lead is lost.

use std::{collections::BTreeSet, net::Ipv4Addr};

use meshos_mesh::{Env, follow_instances};
use meshos_proto::mesos::v1::{self as pb, master_info::capability::Type as MasterCapability};
use meshos_store::SharedStore;
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use super::{
    owner::{Owner, OwnerHandle},
    registry::Registry,
    whitelist::Whitelist,
};
use crate::{
    Config,
    config::Sorter,
    core::{Core, CoreConfig, Input},
    metrics::AllocatorMetrics,
};

/// Requests that wait for the owner; senders beyond wait in turn.
const REQUESTS: usize = 4096;
/// The version of Mesos that frameworks are told: whose behaviour this is.
const MESOS_VERSION: &str = "1.12.0";

/// Runs until the owner ends, which it does not unless its invariants are broken; the caller drops it when the
/// lead is lost.
pub(super) async fn run(
    env: &Env,
    store: &SharedStore,
    config: &Config,
    epoch: u64,
    (opener, metrics): (&watch::Sender<Option<OwnerHandle>>, &AllocatorMetrics),
) {
    let registry = Registry::new(env, follow_instances(env, store, "registry"), epoch);
    let records = registry.list_frameworks().await;
    let roles = registry.list_roles().await;
    let (handle, requests) = OwnerHandle::new(env, REQUESTS);
    let (watching, agents) = registry.watch().await;
    let now = env.clock.unix_ms();
    let core_config = match core_config(env, config, now) {
        Ok(core_config) => core_config,
        // Checked at start.
        Err(fault) => return error!(%fault, "settings are not valid"),
    };
    let master_id = core_config.master.id.clone();
    let mut core = Core::new(core_config);
    let (frameworks, known) = (records.len(), agents.len());
    // Checked at start; one that has become unreadable since offers nothing until it is back.
    let whitelist = Whitelist::new(&config.args);
    let hosts = whitelist.read().unwrap_or_else(|fault| {
        error!(%fault, "no agent is offered");
        Some(BTreeSet::new())
    });
    let weights = match roles.iter().any(|role| role.weight.is_some()) {
        true => Vec::new(),
        false => config.args.initial_weights().unwrap_or_default(),
    };
    let known_inputs = [
        Input::FrameworkRecords(records),
        Input::RegistrySnapshot(agents),
        // After the agents: with quotas, offers wait until most of them are back.
        Input::RoleRecords(roles),
        Input::Whitelist(hosts.clone()),
    ];
    let initial = (!weights.is_empty()).then_some(Input::UpdateWeights(weights));
    for input in known_inputs.into_iter().chain(initial) {
        if let Err(fault) = core.handle(input, now) {
            error!(%fault, "what the registry knows was refused");
        }
    }
    let writer = registry.writer();
    env.tasks.spawn("whitelist", whitelist.follow(hosts, handle.clone()));
    env.tasks.spawn("registry-watch", registry.follow(watching, handle.clone()));
    let (ended, end) = mpsc::channel::<()>(1);
    let owner = Owner::new(env, core, epoch, writer, metrics.clone());
    env.tasks.spawn("allocator-owner", async move {
        owner.run(requests).await;
        drop(ended);
    });
    info!(epoch, master_id, frameworks, agents = known, "leading, ready for agents and frameworks");
    metrics.leading.set(1);
    opener.send_replace(Some(handle));
    let mut end = end;
    // Closed when the owner's task ends, however it ends.
    let _ = end.recv().await;
}

fn core_config(env: &Env, config: &Config, now: u64) -> Result<CoreConfig, crate::Error> {
    let args = &config.args;
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(CoreConfig {
        master: pb::MasterInfo {
            domain: args.parsed_domain()?,
            ..master_info(env.rng.uuid().to_string(), config)
        },
        elected_at_ms: now,
        offer_timeout_ms: args.offer_timeout.map(ms),
        min_filter_ms: ms(args.allocation_interval),
        max_completed_frameworks: args.max_completed_frameworks,
        max_completed_tasks: args.max_completed_tasks_per_framework,
        max_unreachable_tasks: args.max_unreachable_tasks_per_framework,
        min_allocatable: args.min_allocatable()?,
        filter_gpus: args.filter_gpu_resources,
        excluded_from_shares: args.fair_sharing_excluded_resource_names.iter().cloned().collect(),
        root_submissions: args.root_submissions,
        framework_metrics: args.publish_per_framework_metrics,
        comeback_ms: ms(args.agent_reregister_timeout),
        recovery_factor: args.allocator_agent_recovery_factor,
        recovery_ms: ms(args.allocator_recovery_timeout),
        require_agent_domain: args.require_agent_domain,
        roles: args.listed_roles()?,
        random_roles: args.role_sorter == Sorter::Random,
        random_frameworks: args.framework_sorter == Sorter::Random,
    })
}

/// What frameworks are told: the API that the gateway serves.
fn master_info(id: String, config: &Config) -> pb::MasterInfo {
    let (ip, port): (Ipv4Addr, u16) = (config.args.advertise_ip, config.args.advertise_port);
    let hostname = config.args.hostname.clone().unwrap_or_else(|| ip.to_string());
    let capabilities =
        [MasterCapability::AgentUpdate, MasterCapability::AgentDraining, MasterCapability::QuotaV2];
    pb::MasterInfo {
        id,
        // In network order, as Mesos packs it: the first octet is the lowest byte.
        ip: u32::from_le_bytes(ip.octets()),
        port: port.into(),
        pid: Some(format!("master@{ip}:{port}")),
        hostname: Some(hostname.clone()),
        version: Some(MESOS_VERSION.to_owned()),
        address: Some(pb::Address { hostname: Some(hostname), ip: Some(ip.to_string()), port: port.into() }),
        domain: None,
        capabilities: capabilities
            .map(|capability| pb::master_info::Capability { r#type: Some(capability.into()) })
            .to_vec(),
    }
}
