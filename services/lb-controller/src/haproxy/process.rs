//! HAProxy's processes: started in a session of their own so that they outlive the controller, found again by the
//! next controller, started again when they die.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    files::Files,
    socket::{self, Processes},
    workers,
};
use crate::config::Ownership;

/// How often a HAProxy that is not our child is looked after.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_BESIDE: Duration = Duration::from_millis(100);
/// A master that reloads does not answer for a moment either.
const SILENCE: Duration = Duration::from_secs(1);
/// A start takes well under a second, even with ten thousand apps a few.
const START: Duration = Duration::from_secs(30);
/// Time for an orderly end.
const STOP: Duration = Duration::from_secs(3);

/// The HAProxy that is driven.
#[derive(Debug)]
pub struct Process {
    binary: String,
    ownership: Ownership,
    files: Files,
    child: Option<Child>,
    master: Option<u32>,
    /// One that is not our child does not answer.
    silent_since: Option<Instant>,
}

impl Process {
    #[must_use]
    pub fn new(binary: &str, ownership: Ownership, files: &Files) -> Self {
        Self {
            binary: binary.to_owned(),
            ownership,
            files: files.clone(),
            child: None,
            master: None,
            silent_since: None,
        }
    }

    /// What the master says of its processes.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn processes(&self) -> io::Result<Processes> {
        workers::processes(&self.files).await
    }

    /// Takes over a HAProxy that runs; none when there is none.
    pub async fn attach(&mut self) -> Option<Processes> {
        let found = self.processes().await.ok().filter(|found| found.worker != 0)?;
        self.master = Some(found.master);
        Some(found)
    }

    /// Starts HAProxy and waits until its worker runs. One that is beside is waited for.
    ///
    /// # Errors
    /// What it says when it does not start.
    pub async fn start(&mut self) -> io::Result<Processes> {
        if self.ownership == Ownership::Child {
            self.spawn()?;
        }
        let started = async {
            loop {
                if let Some(found) = self.attach().await {
                    return Ok(found);
                }
                if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                    return Err(io::Error::other(format!(
                        "HAProxy ended with {status}: {}",
                        self.last_words()
                    )));
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(START, started).await {
            Ok(started) => started,
            Err(_) => {
                // It would hold the ports against the next one.
                if let Some(mut child) = self.child.take() {
                    let _ = child.kill().await;
                }
                Err(io::Error::other("HAProxy did not start in time"))
            }
        }
    }

    fn spawn(&mut self) -> io::Result<()> {
        // What it says goes to a file: it outlives whoever reads a pipe.
        let log = File::create(self.files.log())?;
        let mut master = self.files.master_socket().into_os_string();
        master.push(",mode,600");
        let child = Command::new(&self.binary)
            .args(["-W", "-S"])
            .arg(master)
            .arg("-f")
            .arg(self.files.head())
            .arg("-f")
            .arg(self.files.apps())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        if let Some(pid) = child.id() {
            fs::write(self.files.pid(), pid.to_string())?;
        }
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the master is gone.
    pub async fn died(&mut self) {
        if self.ownership == Ownership::Beside {
            // It may live in another space of process ids: what counts is that it answers.
            loop {
                if self.processes().await.is_ok() {
                    self.silent_since = None;
                    sleep(LOOK_BESIDE).await;
                    continue;
                }
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() > SILENCE {
                    break;
                }
                sleep(LOOK).await;
            }
            self.silent_since = None;
            warn!("HAProxy does not answer");
            self.master = None;
            return;
        }
        match (&mut self.child, self.master) {
            (Some(child), _) => {
                let status = child.wait().await;
                warn!(?status, "HAProxy ended");
            }
            (None, Some(pid)) => {
                while Path::new("/proc").join(pid.to_string()).exists() {
                    sleep(LOOK).await;
                }
                warn!(pid, "HAProxy ended");
            }
            (None, None) => {}
        }
        (self.child, self.master) = (None, None);
    }

    /// Has the master read the configuration again. Whether that succeeds shows in [`Process::processes`].
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn reload(&self) -> io::Result<()> {
        socket::ask(&self.files.master_socket(), "reload").await.map(drop)
    }

    /// The end of what HAProxy said.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = fs::read(self.files.log()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(16 * 1024)..]).into_owned();
        let alerts: Vec<&str> = said.lines().filter(|line| line.contains("[ALERT]")).collect();
        let from = alerts.len().saturating_sub(5);
        alerts[from..].join("; ")
    }

    /// Ends HAProxy, if it is ours to end.
    pub async fn stop(&mut self) {
        if self.ownership == Ownership::Beside {
            return;
        }
        let Some(pid) = self.master.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw) else {
            return;
        };
        info!(pid = pid.as_raw(), "stopping HAProxy");
        let gone = || kill(pid, None).is_err();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            // It may be gone by itself.
            let _ = kill(pid, signal);
            let ended = async {
                loop {
                    let reaped =
                        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
                    if reaped || (self.child.is_none() && gone()) {
                        return;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            };
            if tokio::time::timeout(STOP, ended).await.is_ok() {
                break;
            }
        }
        (self.child, self.master) = (None, None);
    }
}
