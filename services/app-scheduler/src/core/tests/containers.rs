//! Apps in networks of their own: ports, checks, addresses.

use meshos_proto::{
    meshos::apps::v1::{
        AppUpdate, Container, ContainerImage, ContainerType, HealthCheck, HealthCheckList, HealthProtocol,
        Network, NetworkList, NetworkMode, PortMapping, PortMappingList,
    },
    mesos::v1::{self as pb, ContainerStatus, NetworkInfo, TaskState, network_info, task_status},
};

use super::{
    super::*,
    cluster::{Cluster, app},
};

/// Two mappings: one with a port of the host on a bridge, and one that asks for none.
fn connected(id: &str, mode: NetworkMode, image: &str) -> AppUpdate {
    let mapping = |port, name: &str| PortMapping {
        container_port: port,
        name: Some(name.into()),
        ..Default::default()
    };
    let check = |index| HealthCheck {
        protocol: HealthProtocol::Tcp.into(),
        port_index: Some(index),
        interval_s: 1,
        ..Default::default()
    };
    let name = (mode == NetworkMode::Container).then(|| "overlay".to_owned());
    AppUpdate {
        cmd: None,
        container: Some(Container {
            r#type: ContainerType::Docker.into(),
            image: Some(ContainerImage { name: image.into(), ..Default::default() }),
            port_mappings: Some(PortMappingList { items: vec![mapping(80, "http"), mapping(81, "admin")] }),
            ..Default::default()
        }),
        networks: Some(NetworkList {
            items: vec![Network { mode: mode.into(), name, ..Default::default() }],
        }),
        health_checks: Some(HealthCheckList { items: vec![check(0), check(1)] }),
        ..app(id)
    }
}

/// The agent says that the task runs, and where.
fn runs_at(cluster: &mut Cluster, address: &str) {
    let task = cluster.task_ids("/a")[0].clone();
    let instance = cluster.instances("/a")[0].clone();
    let address = network_info::IpAddress { ip_address: Some(address.into()), ..Default::default() };
    let network = NetworkInfo { ip_addresses: vec![address], ..Default::default() };
    cluster.input(Input::Status(Box::new(pb::TaskStatus {
        task_id: pb::TaskId { value: task },
        agent_id: Some(pb::AgentId { value: instance.agent_id }),
        state: TaskState::TaskRunning.into(),
        source: Some(task_status::Source::Executor.into()),
        container_status: Some(ContainerStatus { network_infos: vec![network], ..Default::default() }),
        ..Default::default()
    })));
    cluster.settle();
}

fn targets(cluster: &Cluster) -> Vec<(String, u16)> {
    let mut targets: Vec<_> = cluster.probes.iter().map(|probe| (probe.host.clone(), probe.port)).collect();
    targets.sort();
    targets
}

#[test]
fn on_a_bridge_tasks_are_reached_through_their_host() {
    let mut cluster = Cluster::new(1);
    cluster.create(connected("/a", NetworkMode::Bridge, "nginx")).unwrap();
    cluster.settle();
    let instance = cluster.instances("/a")[0].clone();
    assert_eq!((instance.ports.len(), &instance.container_ports[..]), (2, &[80, 81][..]));
    cluster.pass(1000);
    let mut ports: Vec<(String, u16)> =
        instance.ports.iter().map(|port| (instance.host.clone(), *port as u16)).collect();
    ports.sort();
    assert_eq!(targets(&cluster), ports);
    let mappings = cluster.app("/a").unwrap().container.unwrap().port_mappings.unwrap().items;
    assert_eq!([mappings[0].service_port, mappings[1].service_port], [10_000, 10_001]);
}

#[test]
fn in_a_network_tasks_are_reached_at_their_own_address() {
    let mut cluster = Cluster::new(1);
    cluster.create(connected("/a", NetworkMode::Container, "nginx")).unwrap();
    cluster.settle();
    assert_eq!(cluster.instances("/a")[0].ports, [0, 0]);
    cluster.pass(2000);
    assert_eq!(targets(&cluster), [], "its address is not known");
    runs_at(&mut cluster, "10.0.0.7");
    cluster.pass(1000);
    let own = |port| ("10.0.0.7".to_owned(), port);
    assert_eq!(targets(&cluster), [own(80), own(81)]);
    assert_eq!(cluster.instances("/a")[0].ip_addresses[0].address, "10.0.0.7");
}

#[test]
fn a_changed_container_is_a_new_version_with_the_same_service_ports() {
    let mut cluster = Cluster::new(1);
    let bare = |image| AppUpdate { health_checks: None, ..connected("/a", NetworkMode::Bridge, image) };
    let accepted = cluster.create(bare("nginx")).unwrap();
    let shown = accepted.apps[0].container.clone().unwrap().port_mappings.unwrap().items;
    assert_eq!(shown[0].service_port, 0, "the answer shows what was asked for");
    cluster.settle();
    let (first, before) = (cluster.task_ids("/a"), cluster.app("/a").unwrap());
    cluster.put(bare("nginx"), false).unwrap();
    cluster.settle();
    assert_eq!(cluster.app("/a").unwrap().version_ms, before.version_ms, "nothing has changed");
    assert_eq!(cluster.task_ids("/a"), first);
    cluster.put(bare("nginx:2"), false).unwrap();
    cluster.settle();
    let after = cluster.app("/a").unwrap();
    assert!(after.last_config_change_at_ms > before.last_config_change_at_ms);
    assert_ne!(cluster.task_ids("/a"), first);
    let ports = |app: &App| meshos_types::app_ports(app).map(|port| port.service).collect::<Vec<_>>();
    assert_eq!(ports(&after), ports(&before));
    // Partial: what is not sent stays.
    let more = AppUpdate { id: Some("/a".into()), instances: Some(2), ..Default::default() };
    cluster.put(more, false).unwrap();
    cluster.settle();
    assert_eq!(cluster.app("/a").unwrap().container, after.container);
}

#[test]
fn a_volume_that_is_not_shared_belongs_to_one_app() {
    use meshos_proto::meshos::apps::v1::{ContainerVolume, ExternalVolume, container_volume::Source};
    let mut cluster = Cluster::new(1);
    cluster.core.settings.rules.external_volumes_enabled = true;
    let with = |id: &str, name: &str, shared| {
        let options = [("dvdi/driver".to_owned(), "local".to_owned())].into();
        let volume =
            ExternalVolume { name: name.into(), provider: "dvdi".into(), options, size: None, shared };
        let source = Some(Source::External(volume));
        let volume = ContainerVolume { container_path: "data".into(), read_only: false, source };
        let container =
            Container { r#type: ContainerType::Mesos.into(), volumes: vec![volume], ..Default::default() };
        AppUpdate { container: Some(container), ..app(id) }
    };
    cluster.create(with("/a", "v", false)).unwrap();
    cluster.settle();
    let refused = cluster.create(with("/b", "v", true)).unwrap_err();
    let text = "Volume name 'v' in /b conflicts with volume(s) of same name in app(s): /a";
    assert!(format!("{refused:?}").contains(text), "{refused:?}");
    cluster.create(with("/b", "w", true)).unwrap();
    cluster.create(with("/c", "w", true)).unwrap();
    cluster.settle();
    // The name is free once the app has given it up, after a change of leader too.
    cluster.put(with("/a", "x", false), false).unwrap();
    cluster.settle();
    cluster.change_leader();
    cluster.core.settings.rules.external_volumes_enabled = true;
    assert!(cluster.create(with("/d", "x", false)).is_err());
    cluster.create(with("/d", "v", false)).unwrap();
}
