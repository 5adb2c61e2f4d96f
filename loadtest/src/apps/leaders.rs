//! The leading app-scheduler is killed again and again, at any moment of deployments: nothing is launched twice, and
//! nothing forgotten.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::scene::{PATIENCE, Scene, app};
use crate::{arguments::Arguments, show};

const APPS: u64 = 5;
/// Instances of an app, at most.
const MOST: u64 = 40;
/// A leader lives so long at most.
const LIFE_MS: u64 = 600;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut scene = Scene::start(arguments).await?;
    let mut wanted = BTreeMap::new();
    for number in 0..APPS {
        let id = format!("/killed/a{number}");
        scene.change("POST", "/v2/apps", &app(&id, MOST / 2)).await?;
        wanted.insert(id, MOST / 2);
    }
    let mut leader = scene.cluster.follow("app-scheduler").await?;
    let mut longest = Duration::ZERO;
    for kill in 0..arguments.kills {
        let (id, instances) = change(&scene).await?;
        wanted.insert(id, instances);
        sleep(Duration::from_millis(scene.cluster.env.rng.below(LIFE_MS))).await;
        let known = leader.wait_for(Option::is_some).await?.clone().context("a leader")?;
        scene.cluster.kill(&known.instance)?;
        scene.cluster.service(&format!("app-scheduler-{}", kill + 2), &[])?;
        let from = Instant::now();
        let newer = leader.wait_for(|now| now.as_ref().is_some_and(|now| now.epoch > known.epoch));
        tokio::time::timeout(PATIENCE, newer).await.context("nobody leads")??;
        longest = longest.max(from.elapsed());
    }
    show(&format!(
        "| {} leading app-schedulers killed during deployments: longest time without a leader | {:.2} s |",
        arguments.kills,
        longest.as_secs_f64()
    ));
    settled(&scene, &wanted).await
}

/// One app gets another number of instances, or another command as well; what is asked for is asked until it is done.
async fn change(scene: &Scene) -> anyhow::Result<(String, u64)> {
    let rng = &scene.cluster.env.rng;
    let id = format!("/killed/a{}", rng.below(APPS));
    let instances = rng.below(MOST + 1);
    let mut body = json!({"instances": instances});
    if rng.below(2) == 0 {
        body["cmd"] = json!(format!("sleep {}", 1000 + rng.below(1000)));
    }
    let path = format!("/v2/apps/{id}?force=true");
    scene
        .until(PATIENCE, "a change is taken", async || {
            let answered = scene.ask("PUT", &path, &body).await;
            Ok(answered.is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .await?;
    Ok((id, instances))
}

/// What is wanted runs, and is shown; nothing else.
async fn settled(scene: &Scene, wanted: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let total = wanted.values().sum();
    scene.quiet().await?;
    scene.tasks(total).await?;
    for (id, count) in wanted {
        scene.running(id, *count).await?;
    }
    // Whatever was doubled would have been found by now, or is found within this time.
    sleep(Duration::from_secs(2)).await;
    let report = scene.fleets.report();
    ensure!(report.running == total, "{} tasks run, {total} are wanted", report.running);
    scene.audit().await?;
    show(&format!(
        "| … audit | exact: {total} wanted, {} launched, {} run, {} ended, none twice |",
        report.launched, report.running, report.ended
    ));
    Ok(())
}
