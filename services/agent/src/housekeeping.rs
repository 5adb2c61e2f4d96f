//! What is looked after beside the loop: the output of tasks, the disk that their sandboxes take, the sandboxes of the
//! past.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use meshos_mesh::Env;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use crate::{
    Config,
    core::{Input, Limitation, LiveSandbox},
    disk,
    gc::{Gc, allowed_age},
    http::Sandboxes,
    rotation::{Looks, Rotation},
    runner::Event,
};

/// Between two looks at the output of tasks that write; see [`Looks`] for the others.
const OUTPUT: Duration = Duration::from_secs(5);

/// Sandboxes of the past, shared between the loop and the collection.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    kept: Arc<Mutex<Kept>>,
    started: Instant,
}

/// What is kept, and what became of the rest.
#[derive(Debug, Default)]
struct Kept {
    gc: Gc,
    removed: u64,
    stayed: u64,
    /// How old a sandbox may become at the moment.
    allowed: Duration,
}

impl Past {
    pub(crate) fn new() -> Self {
        Self { kept: Arc::default(), started: Instant::now() }
    }

    /// For readers: sandboxes that wait for their removal, that were removed, that could not be; and how old one may
    /// become at the moment.
    pub(crate) fn figures(&self) -> ([u64; 3], Duration) {
        let kept = self.lock();
        ([kept.gc.len() as u64, kept.removed, kept.stayed], kept.allowed)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container ended: its sandbox is of the past from now on.
    pub(crate) fn add(&self, sandbox: PathBuf) {
        self.add_aged(sandbox, Duration::ZERO);
    }

    fn add_aged(&self, sandbox: PathBuf, age: Duration) {
        self.lock().gc.add(sandbox, age, self.started.elapsed());
    }

    fn due(&self, allowed: Duration) -> Vec<PathBuf> {
        let kept = &mut *self.lock();
        kept.allowed = allowed;
        kept.gc.due(allowed, self.started.elapsed())
    }

    fn gone(&self, removed: bool) {
        let kept = &mut *self.lock();
        *(if removed { &mut kept.removed } else { &mut kept.stayed }) += 1;
    }
}

/// The agent's flags for it.
#[derive(Clone, Debug)]
struct Rules {
    rotation: Rotation,
    /// Whether and how often the disk use of sandboxes is measured, and whether too much of it ends a task.
    disk: Option<(Duration, bool)>,
    delay: Duration,
    headroom: f64,
    every: Duration,
}

pub(crate) struct Housekeeping {
    env: Env,
    rules: Rules,
    work_dir: PathBuf,
    events: mpsc::Sender<Event>,
    sandboxes: Sandboxes,
    past: Past,
}

impl Housekeeping {
    pub(crate) fn new(
        env: &Env,
        config: &Config,
        (events, sandboxes, past): (mpsc::Sender<Event>, Sandboxes, Past),
    ) -> Self {
        let rules = Rules {
            rotation: Rotation {
                max_stdout: config.max_stdout_size,
                max_stderr: config.max_stderr_size,
                keep_stdout: config.max_rotated_files,
                keep_stderr: config.max_rotated_files,
            },
            disk: config
                .watches_disk()
                .then_some((config.container_disk_watch_interval, config.enforce_container_disk_quota)),
            delay: config.gc_delay,
            headroom: config.gc_disk_headroom,
            every: config.disk_watch_interval,
        };
        Self { env: env.clone(), rules, work_dir: config.work_dir.clone(), events, sandboxes, past }
    }

    /// Works until the agent ends.
    pub(crate) async fn run(self) {
        // Asked before and after they are listed: tasks come and end meanwhile.
        let Some(mut known) = self.in_use().await else { return };
        let (work_dir, now) = (self.work_dir.clone(), self.env.clock.since_epoch());
        let found = on_thread(move || sandboxes(&work_dir, now)).await.unwrap_or_default();
        let Some(after) = self.in_use().await else { return };
        known.extend(after);
        let past = found.into_iter().filter(|(sandbox, _)| !known.contains(sandbox));
        past.for_each(|(sandbox, age)| self.past.add_aged(sandbox, age));
        let (mut output, mut collection) = (ticks(OUTPUT), ticks(self.rules.every));
        let mut looks = Looks::default();
        let mut disks = ticks(self.rules.disk.map_or(Duration::MAX, |(every, _)| every));
        loop {
            let more = tokio::select! {
                biased;
                _ = collection.tick() => {
                    self.collect().await;
                    true
                }
                _ = disks.tick(), if self.rules.disk.is_some() => self.measure().await,
                _ = output.tick() => match self.rotate(std::mem::take(&mut looks)).await {
                    Some(looked) => {
                        looks = looked;
                        true
                    }
                    None => false,
                },
            };
            if !more {
                return;
            }
        }
    }

    /// Sandboxes in use; none when the agent ends.
    async fn live(&self, with_disks: bool) -> Option<Vec<LiveSandbox>> {
        let (reply, live) = oneshot::channel();
        self.events.send(Event::Live { with_disks, reply }).await.ok()?;
        live.await.ok()
    }

    async fn in_use(&self) -> Option<BTreeSet<PathBuf>> {
        let live = self.live(false).await?;
        Some(live.into_iter().map(|sandbox| sandbox.directory).collect())
    }

