//! From a spec to a running container, and to its being forgotten.

use std::{path::Path, sync::Arc, time::Duration};

use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use tokio::sync::watch as channel;
use tracing::{debug, warn};

use super::{
    Shared,
    auth::Credentials,
    create::{self, Maker, name_of},
    engine::EngineError,
    image,
    inspect::Seen,
    output::{self, Source},
    tracked::{State, Tracked},
    watch::REMOVAL,
};
use crate::{
    beneath::Beneath,
    containerizer::{
        ContainerSpec, ContainerizerError,
        container::{ContainerSetup, MountSource},
        lines::Lines,
    },
};

/// For the engine to make a container, and to start it.
const MAKING: Duration = Duration::from_secs(120);
/// Where the sandbox is, for an agent after this one.
pub(super) const SANDBOX: &str = "meshos.sandbox";

impl Shared {
    /// Brings the image.
    pub(super) async fn pull(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        let id = &spec.container_id;
        let failed = |reason: String| ContainerizerError::container(id, reason);
        self.check(id)?;
        let setup = spec.container.as_deref();
        let Some(wanted) = setup.and_then(|setup| setup.image.as_ref()) else { return Ok(()) };
        let told = |error: EngineError| {
            self.down(&error);
            failed(format!("Failed to pull the image '{}': {error}", wanted.name))
        };
        if !wanted.force_pull && image::is_here(&self.engine, &wanted.name).await.map_err(told)? {
            return Ok(());
        }
        let given = wanted.pull_config.as_deref().map(Credentials::parse);
        let own = given.or_else(|| image::own_credentials(&spec.sandbox)).transpose().map_err(failed)?;
        let credentials = own.or_else(|| self.credentials());
        let mut lines = Lines::open(spec);
        lines.add(&format!("Pulling the image {}", wanted.name));
        let pulled = image::pull(&self.engine, wanted, credentials.as_ref(), |text| {
            lines.add(&format!("Pulling: {text}"))
        });
        pulled.await.map_err(told)
    }

    /// Makes and starts a container; its pid.
    pub(super) async fn launch(self: &Arc<Self>, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        let id = spec.container_id.as_str();
        let failed = |reason: &dyn std::fmt::Display| ContainerizerError::container(id, reason);
        self.check(id)?;
        let setup =
            spec.container.as_deref().ok_or_else(|| failed(&"it is no container of the Docker Engine"))?;
        let maker = Maker { owner: self.ledger.owner(), cfs: self.settings.cfs };
        let mut body = create::body(spec, setup, maker).map_err(|reason| failed(&reason))?;
        let labels = body.labels.get_or_insert_default();
        labels.insert(SANDBOX.to_owned(), spec.sandbox.display().to_string());
        make_places(spec, setup).map_err(|reason| failed(&reason))?;
        let _permit = self.starting.acquire().await;
        if self.table.lock().contains_key(id) || self.ledger.entry(id).is_some() {
            return Err(failed(&"there is a container of this id already"));
        }
        self.table.lock().insert(id.to_owned(), Tracked::new(State::Starting));
        let started = match self.ledger.begin(id) {
            Ok(()) => self.make_and_start(id, body).await.map_err(|error| {
                self.down(&error);
                error.to_string()
            }),
            Err(error) => Err(error.to_string()),
        };
        match started {
            Ok(seen) => Ok(self.started(spec, seen)),
            Err(reason) => {
                self.give_up(id).await;
                Err(failed(&reason))
            }
        }
    }

    async fn make_and_start(
        &self,
        id: &str,
        body: bollard::models::ContainerCreateBody,
    ) -> Result<Seen, EngineError> {
        let name = name_of(id);
        let options =
            CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        let made = self
            .engine
            .call(MAKING, |docker| async move { docker.create_container(Some(options), body).await })
            .await?;
        for warning in made.warnings {
            debug!(container_id = id, warning, "Docker Engine warns");
        }
        self.engine.call(MAKING, |docker| async move { docker.start_container(&name, None).await }).await?;
        self.inspect(id).await
    }

