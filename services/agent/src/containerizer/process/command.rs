//! Probes that are commands: children of the supervisor in the cgroups of the container that they look at.

use std::{pin::pin, time::Duration};

use meshos_proto::meshos::agent::v1::{
    SignalRequest, SpawnRequest, supervisor_request::Body as Request, supervisor_response::Body as Response,
};
use nix::sys::signal::Signal;
use tokio::time::timeout;
use tracing::warn;

use super::{
    ProcessContainerizer,
    client::{Answer, CallError},
    probe::late,
};
use crate::containerizer::{ContainerSpec, ExitStatus, ProbeOutcome};

/// Lost connections after which a command is given up.
const ATTEMPTS: u32 = 3;
/// For a command that was killed to be gone.
const ENDING: Duration = Duration::from_secs(5);

impl ProcessContainerizer {
    /// Runs the command to its end, or ends it when its time is over. The supervisor ends it with the container, and
    /// when this agent is gone.
    pub(super) async fn run_beside(
        &self,
        container_id: &str,
        spec: &ContainerSpec,
        limit: Option<Duration>,
    ) -> ProbeOutcome {
        match self.spawn_request(spec).await {
            Ok(request) => self.run_request_beside(container_id, request, limit).await,
            Err(error) => ProbeOutcome::Failed(error.reason()),
        }
    }

    /// As [`Self::run_beside`], for this request.
    pub(in crate::containerizer) async fn run_request_beside(
        &self,
        container_id: &str,
        request: SpawnRequest,
        limit: Option<Duration>,
    ) -> ProbeOutcome {
        let id = request.container_id.clone();
        let cgroups = self.cgroups.as_ref();
        let request = SpawnRequest {
            cgroup_procs: cgroups.map(|cgroups| cgroups.procs(container_id)).unwrap_or_default(),
            shares_cgroups: true,
            // Beside what the task has to say about itself.
            stdout_path: request.stderr_path.clone(),
            transient: true,
            beside: container_id.to_owned(),
            ..request
        };
        let mut answer = pin!(self.ask_to_run(request));
        match limit {
            None => outcome(answer.await),
            Some(limit) => match timeout(limit, &mut answer).await {
                Ok(answer) => outcome(answer),
                Err(_) => {
                    self.kill_beside(&id).await;
                    if timeout(ENDING, answer).await.is_err() {
                        warn!(container_id = id, "the command of a check does not end");
                    }
                    ProbeOutcome::Failed(late(limit))
                }
            },
        }
    }

    /// A command dies with the connection, as in an upgrade of the supervisor: it is run again.
    async fn ask_to_run(&self, request: SpawnRequest) -> Answer {
        for _ in 1..ATTEMPTS {
            match self.client.ask(Request::Spawn(request.clone())).await {
                Err(CallError::Broken) => {}
                answer => return answer,
            }
        }
        self.client.ask(Request::Spawn(request)).await
    }

    async fn kill_beside(&self, id: &str) {
        let signal = SignalRequest { container_id: id.to_owned(), signal: Signal::SIGKILL as i32 };
        // Refused: it ended just now.
        let _ = self.client.call_until_answered(Request::Signal(signal)).await;
    }
}

fn outcome(answer: Answer) -> ProbeOutcome {
    let status = match answer {
        Ok(Response::Exited(child)) => child.wait_status.unwrap_or(crate::supervisor::UNKNOWN_STATUS),
        Ok(_) => return ProbeOutcome::Failed("the supervisor is older than this agent".to_owned()),
        Err(error) => return ProbeOutcome::Failed(error.to_string()),
    };
    match ExitStatus::from_wait_status(status) {
        ExitStatus::Code(code) => ProbeOutcome::Exited(code),
        ExitStatus::Signal(signal) => {
            ProbeOutcome::Failed(format!("the command was ended by signal {signal}"))
        }
        ExitStatus::Unknown => ProbeOutcome::Failed("nobody saw the command end".to_owned()),
    }
}
