//! Limits through cgroups, version 1 and 2. The knobs and their numbers are those of the Mesos isolators
//! `cgroups/cpu` and `cgroups/mem`.

mod detect;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use crate::containerizer::Limits;

const MB: u64 = 1024 * 1024;
/// Less than this is not set, as in Mesos.
const MIN_MEMORY: u64 = 32 * MB;
/// In microseconds: the period of the processor quota.
const PERIOD: f64 = 100_000.0;
const MIN_QUOTA: f64 = 1_000.0;
/// An ended cgroup is busy until the kernel has done with its last process.
const REMOVALS: u32 = 50;
/// A cgroup of this age is not being made for a container.
const ORPHAN: Duration = Duration::from_secs(300);
/// Of memory, and of memory with swap.
const HARD_V1: &str = "memory.limit_in_bytes";
const HARD_V2: &str = "memory.max";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// The agent's cgroup flags.
#[derive(Clone, Debug)]
pub struct CgroupSettings {
    pub enabled: bool,
    /// Limit the use of processors.
    pub cpu: bool,
    /// Limit the use of memory.
    pub memory: bool,
    /// Processes and threads that a container may have; none: any number.
    pub max_pids: Option<u64>,
    /// Limit memory and swap together.
    pub limit_swap: bool,
    /// Where cgroups are mounted, usually `/sys/fs/cgroup`.
    pub hierarchy: PathBuf,
    /// Name of the cgroup that holds those of all tasks.
    pub root: String,
    /// Enforce the share of the processors as a quota.
    pub cfs: bool,
}

impl CgroupSettings {
    /// Processors and memory, in the usual place.
    #[must_use]
    pub fn all(root: &str) -> Self {
        Self {
            enabled: true,
            cpu: true,
            memory: true,
            max_pids: None,
            limit_swap: false,
            hierarchy: PathBuf::from("/sys/fs/cgroup"),
            root: root.to_owned(),
            cfs: false,
        }
    }
}

/// A hierarchy that this agent may use.
#[derive(Debug)]
pub(super) struct Cgroups {
    version: Version,
    cfs: bool,
    max_pids: Option<u64>,
    limit_swap: bool,
}

#[derive(Debug)]
enum Version {
    /// Directories of the controllers that are there.
    V1 {
        cpu: Option<PathBuf>,
        memory: Option<PathBuf>,
        pids: Option<PathBuf>,
    },
    V2 {
        root: PathBuf,
        cpu: bool,
        memory: bool,
        pids: bool,
    },
}

impl Cgroups {
    /// Makes the root cgroup, or says why that cannot be.
    pub(super) fn detect(settings: &CgroupSettings) -> Result<Self, String> {
        if !settings.enabled {
            return Err("--isolation names no cgroups isolator".to_owned());
        }
        let version = if settings.hierarchy.join("cgroup.controllers").exists() {
            detect::v2(settings)?
        } else {
            detect::v1(settings)?
        };
        let CgroupSettings { cfs, max_pids, limit_swap, .. } = *settings;
        Ok(Self { version, cfs, max_pids, limit_swap })
    }

    /// For the log.
    pub(super) fn kind(&self) -> String {
        let (version, cpu, memory, pids) = match &self.version {
            Version::V1 { cpu, memory, pids } => ("v1", cpu.is_some(), memory.is_some(), pids.is_some()),
            Version::V2 { cpu, memory, pids, .. } => ("v2", *cpu, *memory, *pids),
        };
        let used = [(cpu, "cpu"), (memory, "memory"), (pids, "pids")];
        let names: Vec<_> = used.into_iter().filter(|(used, _)| *used).map(|(_, name)| name).collect();
        match names.is_empty() {
            true => format!("{version}, processes are tracked and not limited"),
            false => format!("{version} {}", names.join(", ")),
        }
    }

    /// Whether the use of memory is limited.
    pub(super) fn limits_memory(&self) -> bool {
        matches!(&self.version, Version::V1 { memory: Some(_), .. } | Version::V2 { memory: true, .. })
    }

    fn directories(&self, id: &str) -> Vec<PathBuf> {
        match &self.version {
            Version::V1 { cpu, memory, pids } => {
                [cpu, memory, pids].into_iter().flatten().map(|dir| dir.join(id)).collect()
            }
            Version::V2 { root, .. } => vec![root.join(id)],
        }
    }

    fn memory_directory(&self, id: &str) -> Option<PathBuf> {
        match &self.version {
            Version::V1 { memory, .. } => memory.as_ref().map(|dir| dir.join(id)),
            Version::V2 { root, memory, .. } => memory.then(|| root.join(id)),
        }
    }

    /// Files that a process is written into to be limited.
    pub(super) fn procs(&self, id: &str) -> Vec<String> {
        self.directories(id).iter().map(|dir| dir.join("cgroup.procs").display().to_string()).collect()
    }

