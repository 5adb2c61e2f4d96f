//! The view as the JSON of the unversioned endpoints. Pure.

mod agent;
mod framework;
#[cfg(test)]
pub(crate) mod shape;
mod task;

use meshos_proto::{
    meshos::allocator::v1::Agent,
    mesos::v1::{Attribute, FrameworkInfo, MasterInfo, Resource, TaskState, master_info::capability::Type},
};
use meshos_types::{Attributes, Format, Resources, render};
use serde_json::{Map, Value, json};

use super::About;
use crate::views::{Cluster, cluster::Counts};

pub(super) use agent::pid;
pub(super) use task::task;

/// `GET /state`
pub(super) fn state(cluster: &Cluster, about: &About) -> Value {
    let info = cluster.master.info.clone().unwrap_or_default();
    let count =
        |wanted: fn(&Agent) -> bool| cluster.agents.values().filter(|agent| wanted(agent)).count() as f64;
    let mut state = Map::new();
    let mut put = |key: &str, value: Value| state.insert(key.to_owned(), value);
    let version = about.version();
    for key in ["version", "build_date", "build_time", "build_user"] {
        put(key, version[key].clone());
    }
    put("start_time", seconds(cluster.master.started_at_ms));
    put("elected_time", seconds(cluster.master.elected_at_ms));
    put("id", json!(info.id));
    put("pid", json!(about.pid()));
    put("hostname", json!(about.identity.hostname));
    put("capabilities", capabilities(&info));
    put("activated_slaves", json!(count(|agent| agent::is_registered(agent) && agent.active)));
    put("deactivated_slaves", json!(count(|agent| agent::is_registered(agent) && !agent.active)));
    put("unreachable_slaves", json!(count(|agent| agent.unreachable)));
    put("leader", json!(about.pid()));
    let identity = &about.identity;
    let leader =
        json!({"id": info.id, "pid": about.pid(), "port": identity.port, "hostname": identity.hostname});
    put("leader_info", leader);
    if let Some(name) = &about.cluster {
        put("cluster", json!(name));
    }
    put("flags", json!(about.flags()));
    put("slaves", registered(cluster).map(|agent| Value::Object(agent::agent(agent))).collect());
    put("recovered_slaves", recovered(cluster));
    let (live, completed): (Vec<_>, Vec<_>) = cluster.frameworks.values().partition(|found| !found.completed);
    put("frameworks", live.into_iter().map(|found| framework::framework(cluster, found)).collect());
    put(
        "completed_frameworks",
        completed.into_iter().map(|found| framework::framework(cluster, found)).collect(),
    );
    put("orphan_tasks", json!([]));
    put("unregistered_frameworks", json!([]));
    Value::Object(state)
}

/// `GET /state-summary`
pub(super) fn summary(cluster: &Cluster, about: &About) -> Value {
    let mut summary = Map::new();
    summary.insert("hostname".to_owned(), json!(about.identity.hostname));
    if let Some(name) = &about.cluster {
        summary.insert("cluster".to_owned(), json!(name));
    }
    let slaves = registered(cluster).map(|agent| agent::summary(cluster, agent)).collect();
    summary.insert("slaves".to_owned(), slaves);
    let live = cluster.frameworks.values().filter(|found| !found.completed);
    summary.insert("frameworks".to_owned(), live.map(|found| framework::summary(cluster, found)).collect());
    Value::Object(summary)
}

/// `GET /slaves`, of one agent when `id` is given.
pub(super) fn slaves(cluster: &Cluster, id: Option<&str>) -> Value {
    let wanted = |agent: &&Agent| id.is_none_or(|id| crate::views::cluster::agent_id(agent) == id);
    let slaves: Value = registered(cluster).filter(wanted).map(agent::full).collect();
    json!({"slaves": slaves, "recovered_slaves": recovered(cluster)})
}

/// `GET /frameworks`, of one framework when `id` is given.
pub(super) fn frameworks(cluster: &Cluster, id: Option<&str>) -> Value {
    let of = |completed: bool| -> Value {
        let all = cluster.frameworks.iter().filter(|(_, found)| found.completed == completed);
        let wanted = all.filter(|(key, _)| id.is_none_or(|id| *key == id));
        wanted.map(|(_, found)| framework::framework(cluster, found)).collect()
    };
    json!({"frameworks": of(false), "completed_frameworks": of(true), "unregistered_frameworks": []})
}

fn registered(cluster: &Cluster) -> impl Iterator<Item = &Agent> {
    cluster.agents.values().filter(|agent| agent::is_registered(agent))
}

fn recovered(cluster: &Cluster) -> Value {
    cluster.agents.values().filter(|agent| agent.recovered).map(agent::recovered).collect()
}

