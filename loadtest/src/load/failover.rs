//! The leading allocator is killed: how soon another accepts launches, and has everybody back.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::Scene;
use crate::{arguments::Arguments, show};

/// A fail-over that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut scene = Scene::fair(arguments).await?;
    if arguments.history > 0 {
        scene.flood(arguments.history, arguments.each).await?;
        scene.finish_tasks().await?;
        show(&format!("| finished tasks | {} |", arguments.history));
    }
    scene.flood(arguments.tasks, arguments.each).await?;
    fail_over(&mut scene).await?;
    scene.cluster.service("allocator-2", &[])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Once more: what the second leader has learnt is as good as what the first had.
    fail_over(&mut scene).await
}

async fn fail_over(scene: &mut Scene) -> anyhow::Result<()> {
    let count = scene.frameworks.len() as u64;
    scene.frameworks.wake().await?;
    let before = scene.usage();
    scene.frameworks.firsts().reset();
    let (mut accepted, mut running) =
        (scene.frameworks.firsts().accepted.subscribe(), scene.frameworks.firsts().running.subscribe());
    let killed_us = u64::try_from(scene.cluster.env.clock.since_epoch().as_micros())?;
    let killed = Instant::now();
    let epoch = scene.cluster.kill_leader()?;
    let measures = async {
        let led = async {
            scene.cluster.led_after(epoch).await?;
            anyhow::Ok(killed.elapsed())
        };
        let first = async {
            let accepted = accepted.wait_for(Option::is_some).await?.context("accepted")?;
            let running = running.wait_for(Option::is_some).await?.context("running")?;
            anyhow::Ok((accepted - killed, running - killed))
        };
        let launched = scene.frameworks.launch_fresh();
        let linked = scene.fleets.linked_after(epoch);
        let subscribed = async {
            // They notice a little later than the leader is gone.
            tokio::time::sleep(Duration::from_millis(20)).await;
            scene.frameworks.all_subscribed().await?;
            anyhow::Ok(killed.elapsed())
        };
        tokio::try_join!(led, first, launched, linked, subscribed)
    };
    let (led, (accepted, running), _, linked_us, subscribed) =
        tokio::time::timeout(PATIENCE, measures).await.context("the standby does not take over")??;
    let linked = Duration::from_micros(linked_us.saturating_sub(killed_us));
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    show(&format!(
        "| leader killed: standby elected; first ACCEPT taken; its task runs | {:.0} ms; {:.0} ms; {:.0} ms |",
        ms(led),
        ms(accepted),
        ms(running)
    ));
    show(&format!(
        "| … all {} frameworks back; all {} agents back | {:.0} ms; {:.0} ms |",
        count,
        scene.arguments.agents,
        ms(subscribed),
        ms(linked)
    ));
    show(&format!("| … CPU and memory | {} |", scene.usage().since(&before)));
    scene.expect_more(count);
    let account = scene.frameworks.account().await?;
    scene.audit(&account).await
}
