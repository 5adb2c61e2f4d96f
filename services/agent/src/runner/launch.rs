//! Starts containers, beside the loop.

use std::sync::Arc;

use meshos_mesh::trace;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use super::{Event, Runner};
use crate::{
    containerizer::{ContainerSpec, ContainerizerError, SharedContainerizer},
    core::Input,
};

impl Runner {
    pub(super) fn launch(&mut self, spec: ContainerSpec) {
        // What lies below another sandbox is shown with it.
        match &spec.within {
            Some(within) => self.sandboxes.attach(&within.sandbox),
            None if spec.container_id.contains('.') => {}
            None => self.sandboxes.attach(&spec.sandbox),
        }
        let span = tracing::info_span!("launch_task", container_id = spec.container_id);
        trace::set_parent(&span, spec.environment.get("TRACEPARENT").map_or("", String::as_str));
        let abandoned = CancellationToken::new();
        self.outlet.launching.insert(spec.container_id.clone(), abandoned.clone());
        let starting = Arc::clone(&self.outlet.starting);
        let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
        let launch = async move {
            let launched = start(&containerizer, &spec, (&starting, &abandoned)).await;
            let container_id = spec.container_id;
            if launched.is_ok() {
                let network = containerizer.network(&container_id).await;
                if !network.networks.is_empty() {
                    let input = Input::Addressed { container_id: container_id.clone(), network };
                    let _ = events.send(Event::Input(input)).await;
                }
            }
            let input = match launched {
                Ok(pid) => {
                    info!(container_id, pid, "container started");
                    Input::Launched { container_id, pid }
                }
                Err(error) => {
                    warn!(container_id, %error, "container cannot be started");
                    Input::LaunchFailed { container_id, reason: error.reason() }
                }
            };
            // Nobody is there any more when the agent ends.
            let _ = events.send(Event::Input(input)).await;
        };
        self.env.tasks.spawn("launch", launch.instrument(span));
    }
}

/// Makes, fills and starts a container; its process id.
async fn start(
    containerizer: &SharedContainerizer,
    spec: &ContainerSpec,
    (starting, abandoned): (&Semaphore, &CancellationToken),
) -> Result<u32, ContainerizerError> {
    let killed = || ContainerizerError::container(&spec.container_id, "killed before it started");
    // Who runs containers has limits of his own, and may hang.
    if spec.container.is_some() {
        return start_container(containerizer, spec, abandoned).await;
    }
    // The semaphore is never closed.
    let permit = starting.acquire().await;
    containerizer.prepare(spec).await?;
    if spec.uris.is_empty() {
        return containerizer.launch(spec).await;
    }
    // A slow server must not keep others from starting.
    drop(permit);
    tokio::select! {
        biased;
        () = abandoned.cancelled() => return Err(killed()),
        fetched = containerizer.fetch(spec) => fetched?,
    }
    let _permit = starting.acquire().await;
    if abandoned.is_cancelled() { Err(killed()) } else { containerizer.launch(spec).await }
}

/// As [`start`], for a container that is more than a process: its image comes with what is fetched.
async fn start_container(
    containerizer: &SharedContainerizer,
    spec: &ContainerSpec,
    abandoned: &CancellationToken,
) -> Result<u32, ContainerizerError> {
    let killed = || ContainerizerError::container(&spec.container_id, "killed before it started");
    tokio::select! {
        biased;
        () = abandoned.cancelled() => return Err(killed()),
        brought = containerizer.bring(spec) => brought?,
    }
    containerizer.prepare(spec).await?;
    tokio::select! {
        biased;
        () = abandoned.cancelled() => return Err(killed()),
        fetched = containerizer.fetch(spec) => fetched?,
    }
    if abandoned.is_cancelled() { Err(killed()) } else { containerizer.launch(spec).await }
}
