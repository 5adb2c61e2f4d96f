//! Everything that is decided, without any I/O: apps and tasks go in ([`Core::put_app`], [`Core::put_task`] and
//! their counterparts); out come the text of each app's services, the places of its tasks, and the entries of maps.
//!
//! What an app asks for ([`Unit`]'s `wanted`) is published once HAProxy has found its text good
//! ([`Core::accept`]); until then, and when it is refused, what was published before goes on, with the servers that
//! the app has now. Work is proportional to what changed.

pub mod assigned;
mod build;
pub mod charset;
pub mod claims;
pub mod labels;
pub mod model;
pub mod render;
pub mod rules;
pub mod service;
pub mod slots;
pub mod templates;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use assigned::Assigned;
use claims::Claims;
use labels::AppLabels;
use model::{App, Problem, Task};
use render::{Context, structure};
use rules::{Map, Rules};
use service::Service;
use slots::Slots;

/// What the operator chose.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub groups: Vec<String>,
    /// Only ports that say so are published.
    pub strict: bool,
    pub ignore_health: bool,
    pub custom_templates: bool,
    pub min_slots: usize,
    /// Service ports for tasks with an own address and none given, from the first to the last; 0: none.
    pub assigned: (u16, u16),
    /// Ports that HAProxy has for itself.
    pub own_ports: BTreeSet<u16>,
    pub context: Context,
}

/// What became of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Units whose text may differ from before.
    pub texts: BTreeSet<String>,
    /// Backends whose places may differ from before.
    pub backends: BTreeSet<String>,
    /// Entries of maps: the new value, or none for one that went.
    pub entries: BTreeMap<(Map, String), Option<String>>,
    /// Rules of the HTTP and HTTPS ports that are texts.
    pub rule_texts: bool,
}

#[derive(Debug)]
struct AppState {
    app: App,
    labels: AppLabels,
    unit: String,
}

/// An app, or two that replace each other: what has one text.
#[derive(Debug, Default)]
struct Unit {
    apps: BTreeSet<String>,
    wanted: Arc<Vec<Service>>,
    accepted: Arc<Vec<Service>>,
    /// What was refused last, so that it is not tried again.
    refused: Option<(Arc<Vec<Service>>, Problem)>,
    problems: Vec<Problem>,
}

impl Unit {
    /// Whether HAProxy has still to look at what is wanted.
    fn is_unchecked(&self) -> bool {
        self.wanted != self.accepted && self.refused.as_ref().is_none_or(|(spec, _)| *spec != self.wanted)
    }
}

/// A text that HAProxy has to look at before it is published.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub unit: String,
    pub services: Arc<Vec<Service>>,
    pub text: String,
}

/// All apps, and what is published of them.
#[derive(Debug, Default)]
pub struct Core {
    settings: Settings,
    apps: BTreeMap<String, AppState>,
    tasks: BTreeMap<String, BTreeMap<String, Task>>,
    units: BTreeMap<String, Unit>,
    ports: Claims<u16>,
    assigned: Assigned,
    backends: Claims<String>,
    rules: Rules,
    slots: BTreeMap<String, Slots>,
    maps: BTreeMap<Map, BTreeMap<String, String>>,
    host_entries: BTreeMap<String, Vec<(Map, String)>>,
    host_problems: BTreeMap<String, Vec<Problem>>,
    /// Ports that another program holds.
    blocked: BTreeSet<u16>,
    /// Units with rules that are texts.
    rule_texts: BTreeSet<String>,
    /// Units with problems.
    troubled: BTreeSet<String>,
    dirty: BTreeSet<String>,
    dirty_servers: BTreeSet<String>,
    changes: Changes,
}

