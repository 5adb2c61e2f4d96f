//! A real client from PyPI, unmodified: `pymesos`.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::json;

use crate::support::{cluster, eventually};

#[test]
fn a_framework_of_pymesos_runs_a_task_to_its_end() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pymesos");
    let made = Command::new(root.join("scripts/pymesos")).arg(&python).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "no Python environment with pymesos: {said}");

    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").with(&["--agents", "2", "--resources", "cpus:1"]).start();
    let mut command = Command::new(python.join("bin/python"));
    command.arg(root.join("tests/mesos/pymesos/framework.py")).arg(&meshos.mesos.address);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{said}{wrong}");
    for line in [
        "registered ",
        "launched\n",
        "declined\n",
        "status from-pymesos TASK_RUNNING\n",
        "status from-pymesos TASK_FINISHED\n",
        "operator added from-pymesos\n",
        "operator updated TASK_FINISHED\n",
        "healthy True\n",
        "frameworks from-pymesos\n",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}{wrong}");
    }
    eventually("it is gone", || {
        let shown = meshos.mesos.get("/frameworks").unwrap().json();
        let completed = &shown["completed_frameworks"][0];
        let gone = shown["frameworks"] == json!([]) && completed["name"] == "from-pymesos";
        if gone { Ok(()) } else { Err(shown) }
    });
    assert!(meshos.terminate().success());
}
