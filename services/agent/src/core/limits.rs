//! What running containers take of the disk, and what follows when it is too much.

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1::{self as pb, environment::variable::Type as VariableType, task_status::Reason};
use meshos_types::Resources;
use tracing::info;

use super::{Core, Phase, kill::SIGKILL, operations::volume_of, task::Task};
use crate::rotation::Rotation;

const MB: f64 = 1024.0 * 1024.0;

/// A limit that a task ran into.
#[derive(Clone, Debug, PartialEq)]
pub struct Limitation {
    pub reason: Reason,
    pub message: String,
    /// What it had.
    pub resources: Vec<pb::Resource>,
}

/// A sandbox in use.
#[derive(Clone, Debug)]
pub struct LiveSandbox {
    pub container_id: String,
    pub directory: PathBuf,
    /// What it may take of disks.
    pub disks: Vec<DiskQuota>,
    /// What the task itself wants of the rotation of its output.
    own: OwnRotation,
}

/// How large a directory may become.
#[derive(Clone, Debug)]
pub struct DiskQuota {
    pub path: PathBuf,
    resources: Vec<pb::Resource>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct OwnRotation {
    max_stdout: Option<u64>,
    max_stderr: Option<u64>,
    keep_stdout: Option<u32>,
    keep_stderr: Option<u32>,
}

impl LiveSandbox {
    /// The agent's rules, as far as the task has none of its own.
    #[must_use]
    pub fn rotation(&self, rules: Rotation) -> Rotation {
        Rotation {
            max_stdout: self.own.max_stdout.unwrap_or(rules.max_stdout),
            max_stderr: self.own.max_stderr.unwrap_or(rules.max_stderr),
            keep_stdout: self.own.keep_stdout.unwrap_or(rules.keep_stdout),
            keep_stderr: self.own.keep_stderr.unwrap_or(rules.keep_stderr),
        }
    }
}

impl DiskQuota {
    /// What to tell of a directory that takes so many bytes; none if it may.
    #[must_use]
    pub fn exceeded_by(&self, used: u64) -> Option<Limitation> {
        let mb = |bytes: u64| bytes.div_ceil(1024 * 1024);
        (used > self.bytes).then(|| Limitation {
            reason: Reason::ContainerLimitationDisk,
            message: format!("Disk usage ({}MB) exceeds quota ({}MB)", mb(used), mb(self.bytes)),
            resources: self.resources.clone(),
        })
    }
}

impl Core {
    /// Sandboxes of all containers that run; with what they may take of disks, if that is asked for.
    #[must_use]
    pub fn live_sandboxes(&self, with_disks: bool) -> Vec<LiveSandbox> {
        let tasks = self.frameworks.values().flat_map(|framework| framework.tasks.values());
        let live = tasks.filter(|task| task.phase != Phase::Ended && task.home.has_container());
        let mut sandboxes: Vec<_> = live.map(|task| self.live_sandbox(task, with_disks)).collect();
        sandboxes.extend(self.executor_sandboxes());
        sandboxes
    }

    fn live_sandbox(&self, task: &Task, with_disks: bool) -> LiveSandbox {
        LiveSandbox {
            container_id: task.container_id.clone(),
            directory: task.directory.clone(),
            disks: if with_disks { disks(&self.settings.work_dir, task) } else { Vec::new() },
            own: own_rotation(task.info.command.as_ref()),
        }
    }

    /// Those of executors. Their disk is not looked after: it is their tasks' as well.
    fn executor_sandboxes(&self) -> Vec<LiveSandbox> {
        let executors = self.frameworks.values().flat_map(|framework| framework.executors.values());
        let sandbox = |executor: &super::executor::Executor| LiveSandbox {
            container_id: executor.container_id.clone(),
            directory: executor.directory.clone(),
            disks: Vec::new(),
            own: own_rotation(executor.info.command.as_ref()),
        };
        executors.map(sandbox).collect()
    }

    /// A task took more than it may: it ends.
    pub(super) fn limit_exceeded(&mut self, container_id: &str, limitation: Limitation) {
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        let Some(task) = self.task_mut(&key).filter(|task| task.phase == Phase::Running) else { return };
        info!(task_id = %key.task_id, framework_id = %key.framework_id, message = limitation.message, "limit exceeded");
        task.limitation = Some(limitation);
        self.signal(&key, SIGKILL);
    }
}

/// The sandbox and each persistent volume have a size of their own.
fn disks(work_dir: &Path, task: &Task) -> Vec<DiskQuota> {
    let resources = Resources::from_proto(&task.info.resources).unwrap_or_default();
    let mut quotas = Vec::new();
    let mut of_sandbox = Vec::new();
    for (resource, given) in resources.iter().zip(&resources.to_proto(meshos_types::Format::PostRefinement)) {
        if given.name != "disk" {
            continue;
        }
        match volume_of(work_dir, resource) {
            Some(volume) => quotas.push(quota(volume.path, vec![given.clone()])),
            None => of_sandbox.push(given.clone()),
        }
    }
    if !of_sandbox.is_empty() {
        quotas.push(quota(task.directory.clone(), of_sandbox));
    }
    quotas
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast clamps; resources are not negative"
)]
fn quota(path: PathBuf, resources: Vec<pb::Resource>) -> DiskQuota {
    let bytes = (super::scalar(&resources, "disk") * MB) as u64;
    DiskQuota { path, resources, bytes }
}

/// The variables of Mesos's logrotate logger.
fn own_rotation(command: Option<&pb::CommandInfo>) -> OwnRotation {
    let variables = command.and_then(|command| command.environment.as_ref());
    let mut own = OwnRotation::default();
    for variable in variables.iter().flat_map(|environment| &environment.variables) {
        let value =
            variable.value.as_deref().filter(|_| variable.r#type != Some(VariableType::Secret as i32));
        let Some(value) = value else { continue };
        match variable.name.as_str() {
            "CONTAINER_LOGGER_MAX_STDOUT_SIZE" => own.max_stdout = crate::config::parse_bytes(value).ok(),
            "CONTAINER_LOGGER_MAX_STDERR_SIZE" => own.max_stderr = crate::config::parse_bytes(value).ok(),
            "CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS" => own.keep_stdout = kept(value),
            "CONTAINER_LOGGER_LOGROTATE_STDERR_OPTIONS" => own.keep_stderr = kept(value),
            _ => {}
        }
    }
    own
}

/// `rotate N` among options of logrotate(8).
fn kept(options: &str) -> Option<u32> {
    let mut words = options.split_whitespace();
    words.find(|word| *word == "rotate")?;
    words.next()?.parse().ok().filter(|count| *count <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_its_own_rotation() {
        let variable = |name: &str, value: &str| pb::environment::Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..pb::environment::Variable::default()
        };
        let variables = vec![
            variable("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "5MB"),
            variable("CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS", "compress\nrotate 3\n"),
            variable("CONTAINER_LOGGER_MAX_STDERR_SIZE", "much"),
        ];
        let command = pb::CommandInfo {
            environment: Some(pb::Environment { variables }),
            ..pb::CommandInfo::default()
        };
        let own = own_rotation(Some(&command));
        assert_eq!((own.max_stdout, own.keep_stdout), (Some(5 << 20), Some(3)));
        assert_eq!((own.max_stderr, own.keep_stderr), (None, None));
    }
}
