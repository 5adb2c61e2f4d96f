//! System calls that the standard library does not wrap.
#![allow(unsafe_code, reason = "fork, waitpid and pidfd_open have no safe form")]

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, FcntlArg, FdFlag, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2},
    libc,
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal},
        stat::Mode,
    },
    unistd::{self, ForkResult, Gid, Pid, Uid},
};

use super::enclosure::{self, Plan};

/// With its text a report fits into a pipe at once.
const REPORT: usize = 4096;

/// A process ready to be started: everything that needs memory has been prepared before the fork.
#[derive(Debug)]
pub(super) struct Command {
    /// Paths to try in order.
    pub(super) programs: Vec<CString>,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) directory: CString,
    /// Absent: nothing to read.
    pub(super) stdin: Option<CString>,
    pub(super) stdout: CString,
    pub(super) stderr: CString,
    /// The three are one terminal.
    pub(super) terminal: bool,
    pub(super) cgroups: Vec<CString>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) groups: Vec<Gid>,
    /// `RLIMIT_*`, soft and hard.
    pub(super) limits: Vec<(u32, libc::rlimit)>,
    /// It is killed when this process ends.
    pub(super) dies_with_parent: bool,
    /// What it has of its own.
    pub(super) enclosure: Option<Plan>,
}

/// Why a program does not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) error: Errno,
    /// Of an enclosure that could not be made.
    pub(super) text: String,
}

impl Failure {
    fn at(step: Step) -> impl FnOnce(Errno) -> Self {
        move |error| Self { step, error, text: String::new() }
    }

    fn enclosure(text: String) -> Self {
        Self { step: Step::Enclosure, error: Errno::UnknownErrno, text }
    }

    fn report(&self) -> Vec<u8> {
        let number = (self.error as i32).to_be_bytes();
        let text = self.text.as_bytes();
        let text = &text[..text.len().min(REPORT - 5)];
        [&[self.step as u8], number.as_slice(), text].concat()
    }

    fn from_report(report: &[u8]) -> Option<Self> {
        let (step, rest) = report.split_first()?;
        let (number, text) = rest.split_first_chunk::<4>()?;
        Some(Self {
            step: Step::from_byte(*step),
            error: Errno::from_raw(i32::from_be_bytes(*number)),
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }
}

/// What failed between fork and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Signals = 1,
    Cgroup,
    Session,
    Output,
    Directory,
    User,
    Exec,
    Limits,
    Enclosure,
}

impl Step {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Signals,
            2 => Self::Cgroup,
            3 => Self::Session,
            4 => Self::Output,
            5 => Self::Directory,
            6 => Self::User,
            8 => Self::Limits,
            9 => Self::Enclosure,
            _ => Self::Exec,
        }
    }
}

