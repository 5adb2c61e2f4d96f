//! The random kills with containers that have an image, of our own and of the Docker Engine, some of them in a network
//! by CNI plugins. `MESHOS_TEST_AGENT_KILLS` says how often (6 by default). Needs root, a Docker engine and
//! `debian:bookworm-slim`; `MESHOS_TEST_SKIP_DOCKER=1` leaves it out.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use meshos_agent::Config;
use meshos_proto::mesos::v1::{
    self as pb, TaskState,
    container_info::{DockerInfo, MesosInfo, Type},
};

use super::{
    dice,
    fakes::task,
    node::{Ends, Node},
    run,
};

pub(crate) const ISOLATION: &str = "cgroups/cpu,cgroups/mem,filesystem/linux,docker/runtime,network/cni";
const IMAGE: &str = "debian:bookworm-slim";
const BRIDGE: &str = "meshos-lost";
/// Of the containers in the network.
const SUBNET: &str = "10.229.7.";
/// For the engine to remove what an agent left: it looks once a minute.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn is_meant(config: &Config) -> bool {
    config.isolation.as_deref() == Some(ISOLATION)
}

/// An agent that runs both kinds.
pub(crate) fn config(mut config: Config) -> Config {
    let beside = |name: &str| config.work_dir.parent().unwrap().join(name);
    config.images.docker_registry = beside("archives").display().to_string();
    config.containers.network_cni_config_dir = Some(beside("cni"));
    config.containers.network_cni_plugins_dir = Some("/usr/lib/cni".to_owned());
    config.containers.containerizers = "docker,mesos".to_owned();
    config.containers.image_providers = Some("docker".to_owned());
    config.containers.docker_remove_delay = Duration::ZERO;
    config
}

fn rounds() -> u64 {
    std::env::var("MESHOS_TEST_AGENT_KILLS").map_or(6, |text| text.parse().unwrap())
}

fn text_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn is_possible() -> bool {
    let reason = match () {
        () if !nix::unistd::geteuid().is_root() => "not root",
        () if std::env::var_os("MESHOS_TEST_SKIP_DOCKER").is_some() => "MESHOS_TEST_SKIP_DOCKER is set",
        () if !Path::new("/usr/lib/cni/bridge").exists() => "no CNI plugins: run scripts/setup",
        () if text_of("docker", &["image", "inspect", "--format", "{{.Id}}", IMAGE]).is_empty() => {
            "no Docker engine (scripts/docker-engine start), or no image (scripts/base-image)"
        }
        () => return true,
    };
    println!("SKIPPED: {reason}");
    false
}

/// What plugins make goes with this process, and nobody else's rules hold.
fn leave_the_machines_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

/// The image's archive, and the network's configuration.
fn set_up(dir: &Path) {
    fs::create_dir_all(dir.join("archives")).unwrap();
    let archive = dir.join(format!("archives/{IMAGE}.tar"));
    assert!(Command::new("docker").args(["save", "-o"]).arg(archive).arg(IMAGE).status().unwrap().success());
    let network = serde_json::json!({
        "cniVersion": "1.0.0", "name": "net", "plugins": [{
            "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "subnet": format!("{SUBNET}0/24"), "dataDir": dir.join("ipam")},
        }],
    });
    fs::create_dir_all(dir.join("cni")).unwrap();
    fs::write(dir.join("cni/net.conflist"), network.to_string()).unwrap();
    fs::create_dir_all(dir.join("ran")).unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Own,
    Networked,
    Docker,
}

/// Says that it ran, beside its sandbox, which it does not see the outside of.
fn in_image(kind: Kind, id: &str, command: &str, ran: &Path) -> pb::TaskInfo {
    let volume = pb::Volume {
        mode: pb::volume::Mode::Rw as i32,
        container_path: "/ran".to_owned(),
        host_path: Some(ran.display().to_string()),
        ..pb::Volume::default()
    };
    let network = pb::NetworkInfo { name: Some("net".to_owned()), ..pb::NetworkInfo::default() };
    let image = pb::Image {
        r#type: pb::image::Type::Docker as i32,
        docker: Some(pb::image::Docker { name: IMAGE.to_owned(), ..Default::default() }),
        ..pb::Image::default()
    };
    let container = pb::ContainerInfo { volumes: vec![volume], ..pb::ContainerInfo::default() };
    let container = match kind {
        Kind::Docker => pb::ContainerInfo {
            r#type: Type::Docker as i32,
            docker: Some(DockerInfo { image: IMAGE.to_owned(), ..DockerInfo::default() }),
            ..container
        },
        Kind::Own | Kind::Networked => pb::ContainerInfo {
            r#type: Type::Mesos as i32,
            mesos: Some(MesosInfo { image: Some(image) }),
            network_infos: (kind == Kind::Networked).then_some(network).into_iter().collect(),
            ..container
        },
    };
    let kill_policy = pb::KillPolicy { grace_period: Some(pb::DurationInfo { nanoseconds: 0 }) };
    pb::TaskInfo {
        container: Some(container),
        kill_policy: Some(kill_policy),
        ..task(id, &format!("echo $$ >> /ran/{id}; {command}"))
    }
}

/// What was launched: its exit code; none: it runs until it is killed.
type Launched = BTreeMap<String, Option<u64>>;

