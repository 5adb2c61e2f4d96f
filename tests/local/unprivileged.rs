//! Shell tasks need no root.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use serde_json::json;

use crate::common::{app, cluster, directory, eventually};

/// `nobody` on every system.
const NOBODY: u32 = 65534;

#[test]
fn a_user_without_rights_runs_a_cluster_and_its_tasks() {
    let dir = directory();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut cluster = cluster(dir.path());
    let root =
        String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0";
    if root {
        // The program may lie where others cannot reach it.
        let program = dir.path().join("meshos");
        std::fs::copy(&cluster.program, &program).unwrap();
        cluster.program = program;
        // Leaves the cgroup root behind that a start by root makes: it must not be mistaken for a permission.
        drop(self::cluster(&dir.path().join("root")).start());
    }
    let meshos = cluster.start_with(|command| {
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
    });
    let wanted = json!({"id": "mine", "cmd": "id -u; sleep 100000", "cpus": 0.1, "mem": 16});
    assert_eq!(meshos.marathon.json("POST", "/v2/apps", &wanted).unwrap().status, 201);
    app(&meshos.marathon, "/mine", |app| app["tasksRunning"] == 1);
    let agent = &meshos.agents[0];
    let state = agent.get("/state").unwrap().json();
    let directory = state["frameworks"][0]["executors"][0]["directory"].as_str().unwrap().to_owned();
    eventually("the task says who it is", || {
        let read = agent.get(&format!("/files/read?path={directory}/stdout&offset=0")).unwrap().json();
        let said = read["data"].as_str().unwrap_or_default().trim().to_owned();
        let expected = if root { said == NOBODY.to_string() } else { !said.is_empty() };
        if expected { Ok(()) } else { Err(said) }
    });
    assert!(meshos.terminate().success());
}
