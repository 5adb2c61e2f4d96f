//! The large scenarios at a small scale, so that they keep working: real services, a real etcd, every task accounted
//! for. Nothing is timed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The `meshos` binary beside the load test's own. It belongs to another package: built here when a run of this
/// package alone has not built it.
fn meshos() -> PathBuf {
    let loadtest = Path::new(env!("CARGO_BIN_EXE_meshos-loadtest"));
    let built =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "meshos"]).status().unwrap();
    assert!(built.success(), "meshos does not build");
    loadtest.with_file_name("meshos")
}

fn run(scenarios: &str, more: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_meshos-loadtest"))
        .arg("--binary")
        .arg(meshos())
        .args(["--scenario", scenarios, "--agents", "200", "--streams", "50", "--frameworks", "10"])
        .args(["--http", "2", "--rate", "100", "--seconds", "1"])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn every_task_is_accounted_for_once_on_a_large_cluster_and_over_fail_overs() {
    let table = run("cluster,failover,reconcile", &["--tasks", "1000", "--history", "200"]);
    let audits = table.lines().filter(|line| line.contains("audit | exact")).count();
    assert_eq!(audits, 4 + 4 + 1, "{table}");
}

#[test]
fn apps_are_deployed_and_cancelled_as_users_ask() {
    let table = run("apps", &["--instances", "50", "--large", "400", "--many", "20"]);
    assert!(table.contains("keys written by a change of one app"), "{table}");
}

/// More kills for a longer search: `MESHOS_TEST_KILLS=50 cargo test -p meshos-loadtest leaders`.
#[test]
fn leaders_that_are_killed_during_deployments_lose_and_double_nothing() {
    let kills = std::env::var("MESHOS_TEST_KILLS").unwrap_or_else(|_| "4".to_owned());
    let table = run("leaders", &["--kills", &kills]);
    assert!(table.contains("audit | exact"), "{table}");
}

#[test]
fn no_request_fails_while_everything_changes_behind_the_load_balancer() {
    let table =
        run("balancing", &["--balanced", "3", "--servers", "2", "--changes", "3", "--requests", "5000"]);
    assert_eq!(table.lines().filter(|line| line.contains("to its first request")).count(), 1, "{table}");
    assert!(table.lines().any(|line| line.contains("requests; failed; lost in flight")), "{table}");
}
