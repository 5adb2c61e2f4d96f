//! Changes of definitions: checked together, applied together, as one deployment.

use std::collections::BTreeSet;

use meshos_proto::meshos::apps::v1::{App, ChangeResponse, Deployment};
use meshos_types::AppId;

use super::{Core, apps::Edit};
use crate::{
    deployment::plan::{self, Change, Graph},
    error::Refusal,
};

impl Core {
    /// Checks and applies changes of definitions as one deployment.
    pub(super) fn change(
        &mut self,
        edits: Vec<Edit>,
        force: bool,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let version = self.last_version.max(self.now.saturating_sub(1)) + 1;
        self.check_paths(&edits)?;
        let mut accepted = Vec::new();
        let edits = self.versioned(edits, version, &mut accepted)?;
        let steps = {
            let view = Overlay { core: self, edits: &edits };
            let changes: Vec<Change<'_>> = edits.iter().map(|edit| view.change(edit)).collect();
            plan::steps(&changes, &view).map_err(|cycle| Refusal::invalid("/", cycle.to_string()))?
        };
        let affected: Vec<String> =
            edits.iter().filter(|edit| self.is_change(edit)).map(|edit| edit.id.clone()).collect();
        let most = self.settings.args.max_running_deployments;
        if !affected.is_empty() && self.deployments.len() >= most {
            return Err(Refusal::TooManyDeployments(most));
        }
        self.free_locks(&affected, force)?;
        self.last_version = version;
        let deployment = Deployment {
            format: 1,
            id: self.rng.uuid().to_string(),
            version_ms: version,
            originals: affected
                .iter()
                .filter_map(|id| self.spec(id).ok())
                .map(|app| (*app).clone())
                .collect(),
            targets: edits
                .iter()
                .filter(|e| affected.contains(&e.id))
                .filter_map(|e| e.new.clone())
                .collect(),
            affected_apps: affected,
            steps,
            current_step: 0,
            traceparent: traceparent.to_owned(),
        };
        let response = ChangeResponse {
            deployment_id: deployment.id.clone(),
            version_ms: version,
            apps: accepted,
            ..Default::default()
        };
        for edit in edits.into_iter().filter(|edit| deployment.affected_apps.contains(&edit.id)) {
            self.apply(edit);
        }
        self.start_deployment(deployment);
        Ok(response)
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
    fn free_locks(&mut self, affected: &[String], force: bool) -> Result<(), Refusal> {
        let locks = affected.iter().filter_map(|id| self.apps.get(id)?.deployment.clone());
        let locks: BTreeSet<String> = locks.collect();
        if !locks.is_empty() && !force {
            return Err(Refusal::Locked(locks.into_iter().collect()));
        }
        for id in locks {
            self.stop_deployment(&id, false);
        }
        Ok(())
    }

    /// An app may not have the id of a group, nor of something inside an app.
    fn check_paths(&self, edits: &[Edit]) -> Result<(), Refusal> {
        let creates: Vec<&str> = edits
            .iter()
            .filter(|edit| edit.new.is_some() && self.spec(&edit.id).is_err())
            .map(|edit| edit.id.as_str())
            .collect();
        for id in &creates {
            let Ok(path) = AppId::parse(id) else { continue };
            let is_app = |id: &str| self.spec(id).is_ok() || creates.contains(&id);
            let inside = path.ancestors().find(|group| is_app(group.as_str()));
            let below = format!("{id}/");
            let holds =
                self.apps_below(&below).next().is_some() || creates.iter().any(|c| c.starts_with(&below));
            let clash =
                if holds { Some((*id).to_owned()) } else { inside.map(|app| app.as_str().to_owned()) };
            if let Some(clash) = clash {
                let message = format!("Groups and Applications may not have the same identifier: {clash}");
                return Err(Refusal::invalid("/", message));
            }
        }
        Ok(())
    }

    /// Ids of apps that begin with `prefix`, which ends in a slash.
    fn apps_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a String> {
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
                let asked = app.port_definitions.clone();
                self.assign_ports(&mut app, old.as_deref(), &mut taken)?;
                stamp(&mut app, old.as_deref(), version, edit.restart);
                accepted.push(App { port_definitions: asked, ..app.clone() });
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
        if !restart {
            app.version_ms = old.version_ms;
        }
    }
    if !config && !restart {
        app.last_config_change_at_ms = old.last_config_change_at_ms;
    }
}

/// The apps as they will be.
struct Overlay<'a> {
    core: &'a Core,
    edits: &'a [Edit],
}

impl Overlay<'_> {
    fn app(&self, id: &str) -> Option<&App> {
        match self.edits.iter().find(|edit| edit.id == id) {
            Some(edit) => edit.new.as_ref(),
            None => self.core.apps.get(id)?.spec.as_deref(),
        }
    }

    fn change<'a>(&'a self, edit: &'a Edit) -> Change<'a> {
        let old = self.core.apps.get(&edit.id).and_then(|state| state.spec.as_deref());
        Change { old, new: edit.new.as_ref(), kill: &edit.kill }
    }
}

impl Graph for Overlay<'_> {
    fn dependencies(&self, app_id: &str) -> Vec<String> {
        let mut ids = BTreeSet::new();
        for dependency in self.app(app_id).into_iter().flat_map(|app| &app.dependencies) {
            if self.app(dependency).is_some() {
                ids.insert(dependency.clone());
            }
            let below = format!("{}/", dependency.trim_end_matches('/'));
            let edited = self.edits.iter().map(|edit| &edit.id).filter(|id| id.starts_with(&below));
            let members = self.core.apps_below(&below).chain(edited);
            ids.extend(members.filter(|id| *id != app_id && self.app(id).is_some()).cloned());
        }
        ids.into_iter().collect()
    }
}
