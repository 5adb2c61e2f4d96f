//! One real agent with its supervisor, limits by cgroups switched on, between a registry and an allocator of the load
//! test's own: what a node costs, and how fast it is.

mod checks;
pub(crate) mod images;
mod node;
mod plane;

use std::time::Duration;

use anyhow::ensure;
use meshos_proto::mesos::v1::{self as pb, TaskState};
use tokio::time::{Instant, sleep};

use crate::{arguments::Arguments, show, statistics};
use node::{Node, PATIENCE};
use plane::{Link, task};

/// Starts one by one.
const SINGLE: usize = 200;
/// Tasks while the API is asked and the agent has nothing to do.
const FEW: usize = 200;
const READS: usize = 50;
/// While nothing happens.
const IDLE: Duration = Duration::from_secs(20);

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    start_to_running(arguments).await?;
    many(arguments).await?;
    restart(arguments).await?;
    few(arguments).await?;
    checks::run(arguments).await
}

/// A task that waits in its own program, without a shell.
fn sleeper(number: usize) -> pb::TaskInfo {
    let command = pb::CommandInfo {
        shell: Some(false),
        value: Some("/bin/sleep".to_owned()),
        arguments: vec!["sleep".to_owned(), "100000".to_owned()],
        ..pb::CommandInfo::default()
    };
    task(&format!("t{number}"), command)
}

async fn start_to_running(arguments: &Arguments) -> anyhow::Result<()> {
    let mut node = Node::new(&arguments.binary).await?;
    node.start()?;
    let mut link = node.link().await?;
    let mut samples = Vec::new();
    let (cpu, mut ids) = (node.cpu()?, Vec::new());
    for number in 0..SINGLE {
        let task = sleeper(number);
        ids.push(task.task_id.clone());
        let sent = Instant::now();
        link.launch(vec![task]).await?;
        link.until(1, |status| status.state() == TaskState::TaskRunning).await?;
        samples.push(sent.elapsed());
    }
    show(&statistics::row("agent: launch to TASK_RUNNING, one after the other", &mut samples));
    let cost = (node.cpu()? - cpu) / SINGLE as u32;
    show(&format!("| … processor of agent and supervisor per launch | {:.2} ms |", ms(cost)));
    end(&mut link, ids).await?;
    node.stop().await
}

/// Kills all; the time until every one has been told of as ended.
async fn end(link: &mut Link, ids: Vec<pb::TaskId>) -> anyhow::Result<Duration> {
    let (count, began) = (ids.len(), Instant::now());
    for id in ids {
        link.kill(id).await?;
    }
    link.until(count, |status| meshos_types::task_state::is_terminal(status.state())).await?;
    Ok(began.elapsed())
}

async fn many(arguments: &Arguments) -> anyhow::Result<()> {
    let count = arguments.containers;
    let mut node = Node::new(&arguments.binary).await?;
    node.start()?;
    let mut link = node.link().await?;
    let before = node.pss()?;
    let tasks: Vec<_> = (0..count).map(sleeper).collect();
    let ids = tasks.iter().map(|task| task.task_id.clone()).collect();
    let (cpu, began) = (node.cpu()?, Instant::now());
    for some in tasks.chunks(50) {
        link.launch(some.to_vec()).await?;
    }
    link.until(count, |status| status.state() == TaskState::TaskRunning).await?;
    let (took, cost) = (began.elapsed(), (node.cpu()? - cpu) / u32::try_from(count.max(1))?);
    show(&format!("| agent: {count} tasks all running | {:.2} s |", took.as_secs_f64()));
    show(&format!("| … processor of agent and supervisor per task | {:.2} ms |", ms(cost)));
    // What starting took and is given back.
    sleep(Duration::from_secs(2)).await;
    let beyond = node.pss()?.saturating_sub(before) / count.max(1) as u64;
    show(&format!(
        "| … memory per task beyond its own (PSS of agent and supervisor) | {} KiB |",
        beyond / 1024
    ));
    let told = end(&mut link, ids).await?;
    let gone = Instant::now();
    node.emptied().await?;
    let gone = told + gone.elapsed();
    show(&format!(
        "| … all killed: told; and no process and no cgroup left | {:.2} s; {:.2} s |",
        told.as_secs_f64(),
        gone.as_secs_f64()
    ));
    node.stop().await
}

/// `kill -9` with many tasks, and a new agent.
async fn restart(arguments: &Arguments) -> anyhow::Result<()> {
    let count = 2 * arguments.containers;
    let mut node = Node::new(&arguments.binary).await?;
    node.start()?;
    let mut link = node.link().await?;
    let tasks: Vec<_> = (0..count).map(sleeper).collect();
    let ids = tasks.iter().map(|task| task.task_id.clone()).collect();
    for some in tasks.chunks(50) {
        link.launch(some.to_vec()).await?;
    }
    link.until(count, |status| status.state() == TaskState::TaskRunning).await?;
    let mut samples = Vec::new();
    for _ in 0..3 {
        node.kill()?;
        let began = Instant::now();
        node.start()?;
        link = node.link().await?;
        samples.push(began.elapsed());
        let running =
            link.reported.tasks.iter().filter(|task| task.state() == TaskState::TaskRunning).count();
        ensure!(running == count, "{running} of {count} tasks are reported as running");
    }
    show(&statistics::row(&format!("agent: start to link with {count} tasks re-adopted"), &mut samples));
    end(&mut link, ids).await?;
    node.stop().await
}

async fn few(arguments: &Arguments) -> anyhow::Result<()> {
    let mut node = Node::new(&arguments.binary).await?;
    node.start()?;
    let mut link = node.link().await?;
    let tasks: Vec<_> = (0..FEW).map(sleeper).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.task_id.clone()).collect();
    link.launch(tasks).await?;
    link.until(FEW, |status| status.state() == TaskState::TaskRunning).await?;
    for path in ["/containers", "/monitor/statistics", "/state"] {
        let mut samples = Vec::new();
        let cpu = node.cpu()?;
        for _ in 0..READS {
            let began = Instant::now();
            let answer = node.get(path).await?;
            samples.push(began.elapsed());
            ensure!(answer.status == 200, "{path} answers {}", answer.status);
            let shown = answer.json().as_array().map_or(FEW, Vec::len);
            ensure!(shown == FEW, "{path} shows {shown} of {FEW} tasks");
        }
        show(&statistics::row(&format!("agent: GET {path} with {FEW} tasks"), &mut samples));
        let cost = (node.cpu()? - cpu) / READS as u32;
        show(&format!("| … processor of the agent per request | {:.2} ms |", ms(cost)));
    }
    // Until what the requests began is over.
    sleep(Duration::from_secs(1)).await;
    let cpu = node.cpu()?;
    sleep(IDLE).await;
    let part = (node.cpu()? - cpu).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    show(&format!("| agent: idle with {FEW} tasks, agent and supervisor | {part:.3} % of a core |"));
    end(&mut link, ids).await?;
    node.stop().await
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Waits for something that must come.
async fn patiently<T>(what: &str, wait: impl Future<Output = T>) -> anyhow::Result<T> {
    let late = |_| anyhow::anyhow!("{what}: not within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, wait).await.map_err(late)
}
