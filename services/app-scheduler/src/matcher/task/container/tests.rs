use meshos_proto::{
    meshos::apps::v1::{ContainerParameter, Ipc, PortMappingList, Seccomp},
    mesos::v1::TaskInfo,
};

use super::*;
use crate::matcher::task::task_info;

const CONTEXT: TaskContext<'_> = TaskContext {
    task_id: "a.instance-1._app.1",
    agent_id: "A",
    host: "h",
    executor: "//cmd",
    prefix: "",
    role_is_enforced: false,
    bridge_name: "mesos-bridge",
};

fn app(kind: ContainerType, mode: NetworkMode) -> App {
    let mapping = PortMapping {
        container_port: 80,
        host_port: Some(0),
        protocol: "udp,tcp".into(),
        labels: [("VIP_0".to_owned(), "x:80".to_owned())].into(),
        ..Default::default()
    };
    let inside = PortMapping { container_port: 81, protocol: "tcp".into(), ..Default::default() };
    let image = ContainerImage {
        name: "nginx".into(),
        force_pull: true,
        privileged: true,
        parameters: vec![ContainerParameter { key: "hostname".into(), value: "x".into() }],
        ..Default::default()
    };
    let name = (mode == NetworkMode::Container).then(|| "overlay".to_owned());
    App {
        id: "/a".into(),
        container: Some(Container {
            r#type: kind.into(),
            image: Some(image),
            port_mappings: Some(PortMappingList { items: vec![mapping, inside] }),
            ..Default::default()
        }),
        networks: vec![Network { mode: mode.into(), name, ..Default::default() }],
        ..Default::default()
    }
}

fn task(app: &App) -> TaskInfo {
    let launch = Launch {
        instance_id: "a.instance-1".into(),
        resources: Default::default(),
        executor: Default::default(),
        ports: vec![31_000, 0],
        container_ports: vec![80, 81],
    };
    task_info(app, &launch, CONTEXT)
}

fn info(app: &App) -> ContainerInfo {
    task(app).container.unwrap()
}

