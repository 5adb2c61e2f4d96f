//! What is measured.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use meshos_testing::{Local, LocalCluster};
use serde_json::{Value, json};

use crate::{memory, statistics};

/// A figure that takes longer is no figure.
const LIMIT: Duration = Duration::from_secs(120);

#[allow(clippy::disallowed_methods, reason = "this program measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn cluster(binary: &Path, dir: &Path) -> anyhow::Result<LocalCluster> {
    let binary = binary.to_str().context("the binary's path is not text")?;
    Ok(LocalCluster::new(binary, &dir.join("data"))
        .with(&["--resources", "cpus:1000;mem:1000000;disk:100000"]))
}

pub(crate) fn starts(binary: &Path, count: usize) -> anyhow::Result<Vec<String>> {
    let mut samples = Vec::new();
    for _ in 0..count {
        let dir = tempfile::tempdir()?;
        let cluster = cluster(binary, dir.path())?;
        let started = now();
        let meshos = cluster.start();
        samples.push(started.elapsed());
        ensure!(meshos.terminate().success(), "it did not stop in order");
    }
    Ok(vec![statistics::row("start to ready", &mut samples)])
}

fn app(id: &str, command: &str, instances: usize) -> Value {
    json!({"id": id, "cmd": command, "cpus": 0.001, "mem": 1, "instances": instances, "portDefinitions": []})
}

fn post(meshos: &Local, app: &Value) -> anyhow::Result<()> {
    let answer = meshos.marathon.json("POST", "/v2/apps", app)?;
    ensure!(answer.status == 201, "POST answered {}: {}", answer.status, answer.text());
    Ok(())
}

/// Asks again and again until the app shows `wanted` running tasks.
fn running(meshos: &Local, id: &str, wanted: usize, pause: Duration) -> anyhow::Result<()> {
    let started = now();
    let path = format!("/v2/apps/{id}?embed=app.counts");
    loop {
        let shown = meshos.marathon.get(&path)?.json()["app"]["tasksRunning"].as_u64();
        if shown == Some(wanted as u64) {
            return Ok(());
        }
        if started.elapsed() > LIMIT {
            bail!("{id}: {shown:?} of {wanted} run after {LIMIT:?}");
        }
        std::thread::sleep(pause);
    }
}

pub(crate) fn posts(binary: &Path, count: usize) -> anyhow::Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let meshos = cluster(binary, dir.path())?.start();
    let mut samples = Vec::new();
    for number in 0..count {
        let id = format!("/app-{number}");
        let started = now();
        post(&meshos, &app(&id, "sleep 100000", 1))?;
        running(&meshos, &id, 1, Duration::from_micros(500))?;
        samples.push(started.elapsed());
    }
    ensure!(meshos.terminate().success(), "it did not stop in order");
    Ok(vec![statistics::row("POST to TASK_RUNNING, one shell task", &mut samples)])
}

pub(crate) fn thousand(binary: &Path, instances: usize) -> anyhow::Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let meshos = cluster(binary, dir.path())?.start();
    let before = memory::pss(meshos.pid()).context("PSS of meshos")?;
    let started = now();
    post(&meshos, &app("/thousand", "sleep 100000", instances))?;
    running(&meshos, "/thousand", instances, Duration::from_millis(20))?;
    let took = started.elapsed();

    let data = dir.path().to_str().context("path")?;
    let supervisor: u64 =
        memory::find(&["supervisor", data]).iter().filter_map(|pid| memory::pss(*pid)).sum();
    let after = memory::pss(meshos.pid()).context("PSS of meshos")?;
    let rss = memory::rss(meshos.pid()).context("memory of meshos")?;
    let beyond = (after.saturating_sub(before) + supervisor) / instances as u64;
    #[allow(clippy::cast_precision_loss)]
    let rate = instances as f64 / took.as_secs_f64();
    ensure!(meshos.terminate().success(), "it did not stop in order");
    let mebibytes = statistics::mebibytes;
    Ok(vec![
        format!("| {instances} tasks all running | {:.2} s, {rate:.0} tasks/s |", took.as_secs_f64()),
        format!("| control services before (PSS) | {:.1} MiB |", mebibytes(before)),
        format!(
            "| control services with {instances} tasks (PSS, RSS) | {:.1} MiB, {:.1} MiB |",
            mebibytes(after),
            mebibytes(rss)
        ),
        format!("| supervisor with {instances} tasks (PSS) | {:.1} MiB |", mebibytes(supervisor)),
        format!("| memory per task beyond the task's own (PSS) | {} KiB |", beyond / 1024),
    ])
}
