//! Starts containers, beside the loop.

use std::sync::Arc;

use meshos_mesh::trace;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use super::{Event, Runner};
use crate::{
    containerizer::{ContainerSpec, ContainerizerError, SharedContainerizer},
    core::Input,
};

impl Runner {
    pub(super) fn launch(&mut self, spec: ContainerSpec) {
        if let Some(shown) = self.core.shown_of(&spec.container_id) {
            self.sandboxes.attach(&shown);
        }
        let span = tracing::info_span!("launch_task", container_id = spec.container_id);
        trace::set_parent(&span, spec.environment.get("TRACEPARENT").map_or("", String::as_str));
        let abandoned = CancellationToken::new();
        self.outlet.launching.insert(spec.container_id.clone(), abandoned.clone());
        let starting = Arc::clone(&self.outlet.starting);
        let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
        let launch = async move {
            let launched =
                Start { containerizer: &containerizer, spec: &spec, abandoned: &abandoned, events: &events }
                    .run(&starting)
                    .await;
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

/// The start of a container.
struct Start<'a> {
    containerizer: &'a SharedContainerizer,
    spec: &'a ContainerSpec,
    abandoned: &'a CancellationToken,
    events: &'a mpsc::Sender<Event>,
}

impl Start<'_> {
    /// Makes, fills and starts a container; its process id.
    async fn run(&self, starting: &Semaphore) -> Result<u32, ContainerizerError> {
        let (containerizer, spec) = (self.containerizer, self.spec);
        // Who runs containers has limits of his own, and may hang.
        if spec.container.is_some() {
            self.unless_abandoned(containerizer.bring(spec)).await?;
            containerizer.prepare(spec).await?;
            self.unless_abandoned(containerizer.fetch(spec)).await?;
            self.fetched().await;
            return self.launch().await;
        }
        // The semaphore is never closed.
        let permit = starting.acquire().await;
        containerizer.prepare(spec).await?;
        if spec.uris.is_empty() {
            return containerizer.launch(spec).await;
        }
        // A slow server must not keep others from starting.
        drop(permit);
        self.unless_abandoned(containerizer.fetch(spec)).await?;
        self.fetched().await;
        let _permit = starting.acquire().await;
        self.launch().await
    }

    fn killed(&self) -> ContainerizerError {
        ContainerizerError::container(&self.spec.container_id, "killed before it started")
    }

    async fn unless_abandoned(
        &self,
        work: impl Future<Output = Result<(), ContainerizerError>>,
    ) -> Result<(), ContainerizerError> {
        tokio::select! {
            biased;
            () = self.abandoned.cancelled() => Err(self.killed()),
            done = work => done,
        }
    }

    async fn fetched(&self) {
        let input = Input::Fetched { container_id: self.spec.container_id.clone() };
        // Nobody is there any more when the agent ends.
        let _ = self.events.send(Event::Input(input)).await;
    }

    async fn launch(&self) -> Result<u32, ContainerizerError> {
        if self.abandoned.is_cancelled() {
            Err(self.killed())
        } else {
            self.containerizer.launch(self.spec).await
        }
    }
}
