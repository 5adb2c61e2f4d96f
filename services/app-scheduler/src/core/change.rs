//! Changes of definitions: checked together, applied together, as one deployment.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{App, ChangeResponse, Deployment, DeploymentLimits, Group, Step};
use meshos_types::AppId;
use prost::Message;

use super::{Core, apps::Edit};
use crate::{
    deployment::plan::{self, Change, Graph},
    error::Refusal,
};

/// Bytes that the ids, steps and groups of one change may have: they stand in one record.
const MAX_PLAN_BYTES: usize = 1024 * 1024;

/// Everything that one request changes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub edits: Vec<Edit>,
    /// New records of groups; none: removed. Their versions are set when they are applied.
    pub groups: BTreeMap<String, Option<Group>>,
    /// The group whose change events tell of.
    pub group: String,
    pub force: bool,
    pub limits: Option<DeploymentLimits>,
    /// The id that its deployment gets; none: a new one.
    pub deployment_id: Option<String>,
    /// The deployment that it undoes, or empty. That one ends even when there are too many.
    pub rolls_back: String,
}

impl Batch {
    /// Changes of apps only. One app's change is told as one of its group.
    pub(super) fn of(edits: Vec<Edit>, force: bool) -> Self {
        let group = match edits.as_slice() {
            [edit] => AppId::parse(&edit.id).ok().and_then(|id| id.parent()),
            _ => None,
        };
        let group = group.unwrap_or_else(AppId::root).as_str().to_owned();
        Self { edits, group, force, ..Self::default() }
    }
}

impl Core {
    /// Checks and applies changes as one deployment.
    pub(super) fn change(&mut self, batch: Batch, traceparent: &str) -> Result<ChangeResponse, Refusal> {
        let group = batch.group.clone();
        let changed = self.try_change(batch, traceparent);
        match &changed {
            Ok(response) => self.tell_group(&group, response.version_ms, String::new()),
            Err(refusal) => self.tell_group(&group, self.next_version(), refusal.to_string()),
        }
        changed
    }

    /// The steps that a change would take; nothing changes.
    pub(super) fn dry_run(&self, mut batch: Batch) -> Result<Vec<Step>, Refusal> {
        let version = self.next_version();
        let mut accepted = Vec::new();
        self.complete_groups(&mut batch)?;
        self.check_volumes(&batch.edits)?;
        batch.edits = self.versioned(batch.edits, version, &mut accepted)?;
        self.steps(&batch)
    }

    fn next_version(&self) -> u64 {
        self.last_version.max(self.now.saturating_sub(1)) + 1
    }

    fn steps(&self, batch: &Batch) -> Result<Vec<Step>, Refusal> {
        let view = Overlay::new(self, batch);
        let changes: Vec<Change<'_>> = batch.edits.iter().map(|edit| view.change(edit)).collect();
        plan::steps(&changes, &view).map_err(|cycle| Refusal::invalid("/", cycle.to_string()))
    }

    fn try_change(&mut self, mut batch: Batch, traceparent: &str) -> Result<ChangeResponse, Refusal> {
        let version = self.next_version();
        self.complete_groups(&mut batch)?;
        self.check_volumes(&batch.edits)?;
        let mut accepted = Vec::new();
        batch.edits = self.versioned(std::mem::take(&mut batch.edits), version, &mut accepted)?;
        let steps = self.steps(&batch)?;
        batch.edits.retain(|edit| self.is_change(edit));
        batch.groups.retain(|id, group| self.is_group_change(id, group.as_ref()));
        let affected: Vec<String> = batch.edits.iter().map(|edit| edit.id.clone()).collect();
        let most = self.settings.args.max_running_deployments;
        if !affected.is_empty() && self.deployments.len() >= most && batch.rolls_back.is_empty() {
            return Err(Refusal::TooManyDeployments(most));
        }
        let groups = batch
            .groups
            .iter()
            .flat_map(|(id, group)| [id.len(), group.as_ref().map_or(0, Message::encoded_len)]);
        let old = batch.groups.keys().filter_map(|id| self.groups.get(id)).map(Message::encoded_len);
        let steps_bytes: usize = steps.iter().map(Message::encoded_len).sum();
        let ids: usize = affected.iter().map(|id| id.len() + 4).sum();
        check_size(steps_bytes + ids + groups.chain(old).sum::<usize>())?;
        let id = batch.deployment_id.take().unwrap_or_else(|| self.rng.uuid().to_string());
        self.free_locks(&affected, &batch, &id)?;
        self.last_version = version;
        let mut deployment = Deployment {
            format: 1,
            id,
            version_ms: version,
            originals: self.definitions(&affected),
            targets: batch.edits.iter().filter_map(|edit| edit.new.clone()).collect(),
            affected_apps: affected,
            steps,
            current_step: 0,
            traceparent: traceparent.to_owned(),
            rolls_back: batch.rolls_back.clone(),
            ..Default::default()
        };
        self.limit(&mut deployment, batch.limits.as_ref());
        let response = ChangeResponse {
            deployment_id: deployment.id.clone(),
            version_ms: version,
            apps: accepted,
            ..Default::default()
        };
        self.note_roles(&batch);
        self.keep_history(&batch, version);
        self.apply_groups(std::mem::take(&mut batch.groups), version);
        for edit in batch.edits {
            self.apply(edit);
        }
        self.start_deployment(deployment);
        Ok(response)
    }

