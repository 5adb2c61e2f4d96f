//! Requests about groups, turned into changes of the apps and groups below them.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{
    App, AppUpdate, ChangeResponse, DeleteGroupRequest, Group, GroupUpdate, SetEnforceRoleRequest,
    StringList, UpdateGroupRequest,
};
use meshos_types::{AppId, Timestamp};

use super::{Core, apps::Edit, change::Batch, history::is_within};
use crate::{error::Refusal, validate};

/// Groups that one group may depend on.
const MAX_DEPENDENCIES: usize = 1000;
const ALONE: &str = "not allowed in conjunction with other properties.";

impl Core {
    pub(super) fn update_group(
        &mut self,
        request: &UpdateGroupRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let update = request.update.clone().unwrap_or_default();
        check_alone(&update, "")?;
        let base = path(&AppId::root(), &request.id)?;
        let id = update.id.as_ref().map_or(Ok(base.clone()), |text| path(&base, text))?;
        let exists = self.has_group(id.as_str());
        if request.create_only {
            if !is_within(base.as_str(), id.as_str()) {
                return Err(Refusal::invalid("/id", format!("Identifier is not child of '{base}'")));
            }
            if self.spec(id.as_str()).is_ok() {
                return Err(Refusal::AppAtPath(id.as_str().to_owned()));
            }
            if exists {
                return Err(Refusal::GroupExists(id.as_str().to_owned()));
            }
        }
        let mut batch = self.group_batch(&id, &update)?;
        batch.force = request.force;
        batch.limits = request.limits;
        if request.dry_run {
            return Ok(ChangeResponse { steps: self.dry_run(batch)?, ..Default::default() });
        }
        let mut response = self.change(batch, traceparent)?;
        response.created = !exists;
        id.as_str().clone_into(&mut response.group_id);
        Ok(response)
    }

    pub(super) fn delete_group(
        &mut self,
        request: &DeleteGroupRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let id = path(&AppId::root(), &request.id)?;
        if !self.has_group(id.as_str()) {
            return Err(Refusal::NoGroup(id.as_str().to_owned()));
        }
        let mut batch = Batch { group: id.as_str().to_owned(), force: request.force, ..Batch::default() };
        self.remove_tree(id.as_str(), &mut batch);
        self.change(batch, traceparent)
    }

    pub(super) fn set_enforce_role(
        &mut self,
        request: &SetEnforceRoleRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let id = path(&AppId::root(), &request.id)?;
        if !self.has_group(id.as_str()) {
            return Err(Refusal::NoGroup(id.as_str().to_owned()));
        }
        if id.segments().count() != 1 {
            return Err(Refusal::IllegalArgument("Path needs to be top-level".to_owned()));
        }
        let group = Group { enforce_role: request.enforce_role, ..self.group_record(id.as_str()) };
        let groups = BTreeMap::from([(id.as_str().to_owned(), Some(group))]);
        let batch = Batch { groups, group: id.as_str().to_owned(), ..Batch::default() };
        self.change(batch, traceparent)
    }

    /// The record of a group, or that of a new one.
    pub(super) fn group_record(&self, id: &str) -> Group {
        let known = self.groups.get(id).cloned();
        known.unwrap_or_else(|| Group { format: 1, id: id.to_owned(), ..Default::default() })
    }

    /// Whether the record differs from what is there.
    pub(super) fn is_group_change(&self, id: &str, group: Option<&Group>) -> bool {
        match (self.groups.get(id), group) {
            (Some(old), Some(new)) => {
                (&old.dependencies, old.enforce_role) != (&new.dependencies, new.enforce_role)
            }
            (None, None) => false,
            _ => true,
        }
    }

    /// Puts the records in place. The root gets the version in any case.
    pub(super) fn apply_groups(&mut self, groups: BTreeMap<String, Option<Group>>, version_ms: u64) {
        if self.roots.last_key_value().is_none_or(|(last, _)| *last != version_ms) {
            return;
        }
        let mut groups = groups;
        let root = groups.remove("/").flatten().unwrap_or_else(|| self.group_record("/"));
        groups.insert("/".to_owned(), Some(root));
        for (id, group) in groups {
            match group {
                Some(group) => {
                    let group = Group { format: 1, version_ms, ..group };
                    self.out.put_group(&group);
                    self.groups.insert(id, group);
                }
                None => {
                    self.groups.remove(&id);
                    self.out.remove_group(&id);
                }
            }
        }
    }

