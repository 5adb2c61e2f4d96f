use meshos_proto::mesos::v1::{
    container_info::{DockerInfo, MesosInfo, Type, docker_info::Network},
    volume::{Mode, Source, source},
};
use meshos_types::parse_resources;

use super::*;
use crate::containerizer::{container::NetworkMode, runtimes::Runtimes, tmpfs::Tmpfs};

fn settings(containerizers: &[&str], isolation: &str) -> Settings {
    let runtimes = Runtimes {
        containerizers: containerizers.iter().map(|name| (*name).to_owned()).collect(),
        isolators: Runtimes::parse_isolators(isolation),
        image_providers: vec!["docker".to_owned()],
        cni: true,
        ..Runtimes::default()
    };
    Settings { runtimes, ..Settings::test("/w") }
}

fn ports() -> Vec<pb::Resource> {
    let any = meshos_types::RoleName::parse("*").unwrap();
    parse_resources("ports:[31000-31009]", &any)
        .unwrap()
        .resources
        .to_proto(meshos_types::Format::PostRefinement)
}

fn run(settings: &Settings, info: &pb::ContainerInfo) -> Result<Option<ContainerSetup>, String> {
    let ports = ports();
    setup(settings, Order { info: Some(info), command: None, resources: &ports, parent: None })
}

