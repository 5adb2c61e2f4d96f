//! Where a container of the API runs, and as what.

use std::{collections::BTreeMap, path::PathBuf};

use meshos_proto::mesos::v1 as pb;

use super::{NestedLaunch, container_path};
use crate::{
    containerizer::{ContainerSpec, Limits, container::Runtime},
    core::{
        Core, Phase, Settings,
        container::{self, Order},
        environment,
        launch::{bytes, program},
        needs, scalar,
    },
};

/// What a container is made below of.
pub(super) struct Above {
    directory: PathBuf,
    user: Option<String>,
    variables: BTreeMap<String, String>,
    /// The container whose limits hold.
    limited_as: Option<String>,
    /// The container whose files and networks are seen from below, and who runs it; absent: the machine's.
    inside: Option<(String, Runtime)>,
}

impl Core {
    pub(super) fn above(&self, id: &pb::ContainerId) -> Option<Above> {
        if let Some(nested) = self.nested.get(&container_path(id)).filter(|n| n.phase == Phase::Running) {
            let above = match &nested.id.parent {
                Some(parent) => self.above(parent)?,
                None => self.standalone(&container_path(id)),
            };
            return Some(Above { directory: nested.directory.clone(), ..above });
        }
        if let Some((framework_id, task)) = self.task_in(id) {
            let info = &self.frameworks.get(framework_id)?.info;
            let user = task.info.command.as_ref().and_then(|command| command.user.clone());
            return Some(Above {
                directory: task.directory.clone(),
                user: Some(user.unwrap_or_else(|| info.user.clone())),
                variables: environment::of_task(&self.settings, info, task).ok()?,
                limited_as: Some(task.container_id.clone()),
                inside: self
                    .runtime_of(framework_id, task)
                    .map(|runtime| (task.container_id.clone(), runtime)),
            });
        }
        let frameworks = self.frameworks.values();
        let mut executors = frameworks.flat_map(|f| f.executors.values().map(move |e| (f, e)));
        let (framework, executor) =
            executors.find(|(_, executor)| id.parent.is_none() && executor.container_id == id.value)?;
        let agent_id = self.agent_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
        let user = executor.info.command.as_ref().and_then(|command| command.user.clone());
        Some(Above {
            directory: executor.directory.clone(),
            user: Some(user.unwrap_or_else(|| framework.info.user.clone())),
            variables: environment::of_executor(&self.settings, &framework.info, (executor, &agent_id), None)
                .ok()?,
            limited_as: (!executor.is_pod()).then(|| executor.container_id.clone()),
            inside: container::runtime(executor.info.container.as_ref())
                .filter(|_| !executor.is_pod())
                .map(|runtime| (executor.container_id.clone(), runtime)),
        })
    }

    pub(super) fn standalone(&self, key: &str) -> Above {
        Above {
            directory: self.settings.work_dir.join("containers").join(key),
            user: None,
            variables: environment::bare(&self.settings),
            limited_as: None,
            inside: None,
        }
    }
}

/// What to run, or why this agent cannot run it.
pub(super) fn nested_spec(
    settings: &Settings,
    launch: &NestedLaunch,
    key: &str,
    above: Above,
) -> Result<ContainerSpec, String> {
    if container::is_docker(launch.container.as_ref()) {
        return Err(
            "'ContainerInfo.type' must be MESOS: a container of type DOCKER is that of a task or an executor"
                .to_owned(),
        );
    }
    if let Some((container_id, Runtime::Docker)) = &above.inside {
        return Err(format!(
            "container '{container_id}' is run by the Docker Engine, where nothing can be nested: use docker exec"
        ));
    }
    // A terminal and settings of the kernel are what somebody who looks in asks for.
    let plain = launch.container.clone().map(|container| pb::ContainerInfo {
        tty_info: None,
        linux_info: None,
        ..container
    });
    let order = Order {
        info: plain.as_ref(),
        command: launch.command.as_ref(),
        resources: &launch.resources,
        parent: launch.container_id.parent.is_some().then_some(above.directory.as_path()),
    };
    let setup = container::setup(settings, order)?;
    // What looks into a container has that one's rights.
    let setup = setup.filter(|_| above.inside.is_none() || container::runtime(plain.as_ref()).is_some());
    let command = launch.command.as_ref().ok_or("Expecting 'command' to be present")?;
    let (program, argument_zero, arguments) = program(command, setup.as_ref())?;
    let sandbox = match &launch.container_id.parent {
        Some(_) => above.directory.join("containers").join(&launch.container_id.value),
        None => above.directory.clone(),
    };
    let mut variables = above.variables;
    if !launch.is_session {
        for name in ["MESOS_SANDBOX", "MESOS_DIRECTORY"] {
            variables.insert(name.to_owned(), sandbox.display().to_string());
        }
    }
    let shares = launch.resources.is_empty().then_some(above.limited_as).flatten();
    let limit = |name: &str| launch.limits.get(name).copied();
    let environment = environment::with_own(variables, Some(command))?;
    let spec = ContainerSpec {
        container_id: key.to_owned(),
        program,
        argument_zero,
        arguments,
        environment: environment::for_image(environment, &[Some(command)], setup.as_ref()),
        inside: above.inside.filter(|_| setup.is_none()).map(|(container_id, _)| container_id),
        directory: launch.is_session.then_some(above.directory),
        sandbox,
        user: command.user.clone().or(above.user),
        limits: Limits {
            cpus: scalar(&launch.resources, "cpus"),
            cpus_limit: limit("cpus"),
            memory: bytes(scalar(&launch.resources, "mem")),
            memory_limit: match launch.resources.is_empty() {
                true => Some(u64::MAX),
                false => limit("mem").map(bytes),
            },
        },
        beside: shares,
        stdio: launch.stdio.clone(),
        uris: needs::uris(command),
        rlimits: needs::rlimits(plain.as_ref())?,
        ..ContainerSpec::default()
    };
    Ok(container::contain(spec, setup))
}
