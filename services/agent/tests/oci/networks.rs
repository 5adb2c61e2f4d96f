//! Networks by real CNI plugins, all of it in a network namespace that the test makes in place of the machine's.

use std::{fs, path::Path, process::Command};

use meshos_agent::containerizer::{
    ContainerSpec, Containerizer, Probe, ProbeKind, ProbeOutcome,
    container::{NetworkMode, NetworkSetup, PortMapping},
};

use crate::{
    Test,
    node::{self, Node, code, in_image, output, wait_until},
    ports::ports,
};

pub(crate) const TESTS: &[Test] = &[
    ("a_container_without_a_network_has_loopback_alone", a_container_without_a_network_has_loopback_alone),
    ("containers_meet_in_a_network_and_ports_lead_to_them", containers_meet_in_a_network),
    ("containers_of_a_pod_share_a_network", containers_of_a_pod_share_a_network),
    ("a_plugin_that_fails_is_told_and_undone", a_plugin_that_fails_is_told_and_undone),
];

fn network(mode: NetworkMode) -> NetworkSetup {
    NetworkSetup { mode, ..NetworkSetup::default() }
}

fn a_container_without_a_network_has_loopback_alone() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut spec = in_image(
            "none",
            "cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /sys/class/net/lo/flags",
            &node.sandboxes(),
        );
        spec.container.as_mut().unwrap().network = network(NetworkMode::None);
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        let text = output(&spec, "stdout");
        let names: Vec<_> = text.lines().map(str::trim).collect();
        // Kernels add tunnels of their own to every namespace.
        assert!(
            names.contains(&"lo")
                && names.contains(&"0x9")
                && !names.iter().any(|name| name.starts_with("eth")),
            "{text}"
        );
    });
}

pub(crate) fn configure(node: &Node) -> String {
    let bridge = "meshos0".to_owned();
    let config = serde_json::json!({
        "cniVersion": "1.0.0", "name": "net", "plugins": [{
            "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "subnet": "10.231.1.0/24", "dataDir": node.path().join("ipam")},
            "dns": {"nameservers": ["10.231.0.1"]},
        }],
    });
    let dir = node.path().join("cni");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("net.conflist"), config.to_string()).unwrap();
    let failing = serde_json::json!({
        "cniVersion": "1.0.0", "name": "failing", "plugins": [
            {"type": "bridge", "bridge": bridge, "ipam": {"type": "host-local", "subnet": "10.230.0.0/24", "dataDir": node.path().join("ipam2")}},
            {"type": "tuning", "sysctl": {"net.ipv4.no.such": "1"}},
        ],
    });
    fs::write(dir.join("failing.conflist"), failing.to_string()).unwrap();
    bridge
}

pub(crate) fn has_plugins() -> bool {
    let there = Path::new("/usr/lib/cni/bridge").exists();
    if !there {
        println!("no CNI plugins in /usr/lib/cni: install containernetworking-plugins");
    }
    there
}

fn text_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What plugins make on the machine.
pub(crate) fn leftovers(bridge: &str) -> String {
    let rules = text_of("iptables-save", &["-t", "nat"]);
    let links = text_of("ip", &["-o", "link"]);
    let rules = rules.lines().filter(|line| line.contains("10.231.") || line.contains("10.230."));
    let links = links.lines().filter(|line| line.contains(&format!("master {bridge} ")));
    rules.chain(links).collect::<Vec<_>>().join("\n")
}

/// A server without a program of its own: perl is part of Debian's base.
const SERVE: &str = r#"exec perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die $!;
    open(my $f, ">", "ready"); close $f;
    while (my $c = $s->accept) { my $l = <$c>; print $c "HTTP/1.0 200 OK\r\n\r\nhello from inside\n"; close $c; }'"#;

pub(crate) fn in_network(name: &str, command: &str, dir: &Path, mappings: Vec<PortMapping>) -> ContainerSpec {
    let mut spec = in_image(name, command, dir);
    let mode = NetworkMode::Named(vec!["net".to_owned()]);
    spec.container.as_mut().unwrap().network =
        NetworkSetup { mode, port_mappings: mappings, shared_as: None };
    spec
}