    /// Definitions of these apps as they are.
    pub(super) fn definitions(&self, ids: &[String]) -> Vec<App> {
        ids.iter().filter_map(|id| self.spec(id).ok()).map(|app| (*app).clone()).collect()
    }

    /// Whether the edit differs from what is there.
    fn is_change(&self, edit: &Edit) -> bool {
        match (self.spec(&edit.id), &edit.new) {
            (Ok(old), Some(new)) => old.version_ms != new.version_ms || !edit.kill.is_empty(),
            (Err(_), None) => false,
            _ => true,
        }
    }

    /// Apps that a deployment works on are locked; with force those deployments are stopped.
    fn free_locks(&mut self, affected: &[String], batch: &Batch, id: &str) -> Result<(), Refusal> {
        let locks = affected.iter().filter_map(|id| self.apps.get(id)?.deployment.clone());
        let locks: BTreeSet<String> = locks.collect();
        if !locks.is_empty() && !batch.force {
            return Err(Refusal::Locked(locks.into_iter().collect()));
        }
        for lock in locks {
            let by = if lock == batch.rolls_back { id } else { "" };
            self.stop_deployment(&lock, false, by);
        }
        Ok(())
    }

    /// Adds the groups that new apps and groups stand in, and refuses apps and groups of the same id: an app
    /// takes the place of an empty group only.
    fn complete_groups(&self, batch: &mut Batch) -> Result<(), Refusal> {
        let new_apps: Vec<String> = batch
            .edits
            .iter()
            .filter(|edit| edit.new.is_some() && self.spec(&edit.id).is_err())
            .map(|edit| edit.id.clone())
            .collect();
        let asked: BTreeSet<String> =
            batch.groups.iter().filter(|(_, group)| group.is_some()).map(|(id, _)| id.clone()).collect();
        let mut missing = BTreeSet::new();
        {
            let view = Overlay::new(self, batch);
            for id in new_apps.iter().chain(&asked) {
                let Ok(path) = AppId::parse(id) else { continue };
                for group in path.ancestors().map(|group| group.as_str().to_owned()) {
                    if view.app(&group).is_some() {
                        return Err(clash());
                    }
                    if !group.is_empty() && group != "/" && view.group(&group).is_none() {
                        missing.insert(group);
                    }
                }
            }
            for id in &asked {
                if view.app(id).is_some() {
                    return Err(clash());
                }
            }
            for id in &new_apps {
                if view.has_members(id) {
                    return Err(clash());
                }
            }
        }
        for id in missing {
            let group = AppId::parse(&id).map(|path| self.new_group(&path)).unwrap_or_default();
            batch.groups.insert(id, Some(group));
        }
        for id in new_apps.into_iter().filter(|id| self.groups.contains_key(id)) {
            batch.groups.insert(id, None);
        }
        Ok(())
    }

    /// Ids of apps that begin with `prefix`, which ends in a slash.
    pub(super) fn apps_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a String> {
        let from = self.apps.range(prefix.to_owned()..);
        let below = from.take_while(move |(id, _)| id.starts_with(prefix));
        below.filter(|(_, state)| state.spec.is_some()).map(|(id, _)| id)
    }

    /// Gives the new definitions their service ports and versions. `accepted` gets them as the answer shows them:
    /// before ports were chosen.
    fn versioned(
        &self,
        edits: Vec<Edit>,
        version: u64,
        accepted: &mut Vec<App>,
    ) -> Result<Vec<Edit>, Refusal> {
        let mut taken = BTreeSet::new();
        let mut done = Vec::new();
        for mut edit in edits {
            if let Some(mut app) = edit.new.take() {
                let old = self.apps.get(&edit.id).and_then(|state| state.spec.clone());
                let asked = app.clone();
                self.assign_ports(&mut app, old.as_deref(), &mut taken)?;
                stamp(&mut app, old.as_deref(), version, edit.restart);
                let (port_definitions, container) = (asked.port_definitions, asked.container);
                accepted.push(App { port_definitions, container, ..app.clone() });
                edit.new = Some(app);
            }
            done.push(edit);
        }
        Ok(done)
    }
}

