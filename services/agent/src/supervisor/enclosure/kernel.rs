//! `/proc` and `/sys` of a container, with what it must not see or change taken out.

use std::path::Path;

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::MsFlags,
    sys::stat::{Mode, SFlag, fstat},
};

use super::{
    Step, failed, mounts,
    syscalls::{NO_DEVICES, NO_EXECUTION, NO_SETUID, READ_ONLY},
    tree::Tree,
};

const STRICT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV);
const STRICT_ATTRIBUTES: u64 = NO_SETUID | NO_EXECUTION | NO_DEVICES | READ_ONLY;

/// Docker's list.
const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const UNCHANGEABLE: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A `/proc` that shows this process's namespace.
pub(super) fn processes(tree: &Tree) -> Step {
    mounts::kind("proc", &tree.directory(Path::new("/proc"))?, STRICT, "")
}

/// A `/sys`, with the container's own cgroups.
pub(super) fn system(tree: &Tree, cgroup_procs: &[String], writable: bool) -> Step {
    let mut flags = STRICT;
    flags.set(MsFlags::MS_RDONLY, !writable);
    mounts::kind("sysfs", &tree.directory(Path::new("/sys"))?, flags, "")?;
    let top = Path::new("/sys/fs/cgroup");
    let Ok(place) = tree.find(top) else { return Ok(()) };
    let directories: Vec<_> = cgroup_procs.iter().filter_map(|file| Path::new(file).parent()).collect();
    let open = |path: &Path| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(path, flags, Mode::empty()).map_err(failed(format!("cannot open {}", path.display())))
    };
    match directories.as_slice() {
        [] => Ok(()),
        [only] if only.join("cgroup.controllers").exists() => {
            mounts::bind(&open(only)?, &place, STRICT_ATTRIBUTES)
        }
        several => {
            mounts::kind("tmpfs", &place, STRICT, "mode=755,size=64k")?;
            for directory in several {
                // `<hierarchy>/<controller>/<root>/<container>`
                let Some(controller) = directory.ancestors().nth(2).and_then(Path::file_name) else {
                    continue;
                };
                let place = tree.directory(&top.join(controller))?;
                mounts::bind(&open(directory)?, &place, STRICT_ATTRIBUTES)?;
            }
            Ok(())
        }
    }
}

/// Hides what tells of the machine, and locks what would change it.
pub(super) fn mask(tree: &Tree) -> Step {
    let null = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed("cannot open /dev/null"))?;
    for path in HIDDEN {
        let place = match tree.find(Path::new(path)) {
            Err(Errno::ENOENT) => continue,
            found => found.map_err(failed(format!("cannot hide {path}")))?,
        };
        let mode = fstat(&place).map_err(failed(format!("cannot hide {path}")))?.st_mode;
        match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => mounts::kind("tmpfs", &place, STRICT | MsFlags::MS_RDONLY, "size=0k")?,
            _ => mounts::bind(&null, &place, 0)?,
        }
    }
    for path in UNCHANGEABLE {
        match tree.find(Path::new(path)) {
            Err(Errno::ENOENT) => {}
            found => {
                let place = found.map_err(failed(format!("cannot lock {path}")))?;
                mounts::bind(&place, &place, STRICT_ATTRIBUTES)?;
            }
        }
    }
    Ok(())
}
