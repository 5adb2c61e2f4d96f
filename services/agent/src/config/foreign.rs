//! Flags of a Mesos agent that this one does not have: those that mean nothing here are taken, so that unit files carry
//! over; those that ask for something which is not there are refused, with the reason.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, error::ErrorKind, parser::ValueSource};

/// They configure parts that do not exist here (launcher helpers, libprocess, the replicated log, ZooKeeper), or a choice
/// that has been made. Their variables are looked after with those of the other services.
pub const MEANINGLESS_FLAGS: &[&str] = &[
    "agent_features",
    "agent_subsystems",
    "appc_simple_discovery_uri_prefix",
    "appc_store_dir",
    "authenticatee",
    "authentication_backoff_factor",
    "authentication_timeout_max",
    "authentication_timeout_min",
    "cgroups_cpu_enable_pids_and_tids_count",
    "cgroups_destroy_timeout",
    "check_agent_port_range_only",
    "container_logger",
    "container_ports_watch_interval",
    "docker",
    "docker_mesos_image",
    "docker_volume_checkpoint_dir",
    "domain_socket_location",
    "executor_reregistration_retry_interval",
    "hadoop_home",
    "http_command_executor",
    "initialize_driver_logging",
    "launcher",
    "launcher_dir",
    "logbufsecs",
    "logging_level",
    "master",
    "memory_profiling",
    "network_cni_metrics",
    "network_cni_root_dir_persist",
    "oversubscribed_resources_interval",
    "perf_duration",
    "perf_events",
    "perf_interval",
    "qos_correction_interval_min",
    "quiet",
    "registration_backoff_factor",
    "revocable_cpu_low_priority",
    "runtime_dir",
    "systemd_enable_support",
    "systemd_runtime_directory",
    "xfs_kill_containers",
    "xfs_project_range",
    "xfs_quota_headroom",
    "zk_session_timeout",
];

const NO_PLUGINS: &str = "there are no plug-ins that could be loaded";
const NO_USERS: &str = "the agent's HTTP API knows no users yet: keep its port on a network that you trust";
const NO_OVERSUBSCRIPTION: &str = "there are no revocable resources";
const NO_PROVIDERS: &str = "there are no resource providers";
const NO_PORT_MAPPING: &str =
    "there is no isolator network/port_mapping: give containers an address of their own by CNI";
const NO_PORTS_ISOLATOR: &str = "there is no isolator network/ports";
const RIGHTS: &str = "containers of meshos have the rights and the system calls that the Docker Engine gives by \
                      default, and containers of type DOCKER those that their parameters name";

/// Name, the value that asks for what is done anyway, and why others are refused.
const REFUSED: &[(&str, &str, &str)] = &[
    ("acls", "", NO_USERS),
    ("allowed_devices", "", RIGHTS),
    ("authenticate_http_readonly", "false", NO_USERS),
    ("authenticate_http_readwrite", "false", NO_USERS),
    ("authorizer", "local", NO_PLUGINS),
    ("cgroups_net_cls_primary_handle", "", "there is no isolator cgroups/net_cls"),
    ("cgroups_net_cls_secondary_handles", "", "there is no isolator cgroups/net_cls"),
    ("container_ports_isolated_range", "", NO_PORTS_ISOLATOR),
    ("credential", "", "agents prove who they are by certificates: --tls-ca, --tls-cert and --tls-key"),
    ("csi_plugin_config_dir", "", NO_PROVIDERS),
    ("disk_profile_adaptor", "", NO_PROVIDERS),
    ("docker_ignore_runtime", "false", "a container has the command of its image where its task has none"),
    ("docker_volume_chown", "false", "volumes of Docker volume drivers keep their owner"),
    ("egress_rate_limit_per_container", "", NO_PORT_MAPPING),
    ("egress_unique_flow_per_container", "false", NO_PORT_MAPPING),
    ("enforce_container_ports", "false", NO_PORTS_ISOLATOR),
    ("ephemeral_ports_per_container", "", NO_PORT_MAPPING),
    ("eth0_name", "", NO_PORT_MAPPING),
    ("hooks", "", NO_PLUGINS),
    ("host_path_volume_force_creation", "", "a path of the machine that a volume shows must be there"),
    ("http_authenticators", "basic", NO_PLUGINS),
    ("http_credentials", "", NO_USERS),
    ("http_executor_domain_sockets", "false", "executors reach the agent over TCP"),
    ("ingress_rate_limit_per_container", "", NO_PORT_MAPPING),
    ("ip6", "", "the agent listens on one address: --ip takes one of IPv6"),
    ("lo_name", "", NO_PORT_MAPPING),
    ("modules", "", NO_PLUGINS),
    ("modules_dir", "", NO_PLUGINS),
    ("network_enable_snmp_statistics", "false", NO_PORT_MAPPING),
    ("network_enable_socket_statistics_details", "false", NO_PORT_MAPPING),
    ("network_enable_socket_statistics_summary", "false", NO_PORT_MAPPING),
    (
        "nvidia_gpu_devices",
        "",
        "the agent hands out no GPUs: give containers of type DOCKER theirs by the parameter 'gpus'",
    ),
    ("qos_controller", "", NO_OVERSUBSCRIPTION),
    ("resource_estimator", "", NO_OVERSUBSCRIPTION),
    ("resource_provider_config_dir", "", NO_PROVIDERS),
    ("secret_resolver", "", NO_PLUGINS),
    ("volume_gid_range", "", "a volume belongs to the user of the task that it was made for"),
];

