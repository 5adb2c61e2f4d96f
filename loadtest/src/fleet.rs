//! Simulated agents: child processes that speak the agents' protocol and run no task.

mod agent;
pub(crate) mod child;
mod report;
mod serve;
mod tasks;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub(crate) use report::{Report, id_sum};

use crate::{arguments::Arguments, cluster::Sample};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Agents in child processes.
#[derive(Debug)]
pub(crate) struct Fleets {
    fleets: Vec<Fleet>,
    agents: usize,
}

#[derive(Debug)]
struct Fleet {
    child: Child,
    report: watch::Receiver<Report>,
}

impl Fleets {
    /// Starts the processes; the agents wait for [`Fleets::go`].
    pub(crate) fn start(arguments: &Arguments, registry: &str) -> anyhow::Result<Self> {
        let count = arguments.fleets.clamp(1, arguments.agents.max(1));
        let mut fleets = Vec::new();
        for number in 0..count {
            let agents = arguments.agents / count + usize::from(number < arguments.agents % count);
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["fleet", "--registry", registry, "--agents", &agents.to_string()]);
            command.args(["--number", &number.to_string(), "--streams", &arguments.streams.to_string()]);
            if arguments.one_update {
                command.arg("--one-update");
            }
            if let Some(ports) = arguments.serve {
                command.args(["--serve", &ports.to_string()]);
                if arguments.listen_each {
                    command.arg("--listen-each");
                }
            }
            fleets.push(Fleet::start(command)?);
        }
        Ok(Self { fleets, agents: arguments.agents })
    }

    /// The agents register.
    pub(crate) fn go(&mut self) -> anyhow::Result<()> {
        self.tell("go")
    }

    /// All running tasks finish.
    pub(crate) fn finish_tasks(&mut self) -> anyhow::Result<()> {
        self.tell("finish")
    }

    /// A task dies with all its connections.
    pub(crate) fn fail_task(&mut self, id: &str) -> anyhow::Result<()> {
        self.tell(&format!("fail {id}"))
    }

    fn tell(&mut self, command: &str) -> anyhow::Result<()> {
        for fleet in &mut self.fleets {
            let stdin = fleet.child.stdin.as_mut().context("a fleet without input")?;
            writeln!(stdin, "{command}")?;
            stdin.flush()?;
        }
        Ok(())
    }

    /// What all fleets say, added up.
    pub(crate) fn report(&self) -> Report {
        self.fleets.iter().fold(Report::default(), |sum, fleet| sum.plus(&fleet.report.borrow()))
    }

    /// Waits for a report.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> anyhow::Result<Report> {
        let started = Instant::now();
        loop {
            let report = self.report();
            if wanted(&report) {
                return Ok(report);
            }
            if started.elapsed() > PATIENCE
                || self.fleets.iter().any(|fleet| fleet.report.has_changed().is_err())
            {
                bail!("agents: {what}: {report:?}");
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until all agents are linked to a leader newer than `epoch`; the Unix time in microseconds at which the
    /// last one was.
    pub(crate) async fn linked_after(&self, epoch: u64) -> anyhow::Result<u64> {
        let all = |report: &Report| report.epoch > epoch && report.linked == self.agents;
        Ok(self.until("not all are linked", all).await?.linked_at_us)
    }

    pub(crate) fn usage(&self) -> Sample {
        let names: Vec<String> = (0..self.fleets.len()).map(|number| format!("fleet-{number}")).collect();
        Sample::of(names.iter().map(String::as_str).zip(self.fleets.iter().map(|fleet| fleet.child.id())))
    }
}

impl Fleet {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("a fleet without output")?;
        let (sender, report) = watch::channel(Report::default());
        // Ends with the child.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(report) = Report::parse(&line) {
                    sender.send_replace(report);
                }
            }
        });
        Ok(Self { child, report })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
