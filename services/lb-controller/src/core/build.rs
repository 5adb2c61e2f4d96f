//! From apps to services, and from services to places and rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    AppState, Core,
    model::{Mode, Problem, Task},
    render::{self, RuleTexts},
    rules::Map,
    service::{self, Service, Side, in_groups, slots_for},
    slots::{Endpoint, Wanted},
};

impl Core {
    /// Works out again what a unit asks for.
    pub(super) fn rebuild(&mut self, unit: &str) {
        let candidates = self.candidates(unit);
        let heirs = self.claim(unit, &candidates);
        self.dirty.extend(heirs);
        let (services, mut problems) = self.granted(unit, candidates);
        let Some(state) = self.units.get_mut(unit) else { return };
        for app_id in &state.apps {
            let Some(app) = self.apps.get(app_id) else { continue };
            problems.extend(app.labels.problems.iter().cloned());
            let lacking = (0..app.app.ports.len()).filter(|index| self.assigned.lacks(app_id, *index));
            let message =
                |index| format!("no service port is left for port {index}: name one, or widen the range");
            problems.extend(lacking.map(|index| Problem::new(app_id, "", message(index))));
        }
        if !problems.is_empty() {
            self.troubled.insert(unit.to_owned());
        } else if state.refused.is_none() {
            self.troubled.remove(unit);
        }
        state.problems = problems;
        let gone = state.apps.is_empty();
        let accepted = Arc::clone(&state.accepted);
        if *state.wanted != services {
            state.wanted = Arc::new(services);
        }
        let wanted = Arc::clone(&state.wanted);
        // Nothing to look at: it goes, or only rules of virtual hosts change.
        if wanted != accepted && (wanted.is_empty() || self.same_structure(&wanted, &accepted)) {
            self.accept(unit, wanted);
        }
        self.place_tasks(unit);
        self.changes.texts.insert(unit.to_owned());
        if gone {
            self.troubled.remove(unit);
            self.units.remove(unit);
        }
    }

    /// The services that the unit would have if nobody else wanted anything.
    pub(super) fn candidates(&self, unit: &str) -> Vec<Service> {
        let sides = self.sides(unit);
        let Some(base) = sides.first() else { return Vec::new() };
        let wanted: u32 = sides.iter().map(|side| side.app.instances).sum();
        let tasks: usize =
            sides.iter().map(|side| self.tasks.get(&side.app.id).map_or(0, BTreeMap::len)).sum();
        let mut services = Vec::new();
        for index in 0..base.app.ports.len() {
            let assigned = self.assigned.port(&base.app.id, index);
            let Some(mut service) = Service::of(unit, &base.app, &base.labels, (index, assigned)) else {
                continue;
            };
            let enabled = service.labels.enabled.unwrap_or(!self.settings.strict);
            if !enabled || !in_groups(&self.settings.groups, &base.labels, &service.labels) {
                continue;
            }
            let instances = (wanted as usize).max(tasks / 2);
            let room = self.slots.get(&service.backend).map_or(0, super::Slots::len);
            service.slots = slots_for(instances, self.settings.min_slots).max(room);
            services.push(service);
        }
        services
    }

    /// The apps of a unit, the older deployment first.
    fn sides(&self, unit: &str) -> Vec<&AppState> {
        let apps = self.units.get(unit).map(|state| &state.apps);
        let mut sides: Vec<&AppState> =
            apps.into_iter().flatten().filter_map(|id| self.apps.get(id)).collect();
        sides.sort_by_key(|side| {
            let started = side.labels.deployment.as_ref().map(|labels| labels.started_at.clone());
            (started.unwrap_or_default(), side.app.id.clone())
        });
        // With a traffic split the side that was scaled last is the newer one.
        if let [older, newer] = sides.as_slice()
            && newer.labels.deployment.as_ref().is_some_and(|labels| labels.new_instances.unwrap_or(0) > 0)
            && older.app.last_scaling_ms > newer.app.last_scaling_ms
        {
            sides.reverse();
        }
        sides
    }

    /// Asks for the ports and names that the services need. Returns units that got what this one gave up.
    pub(super) fn claim(&mut self, unit: &str, services: &[Service]) -> BTreeSet<String> {
        let version = self.sides(unit).first().map_or(0, |side| side.app.version_ms);
        let ports: Vec<_> = services.iter().map(|s| (s.port, s.index, version)).collect();
        let names: Vec<_> = services.iter().map(|s| (s.backend.clone(), s.index, version)).collect();
        let mut heirs = self.ports.set(unit, &ports);
        heirs.extend(self.backends.set(unit, &names));
        heirs
    }

