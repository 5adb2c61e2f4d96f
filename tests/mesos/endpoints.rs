//! The unversioned endpoints and their counterparts in the operator API, the metrics, and what is shown of executors,
//! operations and constraints.

use serde_json::{Value, json};

use crate::support::{Framework, cluster, eventually, info, scalar, task};

#[test]
fn every_endpoint_answers_with_and_without_its_prefix_and_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    for path in [
        "/state",
        "/state-summary",
        "/slaves",
        "/frameworks",
        "/tasks",
        "/roles",
        "/quota",
        "/weights",
        "/maintenance/schedule",
        "/maintenance/status",
        "/flags",
        "/version",
        "/metrics/snapshot",
        "/system/stats.json",
        "/files/debug",
        "/registrar(1)/registry",
        "/allocator/offer_constraints_debug",
    ] {
        for path in [path.to_owned(), format!("/master{path}")] {
            let plain = meshos.mesos.get(&path).unwrap();
            assert_eq!(
                (plain.status, plain.header("content-type")),
                (200, Some("application/json")),
                "{path}"
            );
            let jsonp = meshos.mesos.get(&format!("{path}?jsonp=f")).unwrap();
            assert_eq!(
                (jsonp.status, jsonp.header("content-type")),
                (200, Some("text/javascript")),
                "{path}"
            );
            let text = jsonp.text();
            let inner = text.strip_prefix("f(").and_then(|rest| rest.strip_suffix(')'));
            let inner: Value = serde_json::from_str(inner.unwrap()).unwrap();
            assert_eq!(inner.is_object(), plain.json().is_object(), "{path}");
        }
        let process = ["/files", "/metrics", "/system", "/registrar(1)", "/allocator", "/version"];
        let own = process.iter().any(|process| path.starts_with(process));
        let help = if own { format!("/help{path}") } else { format!("/help/master{path}") };
        if path != "/version" {
            let help = meshos.mesos.get(&help).unwrap();
            assert_eq!((help.status, help.header("content-type")), (200, Some("text/x-markdown")), "{path}");
            assert!(help.text().contains("### TL;DR; ###") && help.text().contains(path), "{}", help.text());
        }
    }
    let one = meshos.mesos.get(&format!("/frameworks?framework_id={}", framework.id)).unwrap().json();
    assert_eq!(one["frameworks"][0]["id"], framework.id.as_str());
    let agent = meshos.mesos.get("/slaves").unwrap().json()["slaves"][0]["id"].clone();
    let one = meshos.mesos.get(&format!("/slaves?slave_id={}", agent.as_str().unwrap())).unwrap().json();
    assert_eq!(one["slaves"][0]["id"], agent);
    assert_eq!(meshos.mesos.get("/slaves?slave_id=none").unwrap().json()["slaves"], json!([]));
    let registry = meshos.mesos.get("/registrar(1)/registry").unwrap().json();
    assert_eq!(registry["slaves"]["slaves"][0]["info"]["id"]["value"], agent);
    let redirect = meshos.mesos.get("/master/redirect").unwrap();
    let location = format!("//{}", meshos.mesos.address);
    assert_eq!((redirect.status, redirect.header("location")), (307, Some(location.as_str())));
    assert!(meshos.terminate().success());
}

#[test]
fn resources_in_full_tell_whom_they_are_allocated_to_and_a_task_only_the_user_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:2").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut named = task(&offer, "named", "sleep 1000");
    named["command"]["user"] = json!("root");
    framework.launch(&offer, &[task(&offer, "plain", "sleep 1000"), named]);
    for _ in 0..4 {
        framework.acked();
    }
    let roles = |resources: &Value| -> Vec<(String, Value)> {
        let all = resources.as_array().unwrap().iter();
        all.map(|found| {
            (found["name"].as_str().unwrap().to_owned(), found["allocation_info"]["role"].clone())
        })
        .collect()
    };
    let eng =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), json!("eng"))).collect::<Vec<_>>();
    let (used, left) = (eng(&["cpus", "mem"]), eng(&["cpus", "disk", "mem", "ports"]));
    let operator = |kind: &str| meshos.mesos.json("POST", "/api/v1", &json!({"type": kind})).unwrap().json();
    eventually("all that is left is offered", || {
        let slaves = meshos.mesos.get("/slaves").unwrap().json();
        let slave = &slaves["slaves"][0];
        let shown = (roles(&slave["used_resources_full"]), roles(&slave["offered_resources_full"]));
        let agents = operator("GET_AGENTS");
        let agent = &agents["get_agents"]["agents"][0];
        let frameworks = operator("GET_FRAMEWORKS");
        let of_framework = &frameworks["get_frameworks"]["frameworks"][0];
        let all = [agent, of_framework]
            .map(|found| (roles(&found["allocated_resources"]), roles(&found["offered_resources"])));
        let wanted = (used.clone(), left.clone());
        if shown == wanted && all.iter().all(|found| *found == wanted) {
            Ok(())
        } else {
            Err(format!("{shown:?} {all:?}"))
        }
    });
    let tasks = meshos.mesos.get("/tasks?order=asc").unwrap().json();
    let user = |id: &str| {
        let mut all = tasks["tasks"].as_array().unwrap().iter();
        all.find(|task| task["id"] == id).unwrap().get("user").cloned()
    };
    assert_eq!((user("plain"), user("named")), (None, Some(json!("root"))));
    assert!(meshos.terminate().success());
}