/// Those that were given; a refused one stops the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignFlags {
    /// On the command line, without a meaning.
    pub meaningless: Vec<String>,
}

impl Args for ForeignFlags {
    fn augment_args(command: Command) -> Command {
        let arg = |name: &'static str| {
            let arg = Arg::new(name).long(name).hide(true).action(ArgAction::Set);
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        };
        let refused = REFUSED.iter().map(|(name, ..)| arg(name).env(variable(name)).hide_env(true));
        command.args(MEANINGLESS_FLAGS.iter().map(|name| arg(name))).args(refused)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ForeignFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        for (name, harmless, reason) in REFUSED {
            let given = matches.try_get_one::<String>(name).ok().flatten();
            if given.is_some_and(|value| harmless.is_empty() || value != harmless) {
                let text = format!("--{name} ({}) is not supported: {reason}\n", variable(name));
                return Err(clap::Error::raw(ErrorKind::ValueValidation, text));
            }
        }
        let given = |name: &&&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        Ok(Self {
            meaningless: MEANINGLESS_FLAGS.iter().filter(given).map(|name| (*name).to_owned()).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn variable(name: &str) -> String {
    format!("MESOS_{}", name.to_uppercase())
}

/// Whether `--no-<flag>` is a way to write it.
pub(super) fn is_switch(name: &str) -> bool {
    MEANINGLESS_FLAGS.contains(&name) || REFUSED.iter().any(|(flag, ..)| *flag == name)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{Config, mesos_forms};

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        config: Config,
    }

    fn parse(flags: &[&str]) -> Result<Config, String> {
        let given = ["agent", "--registry=a:1", "--work_dir=/w"].iter().chain(flags);
        let given = mesos_forms(given.map(std::ffi::OsString::from));
        Program::try_parse_from(given).map(|program| program.config).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_without_a_meaning_are_taken_and_named() {
        let config = parse(&["--launcher=linux", "--no-systemd_enable_support", "--quiet"]).unwrap();
        assert_eq!(config.foreign.meaningless, ["launcher", "quiet", "systemd_enable_support"]);
        assert_eq!(parse(&[]).unwrap().foreign, ForeignFlags::default());
    }

    #[test]
    fn flags_that_ask_for_what_is_not_there_are_refused_with_the_reason() {
        assert!(parse(&["--credential=/etc/mesos/credential"]).unwrap_err().contains("--tls-ca"));
        assert!(parse(&["--http_executor_domain_sockets"]).unwrap_err().contains("over TCP"));
        assert!(parse(&["--modules=/m"]).unwrap_err().contains("MESOS_MODULES"));
        assert!(parse(&["--no-http_executor_domain_sockets", "--http_authenticators=basic"]).is_ok());
        assert!(parse(&["--no_such_flag=1"]).is_err());
    }

    #[test]
    fn no_flag_is_listed_twice() {
        let refused = REFUSED.iter().map(|(name, ..)| name);
        let names: Vec<_> = MEANINGLESS_FLAGS.iter().chain(refused).collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
    }
}