#[test]
fn docker_on_the_bridge() {
    let info = info(&app(ContainerType::Docker, NetworkMode::Bridge));
    assert_eq!(info.r#type(), container_info::Type::Docker);
    assert!(info.network_infos.is_empty() && info.mesos.is_none());
    let docker = info.docker.unwrap();
    assert_eq!((docker.image.as_str(), docker.network()), ("nginx", docker_info::Network::Bridge));
    assert_eq!((docker.privileged, docker.force_pull_image), (Some(true), Some(true)));
    let mappings: Vec<_> =
        docker.port_mappings.iter().map(|m| (m.host_port, m.container_port, m.protocol())).collect();
    assert_eq!(mappings, [(31_000, 80, "udp"), (31_000, 80, "tcp")]);
    let parameters: Vec<_> = docker.parameters.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
    assert_eq!(parameters, [("hostname", "x"), ("label", "MESOS_TASK_ID=a.instance-1._app.1")]);
}

#[test]
fn docker_in_a_network_of_the_user_and_on_the_host() {
    let user = info(&app(ContainerType::Docker, NetworkMode::Container));
    assert_eq!(user.docker.unwrap().network(), docker_info::Network::User);
    assert_eq!(user.network_infos.len(), 1);
    assert_eq!(user.network_infos[0].name.as_deref(), Some("overlay"));
    let mut host = app(ContainerType::Docker, NetworkMode::Host);
    host.container.as_mut().unwrap().port_mappings = None;
    let host = info(&host);
    assert_eq!(host.docker.unwrap().network(), docker_info::Network::Host);
    assert!(host.network_infos.is_empty());
}

#[test]
fn an_image_that_the_agent_runs_itself() {
    let info = info(&app(ContainerType::Mesos, NetworkMode::Bridge));
    assert!(info.docker.is_none());
    let image = info.mesos.unwrap().image.unwrap();
    assert_eq!((image.cached, image.docker.unwrap().name.as_str()), (Some(false), "nginx"));
    let network = &info.network_infos[0];
    assert_eq!((network.name.as_deref(), network.ip_addresses.len()), (Some("mesos-bridge"), 1));
    assert_eq!(network.port_mappings.len(), 2);
}

#[test]
fn a_volume_in_memory_has_the_size_that_the_field_means() {
    let options = [("dvdi/driver", "tmpfs"), ("dvdi/mode", "700")];
    let external = ExternalVolume {
        name: "v".into(),
        provider: "dvdi".into(),
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        size: Some(5),
        shared: false,
    };
    let made = super::docker_volume(&external);
    let options = made.driver_options.unwrap().parameter;
    let options: Vec<_> = options.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
    assert_eq!((made.driver.as_deref(), options), (Some("tmpfs"), vec![("mode", "700"), ("size", "5g")]));
}

#[test]
fn volumes_secrets_and_settings_of_linux() {
    let mut app = app(ContainerType::Mesos, NetworkMode::Container);
    app.secrets = [("s".to_owned(), "dir/file".to_owned())].into();
    app.tty = Some(true);
    let container = app.container.as_mut().unwrap();
    container.image.as_mut().unwrap().pull_secret = Some("s".into());
    let options = [("dvdi/driver", "rexray"), ("dvdi/volumetype", "gp2")];
    let external = ExternalVolume {
        name: "v".into(),
        provider: "dvdi".into(),
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        size: Some(5),
        shared: false,
    };
    let volume = |path: &str, read_only, source| ContainerVolume {
        container_path: path.into(),
        read_only,
        source: Some(source),
    };
    container.volumes = vec![
        volume("/etc/x", true, Source::HostPath("/x".into())),
        volume("data", false, Source::External(external)),
        volume("key", false, Source::Secret("s".into())),
    ];
    container.linux = Some(LinuxSettings {
        seccomp: Some(Seccomp { profile: Some("p".into()), unconfined: false }),
        ipc: Some(Ipc { shares_parent: false, shm_size: Some(64) }),
    });
    let info = info(&app);
    assert!(info.tty_info.is_some());
    let name = |secret: &pb::Secret| secret.reference.as_ref().unwrap().name.clone();
    let image = info.mesos.unwrap().image.unwrap().docker.unwrap();
    assert_eq!(name(&image.config.unwrap()), "dir/file");
    let [host, external, secret] = &info.volumes[..] else { panic!("{:?}", info.volumes) };
    assert_eq!((host.host_path.as_deref(), host.mode()), (Some("/x"), pb::volume::Mode::Ro));
    let docker = external.source.as_ref().unwrap().docker_volume.as_ref().unwrap();
    assert_eq!((docker.driver.as_deref(), docker.name.as_str()), (Some("rexray"), "v"));
    let options: Vec<_> = docker.driver_options.as_ref().unwrap().parameter.iter().collect();
    let options: Vec<_> = options.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
    assert_eq!(options, [("size", "5"), ("volumetype", "gp2")]);
    assert_eq!(secret.mode(), pb::volume::Mode::Ro);
    assert_eq!(name(secret.source.as_ref().unwrap().secret.as_ref().unwrap()), "dir/file");
    let linux = info.linux_info.unwrap();
    assert_eq!((linux.ipc_mode(), linux.shm_size), (pb::linux_info::IpcMode::Private, Some(64)));
    assert_eq!(linux.seccomp.unwrap().profile_name.as_deref(), Some("p"));
}

#[test]
fn a_terminal_needs_no_container_and_a_process_has_none() {
    let plain = App { id: "/a".into(), cmd: Some("x".into()), ..Default::default() };
    assert!(task(&plain).container.is_none());
    let tty = info(&App { tty: Some(true), ..plain });
    assert!(tty.tty_info.is_some() && tty.r#type() == container_info::Type::Mesos);
}

#[test]
fn arguments_belong_to_the_image_and_a_custom_executor_has_the_container() {
    let mut app = app(ContainerType::Docker, NetworkMode::Bridge);
    app.args = vec!["-c".into(), "x".into()];
    let command = task(&app).command.unwrap();
    assert_eq!((command.shell, command.value, command.arguments.len()), (Some(false), None, 2));
    app.args.clear();
    let command = task(&app).command.unwrap();
    assert_eq!((command.shell, command.value, command.arguments.len()), (Some(false), None, 0));
    let environment = command.environment.unwrap().variables;
    let image = environment.iter().find(|one| one.name == "MARATHON_APP_DOCKER_IMAGE").unwrap();
    assert_eq!(image.value.as_deref(), Some("nginx"));
    app.executor = "/opt/executor".into();
    let task = task(&app);
    assert!(task.container.is_none() && task.executor.unwrap().container.is_some());
}

#[test]
fn ports_are_discovered_by_where_they_hold() {
    let task = task(&app(ContainerType::Mesos, NetworkMode::Container));
    let ports = task.discovery.unwrap().ports.unwrap().ports;
    let label = |port: &pb::Port, key: &str| {
        let labels = &port.labels.as_ref().unwrap().labels;
        labels.iter().find(|label| label.key == key).and_then(|label| label.value.clone())
    };
    let found: Vec<_> = ports
        .iter()
        .map(|port| (port.number, port.protocol(), label(port, "network-scope"), label(port, "network-name")))
        .collect();
    let (host, container, name) = (Some("host".into()), Some("container".into()), Some("overlay".into()));
    let wanted =
        [(31_000, "udp", host.clone(), None), (31_000, "tcp", host, None), (81, "tcp", container, name)];
    assert_eq!(found, wanted);
    assert_eq!(label(&ports[0], "VIP_0").as_deref(), Some("x:80"));
}

#[test]
fn checks_of_the_agent_go_to_the_port_inside() {
    use meshos_proto::meshos::apps::v1::{HealthCheck, HealthProtocol};
    let check =
        HealthCheck { protocol: HealthProtocol::MesosTcp.into(), port_index: Some(0), ..Default::default() };
    let app = App { health_checks: vec![check], ..app(ContainerType::Docker, NetworkMode::Bridge) };
    assert_eq!(task(&app).health_check.unwrap().tcp.unwrap().port, 80);
}
