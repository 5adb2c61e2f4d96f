//! The view as responses of the v1 operator API. Pure.

use meshos_proto::{
    meshos::allocator::v1::{Agent, Executor, Framework, TaskPlace},
    mesos::v1::{
        AgentId, Flag, Metric, Task, TimeInfo,
        master::{
            Response,
            response::{
                GetAgents, GetExecutors, GetFlags, GetFrameworks, GetHealth, GetLoggingLevel,
                GetMaintenanceSchedule, GetMaintenanceStatus, GetMaster, GetMetrics, GetOperations, GetQuota,
                GetRoles, GetState, GetTasks, GetVersion, GetWeights, Type, get_agents, get_executors,
                get_frameworks,
            },
        },
    },
};
use serde_json::Value;

use super::super::{About, about, render, render::Allocated, render::allocated, roles, settings};
use crate::views::{
    Cluster,
    cluster::{framework_id, is_away},
};

pub(super) fn health() -> Response {
    Response { get_health: Some(GetHealth { healthy: true }), ..of(Type::GetHealth) }
}

pub(super) fn version() -> Response {
    let get_version = Some(GetVersion { version_info: about::version_info() });
    Response { get_version, ..of(Type::GetVersion) }
}

pub(super) fn flags(about: &About) -> Response {
    let flags = about.flags().into_iter().map(|(name, value)| Flag { name, value: Some(value) }).collect();
    Response { get_flags: Some(GetFlags { flags }), ..of(Type::GetFlags) }
}

/// From the flat object of `/metrics/snapshot`.
pub(super) fn metrics(snapshot: &Value) -> Response {
    let entries = snapshot.as_object().into_iter().flatten();
    let metrics = entries.map(|(name, value)| Metric { name: name.clone(), value: value.as_f64() }).collect();
    Response { get_metrics: Some(GetMetrics { metrics }), ..of(Type::GetMetrics) }
}

pub(super) fn state(cluster: &Cluster) -> Response {
    let state = GetState {
        get_tasks: Some(get_tasks(cluster)),
        get_executors: Some(get_executors(cluster)),
        get_frameworks: Some(get_frameworks(cluster)),
        get_agents: Some(get_agents(cluster)),
    };
    Response { get_state: Some(state), ..of(Type::GetState) }
}

pub(super) fn agents(cluster: &Cluster) -> Response {
    Response { get_agents: Some(get_agents(cluster)), ..of(Type::GetAgents) }
}

pub(super) fn frameworks(cluster: &Cluster) -> Response {
    Response { get_frameworks: Some(get_frameworks(cluster)), ..of(Type::GetFrameworks) }
}

pub(super) fn tasks(cluster: &Cluster) -> Response {
    Response { get_tasks: Some(get_tasks(cluster)), ..of(Type::GetTasks) }
}

pub(super) fn executors(cluster: &Cluster) -> Response {
    Response { get_executors: Some(get_executors(cluster)), ..of(Type::GetExecutors) }
}

pub(super) fn master(cluster: &Cluster, about: &About) -> Response {
    let master = &cluster.master;
    let get_master = GetMaster {
        master_info: Some(about.master(&master.info.clone().unwrap_or_default())),
        start_time: render::seconds(master.started_at_ms).as_f64(),
        elected_time: render::seconds(master.elected_at_ms).as_f64(),
    };
    Response { get_master: Some(get_master), ..of(Type::GetMaster) }
}

pub(super) fn operations(cluster: &Cluster) -> Response {
    let operations = cluster.operations().cloned().collect();
    Response { get_operations: Some(GetOperations { operations }), ..of(Type::GetOperations) }
}

pub(super) fn roles(cluster: &Cluster) -> Response {
    let roles = roles::messages(cluster);
    Response { get_roles: Some(GetRoles { roles }), ..of(Type::GetRoles) }
}

/// Without any weight there is no sub-message either.
pub(super) fn weights(cluster: &Cluster) -> Response {
    let weight_infos = settings::weights(cluster);
    let get_weights = (!weight_infos.is_empty()).then_some(GetWeights { weight_infos });
    Response { get_weights, ..of(Type::GetWeights) }
}

