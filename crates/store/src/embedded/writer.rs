//! The thread that writes: it takes what is queued, stages it, writes it in one redb transaction, answers.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::core::{Command, Reply};
use super::disk::Disk;
use crate::error::{Error, Result};

/// Commands that wait for the disk; more callers wait for room.
const QUEUE: usize = 1024;
/// Commands that share one fsync.
const GROUP: usize = 256;

#[derive(Debug)]
struct Job {
    command: Command,
    answer: oneshot::Sender<Result<Reply>>,
}

/// The way to the writing thread; waits for the thread's end when dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(disk: Disk, shared: Arc<Shared>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(queue, &disk, &shared))
            .map_err(|error| Error::Disk { why: format!("cannot start its thread: {error}") })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(crate) async fn submit(&self, command: Command) -> Result<Reply> {
        let closed = || Error::Closed { what: "the writer of the embedded store" };
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Job { command, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without a sender the thread writes what is queued and ends; only then the file is free again.
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("store writer panicked");
        }
    }
}

fn run(mut queue: mpsc::Receiver<Job>, disk: &Disk, shared: &Shared) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        let (commands, answers): (Vec<_>, Vec<_>) =
            group.drain(..).map(|job| (job.command, job.answer)).unzip();
        let (replies, effects) = shared.stage(&commands);
        let written = if effects.is_empty() { Ok(()) } else { disk.commit(&effects) };
        if let Err(error) = &written {
            tracing::error!(%error, "store commit failed");
        } else {
            shared.apply(effects);
        }
        for (answer, reply) in answers.into_iter().zip(replies) {
            // A refusal may rest on a command of this group that was not written: all share the error.
            let reply = written.clone().and(reply);
            // A caller that has gone does not want its answer.
            let _ = answer.send(reply);
        }
    }
}
