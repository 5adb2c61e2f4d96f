//! What a core is given when it is made, and the time.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use meshos_proto::mesos::v1 as pb;
use meshos_types::Resources;

use crate::{containerizer::runtimes::Runtimes, token::Secret};

/// The time, twice: what timers go by, and what statuses carry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub elapsed: Duration,
    /// Since the Unix epoch.
    pub unix: Duration,
}

/// What the core must know of its node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address that tasks are known by.
    pub ip: String,
    /// `ip:port` of the HTTP API.
    pub endpoint: String,
    pub work_dir: PathBuf,
    /// What the agent has, as its flags or its machine say.
    pub resources: Resources,
    pub recovery_timeout: Duration,
    /// Between SIGTERM and SIGKILL when a framework is shut down.
    pub shutdown_grace: Duration,
    /// The agent as executors are told of it, without its id.
    pub agent_info: pb::AgentInfo,
    /// For an executor to subscribe once its process runs.
    pub executor_registration_timeout: Duration,
    /// For an executor to subscribe again after a restart of the agent.
    pub executor_reregistration_timeout: Duration,
    /// Signs what executors prove their identity with; absent: they need not.
    pub executor_secret: Option<Secret>,
    /// The operator's variables for executors.
    pub executor_environment: BTreeMap<String, String>,
    /// Ended executors that the history keeps for a framework.
    pub max_completed_executors: usize,
    /// Sandboxes of ended containers below an executor go before the executor's.
    pub collect_nested: bool,
    /// Which kinds of containers are switched on.
    pub runtimes: Runtimes,
    /// Between SIGTERM and SIGKILL for a container of the Docker Engine whose task has no kill policy.
    pub docker_grace: Duration,
}

#[cfg(test)]
impl Settings {
    /// An agent with nothing, and the defaults of the flags.
    pub(crate) fn test(work_dir: impl Into<PathBuf>) -> Self {
        Self {
            ip: "10.0.0.1".to_owned(),
            endpoint: "10.0.0.1:5051".to_owned(),
            work_dir: work_dir.into(),
            resources: Resources::default(),
            recovery_timeout: Duration::from_secs(900),
            shutdown_grace: Duration::from_secs(5),
            agent_info: pb::AgentInfo { hostname: "node".to_owned(), ..pb::AgentInfo::default() },
            executor_registration_timeout: Duration::from_secs(60),
            executor_reregistration_timeout: Duration::from_secs(2),
            executor_secret: None,
            executor_environment: BTreeMap::new(),
            max_completed_executors: 150,
            collect_nested: false,
            runtimes: Runtimes::default(),
            docker_grace: Duration::from_secs(5),
        }
    }
}
