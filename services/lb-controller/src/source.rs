//! Pure: the app-scheduler's state as this controller knows it, in the form that the core takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use meshos_proto::meshos::apps::v1::{
    App as AppRecord, Condition, Delta, Goal, HealthCheck, HealthProtocol, Instance, InstanceHealth,
    NetworkMode, Snapshot, WatchResponse, watch_response::Body,
};
use meshos_types::{AppPort, app_port::own_address, app_ports, network_mode};

use crate::core::model::{App, Check, Port, Protocol, Task};

/// A snapshot that drops at least so many apps, and half of them, is not believed at once.
const SUSPICIOUS: usize = 3;

/// What a change touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub apps: BTreeSet<String>,
    /// Instances, with their apps.
    pub tasks: BTreeSet<(String, String)>,
    /// Instances that are about to be killed.
    pub leaving: Vec<String>,
}

/// Apps, instances and their health at one revision.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub revision: u64,
    apps: BTreeMap<String, AppRecord>,
    instances: BTreeMap<String, Instance>,
    health: BTreeMap<String, InstanceHealth>,
    /// With the task that is about to be killed.
    leaving: BTreeMap<String, String>,
}

impl Source {
    #[must_use]
    pub fn apps(&self) -> usize {
        self.apps.len()
    }

    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Whether so much is gone that it may be a mistake.
    #[must_use]
    pub fn is_suspicious(&self, response: &WatchResponse) -> bool {
        let Some(Body::Snapshot(snapshot)) = &response.body else { return false };
        let kept = snapshot.apps.iter().filter(|app| self.apps.contains_key(&app.id)).count();
        let gone = self.apps.len() - kept;
        gone >= SUSPICIOUS && gone * 2 > self.apps.len()
    }

    /// Brings the view to the revision of `response`.
    pub fn apply(&mut self, response: WatchResponse) -> Touched {
        self.revision = response.revision;
        match response.body {
            Some(Body::Snapshot(snapshot)) => self.replace(snapshot),
            Some(Body::Delta(delta)) => self.change(delta),
            None => Touched::default(),
        }
    }

    fn replace(&mut self, snapshot: Snapshot) -> Touched {
        let mut touched = Touched {
            apps: self.apps.keys().cloned().collect(),
            tasks: self.instances.values().map(key).collect(),
            leaving: Vec::new(),
        };
        self.apps = snapshot.apps.into_iter().map(|app| (app.id.clone(), app)).collect();
        self.instances = snapshot.instances.into_iter().map(|i| (i.id.clone(), i)).collect();
        self.health = snapshot.health.into_iter().map(|h| (h.instance_id.clone(), h)).collect();
        self.leaving.clear();
        touched.apps.extend(self.apps.keys().cloned());
        touched.tasks.extend(self.instances.values().map(key));
        touched
    }

    fn change(&mut self, delta: Delta) -> Touched {
        let mut touched = Touched::default();
        for id in delta.removed_apps {
            self.apps.remove(&id);
            touched.apps.insert(id);
        }
        for id in delta.removed_instances {
            self.health.remove(&id);
            self.leaving.remove(&id);
            touched.tasks.extend(self.instances.remove(&id).as_ref().map(key));
        }
        for app in delta.apps {
            touched.apps.insert(app.id.clone());
            self.apps.insert(app.id.clone(), app);
        }
        for instance in delta.instances {
            touched.tasks.insert(key(&instance));
            self.instances.insert(instance.id.clone(), instance);
        }
        for health in delta.health {
            touched.tasks.extend(self.instances.get(&health.instance_id).map(key));
            self.health.insert(health.instance_id.clone(), health);
        }
        for id in delta.leaving_instances {
            if let Some(instance) = self.instances.get(&id) {
                touched.tasks.insert(key(instance));
                self.leaving.insert(id.clone(), instance.task_id.clone());
            }
            touched.leaving.push(id);
        }
        touched
    }

