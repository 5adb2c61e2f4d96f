//! The supervisor becomes another program, with its children.

use std::{os::unix::fs::MetadataExt, path::Path};

use meshos_proto::meshos::agent::v1::{UpgradeRequest, supervisor_request::Body as Request};
use tracing::{info, warn};

use super::ProcessContainerizer;
use crate::containerizer::ContainerizerError;

impl ProcessContainerizer {
    /// Has the supervisor replaced by another program, which keeps its children.
    ///
    /// # Errors
    /// When the supervisor cannot be reached or the program not be executed.
    pub async fn upgrade_supervisor(&self, program: &Path) -> Result<(), ContainerizerError> {
        let program = program.display().to_string();
        let answer = self.client.call(Request::Upgrade(UpgradeRequest { program })).await;
        answer.map_err(|error| self.client.error(&error))?;
        // Until the new program answers.
        self.client.list().await.map(drop).map_err(|error| self.client.error(&error))
    }

    /// A supervisor that an older agent started becomes this agent's program.
    pub(super) async fn bring_supervisor_up_to_date(&self) {
        let program = |pid: &str| {
            let file = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
            Some((file.dev(), file.ino()))
        };
        let theirs = program(&self.client.supervisor().to_string());
        if theirs.is_none() || theirs == program("self") {
            return;
        }
        // Gone from its place, it could not be executed.
        let Some(path) = std::env::current_exe().ok().filter(|path| path.exists()) else { return };
        info!(program = %path.display(), "the supervisor is of another program, upgrading it");
        if let Err(error) = self.upgrade_supervisor(&path).await {
            warn!(%error, "supervisor cannot be upgraded: it goes on as it is");
        }
    }
}