fn containers_meet_in_a_network() {
    if !has_plugins() {
        return;
    }
    let node = Node::new();
    let bridge = configure(&node);
    let [port] = ports();
    node.agent(async |containerizer| {
        let mapping = PortMapping { host_port: port, container_port: 8080, udp: false };
        let server = in_network("server", SERVE, &node.sandboxes(), vec![mapping]);
        node::start(&containerizer, &server).await;
        wait_until("it listens", || server.sandbox.join("ready").exists());
        let status = containerizer.network("server").await;
        assert_eq!(status.networks[0].name.as_deref(), Some("net"));
        let address = status.networks[0].addresses[0];
        let ask = format!(
            "exec 3<>/dev/tcp/{address}/8080; echo GET >&3; cat <&3; hostname; cat /etc/resolv.conf; grep client /etc/hosts"
        );
        let mut client = in_network("client", "", &node.sandboxes(), Vec::new());
        client.program = "/bin/bash".to_owned();
        client.arguments = vec!["-c".to_owned(), ask];
        assert_eq!(node::run(&containerizer, &client).await, code(0), "{}", output(&client, "stderr"));
        let text = output(&client, "stdout");
        assert!(text.contains("hello from inside") && text.contains("client\n"), "{text}");
        assert!(text.contains("nameserver 10.231.0.1") && text.contains("\tclient"), "{text}");
        // From the machine by the port, and from inside by checks.
        let answer = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        assert!(answer.is_ok(), "{answer:?} {}", text_of("iptables-save", &["-t", "nat"]));
        // The server looks after one at a time.
        drop(answer);
        let probe = |kind| Probe { container_id: "server".to_owned(), kind, timeout: Some(crate::PATIENCE) };
        let http = ProbeKind::Http { tls: false, v6: false, port: 8080, path: "/".to_owned() };
        assert_eq!(containerizer.probe(&probe(http)).await, ProbeOutcome::Status(200));
        let closed = ProbeKind::Tcp { v6: false, port: 8081 };
        assert_eq!(containerizer.probe(&probe(closed)).await, ProbeOutcome::Connected(false));
    });
    // An agent that comes later still knows where it is, and can undo it.
    node.agent(async |containerizer| {
        containerizer.recover().await.unwrap();
        assert_eq!(containerizer.network("server").await.networks.len(), 1);
        let mut events = containerizer.events();
        containerizer.signal("server", 9).await.unwrap();
        meshos_agent::containerizer::conformance::ended(&mut events, "server").await;
        containerizer.cleanup("server").await.unwrap();
    });
    assert_eq!(leftovers(&bridge), "");
    remove_bridge(&bridge);
}

pub(crate) fn remove_bridge(bridge: &str) {
    let _ = Command::new("ip").args(["link", "delete", bridge]).status();
}

fn containers_of_a_pod_share_a_network() {
    if !has_plugins() {
        return;
    }
    let node = Node::new();
    let bridge = configure(&node);
    node.agent(async |containerizer| {
        let of_pod = |name: &str, command: &str| {
            let mut spec = in_network(name, command, &node.sandboxes(), Vec::new());
            spec.container.as_mut().unwrap().network.shared_as = Some("pod".to_owned());
            spec
        };
        let server = of_pod("first", SERVE);
        node::start(&containerizer, &server).await;
        wait_until("it listens", || server.sandbox.join("ready").exists());
        let mut second = of_pod("second", "");
        second.program = "/bin/bash".to_owned();
        second.arguments =
            vec!["-c".to_owned(), "exec 3<>/dev/tcp/127.0.0.1/8080; echo GET >&3; cat <&3".to_owned()];
        assert_eq!(node::run(&containerizer, &second).await, code(0), "{}", output(&second, "stderr"));
        assert!(output(&second, "stdout").contains("hello from inside"));
        assert!(node.path().join("networks/pod/namespace").exists(), "it went with the second");
        let mut events = containerizer.events();
        containerizer.signal("first", 9).await.unwrap();
        meshos_agent::containerizer::conformance::ended(&mut events, "first").await;
        containerizer.cleanup("first").await.unwrap();
        assert!(!node.path().join("networks/pod").exists());
    });
    assert_eq!(leftovers(&bridge), "");
    remove_bridge(&bridge);
}

fn a_plugin_that_fails_is_told_and_undone() {
    if !has_plugins() {
        return;
    }
    let node = Node::new();
    let bridge = configure(&node);
    node.agent(async |containerizer| {
        for (name, said) in [("failing", "'tuning'"), ("unknown", "Unknown CNI network 'unknown'")] {
            let mut spec = in_image(name, "true", &node.sandboxes());
            spec.container.as_mut().unwrap().network = network(NetworkMode::Named(vec![name.to_owned()]));
            let error = containerizer.prepare(&spec).await.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!node.path().join("networks").join(name).exists());
            containerizer.cleanup(name).await.unwrap();
        }
    });
    assert_eq!(leftovers(&bridge), "");
    remove_bridge(&bridge);
}
