use super::*;
use crate::containerizer::container::{ImageSetup, NetworkSetup, PortMapping};

const MAKER: Maker<'_> = Maker { owner: "o", cfs: false };

fn setup() -> ContainerSetup {
    ContainerSetup {
        image: Some(ImageSetup { name: "nginx".to_owned(), ..ImageSetup::default() }),
        sandbox_directory: "/mnt/mesos/sandbox".into(),
        ..ContainerSetup::default()
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        container_id: "c".to_owned(),
        sandbox: "/w/s".into(),
        environment: [("A".to_owned(), "b=c".to_owned())].into(),
        ..ContainerSpec::default()
    }
}

fn command_of(command: ImageCommand) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let body = body(&spec(), &ContainerSetup { command, ..setup() }, MAKER).unwrap();
    (body.entrypoint, body.cmd)
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn a_shell_replaces_the_entrypoint_and_anything_else_is_given_to_it() {
    let command = |shell, value: Option<&str>, arguments: &[&str]| ImageCommand {
        shell,
        value: value.map(str::to_owned),
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
    };
    assert_eq!(command_of(command(true, Some("a b"), &[])), (words(&["/bin/sh"]), words(&["-c", "a b"])));
    assert_eq!(command_of(command(false, Some("a"), &["b", "c"])), (None, words(&["a", "b", "c"])));
    assert_eq!(command_of(command(false, None, &["b"])), (None, words(&["b"])));
    assert_eq!(command_of(command(false, None, &[])), (None, None));
}

#[test]
fn the_container_is_found_again_and_sees_its_sandbox() {
    let parameters = vec![
        ("label".to_owned(), "meshos.owner=somebody else".to_owned()),
        ("memory".to_owned(), "1g".to_owned()),
        ("network-alias".to_owned(), "db".to_owned()),
        ("volume".to_owned(), "/a:/b".to_owned()),
    ];
    let mount = |source, container_path: &str| MountSetup {
        source,
        container_path: container_path.into(),
        read_only: true,
    };
    let mounts = vec![
        mount(MountSource::Host("/host".into()), "/in"),
        mount(MountSource::Host("/with:colon".into()), "/colon"),
        mount(MountSource::Sandbox("part".into()), "/part"),
        mount(MountSource::Persistent("/w/volumes/v".into()), "data"),
        mount(
            MountSource::DockerVolume { driver: Some("d".to_owned()), name: "n".to_owned(), options: vec![] },
            "/volume",
        ),
    ];
    let mode = NetworkMode::Named(vec!["net".to_owned()]);
    let mapping = PortMapping { host_port: 31000, container_port: 53, udp: true };
    let network = NetworkSetup { mode, port_mappings: vec![mapping], shared_as: None };
    let setup = ContainerSetup { parameters, mounts, network, ..setup() };
    let limits = Limits { cpus: 0.5, memory: 64 * MB, ..Limits::default() };
    let body = body(&ContainerSpec { limits, ..spec() }, &setup, MAKER).unwrap();
    let labels = body.labels.unwrap();
    assert_eq!((labels[OWNER].as_str(), labels[CONTAINER].as_str()), ("o", "c"));
    assert_eq!(body.env.unwrap(), ["A=b=c"]);
    let host = body.host_config.unwrap();
    assert_eq!((host.memory, host.cpu_shares), (Some(1 << 30), Some(512)));
    assert_eq!(host.binds.unwrap(), ["/a:/b", "/host:/in:ro"]);
    let seen: Vec<_> = host
        .mounts
        .unwrap()
        .into_iter()
        .map(|mount| (mount.source.unwrap(), mount.target.unwrap()))
        .collect();
    let expected = [
        ("/w/s", "/mnt/mesos/sandbox"),
        ("/with:colon", "/colon"),
        ("/w/s/part", "/part"),
        ("/w/volumes/v", "/mnt/mesos/sandbox/data"),
        ("n", "/volume"),
    ];
    assert_eq!(seen, expected.map(|(source, target)| (source.to_owned(), target.to_owned())));
    assert_eq!(host.network_mode.as_deref(), Some("net"));
    let binding = &host.port_bindings.unwrap()["53/udp"].clone().unwrap()[0];
    assert_eq!(binding.host_port.as_deref(), Some("31000"));
    let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
    assert_eq!(endpoints["net"].aliases.as_ref().unwrap(), &["db"]);
}

#[test]
fn limits_are_those_of_mesos() {
    let of = |given: Limits, cfs| {
        let host = limits(&given, cfs);
        (host.cpu_shares, host.cpu_quota, host.memory, host.memory_reservation)
    };
    let small = Limits { cpus: 0.001, memory: MB, ..Limits::default() };
    assert_eq!(of(small, false), (Some(2), None, Some(32 << 20), None));
    assert_eq!(of(small, true).1, Some(1000));
    let limited = Limits { cpus_limit: Some(2.0), memory_limit: Some(256 * MB), memory: 128 * MB, cpus: 1.0 };
    assert_eq!(of(limited, false), (Some(1024), Some(200_000), Some(256 << 20), Some(128 << 20)));
    assert!(limits(&limited, false).oom_score_adj.unwrap() > 0);
    let free = Limits { cpus_limit: Some(f64::INFINITY), memory_limit: Some(u64::MAX), ..limited };
    assert_eq!(of(free, true), (Some(1024), None, None, Some(128 << 20)));
    assert_eq!(of(Limits::default(), true), (None, None, None, None));
}