/// Forks and executes. The descriptor reads as ended once the program runs, or gives a failure
/// ([`failure_from`]).
pub(super) fn start(command: &Command) -> nix::Result<(Pid, OwnedFd)> {
    let (read, write) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    match fork(command)? {
        ForkResult::Parent { child } => Ok((child, read)),
        ForkResult::Child => {
            // The child must not go on as the supervisor, whatever happens.
            let failure = catch_unwind(AssertUnwindSafe(|| become_program(command)));
            let failure = failure.unwrap_or_else(|_| Failure::enclosure("an invariant failed".to_owned()));
            let _ = unistd::write(&write, &failure.report());
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Forks, into the namespaces that the process gets.
fn fork(command: &Command) -> nix::Result<ForkResult> {
    let Some(plan) = &command.enclosure else {
        // SAFETY: this process has one thread, so no lock is held by a thread that the child does not have.
        return unsafe { unistd::fork() };
    };
    // A namespace of processes is entered by children alone: this process's next one, and then no further one.
    let own = match &plan.joins {
        Some(joined) => {
            let own = open("/proc/self/ns/pid", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            setns(joined, CloneFlags::CLONE_NEWPID)?;
            Some(own)
        }
        None => None,
    };
    // SAFETY: as above.
    let forked = unsafe { enclosure::clone(plan.namespaces()) };
    let (Some(own), false) = (own, matches!(forked, Ok(ForkResult::Child))) else { return forked };
    setns(own, CloneFlags::CLONE_NEWPID)?;
    forked
}

/// Reads a start pipe to its end: none when the program runs.
pub(super) fn failure_from(pipe: &OwnedFd) -> Option<Failure> {
    let mut report = [0; REPORT];
    let length = unistd::read(pipe, &mut report).unwrap_or_default();
    Failure::from_report(&report[..length])
}

/// Runs in the child; returns only after a failure.
fn become_program(command: &Command) -> Failure {
    if let Err(failure) = prepare(command) {
        return failure;
    }
    let mut last = Errno::ENOENT;
    for program in &command.programs {
        let error = execute(command, program);
        // As a shell searches PATH: a program that is there but may not be run is the better answer.
        if last != Errno::EACCES {
            last = error;
        }
    }
    Failure::at(Step::Exec)(last)
}

fn execute(command: &Command, program: &CStr) -> Errno {
    if command.enclosure.is_some()
        && let Err(error) = enclosure::check(program)
    {
        return error;
    }
    let Err(error) = unistd::execve(program, &command.arguments, &command.environment);
    error
}

fn prepare(command: &Command) -> Result<(), Failure> {
    let at = Failure::at;
    close_inherited();
    default_signals().map_err(at(Step::Signals))?;
    for path in &command.cgroups {
        join_cgroup(path).map_err(at(Step::Cgroup))?;
    }
    unistd::setsid().map_err(at(Step::Session))?;
    redirect(command).map_err(at(Step::Output))?;
    match &command.enclosure {
        Some(plan) => plan.enter().map_err(Failure::enclosure)?,
        None => unistd::chdir(command.directory.as_c_str()).map_err(at(Step::Directory))?,
    }
    // Raising a hard limit needs the rights that go with the user.
    for (resource, limit) in &command.limits {
        set_limit(*resource, limit).map_err(at(Step::Limits))?;
    }
    match &command.enclosure {
        Some(plan) => plan.confine().map_err(Failure::enclosure)?,
        None => become_user(command).map_err(at(Step::User))?,
    }
    // A change of the user ends it.
    if command.dies_with_parent {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Step::Signals))
    } else {
        Ok(())
    }
}

/// The supervisor blocks SIGCHLD and, as any Rust program, ignores SIGPIPE; others it may have inherited. A
/// program must inherit none of that.
fn default_signals() -> nix::Result<()> {
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: sets the default action, no handler.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Closes at exec what was inherited open from whoever started this process: a pipe that stays open in a
/// process that lives for long keeps its reader waiting.
pub(crate) fn close_inherited() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: takes numbers only, and closes nothing before exec. A kernel that does not know it (before
    // 5.11) leaves things as they are.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
}

fn set_limit(resource: u32, limit: &libc::rlimit) -> nix::Result<()> {
    // SAFETY: reads `limit`, which outlives the call; a number that is no resource is an error.
    Errno::result(unsafe { libc::setrlimit(resource, limit) }).map(drop)
}

fn join_cgroup(path: &CStr) -> nix::Result<()> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // "0" stands for the process that writes it.
    unistd::write(&file, b"0").map(drop)
}

fn redirect(command: &Command) -> nix::Result<()> {
    let stdin = command.stdin.as_deref().unwrap_or(c"/dev/null");
    if command.terminal {
        // The leader of a session without a terminal gets the one that it opens first.
        let terminal = open(stdin, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        unistd::dup2_stdin(&terminal)?;
        unistd::dup2_stdout(&terminal)?;
        return unistd::dup2_stderr(&terminal);
    }
    unistd::dup2_stdin(open(stdin, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)?;
    unistd::dup2_stdout(open_output(&command.stdout)?)?;
    unistd::dup2_stderr(open_output(&command.stderr)?)
}

/// The task's user may own the directories above, so no link is followed.
fn open_output(path: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let how = OpenHow::new().flags(flags).mode(mode).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(AT_FDCWD, path, how) {
        // Before Linux 5.6.
        Err(Errno::ENOSYS) => open(path, flags, mode),
        opened => opened,
    }
}

fn become_user(command: &Command) -> nix::Result<()> {
    if let Some(gid) = command.gid {
        unistd::setgroups(&command.groups)?;
        unistd::setgid(Gid::from_raw(gid))?;
    }
    command.uid.map_or(Ok(()), |uid| unistd::setuid(Uid::from_raw(uid)))
}

/// Takes an ended child off the system's list; its raw wait status.
pub(super) fn reap(pid: Pid) -> nix::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    Errno::result(unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) })?;
    Ok(status)
}

/// A descriptor that becomes readable when the process ends, whoever its parent is.
pub(in crate::supervisor) fn pidfd(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes numbers only; the result is a new descriptor that nobody else owns.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))?;
        Ok(OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(|_| Errno::EBADF)?))
    }
}

/// Takes over a descriptor that the program before this one left open.
pub(super) fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number comes from the handover variable, which only this program sets, right before exec.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    match fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(owned),
        Err(error) => {
            // Not open: closing it would close nothing, or somebody else's.
            let _ = owned.into_raw_fd();
            Err(error.into())
        }
    }
}

/// Leaves a descriptor open over exec, or not.
pub(super) fn keep_over_exec(fd: &impl AsRawFd, keep: bool) -> nix::Result<()> {
    let flags = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    // SAFETY: borrowed for this call, while its owner lives.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd.as_raw_fd()) };
    fcntl(borrowed, FcntlArg::F_SETFD(flags)).map(drop)
}