    /// The app, while there is one.
    #[must_use]
    pub fn app(&self, id: &str) -> Option<App> {
        let record = self.apps.get(id)?;
        let own = network_mode(record) == NetworkMode::Container;
        let port = |port: AppPort<'_>| Port {
            number: u16::try_from(port.service).unwrap_or(0),
            udp: port.protocol == "udp",
            own: if own { u16::try_from(port.requested).unwrap_or(0) } else { 0 },
        };
        Some(App {
            id: record.id.clone(),
            version_ms: record.version_ms,
            labels: record.labels.clone(),
            ports: app_ports(record).map(port).collect(),
            checks: record.health_checks.iter().filter_map(check).collect(),
            checked: !record.health_checks.is_empty(),
            instances: record.instances,
            last_scaling_ms: record.last_scaling_at_ms,
        })
    }

    /// The instance, if it has a task. `resolve` finds the address of a host.
    pub fn task(&self, id: &str, mut resolve: impl FnMut(&str) -> Option<IpAddr>) -> Option<Task> {
        let instance = self.instances.get(id)?;
        let condition = instance.condition();
        let serving = instance.goal() == Goal::Running
            && matches!(
                condition,
                Condition::Running | Condition::Unreachable | Condition::UnreachableInactive
            );
        // With an address of its own the task is reached there, on the ports that it has itself.
        let app = self.apps.get(&instance.app_id);
        // The instance says it itself where its app has changed: without ports inside it is on the host's network,
        // without ports of the host it has only its own address.
        let in_network = app.is_some_and(|app| network_mode(app) == NetworkMode::Container);
        let own = !instance.container_ports.is_empty()
            && (in_network || instance.ports.iter().all(|port| *port == 0));
        let ports = if own { &instance.container_ports } else { &instance.ports };
        // The address is of no use to one that gets nothing.
        let address = match own {
            _ if !serving => None,
            true => own_address(instance).and_then(|address| address.parse().ok()),
            false => resolve(&instance.host),
        };
        Some(Task {
            id: instance.id.clone(),
            app_id: instance.app_id.clone(),
            address,
            ports: ports.iter().map(|port| u16::try_from(*port).unwrap_or(0)).collect(),
            serving,
            alive: self.alive(instance),
            leaving: self.leaving.get(id).is_some_and(|task| *task == instance.task_id),
        })
    }

    /// One good check is enough. Without results, what was known of the instance before holds: a new leader of the
    /// app-scheduler has not checked anything yet.
    fn alive(&self, instance: &Instance) -> Option<bool> {
        let results = self.health.get(&instance.id).map(|health| health.results.as_slice());
        match results {
            Some(results) if !results.is_empty() => Some(results.iter().any(|result| result.alive)),
            _ => instance.healthy,
        }
    }
}

fn key(instance: &Instance) -> (String, String) {
    (instance.app_id.clone(), instance.id.clone())
}