    /// What it gets of that.
    fn granted(&self, unit: &str, candidates: Vec<Service>) -> (Vec<Service>, Vec<Problem>) {
        let (mut services, mut problems) = (Vec::new(), Vec::new());
        for mut service in candidates {
            let me = (unit.to_owned(), service.index);
            let mut refuse = |label: &str, message: String| {
                problems.push(Problem::new(&service.app_id, label, message));
            };
            if let Some((other, _)) = self.backends.owner(&service.backend).filter(|owner| **owner != me) {
                refuse(
                    "",
                    format!("port {} is not published: {other} has it, and the same name", service.port),
                );
                continue;
            }
            let other = self.ports.owner(&service.port).filter(|owner| **owner != me);
            if let Some((other, _)) = other {
                refuse("", format!("service port {} is taken by {other}", service.port));
                service.frontend = false;
            } else if self.settings.own_ports.contains(&service.port) {
                refuse("", format!("service port {} is the load balancer's own", service.port));
                service.frontend = false;
            } else if self.blocked.contains(&service.port) {
                refuse("", format!("service port {} is held by another program", service.port));
                service.frontend = false;
            }
            if service.mode == Mode::Tcp {
                self.unusable_in_tcp(&service, &mut problems);
            }
            services.push(service);
        }
        (services, problems)
    }

    fn unusable_in_tcp(&self, service: &Service, problems: &mut Vec<Problem>) {
        let labels = &service.labels;
        let used = [
            ("VHOST", !labels.vhosts.is_empty()),
            ("STICKY", labels.sticky),
            ("AUTH", labels.auth.is_some()),
            ("USE_HSTS", labels.hsts),
        ];
        for (name, used) in used {
            if used {
                let label = format!("HAPROXY_{}_{name}", service.index);
                problems.push(Problem::new(&service.app_id, label, "has no meaning in tcp mode"));
            }
        }
    }

    /// What is published of a unit changed: its rules and places follow.
    pub(super) fn accepted(&mut self, unit: &str) {
        let Some(state) = self.units.get(unit) else { return };
        let services = Arc::clone(&state.accepted);
        self.changes.texts.insert(unit.to_owned());
        let as_texts =
            |service: &Service| self.settings.context.templates.has_rule() || service.has_rule_texts();
        let has_texts = services.iter().any(|service| as_texts(service) && service.mode == Mode::Http);
        let mapped = services.iter().filter(|service| !as_texts(service));
        let rules = mapped.flat_map(|service| service.rules(unit)).collect();
        self.changes.rule_texts |= has_texts || self.rule_texts.contains(unit);
        if has_texts {
            self.rule_texts.insert(unit.to_owned());
        } else {
            self.rule_texts.remove(unit);
        }
        for host in self.rules.set(unit, rules) {
            self.publish_host(&host);
        }
        self.publish_others(unit, &services);
        self.place_tasks(unit);
    }

    /// Rules that are texts, the heaviest first.
    #[must_use]
    pub fn rule_texts(&self) -> RuleTexts {
        let mut parts = Vec::new();
        for unit in &self.rule_texts {
            let Some(state) = self.units.get(unit) else { continue };
            for service in state.accepted.iter().filter(|service| service.mode == Mode::Http) {
                let weight = service.labels.weight.unwrap_or(i64::from(!service.labels.paths.is_empty()));
                if let Ok(texts) = render::rule_texts(service, &self.settings.context) {
                    parts.push((-weight, unit, service.port, texts));
                }
            }
        }
        parts.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
        let mut all = RuleTexts::default();
        for (.., texts) in parts {
            all.http += &texts.http;
            all.https += &texts.https;
            all.app_id += &texts.app_id;
        }
        all
    }

    fn publish_host(&mut self, host: &str) {
        let (entries, covered) = self.rules.host(host);
        let keys = entries.iter().map(|(map, key, _)| (*map, key.clone())).collect();
        let old = self.host_entries.insert(host.to_owned(), keys).unwrap_or_default();
        for (map, key) in old {
            if !entries.iter().any(|(m, k, _)| (*m, k) == (map, &key)) {
                self.set_entry(map, key, None);
            }
        }
        for (map, key, backend) in entries {
            self.set_entry(map, key, Some(backend));
        }
        let problems: Vec<Problem> = covered
            .into_iter()
            .map(|covered| {
                let rule = covered.rule;
                let app_id = self.app_of(&rule.unit).unwrap_or(&rule.unit).to_owned();
                let message = format!("{}{} is served by {}", rule.host, rule.path, covered.by);
                Problem::new(&app_id, format!("HAPROXY_{}_VHOST", rule.index), message)
            })
            .collect();
        if problems.is_empty() {
            self.host_problems.remove(host);
        } else {
            self.host_problems.insert(host.to_owned(), problems);
        }
    }

    fn app_of(&self, unit: &str) -> Option<&str> {
        self.units.get(unit).and_then(|state| state.accepted.first()).map(|service| service.app_id.as_str())
    }

