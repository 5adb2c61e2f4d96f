//! The agent's flags: where Mesos has one of the same meaning, its name and its variable.

mod containers;
mod defaults;
mod foreign;
mod images;
mod shown;
mod values;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use meshos_mesh::config::parse_duration;

use crate::containerizer::runtimes::Runtimes;

pub use containers::{ContainerConfig, DefaultsConfig};
pub use foreign::{ForeignFlags, MEANINGLESS_FLAGS};
pub use images::ImageConfig;
pub use values::{ReconfigurationPolicy, Recover, mesos_forms, parse_bytes};

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
    /// Without `--hostname`: whether this node is called by the machine's name, and not by its address.
    #[arg(long = "hostname_lookup", env = "MESOS_HOSTNAME_LOOKUP", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub hostname_lookup: bool,
    /// Program that prints the address to listen on for HTTP, instead of `--ip`.
    #[arg(
        long = "ip_discovery_command",
        env = "MESOS_IP_DISCOVERY_COMMAND",
        conflicts_with = "ip",
        value_name = "PROGRAM"
    )]
    pub ip_discovery_command: Option<PathBuf>,
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
    /// For an executor to subscribe once its process runs; then it is ended.
    #[arg(long = "executor_registration_timeout", env = "MESOS_EXECUTOR_REGISTRATION_TIMEOUT", default_value = "1mins", value_parser = parse_duration)]
    pub executor_registration_timeout: Duration,
    /// For an executor to subscribe again after a restart of the agent; at most 15 s.
    #[arg(long = "executor_reregistration_timeout", env = "MESOS_EXECUTOR_REREGISTRATION_TIMEOUT", default_value = "2secs", value_parser = parse_duration)]
    pub executor_reregistration_timeout: Duration,
    /// Variables for executors, as a JSON object of texts, or `file://` and the path of it.
    #[arg(
        long = "executor_environment_variables",
        env = "MESOS_EXECUTOR_ENVIRONMENT_VARIABLES",
        value_name = "JSON"
    )]
    pub executor_environment_variables: Option<String>,
    /// Executors must prove their identity with the token that the agent gives them.
    #[arg(long = "authenticate_http_executors", env = "MESOS_AUTHENTICATE_HTTP_EXECUTORS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub authenticate_http_executors: bool,
    /// File with the key that those tokens are signed with; the same over restarts.
    #[arg(long = "jwt_secret_key", env = "MESOS_JWT_SECRET_KEY", value_name = "FILE")]
    pub jwt_secret_key: Option<PathBuf>,
    /// Ended executors that are shown for each framework.
    #[arg(
        long = "max_completed_executors_per_framework",
        env = "MESOS_MAX_COMPLETED_EXECUTORS_PER_FRAMEWORK",
        default_value_t = 150
    )]
    pub max_completed_executors_per_framework: usize,
    /// Between heartbeats on the streams of attached containers.
    #[arg(long = "http_heartbeat_interval", env = "MESOS_HTTP_HEARTBEAT_INTERVAL", default_value = "30secs", value_parser = parse_duration)]
    pub http_heartbeat_interval: Duration,
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
    #[arg(long = "cgroups_enable_cfs", env = "MESOS_CGROUPS_ENABLE_CFS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub cgroups_enable_cfs: bool,
    /// Limit memory and swap together, not memory alone; cgroups of version 1 only.
    #[arg(long = "cgroups_limit_swap", env = "MESOS_CGROUPS_LIMIT_SWAP", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub cgroups_limit_swap: bool,
    /// Processes and threads that a task may have at most, where cgroups are permitted; absent: any number.
    #[arg(long = "cgroups_max_pids", env = "MESOS_CGROUPS_MAX_PIDS", value_name = "NUMBER")]
    pub cgroups_max_pids: Option<u64>,
    /// Isolators, separated by commas. Absent: cgroups where they are permitted; without any `cgroups/…`: none.
    #[arg(long, env = "MESOS_ISOLATION", value_name = "LIST")]
    pub isolation: Option<String>,
    #[command(flatten)]
    pub containers: ContainerConfig,
    #[command(flatten)]
    pub images: ImageConfig,
    /// Run a task as the user that it names; takes effect when the agent is root.
    #[arg(long = "switch_user", env = "MESOS_SWITCH_USER", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub switch_user: bool,
    /// What is kept of files that tasks fetch with `cache`.
    #[arg(long = "fetcher_cache_size", env = "MESOS_FETCHER_CACHE_SIZE", default_value = "2GB", value_parser = parse_bytes, value_name = "BYTES")]
    pub fetcher_cache_size: u64,
    /// Where it is kept; emptied at the start. Absent: `fetch` in the work directory.
    #[arg(long = "fetcher_cache_dir", env = "MESOS_FETCHER_CACHE_DIR", value_name = "DIR")]
    pub fetcher_cache_dir: Option<PathBuf>,
    /// A server that sends nothing for so long is given up.
    #[arg(long = "fetcher_stall_timeout", env = "MESOS_FETCHER_STALL_TIMEOUT", default_value = "1mins", value_parser = parse_duration)]
    pub fetcher_stall_timeout: Duration,
    /// Where relative paths in URIs begin.
    #[arg(long = "frameworks_home", env = "MESOS_FRAMEWORKS_HOME", value_name = "DIR")]
    pub frameworks_home: Option<PathBuf>,
    /// How often the disk use of sandboxes is measured, with the isolator `disk/du`.
    #[arg(long = "container_disk_watch_interval", env = "MESOS_CONTAINER_DISK_WATCH_INTERVAL", default_value = "15secs", value_parser = parse_duration)]
    pub container_disk_watch_interval: Duration,
    /// End a task that uses more disk than it asked for; implies `disk/du`.
    #[arg(long = "enforce_container_disk_quota", env = "MESOS_ENFORCE_CONTAINER_DISK_QUOTA", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enforce_container_disk_quota: bool,
    /// How long the sandbox of an ended task is kept while there is room.
    #[arg(long = "gc_delay", env = "MESOS_GC_DELAY", default_value = "1weeks", value_parser = parse_duration)]
    pub gc_delay: Duration,
    /// Part of the disk to keep free: the closer it comes, the sooner sandboxes go.
    #[arg(long = "gc_disk_headroom", env = "MESOS_GC_DISK_HEADROOM", default_value_t = 0.1)]
    pub gc_disk_headroom: f64,
    /// Sandboxes of ended containers below an executor go by the same rule, not only with the executor's.
    #[arg(long = "gc_non_executor_container_sandboxes", env = "MESOS_GC_NON_EXECUTOR_CONTAINER_SANDBOXES", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub gc_non_executor_container_sandboxes: bool,
    /// How often the disk of the work directory is looked at.
    #[arg(long = "disk_watch_interval", env = "MESOS_DISK_WATCH_INTERVAL", default_value = "1mins", value_parser = parse_duration)]
    pub disk_watch_interval: Duration,
    /// Beyond this size `stdout` of a task becomes `stdout.1` and begins anew; 0: never.
    #[arg(long = "max_stdout_size", env = "MESOS_MAX_STDOUT_SIZE", default_value = "10MB", value_parser = parse_bytes, value_name = "BYTES")]
    pub max_stdout_size: u64,
    /// The same for `stderr`.
    #[arg(long = "max_stderr_size", env = "MESOS_MAX_STDERR_SIZE", default_value = "10MB", value_parser = parse_bytes, value_name = "BYTES")]
    pub max_stderr_size: u64,
    /// How many old files of each are kept.
    #[arg(long = "max_rotated_files", env = "MESOS_MAX_ROTATED_FILES", default_value_t = 9)]
    pub max_rotated_files: u32,
    /// Which changes of resources, attributes and names a restart may bring: `equal`, `additive`, or `any` that what
    /// runs and what is reserved still fits.
    #[arg(
        long = "reconfiguration_policy",
        env = "MESOS_RECONFIGURATION_POLICY",
        default_value = "any",
        value_name = "POLICY"
    )]
    pub reconfiguration_policy: ReconfigurationPolicy,
    /// `reconnect`: tasks of the agent before run on; `cleanup`: end them, then end.
    #[arg(long, env = "MESOS_RECOVER", default_value = "reconnect")]
    pub recover: Recover,
    /// Whether a checkpoint that cannot be read stops the start; otherwise what cannot be read is left out.
    #[arg(long, env = "MESOS_STRICT", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub strict: bool,
    /// File that this process writes its log into.
    #[arg(skip)]
    pub log_file: Option<PathBuf>,
    /// File that is shown as `/slave/log`, whoever writes it, instead of that in `--log_dir`.
    #[arg(long = "external_log_file", env = "MESOS_EXTERNAL_LOG_FILE", value_name = "FILE")]
    pub external_log_file: Option<PathBuf>,
    /// Paths of the HTTP API that answer 403, as JSON, or `file://` and the path of it:
    /// `{"disabled_endpoints":{"paths":["/files/browse"]}}`.
    #[arg(long = "firewall_rules", env = "MESOS_FIREWALL_RULES", value_name = "JSON")]
    pub firewall_rules: Option<String>,
    #[command(flatten)]
    pub foreign: ForeignFlags,
    /// Serve the HTTP API.
    #[arg(skip = true)]
    pub http: bool,
    /// Look after output, disks and old sandboxes, on threads of its own: not in a simulation.
    #[arg(skip = true)]
    pub housekeeping: bool,
}

