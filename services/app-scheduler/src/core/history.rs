//! Versions of the root: what each change replaced is kept, so that the tree can be taken back step by step.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{
    App, GetGroupVersionRequest, GetGroupVersionResponse, Group, ListGroupVersionsRequest,
    ListGroupVersionsResponse, RootChange,
};
use meshos_types::Timestamp;

use super::{Core, change::Batch};
use crate::error::Refusal;

/// A part of the tree as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tree {
    pub apps: BTreeMap<String, App>,
    pub groups: BTreeMap<String, Group>,
}

impl Tree {
    /// Goes back to before the change, as far as `holds` looks.
    fn undo(&mut self, change: &RootChange, holds: impl Fn(&str) -> bool) {
        for id in &change.app_ids {
            self.apps.remove(id);
        }
        for id in &change.group_ids {
            self.groups.remove(id);
        }
        let apps = change.apps_before.iter().filter(|app| holds(&app.id));
        self.apps.extend(apps.map(|app| (app.id.clone(), app.clone())));
        let groups = change.groups_before.iter().filter(|group| holds(&group.id));
        self.groups.extend(groups.map(|group| (group.id.clone(), group.clone())));
    }

    fn is_there(&self, id: &str) -> bool {
        id == "/" || !self.apps.is_empty() || !self.groups.is_empty()
    }
}

/// Whether `id` is the group or below it.
pub(super) fn is_within(group: &str, id: &str) -> bool {
    let rest = id.strip_prefix(group.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Core {
    /// Remembers what the change replaces. Called before it is applied.
    pub(super) fn keep_history(&mut self, batch: &Batch, version_ms: u64) {
        if batch.edits.is_empty() && batch.groups.is_empty() {
            return;
        }
        let app_ids: Vec<String> = batch.edits.iter().map(|edit| edit.id.clone()).collect();
        let group_ids: Vec<String> = batch.groups.keys().cloned().collect();
        let change = RootChange {
            format: 1,
            version_ms,
            previous_ms: self.root_version(),
            apps_before: self.definitions(&app_ids),
            app_ids,
            groups_before: group_ids.iter().filter_map(|id| self.groups.get(id).cloned()).collect(),
            group_ids,
            definition_records: 0,
        };
        self.out.put_root(&change);
        self.roots.insert(version_ms, change);
        while self.roots.len() > self.settings.args.max_versions.max(1) {
            if let Some((_, oldest)) = self.roots.pop_first() {
                self.out.remove_root(&oldest);
            }
        }
    }

    /// Version of the whole tree; 0: nothing was ever changed.
    pub(super) fn root_version(&self) -> u64 {
        self.groups.get("/").map_or(0, |root| root.version_ms)
    }

    /// A group with all below it, as it is.
    pub(super) fn tree(&self, id: &str) -> Tree {
        let below = format!("{}/", id.trim_end_matches('/'));
        let apps =
            self.apps_below(&below).filter_map(|id| Some((id.clone(), (*self.spec(id).ok()?).clone())));
        let groups = self.groups.iter().filter(|(group, _)| is_within(id, group));
        Tree { apps: apps.collect(), groups: groups.map(|(id, group)| (id.clone(), group.clone())).collect() }
    }

    /// Whether there is such a group.
    pub(super) fn has_group(&self, id: &str) -> bool {
        let below = format!("{id}/");
        id == "/" || self.groups.contains_key(id) || self.apps_below(&below).next().is_some()
    }

    /// The group in a version of the root; none when it, or the version, is not there.
    pub(super) fn tree_at(&self, id: &str, version_ms: u64) -> Option<Tree> {
        let known = version_ms == self.root_version()
            || self
                .roots
                .values()
                .any(|root| root.version_ms == version_ms || root.previous_ms == version_ms);
        if !known {
            return None;
        }
        let mut tree = self.tree(id);
        for (_, change) in self.roots.range(version_ms + 1..).rev() {
            tree.undo(change, |below| is_within(id, below));
        }
        tree.is_there(id).then_some(tree)
    }

    pub(super) fn group_versions(
        &self,
        request: &ListGroupVersionsRequest,
    ) -> Result<ListGroupVersionsResponse, Refusal> {
        let id = &request.id;
        if !self.has_group(id) {
            return Err(Refusal::NoGroup(id.clone()));
        }
        let mut versions = BTreeSet::new();
        let mut tree = self.tree(id);
        let mut version = self.root_version();
        for change in self.roots.values().rev() {
            if tree.is_there(id) && version > 0 {
                versions.insert(version);
            }
            tree.undo(change, |below| is_within(id, below));
            version = change.previous_ms;
        }
        if tree.is_there(id) && version > 0 {
            versions.insert(version);
        }
        Ok(ListGroupVersionsResponse { versions_ms: versions.into_iter().rev().collect() })
    }

    pub(super) fn group_version(
        &self,
        request: &GetGroupVersionRequest,
    ) -> Result<GetGroupVersionResponse, Refusal> {
        let tree = self.tree_at(&request.id, request.version_ms).ok_or_else(|| {
            let version = Timestamp::from_millis(i64::try_from(request.version_ms).unwrap_or(i64::MAX));
            Refusal::NoGroupVersion { group_id: request.id.clone(), version: version.to_string() }
        })?;
        Ok(GetGroupVersionResponse {
            apps: tree.apps.into_values().collect(),
            groups: tree.groups.into_values().collect(),
        })
    }
}
