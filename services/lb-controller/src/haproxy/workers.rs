//! What servers have under way, in the worker and in those before it, which may be slow to answer.

use std::{collections::BTreeMap, io, time::Duration};

use tokio::time::timeout;
use tracing::debug;

use super::{
    files::Files,
    socket::{self, Processes},
};

/// All old workers together have so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Requests and connections under way by backend and server.
pub type Sessions = BTreeMap<(String, String), u32>;

/// What the master says of its processes.
///
/// # Errors
/// When it cannot be reached.
pub async fn processes(files: &Files) -> io::Result<Processes> {
    let answer = socket::ask(&files.master_socket(), "show proc; quit").await?;
    let found = socket::processes(&answer);
    if found.master == 0 { Err(io::Error::other(format!("no master in '{answer}'"))) } else { Ok(found) }
}

/// Of these backends in the worker, by their numbers there; of all when none are named.
///
/// # Errors
/// When it cannot be reached, or does not have one of them.
pub async fn sessions(files: &Files, numbers: Option<&[u32]>) -> io::Result<Sessions> {
    let Some(numbers) = numbers else {
        let answer = socket::ask(&files.stats_socket(), "show stat -1 4 -1").await?;
        return Ok(socket::sessions(&answer));
    };
    let mut all = Sessions::new();
    for number in numbers {
        let answer = socket::ask(&files.stats_socket(), &format!("show stat {number} 4 -1")).await?;
        let mut found = socket::sessions(&answer);
        if found.is_empty() {
            return Err(io::Error::other(format!("no backend {number}")));
        }
        all.append(&mut found);
    }
    Ok(all)
}

/// Gives old workers commands. What one does not have, or its end, is no failure.
pub async fn tell(files: &Files, old: &[u32], commands: &[String]) {
    let told = async {
        for pid in old {
            let prefixed: Vec<String> = commands.iter().map(|command| format!("@!{pid} {command}")).collect();
            if let Err(error) = socket::run(&files.master_socket(), &prefixed).await {
                debug!(pid, %error, "old worker cannot be reached");
            }
        }
    };
    if !commands.is_empty() && timeout(PATIENCE, told).await.is_err() {
        debug!("old workers do not answer");
    }
}

/// Of all backends in old workers together.
///
/// # Errors
/// When one cannot be reached, or does not answer in time.
pub async fn sessions_of_old(files: &Files, old: &[u32]) -> io::Result<Sessions> {
    let asked = async {
        let mut all = Sessions::new();
        for pid in old {
            // A worker that has just ended has nothing.
            let command = format!("@!{pid} show stat -1 4 -1; quit");
            let answer = socket::ask(&files.master_socket(), &command).await?;
            for (server, count) in socket::sessions(&answer) {
                *all.entry(server).or_default() += count;
            }
        }
        Ok(all)
    };
    timeout(PATIENCE, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
