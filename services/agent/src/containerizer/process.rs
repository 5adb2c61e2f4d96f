//! Containers that are plain process trees of this machine, limited by cgroups where that is permitted. The
//! processes are children of the agent's [supervisor](crate::supervisor).

mod cgroups;
mod client;
mod launcher;
mod sandbox;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use meshos_mesh::{Env, Tasks};
use meshos_proto::meshos::agent::v1::{
    ForgetRequest, SignalRequest, SpawnRequest, UpgradeRequest, supervisor_request::Body as Request,
    supervisor_response::Body as Response,
};
use nix::sys::signal::Signal;
use tokio::time::sleep;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{info, warn};

pub use cgroups::CgroupSettings;
use cgroups::Cgroups;
use client::{CallError, Client};
pub use launcher::SupervisorProgram;

use super::{
    ContainerSpec, Containerizer, ContainerizerError, Ended, Exit, ExitStatus, Recovered, Usage, output_paths,
};
use crate::{config::Config, procfs};

/// Before the second attempt to forget a container that was killed a moment ago; each further one waits twice as long.
const STILL_ENDING: Duration = Duration::from_millis(50);
/// Longest wait between such attempts.
const STILL_ENDING_MAX: Duration = Duration::from_secs(5);

/// How processes are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the supervisor.
    pub supervisor_dir: PathBuf,
    pub program: SupervisorProgram,
    pub cgroups: CgroupSettings,
    /// Run a task as the user that it names; needs root.
    pub switch_user: bool,
}

impl Settings {
    /// As the agent's flags say.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let supervisor_dir = config.work_dir.join("supervisor");
        Self {
            program: SupervisorProgram::this_program(&supervisor_dir),
            supervisor_dir,
            cgroups: CgroupSettings {
                enabled: config.wants_cgroups(),
                hierarchy: config.cgroups_hierarchy.clone(),
                root: config.cgroups_root.clone(),
                cfs: config.cgroups_enable_cfs,
            },
            switch_user: config.switch_user,
        }
    }
}

/// Runs tasks as process trees.
#[derive(Debug)]
pub struct ProcessContainerizer {
    client: Client,
    cgroups: Option<Arc<Cgroups>>,
    switch_user: bool,
    /// Containers whose launch got no answer: the supervisor may start them yet.
    given_up: Mutex<BTreeSet<String>>,
}

impl ProcessContainerizer {
    /// Connects to the agent's supervisor, now and after every break, and starts one when there is none.
    /// Ends with the environment's tasks; the processes go on.
    #[must_use]
    pub fn open(env: &Env, settings: &Settings) -> Self {
        Self::with_tasks(&env.tasks, settings)
    }

    fn with_tasks(tasks: &Tasks, settings: &Settings) -> Self {
        let cgroups = match Cgroups::detect(&settings.cgroups) {
            Ok(cgroups) => {
                info!(cgroups = cgroups.kind(), "tasks are limited by cgroups");
                Some(Arc::new(cgroups))
            }
            Err(reason) => {
                warn!(reason, "tasks run as plain processes, without limits");
                None
            }
        };
        let client = Client::open(tasks, settings.supervisor_dir.clone(), settings.program.clone());
        let switch_user = settings.switch_user && nix::unistd::geteuid().is_root();
        Self { client, cgroups, switch_user, given_up: Mutex::default() }
    }

    /// Has the supervisor replaced by another program, which keeps its children.
    ///
    /// # Errors
    /// When the supervisor cannot be reached or the program not be executed.
    pub async fn upgrade_supervisor(&self, program: &Path) -> Result<(), ContainerizerError> {
        let program = program.display().to_string();
        let answer = self.client.call(Request::Upgrade(UpgradeRequest { program })).await;
        answer.map_err(|error| self.client.error(&error))?;
        // Until the new program answers.
        self.client.list().await.map(drop).map_err(|error| self.client.error(&error))
    }

    async fn find(&self, container_id: &str) -> Result<Option<u32>, ContainerizerError> {
        let children = self.client.list().await.map_err(|error| self.client.error(&error))?;
        let child = children.into_iter().find(|child| child.container_id == container_id);
        Ok(child.map(|child| u32::try_from(child.pid).unwrap_or_default()))
    }

