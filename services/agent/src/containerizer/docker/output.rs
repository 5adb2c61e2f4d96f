//! A container's output: followed in the engine's log, written to the sandbox's files.
//!
//! Nothing is lost or doubled when the agent is killed at any point. Before entries are written, it is written down at
//! which entry they begin and how long the file is; whoever follows next sees by the file's length how much of them got
//! there. The engine's log is read from that entry on again.

mod place;
mod sink;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use futures::StreamExt;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, warn};

use super::{
    create::name_of,
    engine::{Engine, EngineError},
};
use place::Entry;
use sink::Sink;

/// Entries that are written together.
const BATCH: usize = 64;
/// Before the log of a container that goes on is asked for again.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(10);

/// Whose output, and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) container_id: String,
    pub(super) sandbox: PathBuf,
    /// Where it is written down how much was taken.
    pub(super) journal: PathBuf,
    /// One stream without bounds between entries.
    pub(super) terminal: bool,
}

/// Follows a container's output until its end; `done` becomes true then.
pub(super) async fn follow(engine: Arc<Engine>, source: Source, done: watch::Sender<bool>) {
    let mut wait = AGAIN;
    loop {
        match once(&engine, &source).await {
            Ok(true) => break,
            Ok(false) => wait = AGAIN,
            Err(Failure::Engine(error)) if error.is_not_found() => break,
            // A log driver that cannot be read.
            Err(Failure::Engine(error @ EngineError::Refused { .. })) => {
                warn!(container_id = source.container_id, %error, "output of a container cannot be read");
                break;
            }
            // The container has put something in the way of its own output.
            Err(Failure::Files(error)) if has_ended(&engine, &source).await.unwrap_or_default() => {
                warn!(container_id = source.container_id, %error, "output of a container cannot be written");
                break;
            }
            Err(failure) => {
                debug!(container_id = source.container_id, %failure, "output of a container waits");
                wait = (wait * 2).min(AGAIN_MAX);
            }
        }
        sleep(wait).await;
    }
    done.send_replace(true);
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("files of the sandbox: {0}")]
    Files(#[from] std::io::Error),
}

/// Follows until the log ends; whether the container has ended as well.
async fn once(engine: &Engine, source: &Source) -> Result<bool, Failure> {
    pass(engine, source, true).await?;
    if !has_ended(engine, source).await? {
        return Ok(false);
    }
    // The engine may end a stream that is followed before the last of it was sent.
    pass(engine, source, false).await?;
    Ok(true)
}

/// Takes what the log has, and what comes if it is followed.
async fn pass(engine: &Engine, source: &Source, follow: bool) -> Result<(), Failure> {
    let mut sink = Sink::open(source)?;
    let options = LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        timestamps: !source.terminal,
        since: sink.since(),
        ..LogsOptions::default()
    };
    let name = name_of(&source.container_id);
    let docker = engine.docker().await?;
    // What is there at once is written at once.
    let mut log = docker.logs(&name, Some(options)).ready_chunks(BATCH);
    while let Some(chunk) = log.next().await {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut broken = None;
        for item in chunk {
            match engine.item(item) {
                Ok(LogOutput::StdErr { message }) => stderr.extend(Entry::parse(message, source.terminal)),
                Ok(output) => stdout.extend(Entry::parse(output.into_bytes(), source.terminal)),
                Err(error) => broken = Some(error),
            }
        }
        sink.stdout.take(stdout)?;
        sink.stderr.take(stderr)?;
        if let Some(error) = broken {
            return Err(error.into());
        }
    }
    Ok(())
}

async fn has_ended(engine: &Engine, source: &Source) -> Result<bool, EngineError> {
    let name = name_of(&source.container_id);
    match engine.call(LOOK, |docker| async move { docker.inspect_container(&name, None).await }).await {
        Ok(inspected) => Ok(!inspected.state.and_then(|state| state.running).unwrap_or_default()),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error),
    }
}