pub(super) fn quota(cluster: &Cluster) -> Response {
    let status = settings::quota(cluster);
    Response { get_quota: Some(GetQuota { status }), ..of(Type::GetQuota) }
}

/// No machine is ever drained here.
pub(super) fn maintenance_status() -> Response {
    let get_maintenance_status = Some(GetMaintenanceStatus::default());
    Response { get_maintenance_status, ..of(Type::GetMaintenanceStatus) }
}

/// No window is ever planned here.
pub(super) fn maintenance_schedule() -> Response {
    let get_maintenance_schedule = Some(GetMaintenanceSchedule::default());
    Response { get_maintenance_schedule, ..of(Type::GetMaintenanceSchedule) }
}

pub(super) fn logging_level(level: u32) -> Response {
    Response { get_logging_level: Some(GetLoggingLevel { level }), ..of(Type::GetLoggingLevel) }
}

fn of(kind: Type) -> Response {
    Response { r#type: Some(kind as i32), ..Default::default() }
}

fn get_agents(cluster: &Cluster) -> GetAgents {
    let allocated = Allocated::of(cluster);
    let full = |found: &Agent| get_agents::Agent {
        allocated_resources: render::shown(&allocated.used(found)),
        offered_resources: render::shown(&allocated.offered(found)),
        ..agent(found)
    };
    let (recovered, known): (Vec<&Agent>, Vec<_>) =
        cluster.agents.values().map(AsRef::as_ref).partition(|agent| agent.recovered);
    GetAgents {
        agents: known.into_iter().filter(|agent| !is_away(agent)).map(full).collect(),
        recovered_agents: recovered.into_iter().filter_map(|agent| agent.info.clone()).collect(),
    }
}

pub(super) fn agent(agent: &Agent) -> get_agents::Agent {
    get_agents::Agent {
        agent_info: agent.info.clone().unwrap_or_default(),
        active: agent.active,
        deactivated: Some(false),
        version: agent.version.clone(),
        pid: Some(render::pid(agent)),
        registered_time: time(agent.registered_at_ms),
        reregistered_time: time(agent.reregistered_at_ms),
        total_resources: render::whole(&agent.total),
        allocated_resources: render::whole(&agent.used),
        offered_resources: render::whole(&agent.offered),
        capabilities: agent.capabilities.clone(),
        ..Default::default()
    }
}

/// Those that frameworks gave: the ones of command tasks are nobody's.
#[allow(deprecated, reason = "fields of old readers are left empty")]
fn get_executors(cluster: &Cluster) -> GetExecutors {
    let shown = |executor: &Executor| get_executors::Executor {
        executor_info: executor.info.clone().unwrap_or_default(),
        agent_id: AgentId { value: executor.agent_id.clone() },
    };
    GetExecutors { executors: cluster.executors().map(shown).collect(), ..Default::default() }
}

fn get_frameworks(cluster: &Cluster) -> GetFrameworks {
    let of = |completed: bool| {
        let wanted = cluster.frameworks.values().filter(move |found| found.completed == completed);
        wanted.map(|found| framework(cluster, found)).collect()
    };
    GetFrameworks { frameworks: of(false), completed_frameworks: of(true), ..Default::default() }
}

fn framework(cluster: &Cluster, framework: &Framework) -> get_frameworks::Framework {
    get_frameworks::Framework {
        offers: cluster.offers_of(framework_id(framework)).cloned().collect(),
        offer_constraints: Some(framework.offer_constraints.clone().unwrap_or_default()),
        allocated_resources: render::shown(&allocated::used(cluster, framework)),
        offered_resources: render::shown(&allocated::offered(cluster, framework)),
        ..bare_framework(framework)
    }
}

/// Without its offers.
pub(super) fn bare_framework(framework: &Framework) -> get_frameworks::Framework {
    let reregistered = framework.reregistered_at_ms.max(framework.registered_at_ms);
    get_frameworks::Framework {
        framework_info: framework.info.clone().unwrap_or_default(),
        active: framework.active,
        connected: framework.connected,
        recovered: framework.recovered,
        registered_time: time(framework.registered_at_ms),
        reregistered_time: time(reregistered),
        unregistered_time: time(framework.unregistered_at_ms),
        allocated_resources: render::whole(&framework.used),
        offered_resources: render::whole(&framework.offered),
        ..Default::default()
    }
}

fn get_tasks(cluster: &Cluster) -> GetTasks {
    let mut tasks = GetTasks::default();
    for (task, place) in cluster.tasks() {
        let list: &mut Vec<Task> = match place {
            TaskPlace::Completed => &mut tasks.completed_tasks,
            TaskPlace::Unreachable => &mut tasks.unreachable_tasks,
            TaskPlace::Live | TaskPlace::Unspecified => &mut tasks.tasks,
        };
        list.push(task.clone());
    }
    tasks
}

/// None for 0, which means never.
fn time(unix_ms: u64) -> Option<TimeInfo> {
    let nanoseconds = i64::try_from(unix_ms).ok().and_then(|ms| ms.checked_mul(1_000_000));
    nanoseconds.filter(|ns| *ns > 0).map(|nanoseconds| TimeInfo { nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::{assert_same, golden_cluster};
    use meshos_proto::json::to_json;
    use serde_json::json;

    fn same(response: &Response, golden: &str) -> (Value, Value) {
        let ours = to_json(response);
        let mut golden: Value = serde_json::from_str(golden).unwrap();
        // A field of older agents that the messages here do not have.
        drop_checkpoint(&mut golden);
        assert_same("response", &ours, &golden);
        (ours, golden)
    }

    fn drop_checkpoint(value: &mut Value) {
        if let Some(object) = value.get_mut("agent_info").and_then(Value::as_object_mut) {
            object.shift_remove("checkpoint");
        }
        let children: Vec<&mut Value> = match value {
            Value::Object(object) => object.values_mut().collect(),
            Value::Array(list) => list.iter_mut().collect(),
            _ => Vec::new(),
        };
        children.into_iter().for_each(drop_checkpoint);
    }

    #[test]
    fn responses_are_those_of_a_real_master() {
        let cluster = golden_cluster();
        same(&state(&cluster), include_str!("../../../tests/golden/master_v1_GET_STATE.json"));
        same(&agents(&cluster), include_str!("../../../tests/golden/master_v1_GET_AGENTS.json"));
        same(&frameworks(&cluster), include_str!("../../../tests/golden/master_v1_GET_FRAMEWORKS.json"));
        same(&tasks(&cluster), include_str!("../../../tests/golden/master_v1_GET_TASKS.json"));
        let golden = include_str!("../../../tests/golden/master_v1_GET_MASTER.json");
        let (ours, golden) = same(&master(&cluster, &About::test()), golden);
        assert_eq!(ours["get_master"]["master_info"], golden["get_master"]["master_info"]);
        same(&health(), include_str!("../../../tests/golden/master_v1_GET_HEALTH.json"));
        let exactly = |response: &Response, golden: &str| {
            let (ours, golden) = same(response, golden);
            assert_eq!(ours, golden);
        };
        exactly(&roles(&cluster), include_str!("../../../tests/golden/master_v1_GET_ROLES.json"));
        exactly(&weights(&cluster), include_str!("../../../tests/golden/master_v1_GET_WEIGHTS.json"));
        exactly(&quota(&cluster), include_str!("../../../tests/golden/master_v1_GET_QUOTA.json"));
        exactly(
            &operations(&Cluster::default()),
            include_str!("../../../tests/golden/master_v1_GET_OPERATIONS.json"),
        );
        exactly(&executors(&cluster), r#"{"type":"GET_EXECUTORS","get_executors":{"executors":[]}}"#);
        exactly(&logging_level(0), include_str!("../../../tests/golden/master_v1_GET_LOGGING_LEVEL.json"));
        assert_eq!(to_json(&weights(&Cluster::default())), json!({"type": "GET_WEIGHTS"}));
        let status = json!({"type": "GET_MAINTENANCE_STATUS", "get_maintenance_status": {"status": {}}});
        assert_eq!(to_json(&maintenance_status()), status);
    }

    #[test]
    fn empty_lists_are_shown() {
        let empty = to_json(&state(&Cluster::default()));
        assert_eq!(empty["get_state"]["get_tasks"]["tasks"], json!([]));
        assert_eq!(empty["get_state"]["get_agents"]["recovered_agents"], json!([]));
    }
}
