//! Health checks that the app-scheduler runs: many tasks on simulated agents, one server that answers for all.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::scene::{PATIENCE, Scene, app};
use crate::{arguments::Arguments, show};

/// Interval of the checks.
const INTERVAL: Duration = Duration::from_secs(10);

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let answered = Arc::new(AtomicU64::new(0));
    let port = server(&answered)?;
    let count = arguments.checked;
    // Their hosts are addresses of this machine then; the tasks have no ports, so nothing else listens.
    let own_hosts = Arguments { serve: Some(1), listen_each: true, ..arguments.clone() };
    let scene = Scene::start(&own_hosts).await?;
    let mut checked = app("/checked", count);
    checked["healthChecks"] = json!([{
        "protocol": "HTTP", "path": "/", "port": port, "intervalSeconds": INTERVAL.as_secs(), "timeoutSeconds": 5,
    }]);
    scene.change("POST", "/v2/apps", &checked).await?;
    scene.tasks(count).await?;
    scene
        .until(PATIENCE, "all healthy", async || {
            let answer = scene.change("GET", "/v2/apps?id=/checked", &serde_json::Value::Null).await?;
            Ok((answer.json()["apps"][0]["tasksHealthy"] == count).then_some(()))
        })
        .await?;
    let look = INTERVAL * 3;
    let (before, answers, from) = (scene.usage(), answered.load(Ordering::Relaxed), Instant::now());
    sleep(look).await;
    let (answers, seconds) = (answered.load(Ordering::Relaxed) - answers, from.elapsed().as_secs_f64());
    let cores = scene.usage().cpu_since(&before, "app-scheduler") / seconds;
    show(&format!(
        "| {count} health checks every {} s: answers in {seconds:.0} s; the app-scheduler | {answers}; {cores:.2} of a core |",
        INTERVAL.as_secs()
    ));
    show(&format!("| … CPU and memory | {} |", scene.usage().since(&before)));
    Ok(())
}

/// Answers every request and counts them; the port. It ends with the process.
fn server(answered: &Arc<AtomicU64>) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    for _ in 0..4 {
        let (listener, answered) = (listener.try_clone()?, Arc::clone(answered));
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let _ = client.set_read_timeout(Some(Duration::from_secs(1)));
                let mut request = [0; 1024];
                // A client that goes early is none of the server's business.
                let _ = client.read(&mut request);
                let _ =
                    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    Ok(port)
}
