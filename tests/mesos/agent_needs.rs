//! What an agent does for a task beside running it: files, checks, limits. Lines 47 to 49.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
};

use serde_json::{Value, json};

use crate::support::{Framework, cluster, eventually, info, scalar, task};

/// A web server that knows `/hello`, for as long as the test's process lives.
fn web() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap_or_default();
            let found = String::from_utf8_lossy(&request[..count]).starts_with("GET /hello ");
            let answer = match found {
                true => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
                false => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// The sandbox of a task that has ended.
fn sandbox(data: &Path, task: &str) -> PathBuf {
    let runs = format!("executors/{task}/runs/latest");
    let slaves = data.join("data/agent-0/slaves");
    let agent = std::fs::read_dir(slaves).unwrap().flatten().next().unwrap().path();
    let framework = std::fs::read_dir(agent.join("frameworks")).unwrap().flatten().next().unwrap().path();
    std::fs::canonicalize(framework.join(runs)).unwrap()
}

#[test]
fn mesos_c48_files_are_fetched_before_a_task_starts_and_one_that_is_not_there_fails_it() {
    let dir = tempfile::tempdir().unwrap();
    let web = web();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let fetching = |id: &str, command: &str, uri: Value| {
        let mut task = task(&offer, id, command);
        task["command"]["uris"] = json!([uri]);
        task
    };
    let program = "#!/bin/sh\necho from a file\n";
    let archive = dir.path().join("app.tar.gz");
    std::fs::create_dir(dir.path().join("bin")).unwrap();
    std::fs::write(dir.path().join("bin/run"), program).unwrap();
    let packed = std::process::Command::new("tar")
        .arg("-czf")
        .arg(&archive)
        .args(["-C", dir.path().to_str().unwrap(), "bin"])
        .status();
    assert!(packed.unwrap().success());
    framework.launch(
        &offer,
        &[
            fetching("web", "cat hello", json!({"value": format!("{web}/hello")})),
            fetching("archive", "sh bin/run", json!({"value": format!("file://{}", archive.display())})),
            fetching("missing", "true", json!({"value": format!("{web}/nothing")})),
            fetching("ftp", "true", json!({"value": "ftp://h/x"})),
        ],
    );
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 4 {
        let status = framework.acked();
        let state = status["state"].as_str().unwrap().to_owned();
        if state == "TASK_FINISHED" || state == "TASK_FAILED" {
            ends.insert(status["task_id"]["value"].as_str().unwrap().to_owned(), status);
        }
    }
    for id in ["web", "archive"] {
        assert_eq!(ends[id]["state"], "TASK_FINISHED", "{}", ends[id]);
    }
    for (id, reason) in [("missing", "404"), ("ftp", "ftp is not supported")] {
        assert_eq!(
            (&ends[id]["state"], &ends[id]["reason"]),
            (&json!("TASK_FAILED"), &json!("REASON_CONTAINER_LAUNCH_FAILED"))
        );
        assert!(ends[id]["message"].as_str().unwrap().contains(reason), "{}", ends[id]);
    }
    let read =
        |task: &str, file: &str| std::fs::read_to_string(sandbox(dir.path(), task).join(file)).unwrap();
    assert_eq!(
        (read("web", "stdout").as_str(), read("archive", "stdout").as_str()),
        ("hello", "from a file\n")
    );
    assert!(read("missing", "stderr").contains("Failed to fetch"));
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c49_a_task_that_fails_its_health_check_thrice_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut checked = task(&offer, "t", "touch up; sleep 1000");
    checked["health_check"] = json!({"type": "COMMAND", "delay_seconds": 0, "interval_seconds": 0.2,
        "grace_period_seconds": 0.5, "consecutive_failures": 3, "command": {"value": "test -e up"}});
    checked["check"] =
        json!({"type": "TCP", "tcp": {"port": 1}, "delay_seconds": 0, "interval_seconds": 0.2});
    framework.launch(&offer, &[checked]);
    let (mut healthy, mut check) = (Value::Null, Value::Null);
    while healthy != true || check.is_null() {
        let status = framework.acked();
        healthy = status["healthy"].clone();
        check = status["check_status"]["tcp"]["succeeded"].clone();
    }
    assert_eq!(check, false);
    std::fs::remove_file(sandbox(dir.path(), "t").join("up")).unwrap();
    let mut failures = 0;
    let killed = loop {
        let status = framework.acked();
        if status["state"] != "TASK_RUNNING" {
            break status;
        }
        if status["reason"] == "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED" && status["healthy"] == false {
            failures += 1;
        }
    };
    assert_eq!((failures, &killed["state"], &killed["healthy"]), (3, &json!("TASK_KILLED"), &json!(false)));
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c47_memory_over_the_limit_is_told_with_its_limitation() {
    if !["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].iter().any(|at| {
        let probe = Path::new(at).join(format!("meshos-probe-{}", std::process::id()));
        std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
    }) {
        println!("skipped: cgroups are not permitted here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut settings = cluster(dir.path(), "cpus:1");
    let root = format!("meshos-test-{}", std::process::id());
    settings.environment.push(("MESOS_CGROUPS_ROOT".to_owned(), root.clone()));
    let meshos = settings.start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "x=0123456789abcdef; while true; do x=$x$x; done")]);
    let failed = framework.until("t", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{failed}");
    assert_eq!(failed["limitation"]["resources"][0]["name"], "mem");
    assert!(meshos.terminate().success());
    for controller in ["cpu", "memory", "pids", ""] {
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(controller).join(&root));
    }
}

