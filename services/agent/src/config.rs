//! The agent's flags: where Mesos has one of the same meaning, its name and its variable.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use meshos_mesh::config::parse_duration;
use serde_json::{Map, Value};

/// What an agent is told.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Addresses of registry replicas, separated by commas; any of them may answer.
    #[arg(long, env = "MESHOS_REGISTRY", value_delimiter = ',', required = true, value_name = "HOST:PORT")]
    pub registry: Vec<String>,
    /// Holds sandboxes and what must survive a restart.
    #[arg(long = "work_dir", visible_alias = "work-dir", env = "MESOS_WORK_DIR", value_name = "DIR")]
    pub work_dir: PathBuf,
    /// `name(role):value;…`, a JSON array, or `file://` and the path of one; what is not given is detected.
    #[arg(long, env = "MESOS_RESOURCES", value_name = "TEXT")]
    pub resources: Option<String>,
    /// `name:value;…`
    #[arg(long, env = "MESOS_ATTRIBUTES", value_name = "TEXT")]
    pub attributes: Option<String>,
    /// Fault domain of this node, as JSON: `{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}`, or `file://`
    /// and the path of it.
    #[arg(long, env = "MESOS_DOMAIN", value_name = "JSON")]
    pub domain: Option<String>,
    /// Role of resources that are given without one.
    #[arg(long = "default_role", env = "MESOS_DEFAULT_ROLE", default_value = "*", value_name = "ROLE")]
    pub default_role: String,
    /// Name of this node; that of the machine when absent.
    #[arg(long, env = "MESOS_HOSTNAME", value_name = "NAME")]
    pub hostname: Option<String>,
    /// Address to listen on for HTTP.
    #[arg(long, env = "MESOS_IP", default_value = "127.0.0.1", value_name = "IP")]
    pub ip: IpAddr,
    /// Port to listen on for HTTP; 0: any.
    #[arg(long, env = "MESOS_PORT", default_value_t = 5051)]
    pub port: u16,
    /// Address that others reach this node at, and that its tasks are known by.
    #[arg(long = "advertise_ip", env = "MESOS_ADVERTISE_IP", value_name = "IP")]
    pub advertise_ip: Option<IpAddr>,
    /// Port that others reach the HTTP API at.
    #[arg(long = "advertise_port", env = "MESOS_ADVERTISE_PORT")]
    pub advertise_port: Option<u16>,
    /// Address that the gRPC server listens on; absent: there is none.
    #[arg(long = "grpc_listen", env = "MESHOS_AGENT_GRPC_LISTEN", value_name = "HOST:PORT")]
    pub grpc_listen: Option<String>,
    /// How long executors wait for the agent to come back.
    #[arg(long = "recovery_timeout", env = "MESOS_RECOVERY_TIMEOUT", default_value = "15mins", value_parser = parse_duration)]
    pub recovery_timeout: Duration,
    /// Between SIGTERM and SIGKILL when a framework is shut down.
    #[arg(long = "executor_shutdown_grace_period", env = "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", default_value = "5secs", value_parser = parse_duration)]
    pub executor_shutdown_grace_period: Duration,
    /// Where cgroups are mounted.
    #[arg(
        long = "cgroups_hierarchy",
        env = "MESOS_CGROUPS_HIERARCHY",
        default_value = "/sys/fs/cgroup",
        value_name = "DIR"
    )]
    pub cgroups_hierarchy: PathBuf,
    /// Name of the cgroup that holds those of all tasks.
    #[arg(long = "cgroups_root", env = "MESOS_CGROUPS_ROOT", default_value = "meshos", value_name = "NAME")]
    pub cgroups_root: String,
    /// Never let a task use more processor time than it asked for.
    #[arg(long = "cgroups_enable_cfs", env = "MESOS_CGROUPS_ENABLE_CFS")]
    pub cgroups_enable_cfs: bool,
    /// Isolators, separated by commas. Absent: cgroups where they are permitted; without any `cgroups/…`: none.
    #[arg(long, env = "MESOS_ISOLATION", value_name = "LIST")]
    pub isolation: Option<String>,
    /// Run a task as the user that it names; takes effect when the agent is root.
    #[arg(long = "switch_user", env = "MESOS_SWITCH_USER", default_value_t = true, action = clap::ArgAction::Set)]
    pub switch_user: bool,
    /// Serve the HTTP API.
    #[arg(skip = true)]
    pub http: bool,
}

