//! System calls without a safe wrapper elsewhere.
#![allow(unsafe_code, reason = "clone, mounts by descriptor, prctl and interface flags have no safe form")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::{
    errno::Errno,
    libc,
    sched::CloneFlags,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
    unistd::{ForkResult, Pid},
};

/// As fork(2), into new namespaces.
///
/// # Safety
/// This process must have one thread.
pub(in crate::supervisor) unsafe fn clone(namespaces: CloneFlags) -> nix::Result<ForkResult> {
    let flags = libc::c_long::from(namespaces.bits()) | libc::c_long::from(libc::SIGCHLD);
    // SAFETY: without a stack of its own the child goes on with a copy of this one, as after fork.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    match i32::try_from(pid) {
        Ok(0) => Ok(ForkResult::Child),
        Ok(pid) => Ok(ForkResult::Parent { child: Pid::from_raw(pid) }),
        Err(_) => Err(Errno::ERANGE),
    }
}

/// Others of this user may not trace this process or open what `/proc` shows of it, until it executes a program.
pub(super) fn hide_from_others() -> nix::Result<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// No program that this process executes gives it more rights.
pub(super) fn no_new_privileges() -> nix::Result<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Adds a filter of system calls; there is no way back.
pub(super) fn filter(program: &[seccompiler::sock_filter]) -> nix::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    // Both are the kernel's `struct sock_filter`.
    let pointer = program.as_ptr().cast::<libc::sock_filter>().cast_mut();
    let program = libc::sock_fprog { len: length, filter: pointer };
    // SAFETY: the kernel copies `len` instructions from a slice that outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    Errno::result(done).map(drop)
}

/// A copy of what is mounted at a place, mounted nowhere yet; with what is mounted below it.
pub(super) fn copy_tree(place: impl AsFd, recursive: bool) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH | below;
    // SAFETY: the descriptor is borrowed for the call; the result is a new one that nobody else owns.
    unsafe {
        let fd = Errno::result(libc::syscall(
            libc::SYS_open_tree,
            place.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        ))?;
        Ok(OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(|_| Errno::EBADF)?))
    }
}

/// What mount_setattr(2) takes.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// MOUNT_ATTR_RDONLY
pub(super) const READ_ONLY: u64 = 1;
/// MOUNT_ATTR_NOSUID
pub(super) const NO_SETUID: u64 = 2;
/// MOUNT_ATTR_NODEV
pub(super) const NO_DEVICES: u64 = 4;
/// MOUNT_ATTR_NOEXEC
pub(super) const NO_EXECUTION: u64 = 8;

/// Adds attributes to a mount and all below it; they are kept from the machine's mounts.
pub(super) fn set_attributes(tree: impl AsFd, attributes: u64) -> nix::Result<()> {
    let wanted =
        MountAttributes { set: attributes, clear: 0, propagation: libc::MS_PRIVATE, user_namespace: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the descriptor is borrowed for the call, the structure outlives it and has the size that is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of::<MountAttributes>(),
        )
    };
    Errno::result(done).map(drop)
}

/// Mounts a copied tree over a place.
pub(super) fn attach(tree: impl AsFd, place: impl AsFd) -> nix::Result<()> {
    const FROM_EMPTY_PATH: libc::c_uint = 0x4;
    const TO_EMPTY_PATH: libc::c_uint = 0x40;
    // SAFETY: both descriptors are borrowed for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            place.as_fd().as_raw_fd(),
            c"".as_ptr(),
            FROM_EMPTY_PATH | TO_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop)
}

/// Brings the interface `lo` up.
pub(crate) fn loopback_up() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all bits zero is a value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    // SAFETY: the call reads and writes `request`, which outlives it; the flags are the member that it uses.
    unsafe {
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)).map(drop)
    }
}