    fn group_batch(&self, id: &AppId, update: &GroupUpdate) -> Result<Batch, Refusal> {
        let mut batch = Batch { group: id.as_str().to_owned(), ..Batch::default() };
        if let Some(version) = update.version_ms {
            self.roll_back(id.as_str(), version, &mut batch)?;
        } else if let Some(factor) = update.scale_by {
            self.scale_group(id.as_str(), factor, &mut batch)?;
        } else {
            self.put_group(id, update, "", &mut batch)?;
            let apps = batch.edits.iter().any(|edit| edit.new.is_some() || self.spec(&edit.id).is_ok());
            let enforced = |group: Option<&Group>| group.is_some_and(|group| group.enforce_role);
            let flips = batch.groups.iter().any(|(id, new)| {
                self.has_group(id) && enforced(self.groups.get(id)) != enforced(new.as_ref())
            });
            if apps && flips {
                return Err(Refusal::invalid(
                    "/enforceRole",
                    "enforceRole cannot be modified in a request that adds, removes or modifies services; \
                     please make these changes in separate requests.",
                ));
            }
        }
        Ok(batch)
    }

    fn scale_group(&self, id: &str, factor: f64, batch: &mut Batch) -> Result<(), Refusal> {
        if !self.has_group(id) {
            return Err(Refusal::NoGroup(id.to_owned()));
        }
        for (id, app) in self.tree(id).apps {
            let instances = (f64::from(app.instances) * factor).ceil().min(f64::from(u32::MAX)) as u32;
            let app = App { instances, ..app };
            // Only the number changes: the rest stays, whatever else is asked of apps by now.
            validate::scaled(&app, &self.settings.rules).map_err(|refusal| refusal.below(&id))?;
            batch.edits.push(Edit::put(app));
        }
        Ok(())
    }

    fn roll_back(&self, id: &str, version_ms: u64, batch: &mut Batch) -> Result<(), Refusal> {
        let old = self.tree_at(id, version_ms).ok_or_else(|| {
            let version = Timestamp::from_millis(i64::try_from(version_ms).unwrap_or(i64::MAX));
            Refusal::IllegalArgument(format!("Group {id} not available in version {version}"))
        })?;
        let now = self.tree(id);
        batch
            .edits
            .extend(now.apps.keys().filter(|id| !old.apps.contains_key(*id)).map(|id| Edit::remove(id)));
        batch.edits.extend(old.apps.into_values().map(Edit::put));
        for group in now.groups.keys().filter(|id| *id != "/" && !old.groups.contains_key(*id)) {
            batch.groups.insert(group.clone(), None);
        }
        batch.groups.extend(old.groups.into_iter().map(|(id, group)| (id, Some(group))));
        Ok(())
    }

    /// Removes a group with all below it; of the root only what is below.
    fn remove_tree(&self, id: &str, batch: &mut Batch) {
        let tree = self.tree(id);
        batch.edits.extend(tree.apps.keys().map(|id| Edit::remove(id)));
        let root = Group { format: 1, id: "/".to_owned(), ..Default::default() };
        for group in tree.groups.into_keys() {
            let new = (group == "/").then(|| root.clone());
            batch.groups.insert(group, new);
        }
    }

    /// Gives the group the form that the update has; `at` is where it stands in the request.
    fn put_group(
        &self,
        id: &AppId,
        update: &GroupUpdate,
        at: &str,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        check_alone(update, at)?;
        let mut group = self.groups.get(id.as_str()).cloned().unwrap_or_else(|| self.new_group(id));
        if let Some(dependencies) = &update.dependencies {
            group.dependencies = resolved(id, &dependencies.items);
            if group.dependencies.len() > MAX_DEPENDENCIES {
                return Err(Refusal::invalid(&format!("{at}/dependencies"), "error.maxLength"));
            }
        }
        if let Some(enforce) = update.enforce_role {
            if enforce && id.segments().count() != 1 {
                let text =
                    format!("enforceRole can only be set for top-level groups, and {id} is not top-level");
                return Err(Refusal::invalid(&format!("{at}/enforceRole"), text));
            }
            group.enforce_role = enforce;
        }
        batch.groups.insert(id.as_str().to_owned(), Some(group));
        if let Some(apps) = &update.apps {
            self.put_apps(id, &apps.items, at, batch)?;
        }
        if let Some(groups) = &update.groups {
            self.put_groups(id, &groups.items, at, batch)?;
        }
        Ok(())
    }