    async fn spawn_request(&self, spec: &ContainerSpec) -> Result<SpawnRequest, ContainerizerError> {
        let (stdout, stderr) = output_paths(&spec.sandbox);
        let user = if self.switch_user { spec.user.clone() } else { None };
        let user =
            blocking(&spec.container_id, move || user.map(|name| sandbox::find_user(&name)).transpose())
                .await?;
        Ok(SpawnRequest {
            container_id: spec.container_id.clone(),
            program: spec.program.clone(),
            arguments: spec.arguments.clone(),
            environment: spec.environment.clone(),
            working_directory: spec.sandbox.display().to_string(),
            stdout_path: stdout.display().to_string(),
            stderr_path: stderr.display().to_string(),
            cgroup_procs: self.cgroups.as_ref().map(|c| c.procs(&spec.container_id)).unwrap_or_default(),
            uid: user.as_ref().map(|user| user.uid),
            gid: user.as_ref().map(|user| user.gid),
            groups: user.map(|user| user.groups).unwrap_or_default(),
            argument_zero: spec.argument_zero.clone(),
        })
    }

    fn given_up(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        let container_id = &spec.container_id;
        let request = Request::Spawn(self.spawn_request(spec).await?);
        loop {
            match self.client.call(request.clone()).await {
                Ok(Response::Spawned(spawned)) => return Ok(u32::try_from(spawned.pid).unwrap_or_default()),
                Ok(_) => {
                    return Err(ContainerizerError::container(
                        container_id,
                        "answer does not fit the request",
                    ));
                }
                Err(CallError::Refused(reason)) => {
                    return Err(ContainerizerError::container(container_id, reason));
                }
                Err(error @ CallError::Timeout) => return Err(self.client.error(&error)),
                // Whether it was started is known to the supervisor alone.
                Err(CallError::Broken) => {
                    if let Some(pid) = self.find(container_id).await? {
                        return Ok(pid);
                    }
                }
            }
        }
    }

    async fn forget(&self, container_id: &str) -> Result<(), CallError> {
        let request = Request::Forget(ForgetRequest { container_id: container_id.to_owned() });
        self.client.call(request).await.map(drop)
    }

    /// Ends and forgets what a launch without an answer may have started or may start yet, however long the supervisor
    /// takes: it carries requests out in order, so these come after the start.
    async fn end_given_up(&self, container_id: &str) -> Result<(), CallError> {
        let signal = Signal::SIGKILL as i32;
        let kill = Request::Signal(SignalRequest { container_id: container_id.to_owned(), signal });
        let mut wait = STILL_ENDING;
        loop {
            match self.client.call_until_answered(kill.clone()).await {
                // Refused: it does not run.
                Ok(_) | Err(CallError::Refused(_)) => {}
                Err(CallError::Timeout) => {
                    warn!(container_id, "supervisor does not answer, killing the container again");
                    continue;
                }
                Err(error @ CallError::Broken) => return Err(error),
            }
            match self.forget(container_id).await {
                Ok(()) => return Ok(()),
                Err(CallError::Refused(_)) => {
                    sleep(wait).await;
                    wait = (wait * 2).min(STILL_ENDING_MAX);
                }
                Err(CallError::Timeout | CallError::Broken) => {}
            }
        }
    }

    fn exit(&self, container_id: &str, wait_status: i32) -> Exit {
        exit(self.cgroups.as_deref(), container_id, wait_status)
    }
}

fn exit(cgroups: Option<&Cgroups>, container_id: &str, wait_status: i32) -> Exit {
    let status = ExitStatus::from_wait_status(wait_status);
    let failed = status != ExitStatus::Code(0);
    Exit {
        status,
        out_of_memory: failed && cgroups.is_some_and(|cgroups| cgroups.out_of_memory(container_id)),
    }
}

/// Runs file system work where it may block.
async fn blocking<T, F>(container_id: &str, work: F) -> Result<T, ContainerizerError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, String> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|failure| Err(failure.to_string()))
        .map_err(|reason| ContainerizerError::container(container_id, reason))
}

