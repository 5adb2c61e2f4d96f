//! What is wrong is said clearly, and nothing is lost by it.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Output, Stdio},
};

use crate::common::{app, cluster, directory, sleeper};
use meshos_testing::LocalCluster;
use serde_json::json;

/// Runs a start that must fail, and returns what it said.
fn refused(cluster: &LocalCluster) -> String {
    let mut command = cluster.command();
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "it started: {said}");
    said
}

#[test]
fn bad_requests_get_marathons_errors_and_change_nothing() {
    let dir = directory();
    let meshos = cluster(dir.path()).start();
    let marathon = &meshos.marathon;
    assert_eq!(marathon.json("POST", "/v2/apps", &sleeper("kept", 1)).unwrap().status, 201);
    app(marathon, "/kept", |app| app["tasksRunning"] == 1);

    let broken =
        marathon.send("POST", "/v2/apps", &[("Content-Type", "application/json")], b"{\"id\": ").unwrap();
    assert_eq!((broken.status, broken.json()["message"].as_str()), (400, Some("Invalid JSON")));
    assert!(broken.json()["details"].is_string());

    let typed =
        marathon.json("POST", "/v2/apps", &json!({"id": "/x", "cmd": "true", "instances": "two"})).unwrap();
    assert_eq!((typed.status, typed.json()["message"].as_str()), (422, Some("Invalid JSON")));
    assert_eq!(
        typed.json()["details"],
        json!([{"path": "/instances", "errors": ["error.expected.jsnumber"]}])
    );

    let unknown = marathon.get("/v2/apps//nowhere").unwrap();
    assert_eq!((unknown.status, unknown.json()), (404, json!({"message": "App '/nowhere' does not exist"})));

    let large = format!("{{\"id\": \"/x\", \"cmd\": \"{}\"}}", "x".repeat(9 * 1024 * 1024));
    let large = marathon.send("POST", "/v2/apps", &[("Content-Type", "application/json")], large.as_bytes());
    // The server may close while the rest is still being sent.
    if let Ok(large) = large {
        assert_eq!(large.status, 413, "{}", large.text());
        assert!(large.json()["message"].is_string());
    }

    let apps = marathon.get("/v2/apps").unwrap().json();
    assert_eq!(apps["apps"].as_array().unwrap().len(), 1);
    assert_eq!(apps["apps"][0]["tasksRunning"], 1);
    assert!(meshos.terminate().success());
}

#[test]
fn a_port_in_use_stops_the_start_and_names_it() {
    let dir = directory();
    for flag in ["--mesos-listen", "--marathon-listen", "--agent-listen"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut cluster = cluster(dir.path());
        let at = cluster.arguments.iter().position(|argument| argument == flag).unwrap();
        cluster.arguments[at + 1].clone_from(&address);
        let said = refused(&cluster);
        assert!(said.contains(&address), "{flag}: {said}");
    }
}

#[test]
fn a_data_directory_held_by_another_process_is_refused_and_unharmed() {
    let dir = directory();
    let first = cluster(dir.path()).start();
    let said = refused(&cluster(dir.path()));
    assert!(said.contains("held by another process"), "{said}");
    assert_eq!(first.marathon.get("/ping").unwrap().status, 200);
    assert!(first.terminate().success());
}

#[test]
fn an_unwritable_data_directory_is_named() {
    let dir = directory();
    // A file where the directory should be stops root as well.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
    let said = refused(&cluster(&file));
    assert!(said.contains("file") && said.contains("not writable"), "{said}");
}

#[test]
fn unknown_flags_and_settings_stop_the_start() {
    let dir = directory();
    let said = refused(&cluster(dir.path()).with(&["--agnets", "2"]));
    assert!(said.contains("--agnets"), "{said}");
    for (name, value) in [("MESHOS_STOER", "x"), ("MESOS_WROK_DIR", "/x"), ("MARATHON_HOSTNAEM", "x")] {
        let mut cluster = cluster(dir.path());
        cluster.environment.push((name.to_owned(), value.to_owned()));
        let said = refused(&cluster);
        assert!(said.contains(name), "{said}");
    }
    let mut cluster = cluster(dir.path());
    cluster.environment.push(("MESOS_AGENT_PING_TIMEOUT".to_owned(), "5parsecs".to_owned()));
    let said = refused(&cluster);
    assert!(said.contains("parsecs"), "{said}");
}

#[test]
fn a_setting_of_mesos_without_a_meaning_here_is_accepted_and_named() {
    let dir = directory();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut cluster = cluster(dir.path());
    cluster.environment.push(("MESOS_ZK".to_owned(), "zk://h:2181/mesos".to_owned()));
    let mut child =
        cluster.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    crate::common::eventually("the setting is named", || {
        let said = std::fs::read_to_string(dir.path().join("log")).unwrap();
        if said.contains("MESOS_ZK") { Ok(()) } else { Err(said) }
    });
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap();
}
