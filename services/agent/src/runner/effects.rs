//! Carries out what the core decided.

use std::sync::Arc;

use meshos_proto::meshos::allocator::v1::{AgentMessage, agent_message};
use tracing::{error, warn};

use super::{Event, Runner};
use crate::{
    containerizer::{Probe, ProbeKind},
    core::{Effect, Input, Which},
};

impl Runner {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record(_) => {}
            Effect::Launch(spec) => self.launch(*spec),
            Effect::Probe { which, probe } => self.probe(which, *probe),
            Effect::Provide { number, spec } => {
                if let Some(shown) = self.core.shown_of(&spec.container_id) {
                    self.sandboxes.attach(&shown);
                }
                let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
                self.env.tasks.spawn("provide", async move {
                    let error = containerizer.prepare(&spec).await.err().map(|error| error.reason());
                    let provided = Input::Provided { container_id: spec.container_id, number, error };
                    let _ = events.send(Event::Input(provided)).await;
                });
            }
            Effect::Abandon { container_id } => {
                self.outlet.launching.get(&container_id).inspect(|launch| launch.cancel());
            }
            Effect::Signal { container_id, signal } => {
                let containerizer = Arc::clone(&self.containerizer);
                self.env.tasks.spawn("signal", async move {
                    if let Err(error) = containerizer.signal(&container_id, signal).await {
                        warn!(container_id, signal, %error, "signal failed");
                    }
                });
            }
            Effect::Cleanup { container_id } => {
                let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
                self.outlet.cleaning += 1;
                self.env.tasks.spawn("cleanup", async move {
                    let cleaned = containerizer.cleanup(&container_id).await;
                    if let Err(error) = &cleaned {
                        warn!(container_id, %error, "clean-up failed");
                    }
                    let _ = events.send(Event::Cleaned { failed: cleaned.is_err() }).await;
                });
            }
            Effect::Send(update) => {
                // Without a link it is sent again when there is one.
                if self.outlet.link.is_some() {
                    let body = Some(agent_message::Body::Update(*update));
                    self.outlet.waiting.push_back(AgentMessage { body });
                }
            }
            Effect::SendOperation(update) => {
                let body = Some(agent_message::Body::OperationUpdate(*update));
                self.outlet.waiting.push_back(AgentMessage { body });
            }
            Effect::SendMessage(message) => {
                let body = Some(agent_message::Body::FrameworkMessage(*message));
                self.best_effort(AgentMessage { body });
            }
            Effect::SendExecutorEnded(ended) => {
                if self.outlet.link.is_some() {
                    let body = Some(agent_message::Body::ExecutorEnded(*ended));
                    self.outlet.waiting.push_back(AgentMessage { body });
                }
            }
            Effect::ToExecutor { stream, event } => self.outlet.executors.send(stream, *event),
            Effect::CloseExecutor { stream } => self.outlet.executors.forget(stream),
            Effect::ContainerEnded { path, exit } => self.outlet.waiting_for.ended(&path, exit),
            Effect::Resize { container_id, limits } => {
                let containerizer = Arc::clone(&self.containerizer);
                self.env.tasks.spawn("resize", async move {
                    if let Err(error) = containerizer.resize(&container_id, &limits).await {
                        warn!(container_id, %error, "container keeps its limits");
                    }
                });
            }
            Effect::MakeVolume(path) => {
                if let Err(error) = std::fs::create_dir_all(&path) {
                    error!(path = %path.display(), %error, "volume cannot be made: tasks that use it will fail");
                }
            }
            Effect::RemoveVolume { path, is_mount } => self.remove_volume(path, is_mount),
            Effect::Changed(key) => self.publish(&key, false),
            Effect::Removed(key) => self.publish(&key, true),
            Effect::Reannounce(info) => {
                self.identity.info = (*info).clone();
                self.announced.send_replace(*info);
                // Both are opened again, and tell what is new.
                self.outlet.link = None;
                self.renew.notify_one();
            }
            Effect::Collect(directory) => self.past.add(directory),
            Effect::Detach(directory) => self.sandboxes.detach(&directory),
            Effect::LinkRefused(reason) => {
                warn!(reason, "the allocator refuses the link");
                // The stream ends with its sender; the link is tried again, with growing delays. Whatever the reason,
                // the registry knows better: it takes the agent back or refuses it for good.
                self.outlet.link = None;
                self.renew.notify_one();
            }
        }
    }

    fn probe(&self, which: Which, probe: Probe) {
        let room = Arc::clone(match probe.kind {
            ProbeKind::Command(_) => &self.outlet.commands,
            ProbeKind::Http { .. } | ProbeKind::Tcp { .. } => &self.outlet.connecting,
        });
        let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
        self.env.tasks.spawn("probe", async move {
            // One that may take for ever must not keep others from their turn; there is one for each check at most.
            let permit = if probe.timeout.is_some() { room.acquire().await.ok() } else { None };
            let outcome = containerizer.probe(&probe).await;
            drop(permit);
            let probed = Input::Probed { container_id: probe.container_id, which, outcome };
            let _ = events.send(Event::Input(probed)).await;
        });
    }
}
