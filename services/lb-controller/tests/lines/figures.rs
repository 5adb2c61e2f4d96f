//! Figures, not tests: `MESHOS_TEST_LB_APPS=10,1000 cargo test --release -p meshos-lb-controller --test lines figures --
//! --ignored --nocapture`.

use std::time::Duration;

use meshos_proto::meshos::apps::v1::Delta;
use tokio::time::Instant;

use crate::scene::{Scene, app_at, instance};

const ROUNDS: usize = 200;
/// Service ports of the apps begin here.
const FIRST: u16 = 20_000;

/// From the change until the first request reaches the new task, among so many apps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; takes minutes"]
async fn figures_of_changes() {
    let counts = std::env::var("MESHOS_TEST_LB_APPS").unwrap_or_else(|_| "10,1000".to_owned());
    for count in counts.split(',').map(|count| count.parse::<u16>().unwrap()) {
        let scene = Scene::with(&["--lb-bind-address=127.0.0.1"]).await;
        let (old, new) = (scene.task("old").await, scene.task("new").await);
        let host = |index: u16| format!("h{index}.test");
        let apps: Vec<_> = (0..count)
            .map(|index| {
                app_at(&format!("/app-{index}"), &[FIRST + index], &[("HAPROXY_0_VHOST", &host(index))])
            })
            .collect();
        let instances = apps.iter().map(|app| instance(app, "old", &[old.port])).collect();
        let begun = Instant::now();
        scene.scheduler.change(Delta { apps: apps.clone(), instances, ..Delta::default() });
        while begun.elapsed() < Duration::from_secs(100)
            && scene.lb.host(&host(count - 1), "/").await.status != 200
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        scene.lb.served(&host(count - 1)).await;
        let first = begun.elapsed();
        scene.lb.reloads().await;
        let mut took = Vec::new();
        for round in 0..ROUNDS {
            let index = u16::try_from(round * 7919 % usize::from(count)).unwrap();
            let app = &apps[usize::from(index)];
            let begun = Instant::now();
            scene.instance(instance(app, "new", &[new.port]));
            while scene.lb.host(&host(index), "/").await.task() != "new" {}
            took.push(begun.elapsed());
            scene.gone(&instance(app, "new", &[]));
            while scene.lb.host(&host(index), "/").await.task() == "new" {}
        }
        took.sort();
        let at = |part: usize| took[took.len() * part / 100];
        println!(
            "{count} apps: all published after {first:?}; change to first request p50 {:?}, p99 {:?}, most {:?}",
            at(50),
            at(99),
            took.last().unwrap_or(&Duration::ZERO)
        );
        scene.end().await;
    }
}
