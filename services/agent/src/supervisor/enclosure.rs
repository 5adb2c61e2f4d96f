//! What a container has of its own: namespaces, a root file system, rights. All of this runs in the child between
//! fork and exec: the supervisor has one thread, so the child may take memory, and needs no other program.
//!
//! Everything in an image and in a sandbox is hostile: paths are resolved by the kernel below the new root
//! (openat2) and used as descriptors only, so no link leads to the machine's files.

mod devices;
mod filter;
mod kernel;
mod mounts;
mod program;
mod rights;
mod root;
mod syscalls;
mod tree;

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use meshos_proto::meshos::agent::v1::{Enclosure, SpawnRequest};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2},
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::stat::{Mode, umask},
    unistd::{self, Gid, Pid},
};

pub(super) use filter::Filter;
pub(super) use program::check;
pub(super) use syscalls::clone;
pub(crate) use syscalls::loopback_up;

/// A step that failed, in words.
pub(super) type Step<T = ()> = Result<T, String>;

/// Says what failed.
fn failed(what: impl std::fmt::Display) -> impl FnOnce(Errno) -> String {
    move |error| format!("{what}: {}", error.desc())
}

/// An enclosure that can be made: what is known before the fork.
#[derive(Debug)]
pub(super) struct Plan {
    enclosure: Enclosure,
    cgroups: Vec<String>,
    directory: String,
    terminal: bool,
    user: (Option<u32>, Option<u32>, Vec<Gid>),
    filter: Option<Filter>,
    /// The process whose namespaces are entered.
    pub(super) joins: Option<OwnedFd>,
}

impl Plan {
    /// `joined` is the first process of the container that it joins.
    ///
    /// # Errors
    /// What the request asks for cannot be.
    pub(super) fn new(request: &SpawnRequest, joined: Option<Pid>) -> Step<Option<Self>> {
        let Some(enclosure) = request.enclosure.clone() else { return Ok(None) };
        let filter = enclosure.rights.as_ref().filter(|rights| rights.seccomp).map(Filter::of).transpose()?;
        let joins = joined.map(super::sys::pidfd).transpose().map_err(failed("the container has ended"))?;
        Ok(Some(Self {
            cgroups: request.cgroup_procs.clone(),
            directory: request.working_directory.clone(),
            terminal: request.terminal,
            user: (request.uid, request.gid, request.groups.iter().copied().map(Gid::from_raw).collect()),
            enclosure,
            filter,
            joins,
        }))
    }

    /// Namespaces that the child is forked into.
    pub(super) fn namespaces(&self) -> CloneFlags {
        // That of cgroups begins where the process is when it is made.
        let later = CloneFlags::CLONE_NEWCGROUP;
        self.wanted().difference(later)
    }

    fn wanted(&self) -> CloneFlags {
        let bits = self.enclosure.namespaces.cast_signed();
        if self.joins.is_some() { CloneFlags::empty() } else { CloneFlags::from_bits_truncate(bits) }
    }

    /// Makes the file system and enters it. Standard streams are open, cgroups are entered.
    pub(super) fn enter(&self) -> Step {
        // Nothing in the container may look into this process while it is still the supervisor's program.
        syscalls::hide_from_others().map_err(failed("cannot hide"))?;
        match &self.joins {
            Some(pidfd) => {
                let namespaces = CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWUTS
                    | CloneFlags::CLONE_NEWIPC
                    | CloneFlags::CLONE_NEWNET
                    | CloneFlags::CLONE_NEWCGROUP;
                setns(pidfd, namespaces).map_err(failed("cannot enter the container"))?;
            }
            None => self.build()?,
        }
        self.enter_directory()
    }

    fn build(&self) -> Step {
        let wanted = self.wanted();
        if wanted.contains(CloneFlags::CLONE_NEWCGROUP) {
            unshare(CloneFlags::CLONE_NEWCGROUP).map_err(failed("cannot make a namespace of cgroups"))?;
        }
        self.connect()?;
        if wanted.contains(CloneFlags::CLONE_NEWUTS) && !self.enclosure.hostname.is_empty() {
            unistd::sethostname(&self.enclosure.hostname).map_err(failed("cannot set the host name"))?;
        }
        if !wanted.contains(CloneFlags::CLONE_NEWNS) {
            return Ok(());
        }
        let mode = umask(Mode::empty());
        match &self.enclosure.root {
            Some(root) => root::enter(root, &self.enclosure, (&self.cgroups, wanted, self.terminal))?,
            None => self.rearrange(wanted)?,
        }
        umask(mode);
        Ok(())
    }

    fn connect(&self) -> Step {
        let path = self.enclosure.network_namespace.as_str();
        if !path.is_empty() {
            let namespace = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
            let entered = namespace.and_then(|fd| setns(fd, CloneFlags::CLONE_NEWNET));
            return entered.map_err(failed(format!("cannot enter the network namespace {path}")));
        }
        match self.wanted().contains(CloneFlags::CLONE_NEWNET) {
            true => syscalls::loopback_up().map_err(failed("cannot bring the loopback interface up")),
            false => Ok(()),
        }
    }

    /// The machine's own file system, with mounts that this container alone sees.
    fn rearrange(&self, wanted: CloneFlags) -> Step {
        // What the machine mounts and unmounts later is seen; what is mounted here is not seen outside.
        propagate(MsFlags::MS_SLAVE)?;
        let tree = tree::Tree::below_links(Path::new("/"))?;
        let sandbox = tree::Tree::without_links(Path::new(&self.enclosure.sandbox_source))?;
        mounts::all(&self.enclosure.mounts, &tree, &sandbox, false)?;
        if wanted.contains(CloneFlags::CLONE_NEWIPC) {
            devices::shared_memory(&tree, self.enclosure.shm_size)?;
        }
        if wanted.contains(CloneFlags::CLONE_NEWPID) {
            kernel::processes(&tree)?;
        }
        Ok(())
    }

    /// Inside by now, so links lead nowhere else. As Docker does, a working directory that is not there is made.
    fn enter_directory(&self) -> Step {
        let directory = self.directory.as_str();
        // No magic link: with the machine's processes in sight /proc leads to its files.
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(AT_FDCWD, directory, how).and_then(unistd::fchdir) {
            Err(Errno::ENOENT) if self.enclosure.root.is_some() => {
                let made = tree::Tree::below_links(Path::new("/"))?.directory(Path::new(directory))?;
                unistd::fchdir(made).map_err(failed(format!("cannot enter {directory}")))
            }
            entered => entered.map_err(failed(format!("cannot enter {directory}"))),
        }
    }

    /// Gives up what the container may not do, and becomes its user. Nothing but the execution follows.
    pub(super) fn confine(&self) -> Step {
        let rights = self.enclosure.rights.clone().unwrap_or_default();
        let (uid, gid, groups) = &self.user;
        rights::confine(&rights, self.filter.as_ref(), (*uid, *gid, groups))
    }
}

fn propagate(how: MsFlags) -> Step {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | how, None::<&str>)
        .map_err(failed("cannot detach the mounts from those of the machine"))
}

/// A path for a descriptor, for calls that take no descriptors. `/proc` is the machine's until the root changes.
fn path_of(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
