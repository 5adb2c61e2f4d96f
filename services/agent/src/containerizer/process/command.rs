//! Probes that are commands: children of the supervisor in the cgroups of the container that they look at.

use std::time::Duration;

use meshos_proto::meshos::agent::v1::{SignalRequest, SpawnRequest, supervisor_request::Body as Request};
use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{ProcessContainerizer, client::CallError, probe::late};
use crate::containerizer::{ContainerSpec, ExitStatus, ProbeOutcome};

/// Between attempts to forget a command that was killed a moment ago.
const STILL_ENDING: Duration = Duration::from_millis(50);

impl ProcessContainerizer {
    /// Runs the command to its end, or ends it when its time is over or the container has ended.
    pub(super) async fn run_beside(
        &self,
        container_id: &str,
        spec: &ContainerSpec,
        limit: Option<Duration>,
    ) -> ProbeOutcome {
        let request = match self.spawn_request(spec).await {
            Ok(request) => request,
            Err(error) => return ProbeOutcome::Failed(error.reason()),
        };
        let request = SpawnRequest {
            cgroup_procs: self
                .cgroups
                .as_ref()
                .map(|cgroups| cgroups.procs(container_id))
                .unwrap_or_default(),
            shares_cgroups: true,
            // Beside what the task has to say about itself.
            stdout_path: request.stderr_path.clone(),
            ..request
        };
        let ended = self.client.watch_child(&spec.container_id, container_id);
        // Dropped in the middle, it leaves a command that the next agent ends.
        let outcome = match self.client.call(Request::Spawn(request)).await {
            Ok(_) => match limit {
                Some(limit) => timeout(limit, ended).await.map_err(|_| late(limit)),
                None => Ok(ended.await),
            },
            Err(error) => {
                if !matches!(error, CallError::Refused(_)) {
                    // It may have been started all the same.
                    self.end_beside(&spec.container_id, true).await;
                }
                return ProbeOutcome::Failed(error.to_string());
            }
        };
        match outcome {
            Ok(Ok(Some(status))) => {
                self.end_beside(&spec.container_id, false).await;
                match ExitStatus::from_wait_status(status) {
                    ExitStatus::Code(code) => ProbeOutcome::Exited(code),
                    ExitStatus::Signal(signal) => {
                        ProbeOutcome::Failed(format!("the command was ended by signal {signal}"))
                    }
                    ExitStatus::Unknown => ProbeOutcome::Failed("nobody saw the command end".to_owned()),
                }
            }
            Ok(_) => {
                self.end_beside(&spec.container_id, true).await;
                ProbeOutcome::Failed("the container ended".to_owned())
            }
            Err(late) => {
                self.end_beside(&spec.container_id, true).await;
                ProbeOutcome::Failed(late)
            }
        }
    }

    /// Forgets a command, after ending it if need be.
    async fn end_beside(&self, id: &str, kill: bool) {
        if kill {
            let signal = SignalRequest { container_id: id.to_owned(), signal: Signal::SIGKILL as i32 };
            // Refused: it ended just now.
            let _ = self.client.call_until_answered(Request::Signal(signal)).await;
        }
        for _ in 0..100 {
            match self.forget(id).await {
                Ok(()) => return,
                Err(CallError::Refused(_)) => sleep(STILL_ENDING).await,
                Err(_) => {}
            }
        }
        warn!(container_id = id, "the command of a check does not end");
    }
}
