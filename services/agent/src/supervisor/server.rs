//! The loop: requests, ended children, started children.

mod ends;
mod starts;
mod upgrade;

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use meshos_proto::meshos::agent::v1::{
    Done, Failed, Listed, SignalRequest, SpawnRequest, SupervisorRequest, supervisor_request as request,
    supervisor_response::Body,
};
use nix::{
    fcntl::Flock,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{self, Pid},
};

use super::{
    Error, HANDOVER, SOCKET, connection::Connection, say, socket, sys, table::Table, transient::Transients,
    tree,
};
use crate::{
    procfs::{self, Fate},
    supervisor::UNKNOWN_STATUS,
};

/// A supervisor without children that no agent has been connected to for so long ends.
const IDLE: Duration = Duration::from_secs(600);
/// One that no agent has ever been connected to: another was faster, or the agent is gone.
const UNWANTED: Duration = Duration::from_secs(20);
/// Milliseconds until a signal that a process blocks is looked at again, and how often it is.
const LOOK: u16 = 10;
const LOOKS: u32 = 100;

/// A process between fork and exec.
#[derive(Debug)]
struct Starting {
    request: SpawnRequest,
    pipe: OwnedFd,
    connection: u64,
    id: u64,
}

#[derive(Debug)]
pub(super) struct Server {
    dir: PathBuf,
    lock: Flock<File>,
    listener: UnixListener,
    signals: SignalFd,
    table: Table,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// By pid.
    starting: BTreeMap<i32, Starting>,
    transients: Transients,
    /// Children of a supervisor that died: not ours to wait for. By container.
    adopted: BTreeMap<String, OwnedFd>,
    /// Containers that are killed in place of a signal that did not reach their first process, and that signal.
    in_place_of: BTreeMap<String, i32>,
    /// Signals that first processes of namespaces block for now, and how often they are looked at yet.
    waiting: BTreeMap<(String, i32), u32>,
    idle_since: Option<Instant>,
    stopping: bool,
}

/// What a descriptor in the poll set stands for.
#[derive(Clone, Debug)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    Starting(i32),
    Adopted(String),
}

