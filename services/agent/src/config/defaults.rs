//! The defaults.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use super::{
    Config, ContainerConfig, ForeignFlags, ImageConfig, ReconfigurationPolicy, Recover,
    values::{GB, MB},
};

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
            hostname_lookup: true,
            ip_discovery_command: None,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 5051,
            advertise_ip: None,
            advertise_port: None,
            grpc_listen: None,
            recovery_timeout: Duration::from_secs(15 * 60),
            executor_shutdown_grace_period: Duration::from_secs(5),
            executor_registration_timeout: Duration::from_secs(60),
            executor_reregistration_timeout: Duration::from_secs(2),
            executor_environment_variables: None,
            authenticate_http_executors: false,
            jwt_secret_key: None,
            max_completed_executors_per_framework: 150,
            http_heartbeat_interval: Duration::from_secs(30),
            cgroups_hierarchy: PathBuf::from("/sys/fs/cgroup"),
            cgroups_root: "meshos".to_owned(),
            cgroups_enable_cfs: false,
            cgroups_limit_swap: false,
            cgroups_max_pids: None,
            isolation: None,
            containers: ContainerConfig::default(),
            images: ImageConfig::default(),
            switch_user: true,
            fetcher_cache_size: 2 * GB,
            fetcher_cache_dir: None,
            fetcher_stall_timeout: Duration::from_secs(60),
            frameworks_home: None,
            container_disk_watch_interval: Duration::from_secs(15),
            enforce_container_disk_quota: false,
            gc_delay: Duration::from_secs(7 * 24 * 3600),
            gc_disk_headroom: 0.1,
            gc_non_executor_container_sandboxes: false,
            disk_watch_interval: Duration::from_secs(60),
            max_stdout_size: 10 * MB,
            max_stderr_size: 10 * MB,
            max_rotated_files: 9,
            reconfiguration_policy: ReconfigurationPolicy::Any,
            recover: Recover::Reconnect,
            strict: true,
            log_file: None,
            external_log_file: None,
            firewall_rules: None,
            foreign: ForeignFlags::default(),
            http: true,
            housekeeping: true,
        }
    }
}