fn capabilities(info: &MasterInfo) -> Value {
    let known = info.capabilities.iter().filter_map(|capability| Type::try_from(capability.r#type?).ok());
    known.map(|capability| capability.as_str_name()).collect()
}

/// The roles a framework is in, in either form.
pub(super) fn roles_of(info: &FrameworkInfo) -> Vec<&str> {
    #[allow(deprecated, reason = "frameworks without MULTI_ROLE still say it there")]
    let single = info.role.as_deref().unwrap_or("*");
    if info.roles.is_empty() { vec![single] } else { info.roles.iter().map(String::as_str).collect() }
}

/// Seconds since 1970.
pub(super) fn seconds(unix_ms: u64) -> Value {
    json!(unix_ms as f64 / 1000.0)
}

/// Resources in their checked form; ones that cannot be read count as none.
pub(super) fn resources(messages: &[Resource]) -> Resources {
    Resources::from_proto(messages).unwrap_or_default()
}

/// Resources as the operator API shows them, with both forms of reservations; as they came when they cannot be read.
pub(super) fn whole(messages: &[Resource]) -> Vec<Resource> {
    Resources::from_proto(messages)
        .map_or_else(|_| messages.to_vec(), |known| known.to_proto(Format::Endpoint))
}

/// `{"cpus":1.0,…}`
fn resources_object(messages: &[Resource]) -> Value {
    render::resources_object(&resources(messages))
}

fn attributes_object(messages: &[Attribute]) -> Value {
    Attributes::from_proto(messages)
        .map_or_else(|_| json!({}), |attributes| render::attributes_object(&attributes))
}

/// States that summaries count, in their order.
const COUNTED: [TaskState; 10] = [
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskFinished,
    TaskState::TaskKilled,
    TaskState::TaskFailed,
    TaskState::TaskLost,
    TaskState::TaskError,
    TaskState::TaskUnreachable,
];

/// `TASK_RUNNING: 2, …`, over all of `groups`.
fn put_counts<'a>(object: &mut Map<String, Value>, groups: impl Iterator<Item = &'a Counts> + Clone) {
    for state in COUNTED {
        let count: u32 = groups.clone().filter_map(|counts| counts.get(&(state as i32))).sum();
        object.insert(state.as_str_name().to_owned(), json!(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shape::{assert_same, golden_cluster};

    fn golden(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn mesos_c68_state_is_that_of_a_real_master() {
        let ours = state(&golden_cluster(), &About::test());
        let mut golden = golden(include_str!("../../tests/golden/master_state.json"));
        let object = golden.as_object_mut().unwrap();
        // Of a build from a repository, and of a driver of the old protocol; flags are our own.
        object.shift_remove("git_sha");
        object.shift_remove("git_branch");
        object.shift_remove("flags");
        object["completed_frameworks"][0].as_object_mut().unwrap().shift_remove("pid");
        let mut ours = ours;
        assert!(ours["flags"].is_object());
        ours.as_object_mut().unwrap().shift_remove("flags");
        assert_same("state", &ours, &golden);
        assert_eq!(ours["slaves"][0]["resources"], golden["slaves"][0]["resources"]);
        assert_eq!(ours["slaves"][0]["reserved_resources"], golden["slaves"][0]["reserved_resources"]);
        assert_eq!(ours["slaves"][0]["unreserved_resources"], golden["slaves"][0]["unreserved_resources"]);
        assert_eq!(ours["frameworks"][0]["resources"], golden["frameworks"][0]["resources"]);
        assert_eq!(ours["leader_info"], golden["leader_info"]);
    }

    #[test]
    fn the_summary_is_that_of_a_real_master() {
        let golden = golden(include_str!("../../tests/golden/master_state-summary.json"));
        let ours = summary(&golden_cluster(), &About::test());
        assert_same("summary", &ours, &golden);
        for count in ["TASK_RUNNING", "TASK_FAILED", "TASK_KILLED", "TASK_FINISHED", "TASK_STAGING"] {
            assert_eq!(ours["frameworks"][0][count], golden["frameworks"][0][count], "{count}");
        }
        assert_eq!(ours["frameworks"][0]["slave_ids"], golden["frameworks"][0]["slave_ids"]);
    }

    #[test]
    fn slaves_are_those_of_a_real_master() {
        let golden = golden(include_str!("../../tests/golden/master_slaves.json"));
        let ours = slaves(&golden_cluster(), None);
        assert_same("slaves", &ours, &golden);
        let none = slaves(&golden_cluster(), Some("other"));
        assert_eq!(none["slaves"], json!([]));
    }

    #[test]
    fn frameworks_are_those_of_a_real_master() {
        let mut golden = golden(include_str!("../../tests/golden/master_frameworks.json"));
        golden["completed_frameworks"][0].as_object_mut().unwrap().shift_remove("pid");
        let ours = frameworks(&golden_cluster(), None);
        assert_same("frameworks", &ours, &golden);
        let one = frameworks(&golden_cluster(), ours["frameworks"][0]["id"].as_str());
        assert_eq!(one["completed_frameworks"], json!([]));
        assert_eq!(one["frameworks"], ours["frameworks"]);
    }
}
