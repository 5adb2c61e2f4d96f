//! What servers have under way, in the worker and in those before it, which may be slow to answer.

use std::{collections::BTreeMap, io, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::timeout;
use tracing::debug;

use super::{
    files::Files,
    socket::{self, Processes},
};

/// So long has each old worker to take commands, and have all together to say what they have under way.
const PATIENCE: Duration = Duration::from_secs(2);
/// Old workers that are told at once: the master serves ten connections, and others need it meanwhile.
const TOGETHER: usize = 4;

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

/// Gives old workers commands. What one does not have, or its end, is no failure; one that does not answer holds
/// nobody else up.
pub async fn tell(files: &Files, old: &[u32], commands: &[String]) {
    if commands.is_empty() {
        return;
    }
    let tell = |pid: u32| async move {
        let prefixed: Vec<String> = commands.iter().map(|command| format!("@!{pid} {command}")).collect();
        match timeout(PATIENCE, socket::run(&files.master_socket(), &prefixed)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(pid, %error, "old worker cannot be reached"),
            Err(_) => debug!(pid, "old worker does not answer"),
        }
    };
    stream::iter(old.iter().copied()).for_each_concurrent(TOGETHER, tell).await;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;

    /// Plays a master whose worker 1 never answers, until all the others have been told.
    async fn told(listener: UnixListener, all: usize) -> BTreeSet<String> {
        let (mut told, mut silent) = (BTreeSet::new(), Vec::new());
        while told.len() < all {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = String::new();
            stream.read_to_string(&mut line).await.unwrap();
            if line.starts_with("@!1 ") {
                silent.push(stream);
            } else {
                told.insert(line);
                stream.write_all(b"\n").await.unwrap();
            }
        }
        assert_eq!(silent.len(), 1);
        told
    }

    #[tokio::test]
    async fn an_old_worker_that_does_not_answer_holds_no_other_one_up() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let listener = UnixListener::bind(files.master_socket()).unwrap();
        let old: Vec<u32> = (1..=9).collect();
        let commands = ["set server b/s1 state maint".to_owned()];
        tokio::select! {
            biased;
            told = told(listener, 8) => assert!(told.contains("@!9 set server b/s1 state maint\n"), "{told:?}"),
            () = tell(&files, &old, &commands) => panic!("it waits for the one that does not answer"),
        }
    }
}
