//! Containers as they run.

use std::time::Duration;

use meshos_agent::containerizer::{
    ContainerSpec, Containerizer, ExitStatus, Limits, Probe, ProbeKind, ProbeOutcome,
    conformance::{self, Suite, ended},
    container::{MountSetup, MountSource, NetworkMode, NetworkSetup},
};

use crate::engine::{Node, docker, in_image, read, shared, shell, skipped, start};

const DONE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_the_engine_conform() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    conformance::run_as(&Suite { containerizer: shared(&containerizer), dir: &node.path(), form: in_image })
        .await;
    assert_eq!(node.containers(), Vec::<String>::new());
    env.tasks.shutdown(DONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sees_its_sandbox_its_volumes_and_its_limits() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    let mut events = containerizer.events();
    std::fs::write(node.path().join("given"), "from outside").unwrap();
    let command = "echo $GREETING; cat /in/given part/../part/mark; cat /sys/fs/cgroup/memory/memory.limit_in_bytes \
                   || cat /sys/fs/cgroup/memory.max; echo made > kept; echo x > /in/given || echo read-only >&2";
    let spec = shell(&node, "sees", command);
    let mut setup = *spec.container.clone().unwrap();
    setup.parameters.push(("env".to_owned(), "GREETING=hello".to_owned()));
    let mount = |source, path: &str, read_only| MountSetup { source, container_path: path.into(), read_only };
    setup.mounts = vec![
        mount(MountSource::Host(node.path()), "/in", true),
        mount(MountSource::Sandbox("own".into()), "part", false),
    ];
    let limits = Limits { cpus: 0.5, memory: 64 << 20, ..Limits::default() };
    let spec = ContainerSpec { container: Some(Box::new(setup)), limits, ..spec };
    std::fs::create_dir_all(spec.sandbox.join("own")).unwrap();
    std::fs::write(spec.sandbox.join("own/mark"), " and inside\n").unwrap();
    start(&containerizer, &spec).await;
    let exit = ended(&mut events, &spec.container_id).await;
    assert_eq!(exit.status, ExitStatus::Code(0));
    let stdout = read(&spec.sandbox.join("stdout"));
    assert_eq!(stdout, format!("hello\nfrom outside and inside\n{}\n", 64 << 20), "{stdout}");
    assert!(read(&spec.sandbox.join("stderr")).contains("read-only"));
    assert_eq!(read(&spec.sandbox.join("kept")), "made\n");
    containerizer.cleanup(&spec.container_id).await.unwrap();
    env.tasks.shutdown(DONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_takes_too_much_memory_is_said_to_have_done_so() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    let mut events = containerizer.events();
    let mut spec = shell(&node, "greedy", "exec tail /dev/zero");
    spec.limits.memory = 32 << 20;
    let swap = ("memory-swap".to_owned(), "32m".to_owned());
    spec.container.as_mut().unwrap().parameters.push(swap);
    start(&containerizer, &spec).await;
    let exit = ended(&mut events, &spec.container_id).await;
    assert!(exit.out_of_memory, "{exit:?}");
    containerizer.cleanup(&spec.container_id).await.unwrap();
    env.tasks.shutdown(DONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_look_from_inside() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    let mut events = containerizer.events();
    // Listens on the loopback of the container's own network, where nobody else gets to.
    let listen = "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalAddr => \"127.0.0.1:8099\", \
                  Listen => 9, ReuseAddr => 1) or die; open(F, \">/mnt/mesos/sandbox/ready\"); close(F); \
                  while ($c = $s->accept) { <$c>; print $c \"HTTP/1.0 204 No Content\\r\\n\\r\\n\"; close($c) }'";
    let spec = shell(&node, "probed", listen);
    let mut setup = *spec.container.clone().unwrap();
    setup.network = NetworkSetup { mode: NetworkMode::Bridge, ..NetworkSetup::default() };
    let spec = ContainerSpec { container: Some(Box::new(setup)), ..spec };
    start(&containerizer, &spec).await;
    crate::engine::until("the server", || spec.sandbox.join("ready").exists()).await;
    let probe = async |kind| {
        let probe =
            Probe { container_id: spec.container_id.clone(), kind, timeout: Some(Duration::from_secs(10)) };
        containerizer.probe(&probe).await
    };
    let http = ProbeKind::Http { tls: false, v6: false, port: 8099, path: "/".to_owned() };
    assert_eq!(probe(http).await, ProbeOutcome::Status(204));
    assert_eq!(probe(ProbeKind::Tcp { v6: false, port: 8099 }).await, ProbeOutcome::Connected(true));
    assert_eq!(probe(ProbeKind::Tcp { v6: false, port: 8098 }).await, ProbeOutcome::Connected(false));
    let command = |line: &str| {
        ProbeKind::Command(Box::new(ContainerSpec {
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), line.to_owned()],
            environment: [("WHO".to_owned(), "me".to_owned())].into(),
            ..ContainerSpec::default()
        }))
    };
    assert_eq!(
        probe(command("test -e /mnt/mesos/sandbox/ready && test $WHO = me")).await,
        ProbeOutcome::Exited(0)
    );
    assert_eq!(probe(command("exit 4")).await, ProbeOutcome::Exited(4));
    let late = Probe {
        container_id: spec.container_id.clone(),
        kind: command("exec sleep 4321"),
        timeout: Some(Duration::from_millis(300)),
    };
    assert!(matches!(containerizer.probe(&late).await, ProbeOutcome::Failed(_)));
    let name = format!("mesos-{}", spec.container_id);
    crate::engine::until("the end of the late command", || !docker(&["top", &name]).contains("4321")).await;
    let network = containerizer.network(&spec.container_id).await;
    assert_eq!(network.networks[0].name.as_deref(), Some("bridge"));
    containerizer.signal(&spec.container_id, 9).await.unwrap();
    ended(&mut events, &spec.container_id).await;
    containerizer.cleanup(&spec.container_id).await.unwrap();
    env.tasks.shutdown(DONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_nowhere_fails_the_start() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    let mut spec = shell(&node, "nowhere", "true");
    spec.container.as_mut().unwrap().image.as_mut().unwrap().name = "127.0.0.1:1/no/such".to_owned();
    containerizer.prepare(&spec).await.unwrap();
    let error = containerizer.fetch(&spec).await.unwrap_err().to_string();
    assert!(error.contains("Failed to pull the image '127.0.0.1:1/no/such'"), "{error}");
    assert!(read(&spec.sandbox.join("stderr")).contains("Pulling the image"));
    containerizer.cleanup(&spec.container_id).await.unwrap();
    env.tasks.shutdown(DONE).await;
}