#[test]
fn there_is_no_profiler_and_no_actor_of_a_library() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    for path in ["/profiler/start", "/profiler/stop"] {
        let answer = meshos.mesos.get(path).unwrap();
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().starts_with("Perftools is disabled."), "{}", answer.text());
    }
    let processes = meshos.mesos.get("/__processes__").unwrap();
    assert_eq!((processes.status, processes.json()), (200, json!([])));
    assert_eq!(meshos.mesos.get("/memory-profiler/state").unwrap().status, 404);
    assert!(meshos.terminate().success());
}

#[test]
fn metrics_have_the_names_that_dashboards_know() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({"name": "a (b)/c"})));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
    framework.until("t", "TASK_RUNNING");
    let wanted = [
        "master/elected",
        "master/uptime_secs",
        "master/cpus_total",
        "master/cpus_used",
        "master/cpus_percent",
        "master/mem_revocable_total",
        "master/disk_percent",
        "master/gpus_total",
        "master/slaves_connected",
        "master/slaves_disconnected",
        "master/slaves_active",
        "master/slaves_inactive",
        "master/slaves_unreachable",
        "master/frameworks_connected",
        "master/frameworks_disconnected",
        "master/frameworks_active",
        "master/frameworks_inactive",
        "master/outstanding_offers",
        "master/tasks_staging",
        "master/tasks_starting",
        "master/tasks_running",
        "master/tasks_killing",
        "master/tasks_unreachable",
        "master/tasks_finished",
        "master/tasks_failed",
        "master/tasks_killed",
        "master/tasks_lost",
        "master/tasks_error",
        "master/tasks_dropped",
        "master/tasks_gone",
        "master/tasks_gone_by_operator",
        "master/messages_kill_task",
        "master/valid_status_updates",
        "master/http_cache_hits",
        "master/operator_event_stream_subscribers",
        "master/event_queue_http_requests",
        "allocator/mesos/allocation_runs",
        "allocator/mesos/resources/cpus/total",
        "registrar/log/recovered",
        "system/cpus_total",
        "system/load_1min",
        "system/mem_free_bytes",
    ];
    let metrics = eventually("the task is counted", || {
        let metrics = meshos.mesos.get("/metrics/snapshot?timeout=5secs").unwrap().json();
        if metrics["master/tasks_running"] == 1.0 { Ok(metrics) } else { Err(metrics) }
    });
    for name in wanted {
        assert!(metrics[name].is_f64(), "no {name}");
    }
    let prefix = format!("master/frameworks/a%20(b)%2Fc/{}", framework.id);
    assert_eq!(metrics[format!("{prefix}/subscribed")], 1.0);
    assert_eq!(metrics[format!("{prefix}/tasks/active/task_running")], 1.0);
    assert_eq!(metrics[format!("{prefix}/roles/eng/suppressed")], 0.0);
    let wrong = meshos.mesos.get("/metrics/snapshot?timeout=soon").unwrap();
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    let call = json!({"type": "GET_METRICS", "get_metrics": {"timeout": {"nanoseconds": 1_000_000_000}}});
    let listed = meshos.mesos.json("POST", "/api/v1", &call).unwrap().json();
    let listed = listed["get_metrics"]["metrics"].as_array().unwrap().clone();
    assert!(listed.iter().any(|metric| metric["name"] == "master/tasks_running" && metric["value"] == 1.0));
    let prometheus = meshos.mesos.get("/metrics").unwrap().text();
    assert!(prometheus.contains("\nmesos_master_tasks_running 1\n"), "{prometheus}");
    assert!(meshos.terminate().success());
}

