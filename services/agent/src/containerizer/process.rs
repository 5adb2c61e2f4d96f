//! Containers that are plain process trees of this machine, limited by cgroups where that is permitted. The
//! processes are children of the agent's [supervisor](crate::supervisor).

mod cgroups;
mod client;
mod command;
mod forget;
mod launcher;
pub(in crate::containerizer) mod probe;
mod sandbox;
mod settings;
mod upgrade;
mod usage;
mod users;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use meshos_mesh::{Env, Tasks};
use meshos_proto::meshos::agent::v1::{
    ResourceLimit, SignalRequest, SpawnRequest, supervisor_request::Body as Request,
    supervisor_response::Body as Response,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{info, warn};

pub use cgroups::CgroupSettings;
use cgroups::Cgroups;
use client::{CallError, Client};
pub use launcher::SupervisorProgram;
pub use settings::Settings;
use users::Users;

use super::{
    ContainerSpec, Containerizer, ContainerizerError, Ended, Exit, ExitStatus, Fetches, Limits, Probe,
    ProbeKind, ProbeOutcome, Recovered, Rlimit, Stdio, TaskUser, Usage, output_paths,
};
use crate::fetcher::{Fetcher, Order};

/// Runs tasks as process trees.
#[derive(Debug)]
pub struct ProcessContainerizer {
    client: Client,
    cgroups: Option<Arc<Cgroups>>,
    fetcher: Fetcher,
    switch_user: bool,
    users: Users,
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
        let fetcher = Fetcher::new(settings.fetcher.clone());
        Self { client, cgroups, fetcher, switch_user, users: Users::default(), given_up: Mutex::default() }
    }

    async fn find(&self, container_id: &str) -> Result<Option<u32>, ContainerizerError> {
        let children = self.client.list().await.map_err(|error| self.client.error(&error))?;
        let child = children.into_iter().find(|child| child.container_id == container_id);
        Ok(child.map(|child| u32::try_from(child.pid).unwrap_or_default()))
    }

    async fn spawn_request(&self, spec: &ContainerSpec) -> Result<SpawnRequest, ContainerizerError> {
        Ok(self.spawn_request_as(spec, self.user_of(spec).await?))
    }

    /// What starts the container as this user; none: as the agent.
    pub(super) fn spawn_request_as(&self, spec: &ContainerSpec, user: Option<TaskUser>) -> SpawnRequest {
        let (stdout, stderr) = output_paths(&spec.sandbox);
        let files = Stdio { stdout, stderr, ..Stdio::default() };
        let stdio = spec.stdio.as_ref().unwrap_or(&files);
        let limited_as = spec.beside.as_ref().unwrap_or(&spec.container_id);
        SpawnRequest {
            container_id: spec.container_id.clone(),
            program: spec.program.clone(),
            arguments: spec.arguments.clone(),
            environment: spec.environment.clone(),
            working_directory: spec.directory.as_ref().unwrap_or(&spec.sandbox).display().to_string(),
            stdin_path: stdio.stdin.display().to_string(),
            stdout_path: stdio.stdout.display().to_string(),
            stderr_path: stdio.stderr.display().to_string(),
            terminal: stdio.terminal,
            cgroup_procs: self.cgroups.as_ref().map(|c| c.procs(limited_as)).unwrap_or_default(),
            shares_cgroups: spec.beside.is_some(),
            uid: user.as_ref().map(|user| user.uid),
            gid: user.as_ref().map(|user| user.gid),
            groups: user.map(|user| user.groups).unwrap_or_default(),
            argument_zero: spec.argument_zero.clone(),
            limits: spec.rlimits.iter().map(resource_limit).collect(),
            ..SpawnRequest::default()
        }
    }

    /// Whether a task runs as the user that it names.
    pub(super) fn switches_user(&self) -> bool {
        self.switch_user
    }

    /// Who the container runs as; none: as the agent.
    pub(super) async fn user_of(&self, spec: &ContainerSpec) -> Result<Option<TaskUser>, ContainerizerError> {
        match spec.user.as_deref().filter(|_| self.switch_user) {
            Some(name) => self.users.find(&spec.container_id, name).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn remove_cgroups(&self, container_id: &str) -> Result<(), ContainerizerError> {
        let Some(cgroups) = self.cgroups.clone() else { return Ok(()) };
        let id = container_id.to_owned();
        blocking(container_id, move || cgroups.remove(&id)).await
    }

    /// Who may use more memory than he asked for goes first when the machine has none left, as in Mesos.
    fn set_oom_score(&self, spec: &ContainerSpec, pid: u32) {
        let limited = self.cgroups.as_ref().is_some_and(|cgroups| cgroups.limits_memory());
        let Some(score) = oom_score(&spec.limits).filter(|_| limited) else { return };
        // It may have ended already.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
    }

    fn given_up(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, request: SpawnRequest) -> Result<u32, ContainerizerError> {
        let container_id = &request.container_id.clone();
        let request = Request::Spawn(request);
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

    /// As [`Containerizer::prepare`], for this user.
    pub(super) async fn prepare_as(
        &self,
        spec: &ContainerSpec,
        user: Option<TaskUser>,
    ) -> Result<(), ContainerizerError> {
        let (cgroups, wanted) = (self.cgroups.clone(), spec.clone());
        blocking(&spec.container_id, move || {
            make_sandbox(&wanted, user.as_ref())?;
            for (path, place) in wanted.within.iter().flat_map(|within| &within.shared) {
                sandbox::share(&wanted, path, place, user.as_ref())
                    .map_err(|error| format!("cannot share the volume {}: {error}", path.display()))?;
            }
            for (volume, place) in &wanted.volumes {
                sandbox::link_volume(&wanted.sandbox, (volume, place), user.as_ref())
                    .map_err(|error| format!("cannot provide the volume {}: {error}", volume.display()))?;
            }
            let own = cgroups.filter(|_| wanted.beside.is_none());
            own.map_or(Ok(()), |cgroups| cgroups.make(&wanted.container_id, &wanted.limits))
        })
        .await
    }

    /// The sandbox alone, for what is to be seen in it before the container is prepared.
    pub(super) async fn make_sandbox(
        &self,
        spec: &ContainerSpec,
        user: Option<TaskUser>,
    ) -> Result<(), ContainerizerError> {
        let wanted = spec.clone();
        blocking(&spec.container_id, move || make_sandbox(&wanted, user.as_ref())).await
    }

    /// As [`Containerizer::fetch`], for this user.
    pub(super) async fn fetch_as(
        &self,
        spec: &ContainerSpec,
        user: Option<TaskUser>,
    ) -> Result<(), ContainerizerError> {
        let order = Order { uris: spec.uris.clone(), sandbox: spec.sandbox.clone(), user };
        let fetched = self.fetcher.fetch(order).await;
        fetched.map_err(|reason| ContainerizerError::container(&spec.container_id, reason))
    }

    /// Starts a prepared container by this request.
    pub(super) async fn launch_as(
        &self,
        spec: &ContainerSpec,
        request: SpawnRequest,
    ) -> Result<u32, ContainerizerError> {
        let launched = self.start(request).await;
        if let Ok(pid) = &launched {
            self.set_oom_score(spec, *pid);
        }
        if matches!(launched, Err(ContainerizerError::Supervisor { .. })) {
            self.given_up().insert(spec.container_id.clone());
        }
        launched
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

/// 1000 − 1000 × request / total; none when no more may be used than was asked for.
fn oom_score(limits: &Limits) -> Option<u64> {
    let (total, _) = crate::detect::memory()?;
    let more = limits.memory_limit.is_some_and(|limit| limit > limits.memory);
    more.then(|| 1000 - (limits.memory.min(total) * 1000).checked_div(total).unwrap_or_default())
}

fn resource_limit(limit: &Rlimit) -> ResourceLimit {
    ResourceLimit { resource: limit.resource, soft: limit.soft, hard: limit.hard }
}

/// Runs file system work where it may block.
pub(super) async fn blocking<T, F>(container_id: &str, work: F) -> Result<T, ContainerizerError>
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
        self.bring_supervisor_up_to_date().await;
        if let Some(cgroups) = self.cgroups.clone() {
            let known = children.iter().map(|child| child.container_id.clone()).collect();
            let remove = move || {
                cgroups.remove_orphans(&known);
                Ok(())
            };
            blocking("", remove).await?;
        }
        let recovered = children.into_iter().map(|child| Recovered {
            exit: child.wait_status.map(|status| self.exit(&child.container_id, status)),
            pid: u32::try_from(child.pid).unwrap_or_default(),
            container_id: child.container_id,
        });
        Ok(recovered.collect())
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        self.prepare_as(spec, self.user_of(spec).await?).await
    }

    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        self.fetch_as(spec, self.user_of(spec).await?).await
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        self.launch_as(spec, self.spawn_request(spec).await?).await
    }

    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError> {
        let (cgroups, id, limits) = (self.cgroups.clone(), container_id.to_owned(), *limits);
        blocking(container_id, move || cgroups.map_or(Ok(()), |cgroups| cgroups.resize(&id, &limits))).await
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

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        match &probe.kind {
            ProbeKind::Command(spec) => self.run_beside(&probe.container_id, spec, probe.timeout).await,
            ProbeKind::Http { tls, v6, port, path } => {
                probe::within(probe.timeout, probe::http(*tls, (*v6, *port), path, probe::Near::Here)).await
            }
            ProbeKind::Tcp { v6, port } => {
                probe::within(probe.timeout, probe::tcp(*v6, *port, probe::Near::Here)).await
            }
        }
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        let given_up = self.given_up().contains(container_id);
        if !given_up {
            // Before it is forgotten: an agent that is killed in between finds it again, and nothing is left behind.
            // What still runs keeps its cgroups, and is not forgotten either.
            let _ = self.remove_cgroups(container_id).await;
        }
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
        self.remove_cgroups(container_id).await
    }

    async fn usage(&self, container_id: &str, pid: u32) -> Option<Usage> {
        self.usages(&[(container_id.to_owned(), pid)]).await.pop().flatten()
    }

    async fn usages(&self, containers: &[(String, u32)]) -> Vec<Option<Usage>> {
        usage::of_trees(containers.iter().map(|(_, pid)| i32::try_from(*pid).ok()).collect()).await
    }

    fn fetches(&self) -> Fetches {
        self.fetcher.figures()
    }

    async fn stop(&self) {
        match self.client.stop().await {
            Ok(()) => info!("supervisor stopped"),
            Err(CallError::Refused(reason)) => info!(reason, "supervisor stays"),
            Err(error) => warn!(%error, "supervisor does not stop"),
        }
    }
}

fn make_sandbox(spec: &ContainerSpec, user: Option<&TaskUser>) -> Result<(), String> {
    let failed = |sandbox: &Path| format!("cannot make the sandbox {}", sandbox.display());
    if let Some(within) = &spec.within {
        sandbox::make_within(within, &spec.sandbox, user)
            .map_err(|error| format!("{}: {error}", failed(&within.sandbox)))?;
    }
    sandbox::make(&spec.sandbox, user).map_err(|error| format!("{}: {error}", failed(&spec.sandbox)))
}

#[cfg(test)]
mod tests;
