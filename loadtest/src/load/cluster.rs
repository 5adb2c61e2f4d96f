//! A large cluster: registration, cost of being idle, latency, launches per second, reads meanwhile.

use std::time::Duration;

use super::{Scene, reads::Reader};
use crate::arguments::Arguments;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut scene = Scene::fair(arguments).await?;
    scene.idle("idle, no tasks").await?;
    let name = format!("submit to RUNNING, {} launches per second", arguments.rate);
    scene.steady(&name, arguments.rate, arguments.seconds).await?;
    scene.flood(arguments.tasks / 4, 1).await?;
    scene.flood(arguments.tasks / 2, arguments.each).await?;
    let state = Reader::start(&scene.cluster.gateway, "/state", Duration::from_secs(3));
    let tasks = Reader::start(&scene.cluster.gateway, "/tasks?limit=100", Duration::from_millis(100));
    let flooded = scene.flood(arguments.tasks / 4, arguments.each).await;
    state.stop()?;
    tasks.stop()?;
    flooded?;
    scene.idle("idle, with all tasks").await
}