    async fn rotate(&self, mut looks: Looks) -> Option<Looks> {
        if looks.pass() {
            return Some(looks);
        }
        let live = self.live(false).await?;
        let rules = self.rules.rotation;
        let looked = on_thread(move || {
            looks.begin(&live.iter().map(|sandbox| sandbox.directory.as_path()).collect());
            for sandbox in live.iter().filter(|sandbox| looks.is_due(&sandbox.directory)).collect::<Vec<_>>()
            {
                match sandbox.rotation(rules).apply(&sandbox.directory) {
                    Ok(sizes) => looks.saw(&sandbox.directory, sizes),
                    Err(error) => {
                        warn!(sandbox = %sandbox.directory.display(), %error, "output cannot be rotated");
                    }
                }
            }
            looks
        });
        Some(looked.await.unwrap_or_default())
    }

    async fn measure(&self) -> bool {
        let Some(live) = self.live(true).await else { return false };
        let enforced = self.rules.disk.is_some_and(|(_, enforced)| enforced);
        let exceeded = on_thread(move || live.iter().filter_map(too_large).collect::<Vec<_>>()).await;
        for (container_id, limitation) in exceeded.into_iter().flatten() {
            warn!(
                container_id,
                message = limitation.message,
                enforced,
                "a task uses more disk than it asked for"
            );
            if enforced {
                let input = Input::LimitExceeded { container_id, limitation };
                if self.events.send(Event::Input(input)).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    async fn collect(&self) {
        let work_dir = self.work_dir.clone();
        let used = on_thread(move || disk::used_part(&work_dir)).await.unwrap_or_default();
        let due = self.past.due(allowed_age(self.rules.delay, self.rules.headroom, used));
        if due.is_empty() {
            return;
        }
        info!(sandboxes = due.len(), disk_used = used, "removing sandboxes of the past");
        for sandbox in due {
            self.sandboxes.detach(&sandbox);
            let work_dir = self.work_dir.clone();
            self.past.gone(on_thread(move || remove(&work_dir, &sandbox)).await.unwrap_or_default());
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Work on files, which may block.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|error| warn!(%error, "housekeeping failed")).ok()
}

/// A sandbox, or a volume in it, that takes more disk than its task asked for.
fn too_large(sandbox: &LiveSandbox) -> Option<(String, Limitation)> {
    sandbox.disks.iter().find_map(|quota| {
        let used = disk::usage(&quota.path);
        let limitation = quota.exceeded_by(used)?;
        Some((sandbox.container_id.clone(), limitation))
    })
}

/// Sandboxes of all agents that ever worked here, with the time since they were last changed.
fn sandboxes(work_dir: &Path, now: Duration) -> Vec<(PathBuf, Duration)> {
    let mut level = vec![work_dir.join("slaves")];
    for name in [None, Some("frameworks"), None, Some("executors"), None, Some("runs"), None] {
        level = match name {
            Some(name) => level.iter().map(|dir| dir.join(name)).collect(),
            None => level.iter().flat_map(|dir| directories(dir)).collect(),
        };
    }
    let aged = |sandbox: PathBuf| {
        let changed = sandbox.metadata().ok()?.modified().ok()?;
        let changed = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Some((sandbox, now.saturating_sub(changed)))
    };
    level.into_iter().filter_map(aged).collect()
}

/// Directories in a directory; links are none.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Removes a sandbox, and the directories above it that it leaves empty. Links in it are removed, not followed: a
/// volume stays. Whether it is gone.
fn remove(work_dir: &Path, sandbox: &Path) -> bool {
    match fs::remove_dir_all(sandbox) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            warn!(sandbox = %sandbox.display(), %error, "sandbox cannot be removed");
            return false;
        }
        _ => {}
    }
    if let Some(runs) = sandbox.parent() {
        let latest = runs.join("latest");
        if latest.is_symlink() && !latest.exists() {
            let _ = fs::remove_file(latest);
        }
    }
    let mut above = sandbox.parent();
    while let Some(dir) = above.filter(|dir| dir.starts_with(work_dir) && *dir != work_dir) {
        // Not empty: others are still there.
        if fs::remove_dir(dir).is_err() {
            break;
        }
        above = dir.parent();
    }
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sandboxes_are_found_and_removed_with_what_they_leave_empty() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volumes/roles/r/v");
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join("data"), "precious").unwrap();
        let run = |task: &str, run: &str| {
            dir.path().join(format!("slaves/a/frameworks/f/executors/{task}/runs/{run}"))
        };
        for (task, name) in [("t", "1"), ("t", "2"), ("u", "3")] {
            fs::create_dir_all(run(task, name)).unwrap();
            symlink(&volume, run(task, name).join("data")).unwrap();
        }
        symlink("2", run("t", "latest")).unwrap();
        let now = Duration::from_secs(1 << 33);
        let mut found = sandboxes(dir.path(), now);
        found.sort();
        let paths: Vec<_> = found.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(paths, [run("t", "1"), run("t", "2"), run("u", "3")]);
        assert!(found[0].1 > Duration::from_secs(3600));
        // A clock that went back makes nothing old.
        assert_eq!(sandboxes(dir.path(), Duration::ZERO)[0].1, Duration::ZERO);
        remove(dir.path(), &run("t", "1"));
        assert!(run("t", "latest").exists());
        remove(dir.path(), &run("t", "2"));
        assert!(!run("t", "").exists() && run("u", "3").exists());
        remove(dir.path(), &run("u", "3"));
        assert!(!dir.path().join("slaves").exists());
        assert_eq!(fs::read_to_string(volume.join("data")).unwrap(), "precious");
    }
}
