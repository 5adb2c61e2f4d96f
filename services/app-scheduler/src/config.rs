//! Settings. Where Marathon has a flag of the same meaning, it keeps its name and its `MARATHON_*` variable.

mod shown;

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use meshos_mesh::{SharedTransport, config::MeshArgs, transport};

/// What a replica needs besides the environment and the store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this replica; unique in the cluster.
    pub instance: String,
    /// Address to listen on.
    pub listen: String,
    /// Address that others reach it at; the listening address when absent.
    pub advertise: Option<String>,
    /// Time to live of the leader's lease.
    pub lease_ttl: Duration,
    pub marathon: MarathonArgs,
    /// How tasks are reached for health checks.
    pub network: SharedTransport,
}

impl Config {
    /// A replica with default settings.
    #[must_use]
    pub fn new(instance: impl Into<String>, listen: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            listen: listen.into(),
            advertise: None,
            lease_ttl: Duration::from_secs(2),
            marathon: MarathonArgs::default(),
            network: transport::tcp(),
        }
    }

    /// A replica that runs alone; `instance` is used when the arguments name none.
    #[must_use]
    pub fn from_args(mesh: &MeshArgs, marathon: MarathonArgs, instance: &str) -> Self {
        Self {
            instance: mesh.instance.clone().unwrap_or_else(|| instance.to_owned()),
            listen: mesh.listen.clone(),
            advertise: mesh.advertise.clone(),
            lease_ttl: mesh.lease_ttl,
            marathon,
            network: transport::tcp(),
        }
    }
}

