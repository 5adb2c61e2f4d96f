//! `/metrics/snapshot`, with Mesos's names.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::TaskState;
use serde_json::Value;

use super::Api;
use crate::{
    core::{ExecutorState, Phase, View, ViewTask, scalar},
    detect,
};

/// Names of what there never is here: dashboards want them all the same.
const ZERO: [&str; 6] = [
    "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
    "containerizer/mesos/provisioner/remove_container_errors",
    "resource_provider_manager/events/disconnect",
    "resource_provider_manager/events/subscribe",
    "resource_provider_manager/subscribed",
    "slave/executors_preempted",
];

type Values = BTreeMap<String, f64>;

pub(super) fn snapshot(api: &Api, view: &View) -> Value {
    let mut values: Values = ZERO.iter().map(|name| ((*name).to_owned(), 0.0)).collect();
    resources(view, &mut values);
    executors(view, &mut values);
    tasks(view, &mut values);
    files(api, &mut values);
    let mut put = |name: &str, value: f64| {
        values.insert(name.to_owned(), value);
    };
    put("containerizer/mesos/container_destroy_errors", count(view.counters.destroy_errors));
    put("slave/container_launch_errors", count(view.counters.launch_errors));
    put("slave/valid_framework_messages", count(view.counters.messages));
    put("slave/invalid_framework_messages", count(view.counters.lost_messages));
    put("slave/recovery_errors", count(view.counters.recovery_errors));
    put("slave/recovery_time_secs", api.recovery.as_secs_f64());
    put("containerizer/troubles", count(api.containerizer.troubles().len() as u64));
    put("slave/registered", f64::from(u8::from(view.linked)));
    put("slave/uptime_secs", api.now() - api.started);
    let [one, five, fifteen] = detect::load();
    let (total, free) = detect::memory().unwrap_or_default();
    put("system/cpus_total", count(detect::cpus()));
    put("system/load_1min", one);
    put("system/load_5min", five);
    put("system/load_15min", fifteen);
    put("system/mem_total_bytes", count(total));
    put("system/mem_free_bytes", count(free));
    values.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
}

#[allow(clippy::cast_precision_loss, reason = "the format is doubles")]
fn count(number: u64) -> f64 {
    number as f64
}

fn resources(view: &View, values: &mut Values) {
    for name in ["cpus", "gpus", "mem", "disk"] {
        let mut put = |kind: &str, value: f64| {
            values.insert(format!("slave/{name}_{kind}"), value);
        };
        let total = scalar(&view.info.resources, name);
        let executors = view.frameworks.iter().flat_map(|framework| &framework.executors);
        let executors: f64 = executors.map(|executor| scalar(&executor.info.resources, name)).sum();
        let live = all_tasks(view).filter(|task| task.phase != Phase::Ended);
        let used = live.map(|task| scalar(&task.task.resources, name)).sum::<f64>() + executors;
        put("total", total);
        put("used", used);
        put("percent", if total > 0.0 { used / total } else { 0.0 });
        put("revocable_total", 0.0);
        put("revocable_used", 0.0);
        put("revocable_percent", 0.0);
    }
}

fn all_tasks(view: &View) -> impl Iterator<Item = &ViewTask> {
    view.frameworks.iter().flat_map(|framework| &framework.tasks)
}

/// Those of frameworks, and one for each task that is its own.
fn executors(view: &View, values: &mut Values) {
    let own = |task: &&ViewTask| task.task.executor_id.is_none();
    let killing = TaskState::TaskKilling as i32;
    let of_task = |task: &ViewTask| match task.phase {
        Phase::Launching => Some(ExecutorState::Registering),
        Phase::Running if task.task.state == killing => Some(ExecutorState::Terminating),
        Phase::Running => Some(ExecutorState::Running),
        Phase::Ended => None,
    };
    let given = view.frameworks.iter().flat_map(|framework| &framework.executors);
    let states: Vec<_> =
        given.map(|executor| executor.state).chain(all_tasks(view).filter(own).filter_map(of_task)).collect();
    let of =
        |wanted: &[ExecutorState]| count(states.iter().filter(|state| wanted.contains(state)).count() as u64);
    let mut put = |name: &str, value: f64| {
        values.insert(format!("slave/{name}"), value);
    };
    put("executors_registering", of(&[ExecutorState::Launching, ExecutorState::Registering]));
    put("executors_running", of(&[ExecutorState::Running]));
    put("executors_terminating", of(&[ExecutorState::Terminating]));
    put("executors_terminated", count(view.counters.ended));
    put(
        "frameworks_active",
        count(view.frameworks.iter().filter(|framework| framework.is_live()).count() as u64),
    );
}

fn tasks(view: &View, values: &mut Values) {
    let in_state = |state: TaskState| {
        count(all_tasks(view).filter(|task| task.task.state == state as i32).count() as u64)
    };
    let counters = &view.counters;
    let figures = [
        ("tasks_staging", in_state(TaskState::TaskStaging)),
        ("tasks_starting", in_state(TaskState::TaskStarting)),
        ("tasks_running", in_state(TaskState::TaskRunning)),
        ("tasks_killing", in_state(TaskState::TaskKilling)),
        ("tasks_finished", count(counters.finished)),
        ("tasks_failed", count(counters.failed)),
        ("tasks_killed", count(counters.killed)),
        ("tasks_lost", count(counters.lost)),
        ("tasks_gone", count(counters.gone)),
        ("valid_status_updates", count(counters.updates)),
        ("invalid_status_updates", count(counters.invalid_updates)),
    ];
    values.extend(figures.map(|(name, value)| (format!("slave/{name}"), value)));
}

/// What is fetched, and what is removed.
fn files(api: &Api, values: &mut Values) {
    let fetches = api.containerizer.fetches();
    let ([pending, removed, stayed], allowed) = api.past.figures();
    let figures = [
        ("containerizer/fetcher/cache_size_total_bytes", count(fetches.cache_size)),
        ("containerizer/fetcher/cache_size_used_bytes", count(fetches.cache_used)),
        ("containerizer/fetcher/task_fetches_failed", count(fetches.failed)),
        ("containerizer/fetcher/task_fetches_succeeded", count(fetches.succeeded)),
        ("gc/path_removals_failed", count(stayed)),
        ("gc/path_removals_pending", count(pending)),
        ("gc/path_removals_succeeded", count(removed)),
        ("slave/executor_directory_max_allowed_age_secs", allowed.as_secs_f64()),
    ];
    values.extend(figures.map(|(name, value)| (name.to_owned(), value)));
}
