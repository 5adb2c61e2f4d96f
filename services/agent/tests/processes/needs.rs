//! Files, limits and checks of real processes.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use meshos_agent::{
    containerizer::{
        ContainerSpec, Containerizer, Probe, ProbeKind, ProbeOutcome, Rlimit,
        conformance::{ended, shell},
    },
    fetcher::FetchUri,
};

use super::{Node, Test, code, lives, output, start, wait_until};

pub(super) const TESTS: &[Test] = &[
    ("a_command_is_probed_beside_its_container", a_command_is_probed_beside_its_container),
    ("a_probe_in_the_containers_cgroup_ends_alone", a_probe_in_the_containers_cgroup_ends_alone),
    ("a_probe_ends_with_its_container", a_probe_ends_with_its_container),
    ("an_older_supervisor_becomes_the_agents_program", an_older_supervisor_becomes_the_agents_program),
    ("limits_of_the_kernel_are_set", limits_of_the_kernel_are_set),
    ("what_is_fetched_belongs_to_the_tasks_user", what_is_fetched_belongs_to_the_tasks_user),
];

fn probe(spec: &ContainerSpec, number: u32, command: &str, timeout: Duration) -> Probe {
    let beside = ContainerSpec {
        container_id: format!("{}.{number}", spec.container_id),
        arguments: vec!["-c".to_owned(), command.to_owned()],
        ..spec.clone()
    };
    let kind = ProbeKind::Command(Box::new(beside));
    Probe { container_id: spec.container_id.clone(), kind, timeout: Some(timeout) }
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

async fn probed(node: &Node, containerizer: &impl Containerizer, name: &str) {
    let spec = shell(name, "echo up > state; while true; do sleep 1; done", &node.sandboxes());
    containerizer.prepare(&spec).await.unwrap();
    let pid = containerizer.launch(&spec).await.unwrap();
    wait_until("it is up", || spec.sandbox.join("state").exists());
    let wanted = [
        ("grep -q up state", LONG, ProbeOutcome::Exited(0)),
        ("exit 7", LONG, ProbeOutcome::Exited(7)),
        ("kill -9 $$", LONG, ProbeOutcome::Failed("the command was ended by signal 9".to_owned())),
        (
            "sleep 1000 & echo $! > child; wait",
            SHORT,
            ProbeOutcome::Failed("no answer within 0.2 s".to_owned()),
        ),
    ];
    for (number, (command, timeout, outcome)) in (0..).zip(wanted) {
        assert_eq!(containerizer.probe(&probe(&spec, number, command, timeout)).await, outcome, "{command}");
    }
    let child: u32 = output(&spec, "child").trim().parse().unwrap();
    wait_until("what the probe left is ended", || !lives(child));
    assert!(lives(pid), "the container runs on");
    let left: Vec<_> =
        containerizer.recover().await.unwrap().into_iter().map(|found| found.container_id).collect();
    assert_eq!(left, [name], "probes are forgotten");
    let missing = ContainerSpec { program: "/no/such".to_owned(), ..spec.clone() };
    let missing = containerizer.probe(&probe(&missing, 9, "", LONG)).await;
    assert!(
        matches!(&missing, ProbeOutcome::Failed(reason) if reason.contains("No such file")),
        "{missing:?}"
    );
    let mut events = containerizer.events();
    containerizer.signal(name, 9).await.unwrap();
    ended(&mut events, name).await;
    containerizer.cleanup(name).await.unwrap();
}

fn a_command_is_probed_beside_its_container() {
    let node = Node::new();
    node.agent(async |containerizer| probed(&node, &*containerizer, "probed").await);
}

fn a_probe_in_the_containers_cgroup_ends_alone() {
    let node = Node::with_cgroups(true);
    node.agent(async |containerizer| probed(&node, &*containerizer, "limited").await);
    node.remove_cgroups();
}

/// As after an upgrade of the agent: its program is another file than that of the supervisor.
fn an_older_supervisor_becomes_the_agents_program() {
    let mut node = Node::new();
    let program = std::env::current_exe().unwrap();
    let older = node.dir.path().join("older");
    std::fs::copy(&program, &older).unwrap();
    node.settings.program.program = older.clone();
    let spec = shell("stays", "while [ ! -e go ]; do sleep 0.02; done; exit 9", &node.sandboxes());
    node.agent(async |containerizer| start(&containerizer, &spec).await);
    let supervisor = node.supervisor().unwrap();
    let runs = || std::fs::read_link(format!("/proc/{supervisor}/exe")).unwrap();
    assert_eq!(runs(), older);
    node.settings.program.program = program.clone();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let found = containerizer.recover().await.unwrap();
        assert_eq!((found.len(), node.supervisor(), runs()), (1, Some(supervisor), program));
        std::fs::write(spec.sandbox.join("go"), "").unwrap();
        assert_eq!(ended(&mut events, "stays").await, code(9), "it is still the parent");
    });
}