impl Core {
    /// Nothing is published yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let assigned = Assigned::new(settings.assigned.0, settings.assigned.1);
        Self { settings, assigned, ..Self::default() }
    }

    /// A new app, or a new version of one.
    pub fn put_app(&mut self, app: App) {
        if self.apps.get(&app.id).is_some_and(|known| known.app == app) {
            return;
        }
        let labels = labels::read(&app, self.settings.custom_templates);
        let group = labels.deployment.as_ref().map(|deployment| format!("/{}", deployment.group));
        let unit = group.unwrap_or_else(|| app.id.clone());
        self.leave_unit(&app.id, &unit);
        self.units.entry(unit.clone()).or_default().apps.insert(app.id.clone());
        self.dirty.insert(unit.clone());
        let moved = self.assigned.set(&app.id, Some(&app));
        self.apps.insert(app.id.clone(), AppState { app, labels, unit });
        self.renumber(moved);
    }

    /// Other service ports were assigned to apps.
    fn renumber(&mut self, apps: BTreeSet<String>) {
        let units = apps.iter().filter_map(|app| self.apps.get(app)).map(|state| state.unit.clone());
        self.dirty.extend(units);
    }

    pub fn remove_app(&mut self, id: &str) {
        self.leave_unit(id, "");
        self.apps.remove(id);
        self.tasks.remove(id);
        let moved = self.assigned.set(id, None);
        self.renumber(moved);
    }

    fn leave_unit(&mut self, app_id: &str, next: &str) {
        let Some(old) = self.apps.get(app_id).map(|state| state.unit.clone()) else { return };
        if old == next {
            return;
        }
        if let Some(unit) = self.units.get_mut(&old) {
            unit.apps.remove(app_id);
        }
        self.dirty.insert(old);
    }

    /// A new task, or a task that changed.
    pub fn put_task(&mut self, task: Task) {
        let of_app = self.tasks.entry(task.app_id.clone()).or_default();
        if of_app.get(&task.id) == Some(&task) {
            return;
        }
        self.dirty_servers.insert(task.app_id.clone());
        of_app.insert(task.id.clone(), task);
    }

    pub fn remove_task(&mut self, app_id: &str, id: &str) {
        if let Some(of_app) = self.tasks.get_mut(app_id)
            && of_app.remove(id).is_some()
        {
            if of_app.is_empty() {
                self.tasks.remove(app_id);
            }
            self.dirty_servers.insert(app_id.to_owned());
        }
    }

    /// Another program holds the port, or does not any more.
    pub fn block(&mut self, port: u16, blocked: bool) {
        let changed = if blocked { self.blocked.insert(port) } else { self.blocked.remove(&port) };
        if changed && let Some((unit, _)) = self.ports.owner(&port) {
            self.dirty.insert(unit.clone());
        }
    }

    /// Ports that another program holds.
    #[must_use]
    pub fn blocked(&self) -> &BTreeSet<u16> {
        &self.blocked
    }

    /// A place as HAProxy was found to have it.
    pub fn adopt(&mut self, backend: &str, index: usize, endpoint: slots::Endpoint, ready: bool) {
        self.slots.entry(backend.to_owned()).or_default().adopt(index, endpoint, ready);
    }

    /// Room that a backend was found to have.
    pub fn adopt_room(&mut self, backend: &str, count: usize) {
        self.slots.entry(backend.to_owned()).or_default().grow(count);
    }

    /// Brings everything up to date with what was put in and taken out.
    pub fn settle(&mut self) -> Changes {
        while let Some(unit) = self.dirty.pop_first() {
            self.rebuild(&unit);
        }
        for app_id in std::mem::take(&mut self.dirty_servers) {
            if let Some(unit) = self.apps.get(&app_id).map(|state| state.unit.clone()) {
                self.place_tasks(&unit);
            }
        }
        // A backend that outgrew its room has a new text.
        while let Some(unit) = self.dirty.pop_first() {
            self.rebuild(&unit);
        }
        std::mem::take(&mut self.changes)
    }

    /// As [`Core::settle`] for the first time: what two apps ask for goes to the older one, in whatever order they
    /// came.
    pub fn settle_first(&mut self) -> Changes {
        for unit in self.dirty.clone() {
            let services = self.candidates(&unit);
            self.claim(&unit, &services);
        }
        self.ports.settle_by_age();
        self.backends.settle_by_age();
        self.settle()
    }

    /// Whether HAProxy has still to look at what the unit is to be.
    #[must_use]
    pub fn is_unchecked(&self, unit: &str) -> bool {
        self.units.get(unit).is_some_and(Unit::is_unchecked)
    }

    /// Texts that HAProxy has to look at.
    #[must_use]
    pub fn candidates_to_check(&mut self, units: &BTreeSet<String>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for unit in units {
            let Some(state) = self.units.get(unit).filter(|state| state.is_unchecked()) else { continue };
            let wanted = Arc::clone(&state.wanted);
            match self.text_of(&wanted) {
                Ok(text) => candidates.push(Candidate { unit: unit.clone(), services: wanted, text }),
                Err(problem) => self.refuse(unit, wanted, problem),
            }
        }
        candidates
    }

    /// Publishes what HAProxy found good.
    pub fn accept(&mut self, unit: &str, services: Arc<Vec<Service>>) {
        let Some(state) = self.units.get_mut(unit) else { return };
        state.refused = None;
        if state.problems.is_empty() {
            self.troubled.remove(unit);
        }
        let before = std::mem::replace(&mut state.accepted, Arc::clone(&services));
        for gone in before.iter().filter(|old| !services.iter().any(|new| new.backend == old.backend)) {
            // HAProxy has it until the next reload: nobody is to be sent there any more.
            if let Some(slots) = self.slots.get_mut(&gone.backend) {
                slots.set(&BTreeMap::new());
                self.changes.backends.insert(gone.backend.clone());
            }
        }
        self.accepted(unit);
    }

    /// Keeps what is published instead.
    pub fn refuse(&mut self, unit: &str, services: Arc<Vec<Service>>, problem: Problem) {
        if let Some(state) = self.units.get_mut(unit) {
            state.refused = Some((services, problem));
            self.troubled.insert(unit.to_owned());
        }
    }

    /// Tries again what was refused.
    pub fn forget_refusals(&mut self) {
        for state in self.units.values_mut() {
            state.refused = None;
        }
    }

    /// The text of a unit as it is published; empty: it has none.
    #[must_use]
    pub fn text(&self, unit: &str) -> String {
        let services = self.units.get(unit).map(|state| Arc::clone(&state.accepted)).unwrap_or_default();
        self.text_of(&services).unwrap_or_default()
    }

    fn text_of(&self, services: &[Service]) -> Result<String, Problem> {
        let mut text = String::new();
        for service in services {
            let mut slots = self.slots.get(&service.backend).cloned().unwrap_or_default();
            slots.grow(service.slots);
            text.push_str(&render::service(service, &slots, &self.settings.context)?);
        }
        Ok(text)
    }

    /// Whether the two differ in nothing that needs a reload.
    fn same_structure(&self, one: &[Service], other: &[Service]) -> bool {
        match (self.text_of(one), self.text_of(other)) {
            (Ok(one), Ok(other)) => structure(&one) == structure(&other),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