impl Config {
    /// The log that is shown as `/slave/log`.
    #[must_use]
    pub fn shown_log(&self) -> Option<&Path> {
        self.external_log_file.as_deref().or(self.log_file.as_deref())
    }

    /// Where logs are, by the names of `/state` and `/flags`.
    pub(crate) fn shown_logs(&self) -> Vec<(&'static str, String)> {
        let dir = self.log_file.as_deref().and_then(Path::parent);
        let logs = [("log_dir", dir), ("external_log_file", self.external_log_file.as_deref())];
        logs.into_iter().filter_map(|(name, path)| Some((name, path?.display().to_string()))).collect()
    }

    /// What clap cannot see.
    ///
    /// # Errors
    /// Flags that this machine cannot follow.
    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        if self.cgroups_limit_swap && self.cgroups_hierarchy.join("cgroup.controllers").exists() {
            let reason = "cgroups of version 2 limit swap on its own, not together with memory: leave it out";
            return Err(crate::Error::Flag { flag: "cgroups_limit_swap", reason: reason.to_owned() });
        }
        Ok(())
    }

    /// Where fetched files are kept.
    #[must_use]
    pub fn fetcher_cache_dir(&self) -> PathBuf {
        self.fetcher_cache_dir.clone().unwrap_or_else(|| self.work_dir.join("fetch"))
    }

    /// Whether an isolator is asked for by name.
    fn isolates(&self, wanted: &[&str]) -> bool {
        let named = |list: &String| list.split(',').any(|name| wanted.contains(&name.trim()));
        self.isolation.as_ref().is_some_and(named)
    }

    /// Whether an isolator of cgroups is used: when no isolator is named, or this one, or all of them.
    #[must_use]
    pub fn isolates_by_cgroups(&self, name: &str) -> bool {
        self.isolation.is_none() || self.isolates(&[name, "cgroups", "cgroups/all"])
    }

    /// Which kinds of containers are switched on.
    ///
    /// # Errors
    /// A containerizer that is not known.
    pub fn runtimes(&self) -> Result<Runtimes, crate::Error> {
        let runtimes = self.containers.runtimes(self.isolation.as_deref());
        let runtimes = runtimes.map_err(|reason| crate::Error::Flag { flag: "containerizers", reason })?;
        Ok(Runtimes { defaults: self.containers.defaults.read()?, ..runtimes })
    }

    /// Between the stop signal and SIGKILL for a container of the Docker Engine.
    #[must_use]
    pub fn docker_grace(&self) -> Duration {
        match self.containers.docker_stop_timeout {
            Duration::ZERO => self.executor_shutdown_grace_period,
            timeout => timeout,
        }
    }

    /// Whether the disk use of sandboxes is measured.
    #[must_use]
    pub fn watches_disk(&self) -> bool {
        self.enforce_container_disk_quota || self.isolates(&["disk/du", "posix/disk"])
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
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{values::SWITCHES, *};

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
    fn switches_have_the_forms_of_mesos() {
        for flag in SWITCHES {
            let parsed = |form: String| {
                let arguments =
                    ["agent", "--registry=a:1", "--work_dir=/w", &form].map(std::ffi::OsString::from);
                let config = Command::try_parse_from(mesos_forms(arguments.into_iter())).unwrap().config;
                config
                    .flags()
                    .get(flag)
                    .map(|value| value.as_str().unwrap_or_default() == "true")
                    .unwrap_or_else(|| format!("{config:?}").contains(&format!("{flag}: true")))
            };
            let forms = [
                format!("--{flag}"),
                format!("--{flag}=true"),
                format!("--no-{flag}"),
                format!("--{flag}=false"),
            ];
            assert_eq!(forms.map(parsed), [true, true, false, false], "{flag}");
        }
    }

    #[test]
    fn the_programmed_defaults_are_those_of_the_flags() {
        let parsed = Command::try_parse_from(["agent", "--registry=a:1", "--work_dir=/w"]).unwrap().config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::new(vec!["a:1".to_owned()], "/w")));
    }
}
