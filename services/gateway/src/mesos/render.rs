//! The view as the JSON of the unversioned endpoints. Pure.

mod agent;
pub(super) mod allocated;
mod executor;
mod framework;
#[cfg(test)]
pub(crate) mod shape;
mod task;
pub(super) mod writer;

use meshos_proto::{
    meshos::allocator::v1::Agent,
    mesos::v1::{Attribute, FrameworkInfo, MasterInfo, Resource, TaskState, master_info::capability::Type},
};
use meshos_types::{Attributes, Format, Resources, render};
use serde_json::{Map, Value, json};

use super::About;
use crate::views::{Cluster, cluster::Counts};

pub(super) use agent::pid;
pub(super) use allocated::Allocated;
pub(super) use task::task;
use writer::Object;

/// `GET /state`
pub(super) fn state(cluster: &Cluster, about: &About) -> Vec<u8> {
    let info = cluster.master.info.clone().unwrap_or_default();
    let count =
        |wanted: fn(&Agent) -> bool| cluster.agents.values().filter(|agent| wanted(agent)).count() as f64;
    let mut out = Vec::new();
    let mut state = Object::begin(&mut out);
    let version = about.version();
    for key in ["version", "build_date", "build_time", "build_user"] {
        state.put(key, &version[key]);
    }
    state.put("start_time", &seconds(cluster.master.started_at_ms));
    state.put("elected_time", &seconds(cluster.master.elected_at_ms));
    state.put("id", &info.id);
    state.put("pid", &about.pid());
    state.put("hostname", &about.identity.hostname);
    state.put("capabilities", &capabilities(&info));
    state.put("activated_slaves", &count(|agent| agent::is_registered(agent) && agent.active));
    state.put("deactivated_slaves", &count(|agent| agent::is_registered(agent) && !agent.active));
    state.put("unreachable_slaves", &count(|agent| agent.unreachable));
    state.put("leader", &about.pid());
    let identity = &about.identity;
    let leader =
        json!({"id": info.id, "pid": about.pid(), "port": identity.port, "hostname": identity.hostname});
    state.put("leader_info", &leader);
    if let Some(name) = &about.cluster {
        state.put("cluster", name);
    }
    about.logs.iter().for_each(|(name, path)| state.put(name, path));
    state.put("flags", &about.flags());
    state.list("slaves", registered(cluster), |agent, out| writer::put(out, &agent::agent(agent)));
    state.put("recovered_slaves", &recovered(cluster));
    let of = |completed: bool| cluster.frameworks.values().filter(move |found| found.completed == completed);
    state.list("frameworks", of(false), |found, out| framework::framework(cluster, found, out));
    state.list("completed_frameworks", of(true), |found, out| framework::framework(cluster, found, out));
    state.put("orphan_tasks", &json!([]));
    state.put("unregistered_frameworks", &json!([]));
    state.end();
    out
}

/// `GET /state-summary`
pub(super) fn summary(cluster: &Cluster, about: &About) -> Vec<u8> {
    let mut out = Vec::new();
    let mut summary = Object::begin(&mut out);
    summary.put("hostname", &about.identity.hostname);
    if let Some(name) = &about.cluster {
        summary.put("cluster", name);
    }
    let agents = registered(cluster).map(|agent| agent::summary(cluster, agent));
    summary.list("slaves", agents, |agent, out| writer::put(out, &agent));
    let live = cluster.frameworks.values().filter(|found| !found.completed);
    summary.list("frameworks", live, |found, out| writer::put(out, &framework::summary(cluster, found)));
    summary.end();
    out
}

/// `GET /slaves`, of one agent when `id` is given.
pub(super) fn slaves(cluster: &Cluster, id: Option<&str>) -> Vec<u8> {
    let wanted = |agent: &&Agent| id.is_none_or(|id| crate::views::cluster::agent_id(agent) == id);
    let mut out = Vec::new();
    let mut slaves = Object::begin(&mut out);
    let allocated = Allocated::of(cluster);
    slaves.list("slaves", registered(cluster).filter(wanted), |agent, out| {
        writer::put(out, &agent::full(agent, &allocated));
    });
    slaves.put("recovered_slaves", &recovered(cluster));
    slaves.end();
    out
}

/// `GET /frameworks`, of one framework when `id` is given.
pub(super) fn frameworks(cluster: &Cluster, id: Option<&str>) -> Vec<u8> {
    let of = |completed: bool| {
        let all = cluster.frameworks.iter().filter(move |(_, found)| found.completed == completed);
        all.filter(move |(key, _)| id.is_none_or(|id| &***key == id)).map(|(_, found)| &**found)
    };
    let mut out = Vec::new();
    let mut frameworks = Object::begin(&mut out);
    frameworks.list("frameworks", of(false), |found, out| framework::framework(cluster, found, out));
    frameworks.list("completed_frameworks", of(true), |found, out| framework::framework(cluster, found, out));
    frameworks.put("unregistered_frameworks", &json!([]));
    frameworks.end();
    out
}

fn registered(cluster: &Cluster) -> impl Iterator<Item = &Agent> {
    cluster.agents.values().map(AsRef::as_ref).filter(|agent| agent::is_registered(agent))
}

fn recovered(cluster: &Cluster) -> Value {
    cluster.agents.values().filter(|agent| agent.recovered).map(|agent| agent::recovered(agent)).collect()
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
    Resources::from_proto(messages).map_or_else(|_| messages.to_vec(), |known| shown(&known))
}

/// The same of checked ones.
pub(super) fn shown(resources: &Resources) -> Vec<Resource> {
    resources.to_proto(Format::Endpoint)
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
        let count: u32 = groups.clone().map(|counts| counts.get(state)).sum();
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

    fn read(text: &[u8]) -> Value {
        serde_json::from_slice(text).unwrap()
    }

    #[test]
    fn mesos_c68_state_is_that_of_a_real_master() {
        let ours = read(&state(&golden_cluster(), &About::test()));
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
        let ours = read(&summary(&golden_cluster(), &About::test()));
        assert_same("summary", &ours, &golden);
        for count in ["TASK_RUNNING", "TASK_FAILED", "TASK_KILLED", "TASK_FINISHED", "TASK_STAGING"] {
            assert_eq!(ours["frameworks"][0][count], golden["frameworks"][0][count], "{count}");
        }
        assert_eq!(ours["frameworks"][0]["slave_ids"], golden["frameworks"][0]["slave_ids"]);
    }

    #[test]
    fn slaves_are_those_of_a_real_master() {
        let golden = golden(include_str!("../../tests/golden/master_slaves.json"));
        let ours = read(&slaves(&golden_cluster(), None));
        assert_same("slaves", &ours, &golden);
        let none = read(&slaves(&golden_cluster(), Some("other")));
        assert_eq!(none["slaves"], json!([]));
    }

    #[test]
    fn frameworks_are_those_of_a_real_master() {
        let mut golden = golden(include_str!("../../tests/golden/master_frameworks.json"));
        golden["completed_frameworks"][0].as_object_mut().unwrap().shift_remove("pid");
        let ours = read(&frameworks(&golden_cluster(), None));
        assert_same("frameworks", &ours, &golden);
        let one = read(&frameworks(&golden_cluster(), ours["frameworks"][0]["id"].as_str()));
        assert_eq!(one["completed_frameworks"], json!([]));
        assert_eq!(one["frameworks"], ours["frameworks"]);
    }
}
