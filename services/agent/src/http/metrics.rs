//! `/metrics/snapshot`, with Mesos's names.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::TaskState;
use serde_json::Value;

use super::Api;
use crate::{
    core::{Phase, View, scalar},
    detect,
};

/// Names of what there never is here yet: dashboards want them all the same.
const ZERO: [&str; 19] = [
    "containerizer/fetcher/cache_size_total_bytes",
    "containerizer/fetcher/cache_size_used_bytes",
    "containerizer/fetcher/task_fetches_failed",
    "containerizer/fetcher/task_fetches_succeeded",
    "containerizer/mesos/container_destroy_errors",
    "gc/path_removals_failed",
    "gc/path_removals_pending",
    "gc/path_removals_succeeded",
    "resource_provider_manager/events/disconnect",
    "resource_provider_manager/events/subscribe",
    "resource_provider_manager/subscribed",
    "slave/executors_preempted",
    "slave/executors_registering",
    "slave/invalid_framework_messages",
    "slave/invalid_status_updates",
    "slave/recovery_errors",
    "slave/recovery_time_secs",
    "slave/valid_framework_messages",
    "slave/executor_directory_max_allowed_age_secs",
];

#[allow(clippy::cast_precision_loss, reason = "the format is doubles")]
pub(super) fn snapshot(api: &Api, view: &View) -> Value {
    let mut values: BTreeMap<String, f64> = ZERO.iter().map(|name| ((*name).to_owned(), 0.0)).collect();
    let mut put = |name: &str, value: f64| {
        values.insert(name.to_owned(), value);
    };
    let tasks: Vec<_> = view.frameworks.iter().flat_map(|framework| &framework.tasks).collect();
    let live = || tasks.iter().filter(|task| task.phase != Phase::Ended);
    for name in ["cpus", "gpus", "mem", "disk"] {
        let total = scalar(&view.info.resources, name);
        let executors = view.frameworks.iter().flat_map(|framework| &framework.executors);
        let executors: f64 = executors.map(|executor| scalar(&executor.info.resources, name)).sum();
        let used = live().map(|task| scalar(&task.task.resources, name)).sum::<f64>() + executors;
        put(&format!("slave/{name}_total"), total);
        put(&format!("slave/{name}_used"), used);
        put(&format!("slave/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
        for kind in ["total", "used", "percent"] {
            put(&format!("slave/{name}_revocable_{kind}"), 0.0);
        }
    }
    let in_state =
        |state: TaskState| tasks.iter().filter(|task| task.task.state == state as i32).count() as f64;
    put("slave/tasks_staging", in_state(TaskState::TaskStaging));
    put("slave/tasks_starting", in_state(TaskState::TaskStarting));
    put("slave/tasks_running", in_state(TaskState::TaskRunning));
    put("slave/tasks_killing", in_state(TaskState::TaskKilling));
    let counters = &view.counters;
    put("slave/tasks_finished", counters.finished as f64);
    put("slave/tasks_failed", counters.failed as f64);
    put("slave/tasks_killed", counters.killed as f64);
    put("slave/tasks_lost", counters.lost as f64);
    put("slave/tasks_gone", counters.gone as f64);
    put("slave/valid_status_updates", counters.updates as f64);
    put("slave/container_launch_errors", counters.launch_errors as f64);
    put("slave/executors_terminated", counters.ended as f64);
    put(
        "slave/executors_running",
        live().filter(|task| task.task.state != TaskState::TaskKilling as i32).count() as f64,
    );
    put("slave/executors_terminating", in_state(TaskState::TaskKilling));
    put(
        "slave/frameworks_active",
        view.frameworks.iter().filter(|framework| framework.is_live()).count() as f64,
    );
    put("containerizer/troubles", api.containerizer.troubles().len() as f64);
    put("slave/registered", f64::from(u8::from(view.linked)));
    put("slave/uptime_secs", api.now() - api.started);
    let [one, five, fifteen] = detect::load();
    let (total, free) = detect::memory().unwrap_or_default();
    put("system/cpus_total", detect::cpus() as f64);
    put("system/load_1min", one);
    put("system/load_5min", five);
    put("system/load_15min", fifteen);
    put("system/mem_total_bytes", total as f64);
    put("system/mem_free_bytes", free as f64);
    values.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
}