fn of_round(round: u64, ran: &Path, seed: &mut u64) -> (Vec<pb::TaskInfo>, Launched) {
    let kinds = [
        (Kind::Own, ""),
        (Kind::Own, "sleep 0.3;"),
        (Kind::Networked, "sleep 0.1;"),
        (Kind::Networked, "exec sleep 1000"),
        (Kind::Docker, ""),
        (Kind::Docker, "exec sleep 1000"),
    ];
    let tasks = kinds.iter().enumerate().map(|(number, (kind, command))| {
        let id = format!("{kind:?}{round}-{number}");
        let code = (!command.contains("1000")).then(|| dice(seed, 5));
        let exit = code.map(|code| format!(" exit {code}")).unwrap_or_default();
        (in_image(*kind, &id, &format!("{command}{exit}"), ran), (id, code))
    });
    tasks.unzip()
}

pub(crate) fn containers_with_an_image_survive_kills_at_any_moment() {
    if !is_possible() {
        return;
    }
    leave_the_machines_network();
    run(async |node| {
        node.isolation = ISOLATION;
        let dir = node.work_dir().parent().unwrap().to_owned();
        set_up(&dir);
        let ran = dir.join("ran");
        let (mut seed, mut launched, mut ends) = (13, Launched::new(), Ends::default());
        for round in 0..rounds() {
            node.start();
            let mut link = node.link().await;
            ends.reregistered(&link.reregister);
            let (tasks, more) = of_round(round, &ran, &mut seed);
            let victim = tasks[usize::try_from(dice(&mut seed, 6)).unwrap()].task_id.value.clone();
            launched.extend(more);
            link.launch(tasks).await;
            // As far as it gets: while images are looked for, containers are made, run and end.
            let moment = Duration::from_millis(dice(&mut seed, 1500));
            let _ = tokio::time::timeout(moment, ends.take(&mut link, || false)).await;
            link.kill(&victim).await;
            let moment = Duration::from_millis(dice(&mut seed, 100));
            let _ = tokio::time::timeout(moment, ends.take(&mut link, || false)).await;
            node.kill();
        }
        node.start();
        let mut link = node.link().await;
        ends.reregistered(&link.reregister);
        for id in launched.iter().filter(|(_, code)| code.is_none()).map(|(id, _)| id) {
            link.kill(id).await;
        }
        ends.take_all(&mut link).await;
        let known = launched.iter().filter(|(id, code)| ended_well(&ends, (id, **code), &ran)).count();
        println!("{} kills, {} containers, {known} of them launched", rounds(), launched.len());
        nothing_is_left(node, &dir);
    });
}

/// Whether it ever ran.
fn ended_well(ends: &Ends, (id, code): (&str, Option<u64>), ran: &Path) -> bool {
    let runs = fs::read_to_string(ran.join(id)).unwrap_or_default().lines().count();
    assert!(runs <= 1, "{id} ran {runs} times");
    let Some(end) = ends.of(id) else {
        assert_eq!(runs, 0, "{id} ran and nobody knows");
        return false;
    };
    match end.state() {
        TaskState::TaskFinished => assert_eq!((runs, code), (1, Some(0)), "{id}"),
        TaskState::TaskFailed => {
            let status = format!("exited with status {}", code.unwrap_or_default());
            assert!(runs == 1 && end.message().ends_with(&status), "{id} {code:?}: {end:?}");
        }
        TaskState::TaskKilled | TaskState::TaskLost => {}
        other => panic!("{id}: {other:?}"),
    }
    true
}

/// No process, cgroup, mount, overlay, network, rule, address or container.
fn nothing_is_left(node: &Node, dir: &Path) {
    super::kinds::nothing_is_left(node);
    let owner = fs::read_to_string(node.work_dir().join("docker/owner")).unwrap();
    let filter = format!("label=meshos.owner={}", owner.trim());
    let left = || {
        let containers = text_of("docker", &["ps", "--all", "--quiet", "--filter", &filter]);
        let entries = |path: &str| {
            let entries = fs::read_dir(node.work_dir().join(path)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
        };
        let own = dir.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned);
        let rules = text_of("iptables-save", &["-t", "nat"]);
        let links = text_of("ip", &["-o", "link"]);
        let rules = rules.lines().filter(|line| line.contains(SUBNET)).map(str::to_owned);
        let links =
            links.lines().filter(|line| line.contains(&format!("master {BRIDGE} "))).map(str::to_owned);
        // Beside addresses their plugin keeps its lock and the last one that it gave.
        let addresses = fs::read_dir(dir.join("ipam/net")).into_iter().flatten().flatten();
        let addresses = addresses.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let addresses = addresses.filter(|name| name.starts_with(SUBNET));
        let engine = containers.lines().map(str::to_owned);
        let directories = ["oci", "networks", "docker/containers"].map(entries).concat();
        let all = engine.chain(directories).chain(mounts).chain(rules).chain(links).chain(addresses);
        all.collect::<Vec<_>>()
    };
    let started = Instant::now();
    while !left().is_empty() {
        assert!(started.elapsed() < PATIENCE, "left behind: {:#?}", left());
        std::thread::sleep(Duration::from_millis(100));
    }
}