#[async_trait]
impl Containerizer for ProcessContainerizer {
    fn events(&self) -> BoxStream<'static, Ended> {
        let cgroups = self.cgroups.clone();
        let events = UnboundedReceiverStream::new(self.client.events()).filter_map(move |child| {
            let ended = child.wait_status.map(|status| Ended {
                exit: exit(cgroups.as_deref(), &child.container_id, status),
                container_id: child.container_id,
            });
            std::future::ready(ended)
        });
        events.boxed()
    }

    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError> {
        let children = self.client.list().await.map_err(|error| self.client.error(&error))?;
        let recovered = children.into_iter().map(|child| Recovered {
            exit: child.wait_status.map(|status| self.exit(&child.container_id, status)),
            pid: u32::try_from(child.pid).unwrap_or_default(),
            container_id: child.container_id,
        });
        Ok(recovered.collect())
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        let (cgroups, switch_user, wanted) = (self.cgroups.clone(), self.switch_user, spec.clone());
        blocking(&spec.container_id, move || {
            let user =
                if switch_user { wanted.user.as_deref().map(sandbox::find_user).transpose()? } else { None };
            sandbox::make(&wanted.sandbox, user.as_ref())
                .map_err(|error| format!("cannot make the sandbox {}: {error}", wanted.sandbox.display()))?;
            for (volume, place) in &wanted.volumes {
                sandbox::link_volume(&wanted.sandbox, (volume, place), user.as_ref())
                    .map_err(|error| format!("cannot provide the volume {}: {error}", volume.display()))?;
            }
            cgroups.map_or(Ok(()), |cgroups| cgroups.make(&wanted.container_id, &wanted.limits))
        })
        .await
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        let launched = self.start(spec).await;
        if matches!(launched, Err(ContainerizerError::Supervisor { .. })) {
            self.given_up().insert(spec.container_id.clone());
        }
        launched
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError> {
        let request = Request::Signal(SignalRequest { container_id: container_id.to_owned(), signal });
        match self.client.call_until_answered(request).await {
            // It ended before the signal came.
            Err(CallError::Refused(_)) if self.find(container_id).await?.is_some() => Ok(()),
            Err(CallError::Refused(reason)) => Err(ContainerizerError::container(container_id, reason)),
            answer => answer.map(drop).map_err(|error| self.client.error(&error)),
        }
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        let given_up = self.given_up().contains(container_id);
        let forgotten = match given_up {
            true => self.end_given_up(container_id).await,
            false => self.forget(container_id).await,
        };
        forgotten.map_err(|error| match error {
            CallError::Refused(reason) => ContainerizerError::container(container_id, reason),
            error => self.client.error(&error),
        })?;
        if given_up {
            self.given_up().remove(container_id);
        }
        let (cgroups, id) = (self.cgroups.clone(), container_id.to_owned());
        blocking(container_id, move || cgroups.map_or(Ok(()), |cgroups| cgroups.remove(&id))).await
    }

    async fn usage(&self, container_id: &str, pid: u32) -> Option<Usage> {
        let pid = i32::try_from(pid).ok()?;
        blocking(container_id, move || usage_of_tree(pid).ok_or_else(String::new)).await.ok()
    }

    async fn stop(&self) {
        match self.client.stop().await {
            Ok(()) => info!("supervisor stopped"),
            Err(error) => warn!(%error, "supervisor does not stop"),
        }
    }
}

/// Sums over the process and all below it.
fn usage_of_tree(pid: i32) -> Option<Usage> {
    let ticks = constant(nix::unistd::SysconfVar::CLK_TCK, 100);
    let page = constant(nix::unistd::SysconfVar::PAGE_SIZE, 4096);
    let mut pids = BTreeSet::from([pid]);
    procfs::descendants(pid, &mut pids);
    let mut sum = Usage::default();
    for (user, system, pages) in pids.into_iter().filter_map(procfs::usage) {
        #[allow(clippy::cast_precision_loss, reason = "seconds are shown to the hundredth")]
        {
            sum.user_seconds += user as f64 / ticks as f64;
            sum.system_seconds += system as f64 / ticks as f64;
        }
        sum.memory += pages * page;
        sum.processes += 1;
    }
    (sum.processes > 0).then_some(sum)
}

fn constant(name: nix::unistd::SysconfVar, default: u64) -> u64 {
    nix::unistd::sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests;
