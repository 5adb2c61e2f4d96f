//! The runtime API: commands over Unix sockets, and what the answers mean.

use std::{collections::BTreeMap, io, net::IpAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// HAProxy answers within this time, or is taken for dead.
const DEADLINE: Duration = Duration::from_secs(15);
/// Longest line of commands: what HAProxy takes at once is 16 KiB.
const LONGEST_LINE: usize = 8 * 1024;

/// Most answers are shorter.
const ANSWER: usize = 4 * 1024;

/// Runs one line of commands on a fresh connection (an old one would belong to an old worker after a reload).
///
/// # Errors
/// When HAProxy cannot be reached, or does not answer in time.
pub async fn ask(socket: &Path, line: &str) -> io::Result<String> {
    let asked = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        // The master does not close by itself.
        stream.shutdown().await?;
        let mut answer = Vec::with_capacity(ANSWER);
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(DEADLINE, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Runs commands in order, as many at once as fit; all answers together.
///
/// # Errors
/// As [`ask`].
pub async fn ask_all(socket: &Path, commands: &[String]) -> io::Result<String> {
    let mut answers = String::new();
    for line in lines(commands) {
        answers.push_str(&ask(socket, &line).await?);
    }
    Ok(answers)
}

/// As [`ask_all`]; gives back what HAProxy found wrong.
///
/// # Errors
/// As [`ask`].
pub async fn run(socket: &Path, commands: &[String]) -> io::Result<Vec<String>> {
    let answers = ask_all(socket, commands).await?;
    Ok(answers.lines().filter(|line| is_complaint(line)).map(str::to_owned).collect())
}

fn lines(commands: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for command in commands {
        match lines.last_mut() {
            Some(line) if line.len() + command.len() + 1 < LONGEST_LINE => {
                line.push(';');
                line.push_str(command);
            }
            _ => lines.push(command.clone()),
        }
    }
    lines
}

/// Every command answers with a line; those that change addresses say what they changed.
fn is_complaint(line: &str) -> bool {
    let fine = ["IP changed from", "no need to change", "port changed from", "health check port updated"];
    !line.trim().is_empty() && !fine.iter().any(|start| line.starts_with(start))
}

/// A word of a user in a command.
#[must_use]
pub fn escaped(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if c == '\\' || c == ';' || c == ' ' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// What the master says of its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    pub master: u32,
    pub worker: u32,
    /// Still busy with old connections.
    pub old_workers: Vec<u32>,
    pub failed_reloads: u32,
}

/// Reads `show proc`.
#[must_use]
pub fn processes(answer: &str) -> Processes {
    let mut found = Processes::default();
    for line in answer.lines() {
        let mut words = line.split_whitespace();
        let pid = words.next().and_then(|word| word.parse().ok());
        let (Some(pid), Some(kind)) = (pid, words.next()) else { continue };
        match kind {
            "master" => {
                found.master = pid;
                let failed = line.split_once("[failed: ").and_then(|(_, rest)| rest.split(']').next());
                found.failed_reloads = failed.and_then(|count| count.parse().ok()).unwrap_or(0);
            }
            "worker" if found.worker == 0 => found.worker = pid,
            "worker" => found.old_workers.push(pid),
            _ => {}
        }
    }
    found
}

/// A server as HAProxy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Number of the backend, in this worker.
    pub backend: u32,
    pub name: String,
    pub ip: IpAddr,
    pub port: u16,
    pub check_port: u16,
    /// Not in maintenance.
    pub ready: bool,
}

/// Reads `show servers state`: servers by backend.
#[must_use]
pub fn servers(answer: &str) -> BTreeMap<String, Vec<Server>> {
    let mut backends: BTreeMap<String, Vec<Server>> = BTreeMap::new();
    for line in answer.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        if words.len() < 22 {
            continue;
        }
        let (Ok(ip), Ok(port)) = (words[4].parse(), words[18].parse()) else { continue };
        let flags: u32 = words[6].parse().unwrap_or(0);
        backends.entry(words[1].to_owned()).or_default().push(Server {
            backend: words[0].parse().unwrap_or(0),
            name: words[3].to_owned(),
            ip,
            port,
            check_port: words[21].parse().unwrap_or(0),
            ready: flags & 1 == 0,
        });
    }
    backends
}

/// Reads `show stat` of servers: sessions under way by backend and server.
#[must_use]
pub fn sessions(answer: &str) -> BTreeMap<(String, String), u32> {
    let mut sessions = BTreeMap::new();
    for line in answer.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split(',');
        let (Some(backend), Some(server)) = (fields.next(), fields.next()) else { continue };
        let queued = fields.next().and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        let current = fields.nth(1).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        if !server.is_empty() {
            sessions.insert((backend.to_owned(), server.to_owned()), queued + current);
        }
    }
    sessions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let answer = "#<PID>          <type>          <reloads>       <uptime>        <version>\n\
            27825           master          1 [failed: 2]   0d00h00m07s     2.6.12-1+deb12u4\n\
            # workers\n28101           worker          0               0d00h00m00s     2.6.12-1\n\
            # old workers\n27829           worker          1               0d00h00m06s     2.6.12-1\n# programs\n";
        let expected =
            Processes { master: 27825, worker: 28101, old_workers: vec![27829], failed_reloads: 2 };
        assert_eq!(processes(answer), expected);
        let answer = "1\n# be_id be_name srv_id srv_name\n\
            4 a_10000 1 s1 127.0.0.1 2 4 1 1 0 1 0 0 8 0 0 1 - 19999 - 0 0 - - 0\n\
            4 a_10000 2 s2 127.0.0.1 0 5 1 1 7 1 0 0 8 0 0 1 - 2 - 0 0 - - 0\n";
        let found = &servers(answer)["a_10000"];
        assert_eq!((found[0].port, found[0].ready, found[1].ready), (19999, true, false));
        let answer = "# pxname,svname,qcur,qmax,scur\na,s1,1,0,2,3\na,s2,,0,0,3\n";
        let found = sessions(answer);
        assert_eq!(found[&("a".to_owned(), "s1".to_owned())], 3);
        assert_eq!(found[&("a".to_owned(), "s2".to_owned())], 0);
    }

    #[test]
    fn long_batches_are_split_and_words_cannot_end_a_command() {
        let commands = vec!["x".repeat(3000); 6];
        assert_eq!(lines(&commands).len(), 3);
        assert_eq!(escaped("a;b c\\d"), "a\\;b\\ c\\\\d");
    }
}