    /// Makes a container's cgroups with its limits.
    pub(super) fn make(&self, id: &str, limits: &Limits) -> Result<(), String> {
        for dir in self.directories(id) {
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(format!("cannot make cgroup {}: {error}", dir.display()));
                }
                _ => {}
            }
        }
        self.knobs(id, limits).iter().try_for_each(write)
    }

    /// Gives a running container's cgroups other limits. As in Mesos, the memory that it may use at most never
    /// becomes less: the kernel would end processes that did nothing wrong.
    pub(super) fn resize(&self, id: &str, limits: &Limits) -> Result<(), String> {
        let lowers = |(path, value): &(PathBuf, String)| {
            let hard = [HARD_V2, HARD_V1, WITH_SWAP].iter().any(|name| path.ends_with(name));
            let number = |text: &str| text.trim().parse::<i64>().ok().filter(|bytes| *bytes >= 0);
            let now = fs::read_to_string(path).unwrap_or_default();
            hard && number(value).is_some_and(|new| number(&now).is_none_or(|now| new < now))
        };
        let knobs: Vec<_> = self.knobs(id, limits).into_iter().filter(|knob| !lowers(knob)).collect();
        // The kernel wants memory never to be more than memory with swap, so that one rises first.
        let (first, then): (Vec<_>, Vec<_>) =
            knobs.into_iter().partition(|(path, _)| path.ends_with(WITH_SWAP));
        first.iter().chain(&then).try_for_each(write)
    }

    fn knobs(&self, id: &str, limits: &Limits) -> Vec<(PathBuf, String)> {
        let quota = quota(limits, self.cfs);
        let (soft, hard) = memory(limits);
        let mut knobs = Vec::new();
        match &self.version {
            Version::V1 { cpu, memory, pids } => {
                let pids = pids.as_ref().map(|dir| dir.join(id).join("pids.max"));
                knobs.extend(pids.zip(self.max_pids).map(|(path, most)| (path, most.to_string())));
                if let Some(dir) = cpu.as_ref().map(|dir| dir.join(id)) {
                    knobs.push((dir.join("cpu.shares"), (1024.0 * limits.cpus).max(2.0).floor().to_string()));
                    if let Some(quota) = quota {
                        knobs.push((dir.join("cpu.cfs_period_us"), PERIOD.to_string()));
                        knobs.push((
                            dir.join("cpu.cfs_quota_us"),
                            quota.map_or("-1".to_owned(), |q| q.to_string()),
                        ));
                    }
                }
                if let Some(dir) = memory.as_ref().map(|dir| dir.join(id)) {
                    knobs.push((dir.join("memory.soft_limit_in_bytes"), soft.to_string()));
                    let hard = hard.map_or("-1".to_owned(), |bytes| bytes.to_string());
                    knobs.push((dir.join(HARD_V1), hard.clone()));
                    knobs.extend(self.limit_swap.then(|| (dir.join(WITH_SWAP), hard)));
                }
            }
            Version::V2 { root, cpu, memory, pids } => {
                let dir = root.join(id);
                if let Some(most) = self.max_pids.filter(|_| *pids) {
                    knobs.push((dir.join("pids.max"), most.to_string()));
                }
                if *cpu {
                    let weight = (100.0 * limits.cpus).clamp(1.0, 10_000.0).floor();
                    knobs.push((dir.join("cpu.weight"), weight.to_string()));
                    if let Some(quota) = quota {
                        let quota = quota.map_or("max".to_owned(), |q| q.to_string());
                        knobs.push((dir.join("cpu.max"), format!("{quota} {PERIOD}")));
                    }
                }
                if *memory {
                    knobs.push((dir.join("memory.low"), soft.to_string()));
                    knobs.push((dir.join(HARD_V2), hard.map_or("max".to_owned(), |bytes| bytes.to_string())));
                }
            }
        }
        knobs
    }

    /// Whether the kernel killed a process of the container for its use of memory.
    pub(super) fn out_of_memory(&self, id: &str) -> bool {
        let Some(dir) = self.memory_directory(id) else { return false };
        let file = match self.version {
            Version::V1 { .. } => "memory.oom_control",
            Version::V2 { .. } => "memory.events",
        };
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
    }

    /// Removes what an agent that died left in the middle of a launch: cgroups without processes that belong to no
    /// container. Others may use the same root, so new ones are left alone.
    pub(super) fn remove_orphans(&self, known: &BTreeSet<String>) {
        for dir in
            self.directories("").iter().flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten())
        {
            let old =
                dir.metadata().and_then(|metadata| metadata.modified()?.elapsed().map_err(io::Error::other));
            let known = dir.file_name().to_str().is_some_and(|name| known.contains(name));
            if !known && old.is_ok_and(|age| age > ORPHAN) && fs::remove_dir(dir.path()).is_ok() {
                tracing::info!(cgroup = %dir.path().display(), "removed a cgroup that belongs to no container");
            }
        }
    }

    /// Removes a container's cgroups once their processes have ended.
    pub(super) fn remove(&self, id: &str) -> Result<(), String> {
        for dir in self.directories(id) {
            remove(&dir).map_err(|error| format!("cannot remove cgroup {}: {error}", dir.display()))?;
        }
        Ok(())
    }
}

fn write((path, value): &(PathBuf, String)) -> Result<(), String> {
    fs::write(path, value).map_err(|error| format!("cannot write {value} to {}: {error}", path.display()))
}

fn remove(dir: &Path) -> io::Result<()> {
    let mut left = REMOVALS;
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if left > 0 => {
                left -= 1;
                sleep(REMOVAL_PAUSE);
            }
            done => return done,
        }
    }
}

/// In microseconds of a period; the inner none: no limit; the outer none: leave it alone.
fn quota(limits: &Limits, cfs: bool) -> Option<Option<f64>> {
    let cores = limits.cpus_limit.or(cfs.then_some(limits.cpus))?;
    Some(cores.is_finite().then(|| (PERIOD * cores).max(MIN_QUOTA).floor()))
}

/// Soft and hard limit in bytes; none: no limit.
fn memory(limits: &Limits) -> (u64, Option<u64>) {
    let hard = limits.memory_limit.unwrap_or(limits.memory);
    (limits.memory.max(MIN_MEMORY), (hard != u64::MAX).then_some(hard.max(MIN_MEMORY)))
}

#[cfg(test)]
mod tests;
