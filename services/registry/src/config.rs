//! Settings of the registry.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;
use meshos_mesh::config::parse_duration;

/// Flags, with Mesos's names where Mesos has them.
#[derive(Args, Clone, Debug)]
pub struct RegistryArgs {
    /// How often an agent is pinged, and how long one ping may stay without an answer.
    #[arg(long = "agent_ping_timeout", env = "MESOS_AGENT_PING_TIMEOUT", default_value = "15secs",
          value_parser = parse_duration, value_name = "DURATION")]
    pub agent_ping_timeout: Duration,
    /// Unanswered pings after which an agent is unreachable.
    #[arg(long = "max_agent_ping_timeouts", env = "MESOS_MAX_AGENT_PING_TIMEOUTS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
    pub max_agent_ping_timeouts: u32,
    /// Agents that one replica may declare unreachable in a time, e.g. `1/10mins` or `100/1secs`; absent: any number.
    /// One that answers while it waits for its turn is let off.
    #[arg(long = "agent_removal_rate_limit", env = "MESOS_AGENT_REMOVAL_RATE_LIMIT", value_parser = parse_rate,
          value_name = "RATE")]
    pub agent_removal_rate_limit: Option<Rate>,
    /// How often unreachable and gone agents are looked through for those that can be forgotten.
    #[arg(long = "registry_gc_interval", env = "MESOS_REGISTRY_GC_INTERVAL", default_value = "15mins",
          value_parser = parse_duration, value_name = "DURATION")]
    pub registry_gc_interval: Duration,
    /// Unreachable and gone agents are forgotten after this time.
    #[arg(long = "registry_max_agent_age", env = "MESOS_REGISTRY_MAX_AGENT_AGE", default_value = "2weeks",
          value_parser = parse_duration, value_name = "DURATION")]
    pub registry_max_agent_age: Duration,
    /// Unreachable agents that are remembered, and the same of gone ones; the oldest are forgotten first.
    #[arg(
        long = "registry_max_agent_count",
        env = "MESOS_REGISTRY_MAX_AGENT_COUNT",
        default_value_t = 102_400,
        value_name = "NUMBER"
    )]
    pub registry_max_agent_count: usize,
}

impl Default for RegistryArgs {
    fn default() -> Self {
        Self {
            agent_ping_timeout: Duration::from_secs(15),
            max_agent_ping_timeouts: 5,
            agent_removal_rate_limit: None,
            registry_gc_interval: Duration::from_secs(15 * 60),
            registry_max_agent_age: Duration::from_secs(14 * 24 * 3600),
            registry_max_agent_count: 102_400,
        }
    }
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub permits: NonZeroU32,
    pub per: Duration,
}

impl Rate {
    /// From one permit to the next.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.per / self.permits.get()
    }
}

/// Reads `<number>/<duration>`.
fn parse_rate(text: &str) -> Result<Rate, String> {
    let (permits, per) =
        text.split_once('/').ok_or_else(|| format!("'{text}' is not 'number/duration', e.g. 1/10mins"))?;
    let permits = permits.trim().parse().map_err(|_| format!("'{permits}' is not a number above 0"))?;
    let per = parse_duration(per.trim())?;
    if per.is_zero() {
        return Err(format!("'{text}': the duration must be above 0"));
    }
    Ok(Rate { permits, per })
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
    pub args: RegistryArgs,
}

impl Config {
    /// Silence after which an agent is unreachable.
    #[must_use]
    pub fn ping_timeout(&self) -> Duration {
        self.args.agent_ping_timeout * self.args.max_agent_ping_timeouts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_mesos_writes_them() {
        let rate = parse_rate("4/10mins").unwrap();
        assert_eq!(rate.pause(), Duration::from_secs(150));
        for odd in ["1", "0/1secs", "-1/1secs", "1/0secs", "1/x", "a/1secs"] {
            assert!(parse_rate(odd).is_err(), "{odd}");
        }
    }
}
