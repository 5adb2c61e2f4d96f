//! Tasks with an image, beside `docker run` of the same one: from the launch to TASK_RUNNING, and their ends. Needs a
//! Docker engine and `debian:bookworm-slim`.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use meshos_proto::mesos::v1::{self as pb, TaskState, container_info};
use tokio::time::Instant;

use super::{
    end,
    node::Node,
    plane::{Link, task},
};
use crate::{arguments::Arguments, show, statistics};

const IMAGE: &str = "debian:bookworm-slim";
/// Starts of each kind, in turn.
const STARTS: usize = 50;
/// Containers that are started and stopped together.
const MANY: usize = 50;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut node = Node::new(&arguments.binary).await?;
    node.start_with(&["--containerizers=docker,mesos", "--docker_remove_delay=0secs"])?;
    let mut link = node.link().await?;
    let (mut engine, mut agent, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut names = Vec::new();
    for number in 0..STARTS {
        let name = format!("meshos-load-{}-{number}", std::process::id());
        engine.push(docker_run(&name).await?);
        names.push(name);
        let task = in_docker(&format!("d{number}"));
        ids.push(task.task_id.clone());
        agent.push(to_running(&mut link, vec![task]).await?);
    }
    show(&statistics::row("images: docker run --detach", &mut engine));
    show(&statistics::row("images: task of type DOCKER to TASK_RUNNING", &mut agent));
    let p50 = |samples: &mut [Duration]| statistics::percentile(samples, 50.0).as_secs_f64();
    show(&format!("| … of docker run, p50 of {STARTS} | {:.2} |", p50(&mut agent) / p50(&mut engine)));
    for name in names {
        docker(&["rm", "--force", &name])?;
    }
    end(&mut link, ids).await?;
    let tasks: Vec<_> = (0..MANY).map(|number| in_docker(&format!("m{number}"))).collect();
    let ids = tasks.iter().map(|task| task.task_id.clone()).collect();
    let started = to_running(&mut link, tasks).await?;
    let per_second = |took: Duration| MANY as f64 / took.as_secs_f64();
    show(&format!(
        "| images: {MANY} tasks of type DOCKER, started together | {:.1} per second |",
        per_second(started)
    ));
    let ended = end(&mut link, ids).await?;
    show(&format!("| … ended together | {:.1} per second |", per_second(ended)));
    node.stop().await
}

async fn to_running(link: &mut Link, tasks: Vec<pb::TaskInfo>) -> anyhow::Result<Duration> {
    let (count, sent) = (tasks.len(), Instant::now());
    link.launch(tasks).await?;
    link.until(count, |status| status.state() == TaskState::TaskRunning).await?;
    Ok(sent.elapsed())
}

fn in_docker(id: &str) -> pb::TaskInfo {
    let command = pb::CommandInfo {
        shell: Some(false),
        value: Some("sleep".to_owned()),
        arguments: vec!["100000".to_owned()],
        ..pb::CommandInfo::default()
    };
    let docker = container_info::DockerInfo { image: IMAGE.to_owned(), ..Default::default() };
    let container = pb::ContainerInfo {
        r#type: container_info::Type::Docker as i32,
        docker: Some(docker),
        ..pb::ContainerInfo::default()
    };
    let kill_policy = pb::KillPolicy { grace_period: Some(pb::DurationInfo { nanoseconds: 0 }) };
    pb::TaskInfo { container: Some(container), kill_policy: Some(kill_policy), ..task(id, command) }
}

/// What the engine's own client needs for the same container.
async fn docker_run(name: &str) -> anyhow::Result<Duration> {
    let name = name.to_owned();
    let run = move || {
        let arguments = ["run", "--detach", "--network", "host", "--memory", "32m", "--cpu-shares", "10"];
        docker(&[&arguments[..], &["--name", &name, IMAGE, "sleep", "100000"]].concat())
    };
    let began = Instant::now();
    tokio::task::spawn_blocking(run).await??;
    Ok(began.elapsed())
}

fn docker(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("docker").args(arguments).stdout(Stdio::null()).status();
    ensure!(status.context("docker cannot be started")?.success(), "docker {} failed", arguments.join(" "));
    Ok(())
}
