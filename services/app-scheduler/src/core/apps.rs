//! Requests about definitions, turned into edits.

use std::{collections::BTreeMap, sync::Arc};

use meshos_proto::meshos::apps::v1::{
    App, AppUpdate, CancelDeploymentRequest, ChangeResponse, CreateAppRequest, DeleteAppRequest, Deployment,
    ListVersionsRequest, ListVersionsResponse, ResetDelayRequest, RestartAppRequest, UpdateAppsRequest,
};
use meshos_types::Timestamp;

use super::{Core, change::Batch, roles::top_level_group};
use crate::{error::Refusal, update, validate};

/// What is to become of one app.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub id: String,
    /// None: it is removed.
    pub new: Option<App>,
    /// Instances that end with this change.
    pub kill: Vec<String>,
    /// New tasks even if the definition stays the same.
    pub restart: bool,
}

impl Edit {
    pub(super) fn put(app: App) -> Self {
        Self { id: app.id.clone(), new: Some(app), kill: Vec::new(), restart: false }
    }

    pub(super) fn remove(id: &str) -> Self {
        Self { id: id.to_owned(), new: None, kill: Vec::new(), restart: false }
    }
}

impl Core {
    /// The definition of an app that is wanted.
    pub(super) fn spec(&self, app_id: &str) -> Result<Arc<App>, Refusal> {
        let spec = self.apps.get(app_id).and_then(|state| state.spec.clone());
        spec.ok_or_else(|| Refusal::NoApp(app_id.to_owned()))
    }

    pub(super) fn create(
        &mut self,
        request: &CreateAppRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let update = request.app.clone().unwrap_or_default();
        let id = wanted_id(&update)?;
        if self.spec(&id).is_ok() {
            return Err(Refusal::Exists(id));
        }
        let edit = self.edit(&id, &update, None)?;
        let batch = Batch { limits: request.limits, ..Batch::of(vec![edit], request.force) };
        let mut response = self.change(batch, traceparent)?;
        response.created = true;
        Ok(response)
    }

    pub(super) fn update_apps(
        &mut self,
        request: &UpdateAppsRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let mut edits: Vec<Edit> = Vec::new();
        let mut created = false;
        for update in &request.apps {
            let id = wanted_id(update)?;
            if edits.iter().any(|edit| edit.id == id) {
                return Err(Refusal::invalid(
                    "/",
                    format!("App id {id} stands in the request more than once."),
                ));
            }
            let old = self.apps.get(&id).and_then(|state| state.spec.clone());
            if old.is_none() && !request.create {
                return Err(Refusal::NoApp(id));
            }
            created |= old.is_none();
            let edit = match update.version_ms {
                Some(version) => self.rollback_edit(&id, update, version)?,
                None => self.edit(&id, update, old.as_deref().filter(|_| request.partial))?,
            };
            edits.push(edit);
        }
        let batch = Batch { limits: request.limits, ..Batch::of(edits, request.force) };
        let mut response = self.change(batch, traceparent)?;
        response.created = created;
        Ok(response)
    }

    pub(super) fn delete(
        &mut self,
        request: &DeleteAppRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        self.spec(&request.id)?;
        let edit = Edit::remove(&request.id);
        self.change(Batch::of(vec![edit], request.force), traceparent)
    }

    pub(super) fn restart(
        &mut self,
        request: &RestartAppRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let spec = self.spec(&request.id)?;
        let edit = Edit { restart: true, ..Edit::put((*spec).clone()) };
        let batch = Batch { limits: request.limits, ..Batch::of(vec![edit], request.force) };
        self.change(batch, traceparent)
    }

    pub(super) fn versions(&self, request: &ListVersionsRequest) -> Result<ListVersionsResponse, Refusal> {
        self.spec(&request.app_id)?;
        let versions = self.apps.get(&request.app_id).map(|state| state.versions.values());
        let versions = versions.into_iter().flatten().rev().map(|app| (**app).clone()).collect();
        Ok(ListVersionsResponse { versions })
    }