    /// What failed to start leaves nothing behind.
    async fn give_up(&self, id: &str) {
        let name = name_of(id);
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let removed = self
            .engine
            .call(REMOVAL, |docker| async move { docker.remove_container(&name, Some(options)).await })
            .await;
        // Without an entry the sweep takes it for an orphan, whenever the engine makes it yet.
        if let Err(error) =
            removed.as_ref().or_else(|error| if error.is_not_found() { Ok(&()) } else { Err(error) })
        {
            warn!(container_id = id, %error, "container that did not start is not removed from the Docker Engine yet");
        }
        self.ledger.remove(id);
        self.table.lock().remove(id);
    }

    fn started(self: &Arc<Self>, spec: &ContainerSpec, seen: Seen) -> u32 {
        let id = spec.container_id.as_str();
        if let Err(error) = self.ledger.started(id, seen.pid) {
            warn!(container_id = id, %error, "start of a container cannot be written down");
        }
        let pid = seen.pid;
        self.take_over(id, seen, &spec.sandbox);
        // Its end may have been heard of while it was starting.
        self.look_into_if_ended(id, pid);
        pid
    }

    fn look_into_if_ended(self: &Arc<Self>, id: &str, pid: u32) {
        if pid == 0 {
            return self.look_into(id);
        }
        // An end between the look and now was heard of when nobody could tell of it.
        let (shared, id) = (Arc::clone(self), id.to_owned());
        self.tasks.spawn("docker-started", async move {
            if shared.inspect(&id).await.is_ok_and(|seen| seen.exit.is_some()) {
                shared.look_into(&id);
            }
        });
    }

    /// Knows a container from now on, and follows its output.
    pub(super) fn take_over(self: &Arc<Self>, id: &str, seen: Seen, sandbox: &Path) {
        let (done, drained) = channel::channel(false);
        let source = Source {
            container_id: id.to_owned(),
            sandbox: sandbox.to_owned(),
            journal: self.ledger.output(id),
            terminal: seen.terminal,
        };
        self.table.lock().insert(
            id.to_owned(),
            Tracked {
                stop_signal: seen.stop_signal,
                network: seen.network,
                on_host: seen.on_host,
                engine_id: seen.engine_id,
                drained: Some(drained),
                ..Tracked::new(State::Running(seen.pid))
            },
        );
        self.tasks.spawn("docker-output", output::follow(Arc::clone(&self.engine), source, done));
    }

    /// Forgets an ended container; the engine keeps it for a while.
    pub(super) async fn cleanup(&self, id: &str) -> Result<(), ContainerizerError> {
        let failed = |reason: &dyn std::fmt::Display| ContainerizerError::container(id, reason);
        if matches!(self.table.state(id), Some(State::Starting | State::Running(_))) {
            return Err(failed(&"it still runs"));
        }
        let now = self.clock.since_epoch();
        self.ledger.forget(id, now).map_err(|error| failed(&error))?;
        let known = self.table.lock().remove(id).is_some();
        if known && self.is_due(now) {
            self.remove(id, &name_of(id)).await;
        }
        Ok(())
    }
}

/// Directories of the sandbox that are mounted elsewhere; no link that a task made is followed.
fn make_places(spec: &ContainerSpec, setup: &ContainerSetup) -> Result<(), String> {
    for mount in &setup.mounts {
        let (sandbox, path) = match &mount.source {
            MountSource::Sandbox(path) => (&spec.sandbox, path),
            MountSource::Parent { sandbox, path } => (sandbox, path),
            _ => continue,
        };
        let made = Beneath::open(sandbox, None).and_then(|beneath| beneath.directory(path, 0o755));
        made.map_err(|error| format!("cannot make the volume {} in the sandbox: {error}", path.display()))?;
    }
    Ok(())
}