/// Sets the version and the times of the last changes.
fn stamp(app: &mut App, old: Option<&App>, version: u64, restart: bool) {
    app.format = 1;
    app.version_ms = version;
    app.last_scaling_at_ms = version;
    app.last_config_change_at_ms = version;
    let Some(old) = old else { return };
    let config = plan::config_changed(old, app);
    let scaled = old.instances != app.instances;
    if !config && !scaled {
        app.last_scaling_at_ms = old.last_scaling_at_ms;
        if !restart && app.executor_resources == old.executor_resources {
            app.version_ms = old.version_ms;
        }
    }
    if !config && !restart {
        app.last_config_change_at_ms = old.last_config_change_at_ms;
    }
}

/// Refuses a plan that is too large to be stored.
fn check_size(bytes: usize) -> Result<(), Refusal> {
    if bytes <= MAX_PLAN_BYTES {
        return Ok(());
    }
    let text = format!(
        "The change touches too many apps and groups for one deployment: its plan has {bytes} bytes, which is over \
         the limit of {MAX_PLAN_BYTES}. Send it in several requests."
    );
    Err(Refusal::IllegalArgument(text))
}

fn clash() -> Refusal {
    Refusal::invalid("/", "Groups and Applications may not have the same identifier.")
}

/// The apps and groups as they will be.
struct Overlay<'a> {
    core: &'a Core,
    edits: BTreeMap<&'a str, &'a Edit>,
    groups: &'a BTreeMap<String, Option<Group>>,
}

impl<'a> Overlay<'a> {
    fn new(core: &'a Core, batch: &'a Batch) -> Self {
        let edits = batch.edits.iter().map(|edit| (edit.id.as_str(), edit)).collect();
        Self { core, edits, groups: &batch.groups }
    }

    fn app(&self, id: &str) -> Option<&App> {
        match self.edits.get(id) {
            Some(edit) => edit.new.as_ref(),
            None => self.core.apps.get(id)?.spec.as_deref(),
        }
    }

    fn group(&self, id: &str) -> Option<&Group> {
        match self.groups.get(id) {
            Some(group) => group.as_ref(),
            None => self.core.groups.get(id),
        }
    }

    fn change(&self, edit: &'a Edit) -> Change<'a> {
        let old = self.core.apps.get(&edit.id).and_then(|state| state.spec.as_deref());
        Change { old, new: edit.new.as_ref(), kill: &edit.kill }
    }

    /// Ids of the apps below a group.
    fn members(&self, group: &str) -> BTreeSet<String> {
        let below = format!("{}/", group.trim_end_matches('/'));
        let edited = self.edits.range(below.as_str()..).map(|(id, _)| (*id).to_owned());
        let edited = edited.take_while(|id| id.starts_with(&below));
        let all: BTreeSet<String> = self.core.apps_below(&below).cloned().chain(edited).collect();
        all.into_iter().filter(|id| self.app(id).is_some()).collect()
    }

    /// Whether an app or a group is below it.
    fn has_members(&self, id: &str) -> bool {
        let below = format!("{id}/");
        let known = self.core.groups.range(below.clone()..).map(|(id, _)| id);
        let known = known.take_while(|id| id.starts_with(&below));
        let made = self.groups.range(below.clone()..).map(|(id, _)| id);
        let made = made.take_while(|id| id.starts_with(&below));
        let mut groups = known.chain(made);
        !self.members(id).is_empty() || groups.any(|id| self.group(id).is_some())
    }
}

impl Graph for Overlay<'_> {
    fn dependencies(&self, app_id: &str) -> Vec<String> {
        let own = self.app(app_id).into_iter().flat_map(|app| &app.dependencies);
        let groups: Vec<&Group> = AppId::parse(app_id)
            .map(|path| path.ancestors().filter_map(|group| self.group(group.as_str())).collect())
            .unwrap_or_default();
        let inherited = groups.into_iter().flat_map(|group| &group.dependencies);
        let mut ids = BTreeSet::new();
        for dependency in own.chain(inherited) {
            if self.app(dependency).is_some() {
                ids.insert(dependency.clone());
            } else {
                ids.extend(self.members(dependency).into_iter().filter(|id| id != app_id));
            }
        }
        ids.into_iter().collect()
    }
}
