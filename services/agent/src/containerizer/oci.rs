//! Containers with a root file system of their own, or with volumes and networks of their own in the machine's: direct
//! children of the agent's [supervisor](crate::supervisor), which builds them between fork and exec
//! (docs/decisions/0016). Plain processes run here as well: all are children of one supervisor, so this containerizer
//! stands in place of the one of processes.
//!
//! Nothing is mounted on the machine but network namespaces: mounts live in the container's own mount namespace and go
//! with its last process. Beside the sandbox a container has a directory with the layer that it writes; see [`state`].

mod command;
mod enclosure;
mod files;
mod inside;
mod prepare;
mod provide;
mod rights;
pub(crate) mod seccomp;
mod state;
mod user;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use meshos_mesh::Env;
use meshos_proto::meshos::agent::v1::SpawnRequest;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use self::{
    enclosure::Isolation,
    state::{Directories, State},
};
use super::{
    ContainerSpec, Containerizer, ContainerizerError, Ended, Fetches, Limits, NetworkStatus, Probe,
    ProbeKind, ProbeOutcome, Recovered, Usage,
    container::ImageSetup,
    process::{
        self, ProcessContainerizer, blocking,
        probe::{http, tcp, within},
    },
};
use crate::{
    Config,
    images::{Image, ImageStore},
    network::{self, Networks},
};

/// Where the layers of images come from.
#[async_trait]
pub trait Images: Send + Sync + fmt::Debug + 'static {
    /// Brings an image here and holds it for a container.
    async fn provide(&self, image: &ImageSetup, container_id: &str) -> Result<Image, String>;

    /// How far the pull of an image got, in words; none: none is under way.
    fn progress(&self, _image: &ImageSetup) -> Option<String> {
        None
    }

    /// A container is gone.
    async fn release(&self, container_id: &str);

    /// All other containers are gone.
    async fn retain(&self, containers: &BTreeSet<String>);

    /// Removes what no container uses, but for images of these names.
    async fn collect(&self, _excluded: &[String]) {}
}

#[async_trait]
impl Images for ImageStore {
    async fn provide(&self, image: &ImageSetup, container_id: &str) -> Result<Image, String> {
        Self::provide(self, image, container_id).await.map_err(|error| error.to_string())
    }

    fn progress(&self, image: &ImageSetup) -> Option<String> {
        Self::progress(self, image)
    }

    async fn release(&self, container_id: &str) {
        Self::release(self, container_id).await;
    }

    async fn retain(&self, containers: &BTreeSet<String>) {
        Self::retain(self, containers).await;
    }

    async fn collect(&self, excluded: &[String]) {
        Self::collect(self, excluded).await;
    }
}

/// How containers are run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub process: process::Settings,
    /// For a directory of each container; not on overlayfs.
    pub dir: PathBuf,
    pub networks: network::Settings,
    /// `--isolation`, aliases resolved.
    pub isolators: Vec<String>,
}

impl Settings {
    /// As the agent's flags say.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let containers = &config.containers;
        let plugins = containers.network_cni_plugins_dir.as_deref().unwrap_or_default();
        Self {
            process: process::Settings::new(config),
            dir: config.work_dir.join("oci"),
            networks: network::Settings {
                dir: config.work_dir.join("networks"),
                configs: containers.network_cni_config_dir.clone(),
                plugins: network::plugin_dirs(plugins),
            },
            isolators: super::runtimes::Runtimes::parse_isolators(
                config.isolation.as_deref().unwrap_or_default(),
            ),
        }
    }
}

/// Containers that are made ready, and taken apart, at the same time: each takes a thread while it waits for a disk.
const AT_ONCE: usize = 16;

/// Runs containers and plain processes.
#[derive(Debug)]
pub struct OciContainerizer {
    process: ProcessContainerizer,
    images: Arc<dyn Images>,
    networks: Networks,
    directories: Directories,
    isolation: Isolation,
    /// Images between `bring` and `prepare`, by container.
    brought: Mutex<BTreeMap<String, Image>>,
    /// Between `prepare` and the start, by id.
    prepared: Mutex<BTreeMap<String, Prepared>>,
    /// Process ids of those that have something of their own.
    pids: Mutex<BTreeMap<String, u32>>,
    preparing: Semaphore,
    parting: Semaphore,
}

/// A container that can be started.
#[derive(Clone, Debug)]
struct Prepared {
    spec: ContainerSpec,
    request: SpawnRequest,
}

impl OciContainerizer {
    /// Connects to the agent's supervisor, as [`ProcessContainerizer::open`] does.
    #[must_use]
    pub fn open(env: &Env, settings: &Settings, images: Arc<dyn Images>) -> Self {
        let isolates = |name: &str| settings.isolators.iter().any(|isolator| isolator == name);
        Self {
            process: ProcessContainerizer::open(env, &settings.process),
            images,
            networks: Networks::new(settings.networks.clone()),
            directories: Directories::new(settings.dir.clone()),
            isolation: Isolation {
                pid: isolates("namespaces/pid"),
                ipc: isolates("namespaces/ipc"),
                no_new_privileges: isolates("linux/nnp"),
            },
            brought: Mutex::default(),
            prepared: Mutex::default(),
            pids: Mutex::default(),
            preparing: Semaphore::new(AT_ONCE),
            parting: Semaphore::new(AT_ONCE),
        }
    }

