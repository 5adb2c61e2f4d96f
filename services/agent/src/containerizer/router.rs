//! Sends each container to who runs it: meshos itself, or the Docker Engine. Later calls go the same way, after a restart
//! of the agent as well.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{
    StreamExt,
    future::join_all,
    stream::{BoxStream, select_all},
};
use meshos_mesh::Env;

use super::{
    ContainerSpec, Containerizer, ContainerizerError, Ended, Fetches, Limits, NetworkStatus, Probe,
    ProbeOutcome, Recovered, SharedContainerizer, Usage,
    container::Runtime,
    docker::{self, DockerContainerizer},
    oci::{self, OciContainerizer},
};
use crate::{Config, Error, images::ImageStore};

/// One containerizer out of two.
#[derive(Debug)]
pub struct Router {
    /// Plain processes, containers of meshos's own, and what is not known.
    mesos: SharedContainerizer,
    docker: Option<SharedContainerizer>,
    /// Containers of the Docker Engine.
    of_docker: Mutex<BTreeSet<String>>,
}

impl Router {
    /// Those that the flags switch on.
    ///
    /// # Errors
    /// Flags that mean nothing.
    pub fn open(env: &Env, config: &Config) -> Result<Self, Error> {
        let runtimes = config.runtimes()?;
        let images = ImageStore::open(config.image_settings()?, &env.rng, &env.metrics);
        if let Some(collection) = config.image_collection()? {
            images.tend(&env.tasks, collection);
        }
        let mesos = OciContainerizer::open(env, &oci::Settings::new(config), Arc::new(images));
        let docker = match runtimes.has("docker") {
            true => Some(open_docker(env, config)?),
            false => None,
        };
        Ok(Self::new(Arc::new(mesos), docker))
    }

    /// Puts one together.
    #[must_use]
    pub fn new(mesos: SharedContainerizer, docker: Option<SharedContainerizer>) -> Self {
        Self { mesos, docker, of_docker: Mutex::default() }
    }

    fn all(&self) -> impl Iterator<Item = &SharedContainerizer> {
        std::iter::once(&self.mesos).chain(&self.docker)
    }

    fn of_docker(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.of_docker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who runs a container that is there.
    fn of(&self, container_id: &str) -> &SharedContainerizer {
        match &self.docker {
            Some(docker) if self.of_docker().contains(container_id) => docker,
            _ => &self.mesos,
        }
    }

    /// Who is to run a container.
    fn for_spec(&self, spec: &ContainerSpec) -> Result<&SharedContainerizer, ContainerizerError> {
        if !is_docker(spec) {
            return Ok(&self.mesos);
        }
        self.of_docker().insert(spec.container_id.clone());
        let off = "the agent does not run containers of the Docker Engine";
        self.docker.as_ref().ok_or_else(|| ContainerizerError::container(&spec.container_id, off))
    }
}

fn open_docker(env: &Env, config: &Config) -> Result<SharedContainerizer, Error> {
    let opened = DockerContainerizer::open(env, docker::Settings::new(config));
    Ok(Arc::new(opened.map_err(|reason| Error::Flag { flag: "docker_socket", reason })?))
}

/// As a plain process's spec: its sandbox and files are made in the same way, without cgroups of its own.
fn sandbox_alone(spec: &ContainerSpec) -> ContainerSpec {
    ContainerSpec { beside: Some(spec.container_id.clone()), container: None, ..spec.clone() }
}

fn cloned(containers: &[&(String, u32)]) -> Vec<(String, u32)> {
    containers.iter().copied().cloned().collect()
}

fn is_docker(spec: &ContainerSpec) -> bool {
    spec.container.as_ref().is_some_and(|setup| setup.runtime == Runtime::Docker)
}

#[async_trait]
impl Containerizer for Router {
    fn events(&self) -> BoxStream<'static, Ended> {
        select_all(self.all().map(|one| one.events())).boxed()
    }

    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError> {
        let docker = async {
            match &self.docker {
                Some(docker) => docker.recover().await,
                None => Ok(Vec::new()),
            }
        };
        // At the same time: neither waits for the other.
        let (own, docker) = futures::join!(self.mesos.recover(), docker);
        let (mut all, docker) = (own?, docker?);
        self.of_docker().extend(docker.iter().map(|container| container.container_id.clone()));
        all.extend(docker);
        Ok(all)
    }

    async fn bring(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        if is_docker(spec) { Ok(()) } else { self.mesos.bring(spec).await }
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        let containerizer = self.for_spec(spec)?;
        if is_docker(spec) {
            self.mesos.prepare(&sandbox_alone(spec)).await?;
        }
        containerizer.prepare(spec).await
    }

    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        if is_docker(spec) && !spec.uris.is_empty() {
            self.mesos.fetch(&sandbox_alone(spec)).await?;
        }
        self.for_spec(spec)?.fetch(spec).await
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        self.for_spec(spec)?.launch(spec).await
    }

    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError> {
        self.of(container_id).resize(container_id, limits).await
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError> {
        self.of(container_id).signal(container_id, signal).await
    }

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        self.of(&probe.container_id).probe(probe).await
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        self.of(container_id).cleanup(container_id).await?;
        self.of_docker().remove(container_id);
        Ok(())
    }

    async fn usage(&self, container_id: &str, pid: u32) -> Option<Usage> {
        self.of(container_id).usage(container_id, pid).await
    }

    async fn usages(&self, containers: &[(String, u32)]) -> Vec<Option<Usage>> {
        let Some(docker) = &self.docker else { return self.mesos.usages(containers).await };
        let known = self.of_docker().clone();
        let is_docker = |container: &&(String, u32)| known.contains(&container.0);
        let (theirs, own): (Vec<_>, Vec<_>) = containers.iter().partition(is_docker);
        let (theirs, own): (Vec<_>, Vec<_>) = (cloned(&theirs), cloned(&own));
        let (theirs, own) = futures::join!(docker.usages(&theirs), self.mesos.usages(&own));
        let (mut theirs, mut own) = (theirs.into_iter(), own.into_iter());
        let in_order = containers.iter().map(|container| match is_docker(&container) {
            true => theirs.next().flatten(),
            false => own.next().flatten(),
        });
        in_order.collect()
    }

    async fn network(&self, container_id: &str) -> NetworkStatus {
        self.of(container_id).network(container_id).await
    }

    async fn prune_images(&self, excluded: &[String]) {
        for one in self.all() {
            one.prune_images(excluded).await;
        }
    }

    fn fetches(&self) -> Fetches {
        let each: Vec<_> = self.all().map(|one| one.fetches()).collect();
        let sum = |of: fn(&Fetches) -> u64| each.iter().map(of).sum();
        Fetches {
            succeeded: sum(|one| one.succeeded),
            failed: sum(|one| one.failed),
            cache_size: sum(|one| one.cache_size),
            cache_used: sum(|one| one.cache_used),
        }
    }

    fn troubles(&self) -> Vec<String> {
        self.all().flat_map(|one| one.troubles()).collect()
    }

    async fn stop(&self) {
        // The agent's end waits for the slowest of them alone.
        join_all(self.all().map(|one| one.stop())).await;
    }
}