impl Config {
    /// The defaults, for a node that a program sets up.
    #[must_use]
    pub fn new(registry: Vec<String>, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            registry,
            work_dir: work_dir.into(),
            resources: None,
            attributes: None,
            domain: None,
            default_role: "*".to_owned(),
            hostname: None,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 5051,
            advertise_ip: None,
            advertise_port: None,
            grpc_listen: None,
            recovery_timeout: Duration::from_secs(15 * 60),
            executor_shutdown_grace_period: Duration::from_secs(5),
            cgroups_hierarchy: PathBuf::from("/sys/fs/cgroup"),
            cgroups_root: "meshos".to_owned(),
            cgroups_enable_cfs: false,
            isolation: None,
            switch_user: true,
            http: true,
        }
    }

    /// Whether tasks shall be limited by cgroups where that is permitted.
    #[must_use]
    pub fn wants_cgroups(&self) -> bool {
        let names_cgroups = |list: &String| list.split(',').any(|name| name.trim().starts_with("cgroups"));
        self.isolation.as_ref().is_none_or(names_cgroups)
    }

    /// The address that tasks are known by: the advertised one, or the one that is listened on.
    #[must_use]
    pub fn task_ip(&self) -> IpAddr {
        match self.advertise_ip {
            Some(ip) => ip,
            None if self.ip.is_unspecified() => crate::detect::outward_ip().unwrap_or(self.ip),
            None => self.ip,
        }
    }

    /// The flags as `/flags` and `/state` show them: text by name, sorted.
    #[must_use]
    pub fn flags(&self) -> Value {
        let duration = |duration: Duration| format!("{}secs", duration.as_secs_f64());
        let mut flags: Vec<(&str, String)> = vec![
            ("cgroups_enable_cfs", self.cgroups_enable_cfs.to_string()),
            ("cgroups_hierarchy", self.cgroups_hierarchy.display().to_string()),
            ("cgroups_root", self.cgroups_root.clone()),
            ("containerizers", "mesos".to_owned()),
            ("default_role", self.default_role.clone()),
            ("executor_shutdown_grace_period", duration(self.executor_shutdown_grace_period)),
            ("ip", self.ip.to_string()),
            ("master", self.registry.join(",")),
            ("port", self.port.to_string()),
            ("recovery_timeout", duration(self.recovery_timeout)),
            ("switch_user", self.switch_user.to_string()),
            ("work_dir", self.work_dir.display().to_string()),
        ];
        let optional = [
            ("advertise_ip", self.advertise_ip.map(|ip| ip.to_string())),
            ("advertise_port", self.advertise_port.map(|port| port.to_string())),
            ("attributes", self.attributes.clone()),
            ("domain", self.domain.clone()),
            ("hostname", self.hostname.clone()),
            ("isolation", self.isolation.clone()),
            ("resources", self.resources.clone()),
        ];
        flags.extend(optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        flags.sort_unstable();
        Value::Object(
            flags
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .collect::<Map<_, _>>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn flags_have_the_names_of_mesos() {
        let arguments = [
            "agent",
            "--registry=a:1,b:2",
            "--work_dir=/w",
            "--executor_shutdown_grace_period=2secs",
            "--isolation=posix/cpu",
        ];
        let config = Command::try_parse_from(arguments).unwrap().config;
        assert_eq!(config.registry, ["a:1", "b:2"]);
        assert_eq!(config.executor_shutdown_grace_period, Duration::from_secs(2));
        assert!(!config.wants_cgroups() && config.http);
        assert_eq!(config.flags()["work_dir"], "/w");
    }

    #[test]
    fn the_programmed_defaults_are_those_of_the_flags() {
        let parsed = Command::try_parse_from(["agent", "--registry=a:1", "--work_dir=/w"]).unwrap().config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::new(vec!["a:1".to_owned()], "/w")));
    }
}
