//! What is published: one service for each service port of an app, or of a pair of apps that replace each other.

use std::collections::BTreeMap;

use super::{
    labels::{AppLabels, PortLabels},
    model::{App, Check, Mode, Protocol},
    rules::Rule,
    templates,
};

/// One service port, with everything that its text depends on but its servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The app whose labels it has.
    pub app_id: String,
    pub index: usize,
    /// Name of the backend and of the frontend.
    pub backend: String,
    pub port: u16,
    /// Whether it has the port to itself.
    pub frontend: bool,
    pub mode: Mode,
    pub labels: PortLabels,
    pub check: Option<Check>,
    /// Servers that it has room for.
    pub slots: usize,
}

impl Service {
    /// From the app's port `index`, with the service port that was assigned where it names none; none when it has no
    /// number. `id` is the app's, or the deployment group's.
    pub fn of(
        id: &str,
        app: &App,
        labels: &AppLabels,
        (index, assigned): (usize, Option<u16>),
    ) -> Option<Self> {
        let port = app.ports.get(index).filter(|port| !port.udp)?;
        let labels = labels.ports.get(index).cloned().unwrap_or_default();
        let number = labels.port.or(assigned).unwrap_or(port.number);
        if number == 0 {
            return None;
        }
        let check_index = labels.check_port_index.filter(|other| *other < app.ports.len());
        let check = check_of(app, check_index.unwrap_or(index)).cloned();
        let http_check = check.as_ref().is_some_and(|check| check.protocol != Protocol::Tcp);
        let guessed = if http_check || !labels.vhosts.is_empty() { Mode::Http } else { Mode::Tcp };
        let forced = check_index.is_some() && http_check;
        let mode = if forced { Mode::Http } else { labels.mode.unwrap_or(guessed) };
        let name = id.trim_start_matches('/').replace('/', "_");
        Some(Self {
            app_id: app.id.clone(),
            index,
            backend: format!("{name}_{number}"),
            port: number,
            frontend: true,
            mode,
            labels,
            check,
            slots: 0,
        })
    }

    /// Where the checks of HAProxy go, when that is not the server's own port.
    pub fn check_port(&self, ports: &[u16]) -> Option<u16> {
        let check = self.check.as_ref()?;
        if check.port.is_some() {
            return check.port;
        }
        let index = check.port_index.filter(|index| *index != self.index)?;
        ports.get(index).copied()
    }

    /// Whether its rules on the HTTP and HTTPS ports must be texts: a template of theirs is replaced.
    pub fn has_rule_texts(&self) -> bool {
        templates::has_rule(self.labels.templates.keys().copied())
    }

    /// Its rules for the virtual hosts.
    pub fn rules(&self, unit: &str) -> Vec<Rule> {
        if self.mode != Mode::Http {
            return Vec::new();
        }
        let weight = self.labels.weight.unwrap_or(i64::from(!self.labels.paths.is_empty()));
        let everything = [String::from("/")];
        let paths: &[String] = if self.labels.paths.is_empty() { &everything } else { &self.labels.paths };
        let hosts = self.labels.vhosts.iter();
        let rule = |(host, path): (&String, &String)| Rule {
            host: host.clone(),
            path: path.clone(),
            ignore_case: self.labels.paths_ignore_case,
            weight,
            unit: unit.to_owned(),
            index: self.index,
            backend: self.backend.clone(),
        };
        hosts.flat_map(|host| paths.iter().map(move |path| (host, path))).map(rule).collect()
    }
}

/// The check of a port: one with a port of its own fits every index; the first in the list wins.
fn check_of(app: &App, index: usize) -> Option<&Check> {
    app.checks.iter().find(|check| check.port.is_some() || check.port_index == Some(index))
}

/// Whether the service belongs to one of the groups that are served.
pub fn in_groups(served: &[String], app: &AppLabels, port: &PortLabels) -> bool {
    let groups = port.groups.as_ref().unwrap_or(&app.groups);
    served.iter().any(|group| group == "*" || groups.contains(group))
}

