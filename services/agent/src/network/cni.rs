//! The Container Network Interface, versions 0.3 to 1.0: programs that join a namespace to a network and leave it again.

mod config;
mod plugin;
mod result;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::Order;
use config::NetworkList;
pub(super) use config::find;

/// A namespace in one network. What is written of it is enough to leave the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attachment {
    list: NetworkList,
    /// Of its interface in the container, and among the container's networks.
    number: usize,
    /// What plugins are told beside their configuration, by the capability that they need for it.
    capabilities: Map<String, Value>,
    /// What the last plugin said.
    result: Option<Value>,
}

impl Attachment {
    pub(super) fn new(list: NetworkList, number: usize, order: &Order) -> Self {
        let mut capabilities = Map::new();
        // Ports lead to the first network, as in Mesos to the one that names them.
        if number == 0 && !order.port_mappings.is_empty() {
            let mapping = |mapping: &crate::containerizer::container::PortMapping| {
                json!({
                    "hostPort": mapping.host_port,
                    "containerPort": mapping.container_port,
                    "protocol": if mapping.udp { "udp" } else { "tcp" },
                })
            };
            let mappings = order.port_mappings.iter().map(mapping).collect();
            capabilities.insert("portMappings".to_owned(), Value::Array(mappings));
        }
        Self { list: list.able_to(&capabilities), number, capabilities, result: None }
    }

    /// All attachments of a namespace, in their order.
    pub(super) fn all(dir: &Path) -> Vec<Self> {
        let read = |number: usize| -> Option<Self> {
            let text = std::fs::read(Self::file(dir, number)).ok()?;
            serde_json::from_slice(&text).ok()
        };
        (0..).map_while(read).collect()
    }

    fn file(dir: &Path, number: usize) -> PathBuf {
        dir.join(format!("{number}.json"))
    }

    fn write(&self, dir: &Path) -> Result<(), String> {
        let path = Self::file(dir, self.number);
        let text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        // Whole or not at all: an agent that is killed must find what it can leave the network with.
        let new = path.with_extension("new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    pub(super) fn network(&self) -> &str {
        &self.list.name
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.result.as_ref().map(result::addresses).unwrap_or_default()
    }

    pub(super) fn resolv_conf(&self) -> String {
        self.result.as_ref().map(result::resolv_conf).unwrap_or_default()
    }

    /// What the plugin at a place of the list is told.
    fn input(&self, plugin: usize, previous: Option<&Value>) -> Option<Map<String, Value>> {
        let mut input = self.list.plugins.get(plugin)?.clone();
        let wanted = input.remove("capabilities").unwrap_or_default();
        let able = |name: &str| wanted.get(name).and_then(Value::as_bool).unwrap_or_default();
        let given: Map<_, _> = self
            .capabilities
            .iter()
            .filter(|(name, _)| able(name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        if !given.is_empty() {
            input.insert("runtimeConfig".to_owned(), Value::Object(given));
        }
        input.insert("name".to_owned(), Value::from(self.list.name.clone()));
        input.insert("cniVersion".to_owned(), Value::from(self.list.version.clone()));
        if let Some(previous) = previous {
            input.insert("prevResult".to_owned(), previous.clone());
        }
        Some(input)
    }
}

/// The plugins of this agent, for one namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plugins<'a> {
    pub(super) dirs: &'a [PathBuf],
    pub(super) dir: &'a Path,
    pub(super) container_id: &'a str,
}

impl Plugins<'_> {
    /// Joins the network.
    ///
    /// # Errors
    /// What a plugin says. What has been done can be undone by [`Plugins::delete`].
    pub(super) async fn add(&self, mut attachment: Attachment) -> Result<(), String> {
        attachment.list.check()?;
        // Before anything is done: whoever comes after a crash can undo it.
        attachment.write(self.dir)?;
        for number in 0..attachment.list.plugins.len() {
            let Some(input) = attachment.input(number, attachment.result.as_ref()) else { break };
            let answer = plugin::run(self, "ADD", (&attachment, input)).await?;
            attachment.result = answer.or(attachment.result);
        }
        match &attachment.result {
            Some(_) => attachment.write(self.dir),
            None => Err(format!("the plugins of the network '{}' gave no result", attachment.network())),
        }
    }

    /// Leaves the network; once more if need be.
    ///
    /// # Errors
    /// What a plugin says.
    pub(super) async fn delete(&self, attachment: &Attachment) -> Result<(), String> {
        for number in (0..attachment.list.plugins.len()).rev() {
            let Some(input) = attachment.input(number, attachment.result.as_ref()) else { continue };
            match plugin::run(self, "DEL", (attachment, input)).await {
                // Gone with its plugin: what else there is must not be kept for it.
                Err(error) if error.contains(plugin::MISSING) => {
                    warn!(network = attachment.network(), error, "network cannot be left");
                }
                done => drop(done?),
            }
        }
        Ok(())
    }
}
