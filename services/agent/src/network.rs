//! Networks of containers: a namespace for each container (or for those that share one), joined to networks by CNI
//! plugins. A namespace is kept by a mount in the agent's directory, so it outlives the agent, like the containers.

mod cni;
mod namespace;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, stream};
use tracing::{info, warn};

use crate::containerizer::container::{NetworkAddresses, NetworkStatus, PortMapping};

use cni::{Attachment, Plugins};

/// Where networks come from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is remembered: a directory for each namespace.
    pub dir: PathBuf,
    /// `--network_cni_config_dir`
    pub configs: Option<PathBuf>,
    /// `--network_cni_plugins_dir`
    pub plugins: Vec<PathBuf>,
}

/// The networks of an agent.
#[derive(Debug)]
pub struct Networks {
    settings: Settings,
    /// One change of a namespace at a time.
    locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Containers by the namespace that they are in.
    users: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

/// What a container is to be joined to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// Whose namespace it is: containers that name the same one share it.
    pub(crate) holder: String,
    pub(crate) container_id: String,
    pub(crate) networks: Vec<String>,
    pub(crate) port_mappings: Vec<PortMapping>,
}

/// A namespace that is joined to its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) namespace: PathBuf,
    pub(crate) status: NetworkStatus,
    /// Lines of a resolv.conf; empty: the networks say nothing about names.
    pub(crate) resolv_conf: String,
}

impl Networks {
    /// Nothing is made yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, locks: Mutex::default(), users: Mutex::default() }
    }

    /// Makes the namespace and joins it to its networks, unless that was done before.
    ///
    /// # Errors
    /// What a plugin says; nothing is left of it then.
    pub(crate) async fn join(&self, order: &Order) -> Result<Joined, String> {
        let lock = self.lock(&order.holder);
        let _held = lock.lock().await;
        self.enlist(&order.holder, &order.container_id);
        let dir = self.settings.dir.join(&order.holder);
        if let Some(joined) = self.joined(&order.holder) {
            return Ok(joined);
        }
        // An agent before this one may have been killed in the middle.
        self.leave(&order.holder).await?;
        let configs = self.settings.configs.clone();
        let wanted = order.networks.clone();
        let lists = blocking(move || cni::find(configs.as_deref(), &wanted)).await?;
        let place = dir.clone();
        blocking(move || namespace::make(&place)).await?;
        let plugins = Plugins { dirs: &self.settings.plugins, dir: &dir, container_id: &order.holder };
        for (number, list) in lists.into_iter().enumerate() {
            let attachment = Attachment::new(list, number, order);
            if let Err(reason) = plugins.add(attachment).await {
                self.leave(&order.holder).await.unwrap_or_else(|trouble| {
                    warn!(container_id = order.holder, trouble, "network cannot be left again");
                });
                return Err(reason);
            }
        }
        std::fs::write(dir.join("joined"), "")
            .map_err(|error| format!("cannot write in {}: {error}", dir.display()))?;
        self.joined(&order.holder).ok_or_else(|| "the network's results cannot be read".to_owned())
    }

    /// What a namespace is joined to; none: it is not there, or not whole.
    pub(crate) fn joined(&self, holder: &str) -> Option<Joined> {
        let dir = self.settings.dir.join(holder);
        if !dir.join("joined").exists() {
            return None;
        }
        let attachments = Attachment::all(&dir);
        let networks = attachments.iter().map(|attachment| NetworkAddresses {
            name: Some(attachment.network().to_owned()),
            addresses: attachment.addresses(),
        });
        Some(Joined {
            namespace: namespace::path(&dir),
            status: NetworkStatus { networks: networks.collect() },
            resolv_conf: attachments.iter().map(Attachment::resolv_conf).collect(),
        })
    }

    /// A container is in a namespace.
    pub(crate) fn enlist(&self, holder: &str, container_id: &str) {
        let mut users = lock(&self.users);
        users.entry(holder.to_owned()).or_default().insert(container_id.to_owned());
    }

    /// A container has gone; with the last one, its namespace goes.
    ///
    /// # Errors
    /// What a plugin says; it may be asked again.
    pub(crate) async fn part(&self, holder: &str, container_id: &str) -> Result<(), String> {
        let lock_of_holder = self.lock(holder);
        let _held = lock_of_holder.lock().await;
        let last = {
            let mut users = lock(&self.users);
            let of_holder = users.entry(holder.to_owned()).or_default();
            of_holder.remove(container_id);
            of_holder.is_empty()
        };
        if last {
            self.leave(holder).await?;
            lock(&self.users).remove(holder);
            // Nobody else waits for it: this map and this call have it.
            lock(&self.locks).retain(|name, held| name != holder || Arc::strong_count(held) > 2);
        }
        Ok(())
    }

    /// Removes the namespaces that no container is in.
    pub(crate) async fn remove_orphans(&self) {
        let entries = std::fs::read_dir(&self.settings.dir).into_iter().flatten().flatten();
        let holders: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|holder| !lock(&self.users).contains_key(holder))
            .collect();
        // The agent waits for this at its start, and plugins may be slow.
        stream::iter(holders)
            .for_each_concurrent(TOGETHER, |holder| async move {
                info!(holder, "removing a network that belongs to no container");
                if let Err(error) = self.leave(&holder).await {
                    warn!(holder, error, "network of no container cannot be removed");
                }
            })
            .await;
    }

    /// Undoes what was done for a namespace, as far as there is any of it.
    async fn leave(&self, holder: &str) -> Result<(), String> {
        let dir = self.settings.dir.join(holder);
        if !dir.exists() {
            return Ok(());
        }
        let plugins = Plugins { dirs: &self.settings.plugins, dir: &dir, container_id: holder };
        let mut left = Ok(());
        for attachment in Attachment::all(&dir).into_iter().rev() {
            left = left.and(plugins.delete(&attachment).await);
        }
        left?;
        blocking(move || namespace::remove(&dir)).await
    }

    fn lock(&self, holder: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.locks).entry(holder.to_owned()).or_default())
    }
}

/// Orphans that are removed at the same time.
const TOGETHER: usize = 16;

/// The directories of `--network_cni_plugins_dir`.
#[must_use]
pub fn plugin_dirs(text: &str) -> Vec<PathBuf> {
    text.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).to_owned()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| Err(failure.to_string()))
}