impl Server {
    /// Takes the directory over.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |what| move |source| Error::Io { what, dir: dir.display().to_string(), source };
        fs::create_dir_all(dir).map_err(failed("cannot make the directory"))?;
        let dir = fs::canonicalize(dir).map_err(failed("cannot use the directory"))?;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&dir, private).map_err(failed("cannot close the directory to others"))?;
        let (listener, lock) = match env::var(HANDOVER) {
            Ok(descriptors) => {
                socket::inherit(&descriptors).map_err(failed("cannot take over the socket"))?
            }
            Err(_) => socket::bind(&dir)?,
        };
        let setup = || -> io::Result<SignalFd> {
            listener.set_nonblocking(true)?;
            prctl::set_child_subreaper(true)?;
            let mut mask = SigSet::empty();
            mask.add(Signal::SIGCHLD);
            mask.thread_block()?;
            Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
        };
        let signals = setup().map_err(failed("cannot set up"))?;
        let table = Table::open(&dir.join("journal")).map_err(failed("cannot read the journal"))?;
        let mut server = Self {
            dir,
            lock,
            listener,
            signals,
            table,
            connections: BTreeMap::new(),
            next_connection: 0,
            starting: BTreeMap::new(),
            transients: Transients::default(),
            adopted: BTreeMap::new(),
            in_place_of: BTreeMap::new(),
            waiting: BTreeMap::new(),
            idle_since: None,
            stopping: false,
        };
        server.adopt();
        Ok(server)
    }

    /// Sorts the journal's living children: own ones (after an upgrade), those of a supervisor that died, and
    /// those that are gone.
    fn adopt(&mut self) {
        for child in self.table.living() {
            let pid = Pid::from_raw(child.pid);
            if !self.table.is_same_process(&child) {
                self.end(&child.container_id, UNKNOWN_STATUS);
            } else if procfs::parent(child.pid) != Some(unistd::getpid().as_raw()) {
                match sys::pidfd(pid) {
                    Ok(fd) => drop(self.adopted.insert(child.container_id, fd)),
                    Err(_) => self.end(&child.container_id, UNKNOWN_STATUS),
                }
            }
        }
    }

    /// Serves until told to stop or idle for long.
    pub(super) fn run(mut self) -> Result<(), Error> {
        say(format_args!("serving {}", self.dir.display()));
        while !self.stopping {
            self.reap();
            for ((container_id, signal), looks) in std::mem::take(&mut self.waiting) {
                self.see_to_end(&container_id, signal, looks);
            }
            let timeout = self.idle_timeout();
            if timeout == Some(Duration::ZERO) {
                say(format_args!("nobody needs this supervisor"));
                break;
            }
            for source in self.ready(timeout) {
                self.handle(source);
            }
            let transients = &self.transients;
            self.connections.retain(|id, connection| {
                if connection.closed {
                    transients.end_of(*id);
                }
                !connection.closed
            });
        }
        // Under the lock: nobody else's socket can stand there yet.
        let _ = fs::remove_file(self.dir.join(SOCKET));
        drop(self.lock);
        Ok(())
    }

    /// How long to wait for work: for ever while somebody needs us.
    #[allow(clippy::disallowed_methods, reason = "the supervisor is a process of its own, never simulated")]
    fn idle_timeout(&mut self) -> Option<Duration> {
        if self.table.has_living() || !self.connections.is_empty() {
            self.idle_since = None;
            return None;
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        let patience = if self.next_connection == 0 { UNWANTED } else { IDLE };
        Some(patience.saturating_sub(since.elapsed()))
    }

    /// Waits for something to do.
    fn ready(&self, timeout: Option<Duration>) -> Vec<Source> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for (id, connection) in &self.connections {
            let write = if connection.wants_to_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN | write));
            sources.push(Source::Connection(*id));
        }
        for (pid, starting) in &self.starting {
            fds.push(PollFd::new(starting.pipe.as_fd(), PollFlags::POLLIN));
            sources.push(Source::Starting(*pid));
        }
        for (container_id, pidfd) in &self.adopted {
            fds.push(PollFd::new(pidfd.as_fd(), PollFlags::POLLIN));
            sources.push(Source::Adopted(container_id.clone()));
        }
        let timeout = timeout
            .map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        let timeout = if self.waiting.is_empty() { timeout } else { LOOK.into() };
        // Interrupted: nothing is ready, the loop comes again.
        let _ = poll(&mut fds, timeout);
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        fds.iter().zip(sources).filter(|(fd, _)| ready(fd)).map(|(_, source)| source).collect()
    }

    fn handle(&mut self, source: Source) {
        match source {
            // Reaping looks at the children themselves; signals of several deaths may have merged.
            Source::Signals => while let Ok(Some(_)) = self.signals.read_signal() {},
            Source::Listener => self.accept(),
            Source::Connection(id) => self.serve(id),
            Source::Starting(pid) => self.finish_start(pid),
            Source::Adopted(container_id) => {
                self.adopted.remove(&container_id);
                self.clean_up_after(&container_id);
                self.end(&container_id, UNKNOWN_STATUS);
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            match Connection::accept(stream) {
                Ok(connection) => {
                    self.connections.insert(self.next_connection, connection);
                    self.next_connection += 1;
                }
                Err(error) => say(format_args!("connection refused: {error}")),
            }
        }
    }

    fn serve(&mut self, connection: u64) {
        let Some(reader) = self.connections.get_mut(&connection) else { return };
        reader.flush();
        for request in reader.receive() {
            self.answer(connection, request);
        }
    }

    fn answer(&mut self, connection: u64, message: SupervisorRequest) {
        let id = message.id;
        let done = |result: Result<(), String>| match result {
            Ok(()) => Body::Done(Done {}),
            Err(message) => Body::Failed(Failed { message }),
        };
        let body = match message.body {
            Some(request::Body::Spawn(spawn)) => match self.spawn(connection, id, spawn) {
                Ok(()) => return,
                Err(message) => Body::Failed(Failed { message }),
            },
            Some(request::Body::Signal(signal)) => done(self.signal(&signal)),
            Some(request::Body::List(_)) => {
                Body::Listed(Listed { children: self.table.all().map(|child| child.to_proto()).collect() })
            }
            Some(request::Body::Forget(forget)) => done(self.forget(&forget.container_id)),
            Some(request::Body::Upgrade(upgrade)) => match self.upgrade(connection, id, &upgrade.program) {
                Ok(()) => return,
                Err(message) => Body::Failed(Failed { message }),
            },
            Some(request::Body::Stop(_)) => done(self.stop()),
            None => Body::Failed(Failed { message: "request is empty or of a newer kind".to_owned() }),
        };
        self.send(connection, id, body);
    }

    fn send(&mut self, connection: u64, id: u64, body: Body) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.send(id, body);
        }
    }

    fn signal(&mut self, request: &SignalRequest) -> Result<(), String> {
        let container_id = &request.container_id;
        let signal = Signal::try_from(request.signal);
        if signal.is_ok_and(|signal| self.transients.signal(container_id, signal)) {
            return Ok(());
        }
        let child = self.table.get(container_id).filter(|child| child.wait_status.is_none());
        let child = child.ok_or_else(|| format!("container '{container_id}' does not run"))?;
        let pid = Pid::from_raw(child.pid);
        tree::signal(pid, &child.cgroup_procs, request.signal)
            .map_err(|error| format!("cannot signal container '{container_id}': {}", error.desc()))?;
        self.see_to_end(container_id, request.signal, LOOKS);
        Ok(())
    }

    /// A signal that the kernel keeps from the first process of a namespace, where it would have ended any other, ends
    /// the container all the same.
    fn see_to_end(&mut self, container_id: &str, signal: i32, looks: u32) {
        let child = self.table.get(container_id).filter(|child| child.wait_status.is_none());
        let Some(child) = child else { return };
        let pid = Pid::from_raw(child.pid);
        match tree::fate(pid, signal) {
            Fate::Heard => {}
            Fate::Waits if looks > 0 => {
                self.waiting.insert((container_id.to_owned(), signal), looks - 1);
            }
            // The agent has patience, and then SIGKILL.
            Fate::Waits => {}
            Fate::Lost => {
                self.in_place_of.entry(container_id.to_owned()).or_insert(signal);
                // It may have ended meanwhile.
                let _ = tree::signal(pid, &child.cgroup_procs, Signal::SIGKILL as i32);
            }
        }
    }

    fn forget(&mut self, container_id: &str) -> Result<(), String> {
        match self.table.get(container_id) {
            Some(child) if child.wait_status.is_none() => {
                Err(format!("container '{container_id}' still runs"))
            }
            _ => {
                let forgotten = self.table.forget(container_id);
                self.note(forgotten);
                Ok(())
            }
        }
    }

    fn stop(&mut self) -> Result<(), String> {
        if self.table.has_living() {
            return Err("children still run".to_owned());
        }
        self.stopping = true;
        Ok(())
    }

    fn note(&self, result: io::Result<()>) {
        if let Err(error) = result {
            say(format_args!("journal in {}: {error}", self.dir.display()));
        }
    }
}
