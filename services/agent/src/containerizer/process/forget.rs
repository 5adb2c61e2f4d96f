//! Forgetting what has ended, and what may start yet.

use std::time::Duration;

use meshos_proto::meshos::agent::v1::{ForgetRequest, SignalRequest, supervisor_request::Body as Request};
use nix::sys::signal::Signal;
use tokio::time::sleep;
use tracing::warn;

use super::{ProcessContainerizer, client::CallError};

/// Before the second attempt to forget a container that was killed a moment ago; each further one waits twice as long.
const STILL_ENDING: Duration = Duration::from_millis(50);
/// Longest wait between such attempts.
const STILL_ENDING_MAX: Duration = Duration::from_secs(5);

impl ProcessContainerizer {
    pub(super) async fn forget(&self, container_id: &str) -> Result<(), CallError> {
        let request = Request::Forget(ForgetRequest { container_id: container_id.to_owned() });
        self.client.call(request).await.map(drop)
    }

    /// Ends and forgets what a launch without an answer may have started or may start yet, however long the supervisor
    /// takes: it carries requests out in order, so these come after the start.
    pub(super) async fn end_given_up(&self, container_id: &str) -> Result<(), CallError> {
        let signal = Signal::SIGKILL as i32;
        let kill = Request::Signal(SignalRequest { container_id: container_id.to_owned(), signal });
        let mut wait = STILL_ENDING;
        loop {
            match self.client.call_until_answered(kill.clone()).await {
                // Refused: it does not run.
                Ok(_) | Err(CallError::Refused(_)) => {}
                Err(CallError::Timeout) => {
                    warn!(container_id, "supervisor does not answer, killing the container again");
                    continue;
                }
                Err(error @ CallError::Broken) => return Err(error),
            }
            match self.forget(container_id).await {
                Ok(()) => return Ok(()),
                Err(CallError::Refused(_)) => {
                    sleep(wait).await;
                    wait = (wait * 2).min(STILL_ENDING_MAX);
                }
                Err(CallError::Timeout | CallError::Broken) => {}
            }
        }
    }
}
