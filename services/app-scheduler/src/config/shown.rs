//! The flags as `/v2/info` shows them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::MarathonArgs;

impl MarathonArgs {
    /// By Marathon's names, with their values as JSON. Paths of secrets are nobody's business.
    #[must_use]
    pub fn shown(&self) -> BTreeMap<String, String> {
        let values = json!({
            "accepted_resource_roles_default_behavior": self.accepted_resource_roles_default_behavior,
            "checkpoint": true,
            "decline_offer_duration": self.decline_offer_duration_ms,
            "default_network_name": self.default_network_name,
            "draining_seconds": self.draining_seconds,
            "env_vars_prefix": self.env_vars_prefix,
            "executor": self.executor,
            "failover_timeout": self.failover_timeout_s,
            "features": self.enable_features,
            "framework_name": self.framework_name,
            "gpu_scheduling_behavior": self.gpu_scheduling_behavior,
            "kill_retry_timeout": self.kill_retry_timeout_ms,
            "local_port_max": self.local_port_max,
            "local_port_min": self.local_port_min,
            "maintenance_mode": !self.disable_maintenance_mode.0,
            "max_concurrent_marathon_health_checks": self.max_concurrent_health_checks,
            "max_instances_per_app": self.max_instances_per_app,
            "max_instances_per_offer": self.max_instances_per_offer,
            "max_running_deployments": self.max_running_deployments,
            "mesos_bridge_name": self.mesos_bridge_name,
            "mesos_role": self.mesos_role,
            "mesos_user": self.mesos_user,
            "min_revive_offers_interval": self.min_revive_offers_interval_ms,
            "new_group_enforce_role": self.new_group_enforce_role,
            "reconciliation_interval": self.reconciliation_interval_ms,
            "scale_apps_interval": self.scale_apps_interval_ms,
            "task_launch_confirm_timeout": self.task_launch_confirm_timeout_ms,
            "task_launch_timeout": self.task_launch_timeout_ms,
            "webui_url": self.webui_url,
            "zk_max_versions": self.max_versions,
        });
        let Value::Object(values) = values else { return BTreeMap::new() };
        values.into_iter().map(|(name, value)| (name, value.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json() {
        let args = MarathonArgs { enable_features: vec!["secrets".into()], ..Default::default() };
        let shown = args.shown();
        assert_eq!((shown["features"].as_str(), shown["mesos_role"].as_str()), ("[\"secrets\"]", "\"*\""));
        assert_eq!(
            (shown["default_network_name"].as_str(), shown["local_port_min"].as_str()),
            ("null", "10000")
        );
        assert!(!shown.contains_key("secrets_dir"));
    }
}
