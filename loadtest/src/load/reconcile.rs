//! One framework with many tasks asks for all of them, while others launch.

use std::time::Duration;

use super::Scene;
use crate::{arguments::Arguments, framework::Order, show, statistics};

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut scene = Scene::fair(arguments).await?;
    // The last one speaks gRPC. The others leave all agents to it.
    let others = 0..scene.frameworks.len() - 1;
    let one = others.end..others.end + 1;
    scene.frameworks.each(others.clone(), |done| Order::Want(false, done)).await?;
    let took = scene
        .frameworks
        .launch_on(one.clone(), arguments.tasks, arguments.each, arguments.window * 50)
        .await?;
    scene.expect_more(arguments.tasks);
    show(&format!("| one framework launches {} tasks | {:.1} s |", arguments.tasks, took.as_secs_f64()));
    // It keeps what it is offered, and the others need it now.
    scene.frameworks.each(one.clone(), |done| Order::Want(false, done)).await?;
    scene.frameworks.wake_some(others.clone()).await?;
    // What came before is not of interest.
    scene.frameworks.account().await?;
    let (rate, seconds) = (arguments.rate, arguments.seconds.max(4));
    scene.frameworks.paced(others.clone(), rate, seconds).await?;
    let mut quiet = scene.frameworks.account_of(others.clone()).await?;
    scene.frameworks.wake_some(others.clone()).await?;
    let ((), mut times) = tokio::try_join!(scene.frameworks.paced(others.clone(), rate, seconds), async {
        let mut times = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            times.extend(scene.frameworks.each(one.clone(), Order::Reconcile).await?);
        }
        Ok(times)
    })?;
    let mut busy = scene.frameworks.account_of(others.clone()).await?;
    show(&statistics::row(&format!("implicit reconciliation of {} tasks", arguments.tasks), &mut times));
    show(&statistics::row("others' submit to RUNNING, without it", &mut quiet.latencies));
    show(&statistics::row("others' submit to RUNNING, meanwhile", &mut busy.latencies));
    let each = (rate * seconds / others.len() as u64).max(1) * others.len() as u64;
    scene.expect_more(2 * each);
    let account = scene.frameworks.account().await?;
    scene.audit(&account).await
}
