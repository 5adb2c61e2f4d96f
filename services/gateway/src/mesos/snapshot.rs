//! `GET /metrics/snapshot`: Mesos's names over what the view holds.
//!
//! Only figures that are known here have an entry; a dashboard shows a gap where upstream counts something that
//! nobody counts here, not a zero that would be a lie.

use std::collections::BTreeMap;

use meshos_proto::{meshos::allocator::v1::Agent, mesos::v1::TaskState};
use meshos_types::Milli;
use serde_json::{Value, json};

use super::render::roles_of;
use crate::views::{
    Cluster,
    cluster::{Amounts, is_away},
};

/// Values by name, in order of the names.
pub(super) type Metrics = BTreeMap<String, f64>;

const RESOURCES: [&str; 4] = ["cpus", "gpus", "mem", "disk"];

const TASKS: [(&str, TaskState); 13] = [
    ("staging", TaskState::TaskStaging),
    ("starting", TaskState::TaskStarting),
    ("running", TaskState::TaskRunning),
    ("killing", TaskState::TaskKilling),
    ("unreachable", TaskState::TaskUnreachable),
    ("finished", TaskState::TaskFinished),
    ("failed", TaskState::TaskFailed),
    ("killed", TaskState::TaskKilled),
    ("lost", TaskState::TaskLost),
    ("error", TaskState::TaskError),
    ("dropped", TaskState::TaskDropped),
    ("gone", TaskState::TaskGone),
    ("gone_by_operator", TaskState::TaskGoneByOperator),
];

/// The metrics of the cluster. Of ended tasks only those still in memory are counted.
pub(super) fn of_cluster(cluster: &Cluster) -> Metrics {
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| metrics.insert(format!("master/{name}"), value);
    let agents =
        |wanted: fn(&Agent) -> bool| cluster.agents.values().filter(|agent| wanted(agent)).count() as f64;
    put("slaves_connected", agents(|a| a.connected));
    put("slaves_disconnected", agents(|a| !a.connected && !is_away(a) && !a.recovered));
    put("slaves_active", agents(|a| a.active && a.connected));
    put("slaves_inactive", agents(|a| !a.active && !is_away(a) && !a.recovered));
    put("slaves_unreachable", agents(|a| a.unreachable));
    let frameworks = |connected: Option<bool>, active: Option<bool>| {
        let live = cluster.frameworks.values().filter(|found| !found.completed);
        let wanted = live.filter(|found| {
            connected.is_none_or(|c| c == found.connected) && active.is_none_or(|a| a == found.active)
        });
        wanted.count() as f64
    };
    put("frameworks_connected", frameworks(Some(true), None));
    put("frameworks_disconnected", frameworks(Some(false), None));
    put("frameworks_active", frameworks(None, Some(true)));
    put("frameworks_inactive", frameworks(None, Some(false)));
    put("outstanding_offers", cluster.offer_count() as f64);
    for (name, state) in TASKS {
        put(&format!("tasks_{name}"), f64::from(cluster.count_of(state)));
    }
    put_resources(&mut metrics, cluster);
    put_frameworks(&mut metrics, cluster);
    // Somebody leads, so the store could be read.
    metrics.insert("registrar/log/recovered".to_owned(), 1.0);
    metrics
}

/// What is there of each framework; the leader counts what happened.
fn put_frameworks(metrics: &mut Metrics, cluster: &Cluster) {
    const ACTIVE: [TaskState; 6] = [
        TaskState::TaskStaging,
        TaskState::TaskStarting,
        TaskState::TaskRunning,
        TaskState::TaskKilling,
        TaskState::TaskUnreachable,
        TaskState::TaskUnknown,
    ];
    for (id, framework) in cluster.frameworks.iter().filter(|(_, framework)| !framework.completed) {
        let info = framework.info.clone().unwrap_or_default();
        let prefix = format!("master/frameworks/{}/{id}", encoded(&info.name));
        let flag = |value: bool| if value { 1.0 } else { 0.0 };
        metrics.insert(format!("{prefix}/subscribed"), flag(framework.connected));
        let counts = cluster.counts_in_framework(id);
        for state in ACTIVE {
            let count = counts.map_or(0, |counts| counts.get(state));
            let name = state.as_str_name().to_ascii_lowercase();
            metrics.insert(format!("{prefix}/tasks/active/{name}"), f64::from(count));
        }
        for role in roles_of(&info) {
            let suppressed = framework.suppressed_roles.iter().any(|suppressed| suppressed == role);
            metrics.insert(format!("{prefix}/roles/{role}/suppressed"), flag(suppressed));
        }
    }
}