#[test]
fn constraints_and_suppressed_roles_are_shown_with_the_agents_they_exclude() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let agent = meshos.mesos.get("/slaves").unwrap().json()["slaves"][0]["id"].clone();
    let constraint = json!({"selector": {"attribute_name": "rack"}, "predicate": {"exists": {}}});
    let groups = json!([{"attribute_constraints": [constraint]}]);
    let constraints = json!({"role_constraints": {"eng": {"groups": groups}}});
    let updated = info(json!({"id": {"value": framework.id}}));
    let part =
        json!({"framework_info": updated, "offer_constraints": constraints, "suppressed_roles": ["eng"]});
    assert_eq!(framework.call("UPDATE_FRAMEWORK", part).status, 200);
    let told = json!({"suppressed_roles": ["eng"], "excluded_by_attribute_constraints": {"eng": [agent]}});
    let told = json!({"frameworks": {framework.id.clone(): told}});
    eventually("the constraints are shown", || {
        let shown = meshos.mesos.get("/allocator/offer_constraints_debug").unwrap().json();
        if shown == told { Ok(()) } else { Err(shown) }
    });
    let shown = meshos.mesos.get("/frameworks").unwrap().json()["frameworks"][0].clone();
    assert_eq!(shown["offer_constraints"], constraints);
    let call = json!({"type": "GET_FRAMEWORKS"});
    let listed = meshos.mesos.json("POST", "/api/v1", &call).unwrap().json();
    assert_eq!(listed["get_frameworks"]["frameworks"][0]["offer_constraints"], constraints);
    assert!(meshos.terminate().success());
}

#[test]
fn executors_and_operations_are_shown_while_they_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut reserved = scalar("disk", 10.0);
    reserved["reservations"] = json!([{"type": "DYNAMIC", "role": "eng"}]);
    reserved["allocation_info"] = json!({"role": "eng"});
    let reserve = json!({"type": "RESERVE", "id": {"value": "op"}, "reserve": {"resources": [reserved]}});
    let mut sleeper = task(&offer, "t", "");
    sleeper.as_object_mut().unwrap().remove("command");
    sleeper["executor"] =
        json!({"executor_id": {"value": "e"}, "command": {"value": "sleep 1000"}, "name": "sleeper"});
    let launch = json!({"type": "LAUNCH", "launch": {"task_infos": [sleeper]}});
    framework.tell("ACCEPT", json!({"offer_ids": [offer["id"]], "operations": [reserve, launch]}));
    let operator = |call: &str| {
        let answer = meshos.mesos.json("POST", "/api/v1", &json!({"type": call})).unwrap().json();
        answer[call.to_lowercase()].clone()
    };
    let executor = eventually("the executor is shown", || {
        let shown = operator("GET_EXECUTORS")["executors"].clone();
        shown.get(0).cloned().ok_or(shown)
    });
    assert_eq!(executor["executor_info"]["executor_id"], json!({"value": "e"}));
    assert_eq!(executor["executor_info"]["framework_id"], json!({"value": framework.id}));
    assert_eq!(executor["agent_id"], offer["agent_id"]);
    let state = meshos.mesos.get("/state").unwrap().json();
    let shown = &state["frameworks"][0]["executors"][0];
    assert_eq!((&shown["executor_id"], &shown["name"]), (&json!("e"), &json!("sleeper")), "{shown}");
    assert_eq!(shown["command"], json!({"value": "sleep 1000", "argv": [], "uris": []}));
    assert_eq!(state["frameworks"][0]["tasks"][0]["executor_id"], "e");

    let status = framework.next("UPDATE_OPERATION_STATUS")["update_operation_status"]["status"].clone();
    assert_eq!(status["state"], "OPERATION_FINISHED", "{status}");
    let operation = operator("GET_OPERATIONS")["operations"][0].clone();
    assert_eq!(operation["info"]["id"], json!({"value": "op"}));
    assert_eq!(operation["latest_status"]["state"], "OPERATION_FINISHED");
    assert_eq!(operation["agent_id"], offer["agent_id"]);
    let acknowledge = json!({"agent_id": offer["agent_id"], "operation_id": {"value": "op"},
        "uuid": status["uuid"]["value"]});
    framework.tell("ACKNOWLEDGE_OPERATION_STATUS", acknowledge);
    eventually("an acknowledged operation is forgotten", || {
        let left = operator("GET_OPERATIONS");
        if left == json!({}) { Ok(()) } else { Err(left) }
    });
    framework.tell("TEARDOWN", json!({}));
    eventually("no executor is left", || {
        let left = operator("GET_EXECUTORS");
        if left["executors"] == json!([]) { Ok(()) } else { Err(left) }
    });
    assert!(meshos.terminate().success());
}