fn docker(change: impl FnOnce(&mut pb::ContainerInfo, &mut DockerInfo)) -> Result<ContainerSetup, String> {
    let mut info = pb::ContainerInfo { r#type: Type::Docker as i32, ..Default::default() };
    let mut docker = DockerInfo { image: "nginx".to_owned(), ..Default::default() };
    change(&mut info, &mut docker);
    info.docker = Some(docker);
    run(&settings(&["docker", "mesos"], ""), &info).map(Option::unwrap)
}

fn mapping(host_port: u32, protocol: Option<&str>) -> pb::container_info::docker_info::PortMapping {
    pb::container_info::docker_info::PortMapping {
        host_port,
        container_port: 80,
        protocol: protocol.map(str::to_owned),
    }
}

fn volume(container_path: &str, host_path: Option<&str>, source: Option<Source>) -> pb::Volume {
    pb::Volume {
        mode: Mode::Ro as i32,
        container_path: container_path.to_owned(),
        host_path: host_path.map(str::to_owned),
        source,
        image: None,
    }
}

#[test]
fn networks_of_docker_containers() {
    let plain = docker(|_, _| {}).unwrap();
    assert_eq!((plain.network.mode, plain.runtime), (NetworkMode::Host, Runtime::Docker));
    let bridged = docker(|_, docker| {
        docker.network = Some(Network::Bridge as i32);
        docker.port_mappings = vec![mapping(31000, None), mapping(31001, Some("UDP"))];
    });
    let mappings = bridged.unwrap().network.port_mappings;
    assert_eq!(mappings[1], PortMapping { host_port: 31001, container_port: 80, udp: true });
    let refused = |network: Network, port: u32, protocol: Option<&str>| {
        docker(|_, docker| {
            docker.network = Some(network as i32);
            docker.port_mappings = vec![mapping(port, protocol)];
        })
        .unwrap_err()
    };
    assert_eq!(refused(Network::Bridge, 8080, None), "Port [8080] not included in resources");
    assert!(refused(Network::Bridge, 31000, Some("sctp")).contains("sctp"));
    for network in [Network::Host, Network::None] {
        assert_eq!(
            refused(network, 31000, None),
            "Port mappings are only supported for bridge and user-defined networks"
        );
    }
    let user = |names: &[Option<&str>]| {
        docker(|info, docker| {
            docker.network = Some(Network::User as i32);
            info.network_infos = names
                .iter()
                .map(|name| pb::NetworkInfo { name: name.map(str::to_owned), ..Default::default() })
                .collect();
        })
        .map(|setup| setup.network.mode)
    };
    assert_eq!(user(&[Some("n")]).unwrap(), NetworkMode::Named(vec!["n".to_owned()]));
    assert_eq!(user(&[]).unwrap_err(), "No network info found in container info");
    assert_eq!(user(&[None]).unwrap_err(), "No network name found in network info");
    assert_eq!(
        user(&[Some("n"), Some("m")]).unwrap_err(),
        "Only a single network can be defined in Docker run"
    );
    let hostname = docker(|info, _| info.hostname = Some("h".to_owned()));
    assert_eq!(hostname.unwrap_err(), "Unable to set hostname with host network mode");
    let by_parameter = docker(|_, docker| {
        docker.parameters = vec![pb::Parameter { key: "net".to_owned(), value: "none".to_owned() }];
    });
    assert_eq!(by_parameter.unwrap().network.mode, NetworkMode::None);
    assert!(docker(|_, docker| docker.image = String::new()).is_err());
}

#[test]
fn volumes_of_docker_containers() {
    let mounts = |volumes: Vec<pb::Volume>| {
        docker(|info, _| info.volumes = volumes)
            .map(|setup| setup.mounts.into_iter().map(|m| m.source).collect())
    };
    let one = |container: &str, host: &str| mounts(vec![volume(container, Some(host), None)]);
    assert_eq!(one("/a", "/b"), Ok(vec![MountSource::Host("/b".into())]));
    assert_eq!(one("/a", "b"), Ok(vec![MountSource::Sandbox("b".into())]));
    assert_eq!(one("a", "/b"), Ok(vec![MountSource::Host("/b".into())]));
    for (container, host) in [("a", "b"), ("/", "/b"), ("../a", "/b"), ("/a/../..", "/b"), ("/a", "../b")] {
        assert!(one(container, host).is_err(), "{container} {host}");
    }
    let driven = |driver: &str| {
        volume(
            driver,
            None,
            Some(Source {
                r#type: Some(source::Type::DockerVolume as i32),
                docker_volume: Some(source::DockerVolume {
                    driver: Some(driver.to_owned()),
                    name: "data".to_owned(),
                    driver_options: None,
                }),
                ..Default::default()
            }),
        )
    };
    assert!(mounts(vec![driven("a"), driven("a")]).is_ok());
    assert!(mounts(vec![driven("a"), driven("b")]).unwrap_err().contains("Only one volume driver"));
    assert!(mounts(vec![volume("/a", None, None)]).unwrap_err().contains("exactly one"));
}

#[test]
fn what_is_not_switched_on_is_named() {
    let image = pb::ContainerInfo {
        r#type: Type::Mesos as i32,
        mesos: Some(MesosInfo {
            image: Some(pb::Image {
                r#type: pb::image::Type::Docker as i32,
                docker: Some(pb::image::Docker { name: "nginx".to_owned(), ..Default::default() }),
                cached: Some(false),
                ..Default::default()
            }),
        }),
        ..Default::default()
    };
    let all = settings(&["mesos"], "filesystem/linux,docker/runtime");
    let setup = run(&all, &image).unwrap().unwrap();
    assert!(setup.runtime == Runtime::Oci && setup.image.unwrap().force_pull);
    let refused = run(&settings(&["mesos"], "filesystem/linux"), &image).unwrap_err();
    assert!(refused.contains("--isolation=docker/runtime"), "{refused}");
    let refused = run(&settings(&["docker"], ""), &image).unwrap_err();
    assert!(refused.starts_with("None of the enabled containerizers (docker)"), "{refused}");
    let of_docker = pb::ContainerInfo { r#type: Type::Docker as i32, ..Default::default() };
    assert!(run(&all, &of_docker).unwrap_err().contains("--containerizers=mesos,docker"));
    let with_volume = pb::ContainerInfo {
        r#type: Type::Mesos as i32,
        volumes: vec![volume("/a", Some("/b"), None)],
        ..Default::default()
    };
    assert!(run(&all, &with_volume).is_ok());
    let refused = run(&settings(&["mesos"], ""), &with_volume).unwrap_err();
    assert!(refused.contains("filesystem/linux,volume/host_path"), "{refused}");
    let networked = pb::ContainerInfo {
        network_infos: vec![pb::NetworkInfo { name: Some("n".to_owned()), ..Default::default() }],
        ..pb::ContainerInfo { r#type: Type::Mesos as i32, ..Default::default() }
    };
    assert_eq!(
        run(&all, &networked).unwrap().unwrap().network.mode,
        NetworkMode::Named(vec!["n".to_owned()])
    );
    let mut without = all;
    without.runtimes.cni = false;
    assert!(run(&without, &networked).unwrap_err().contains("--network_cni_config_dir"));
}

#[test]
fn a_container_without_wishes_is_a_process() {
    let plain = pb::ContainerInfo {
        r#type: Type::Mesos as i32,
        mesos: Some(MesosInfo::default()),
        network_infos: vec![pb::NetworkInfo::default()],
        linux_info: Some(pb::LinuxInfo { share_cgroups: Some(false), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(run(&settings(&["mesos"], ""), &plain), Ok(None));
    assert_eq!(runtime(Some(&plain)), None);
}

#[test]
fn the_operators_defaults_hold_where_nothing_is_asked_for_and_limit_what_is() {
    use crate::containerizer::container::DnsSetup;
    let mut all = settings(&["docker", "mesos"], "linux/capabilities,namespaces/ipc,namespaces/pid");
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let defaults = &mut all.runtimes.defaults;
    defaults.bounding_capabilities = names(&["CAP_CHOWN", "CAP_KILL"]);
    defaults.effective_capabilities = names(&["CAP_KILL"]);
    defaults.shm_size = Some(1 << 20);
    (defaults.own_pids, defaults.own_ipc) = (true, true);
    let server = |address: &str| DnsSetup { nameservers: vec![address.to_owned()], ..DnsSetup::default() };
    defaults.dns.bridge = Some(server("10.0.0.1"));
    defaults.dns.cni.others = Some(server("10.0.0.2"));
    let mesos = |linux: pb::LinuxInfo| pb::ContainerInfo {
        linux_info: Some(linux),
        network_infos: vec![pb::NetworkInfo { name: Some("n".to_owned()), ..Default::default() }],
        ..pb::ContainerInfo { r#type: Type::Mesos as i32, ..Default::default() }
    };
    let given = run(&all, &mesos(pb::LinuxInfo::default())).unwrap().unwrap();
    assert_eq!(given.linux.effective_capabilities, names(&["CAP_KILL"]));
    assert_eq!(given.linux.bounding_capabilities, names(&["CAP_CHOWN", "CAP_KILL"]));
    assert_eq!((given.linux.shm_size, given.dns), (Some(1 << 20), Some(server("10.0.0.2"))));
    let asked = |linux: pb::LinuxInfo| run(&all, &mesos(linux)).unwrap_err();
    let capability =
        |one: pb::capability_info::Capability| Some(pb::CapabilityInfo { capabilities: vec![one as i32] });
    let beyond = pb::LinuxInfo {
        effective_capabilities: capability(pb::capability_info::Capability::SysAdmin),
        ..Default::default()
    };
    assert!(
        asked(beyond).contains("CAP_SYS_ADMIN is not among those that this agent gives: CAP_CHOWN, CAP_KILL")
    );
    assert!(
        asked(pb::LinuxInfo { share_pid_namespace: Some(true), ..Default::default() })
            .contains("pid namespace")
    );
    let ipc = pb::linux_info::IpcMode::ShareParent as i32;
    assert!(asked(pb::LinuxInfo { ipc_mode: Some(ipc), ..Default::default() }).contains("IPC namespace"));
    let profile = pb::SeccompInfo { profile_name: Some("own.json".to_owned()), ..Default::default() };
    assert!(asked(pb::LinuxInfo { seccomp: Some(profile), ..Default::default() }).contains("linux/seccomp"));
    // A plain process is limited as well.
    let order = Order { info: None, command: None, resources: &[], parent: None };
    assert_eq!(
        setup(&all, order).unwrap().unwrap().linux.bounding_capabilities,
        names(&["CAP_CHOWN", "CAP_KILL"])
    );
    let docker =
        DockerInfo { image: "i".to_owned(), network: Some(Network::Bridge as i32), ..Default::default() };
    let bridged =
        pb::ContainerInfo { r#type: Type::Docker as i32, docker: Some(docker), ..Default::default() };
    assert_eq!(run(&all, &bridged).unwrap().unwrap().dns, Some(server("10.0.0.1")));
}

#[test]
fn secrets_are_files_of_containers_of_our_own() {
    let source = |secret| Source {
        r#type: Some(source::Type::Secret as i32),
        secret: Some(secret),
        ..Default::default()
    };
    let value = pb::Secret {
        r#type: Some(pb::secret::Type::Value as i32),
        value: Some(pb::secret::Value { data: bytes::Bytes::from_static(b"hush") }),
        ..Default::default()
    };
    let mesos = |secret: &pb::Secret| pb::ContainerInfo {
        volumes: vec![volume("/run/secret", None, Some(source(secret.clone())))],
        ..pb::ContainerInfo { r#type: Type::Mesos as i32, ..Default::default() }
    };
    let on = settings(&["mesos"], "filesystem/linux,volume/secret");
    let setup = run(&on, &mesos(&value)).unwrap().unwrap();
    assert_eq!(
        setup.mounts[0].source,
        MountSource::Secret(crate::containerizer::container::Hidden(b"hush".to_vec()))
    );
    assert!(!format!("{setup:?}").contains("hush"));
    let refused = run(&settings(&["mesos"], "filesystem/linux"), &mesos(&value)).unwrap_err();
    assert!(refused.contains("--isolation=volume/secret"), "{refused}");
    let reference = pb::Secret {
        r#type: Some(pb::secret::Type::Reference as i32),
        reference: Some(pb::secret::Reference { name: "n".to_owned(), key: None }),
        ..Default::default()
    };
    assert!(run(&on, &mesos(&reference)).unwrap_err().contains("is a reference"));
    let of_docker = docker(|info, _| info.volumes = mesos(&value).volumes);
    assert!(of_docker.unwrap_err().contains("only a container of type MESOS"));
}

#[test]
fn a_volume_in_memory_is_the_same_for_all_containers() {
    let driven = |driver: Option<&str>, options: &[(&str, &str)]| {
        let parameter = options
            .iter()
            .map(|(key, value)| pb::Parameter { key: (*key).to_owned(), value: (*value).to_owned() })
            .collect();
        let docker_volume = source::DockerVolume {
            driver: driver.map(str::to_owned),
            name: "any".to_owned(),
            driver_options: Some(pb::Parameters { parameter }),
        };
        let source = Source {
            r#type: Some(source::Type::DockerVolume as i32),
            docker_volume: Some(docker_volume),
            ..Default::default()
        };
        vec![volume("/scratch", None, Some(source))]
    };
    let mesos = |isolation: &str, volumes: Vec<pb::Volume>| {
        let info = pb::ContainerInfo { r#type: Type::Mesos as i32, volumes, ..Default::default() };
        run(&settings(&["mesos"], isolation), &info).map(|setup| setup.unwrap().mounts.remove(0).source)
    };
    let engine = |volumes: Vec<pb::Volume>| {
        docker(|info, _| info.volumes = volumes).map(|mut setup| setup.mounts.remove(0).source)
    };
    let wanted = MountSource::Tmpfs(Tmpfs { size: Some(64 << 20), mode: Some(0o700) });
    let plain = || driven(Some("tmpfs"), &[("size", "64m"), ("mode", "700")]);
    assert_eq!(mesos("filesystem/linux", plain()), Ok(wanted.clone()));
    assert_eq!(engine(plain()), Ok(wanted.clone()));
    // Docker's own way: a volume of the engine where there is one.
    let local =
        || driven(Some("local"), &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=64m,mode=700")]);
    assert_eq!(mesos("filesystem/linux", local()), Ok(wanted));
    assert!(matches!(engine(local()), Ok(MountSource::DockerVolume { .. })));
    // Without mounts of its own there is no place for it.
    let refused = mesos("posix/cpu", plain()).unwrap_err();
    assert_eq!(refused, "a volume in memory needs --isolation=filesystem/linux on this agent");
    let hostile = || driven(Some("tmpfs"), &[("size", "1m,mode=4755")]);
    for refused in [mesos("filesystem/linux", hostile()), engine(hostile())] {
        let text = refused.unwrap_err();
        assert!(text.starts_with("the volume in memory at '/scratch' cannot be: its size"), "{text}");
    }
    assert!(mesos("filesystem/linux", driven(None, &[])).unwrap_err().contains("docker/volume"));
}

#[test]
fn seccomp_profiles_are_files_in_the_operators_directory() {
    let profile = |name: &str, unconfined: Option<bool>| pb::ContainerInfo {
        linux_info: Some(pb::LinuxInfo {
            seccomp: Some(pb::SeccompInfo { profile_name: Some(name.to_owned()), unconfined }),
            ..Default::default()
        }),
        ..pb::ContainerInfo { r#type: Type::Mesos as i32, ..Default::default() }
    };
    let mut all = settings(&["mesos"], "linux/seccomp");
    assert!(run(&all, &profile("own.json", None)).unwrap_err().contains("--seccomp_config_dir"));
    all.runtimes.defaults.seccomp_dir = Some("/etc/seccomp".into());
    let given = |info: &pb::ContainerInfo| run(&all, info).map(|setup| setup.unwrap().linux.seccomp_profile);
    assert_eq!(given(&profile("own.json", None)), Ok(Some("/etc/seccomp/own.json".into())));
    for name in ["", "/etc/passwd", "../x", "a/../../x", ".", "a\0b"] {
        assert!(
            given(&profile(name, None)).unwrap_err().contains("no name of a seccomp profile"),
            "{name:?}"
        );
    }
    assert!(given(&profile("own.json", Some(true))).unwrap_err().contains("'unconfined'"));
    let off = settings(&["mesos"], "cgroups");
    assert!(run(&off, &profile("own.json", None)).unwrap_err().contains("--isolation=linux/seccomp"));
    // The operator's holds for plain processes as well, unless a task has its own or none.
    all.runtimes.defaults.seccomp_profile = Some("/etc/seccomp/all.json".into());
    let order = Order { info: None, command: None, resources: &[], parent: None };
    let plain = setup(&all, order).unwrap().unwrap().linux;
    assert_eq!(plain.seccomp_profile, Some("/etc/seccomp/all.json".into()));
    let own = run(&all, &profile("own.json", None)).unwrap().unwrap().linux;
    assert_eq!(own.seccomp_profile, Some("/etc/seccomp/own.json".into()));
    let unconfined = pb::LinuxInfo {
        seccomp: Some(pb::SeccompInfo { profile_name: None, unconfined: Some(true) }),
        ..Default::default()
    };
    let free = pb::ContainerInfo { linux_info: Some(unconfined), ..profile("", None) };
    assert_eq!(run(&all, &free).unwrap().unwrap().linux.seccomp_profile, None);
}
