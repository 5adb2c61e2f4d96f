//! A thread with connections of its own that keeps leases alive: whatever else the process is busy with, and on a
//! machine with more to run than it has processors, it gets its few turns in time.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::EtcdOptions;
use super::link::Link;
use crate::error::Error;
use crate::hold::{hold, silent};
use crate::model::LeaseId;

/// A holder that gives no sign of life for this long has hung, and must not keep others from its place.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Lane {
    runtime: Handle,
    link: Arc<Link>,
    /// The thread ends when this is dropped.
    _goes_on: oneshot::Sender<()>,
}

impl Lane {
    /// Starts the thread.
    pub(super) fn start(endpoints: &[String], options: &EtcdOptions) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let link = {
            // What drives the connections is spawned where they are made.
            let _entered = handle.enter();
            Link::new(endpoints, options.clone()).map_err(io::Error::other)?
        };
        let (goes_on, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("etcd-leases".to_owned()).spawn(move || {
            // The sender says nothing: it is dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { runtime: handle, link: Arc::new(link), _goes_on: goes_on })
    }

    /// As [`crate::Store::hold`].
    pub(super) async fn hold(&self, lease: LeaseId, ttl: Duration) -> Error {
        let (signs, seen) = watch::channel(());
        let link = Arc::clone(&self.link);
        let mut holding = self.runtime.spawn(async move {
            tokio::select! {
                biased;
                error = hold(|| super::keep_alive(&link, lease), ttl) => error,
                () = silence(seen) => silent(ttl),
            }
        });
        loop {
            tokio::select! {
                biased;
                ended = &mut holding => return ended.unwrap_or_else(|_| silent(ttl)),
                // One that was dropped gives no more of them.
                () = sleep((ttl / 4).min(PATIENCE / 4)) => signs.send_replace(()),
            }
        }
    }
}

/// Returns once the holder has hung, or is gone.
async fn silence(mut seen: watch::Receiver<()>) {
    while timeout(PATIENCE, seen.changed()).await.is_ok_and(|sign| sign.is_ok()) {}
}
