//! Users of this machine, as asked for not long ago: a question may go to a directory service, and each check of each
//! task asks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{blocking, sandbox};
use crate::containerizer::{ContainerizerError, TaskUser};

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(60);
/// Names that are kept.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Users(Mutex<BTreeMap<String, (Instant, TaskUser)>>);

impl Users {
    /// A user by name, for a container.
    pub(super) async fn find(&self, container_id: &str, name: &str) -> Result<TaskUser, ContainerizerError> {
        if let Some(user) = self.known(name) {
            return Ok(user);
        }
        let wanted = name.to_owned();
        let user = blocking(container_id, move || sandbox::find_user(&wanted)).await?;
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MOST {
            users.clear();
        }
        users.insert(name.to_owned(), (Instant::now(), user.clone()));
        Ok(user)
    }

    fn known(&self, name: &str) -> Option<TaskUser> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(name).filter(|(asked, _)| asked.elapsed() < FRESH).map(|(_, user)| user.clone())
    }
}
