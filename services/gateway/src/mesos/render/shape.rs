//! For tests: the cluster of the golden captures, and comparison of shapes.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    json::from_json,
    meshos::allocator::v1::{
        Agent, Framework, Master, RoleSettings, Snapshot, TaskPlace, WatchResponse, watch_response::Body,
    },
    mesos::v1::{TimeInfo, master::Response, quota::QuotaConfig, value},
    packed::Task,
};
use serde_json::Value;

use crate::views::Cluster;

/// Asserts that both have the same keys and the same types of values, down to the leaves; of arrays, element by
/// element, in the order of their ids.
pub(crate) fn assert_same(path: &str, ours: &Value, golden: &Value) {
    match (ours, golden) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(a), keys(b), "keys at {path}");
            for (key, value) in a {
                assert_same(&format!("{path}.{key}"), value, &b[key]);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "length of {path}");
            let by_id = |list: &[Value]| {
                let mut list = list.to_vec();
                list.sort_by_key(|item| {
                    let name = item["id"].as_str().or(item["name"].as_str());
                    (name.map(str::to_owned), item["role"].as_str().map(str::to_owned))
                });
                list
            };
            for (place, (a, b)) in by_id(a).iter().zip(&by_id(b)).enumerate() {
                assert_same(&format!("{path}[{place}]"), a, b);
            }
        }
        (Value::Number(a), Value::Number(b)) => assert_eq!(a.is_f64(), b.is_f64(), "{path}: {a} against {b}"),
        (a, b) => assert_eq!(std::mem::discriminant(a), std::mem::discriminant(b), "{path}: {a} against {b}"),
    }
}

/// A response of a real master.
pub(crate) fn golden_response(text: &str) -> Response {
    from_json(&serde_json::from_str(text).unwrap()).unwrap()
}

/// The scene of the golden captures, as the allocator would publish it.
pub(crate) fn golden_cluster() -> Cluster {
    let state =
        golden_response(include_str!("../../../tests/golden/master_v1_GET_STATE.json")).get_state.unwrap();
    let master =
        golden_response(include_str!("../../../tests/golden/master_v1_GET_MASTER.json")).get_master.unwrap();
    let ms = |time: &Option<TimeInfo>| time.as_ref().map_or(0, |time| (time.nanoseconds / 1_000_000) as u64);
    let agents = state.get_agents.unwrap().agents.into_iter().map(|agent| Agent {
        info: Some(agent.agent_info),
        active: agent.active,
        connected: true,
        version: agent.version,
        endpoint: agent.pid.unwrap().split_once('@').unwrap().1.to_owned(),
        capabilities: agent.capabilities,
        registered_at_ms: ms(&agent.registered_time),
        total: agent.total_resources,
        used: agent.allocated_resources,
        offered: agent.offered_resources,
        ..Default::default()
    });
    let frameworks = state.get_frameworks.unwrap();
    let offers = frameworks.frameworks.iter().flat_map(|framework| framework.offers.clone()).collect();
    let all = frameworks.frameworks.into_iter().chain(frameworks.completed_frameworks);
    let frameworks = all.map(|framework| Framework {
        info: Some(framework.framework_info),
        active: framework.active,
        connected: framework.connected,
        registered_at_ms: ms(&framework.registered_time),
        reregistered_at_ms: ms(&framework.reregistered_time),
        unregistered_at_ms: ms(&framework.unregistered_time),
        completed: framework.unregistered_time.is_some(),
        used: framework.allocated_resources,
        offered: framework.offered_resources,
        ..Default::default()
    });
    let tasks = state.get_tasks.unwrap();
    let at = |place: TaskPlace| move |task| Task::new(&task, place);
    let live = tasks.tasks.into_iter().map(at(TaskPlace::Live));
    let tasks = live.chain(tasks.completed_tasks.into_iter().map(at(TaskPlace::Completed))).collect();
    let master = Master {
        info: master.master_info,
        started_at_ms: (master.start_time.unwrap() * 1000.0) as u64,
        elected_at_ms: (master.elected_time.unwrap() * 1000.0) as u64,
    };
    let cpus_and_mem = |cpus: f64, mem: f64| -> BTreeMap<String, value::Scalar> {
        [("cpus", cpus), ("mem", mem)].map(|(name, value)| (name.to_owned(), value::Scalar { value })).into()
    };
    let quota = QuotaConfig {
        role: "ops".to_owned(),
        guarantees: cpus_and_mem(1.0, 128.0),
        limits: cpus_and_mem(10.0, 1024.0),
    };
    let roles = vec![
        RoleSettings { role: "eng".to_owned(), weight: Some(2.0), quota: None },
        RoleSettings { role: "ops".to_owned(), weight: None, quota: Some(quota) },
    ];
    let snapshot = Snapshot {
        master: Some(master),
        agents: agents.collect(),
        frameworks: frameworks.collect(),
        tasks,
        offers,
        roles,
        ..Snapshot::default()
    };
    let mut cluster = Cluster::default();
    cluster.apply(WatchResponse { epoch: 1, revision: 1, body: Some(Body::Snapshot(snapshot)) });
    cluster
}
