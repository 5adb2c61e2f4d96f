//! What a thousand checks cost an agent: `cargo test --release -p meshos-agent --test never_lost -- cost-of-checks`.

use std::time::Duration;

use meshos_proto::mesos::v1::{self as pb, TaskState, health_check};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

use super::{fakes::task, run};

const TASKS: usize = 1000;
/// So many intervals of the default length are measured.
const MEASURED: Duration = Duration::from_secs(30);

/// Prints the part of a core that the agent and its supervisor take.
pub(crate) fn checks() {
    for kind in ["none", "http", "tcp", "command"] {
        run(async |node| {
            let port = server().await;
            node.start();
            let mut link = node.link().await;
            for number in 0..TASKS {
                let mut task = task(&format!("t{number}"), "exec sleep 1000");
                task.health_check = check(kind, port);
                link.launch(vec![task]).await;
            }
            let mut running = 0;
            while running < TASKS {
                let status = link.update().await.status.unwrap();
                link.acknowledge(&status).await;
                running += usize::from(status.state() == TaskState::TaskRunning);
            }
            // Until the first checks are over, which are told.
            sleep(Duration::from_secs(20)).await;
            let before = node.cpu_time();
            sleep(MEASURED).await;
            let after = node.cpu_time();
            let part = |before: Duration, after: Duration| {
                (after - before).as_secs_f64() / MEASURED.as_secs_f64() * 100.0
            };
            println!(
                "{TASKS} tasks, health checks: {kind:8} agent {:.2} %, supervisor {:.2} % of a core",
                part(before.0, after.0),
                part(before.1, after.1)
            );
            drop(link);
        });
    }
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

async fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            });
        }
    });
    port
}
