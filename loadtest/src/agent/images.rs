//! Tasks with an image, of our own and of the Docker Engine, beside `docker run` of the same one: from the launch to
//! TASK_RUNNING, their memory, and many at once. Needs root, a Docker engine and `debian:bookworm-slim`.

mod engine;

use std::{path::Path, time::Duration};

use meshos_proto::mesos::v1::{self as pb, TaskState, container_info, image};
use tokio::time::{Instant, sleep};

use super::{
    end, ms,
    node::Node,
    plane::{Link, task},
};
use crate::{arguments::Arguments, show, statistics};
use engine::{IMAGE, docker_run};

const ISOLATION: &str = "cgroups/cpu,cgroups/mem,filesystem/linux,docker/runtime";
/// Once everything is started: what starting took is given back.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let archives = tempfile::tempdir()?;
    engine::save(archives.path())?;
    one_by_one(arguments, archives.path()).await?;
    let many = arguments.image_containers;
    together(arguments, archives.path(), (Kind::Own, many)).await?;
    together(arguments, archives.path(), (Kind::Docker, many.div_ceil(4))).await
}

/// Who runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Own,
    Docker,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "MESOS",
            Self::Docker => "DOCKER",
        }
    }

    /// A task that waits in its image, and need not be asked twice to end.
    fn task(self, id: &str) -> pb::TaskInfo {
        let command = pb::CommandInfo {
            shell: Some(false),
            value: Some("/bin/sleep".to_owned()),
            arguments: match self {
                Self::Own => vec!["sleep".to_owned(), "100000".to_owned()],
                Self::Docker => vec!["100000".to_owned()],
            },
            ..pb::CommandInfo::default()
        };
        let kill_policy = pb::KillPolicy { grace_period: Some(pb::DurationInfo { nanoseconds: 0 }) };
        let container = Some(self.container());
        pb::TaskInfo { container, kill_policy: Some(kill_policy), ..task(id, command) }
    }

    fn container(self) -> pb::ContainerInfo {
        let of = |kind: container_info::Type| pb::ContainerInfo { r#type: kind as i32, ..Default::default() };
        match self {
            Self::Docker => pb::ContainerInfo {
                docker: Some(container_info::DockerInfo { image: IMAGE.to_owned(), ..Default::default() }),
                ..of(container_info::Type::Docker)
            },
            Self::Own => {
                let docker = Some(image::Docker { name: IMAGE.to_owned(), ..image::Docker::default() });
                let image = pb::Image { r#type: image::Type::Docker as i32, docker, ..Default::default() };
                let mesos = container_info::MesosInfo { image: Some(image) };
                pb::ContainerInfo { mesos: Some(mesos), ..of(container_info::Type::Mesos) }
            }
        }
    }
}

/// An agent that runs both kinds; the image is here once one has run.
async fn start(arguments: &Arguments, archives: &Path) -> anyhow::Result<(Node, Link)> {
    let mut node = Node::new(&arguments.binary).await?;
    let registry = format!("--docker_registry={}", archives.display());
    let flags = [
        "--containerizers=docker,mesos",
        "--docker_remove_delay=0secs",
        "--image_providers=docker",
        &registry,
    ];
    node.start_with(ISOLATION, &flags)?;
    let mut link = node.link().await?;
    let first: Vec<_> =
        [Kind::Own, Kind::Docker].map(|kind| kind.task(&format!("first-{}", kind.name()))).into();
    let ids = first.iter().map(|task| task.task_id.clone()).collect();
    to_running(&mut link, first).await?;
    end(&mut link, ids).await?;
    Ok((node, link))
}

/// The three in turn, so that what else the machine does is the same for all.
async fn one_by_one(arguments: &Arguments, archives: &Path) -> anyhow::Result<()> {
    let (node, mut link) = start(arguments, archives).await?;
    let (mut run, mut samples) = (Vec::new(), [Vec::new(), Vec::new()]);
    let (mut names, mut ids, mut cost) = (Vec::new(), Vec::new(), Duration::ZERO);
    for number in 0..arguments.image_starts {
        let name = format!("meshos-load-{}-{number}", std::process::id());
        run.push(docker_run(&name).await?);
        names.push(name);
        for (kind, samples) in [Kind::Own, Kind::Docker].into_iter().zip(&mut samples) {
            let task = kind.task(&format!("{}-{number}", kind.name()));
            ids.push(task.task_id.clone());
            let cpu = node.cpu()?;
            samples.push(to_running(&mut link, vec![task]).await?);
            if kind == Kind::Own {
                cost += node.cpu()? - cpu;
            }
        }
    }
    show(&statistics::row("images: docker run --detach", &mut run));
    let p50 = |samples: &mut [Duration]| statistics::percentile(samples, 50.0).as_secs_f64();
    let run = p50(&mut run);
    let [own, docker] = &mut samples;
    show(&statistics::row("images: launch of type MESOS to TASK_RUNNING, image cached", own));
    show(&format!("| … docker run takes so many times as long, p50 | {:.1} |", run / p50(own)));
    let starts = u32::try_from(arguments.image_starts.max(1))?;
    show(&format!("| … processor of agent and supervisor per launch | {:.2} ms |", ms(cost / starts)));
    show(&statistics::row("images: launch of type DOCKER to TASK_RUNNING", docker));
    show(&format!("| … of docker run, p50 | {:.2} |", p50(docker) / run));
    engine::remove(&names)?;
    end(&mut link, ids).await?;
    node.stop().await
}

/// All at once: how fast they start and end, and what each takes beside its own program.
async fn together(
    arguments: &Arguments,
    archives: &Path,
    (kind, count): (Kind, usize),
) -> anyhow::Result<()> {
    let (node, mut link) = start(arguments, archives).await?;
    let (before, of_engine) = (node.pss()?, engine::pss());
    let tasks: Vec<_> = (0..count).map(|number| kind.task(&format!("m{number}"))).collect();
    let ids = tasks.iter().map(|task| task.task_id.clone()).collect();
    let started = to_running(&mut link, tasks).await?;
    let name = kind.name();
    show(&format!("| images: {count} of type {name} all running | {} |", rate(count, started)));
    sleep(SETTLE).await;
    let each = |now: u64, before: u64| now.saturating_sub(before) / count.max(1) as u64 / 1024;
    show(&format!(
        "| … memory per container beyond its own (PSS): agent and supervisor; engine and shims | {} KiB; {} KiB |",
        each(node.pss()?, before),
        each(engine::pss(), of_engine),
    ));
    let told = end(&mut link, ids).await?;
    let began = Instant::now();
    node.emptied().await?;
    let gone = told + began.elapsed();
    show(&format!(
        "| … all killed and told; and no process and no cgroup left | {}; {:.2} s |",
        rate(count, told),
        gone.as_secs_f64()
    ));
    node.stop().await
}

fn rate(count: usize, took: Duration) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let per_second = count as f64 / took.as_secs_f64();
    format!("{:.2} s ({per_second:.1} per second)", took.as_secs_f64())
}

async fn to_running(link: &mut Link, tasks: Vec<pb::TaskInfo>) -> anyhow::Result<Duration> {
    let (count, sent) = (tasks.len(), Instant::now());
    link.launch(tasks).await?;
    link.until(count, |status| status.state() == TaskState::TaskRunning).await?;
    Ok(sent.elapsed())
}
