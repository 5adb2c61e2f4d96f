//! Many apps: by one PUT of a group, by POSTs at once, and one after the other.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::scene::{Scene, app};
use crate::{show, statistics};

/// Users that POST at once.
const USERS: u64 = 32;

pub(super) async fn group(scene: &mut Scene) -> anyhow::Result<()> {
    let count = scene.arguments.many;
    let apps: Vec<Value> = (0..count).map(|number| app(&format!("a{number}"), 1)).collect();
    let (before, from) = (scene.usage(), Instant::now());
    scene.change("PUT", "/v2/groups//many", &json!({"apps": apps})).await?;
    let answered = from.elapsed();
    scene.tasks(count).await?;
    scene.quiet().await?;
    show(&format!(
        "| {count} apps by one PUT of a group: answered; deployed | {:.0} ms; {:.2} s |",
        answered.as_secs_f64() * 1000.0,
        from.elapsed().as_secs_f64()
    ));
    scene.cost(&before, count);
    scene.audit().await?;
    scene.remove("/v2/groups//many").await
}

pub(super) async fn together(scene: &mut Scene) -> anyhow::Result<()> {
    let count = scene.arguments.many;
    let (before, from) = (scene.usage(), Instant::now());
    let user = async |user: u64| {
        let mut samples = Vec::new();
        for number in (user..count).step_by(USERS as usize) {
            let from = Instant::now();
            scene.change("POST", "/v2/apps", &app(&format!("/many/a{number}"), 1)).await?;
            samples.push(from.elapsed());
        }
        anyhow::Ok(samples)
    };
    let users = futures::future::try_join_all((0..USERS).map(user)).await?;
    scene.tasks(count).await?;
    scene.quiet().await?;
    show(&format!(
        "| {count} apps by POSTs of {USERS} users at once: deployed | {:.2} s |",
        from.elapsed().as_secs_f64()
    ));
    show(&statistics::row("… each POST", &mut users.concat()));
    scene.cost(&before, count);
    scene.audit().await?;
    scene.remove("/v2/groups//many").await
}

/// The apps stay.
pub(super) async fn one_by_one(scene: &mut Scene) -> anyhow::Result<()> {
    let count = scene.arguments.many;
    let before = scene.usage();
    let mut samples = Vec::new();
    for number in 0..count {
        samples.push(post(scene, &format!("/g0/a{number}"), per_app(scene)).await?);
    }
    let tenth = samples.len() / 10;
    let (first, last) = (&mut samples[..tenth].to_vec(), &mut samples[count as usize - tenth..].to_vec());
    show(&statistics::row(&format!("{count} apps POSTed one by one"), &mut samples));
    show(&statistics::row("… the first tenth", first));
    show(&statistics::row("… the last tenth", last));
    scene.cost(&before, count * per_app(scene));
    scene.tasks(count * per_app(scene)).await?;
    scene.quiet().await?;
    let (mut reads, before) = (Vec::new(), scene.usage());
    let mut size = 0;
    for _ in 0..20 {
        let from = Instant::now();
        let answer = scene.change("GET", "/v2/apps?embed=apps.tasks", &Value::Null).await?;
        reads.push(from.elapsed());
        size = answer.body.len();
        ensure!(
            answer.json()["apps"].as_array().map(Vec::len) == Some(usize::try_from(count)?),
            "apps are missing"
        );
    }
    let after = scene.usage();
    #[allow(clippy::cast_precision_loss)]
    let each = after.cpu_since(&before, "gateway") * 1e3 / reads.len() as f64;
    let size = statistics::mebibytes(u64::try_from(size)?);
    let tasks = count * per_app(scene);
    show(&statistics::row(
        &format!("GET /v2/apps of {count} apps, {tasks} tasks, embed=apps.tasks, {size:.1} MiB"),
        &mut reads,
    ));
    show(&format!("| … CPU of the gateway for each | {each:.1} ms |"));
    scene.audit().await
}

/// Tasks of each of ten times as many apps.
pub(super) fn per_app(scene: &Scene) -> u64 {
    (scene.arguments.large / (10 * scene.arguments.many)).max(1)
}

/// How long a POST takes.
pub(super) async fn post(scene: &Scene, id: &str, instances: u64) -> anyhow::Result<Duration> {
    let body = app(id, instances);
    let from = Instant::now();
    scene.change("POST", "/v2/apps", &body).await?;
    Ok(from.elapsed())
}
