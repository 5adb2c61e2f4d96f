//! Executors of frameworks and task groups, with real processes.

use std::path::Path;

use meshos_testing::ports::ports;
use serde_json::{Value, json};

use crate::support::{Framework, cluster, eventually, info, scalar, task};

fn executor() -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mesos/clients/executor.py");
    json!({"executor_id": {"value": "e"}, "name": "an executor",
        "command": {"value": format!("exec python3 {}", script.display())},
        "resources": [scalar("cpus", 0.1), scalar("mem", 64.0)]})
}

fn with_executor(offer: &Value, id: &str) -> Value {
    let mut task = task(offer, id, "");
    task.as_object_mut().unwrap().remove("command");
    task["executor"] = executor();
    task
}

/// Starts a cluster whose agent keeps its address over restarts.
fn on_port(dir: &Path, port: u16) -> meshos_testing::LocalCluster {
    let mut local = cluster(dir, "cpus:1");
    let flag = local.arguments.iter().position(|argument| argument == "--agent-listen").unwrap();
    local.arguments[flag + 1] = format!("127.0.0.1:{port}");
    local
}

#[test]
fn an_executor_outlives_its_agent_and_goes_on_with_its_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let [port] = ports();
    let local = on_port(dir.path(), port);
    let meshos = local.start();
    let about = info(json!({"checkpoint": true, "failover_timeout": 3600}));
    let mut framework = Framework::subscribe(&meshos.mesos, &about);
    let offer = framework.offer();
    framework.launch(&offer, &[with_executor(&offer, "a")]);
    let running = framework.until("a", "TASK_RUNNING");
    assert_eq!(
        (&running["executor_id"]["value"], &running["source"]),
        (&json!("e"), &json!("SOURCE_EXECUTOR"))
    );
    let pid = running["container_status"]["executor_pid"].clone();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let shown = || meshos.mesos.json("POST", "/api/v1", &json!({"type": "GET_EXECUTORS"})).unwrap().json();
    eventually("the executor is shown", || {
        let shown = shown();
        let found = shown["get_executors"]["executors"][0]["executor_info"]["executor_id"]["value"] == "e";
        if found { Ok(()) } else { Err(shown) }
    });
    let id = framework.id.clone();
    meshos.kill_9();

    let meshos = local.start();
    let mut about = about;
    about["id"] = json!({ "value": id });
    let mut framework = Framework::subscribe(&meshos.mesos, &about);
    // The same process takes another task, and lets go of the first.
    eventually("another task runs in the same process", || {
        let offer = framework.offer();
        if offer["executor_ids"] != json!([{"value": "e"}]) {
            framework.decline(&offer, json!({"refuse_seconds": 0}));
            return Err(offer);
        }
        framework.launch(&offer, &[with_executor(&offer, "b")]);
        let running = framework.until("b", "TASK_RUNNING");
        assert_eq!(running["container_status"]["executor_pid"], pid);
        Ok(())
    });
    framework.kill("a");
    framework.until("a", "TASK_KILLED");
    framework.tell("SHUTDOWN", json!({"executor_id": {"value": "e"}, "agent_id": running["agent_id"]}));
    let ended = framework.until("b", "TASK_FAILED");
    assert_eq!(ended["reason"], "REASON_EXECUTOR_TERMINATED");
    let failure = framework.next("FAILURE");
    assert_eq!(failure["failure"]["executor_id"]["value"], "e");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(meshos.terminate().success());
}

fn group(framework: &Framework, offer: &Value, tasks: &[Value]) {
    let executor = json!({"type": "DEFAULT", "executor_id": {"value": "pod"},
        "framework_id": {"value": framework.id},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0), scalar("disk", 10.0)]});
    let group = json!({"type": "LAUNCH_GROUP",
        "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}});
    framework.tell(
        "ACCEPT",
        json!({"offer_ids": [offer["id"]], "operations": [group],
        "filters": {"refuse_seconds": 0}}),
    );
}

fn sharing(offer: &Value, id: &str, command: &str) -> Value {
    let mut task = task(offer, id, command);
    task["container"] = json!({"type": "MESOS", "volumes": [{"mode": "RW", "container_path": "shared",
        "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "common"}}}]});
    task
}

#[test]
fn tasks_of_a_group_share_files_and_fate() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let writer = sharing(&offer, "writer", "echo hello > shared/file; sleep 1000");
    let reader = sharing(&offer, "reader", "until cat shared/file; do sleep 0.05; done");
    group(&framework, &offer, &[writer, reader]);
    let finished = framework.until("reader", "TASK_FINISHED");
    assert_eq!(finished["executor_id"]["value"], "pod");
    let container = &finished["container_status"]["container_id"];
    assert!(container["parent"]["value"].is_string(), "{container}");
    let state = meshos.agents[0].get("/state").unwrap().json();
    let pod = &state["frameworks"][0]["executors"][0];
    assert_eq!((&pod["id"], &pod["type"]), (&json!("pod"), &json!("DEFAULT")));
    let path =
        format!("/files/read?path={}/tasks/reader/stdout&offset=0", pod["directory"].as_str().unwrap());
    assert_eq!(meshos.agents[0].get(&path).unwrap().json()["data"], "hello\n");

    // What finished takes nobody along; what fails does.
    let offer = framework.offer();
    group(
        &framework,
        &offer,
        &[task(&offer, "stays", "sleep 1000"), task(&offer, "fails", "sleep 0.5; exit 3")],
    );
    framework.until("stays", "TASK_KILLED");
    framework.kill("writer");
    framework.until("writer", "TASK_KILLED");
    eventually("the executor has ended with its last task", || {
        let state = meshos.agents[0].get("/state").unwrap().json();
        let executors = &state["frameworks"][0]["executors"];
        if executors.as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(state) }
    });
    let failure = framework.next("FAILURE");
    assert_eq!(failure["failure"]["executor_id"]["value"], "pod");
    assert!(meshos.terminate().success());
}
