//! The keys that this service owns.
//!
//! | key | value |
//! | --- | --- |
//! | `apps/framework` | the framework id, as text |
//! | `apps/specs/<app>/current` | the app as it is wanted now |
//! | `apps/specs/<app>/failure` | its last [`TaskFailure`] |
//! | `apps/specs/<app>/v<version>` | each version of it; the version has 15 digits, so that keys sort by time |
//! | `apps/deployments/<id>` | a running deployment |
//! | `apps/instances/<id>` | an instance |
//! | `apps/groups/<group>` | a group; the root is `apps/groups/_root` |
//! | `apps/roots/<version>` | what a version of the root replaced |
//!
//! `<app>` is the path with underscores (`/a/b` is `a_b`), which is reversible since no id has an underscore.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshos_proto::meshos::apps::v1::{App, Deployment, Group, Instance, RootChange, TaskFailure};
use meshos_store::KeyValue;
use prost::Message;
use tracing::error;

/// Everything is below it.
pub const PREFIX: &str = "apps/";
/// The framework id.
pub const FRAMEWORK: &str = "apps/framework";
const SPECS: &str = "apps/specs/";
const DEPLOYMENTS: &str = "apps/deployments/";
const INSTANCES: &str = "apps/instances/";
const GROUPS: &str = "apps/groups/";
const ROOTS: &str = "apps/roots/";

fn encode(app_id: &str) -> String {
    app_id.trim_start_matches('/').replace('/', "_")
}

/// Key of an app's current definition.
pub fn app_key(app_id: &str) -> String {
    format!("{SPECS}{}/current", encode(app_id))
}

/// Key of an app's last failure.
pub fn failure_key(app_id: &str) -> String {
    format!("{SPECS}{}/failure", encode(app_id))
}

/// Key of one version of an app.
pub fn version_key(app_id: &str, version_ms: u64) -> String {
    format!("{SPECS}{}/v{version_ms:015}", encode(app_id))
}

/// Key of a deployment.
pub fn deployment_key(id: &str) -> String {
    format!("{DEPLOYMENTS}{id}")
}

/// Key of an instance.
pub fn instance_key(id: &str) -> String {
    format!("{INSTANCES}{id}")
}

/// Key of a group.
pub fn group_key(id: &str) -> String {
    // No segment has an underscore, so no group has the key of the root.
    if id == "/" { format!("{GROUPS}_root") } else { format!("{GROUPS}{}", encode(id)) }
}

/// Key of what a version of the root replaced.
pub fn root_key(version_ms: u64) -> String {
    format!("{ROOTS}{version_ms:015}")
}

/// All records of this service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub framework_id: Option<String>,
    pub apps: Vec<App>,
    pub versions: Vec<App>,
    pub failures: Vec<TaskFailure>,
    pub deployments: Vec<Deployment>,
    pub instances: Vec<Instance>,
    pub groups: Vec<Group>,
    /// Oldest first.
    pub roots: Vec<RootChange>,
}

impl Records {
    /// Reads what is stored. A record that cannot be read is left out and logged: one object degrades, not the
    /// service.
    pub fn read<'a>(items: impl IntoIterator<Item = (&'a str, &'a Bytes)>) -> Self {
        let mut records = Self::default();
        for (key, value) in items {
            if let Err(cause) = records.read_one(key, value.clone()) {
                error!(key, error = %cause, "stored record cannot be read");
            }
        }
        records
    }

    /// As [`Self::read`], from a listing.
    pub fn from_items(items: &[KeyValue]) -> Self {
        Self::read(items.iter().map(|item| (item.key.as_str(), &item.value)))
    }

    /// As [`Self::read`], from a map of keys.
    pub fn from_map(items: &BTreeMap<String, Bytes>) -> Self {
        Self::read(items.iter().map(|(key, value)| (key.as_str(), value)))
    }

    fn read_one(&mut self, key: &str, value: Bytes) -> Result<(), prost::DecodeError> {
        if key == FRAMEWORK {
            self.framework_id = Some(String::from_utf8_lossy(&value).into_owned());
        } else if key.starts_with(INSTANCES) {
            self.instances.push(Instance::decode(value)?);
        } else if key.starts_with(DEPLOYMENTS) {
            self.deployments.push(Deployment::decode(value)?);
        } else if key.starts_with(GROUPS) {
            self.groups.push(Group::decode(value)?);
        } else if key.starts_with(ROOTS) {
            self.roots.push(RootChange::decode(value)?);
        } else if key.starts_with(SPECS) && key.ends_with("/current") {
            self.apps.push(App::decode(value)?);
        } else if key.starts_with(SPECS) && key.ends_with("/failure") {
            self.failures.push(TaskFailure::decode(value)?);
        } else if key.starts_with(SPECS) {
            self.versions.push(App::decode(value)?);
        }
        Ok(())
    }
}