/// Room for servers: twice as many as are wanted, as a power of two.
pub fn slots_for(instances: usize, least: usize) -> usize {
    (instances * 2).next_power_of_two().max(least).min(4096.max(instances))
}

/// Two apps that replace each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    pub app_id: String,
    pub instances: u32,
    /// Tasks, and whether each is known to be alive.
    pub tasks: BTreeMap<String, bool>,
    pub checked: bool,
}

/// Ids of the old side's tasks that get nothing new: so many that the new side's healthy ones make up for them.
pub fn draining(old: &Side, new: &Side, target: u32) -> Vec<String> {
    let alive = new.tasks.values().filter(|alive| **alive).count();
    let healthy = if new.checked { alive } else { new.instances as usize };
    let over = (healthy + old.instances as usize).saturating_sub(target as usize);
    let count = old.tasks.len().min(healthy).min(over);
    old.tasks.keys().take(count).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{labels, model::Port};

    fn app(labels: &[(&str, &str)], checks: Vec<Check>) -> Service {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let port = |number| Port { number, ..Port::default() };
        let app = App {
            id: "/a/b".into(),
            labels: labels.collect(),
            ports: vec![port(10_001), port(10_002)],
            checks,
            ..App::default()
        };
        Service::of(&app.id, &app, &labels::read(&app, false), (0, None)).unwrap()
    }

    #[test]
    fn the_mode_follows_label_check_and_vhost() {
        let http = |port_index| vec![Check { port_index: Some(port_index), ..Check::default() }];
        let tcp = vec![Check { port_index: Some(0), protocol: Protocol::Tcp, ..Check::default() }];
        assert_eq!(app(&[], vec![]).mode, Mode::Tcp);
        assert_eq!(app(&[], http(0)).mode, Mode::Http);
        assert_eq!(app(&[], http(1)).mode, Mode::Tcp);
        assert_eq!(app(&[], tcp).mode, Mode::Tcp);
        assert_eq!(app(&[("HAPROXY_0_VHOST", "a.test")], vec![]).mode, Mode::Http);
        assert_eq!(app(&[("HAPROXY_0_MODE", "TCP")], http(0)).mode, Mode::Tcp);
        let by_other = [("HAPROXY_0_MODE", "tcp"), ("HAPROXY_0_BACKEND_HEALTHCHECK_PORT_INDEX", "1")];
        assert_eq!(app(&by_other, http(1)).mode, Mode::Http);
        assert_eq!(app(&[], vec![]).backend, "a_b_10001");
    }

    #[test]
    fn checks_go_to_the_port_that_they_name() {
        let index = [("HAPROXY_0_BACKEND_HEALTHCHECK_PORT_INDEX", "1")];
        let at_index = vec![Check { port_index: Some(1), ..Check::default() }];
        assert_eq!(app(&index, at_index).check_port(&[1, 2]), Some(2));
        let fixed = vec![Check { port: Some(99), ..Check::default() }];
        assert_eq!(app(&[], fixed).check_port(&[1, 2]), Some(99));
    }

    #[test]
    fn capacity_never_falls_below_the_target() {
        let side = |ids: &[&str], alive| Side {
            app_id: String::new(),
            instances: u32::try_from(ids.len()).unwrap(),
            tasks: ids.iter().map(|id| ((*id).to_owned(), alive)).collect(),
            checked: true,
        };
        let blue = side(&["b3", "b1", "b2"], true);
        assert_eq!(draining(&blue, &side(&["g1"], true), 3), ["b1"]);
        assert_eq!(draining(&blue, &side(&["g1"], false), 3), Vec::<String>::new());
        assert_eq!(draining(&blue, &side(&["g1"], true), 4), Vec::<String>::new());
        assert_eq!(draining(&blue, &side(&["g1", "g2", "g3", "g4"], true), 3).len(), 3);
    }

    #[test]
    fn room_grows_by_powers_of_two() {
        assert_eq!([0, 3, 5, 30].map(|n| slots_for(n, 8)), [8, 8, 16, 64]);
    }
}