fn check(check: &HealthCheck) -> Option<Check> {
    let protocol = match check.protocol() {
        HealthProtocol::Http | HealthProtocol::MesosHttp => Protocol::Http,
        HealthProtocol::Https | HealthProtocol::MesosHttps => Protocol::Https,
        HealthProtocol::Tcp | HealthProtocol::MesosTcp => Protocol::Tcp,
        // HAProxy cannot make these itself; what they found counts nevertheless.
        HealthProtocol::Command | HealthProtocol::Unspecified => return None,
    };
    Some(Check {
        protocol,
        path: check.path.clone(),
        port_index: check.port_index.and_then(|index| usize::try_from(index).ok()),
        port: check.port.and_then(|port| u16::try_from(port).ok()),
        grace_period_s: check.grace_period_s,
        interval_s: check.interval_s,
        timeout_s: check.timeout_s,
        max_failures: check.max_consecutive_failures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::meshos::apps::v1::HealthResult;

    fn app(id: &str) -> AppRecord {
        AppRecord { id: id.to_owned(), ..AppRecord::default() }
    }

    fn snapshot(ids: &[&str]) -> WatchResponse {
        let snapshot = Snapshot { apps: ids.iter().map(|id| app(id)).collect(), ..Snapshot::default() };
        WatchResponse { revision: 5, body: Some(Body::Snapshot(snapshot)) }
    }

    fn delta(delta: Delta) -> WatchResponse {
        WatchResponse { revision: 6, body: Some(Body::Delta(delta)) }
    }

    fn running(id: &str) -> Instance {
        let mut instance =
            Instance { id: id.into(), app_id: "/a".into(), host: "127.0.0.1".into(), ..Instance::default() };
        instance.set_condition(Condition::Running);
        instance.set_goal(Goal::Running);
        instance
    }

    fn resolve(host: &str) -> Option<IpAddr> {
        host.parse().ok()
    }

    #[test]
    fn a_snapshot_replaces_and_a_delta_changes() {
        let mut source = Source::default();
        source.apply(snapshot(&["/a", "/b"]));
        let touched = source.apply(delta(Delta {
            apps: vec![app("/c")],
            removed_apps: vec!["/a".into()],
            ..Delta::default()
        }));
        assert_eq!(touched.apps, ["/a".to_owned(), "/c".to_owned()].into());
        assert!(source.app("/a").is_none() && source.app("/c").is_some());
        let touched = source.apply(snapshot(&["/d"]));
        assert_eq!((touched.apps.len(), source.apps(), source.revision), (3, 1, 5));
    }

    #[test]
    fn a_snapshot_without_most_apps_is_suspicious() {
        let mut source = Source::default();
        assert!(!source.is_suspicious(&snapshot(&["/a"])));
        source.apply(snapshot(&["/a", "/b", "/c", "/d", "/e"]));
        assert!(source.is_suspicious(&snapshot(&[])));
        assert!(source.is_suspicious(&snapshot(&["/a", "/b"])));
        assert!(!source.is_suspicious(&snapshot(&["/a", "/b", "/c"])));
        assert!(
            !source.is_suspicious(&delta(Delta { removed_apps: vec!["/a".into(); 5], ..Delta::default() }))
        );
    }

    #[test]
    fn who_is_leaving_or_not_alive_is_known() {
        let mut source = Source::default();
        source.apply(delta(Delta { instances: vec![running("i")], ..Delta::default() }));
        assert!(source.task("i", resolve).is_some_and(|task| task.serving && task.alive.is_none()));
        let result = |alive| HealthResult { alive, ..HealthResult::default() };
        let health = InstanceHealth { instance_id: "i".into(), results: vec![result(false), result(true)] };
        source.apply(delta(Delta { health: vec![health], ..Delta::default() }));
        assert_eq!(source.task("i", resolve).unwrap().alive, Some(true));
        let touched = source.apply(delta(Delta { leaving_instances: vec!["i".into()], ..Delta::default() }));
        assert_eq!(touched.leaving, ["i"]);
        assert!(source.task("i", resolve).unwrap().leaving);
        let next = Instance { task_id: "next".into(), ..running("i") };
        source.apply(delta(Delta { instances: vec![next], ..Delta::default() }));
        assert!(!source.task("i", resolve).unwrap().leaving, "the next task of the instance stays");
    }

    #[test]
    fn lb_c25_a_task_is_reached_at_its_host_or_at_its_own_address() {
        use meshos_proto::meshos::apps::v1::{Container, IpAddress, Network, PortMapping, PortMappingList};
        let mapping = PortMapping { container_port: 80, service_port: 10_000, ..Default::default() };
        let container =
            Container { port_mappings: Some(PortMappingList { items: vec![mapping] }), ..Default::default() };
        let in_network = |mode: NetworkMode| AppRecord {
            container: Some(container.clone()),
            networks: vec![Network { mode: mode.into(), ..Default::default() }],
            ..app("/a")
        };
        let instance = Instance {
            ports: vec![31_001],
            container_ports: vec![80],
            ip_addresses: vec![IpAddress { address: "10.0.0.2".into(), protocol: "IPv4".into() }],
            ..running("i")
        };
        for (mode, address, port) in
            [(NetworkMode::Bridge, "127.0.0.1", 31_001), (NetworkMode::Container, "10.0.0.2", 80)]
        {
            let mut source = Source::default();
            let (apps, instances) = (vec![in_network(mode)], vec![instance.clone()]);
            source.apply(delta(Delta { apps, instances, ..Delta::default() }));
            let task = source.task("i", resolve).unwrap();
            assert_eq!((task.address, task.ports), (address.parse().ok(), vec![port]), "{mode:?}");
            assert_eq!(source.app("/a").unwrap().ports[0].number, 10_000);
        }
    }

    #[test]
    fn states_that_are_routed() {
        let routed = |condition: Condition, goal: Goal| {
            let mut instance = running("i");
            instance.set_condition(condition);
            instance.set_goal(goal);
            let mut source = Source::default();
            source.apply(delta(Delta { instances: vec![instance], ..Delta::default() }));
            source.task("i", resolve).unwrap().serving
        };
        for condition in [Condition::Running, Condition::Unreachable] {
            assert!(routed(condition, Goal::Running));
            assert!(!routed(condition, Goal::Decommissioned));
        }
        for condition in [Condition::Staging, Condition::Starting, Condition::Killing, Condition::Failed] {
            assert!(!routed(condition, Goal::Running), "{condition:?}");
        }
    }
}
