//! One app: a thousand instances, its rolling restart; a hundred thousand instances, stopped half way.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::scene::{Scene, app};
use crate::show;

pub(super) async fn thousand(scene: &mut Scene) -> anyhow::Result<()> {
    let count = scene.arguments.instances as u64;
    let (before, from) = (scene.usage(), Instant::now());
    scene.change("POST", "/v2/apps", &app("/one", count)).await?;
    scene.tasks(count).await?;
    scene.running("/one", count).await?;
    show(&format!(
        "| one app, {count} instances: POST to all running | {:.3} s |",
        from.elapsed().as_secs_f64()
    ));
    scene.cost(&before, count);
    scene.quiet().await?;
    let (before, from) = (scene.usage(), Instant::now());
    scene.change("POST", "/v2/apps//one/restart", &Value::Null).await?;
    scene.quiet().await?;
    show(&format!("| … its rolling restart | {:.3} s |", from.elapsed().as_secs_f64()));
    scene.cost(&before, count);
    scene.audit().await?;
    scene.remove("/v2/apps//one").await
}

pub(super) async fn large(scene: &mut Scene) -> anyhow::Result<()> {
    let count = scene.arguments.large;
    let (before, from) = (scene.usage(), Instant::now());
    scene.change("POST", "/v2/apps", &app("/large", count)).await?;
    let answered = from.elapsed();
    scene.tasks(count).await?;
    scene.running("/large", count).await?;
    let took = from.elapsed().as_secs_f64();
    show(&format!(
        "| one app, {count} instances: POST answered; all running | {:.0} ms; {took:.2} s |",
        answered.as_secs_f64() * 1000.0
    ));
    scene.cost(&before, count);
    show(&format!("| … CPU and memory | {} |", scene.usage().since(&before)));
    scene.quiet().await?;
    scene.audit().await?;
    let (before, from) = (scene.usage(), Instant::now());
    scene.remove("/v2/apps//large").await?;
    show(&format!("| … DELETE to all gone | {:.2} s |", from.elapsed().as_secs_f64()));
    scene.cost(&before, count);
    scene.audit().await?;
    stopped(scene, count).await
}

/// While it is launched it is scaled to nothing.
async fn stopped(scene: &mut Scene, count: u64) -> anyhow::Result<()> {
    let before = scene.fleets.report().launched;
    scene.change("POST", "/v2/apps", &app("/stopped", count)).await?;
    let some = before + count / 10;
    scene.fleets.until("a tenth is launched", |report| report.launched >= some).await?;
    let from = Instant::now();
    scene.change("PUT", "/v2/apps//stopped?force=true", &json!({"instances": 0})).await?;
    let answered = from.elapsed();
    let (mut last, mut seen) = (Duration::ZERO, scene.fleets.report().launched);
    while from.elapsed() < last + Duration::from_millis(500) {
        sleep(Duration::from_millis(2)).await;
        let launched = scene.fleets.report().launched;
        if launched > seen {
            (last, seen) = (from.elapsed(), launched);
        }
    }
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    show(&format!(
        "| … scaled to 0 while it is launched: answered; the last launch comes to an agent | {:.0} ms; {:.0} ms \
         (of {count} {} were launched) |",
        ms(answered),
        ms(last),
        seen - before
    ));
    scene.tasks(0).await?;
    scene.remove("/v2/apps//stopped").await?;
    scene.audit().await
}
