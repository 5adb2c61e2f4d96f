//! Containers that run, as Mesos counts them: one for each executor, those nested in them, those that stand alone.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1 as pb;

use super::{Api, state::executor_name};
use crate::{
    containerizer::Usage,
    core::{Phase, View, ViewExecutor, ViewFramework, ViewTask, scalar},
};

const BYTES_PER_MB: f64 = 1024.0 * 1024.0;

/// A container that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// Empty where it belongs to no framework, or is nested.
    pub(super) framework_id: String,
    pub(super) executor_id: String,
    pub(super) executor_name: String,
    pub(super) source: String,
    pub(super) container: pb::ContainerId,
    pub(super) pid: Option<u32>,
    /// Empty: the node's own.
    pub(super) networks: Vec<pb::NetworkInfo>,
    /// Processes whose use counts, by the containerizer's name.
    processes: Vec<(String, u32)>,
    resources: Vec<pb::Resource>,
    limits: BTreeMap<String, f64>,
}

/// One for each executor; a command task counts as its own.
pub(super) fn roots(view: &View) -> Vec<Running> {
    let mut found = Vec::new();
    for framework in &view.frameworks {
        let own = framework.tasks.iter().filter(|task| task.task.executor_id.is_none());
        found.extend(own.filter(|task| task.phase == Phase::Running).map(of_task));
        found.extend(framework.executors.iter().map(|executor| of_executor(framework, executor)));
    }
    found
}

/// Those of task groups and of the API below others.
pub(super) fn nested(view: &View) -> Vec<Running> {
    let tasks = view.frameworks.iter().flat_map(|framework| &framework.tasks);
    let members = tasks
        .filter(|task| task.task.executor_id.is_some() && task.has_container && task.phase == Phase::Running);
    let members = members.map(|task| Running {
        networks: task.networks.clone(),
        ..anonymous(&task.container, &task.container_id, task.pid)
    });
    members.chain(of_api(view, false)).collect()
}

/// Those of the API that are below nothing.
pub(super) fn standalone(view: &View) -> Vec<Running> {
    of_api(view, true).collect()
}

fn of_api(view: &View, standalone: bool) -> impl Iterator<Item = Running> {
    let wanted = view
        .nested
        .iter()
        .filter(move |nested| nested.phase == Phase::Running && nested.id.parent.is_none() == standalone);
    wanted.map(|nested| anonymous(&nested.id, &nested.key, nested.pid))
}

fn anonymous(id: &pb::ContainerId, key: &str, pid: Option<u32>) -> Running {
    Running {
        framework_id: String::new(),
        executor_id: String::new(),
        executor_name: String::new(),
        source: String::new(),
        container: id.clone(),
        pid,
        networks: vec![],
        processes: pid.map(|pid| (key.to_owned(), pid)).into_iter().collect(),
        resources: vec![],
        limits: BTreeMap::new(),
    }
}

fn of_task(task: &ViewTask) -> Running {
    let id = &task.task.task_id.value;
    Running {
        framework_id: task.task.framework_id.value.clone(),
        executor_id: id.clone(),
        executor_name: executor_name(id, task.command.as_ref()),
        source: id.clone(),
        networks: task.networks.clone(),
        resources: task.task.resources.clone(),
        limits: task.task.limits.iter().map(|(name, limit)| (name.clone(), limit.value)).collect(),
        ..anonymous(&task.container, &task.container_id, task.pid)
    }
}

fn of_executor(framework: &ViewFramework, executor: &ViewExecutor) -> Running {
    let info = &executor.info;
    let mine = |task: &&ViewTask| {
        task.task.executor_id.as_ref() == Some(&info.executor_id) && task.phase != Phase::Ended
    };
    let tasks: Vec<_> = framework.tasks.iter().filter(mine).collect();
    let mut resources = info.resources.clone();
    resources.extend(tasks.iter().flat_map(|task| task.task.resources.clone()));
    let members = tasks.iter().filter(|task| task.has_container);
    let members = members.filter_map(|task| Some((task.container_id.clone(), task.pid?)));
    let own = executor.pid.map(|pid| (executor.container_id.clone(), pid));
    let id = pb::ContainerId { value: executor.container_id.clone(), parent: None };
    Running {
        framework_id: framework.info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default(),
        executor_id: info.executor_id.value.clone(),
        executor_name: info.name.clone().unwrap_or_default(),
        source: source(info),
        networks: executor.networks.clone(),
        resources,
        processes: own.into_iter().chain(members).collect(),
        ..anonymous(&id, &executor.container_id, executor.pid)
    }
}

#[allow(deprecated, reason = "readers of old still look for it")]
pub(super) fn source(info: &pb::ExecutorInfo) -> String {
    info.source.clone().unwrap_or_default()
}

/// What containers use and may use, in their order.
pub(super) async fn statistics(api: &Api, containers: &[Running]) -> Vec<pb::ResourceStatistics> {
    let processes: Vec<_> = containers.iter().flat_map(|container| container.processes.clone()).collect();
    let mut usages = api.containerizer.usages(&processes).await.into_iter();
    let now = api.now();
    let of_container = |container: &Running| {
        let mut sum = Usage::default();
        for more in usages.by_ref().take(container.processes.len()).flatten() {
            sum.user_seconds += more.user_seconds;
            sum.system_seconds += more.system_seconds;
            sum.memory += more.memory;
            sum.processes += more.processes;
        }
        shown(container, &sum, now)
    };
    containers.iter().map(of_container).collect()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast clamps; resources are not negative"
)]
fn shown(container: &Running, usage: &Usage, now: f64) -> pb::ResourceStatistics {
    let soft = scalar(&container.resources, "mem") * BYTES_PER_MB;
    let limit = container.limits.get("mem").map_or(soft, |limit| limit * BYTES_PER_MB);
    pb::ResourceStatistics {
        timestamp: now,
        cpus_soft_limit: Some(scalar(&container.resources, "cpus")),
        cpus_system_time_secs: Some(usage.system_seconds),
        cpus_user_time_secs: Some(usage.user_seconds),
        mem_limit_bytes: Some(limit as u64),
        mem_soft_limit_bytes: Some(soft as u64),
        mem_rss_bytes: Some(usage.memory),
        processes: u32::try_from(usage.processes).ok(),
        ..pb::ResourceStatistics::default()
    }
}
