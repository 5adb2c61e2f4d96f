//! Health checks that the scheduler runs, and those that agents run.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
};

use crate::{
    common::{c, cluster, cluster_with_own_ports, ids},
    servers::Status,
    stream::Stream,
};
use meshos_testing::wait::until_blocking;
use serde_json::{Value, json};

/// A server outside of the cluster that answers every request with one status.
struct Server {
    port: u16,
    status: Arc<AtomicU16>,
    /// Requests that came.
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(AtomicU16::new(status));
        let asked = Arc::<AtomicUsize>::default();
        let (shown, count) = (Arc::clone(&status), Arc::clone(&asked));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { return };
                let status = shown.load(Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
                // A client that goes early is none of the server's business.
                let _ = client.read(&mut [0; 1024]);
                let _ =
                    write!(client, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Self { port, status, asked }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn check(&self, more: Value) -> Value {
        let mut check =
            json!({"protocol": "HTTP", "port": self.port, "path": "/health", "intervalSeconds": 1});
        for (key, value) in more.as_object().unwrap() {
            check[key] = value.clone();
        }
        json!({"healthChecks": [check]})
    }
}

#[test]
fn marathon_c78_c79_a_check_shows_health_and_kills_what_is_not() {
    let marathon = cluster();
    let server = Server::start(200);
    let events = Stream::open(&marathon, "", None);
    marathon.create(&c("/a", server.check(json!({"maxConsecutiveFailures": 3}))));
    let app = marathon.app("/a", |app| app["tasksHealthy"] == 1 && app["deployments"] == json!([]));
    let result = &app["tasks"][0]["healthCheckResults"][0];
    assert_eq!(result["alive"], true, "c78");
    assert!(result["firstSuccess"].is_string() && result["lastSuccess"].is_string(), "c78");
    events.event("instance_health_changed_event", |data| data["healthy"] == true);
    events.event("health_status_changed_event", |data| data["alive"] == true);
    assert_eq!(app["healthChecks"][0]["port"], server.port);

    server.answer(500);
    let old = ids(&app)[0].clone();
    let kill = events.place("unhealthy_instance_kill_event", |data| data["taskId"] == old.as_str());
    let failed = |event: &crate::stream::Event| event.kind == "failed_health_check_event";
    assert_eq!(events.events()[..kill].iter().filter(|event| failed(event)).count(), 4, "c79");
    let next = marathon.app("/a", |app| app["tasksRunning"] == 1 && ids(app)[0] != old);
    assert!(ids(&next)[0].ends_with("._app.2"), "c79");
    let failure = &next["lastTaskFailure"];
    assert_eq!(failure["state"], "TASK_KILLED");
    let message = "Task was killed since health check failed. Reason: 500";
    assert_eq!(failure["message"], message);
}

#[test]
fn marathon_c63_c80_what_is_never_healthy_holds_the_deployment_and_is_not_killed_in_its_grace() {
    let marathon = cluster();
    let server = Server::start(200);
    let before = {
        marathon.create(&c("/a", server.check(json!({}))));
        ids(&marathon.app("/a", |app| app["tasksHealthy"] == 1 && app["deployments"] == json!([])))
    };
    let sick = Server::start(503);
    let changed = marathon.ask(
        "PUT",
        "/v2/apps//a",
        &sick.check(json!({"gracePeriodSeconds": 300, "maxConsecutiveFailures": 1})),
    );
    assert_eq!(changed.status, 200, "{}", changed.text());
    let both = marathon.app("/a", |app| app["tasksRunning"] == 2);
    let events = Stream::open(&marathon, "?event_type=failed_health_check_event", None);
    until_blocking("refused probes", || {
        let asked = sick.asked.load(Ordering::SeqCst);
        if asked >= 4 { Ok(()) } else { Err(asked) }
    });
    let still = marathon.app("/a", |_| true);
    assert_eq!(ids(&still), ids(&both), "c80: nothing was killed");
    assert!(ids(&still).contains(&before[0]), "c63: the old task runs on");
    assert_eq!(
        (still["tasksHealthy"].clone(), still["deployments"].as_array().unwrap().len()),
        (json!(1), 1),
        "c63"
    );
    assert!(events.events().is_empty(), "c80: failures in the grace period do not count");
    sick.answer(200);
    marathon.app("/a", |app| {
        app["deployments"] == json!([]) && app["tasksHealthy"] == 1 && !ids(app).contains(&before[0])
    });
}

#[test]
fn marathon_c81_without_a_limit_nothing_is_killed() {
    let marathon = cluster();
    let server = Server::start(500);
    let check = server.check(json!({"maxConsecutiveFailures": 0, "gracePeriodSeconds": 0}));
    marathon.create(&c("/a", check));
    let failing = marathon
        .app("/a", |app| app["tasks"][0]["healthCheckResults"][0]["consecutiveFailures"].as_u64() >= Some(3));
    assert!(ids(&failing)[0].ends_with("._app.1"));
    assert_eq!((&failing["tasksUnhealthy"], &failing["tasksHealthy"]), (&json!(1), &json!(0)));
    let cause = &failing["tasks"][0]["healthCheckResults"][0]["lastFailureCause"];
    assert_eq!(cause, "500");
}

#[test]
fn tcp_checks_connect_and_a_port_index_must_be_there() {
    let marathon = cluster();
    let server = Server::start(200);
    let check = json!({"protocol": "TCP", "port": server.port, "intervalSeconds": 1});
    marathon.create(&c("/a", json!({"healthChecks": [check]})));
    marathon.app("/a", |app| app["tasksHealthy"] == 1);
    let nowhere = c("/b", json!({"healthChecks": [{"portIndex": 1}]}));
    let refused = marathon.ask("POST", "/v2/apps", &nowhere);
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("Health check port indices must address an element"));
}

#[test]
fn agents_make_the_checks_of_their_tasks() {
    let marathon = cluster_with_own_ports();
    let files = tempfile::tempdir().unwrap();
    let flag = files.path().join("up");
    let check = json!({
        "protocol": "COMMAND", "command": {"value": format!("test -e {}", flag.display())}, "delaySeconds": 0,
        "intervalSeconds": 1, "gracePeriodSeconds": 300, "maxConsecutiveFailures": 2,
    });
    marathon.create(&c("/a", json!({"healthChecks": [check]})));
    let app = marathon.app("/a", |app| app["tasksRunning"] == 1);
    assert_eq!((&app["tasksHealthy"], app["deployments"].as_array().unwrap().len()), (&json!(0), 1));
    std::fs::write(&flag, "").unwrap();
    let app = marathon.app("/a", |app| app["tasksHealthy"] == 1 && app["deployments"] == json!([]));
    assert_eq!(app["tasks"][0]["healthCheckResults"][0]["alive"], true);
    assert_eq!(app["healthChecks"][0]["command"]["value"], format!("test -e {}", flag.display()));
    let old = ids(&app)[0].clone();
    std::fs::remove_file(&flag).unwrap();
    let next = marathon.app("/a", |app| app["tasksRunning"] == 1 && ids(app)[0] != old);
    assert!(ids(&next)[0].ends_with("._app.2"));

    let status = Status::new(200);
    let check = json!({"protocol": "MESOS_HTTP", "path": "/", "delaySeconds": 0, "intervalSeconds": 1});
    marathon.create(&c("/b", json!({"cmd": status.cmd("1"), "healthChecks": [check]})));
    marathon.app("/b", |app| app["tasksHealthy"] == 1 && app["deployments"] == json!([]));
    let two = json!({"healthChecks": [{"protocol": "MESOS_TCP"}, {"protocol": "MESOS_HTTP"}]});
    let refused = marathon.ask("POST", "/v2/apps", &c("/c", two));
    assert!(refused.text().contains("at most one Mesos health check"), "{}", refused.text());
}