    fn put_apps(
        &self,
        group: &AppId,
        apps: &[AppUpdate],
        at: &str,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let mut wanted = BTreeSet::new();
        for (index, app) in apps.iter().enumerate() {
            let at = format!("{at}/apps({index})");
            let text = app.id.as_deref().unwrap_or_default();
            let id = child(group, text, "App has to be child of group with parent id", &at)?;
            validate::app_id(id.as_str()).map_err(|error| Refusal::invalid(&format!("{at}/id"), error))?;
            let mut update = AppUpdate { version_ms: None, ..app.clone() };
            if let Some(list) = &mut update.dependencies {
                *list = StringList { items: resolved(group, &list.items) };
            }
            let enforced = self.enforced_role(id.as_str(), |top| {
                batch.groups.get(top).map_or_else(|| self.groups.get(top), Option::as_ref)
            });
            // An app that is there and says nothing of a role keeps the one it has.
            let known = self.spec(id.as_str()).ok().map(|app| app.role.clone());
            let kept = known.filter(|role| update.role.as_ref().is_none_or(|wanted| wanted == role));
            let enforced = match (enforced, kept) {
                (Some(top), Some(role)) => {
                    update.role = Some(role.clone());
                    Some(top).filter(|_| role != self.settings.defaults.role)
                }
                (enforced, _) => enforced,
            };
            let edit = self.edit_with(id.as_str(), &update, None, enforced);
            batch.edits.push(edit.map_err(|refusal| refusal.below(&at))?);
            if !wanted.insert(id.as_str().to_owned()) {
                return Err(Refusal::invalid(
                    &at,
                    format!("App id {id} stands in the request more than once."),
                ));
            }
        }
        let below = format!("{}/", group.as_str().trim_end_matches('/'));
        let own = self.apps_below(&below).filter(|id| !id[below.len()..].contains('/'));
        batch.edits.extend(own.filter(|id| !wanted.contains(*id)).map(|id| Edit::remove(id)));
        Ok(())
    }

    fn put_groups(
        &self,
        parent: &AppId,
        groups: &[GroupUpdate],
        at: &str,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let mut wanted = BTreeSet::new();
        for (index, group) in groups.iter().enumerate() {
            let at = format!("{at}/groups({index})");
            let text = group.id.as_deref().unwrap_or_default();
            let id = child(parent, text, "Group has to be child of groups with parent id", &at)?;
            wanted.insert(id.as_str().to_owned());
            self.put_group(&id, group, &at, batch)?;
        }
        for id in self.own_groups(parent.as_str()) {
            if !wanted.contains(&id) {
                self.remove_tree(&id, batch);
            }
        }
        Ok(())
    }

    /// Ids of the groups directly in a group.
    fn own_groups(&self, id: &str) -> BTreeSet<String> {
        let below = format!("{}/", id.trim_end_matches('/'));
        let tree = self.tree(id);
        let apps = tree.apps.keys().filter_map(|app| app.strip_prefix(&below)?.split_once('/'));
        let apps = apps.map(|(first, _)| first.to_owned());
        let groups = tree.groups.keys().filter_map(|group| group.strip_prefix(&below));
        let groups = groups.filter_map(|rest| rest.split('/').next()).filter(|first| !first.is_empty());
        apps.chain(groups.map(str::to_owned)).map(|first| format!("{below}{first}")).collect()
    }
}

/// `version` and `scaleBy` stand alone.
fn check_alone(update: &GroupUpdate, at: &str) -> Result<(), Refusal> {
    let version = GroupUpdate { version_ms: update.version_ms, ..Default::default() };
    if update.version_ms.is_some() && *update != version {
        return Err(Refusal::invalid(&format!("{at}/version"), ALONE));
    }
    let scale = GroupUpdate { scale_by: update.scale_by, ..Default::default() };
    if update.scale_by.is_some() && *update != scale {
        return Err(Refusal::invalid(&format!("{at}/scaleBy"), ALONE));
    }
    Ok(())
}

fn path(base: &AppId, text: &str) -> Result<AppId, Refusal> {
    AppId::resolve(base, text).map_err(|error| Refusal::invalid("/id", error.to_string()))
}

/// The id of something directly in `group`.
fn child(group: &AppId, text: &str, not_direct: &str, at: &str) -> Result<AppId, Refusal> {
    let at = format!("{at}/id");
    let id = AppId::resolve(group, text).map_err(|error| Refusal::invalid(&at, error.to_string()))?;
    if id == *group || !is_within(group.as_str(), id.as_str()) {
        return Err(Refusal::invalid(&at, format!("Identifier is not child of '{group}'")));
    }
    if id.parent().as_ref() != Some(group) {
        return Err(Refusal::invalid(&at, not_direct));
    }
    Ok(id)
}

/// Ids taken from the group; one that is not valid stays, for validation to name it.
fn resolved(group: &AppId, ids: &[String]) -> Vec<String> {
    let absolute =
        |text: &String| AppId::resolve(group, text).map_or_else(|_| text.clone(), |id| id.to_string());
    ids.iter().map(absolute).collect()
}