    pub(super) fn reset_delay(&mut self, request: &ResetDelayRequest) -> Result<ChangeResponse, Refusal> {
        let app_id = &request.app_id;
        if !self.queue.contains_key(app_id) {
            return Err(Refusal::NotQueued(app_id.clone()));
        }
        if let Some(state) = self.apps.get_mut(app_id) {
            state.backoff.reset();
        }
        self.asking.fresh = true;
        self.refresh_launchable(app_id);
        Ok(ChangeResponse::default())
    }

    pub(super) fn cancel(
        &mut self,
        request: &CancelDeploymentRequest,
        traceparent: &str,
    ) -> Result<ChangeResponse, Refusal> {
        let Some(running) = self.deployments.get(&request.id) else {
            return Err(Refusal::NoDeployment(request.id.clone()));
        };
        let record = running.record.clone();
        if request.force {
            self.stop_deployment(&request.id, true, "");
            let version_ms = record.version_ms;
            return Ok(ChangeResponse {
                deployment_id: request.id.clone(),
                version_ms,
                ..Default::default()
            });
        }
        let batch = Batch { rolls_back: request.id.clone(), ..Batch::of(reverting(&record), true) };
        self.change(batch, traceparent)
    }

    /// A complete, valid definition from what a user sent.
    fn edit(&self, id: &str, update: &AppUpdate, base: Option<&App>) -> Result<Edit, Refusal> {
        let enforced = self.enforced_role(id, |top| self.groups.get(top));
        self.edit_with(id, update, base, enforced)
    }

    /// As [`Self::edit`]; `enforced` is the role that the app's top-level group insists on.
    pub(super) fn edit_with(
        &self,
        id: &str,
        update: &AppUpdate,
        base: Option<&App>,
        enforced: Option<String>,
    ) -> Result<Edit, Refusal> {
        let mut rules = self.settings.rules.clone();
        let mut defaults = self.settings.defaults.clone();
        if let Some(role) = enforced {
            // What was there before the group insisted keeps its role until it is changed.
            let kept = base.map(|app| app.role.clone());
            rules.roles = vec![kept.filter(|_| update.role.is_none()).unwrap_or_else(|| role.clone())];
            defaults.role = role;
        } else {
            rules.roles.extend(top_level_group(id));
        }
        let app = update::apply(id, update, base, &defaults);
        let stored = self.apps.get(id).and_then(|state| state.spec.as_deref());
        validate::app(&app, stored, &rules)?;
        Ok(Edit::put(app))
    }

    fn rollback_edit(&self, id: &str, update: &AppUpdate, version: u64) -> Result<Edit, Refusal> {
        if update::says_more_than_version(update) {
            let message = "The 'version' field may only be combined with the 'id' field.";
            return Err(Refusal::IllegalArgument(message.to_owned()));
        }
        let stored = self.apps.get(id).and_then(|state| state.versions.get(&version));
        let text = Timestamp::from_millis(i64::try_from(version).unwrap_or(i64::MAX)).to_string();
        let stored = stored.ok_or_else(|| Refusal::NoVersion { app_id: id.to_owned(), version: text })?;
        Ok(Edit::put((**stored).clone()))
    }
}

fn wanted_id(update: &AppUpdate) -> Result<String, Refusal> {
    let Some(text) = &update.id else {
        return Err(Refusal::IllegalArgument(
            "requirement failed: App Update must have app id set".to_owned(),
        ));
    };
    let id = validate::app_id(text).map_err(|error| Refusal::invalid("/id", error))?;
    Ok(id.as_str().to_owned())
}

/// Puts every app that the deployment changed back to what it was.
pub(super) fn reverting(record: &Deployment) -> Vec<Edit> {
    let originals: BTreeMap<&str, &App> = record.originals.iter().map(|app| (app.id.as_str(), app)).collect();
    let edit = |id: &String| Edit {
        id: id.clone(),
        new: originals.get(id.as_str()).map(|app| (*app).clone()),
        kill: Vec::new(),
        restart: false,
    };
    record.affected_apps.iter().map(edit).collect()
}
