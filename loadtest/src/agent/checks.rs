//! What health checks cost, by their kind.

use std::time::Duration;

use meshos_proto::mesos::v1::{self as pb, TaskState, health_check};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

use super::{end, node::Node, sleeper};
use crate::{arguments::Arguments, show};

/// Until the first checks are over, which are told.
const FIRST: Duration = Duration::from_secs(15);
/// Intervals of the default length.
const MEASURED: Duration = Duration::from_secs(20);

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
        Ok(())
    };
    let measure = async {
        for kind in ["none", "tcp", "http", "command"] {
            measure(arguments, kind, port).await?;
        }
        Ok(())
    };
    tokio::select! { biased; done = measure => done, done = server => done }
}

async fn measure(arguments: &Arguments, kind: &str, port: u16) -> anyhow::Result<()> {
    let count = arguments.containers;
    let mut node = Node::new(&arguments.binary).await?;
    node.start()?;
    let mut link = node.link().await?;
    let tasks: Vec<_> =
        (0..count).map(|n| pb::TaskInfo { health_check: check(kind, port), ..sleeper(n) }).collect();
    let ids = tasks.iter().map(|task| task.task_id.clone()).collect();
    for some in tasks.chunks(50) {
        link.launch(some.to_vec()).await?;
    }
    // The first may be healthy before the last one runs.
    match kind {
        "none" => link.until(count, |status| status.state() == TaskState::TaskRunning).await?,
        _ => link.until(count, pb::TaskStatus::healthy).await?,
    }
    sleep(FIRST).await;
    let before = node.parts()?;
    sleep(MEASURED).await;
    let after = node.parts()?;
    let parts = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before));
    let parts: Vec<_> = parts.map(|part| part.as_secs_f64() / MEASURED.as_secs_f64() * 100.0).collect();
    let sum: f64 = parts.iter().sum();
    let of = |at: usize| parts.get(at).copied().unwrap_or_default();
    show(&format!(
        "| agent: {count} health checks every 10 s: {kind} | {sum:.2} % of a core (agent {:.2}, supervisor {:.2}) |",
        of(0),
        of(1)
    ));
    end(&mut link, ids).await?;
    node.stop().await
}

fn check(kind: &str, port: u16) -> Option<pb::HealthCheck> {
    let port = u32::from(port);
    let mut check = pb::HealthCheck { delay_seconds: Some(1.0), ..pb::HealthCheck::default() };
    match kind {
        "http" => {
            check.r#type = Some(health_check::Type::Http as i32);
            check.http = Some(health_check::HttpCheckInfo { port, ..Default::default() });
        }
        "tcp" => {
            check.r#type = Some(health_check::Type::Tcp as i32);
            check.tcp = Some(health_check::TcpCheckInfo { port, protocol: None });
        }
        "command" => {
            check.r#type = Some(health_check::Type::Command as i32);
            check.command = Some(pb::CommandInfo { value: Some("true".to_owned()), ..Default::default() });
        }
        _ => return None,
    }
    Some(check)
}
