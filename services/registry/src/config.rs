//! Settings of the registry.

use std::time::Duration;

use clap::Args;
use meshos_mesh::config::parse_duration;

/// Flags, with Mesos's names where Mesos has them.
#[derive(Args, Clone, Debug)]
pub struct RegistryArgs {
    /// How often an agent is pinged, and how long one ping may stay without an answer.
    #[arg(long = "agent_ping_timeout", env = "MESOS_AGENT_PING_TIMEOUT", default_value = "15secs", value_parser = parse_duration)]
    pub agent_ping_timeout: Duration,
    /// Unanswered pings after which an agent is unreachable.
    #[arg(long = "max_agent_ping_timeouts", env = "MESOS_MAX_AGENT_PING_TIMEOUTS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_agent_ping_timeouts: u32,
}

/// What a replica needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this replica, unique in the cluster; each start adds something random to it.
    pub instance: String,
    pub listen: String,
    /// What others connect to; the bound address when absent.
    pub advertise: Option<String>,
    pub lease_ttl: Duration,
    pub ping_interval: Duration,
    pub max_missed_pings: u32,
}

impl Config {
    /// Silence after which an agent is unreachable.
    #[must_use]
    pub fn ping_timeout(&self) -> Duration {
        self.ping_interval * self.max_missed_pings
    }
}
