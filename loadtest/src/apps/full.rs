//! Ten thousand apps with a hundred thousand tasks: what a user's change costs then.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    many::{per_app, post},
    scene::{Scene, app, deployment},
};
use crate::{show, statistics};

/// Changes that are measured, each kind.
const CHANGES: u64 = 100;

pub(super) async fn run(scene: &mut Scene) -> anyhow::Result<()> {
    let tasks = fill(scene).await?;
    posts(scene, tasks).await?;
    cancels(scene).await?;
    changes(scene).await?;
    let before = scene.usage();
    sleep(Duration::from_secs(scene.arguments.seconds)).await;
    show(&format!(
        "| … idle for {} s: CPU and memory | {} |",
        scene.arguments.seconds,
        scene.usage().since(&before)
    ));
    scene.audit().await
}

/// Nine groups more. Returns the number of tasks.
async fn fill(scene: &mut Scene) -> anyhow::Result<u64> {
    let (count, each) = (scene.arguments.many, per_app(scene));
    let (before, from) = (scene.usage(), Instant::now());
    for group in 1..10 {
        let apps: Vec<Value> = (0..count).map(|number| app(&format!("a{number}"), each)).collect();
        scene.change("PUT", &format!("/v2/groups//g{group}"), &json!({"apps": apps})).await?;
    }
    let tasks = 10 * count * each;
    scene.tasks(tasks).await?;
    scene.quiet().await?;
    show(&format!(
        "| {} apps more, {tasks} tasks altogether | {:.1} s |",
        9 * count,
        from.elapsed().as_secs_f64()
    ));
    scene.cost(&before, 9 * count * each);
    Ok(tasks)
}

async fn posts(scene: &mut Scene, tasks: u64) -> anyhow::Result<()> {
    let (mut samples, before) = (Vec::new(), scene.usage());
    for number in 0..CHANGES {
        samples.push(post(scene, &format!("/more/a{number}"), 1).await?);
    }
    show(&statistics::row(&format!("POST of one app more with {tasks} tasks"), &mut samples));
    scene.tasks(tasks + CHANGES).await?;
    scene.quiet().await?;
    scene.cost(&before, CHANGES);
    Ok(())
}

/// Deployments that cannot go on are given up; each answer comes once it is so.
async fn cancels(scene: &mut Scene) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for number in 0..CHANGES {
        let mut huge = app(&format!("/huge/a{number}"), 10);
        huge["cpus"] = json!(1000);
        let answer = scene.change("POST", "/v2/apps", &huge).await?;
        let id = deployment(&answer)?;
        let from = Instant::now();
        scene.change("DELETE", &format!("/v2/deployments/{id}?force=true"), &Value::Null).await?;
        let left = scene.change("GET", "/v2/deployments", &Value::Null).await?;
        samples.push(from.elapsed());
        ensure!(!left.text().contains(&id), "deployment {id} goes on");
    }
    show(&statistics::row("… a deployment cancelled, and gone from the list", &mut samples));
    scene.change("DELETE", "/v2/groups//huge?force=true", &Value::Null).await?;
    scene.quiet().await
}

/// Keys that the change of an app with one task writes, from PUT to the end of its deployment.
async fn changes(scene: &mut Scene) -> anyhow::Result<()> {
    let mut counts = Vec::new();
    for number in 0..10 {
        let before = scene.cluster.writes().await?;
        let path = format!("/v2/apps//more/a{number}");
        scene.change("PUT", &path, &json!({"cmd": "sleep 2000"})).await?;
        scene.quiet().await?;
        counts.push(scene.cluster.writes().await? - before);
    }
    let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
    show(&format!(
        "| … keys written by a change of one app with one task, to its end | {} to {} |",
        least.unwrap_or_default(),
        most.unwrap_or_default()
    ));
    Ok(())
}
