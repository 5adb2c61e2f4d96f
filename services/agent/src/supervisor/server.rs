//! The loop: requests, ended children, started children.

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use meshos_proto::meshos::agent::v1::{
    Done, Failed, Listed, SignalRequest, SpawnRequest, Spawned, SupervisorRequest,
    supervisor_request as request, supervisor_response::Body,
};
use nix::{
    errno::Errno,
    fcntl::Flock,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{self, Pid},
};

use super::{Error, HANDOVER, SOCKET, connection::Connection, process, say, socket, sys, table::Table, tree};
use crate::{procfs, supervisor::UNKNOWN_STATUS};

/// A supervisor without children that no agent has been connected to for so long ends.
const IDLE: Duration = Duration::from_secs(600);

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
    /// Children of a supervisor that died: not ours to wait for. By container.
    adopted: BTreeMap<String, OwnedFd>,
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
            adopted: BTreeMap::new(),
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
            let timeout = self.idle_timeout();
            if timeout == Some(Duration::ZERO) {
                say(format_args!("nobody has needed this supervisor for {} s", IDLE.as_secs()));
                break;
            }
            for source in self.ready(timeout) {
                self.handle(source);
            }
            self.connections.retain(|_, connection| !connection.closed);
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
        Some(IDLE.saturating_sub(since.elapsed()))
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

    /// Forks; the answer follows when the program runs or cannot.
    fn spawn(&mut self, connection: u64, id: u64, request: SpawnRequest) -> Result<(), String> {
        let container_id = request.container_id.as_str();
        if container_id.is_empty() || self.table.get(container_id).is_some() {
            return Err(format!("container '{container_id}' exists already or has no id"));
        }
        let command =
            process::command(&request).map_err(|error| format!("container '{container_id}': {error}"))?;
        let (pid, pipe) = sys::start(&command).map_err(|error| format!("cannot fork: {}", error.desc()))?;
        // What is remembered ends with the container.
        let own_cgroups = if request.shares_cgroups { &[][..] } else { &request.cgroup_procs };
        if let Err(error) = self.table.started(container_id, pid.as_raw(), own_cgroups) {
            say(format_args!("journal: {error}"));
        }
        self.starting.insert(pid.as_raw(), Starting { request, pipe, connection, id });
        Ok(())
    }

    fn finish_start(&mut self, pid: i32) {
        let Some(starting) = self.starting.remove(&pid) else { return };
        let body = match sys::failure_from(&starting.pipe) {
            None => Body::Spawned(Spawned { pid }),
            Some((step, error)) => {
                // It never ran: there is no status to remember, and its agent hears of it here.
                let forgotten = self.table.forget(&starting.request.container_id);
                self.note(forgotten);
                Body::Failed(Failed { message: process::failure_text(&starting.request, step, error) })
            }
        };
        self.send(starting.connection, starting.id, body);
    }

    fn signal(&mut self, request: &SignalRequest) -> Result<(), String> {
        let container_id = &request.container_id;
        let child = self.table.get(container_id).filter(|child| child.wait_status.is_none());
        let child = child.ok_or_else(|| format!("container '{container_id}' does not run"))?;
        tree::signal(Pid::from_raw(child.pid), &child.cgroup_procs, request.signal)
            .map_err(|error| format!("cannot signal container '{container_id}': {}", error.desc()))
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

    /// Executes another program in this process: the children stay its children.
    fn upgrade(&mut self, connection: u64, id: u64, program: &str) -> Result<(), String> {
        let failed = |error: Errno| format!("cannot execute '{program}': {}", error.desc());
        unistd::access(program, unistd::AccessFlags::X_OK).map_err(failed)?;
        for pid in self.starting.keys().copied().collect::<Vec<_>>() {
            self.finish_start(pid);
        }
        let keep = |keep| -> nix::Result<()> {
            sys::keep_over_exec(&self.listener, keep)?;
            sys::keep_over_exec(&*self.lock, keep)
        };
        keep(true).map_err(failed)?;
        self.send(connection, id, Body::Done(Done {}));
        let error = self.execute(program);
        // Still here: serve on as before.
        say(format_args!("upgrade failed: {}", failed(error)));
        let _ = sys::keep_over_exec(&self.listener, false);
        let _ = sys::keep_over_exec(&*self.lock, false);
        Ok(())
    }

    fn execute(&self, program: &str) -> Errno {
        let text = |text: &std::ffi::OsStr| CString::new(text.as_bytes()).unwrap_or_default();
        let arguments: Vec<_> = env::args_os().map(|argument| text(&argument)).collect();
        let handover = format!("{HANDOVER}={},{}", self.listener.as_raw_fd(), self.lock.as_raw_fd());
        let mut environment: Vec<_> = env::vars_os()
            .filter(|(name, _)| name != HANDOVER)
            .map(|(name, value)| text(&[name.as_os_str(), value.as_os_str()].join(std::ffi::OsStr::new("="))))
            .collect();
        environment.push(text(handover.as_ref()));
        let Err(error) = unistd::execve(&text(program.as_ref()), &arguments, &environment);
        error
    }

    /// Takes notice of all children that ended.
    fn reap(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, flags) {
            let pid = match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => pid,
                _ => return,
            };
            if self.starting.contains_key(&pid.as_raw()) {
                self.finish_start(pid.as_raw());
            }
            let container_id = self.table.by_pid(pid.as_raw()).map(|child| child.container_id.clone());
            // While the child is not reaped its number, and so its group, cannot be another's.
            if let Some(container_id) = &container_id {
                self.clean_up_after(container_id);
            }
            let Ok(status) = sys::reap(pid) else { return };
            // Others are orphans of a task that fell to us.
            if let Some(container_id) = container_id {
                self.end(&container_id, status);
            }
        }
    }

    /// Kills what a container's first process left behind.
    fn clean_up_after(&self, container_id: &str) {
        if let Some(child) = self.table.get(container_id) {
            // Nothing left is the usual case.
            let _ = tree::signal(Pid::from_raw(child.pid), &child.cgroup_procs, Signal::SIGKILL as i32);
        }
    }

    fn end(&mut self, container_id: &str, wait_status: i32) {
        let ended = self.table.ended(container_id, wait_status);
        match ended {
            Ok(Some(child)) => {
                for connection in self.connections.values_mut() {
                    connection.send(0, Body::Exited(child.to_proto()));
                }
            }
            Ok(None) => {}
            Err(error) => self.note(Err(error)),
        }
    }

    fn note(&self, result: io::Result<()>) {
        if let Err(error) = result {
            say(format_args!("journal in {}: {error}", self.dir.display()));
        }
    }
}
