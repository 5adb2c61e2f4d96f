//! Containers of the API: requests on their way into the core, and those who wait for a start or an end.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1 as pb;
use tokio::sync::oneshot;

use super::Runner;
use crate::{
    containerizer::Exit,
    core::{ContainerError, Effect, Input, NestedLaunch, container_path},
};

type Reply<T> = oneshot::Sender<Result<T, ContainerError>>;

/// What somebody wants of a container.
#[derive(Debug)]
pub(crate) enum ContainerRequest {
    /// Answered when it runs.
    Launch {
        launch: Box<NestedLaunch>,
        reply: Reply<()>,
    },
    /// Answered when it has ended; how, where that is known.
    Wait {
        id: pb::ContainerId,
        reply: Reply<Option<Exit>>,
    },
    Signal {
        id: pb::ContainerId,
        signal: i32,
        reply: Reply<()>,
    },
    Remove {
        id: pb::ContainerId,
        reply: Reply<()>,
    },
}

/// Those who wait, by the container's path.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    starts: BTreeMap<String, Reply<()>>,
    ends: BTreeMap<String, Vec<Reply<Option<Exit>>>>,
}

impl Waiting {
    /// Tells of a start, or of its failure.
    pub(super) fn started(&mut self, input: &Input) {
        let (container_id, result) = match input {
            Input::Launched { container_id, .. } => (container_id, Ok(())),
            Input::LaunchFailed { container_id, reason } => {
                (container_id, Err(ContainerError::Refused(reason.clone())))
            }
            _ => return,
        };
        if let Some(reply) = self.starts.remove(container_id) {
            let _ = reply.send(result);
        }
    }

    pub(super) fn ended(&mut self, path: &str, exit: Option<Exit>) {
        for reply in self.ends.remove(path).into_iter().flatten() {
            let _ = reply.send(Ok(exit));
        }
    }
}

impl Runner {
    pub(super) fn container(&mut self, request: ContainerRequest) {
        match request {
            ContainerRequest::Launch { launch, reply } => {
                let path = container_path(&launch.container_id);
                match self.core.launch_nested(*launch) {
                    Ok(effects) => {
                        self.outlet.waiting_for.starts.insert(path, reply);
                        self.done(effects);
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            ContainerRequest::Wait { id, reply } => match self.core.container_exit(&id) {
                Ok(Some(exit)) => drop(reply.send(Ok(exit))),
                Ok(None) => {
                    let waiting = self.outlet.waiting_for.ends.entry(container_path(&id)).or_default();
                    // Those who gave up make room.
                    waiting.retain(|reply| !reply.is_closed());
                    waiting.push(reply);
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            ContainerRequest::Signal { id, signal, reply } => {
                let result = self.core.signal_container(&id, signal);
                self.answer(result, reply);
            }
            ContainerRequest::Remove { id, reply } => {
                let result = self.core.remove_container(&id);
                self.answer(result, reply);
            }
        }
    }

    fn answer(&mut self, result: Result<Vec<Effect>, ContainerError>, reply: Reply<()>) {
        let result = result.map(|effects| self.done(effects));
        let _ = reply.send(result);
    }

    fn done(&mut self, effects: Vec<Effect>) {
        self.apply(effects);
        self.tell();
    }
}
