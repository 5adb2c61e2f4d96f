//! Named background tasks that shutdown waits for.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, error, warn};

/// Spawns tasks and stops them together. Clones share the set; `child` makes a part that can be stopped alone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A set that stops when this one does, and can be stopped alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), stop: self.stop.child_token() }
    }

    /// Runs `work` until it ends or the set stops. When the set stops the work is dropped at its next await;
    /// work that must finish something first uses [`Tasks::spawn_graceful`]. A panic ends this task alone
    /// and is logged.
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        // On the heap by itself: each future around it would hold it twice, where it came in and where it runs, and
        // there is one for each agent.
        let mut work = Box::pin(work);
        self.begin(name, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => debug!(task = name, "task stopped"),
                () = &mut work => {}
            }
        });
    }

    /// Runs `work` to its end; it watches [`Tasks::stopping`] itself.
    pub fn spawn_graceful<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.begin(name, Box::pin(work));
    }

    fn begin(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::debug_span!("task", task = name);
        // Not a second task that waits for this one: there is one for each agent.
        let guarded = async move {
            // What a panic left half done is dropped with the task; what tasks share, they guard by themselves.
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                error!(task = name, error = text_of(panic.as_ref()), "task panicked");
            }
        };
        #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
        tokio::spawn(self.tracker.track_future(guarded.instrument(span)));
    }

    /// Cancelled once the set stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Asks all tasks to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops all tasks and waits for them. Returns whether they ended within `deadline`.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        if !ended {
            warn!(tasks = self.tracker.len(), "tasks still running at the deadline");
        }
        ended
    }
}

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}
