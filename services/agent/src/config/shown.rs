//! The flags as readers see them.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Config;

impl Config {
    /// The flags as `/flags` and `/state` show them: text by name, sorted.
    #[must_use]
    pub fn flags(&self) -> Value {
        let duration = |duration: Duration| format!("{}secs", duration.as_secs_f64());
        let mut flags: Vec<(&str, String)> = vec![
            ("cgroups_enable_cfs", self.cgroups_enable_cfs.to_string()),
            ("cgroups_hierarchy", self.cgroups_hierarchy.display().to_string()),
            ("cgroups_root", self.cgroups_root.clone()),
            ("default_role", self.default_role.clone()),
            ("authenticate_http_executors", self.authenticate_http_executors.to_string()),
            ("executor_registration_timeout", duration(self.executor_registration_timeout)),
            ("executor_reregistration_timeout", duration(self.executor_reregistration_timeout)),
            ("executor_shutdown_grace_period", duration(self.executor_shutdown_grace_period)),
            ("http_heartbeat_interval", duration(self.http_heartbeat_interval)),
            ("max_completed_executors_per_framework", self.max_completed_executors_per_framework.to_string()),
            ("hostname_lookup", self.hostname_lookup.to_string()),
            ("ip", self.ip.to_string()),
            ("master", self.registry.join(",")),
            ("port", self.port.to_string()),
            ("recovery_timeout", duration(self.recovery_timeout)),
            ("container_disk_watch_interval", duration(self.container_disk_watch_interval)),
            ("disk_watch_interval", duration(self.disk_watch_interval)),
            ("enforce_container_disk_quota", self.enforce_container_disk_quota.to_string()),
            ("fetcher_cache_dir", self.fetcher_cache_dir().display().to_string()),
            ("fetcher_cache_size", format!("{}B", self.fetcher_cache_size)),
            ("fetcher_stall_timeout", duration(self.fetcher_stall_timeout)),
            ("gc_delay", duration(self.gc_delay)),
            ("gc_disk_headroom", self.gc_disk_headroom.to_string()),
            ("gc_non_executor_container_sandboxes", self.gc_non_executor_container_sandboxes.to_string()),
            ("cgroups_limit_swap", self.cgroups_limit_swap.to_string()),
            ("max_rotated_files", self.max_rotated_files.to_string()),
            ("max_stderr_size", format!("{}B", self.max_stderr_size)),
            ("max_stdout_size", format!("{}B", self.max_stdout_size)),
            ("reconfiguration_policy", self.reconfiguration_policy.name().to_owned()),
            ("recover", self.recover.name().to_owned()),
            ("strict", self.strict.to_string()),
            ("switch_user", self.switch_user.to_string()),
            ("work_dir", self.work_dir.display().to_string()),
        ];
        let optional = [
            ("advertise_ip", self.advertise_ip.map(|ip| ip.to_string())),
            ("advertise_port", self.advertise_port.map(|port| port.to_string())),
            ("attributes", self.attributes.clone()),
            ("cgroups_max_pids", self.cgroups_max_pids.map(|most| most.to_string())),
            ("domain", self.domain.clone()),
            ("firewall_rules", self.firewall_rules.clone()),
            ("executor_environment_variables", self.executor_environment_variables.clone()),
            ("jwt_secret_key", self.jwt_secret_key.as_ref().map(|file| file.display().to_string())),
            ("frameworks_home", self.frameworks_home.as_ref().map(|dir| dir.display().to_string())),
            ("hostname", self.hostname.clone()),
            (
                "ip_discovery_command",
                self.ip_discovery_command.as_ref().map(|file| file.display().to_string()),
            ),
            ("isolation", self.isolation.clone()),
            ("resources", self.resources.clone()),
        ];
        flags.extend(self.shown_logs());
        flags.extend(self.containers.flags());
        flags.extend(self.images.flags());
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