/// The flags of Marathon that mean something here. Durations are milliseconds unless the name says otherwise, as
/// they are upstream.
#[derive(Args, Clone, Debug)]
pub struct MarathonArgs {
    /// Name of the framework.
    #[arg(long = "framework_name", env = "MARATHON_FRAMEWORK_NAME", default_value = "marathon")]
    pub framework_name: String,
    /// Role of the framework and default role of apps.
    #[arg(long = "mesos_role", env = "MARATHON_MESOS_ROLE", default_value = "*")]
    pub mesos_role: String,
    /// User that tasks run as, unless the app names one; the user of this process when absent.
    #[arg(long = "mesos_user", env = "MARATHON_MESOS_USER")]
    pub mesos_user: Option<String>,
    /// Address of the web pages, shown in the Mesos pages.
    #[arg(long = "webui_url", env = "MARATHON_WEBUI_URL")]
    pub webui_url: Option<String>,
    /// Host name that the framework reports.
    #[arg(long = "hostname", env = "MARATHON_HOSTNAME")]
    pub hostname: Option<String>,
    /// Seconds after which the tasks are killed when no scheduler comes back.
    #[arg(long = "failover_timeout", env = "MARATHON_FAILOVER_TIMEOUT", default_value_t = 604_800)]
    pub failover_timeout_s: u64,
    /// Executor of apps that name none.
    #[arg(long = "executor", env = "MARATHON_EXECUTOR", default_value = "//cmd")]
    pub executor: String,
    /// Features to switch on: `gpu_resources`, `secrets`, `external_volumes`; others of Marathon are accepted.
    #[arg(long = "enable_features", env = "MARATHON_ENABLE_FEATURES", value_delimiter = ',')]
    pub enable_features: Vec<String>,
    /// Which resources apps without `acceptedResourceRoles` may use: `any`, `unreserved` or `reserved`.
    #[arg(
        long = "accepted_resource_roles_default_behavior",
        env = "MARATHON_ACCEPTED_RESOURCE_ROLES_DEFAULT_BEHAVIOR",
        default_value = "any",
        value_parser = ["any", "unreserved", "reserved"]
    )]
    pub accepted_resource_roles_default_behavior: String,
    /// Whether new top-level groups insist on their name as the role of their apps (`top`), or not (`off`).
    #[arg(
        long = "new_group_enforce_role",
        env = "MARATHON_NEW_GROUP_ENFORCE_ROLE",
        default_value = "off",
        value_parser = ["off", "top"]
    )]
    pub new_group_enforce_role: String,
    /// Prefix of the generated `PORT*` and `HOST` variables.
    #[arg(long = "env_vars_prefix", env = "MARATHON_ENV_VARS_PREFIX")]
    pub env_vars_prefix: Option<String>,
    /// Name of container networks for which an app gives none.
    #[arg(long = "default_network_name", env = "MARATHON_DEFAULT_NETWORK_NAME")]
    pub default_network_name: Option<String>,
    /// Network that stands for bridge networking of containers that the agent runs itself.
    #[arg(long = "mesos_bridge_name", env = "MARATHON_MESOS_BRIDGE_NAME", default_value = "mesos-bridge")]
    pub mesos_bridge_name: String,
    /// Smallest service port to assign.
    #[arg(long = "local_port_min", env = "MARATHON_LOCAL_PORT_MIN", default_value_t = 10_000)]
    pub local_port_min: u16,
    /// End of the service ports to assign, not included.
    #[arg(long = "local_port_max", env = "MARATHON_LOCAL_PORT_MAX", default_value_t = 20_000)]
    pub local_port_max: u16,
    /// Deployments that may run at once.
    #[arg(long = "max_running_deployments", env = "MARATHON_MAX_RUNNING_DEPLOYMENTS", default_value_t = 100)]
    pub max_running_deployments: usize,
    /// Versions kept for each app.
    #[arg(long = "zk_max_versions", env = "MARATHON_ZK_MAX_VERSIONS", default_value_t = 50)]
    pub max_versions: usize,
    /// Tasks to launch with one ACCEPT.
    #[arg(
        long = "max_instances_per_offer",
        env = "MARATHON_MAX_INSTANCES_PER_OFFER",
        default_value_t = 1000
    )]
    pub max_instances_per_offer: usize,
    /// Instances that one app may have. Not a flag of Marathon, which has no limit.
    #[arg(long = "max_instances_per_app", env = "MESHOS_MAX_INSTANCES_PER_APP", default_value_t = 100_000)]
    pub max_instances_per_app: u32,
    /// How long an offer that is not needed is declined for.
    #[arg(
        long = "decline_offer_duration",
        env = "MARATHON_DECLINE_OFFER_DURATION",
        default_value_t = 120_000
    )]
    pub decline_offer_duration_ms: u64,
    /// Shortest time between two calls for offers on behalf of tasks that failed.
    #[arg(
        long = "min_revive_offers_interval",
        env = "MARATHON_MIN_REVIVE_OFFERS_INTERVAL",
        default_value_t = 5000
    )]
    pub min_revive_offers_interval_ms: u64,
    /// A launched task without any status is killed after this time.
    #[arg(
        long = "task_launch_confirm_timeout",
        env = "MARATHON_TASK_LAUNCH_CONFIRM_TIMEOUT",
        default_value_t = 300_000
    )]
    pub task_launch_confirm_timeout_ms: u64,
    /// A task that is staging or starting is killed after this time.
    #[arg(long = "task_launch_timeout", env = "MARATHON_TASK_LAUNCH_TIMEOUT", default_value_t = 300_000)]
    pub task_launch_timeout_ms: u64,
    /// How often the states of all tasks are asked for.
    #[arg(
        long = "reconciliation_interval",
        env = "MARATHON_RECONCILIATION_INTERVAL",
        default_value_t = 600_000
    )]
    pub reconciliation_interval_ms: u64,
    /// After a stopped deployment, how long surplus tasks stay.
    #[arg(long = "scale_apps_interval", env = "MARATHON_SCALE_APPS_INTERVAL", default_value_t = 300_000)]
    pub scale_apps_interval_ms: u64,
    /// A kill is repeated after this time.
    #[arg(long = "kill_retry_timeout", env = "MARATHON_KILL_RETRY_TIMEOUT", default_value_t = 30_000)]
    pub kill_retry_timeout_ms: u64,
    /// Agents with GPUs are kept for apps that ask for some (`restricted`), or not (`unrestricted`).
    #[arg(
        long = "gpu_scheduling_behavior",
        env = "MARATHON_GPU_SCHEDULING_BEHAVIOR",
        default_value = "restricted",
        value_parser = ["restricted", "unrestricted"]
    )]
    pub gpu_scheduling_behavior: String,
    /// Launch on agents whatever maintenance is planned for them.
    #[arg(
        long = "disable_maintenance_mode",
        env = "MARATHON_DISABLE_MAINTENANCE_MODE",
        default_value = "false",
        num_args = 0..=1,
        default_missing_value = ""
    )]
    pub disable_maintenance_mode: Switch,
    /// How long before its maintenance an agent gets no more tasks, in seconds.
    #[arg(long = "draining_seconds", env = "MARATHON_DRAINING_SECONDS", default_value_t = 0)]
    pub draining_seconds: u64,
    /// Directory whose files are the secrets that apps name as sources. Not a flag of Marathon.
    #[arg(long = "secrets_dir", env = "MESHOS_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Deployments that ended and are still shown. Not a flag of Marathon.
    #[arg(long = "finished_deployments", env = "MESHOS_FINISHED_DEPLOYMENTS", default_value_t = 100)]
    pub finished_deployments: usize,
    /// How long a kill waits for load balancers to let go of the task and for its requests to end; 0: not at all.
    /// Not a flag of Marathon.
    #[arg(long = "lb_drain_timeout", env = "MESHOS_LB_DRAIN_TIMEOUT", default_value_t = 15_000)]
    pub lb_drain_timeout_ms: u64,
    /// Health checks that are made at once.
    #[arg(
        long = "max_concurrent_marathon_health_checks",
        env = "MARATHON_MAX_CONCURRENT_MARATHON_HEALTH_CHECKS",
        default_value_t = 256
    )]
    pub max_concurrent_health_checks: usize,
}

