//! The keys that this service owns.
//!
//! | key | value |
//! | --- | --- |
//! | `apps/framework` | the framework id, as text |
//! | `apps/specs/<app>/current` | the app as it is wanted now |
//! | `apps/specs/<app>/failure` | its last [`TaskFailure`] |
//! | `apps/specs/<app>/v<version>` | each version of it; the version has 15 digits, so that keys sort by time |
//! | `apps/deployments/<id>` | a running deployment |
//! | `apps/finished/<id>` | one that ended, kept for a while |
//! | `apps/instances/<id>` | an instance |
//! | `apps/groups/<group>` | a group; the root is `apps/groups/_root` |
//! | `apps/roots/<version>` | what a version of the root replaced |
//!
//! A deployment or a version of the root with many definitions has more keys, `<key>~<number>`.
//!
//! `<app>` is the path with underscores (`/a/b` is `a_b`), which is reversible since no id has an underscore.

mod parts;

use std::collections::BTreeMap;

use bytes::Bytes;
use meshos_proto::meshos::apps::v1::{
    App, Deployment, FinishedDeployment, Group, Instance, RootChange, TaskFailure,
};
use meshos_store::KeyValue;
use prost::Message;
use tracing::error;

use parts::{Parted, Reading};

/// Everything is below it.
pub const PREFIX: &str = "apps/";
/// The framework id.
pub const FRAMEWORK: &str = "apps/framework";
const SPECS: &str = "apps/specs/";
const DEPLOYMENTS: &str = "apps/deployments/";
const FINISHED: &str = "apps/finished/";
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

/// Key of a deployment that ended.
pub fn finished_key(id: &str) -> String {
    format!("{FINISHED}{id}")
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

/// The records of a deployment. The first changes with each step; the others, if there are any, never do.
pub fn deployment_records(deployment: &Deployment) -> Vec<(String, Bytes)> {
    records(&deployment_key(&deployment.id), deployment)
}

/// The records of what a version of the root replaced.
pub fn root_records(change: &RootChange) -> Vec<(String, Bytes)> {
    records(&root_key(change.version_ms), change)
}

fn records<R: Parted>(key: &str, record: &R) -> Vec<(String, Bytes)> {
    let (main, parts) = parts::split(record);
    let parts = parts.into_iter().enumerate().map(|(at, part)| (parts::key(key, at), part));
    let all = [(key.to_owned(), main)].into_iter().chain(parts);
    all.map(|(key, record)| (key, Bytes::from(record.encode_to_vec()))).collect()
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
    pub finished: Vec<FinishedDeployment>,
    pub instances: Vec<Instance>,
    pub groups: Vec<Group>,
    /// Oldest first.
    pub roots: Vec<RootChange>,
    /// Keys of records of which parts are missing.
    pub torn: Vec<String>,
}

impl Records {
    /// Reads what is stored. A record that cannot be read is left out and logged: one object degrades, not the
    /// service.
    pub fn read<'a>(items: impl IntoIterator<Item = (&'a str, &'a Bytes)>) -> Self {
        let mut records = Self::default();
        let (mut deployments, mut roots) = (Reading::default(), Reading::default());
        for (key, value) in items {
            let read = if key.starts_with(DEPLOYMENTS) {
                Deployment::decode(value.clone()).map(|record| deployments.add(key, record))
            } else if key.starts_with(ROOTS) {
                RootChange::decode(value.clone()).map(|record| roots.add(key, record))
            } else {
                records.read_one(key, value.clone())
            };
            if let Err(cause) = read {
                error!(key, error = %cause, "stored record cannot be read");
            }
        }
        let (deployments, torn) = deployments.finish();
        let (roots, older) = roots.finish();
        for key in torn.iter().chain(&older) {
            error!(key, "stored record is not whole: its change was not made");
        }
        (records.deployments, records.roots, records.torn) = (deployments, roots, [torn, older].concat());
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
        } else if key.starts_with(FINISHED) {
            self.finished.push(FinishedDeployment::decode(value)?);
        } else if key.starts_with(GROUPS) {
            self.groups.push(Group::decode(value)?);
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
