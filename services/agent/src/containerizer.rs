//! What runs tasks: one trait, an implementation per kind of container, one conformance suite for all.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod container;
pub mod docker;
mod lines;
pub(crate) mod netns;
pub mod oci;
pub mod process;
pub mod router;
pub mod runtimes;
#[cfg(any(test, feature = "test-util"))]
pub mod sim;
pub mod tmpfs;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

pub use self::container::{ContainerSetup, NetworkStatus};
use crate::fetcher::FetchUri;

/// What was fetched for tasks since the agent started, and what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetches {
    /// Tasks that got all their files.
    pub succeeded: u64,
    pub failed: u64,
    /// Bytes that the cache may take, and takes.
    pub cache_size: u64,
    pub cache_used: u64,
}

/// Containers whose use is asked for at the same time.
const AT_ONCE: usize = 8;

/// A containerizer that the parts of an agent share.
pub type SharedContainerizer = Arc<dyn Containerizer>;

/// Everything that a container needs to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSpec {
    /// Unique on this agent.
    pub container_id: String,
    /// A path, or a name that is looked for on the environment's PATH.
    pub program: String,
    /// What the program is told as its own name.
    pub argument_zero: String,
    /// Without the program's own name.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory, made by `prepare`; `stdout` and `stderr` lie in it.
    pub sandbox: PathBuf,
    /// Absent: the agent's own.
    pub user: Option<String>,
    pub limits: Limits,
    /// Persistent volumes: where they are, and where in the sandbox they are to be found.
    pub volumes: Vec<(PathBuf, PathBuf)>,
    /// It is one of several that share a sandbox.
    pub within: Option<Within>,
    /// Where the program begins; absent: in the sandbox.
    pub directory: Option<PathBuf>,
    /// The container whose limits hold for this one, too; absent: its own.
    pub beside: Option<String>,
    /// Absent: nothing is read, and what is written goes to files in the sandbox.
    pub stdio: Option<Stdio>,
    /// What is brought into the sandbox before the start.
    pub uris: Vec<FetchUri>,
    /// `RLIMIT_*`, soft and hard limit; absent: unlimited.
    pub rlimits: Vec<Rlimit>,
    /// Absent: a plain process.
    pub container: Option<Box<ContainerSetup>>,
    /// The running container that this one looks into: it sees that one's files and networks. Absent: the machine's.
    pub inside: Option<String>,
}

impl ContainerSpec {
    /// Whether files or an image are brought before the start, which may take its time.
    #[must_use]
    pub fn needs_files(&self) -> bool {
        !self.uris.is_empty() || self.container.is_some()
    }
}

/// The shared sandbox that a container's own lies in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Within {
    pub sandbox: PathBuf,
    /// Where in it a link leads to the container's own sandbox.
    pub link: PathBuf,
    /// Directories of the shared sandbox, made if need be, and where in the container's own they are to be found.
    pub shared: Vec<(PathBuf, PathBuf)>,
}

/// What a container reads and writes: named pipes, or one terminal three times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    pub stdin: PathBuf,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    pub terminal: bool,
}

/// A limit of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*`
    pub resource: u32,
    /// Absent: unlimited.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// One look at whether a container does its work.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub container_id: String,
    pub kind: ProbeKind,
    /// None: for ever.
    pub timeout: Option<Duration>,
}

/// How to look.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// Runs beside the container: in its sandbox, within its limits.
    Command(Box<ContainerSpec>),
    /// Asks what listens on a port of the container; redirects are followed, certificates not looked at.
    Http {
        tls: bool,
        v6: bool,
        port: u16,
        path: String,
    },
    Tcp {
        v6: bool,
        port: u16,
    },
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The command ended with this status.
    Exited(i32),
    /// The status of the HTTP answer.
    Status(u16),
    Connected(bool),
    /// Nothing, and why.
    Failed(String),
}

/// A user of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, the first one too.
    pub groups: Vec<u32>,
}

impl TaskUser {
    /// Whether the user may read a file of this owner, group and mode.
    #[must_use]
    pub fn may_read(&self, owner: u32, group: u32, mode: u32) -> bool {
        self.may(0o4, (owner, group), mode)
    }

    /// Whether the user may reach what lies in a directory of this owner, group and mode.
    #[must_use]
    pub fn may_search(&self, owner: u32, group: u32, mode: u32) -> bool {
        self.may(0o1, (owner, group), mode)
    }