/// A boolean flag, which an empty variable turns on, as upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "" | "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            _ => Err("expected true, false or nothing"),
        }
    }
}

impl Default for MarathonArgs {
    fn default() -> Self {
        Self {
            framework_name: "marathon".to_owned(),
            mesos_role: "*".to_owned(),
            mesos_user: None,
            webui_url: None,
            hostname: None,
            failover_timeout_s: 604_800,
            executor: "//cmd".to_owned(),
            enable_features: Vec::new(),
            accepted_resource_roles_default_behavior: "any".to_owned(),
            new_group_enforce_role: "off".to_owned(),
            env_vars_prefix: None,
            default_network_name: None,
            mesos_bridge_name: "mesos-bridge".to_owned(),
            local_port_min: 10_000,
            local_port_max: 20_000,
            max_running_deployments: 100,
            max_versions: 50,
            max_instances_per_offer: 1000,
            max_instances_per_app: 100_000,
            decline_offer_duration_ms: 120_000,
            min_revive_offers_interval_ms: 5000,
            task_launch_confirm_timeout_ms: 300_000,
            task_launch_timeout_ms: 300_000,
            reconciliation_interval_ms: 600_000,
            scale_apps_interval_ms: 300_000,
            kill_retry_timeout_ms: 30_000,
            gpu_scheduling_behavior: "restricted".to_owned(),
            disable_maintenance_mode: Switch(false),
            draining_seconds: 0,
            secrets_dir: None,
            finished_deployments: 100,
            lb_drain_timeout_ms: 15_000,
            max_concurrent_health_checks: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        args: MarathonArgs,
    }

    #[test]
    fn flags_and_code_have_the_same_defaults() {
        let parsed = Probe::try_parse_from(["x"]).unwrap().args;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", MarathonArgs::default()));
    }
}