    fn brought(&self) -> MutexGuard<'_, BTreeMap<String, Image>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepared(&self) -> MutexGuard<'_, BTreeMap<String, Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pids(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn state(&self, container_id: &str) -> Option<State> {
        let (directories, id) = (self.directories.clone(), container_id.to_owned());
        blocking(container_id, move || directories.read(&id).ok_or_else(String::new)).await.ok()
    }

    /// Removes what belongs to no container any more.
    async fn remove_orphans(&self, known: &BTreeSet<String>) {
        for container_id in self.directories.all() {
            match self.directories.read(&container_id).and_then(|state| state.network) {
                Some(network) if known.contains(&container_id) => {
                    self.networks.enlist(&network, &container_id)
                }
                _ => {}
            }
            if !known.contains(&container_id) {
                info!(container_id, "removing what is left of a container");
                if let Err(error) = self.remove_rest(&container_id).await {
                    warn!(container_id, %error, "rest of a container cannot be removed");
                }
            }
        }
        self.networks.remove_orphans().await;
        self.images.retain(known).await;
    }

    /// Of a container that was on its way when its agent was killed.
    async fn remove_rest(&self, container_id: &str) -> Result<(), ContainerizerError> {
        self.process.remove_cgroups(container_id).await?;
        let (directories, id) = (self.directories.clone(), container_id.to_owned());
        blocking(container_id, move || directories.remove(&id)).await
    }

    /// Gives back what a container had beside its process.
    async fn give_back(&self, container_id: &str) -> Result<(), ContainerizerError> {
        // Held before there is a directory.
        self.images.release(container_id).await;
        let dir = self.directories.of(container_id);
        if state::check_id(container_id).is_err() || !dir.exists() {
            return Ok(());
        }
        let _permit = self.parting.acquire().await;
        let parted = match self.state(container_id).await.and_then(|state| state.network) {
            Some(network) => self.networks.part(&network, container_id).await,
            None => Ok(()),
        };
        // The next agent leaves what could not be left; the rest does not wait for that.
        let (directories, id) = (self.directories.clone(), container_id.to_owned());
        blocking(container_id, move || directories.remove(&id)).await?;
        parted.map_err(|reason| ContainerizerError::container(container_id, reason))
    }
}

#[async_trait]
impl Containerizer for OciContainerizer {
    fn events(&self) -> BoxStream<'static, Ended> {
        self.process.events()
    }

    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError> {
        let recovered = self.process.recover().await?;
        let known = recovered.iter().map(|container| container.container_id.clone()).collect();
        self.remove_orphans(&known).await;
        let own = self.directories.all();
        let own = recovered.iter().filter(|container| own.contains(&container.container_id));
        self.pids().extend(own.map(|container| (container.container_id.clone(), container.pid)));
        Ok(recovered)
    }

    async fn bring(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        let id = spec.container_id.as_str();
        let wanted = spec.container.as_ref().and_then(|setup| setup.image.as_ref());
        // Without rights it is refused before anything is pulled.
        let Some(wanted) = wanted.filter(|_| nix::unistd::geteuid().is_root()) else { return Ok(()) };
        let image = self.provide(wanted, spec).await;
        let image = image.map_err(|reason| ContainerizerError::container(id, reason))?;
        self.brought().insert(id.to_owned(), image);
        Ok(())
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        match (&spec.container, &spec.inside) {
            (Some(setup), _) => {
                // Neither semaphore is ever closed.
                let _permit = self.preparing.acquire().await;
                self.prepare_container(spec, setup).await
            }
            (None, Some(container_id)) => self.prepare_inside(spec, container_id).await,
            (None, None) => self.process.prepare(spec).await,
        }
    }

    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        let prepared = self.prepared().get(&spec.container_id).map(|prepared| prepared.request.clone());
        match prepared {
            Some(request) => self.process.fetch_as(spec, prepare::user_of(&request)).await,
            None => self.process.fetch(spec).await,
        }
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        if spec.container.is_none() && spec.inside.is_none() {
            return self.process.launch(spec).await;
        }
        let prepared = self.prepared().remove(&spec.container_id);
        let Some(prepared) = prepared else {
            return Err(ContainerizerError::container(
                &spec.container_id,
                "it was not prepared, or runs already",
            ));
        };
        let pid = self.process.launch_as(&prepared.spec, prepared.request).await?;
        if spec.container.is_some() {
            self.pids().insert(spec.container_id.clone(), pid);
        }
        Ok(pid)
    }

    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError> {
        self.process.resize(container_id, limits).await
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError> {
        self.process.signal(container_id, signal).await
    }

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        let pid = self.pids().get(&probe.container_id).copied();
        let Some(pid) = pid else { return self.process.probe(probe).await };
        match &probe.kind {
            ProbeKind::Command(spec) => self.probe_inside(probe, spec).await,
            ProbeKind::Http { tls, v6, port, path } => {
                within(probe.timeout, http(*tls, (*v6, *port), path, Some(pid))).await
            }
            ProbeKind::Tcp { v6, port } => within(probe.timeout, tcp(*v6, *port, Some(pid))).await,
        }
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        self.brought().remove(container_id);
        self.prepared().remove(container_id);
        // What still runs is not forgotten, and keeps what it has.
        self.process.cleanup(container_id).await?;
        self.pids().remove(container_id);
        self.give_back(container_id).await
    }

    async fn usage(&self, container_id: &str, pid: u32) -> Option<Usage> {
        self.process.usage(container_id, pid).await
    }

    async fn usages(&self, containers: &[(String, u32)]) -> Vec<Option<Usage>> {
        self.process.usages(containers).await
    }

    fn fetches(&self) -> Fetches {
        self.process.fetches()
    }

    async fn network(&self, container_id: &str) -> NetworkStatus {
        let network = self.state(container_id).await.and_then(|state| state.network);
        network
            .and_then(|network| self.networks.joined(&network))
            .map(|joined| joined.status)
            .unwrap_or_default()
    }

    async fn prune_images(&self, excluded: &[String]) {
        self.images.collect(excluded).await;
    }

    async fn stop(&self) {
        self.process.stop().await;
    }
}
