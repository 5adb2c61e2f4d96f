//! `kill -9` and a start on the same data directory: nothing is forgotten, nothing is doubled.

use std::{fs, process::Command};

use crate::common::{app, cluster, directory, eventually, sleeper, task_ids};
use serde_json::json;

/// Ids of the processes that run exactly this command.
fn processes(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid.parse::<u32>().is_ok() && line.trim_end() == command {
            found.push(pid);
        }
    }
    found.sort();
    found
}

/// Waits until as many processes run this command: a running task's shell may not have come to it yet.
fn running(command: &str, count: usize) -> Vec<String> {
    eventually("the tasks' processes", || {
        let now = processes(command);
        if now.len() == count { Ok(now) } else { Err(now) }
    })
}

#[test]
fn after_kill_9_the_same_apps_tasks_and_processes_are_there() {
    let dir = directory();
    let cluster = cluster(dir.path());
    let meshos = cluster.start();
    // A number that no other test sleeps for.
    let number = 700_000 + u64::from(std::process::id());
    let command = format!("sleep {number}");
    let mut wanted = sleeper("kept", 3);
    wanted["cmd"] = json!(command);
    assert_eq!(meshos.marathon.json("POST", "/v2/apps", &wanted).unwrap().status, 201);
    let before =
        app(&meshos.marathon, "/kept", |app| app["tasksRunning"] == 3 && app["deployments"] == json!([]));
    let processes_before = running(&command, 3);
    meshos.kill_9();
    assert_eq!(processes(&command), processes_before, "tasks outlive the control plane");

    let meshos = cluster.start();
    let after = app(&meshos.marathon, "/kept", |app| app["tasksRunning"] == 3);
    assert_eq!(task_ids(&after), task_ids(&before));
    assert_eq!(after["version"], before["version"]);
    assert_eq!(processes(&command), processes_before);

    // One ends while nobody is there: it is reported and replaced.
    meshos.kill_9();
    assert!(Command::new("kill").args(["-KILL", &processes_before[0]]).status().unwrap().success());
    let meshos = cluster.start();
    let repaired = app(&meshos.marathon, "/kept", |app| {
        app["tasksRunning"] == 3 && task_ids(app).intersection(&task_ids(&before)).count() == 2
    });
    assert_eq!(repaired["lastTaskFailure"]["state"], "TASK_FAILED");
    running(&command, 3);

    assert!(meshos.terminate().success());
    running(&command, 0);
}

#[test]
fn keep_tasks_leaves_them_running_over_an_orderly_stop() {
    let dir = directory();
    let number = 800_000 + u64::from(std::process::id());
    let command = format!("sleep {number}");
    let meshos = cluster(dir.path()).with(&["--keep-tasks"]).start();
    let mut wanted = sleeper("kept", 1);
    wanted["cmd"] = json!(command);
    assert_eq!(meshos.marathon.json("POST", "/v2/apps", &wanted).unwrap().status, 201);
    let before = app(&meshos.marathon, "/kept", |app| app["tasksRunning"] == 1);
    let processes_before = running(&command, 1);
    assert!(meshos.terminate().success());
    assert_eq!(processes(&command), processes_before);

    let meshos = cluster(dir.path()).start();
    let after = app(&meshos.marathon, "/kept", |app| app["tasksRunning"] == 1);
    assert_eq!(task_ids(&after), task_ids(&before));
    assert!(meshos.terminate().success());
    running(&command, 0);
}