    /// Redirects of its backends, and its place among the app ids.
    fn publish_others(&mut self, unit: &str, services: &[Service]) {
        let key = format!("\0{unit}");
        let old = self.host_entries.remove(&key).unwrap_or_default();
        let mut new: BTreeMap<(Map, String), String> = BTreeMap::new();
        let http = || services.iter().filter(|service| service.mode == Mode::Http);
        for service in http().filter(|service| service.labels.redirect_to_https) {
            new.insert((Map::Redirects, service.backend.clone()), "1".to_owned());
        }
        if let Some(lowest) = http().min_by_key(|service| service.port) {
            new.insert((Map::Apps, unit.to_owned()), lowest.backend.clone());
        }
        for (map, key) in old {
            if !new.contains_key(&(map, key.clone())) {
                self.set_entry(map, key, None);
            }
        }
        if !new.is_empty() {
            self.host_entries.insert(key, new.keys().cloned().collect());
        }
        for ((map, key), value) in new {
            self.set_entry(map, key, Some(value));
        }
    }

    fn set_entry(&mut self, map: Map, key: String, value: Option<String>) {
        let entries = self.maps.entry(map).or_default();
        let old = match &value {
            Some(value) => entries.insert(key.clone(), value.clone()),
            None => entries.remove(&key),
        };
        if old != value {
            self.changes.entries.insert((map, key), value);
        }
    }

    /// Gives the tasks of a unit their places in all its backends.
    pub(super) fn place_tasks(&mut self, unit: &str) {
        let Some(state) = self.units.get(unit) else { return };
        let (accepted, wanted) = (Arc::clone(&state.accepted), Arc::clone(&state.wanted));
        // Places are there before they are published: the first text has them.
        let unpublished = wanted.iter().filter(|s| !accepted.iter().any(|a| a.backend == s.backend));
        let services: Vec<&Service> = accepted.iter().chain(unpublished).collect();
        let draining = self.draining(unit);
        let mut crowded = false;
        for service in services {
            let wishes = self.wishes(unit, service, &draining);
            let slots = self.slots.entry(service.backend.clone()).or_default();
            slots.grow(service.slots);
            let before = slots.clone();
            slots.set(&wishes);
            if before.iter().ne(slots.iter()) {
                self.changes.backends.insert(service.backend.clone());
                self.changes.texts.insert(unit.to_owned());
            }
            if !slots.waiting().is_empty() && wishes.len() > slots.len() {
                slots.grow(slots_for(wishes.len(), self.settings.min_slots));
                slots.set(&wishes);
                crowded = true;
            }
        }
        if crowded {
            self.dirty.insert(unit.to_owned());
        }
    }

    fn wishes(&self, unit: &str, service: &Service, draining: &[String]) -> BTreeMap<String, Wanted> {
        let apps = self.units.get(unit).map(|state| &state.apps);
        let tasks = apps.into_iter().flatten().filter_map(|app| self.tasks.get(app)).flatten();
        let wish = |(id, task): (&String, &Task)| {
            let endpoint = self.endpoint(service, task)?;
            let wanted = Wanted { endpoint, draining: draining.contains(id) };
            Some((id.clone(), wanted))
        };
        tasks.filter_map(wish).collect()
    }

    /// Where the task is reached, if it is to be.
    fn endpoint(&self, service: &Service, task: &Task) -> Option<Endpoint> {
        let checked = self.apps.get(&task.app_id).is_some_and(|state| state.app.checked);
        let healthy = self.settings.ignore_health || !checked || task.alive == Some(true);
        if !task.serving || task.leaving || !healthy {
            return None;
        }
        let port = task.ports.get(service.index).copied().filter(|port| *port != 0)?;
        Some(Endpoint { ip: task.address?, port, check_port: service.check_port(&task.ports) })
    }

    /// Tasks of the old side of a deployment that get nothing new.
    fn draining(&self, unit: &str) -> Vec<String> {
        let sides = self.sides(unit);
        let [old, new] = sides.as_slice() else { return Vec::new() };
        let Some(labels) = &new.labels.deployment else { return Vec::new() };
        let target = match labels.new_instances {
            Some(_) => labels.target_instances.unwrap_or(1),
            None => labels.target_instances.unwrap_or(1).max(1),
        };
        service::draining(&self.side(old), &self.side(new), target)
    }

    fn side(&self, state: &AppState) -> Side {
        let tasks = self.tasks.get(&state.app.id).into_iter().flatten();
        let served = tasks.filter(|(_, task)| task.serving && !task.leaving);
        Side {
            app_id: state.app.id.clone(),
            instances: state.app.instances,
            tasks: served.map(|(id, task)| (id.clone(), task.alive == Some(true))).collect(),
            checked: state.app.checked,
        }
    }
}
