//! Real clients from PyPI, unmodified: `pymesos` and `mesoshttp`.

#[path = "../clients/environment.rs"]
mod environment;

use std::{
    path::Path,
    process::{Command, Output},
};

use meshos_testing::Local;
use serde_json::{Value, json};

use crate::support::{cluster, eventually};
use environment::python;

/// Runs a framework to its end; every one of `lines` must be said.
fn run(framework: &str, argument: &str, lines: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mesos/clients").join(framework);
    let output = Command::new(python()).arg(path).arg(argument).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{said}{wrong}");
    for line in lines {
        assert!(said.contains(line), "no {line:?} in {said}{wrong}");
    }
}

/// Waits until a framework of this name has come and gone.
fn gone(meshos: &Local, name: &str) -> Value {
    eventually("it is gone", || {
        let shown = meshos.mesos.get("/frameworks").unwrap().json();
        let completed = &shown["completed_frameworks"][0];
        let gone = shown["frameworks"] == json!([]) && completed["name"] == name;
        if gone { Ok(completed.clone()) } else { Err(shown) }
    })
}

#[test]
fn a_framework_of_pymesos_runs_a_task_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").with(&["--agents", "2", "--resources", "cpus:1"]).start();
    let lines = [
        "registered ",
        "launched\n",
        "declined\n",
        "status from-pymesos TASK_RUNNING\n",
        "status from-pymesos TASK_FINISHED\n",
        "operator added from-pymesos\n",
        "operator updated TASK_FINISHED\n",
        "healthy True\n",
        "version 1.12.0\n",
        "frameworks from-pymesos\n",
        "state tasks from-pymesos\n",
        "agents 2\n",
        "roles *\n",
        "executors 0\n",
        "metric master/tasks_running True\n",
        "weights eng 2.0\n",
        "quota eng 1.0\n",
        "master True\n",
        "reserved True\n",
    ];
    run("pymesos_framework.py", &meshos.mesos.address, &lines);
    gone(&meshos, "from-pymesos");
    assert!(meshos.terminate().success());
}

#[test]
fn a_framework_of_mesoshttp_runs_one_task_and_kills_another() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").with(&["--agents", "2", "--resources", "cpus:1"]).start();
    let port = meshos.mesos.address.rsplit_once(':').unwrap().1.to_owned();
    let lines = [
        "subscribed ",
        &format!(" {port}\n"),
        "launched\n",
        "declined\n",
        "status short TASK_FINISHED\n",
        "status long TASK_RUNNING\n",
        "status long TASK_KILLED\n",
        "torn down\n",
    ];
    run("mesoshttp_framework.py", &format!("http://{}", meshos.mesos.address), &lines);
    let framework = gone(&meshos, "from-mesoshttp");
    assert_eq!(framework["role"], "from-mesoshttp");
    assert!(meshos.terminate().success());
}

#[test]
fn an_executor_of_pymesos_works_for_a_framework_of_pymesos() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let lines = [
        "status one TASK_RUNNING \n",
        "message from worker working on one\n",
        "status one TASK_FINISHED enough\n",
        "executor of one worker\n",
        "status two TASK_FINISHED enough\n",
        "status three TASK_FINISHED enough\n",
    ];
    run("pymesos_executor_framework.py", &meshos.mesos.address, &lines);
    gone(&meshos, "with-executor");
    let executors = eventually("the executor is history", || {
        let state = meshos.agents[0].get("/state").unwrap().json();
        let executors = state["completed_frameworks"][0]["completed_executors"].clone();
        if executors.as_array().is_some_and(|list| !list.is_empty()) { Ok(executors) } else { Err(state) }
    });
    assert_eq!(executors.as_array().unwrap().len(), 1, "one process did it all: {executors}");
    let path = format!("/files/read?path={}/stdout&offset=0", executors[0]["directory"].as_str().unwrap());
    let said = meshos.agents[0].get(&path).unwrap().json()["data"].as_str().unwrap().to_owned();
    assert!(said.contains("registered worker") && said.contains("message enough"), "{said}");
    assert!(meshos.terminate().success());
}
