//! The agent as a process of its own, with its supervisor.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use meshos_mesh::{Env, transport};
use meshos_testing::{Http, Response, ports::free_ports};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    patiently,
    plane::{Link, serve_both},
};
use crate::memory;

/// What takes longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);
/// Where cgroups are: of version 1 those of memory, of version 2 all.
const HIERARCHIES: [&str; 4] =
    ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

/// An agent's machine and control plane.
pub(super) struct Node {
    env: Env,
    dir: TempDir,
    binary: PathBuf,
    registry: String,
    links: mpsc::Receiver<Link>,
    http: Http,
    agent: Option<Child>,
}

impl Node {
    pub(super) async fn new(binary: &Path) -> anyhow::Result<Self> {
        let env = Env::real(transport::tcp());
        let (registry, links) = serve_both(&env).await?;
        let address = format!("127.0.0.1:{}", free_ports(1)?[0]);
        let (dir, binary) = (tempfile::tempdir()?, binary.to_owned());
        Ok(Self { env, dir, binary, registry, links, http: Http::new(address), agent: None })
    }

    fn work_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// Name of the cgroup of all tasks of this node.
    fn cgroup(&self) -> String {
        let name = self.dir.path().file_name().unwrap_or_default();
        format!("meshos-load-{}", name.to_string_lossy().trim_start_matches('.'))
    }

    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        self.start_with("cgroups/cpu,cgroups/mem", &[])
    }

    /// The same, with these isolators and more flags.
    pub(super) fn start_with(&mut self, isolation: &str, flags: &[&str]) -> anyhow::Result<()> {
        let (_, port) = self.http.address.rsplit_once(':').context("an address has a port")?;
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"))?;
        let child = Command::new(&self.binary)
            .args(["agent", "--registry", &self.registry, "--port", port])
            .args(["--resources", "cpus:100000;mem:100000000;disk:100000000"])
            .args(["--isolation", isolation, "--cgroups_root", &self.cgroup()])
            .arg("--work_dir")
            .arg(self.work_dir())
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.binary.display()))?;
        self.agent = Some(child);
        Ok(())
    }

    /// The link of the agent that runs now, accepted.
    pub(super) async fn link(&mut self) -> anyhow::Result<Link> {
        loop {
            let link = patiently("the agent's link", self.links.recv()).await?.context("no more links")?;
            if !link.is_over() {
                link.accept().await?;
                return Ok(link);
            }
        }
    }

    /// `kill -9` of the agent alone.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let mut agent = self.agent.take().context("no agent runs")?;
        agent.kill()?;
        agent.wait()?;
        Ok(())
    }

    /// The agent and its supervisor.
    fn pids(&self) -> Vec<u32> {
        let dir = self.work_dir().display().to_string();
        let agent = self.agent.iter().map(Child::id);
        agent.chain(memory::find(&["supervisor --dir", &dir])).collect()
    }

    /// Proportional memory of both, in bytes.
    pub(super) fn pss(&self) -> anyhow::Result<u64> {
        self.pids().into_iter().map(|pid| memory::pss(pid).context("a process has ended")).sum()
    }

    /// Processor time of both so far.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        self.parts().map(|parts| parts.into_iter().sum())
    }

    /// The same of each, the agent first.
    pub(super) fn parts(&self) -> anyhow::Result<Vec<Duration>> {
        let of = |pid: u32| -> anyhow::Result<Duration> {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
            Ok(nix::time::clock_getcpuclockid(pid)?.now()?.into())
        };
        self.pids().into_iter().map(of).collect()
    }

    pub(super) async fn get(&self, path: &'static str) -> anyhow::Result<Response> {
        let http = self.http.clone();
        Ok(tokio::task::spawn_blocking(move || http.get(path)).await??)
    }

    /// Waits until no task has a process or a cgroup.
    pub(super) async fn emptied(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let groups: usize =
                HIERARCHIES.iter().map(|root| groups(&Path::new(root).join(self.cgroup()))).sum();
            let children = self.pids().get(1).map_or(0, |supervisor| children(*supervisor));
            if groups + children == 0 {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{groups} cgroups and {children} processes are left");
            sleep(PAUSE).await;
        }
    }

    /// The tasks have ended: everything goes.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.emptied().await?;
        self.clear();
        ensure!(self.env.tasks.shutdown(PATIENCE).await, "the control plane does not end");
        Ok(())
    }

    fn clear(&mut self) {
        self.pids().into_iter().filter_map(|pid| i32::try_from(pid).ok()).for_each(kill);
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.wait();
        }
        for root in HIERARCHIES {
            // Tasks of a scenario that failed.
            for group in fs::read_dir(Path::new(root).join(self.cgroup())).into_iter().flatten().flatten() {
                let members = fs::read_to_string(group.path().join("cgroup.procs")).unwrap_or_default();
                members.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(kill);
                let _ = fs::remove_dir(group.path());
            }
            let _ = fs::remove_dir(Path::new(root).join(self.cgroup()));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.clear();
    }
}

fn groups(root: &Path) -> usize {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}

fn children(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().count()
}

fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}
