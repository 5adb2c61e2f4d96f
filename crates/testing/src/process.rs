//! `meshos local` as a real process.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::{Http, wait::until_blocking};

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(120);

/// How to start a cluster; a data directory can be started on again.
#[derive(Clone, Debug)]
pub struct LocalCluster {
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl LocalCluster {
    /// One agent with free ports.
    #[must_use]
    pub fn new(program: &str, data_dir: &Path) -> Self {
        let listen = |flag: &str| [flag.to_owned(), "127.0.0.1:0".to_owned()];
        let arguments = ["--mesos-listen", "--marathon-listen", "--agent-listen"].map(listen).concat();
        Self {
            program: PathBuf::from(program),
            data_dir: data_dir.to_owned(),
            arguments,
            environment: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// The command that starts it, in an environment without settings of the test's own.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let ours = |name: &OsString| {
            let name = name.to_string_lossy();
            ["MESHOS_", "MESOS_", "MARATHON_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.arg("local").arg("--data-dir").arg(&self.data_dir).args(&self.arguments);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready; its log goes to the test's output.
    #[must_use]
    pub fn start(&self) -> Local {
        self.start_with(|_| ())
    }

    /// As [`LocalCluster::start`], after `change` had its way with the command.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Local {
        let mut command = self.command();
        change(&mut command);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody waits for later lines.
                let _ = sender.send(line);
            }
        });
        let ready = loop {
            match lines.recv_timeout(START) {
                Ok(line) if line.starts_with("meshos ready") => break line,
                Ok(_) => {}
                Err(error) => {
                    let _ = child.kill();
                    panic!("not ready: {error}; exit status {:?}", child.wait());
                }
            }
        };
        Local::new(child, &ready)
    }
}

/// A running cluster; dropping it stops it and its tasks.
#[derive(Debug)]
pub struct Local {
    child: Child,
    pub mesos: Http,
    pub marathon: Http,
    pub agents: Vec<Http>,
}

impl Local {
    fn new(child: Child, ready: &str) -> Self {
        let addresses = |label: &str| -> Vec<Http> {
            let rest = ready.split_once(label).map_or("", |(_, rest)| rest);
            let part = rest.split(',').next().unwrap_or_default();
            part.split_whitespace().filter_map(|url| url.strip_prefix("http://")).map(Http::new).collect()
        };
        let one =
            |label: &str| addresses(label).into_iter().next().unwrap_or_else(|| Http::new("127.0.0.1:1"));
        Self { child, mesos: one("mesos "), marathon: one("marathon "), agents: addresses("agents ") }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`: tasks and their supervisor live on.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill_9(mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a killed child can be waited for");
    }

    /// SIGTERM, then waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal_and_wait()
    }

    fn signal_and_wait(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        until_blocking("meshos ends after SIGTERM", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && !std::thread::panicking() {
            self.signal_and_wait();
        } else {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
    }
}
