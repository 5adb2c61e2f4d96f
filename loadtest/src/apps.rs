//! Marathon's API at scale: real services, simulated agents.

pub(crate) mod checks;
mod full;
pub(crate) mod leaders;
mod many;
mod one;
mod scene;

use crate::arguments::Arguments;

use scene::Scene;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut scene = Scene::start(arguments).await?;
    one::thousand(&mut scene).await?;
    one::large(&mut scene).await?;
    many::group(&mut scene).await?;
    many::together(&mut scene).await?;
    many::one_by_one(&mut scene).await?;
    full::run(&mut scene).await
}
