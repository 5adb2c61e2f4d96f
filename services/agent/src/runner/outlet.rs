//! Where news go.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use meshos_mesh::Feed;
use meshos_proto::meshos::{agent::v1::WatchResponse, allocator::v1::AgentMessage};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{containers::Waiting, executors::Streams};

/// Containers that are being started at the same time.
const STARTING: usize = 16;
/// Connections to look after tasks that are made at the same time, and commands that are run.
const CONNECTING: usize = 4096;
const COMMANDS: usize = 256;
/// Changes that a slow reader of the feed may be behind.
const FEED: usize = 4096;
/// An open link.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) number: u64,
    pub(super) sender: mpsc::Sender<AgentMessage>,
}

/// Where news go.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) link: Option<Linked>,
    /// Updates that the link has no room for yet: at most one for each task.
    pub(super) waiting: VecDeque<AgentMessage>,
    pub(super) executors: Streams,
    pub(super) waiting_for: Waiting,
    pub(super) feed: Feed<WatchResponse>,
    pub(super) revision: u64,
    pub(super) starting: Arc<Semaphore>,
    pub(super) connecting: Arc<Semaphore>,
    pub(super) commands: Arc<Semaphore>,
    /// Containers that are being started, each with what stops that.
    pub(super) launching: BTreeMap<String, CancellationToken>,
    /// Containers that are being cleaned up.
    pub(super) cleaning: usize,
}

impl Default for Outlet {
    fn default() -> Self {
        let starting = Arc::new(Semaphore::new(STARTING));
        Self {
            link: None,
            waiting: VecDeque::new(),
            executors: Streams::default(),
            waiting_for: Waiting::default(),
            feed: Feed::new(FEED),
            revision: 0,
            starting,
            connecting: Arc::new(Semaphore::new(CONNECTING)),
            commands: Arc::new(Semaphore::new(COMMANDS)),
            launching: BTreeMap::new(),
            cleaning: 0,
        }
    }
}