/// A name as a part of a metric's name: what has a meaning in an address is percent-encoded.
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        let plain = byte.is_ascii_graphic() && !br##"$&+,/:;=?@"<>#%{}|\^~[]`"##.contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Adds the leader's figures. What the view counts from what there is now holds; ended tasks are counted by the
/// leader, since the view forgets them.
pub(super) fn merge(view: &mut Metrics, leader: &Metrics) {
    let ended = |name: &str| {
        let state = TASKS.iter().find(|(task, _)| name.strip_prefix("master/tasks_") == Some(task));
        state.is_some_and(|(_, state)| is_ended(*state))
    };
    for (name, value) in leader {
        if ended(name) || !view.contains_key(name) {
            view.insert(name.clone(), *value);
        }
    }
}

fn is_ended(state: TaskState) -> bool {
    use TaskState::{TaskKilling, TaskRunning, TaskStaging, TaskStarting, TaskUnreachable};
    !matches!(state, TaskStaging | TaskStarting | TaskRunning | TaskKilling | TaskUnreachable)
}

fn put_resources(metrics: &mut Metrics, cluster: &Cluster) {
    let sums = cluster.sums();
    let mut put = |name: &str, suffix: &str, total: Milli, used: Milli| {
        let (total, used) = (total.to_f64(), used.to_f64());
        let share = if total > 0.0 { used / total } else { 0.0 };
        metrics.insert(format!("master/{name}{suffix}_total"), total);
        metrics.insert(format!("master/{name}{suffix}_used"), used);
        metrics.insert(format!("master/{name}{suffix}_percent"), share);
    };
    for name in RESOURCES {
        put(name, "", sums.total.firm(name), sums.used.firm(name));
        put(name, "_revocable", sums.total.revocable(name), sums.used.revocable(name));
    }
    for name in ["cpus", "mem", "disk"] {
        let all = |amounts: &Amounts| amounts.firm(name).saturating_add(amounts.revocable(name));
        let out = all(&sums.used).saturating_add(all(&sums.offered));
        metrics.insert(format!("allocator/mesos/resources/{name}/total"), sums.total.firm(name).to_f64());
        metrics.insert(format!("allocator/mesos/resources/{name}/offered_or_allocated"), out.to_f64());
    }
}

/// All metrics as one flat object; without a cluster those of the process and the machine.
pub(super) fn snapshot(cluster: Option<Metrics>, uptime_s: f64, system: &Value) -> Value {
    let mut metrics = cluster.unwrap_or_default();
    let elected = if metrics.is_empty() { 0.0 } else { 1.0 };
    metrics.insert("master/elected".to_owned(), elected);
    metrics.insert("master/uptime_secs".to_owned(), uptime_s);
    for (name, key) in [
        ("cpus_total", "cpus_total"),
        ("load_1min", "avg_load_1min"),
        ("load_5min", "avg_load_5min"),
        ("load_15min", "avg_load_15min"),
        ("mem_total_bytes", "mem_total_bytes"),
        ("mem_free_bytes", "mem_free_bytes"),
    ] {
        metrics.insert(format!("system/{name}"), system[key].as_f64().unwrap_or_default());
    }
    json!(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::golden_cluster;

    #[test]
    fn values_are_those_of_a_real_master() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/master_metrics_snapshot.json")).unwrap();
        let ours = of_cluster(&golden_cluster());
        for (name, value) in &ours {
            let golden = golden.get(name).unwrap_or_else(|| panic!("Mesos has no metric {name}"));
            // The capture of the state is older than that of the metrics by one task.
            if name == "master/tasks_finished" {
                continue;
            }
            assert_eq!(json!(value), *golden, "{name}");
        }
        assert!(ours.len() > 50, "{}", ours.len());
    }

    #[test]
    fn names_of_frameworks_are_encoded_as_mesos_encodes_them() {
        assert_eq!(encoded("Test Framework (C++)"), "Test%20Framework%20(C%2B%2B)");
        assert_eq!(encoded("a-b_c.d*/é"), "a-b_c.d*%2F%C3%A9");
    }

    #[test]
    fn the_leader_counts_what_has_ended_and_the_view_what_is_there() {
        let mut metrics = of_cluster(&golden_cluster());
        let running = metrics["master/tasks_running"];
        let leader = [("master/tasks_running", 99.0), ("master/tasks_failed", 99.0), ("x", 1.0)];
        merge(&mut metrics, &leader.map(|(name, value)| (name.to_owned(), value)).into());
        assert_eq!(metrics["master/tasks_running"], running);
        assert_eq!((metrics["master/tasks_failed"], metrics["x"]), (99.0, 1.0));
    }

    #[test]
    fn without_a_leader_the_process_still_answers() {
        let metrics = snapshot(None, 1.5, &json!({"cpus_total": 2}));
        assert_eq!(metrics["master/elected"], 0.0);
        assert_eq!(metrics["master/uptime_secs"], 1.5);
        assert_eq!(metrics["system/cpus_total"], 2.0);
    }
}