#[test]
fn a_task_that_writes_too_much_is_ended_and_its_output_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = cluster(dir.path(), "cpus:1");
    for (name, value) in [
        ("MESOS_ENFORCE_CONTAINER_DISK_QUOTA", "true"),
        ("MESOS_CONTAINER_DISK_WATCH_INTERVAL", "100ms"),
        ("MESOS_MAX_STDOUT_SIZE", "64KB"),
    ] {
        settings.environment.push((name.to_owned(), value.to_owned()));
    }
    let meshos = settings.start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let with_disk = |id: &str, command: &str| {
        let mut task = task(&offer, id, command);
        task["resources"].as_array_mut().unwrap().push(scalar("disk", 8.0));
        task
    };
    let large = "head -c 20000000 /dev/zero > large; sleep 1000";
    let talks = "head -c 200000 /dev/zero | tr '\\0' x; sleep 1000";
    framework.launch(&offer, &[with_disk("large", large), with_disk("talks", talks)]);
    let failed = framework.until("large", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_DISK", "{failed}");
    assert_eq!(failed["limitation"]["resources"][0]["scalar"]["value"], 8.0);
    eventually("the output is rotated", || {
        let size = |file: &str| {
            std::fs::metadata(sandbox(dir.path(), "talks").join(file)).map_or(0, |file| file.len())
        };
        let sizes = (size("stdout"), size("stdout.1"));
        if sizes.0 < 65_536 && sizes.0 + sizes.1 == 200_000 { Ok(()) } else { Err(sizes) }
    });
    assert!(meshos.terminate().success());
}

#[test]
fn old_sandboxes_are_removed_and_those_in_use_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = cluster(dir.path(), "cpus:1");
    for (name, value) in [("MESOS_GC_DELAY", "0secs"), ("MESOS_DISK_WATCH_INTERVAL", "100ms")] {
        settings.environment.push((name.to_owned(), value.to_owned()));
    }
    let meshos = settings.start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "ended", "true"), task(&offer, "runs", "sleep 1000")]);
    framework.until("ended", "TASK_FINISHED");
    let executors = sandbox(dir.path(), "runs").ancestors().nth(3).unwrap().to_owned();
    eventually("the ended task's sandbox is removed", || {
        let names: Vec<_> =
            std::fs::read_dir(&executors).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        if names == ["runs"] { Ok(()) } else { Err(names) }
    });
    assert!(sandbox(dir.path(), "runs").join("stdout").exists());
    assert!(meshos.terminate().success());
}