    fn may(&self, what: u32, (owner, group): (u32, u32), mode: u32) -> bool {
        let shift = match () {
            () if self.uid == 0 => return true,
            () if self.uid == owner => 6,
            () if self.gid == group || self.groups.contains(&group) => 3,
            () => 0,
        };
        mode & (what << shift) != 0
    }
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Share of the processors, in cores.
    pub cpus: f64,
    /// Never more than this, in cores; infinite: no limit.
    pub cpus_limit: Option<f64>,
    /// Bytes that are reserved.
    pub memory: u64,
    /// Bytes that may be used at most; absent: `memory`; `u64::MAX`: no limit.
    pub memory_limit: Option<u64>,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How the process ended.
    pub status: ExitStatus,
    /// The kernel killed it because it used more memory than it may.
    pub out_of_memory: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// While nobody was there to see it.
    Unknown,
}

impl ExitStatus {
    /// Reads what `waitpid` gives; negative: unknown.
    #[must_use]
    pub fn from_wait_status(raw: i32) -> Self {
        if raw < 0 {
            return Self::Unknown;
        }
        match raw & 0x7f {
            0 => Self::Code((raw >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }
}

/// A container ended; nobody asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub container_id: String,
    pub exit: Exit,
}

/// A container that was there before this agent process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub container_id: String,
    pub pid: u32,
    /// Absent while it runs.
    pub exit: Option<Exit>,
}

/// What a container uses at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// Resident memory in bytes.
    pub memory: u64,
    pub processes: u64,
}

/// Why a container could not be made, started, reached or cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum ContainerizerError {
    #[error("container {container_id}: {reason}")]
    Container { container_id: String, reason: String },
    #[error("supervisor in {dir}: {reason}")]
    Supervisor { dir: String, reason: String },
}

impl ContainerizerError {
    /// An error about one container.
    pub fn container(container_id: &str, reason: impl fmt::Display) -> Self {
        Self::Container { container_id: container_id.to_owned(), reason: reason.to_string() }
    }

    /// The reason alone, for a status message.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Container { reason, .. } => reason.clone(),
            Self::Supervisor { .. } => self.to_string(),
        }
    }
}

/// Runs containers. Every call may be repeated: what has been done already succeeds again.
#[async_trait]
pub trait Containerizer: Send + Sync + fmt::Debug + 'static {
    /// Containers that ended, from this call on. Call it before [`Containerizer::recover`], so that none is
    /// missed; one may then be told of twice.
    fn events(&self) -> BoxStream<'static, Ended>;

    /// All containers there are: running ones, and ended ones that were not cleaned up.
    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError>;

    /// Brings what takes long before [`Containerizer::prepare`]. Dropped before it is done, it stops.
    async fn bring(&self, _spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        Ok(())
    }

    /// Makes the sandbox and whatever else must be there before the start.
    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError>;

    /// Brings what the container needs into its sandbox. Dropped before it is done, it stops.
    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError>;

    /// Starts a prepared container; returns its process id once the program runs.
    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError>;

    /// Gives a running container other limits; it does nothing where limits are not enforced.
    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError>;

    /// Sends a signal to all processes of a container. One that has ended is no error.
    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError>;

    /// Looks once whether a container does its work, within the probe's own time.
    async fn probe(&self, probe: &Probe) -> ProbeOutcome;

    /// Forgets an ended container; its sandbox stays.
    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError>;

    /// What a running container uses; none when it cannot be told.
    async fn usage(&self, container_id: &str, pid: u32) -> Option<Usage>;

    /// The same of many, in their order.
    async fn usages(&self, containers: &[(String, u32)]) -> Vec<Option<Usage>> {
        let each = containers.iter().map(|(container_id, pid)| self.usage(container_id, *pid));
        stream::iter(each.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
    }

    /// Where a running container is reached; nothing: at the machine's own addresses.
    async fn network(&self, _container_id: &str) -> NetworkStatus {
        NetworkStatus::default()
    }

    /// What was fetched for tasks.
    fn fetches(&self) -> Fetches {
        Fetches::default()
    }

    /// What keeps it from doing its work at the moment, one line each.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes images that no container uses, but for those of these names.
    async fn prune_images(&self, _excluded: &[String]) {}

    /// Ends what runs beside the agent for its containers, unless there still are some.
    async fn stop(&self);
}

/// Where the output of a sandbox goes.
#[must_use]
pub fn output_paths(sandbox: &Path) -> (PathBuf, PathBuf) {
    (sandbox.join("stdout"), sandbox.join("stderr"))
}
