//! The load balancer with marathon-lb's command line, which knows Marathon's HTTP API alone.

use std::process::{Child, Command, Stdio};

use meshos_testing::{LocalCluster, ports::ports, wait::until_blocking};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{Cluster, everything_changes_and_no_request_fails, load, open_dir, resources, web};

/// `meshos sse`, and its HAProxy.
pub(crate) struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        // Its HAProxy ends with it only if it is asked to.
        let _ = kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// `environment`: the cluster's, beside the usual one.
pub(crate) fn start(environment: &[(&str, &str)]) -> (Cluster, Controller) {
    let dir = open_dir();
    let [http, https, admin, app_id] = ports();
    let mut cluster = LocalCluster::new(env!("CARGO_BIN_EXE_meshos"), &dir.path().join("data"))
        .with(&["--resources", &resources()]);
    cluster.environment.push(("MESOS_HOSTNAME".to_owned(), "127.0.0.1".to_owned()));
    cluster.environment.extend(environment.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    let local = cluster.start();
    let controller = Command::new(env!("CARGO_BIN_EXE_meshos"))
        // The first address is nobody's.
        .args(["sse", "-m", "http://127.0.0.1:1", &format!("http://{}", local.marathon.address)])
        .args(["--group", "external", "--health-check", "--sse", "--haproxy-map"])
        .args(["--max-reload-retries", "-1", "--lb-bind-address", "127.0.0.1", "--lb-maxconn", "2000"])
        .args(["--http-port", &http.to_string(), "--https-port", &https.to_string()])
        .args(["--admin-port", &admin.to_string(), "--app-id-port", &app_id.to_string()])
        .arg("--haproxy-dir")
        .arg(dir.path().join("lb"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    (Cluster { local, http, admin, dir }, Controller(controller))
}

#[test]
fn apps_come_change_and_go_by_marathons_events() {
    let (cluster, controller) = start(&[]);
    cluster.marathon("POST", "/v2/apps", &web("/web", 2, "one"));
    let asked = || load::get(cluster.http, "web.test", "/").map_err(|error| error.to_string());
    until_blocking("the app is served", asked);
    cluster.settled("/web", 2);
    is_shown_dry(&cluster);

    cluster.marathon(
        "PUT",
        "/v2/apps//web",
        &json!({"labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "b.test"}}),
    );
    until_blocking("another host is served", || {
        load::get(cluster.http, "b.test", "/").map_err(|e| e.to_string())
    });
    until_blocking("the first one is not", || match asked() {
        Err(error) if error.contains("503") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.settled("/web", 2);

    cluster.marathon("PUT", "/v2/apps//web", &json!({"instances": 0}));
    until_blocking("nobody answers", || match load::get(cluster.http, "b.test", "/") {
        Err(error) if error.to_string().contains("503") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(controller);
    assert!(load::get(cluster.http, "b.test", "/").is_err(), "its HAProxy ends with it");
}

/// Nothing is started or written for it.
fn is_shown_dry(cluster: &Cluster) {
    let dir = cluster.dir.path().join("dry");
    let output = Command::new(env!("CARGO_BIN_EXE_meshos"))
        .args([
            "sse",
            "--dry",
            "--group",
            "external",
            "-m",
            &format!("http://{}", cluster.local.marathon.address),
        ])
        .arg("--haproxy-dir")
        .arg(&dir)
        .output()
        .unwrap();
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let servers =
        shown.lines().filter(|line| line.contains("server s") && !line.ends_with("disabled")).count();
    assert!(shown.contains("backend web_") && shown.contains("# web.test/") && servers == 2, "{shown}");
    assert!(!dir.exists());
}

#[test]
fn rolling_restarts_and_scaling_fail_no_request_of_one_that_knows_the_api_alone() {
    let (cluster, _controller) = start(&[]);
    everything_changes_and_no_request_fails(&cluster);
}

#[test]
fn without_an_address_it_says_what_is_missing() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_meshos")).args(["sse", "--group", "external"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--marathon"), "{said}");
}