fn a_probe_ends_with_its_container() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let spec = shell("ends", "while [ ! -e go ]; do sleep 0.02; done", &node.sandboxes());
        start(&containerizer, &spec).await;
        let probing = probe(&spec, 1, "echo $$ > pid; exec sleep 1000", LONG);
        let go = async {
            while !spec.sandbox.join("pid").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            std::fs::write(spec.sandbox.join("go"), "").unwrap();
        };
        let (outcome, ()) = tokio::join!(containerizer.probe(&probing), go);
        assert_eq!(outcome, ProbeOutcome::Failed("the command was ended by signal 9".to_owned()));
        let pid: u32 = output(&spec, "pid").trim().parse().unwrap();
        wait_until("the probe's command is ended", || !lives(pid));
    });
}

fn limits_of_the_kernel_are_set() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
        let spec = ContainerSpec {
            rlimits: vec![
                limit(nix::libc::RLIMIT_NOFILE, Some(111), Some(222)),
                limit(nix::libc::RLIMIT_CORE, None, None),
            ],
            ..shell("limits", "ulimit -Sn; ulimit -Hn; ulimit -c", &node.sandboxes())
        };
        start(&containerizer, &spec).await;
        assert_eq!(ended(&mut events, "limits").await, code(0));
        assert_eq!(output(&spec, "stdout"), "111\n222\nunlimited\n");
        let spec = ContainerSpec {
            rlimits: vec![limit(999, None, None)],
            ..shell("bad", "true", &node.sandboxes())
        };
        containerizer.prepare(&spec).await.unwrap();
        let error = containerizer.launch(&spec).await.unwrap_err().to_string();
        assert!(error.contains("cannot set the resource limits: Invalid argument"), "{error}");
    });
}

/// Only root can give files to another user.
fn what_is_fetched_belongs_to_the_tasks_user() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root");
        return;
    }
    let node = Node::new();
    std::fs::set_permissions(node.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let archive = node.dir.path().join("app.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o640);
    builder.append_data(&mut header, "deep/file", &b"data"[..]).unwrap();
    builder.finish().unwrap();
    let secret = node.dir.path().join("secret");
    std::fs::write(&secret, "of root").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let uri =
        |path: &PathBuf| FetchUri { value: path.display().to_string(), extract: true, ..FetchUri::default() };
    node.agent(async |containerizer| {
        let spec = ContainerSpec {
            user: Some("nobody".to_owned()),
            uris: vec![uri(&archive)],
            ..shell("fetches", "cat deep/file && echo more >> deep/file && touch deep/new", &node.sandboxes())
        };
        let mut events = containerizer.events();
        containerizer.prepare(&spec).await.unwrap();
        containerizer.fetch(&spec).await.unwrap();
        containerizer.launch(&spec).await.unwrap();
        assert_eq!(ended(&mut events, "fetches").await, code(0), "{}", output(&spec, "stderr"));
        assert_eq!(output(&spec, "stdout"), "data");
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
        for path in ["deep", "deep/file"] {
            assert_eq!(std::fs::metadata(spec.sandbox.join(path)).unwrap().uid(), nobody, "{path}");
        }
        let spec = ContainerSpec { uris: vec![uri(&secret)], ..spec };
        let error = containerizer.fetch(&spec).await.unwrap_err().to_string();
        assert!(error.contains("user 'nobody' may not read"), "{error}");
    });
}
