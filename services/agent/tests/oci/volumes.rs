//! Volumes, with and without an image.

use std::{fs, path::Path};

use meshos_agent::containerizer::{
    ContainerSetup, ContainerSpec, Containerizer,
    conformance::shell,
    container::{Hidden, MountSetup, MountSource},
    tmpfs::Tmpfs,
};

use crate::{
    Test,
    node::{self, Node, code, in_image, output, setup},
};

pub(crate) const TESTS: &[Test] = &[
    ("volumes_are_seen_and_written", volumes_are_seen_and_written),
    ("volumes_of_a_process_are_its_own", volumes_of_a_process_are_its_own),
    ("a_hundred_layers_are_mounted", a_hundred_layers_are_mounted),
];

fn mount(source: MountSource, target: &str, read_only: bool) -> MountSetup {
    MountSetup { source, container_path: target.into(), read_only }
}

fn directories(node: &Node) -> [std::path::PathBuf; 2] {
    ["host", "persistent"].map(|name| {
        let dir = node.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("data"), name).unwrap();
        dir
    })
}

fn volumes_are_seen_and_written() {
    let node = Node::new();
    let [host, persistent] = directories(&node);
    node.agent(async |containerizer| {
        let command = "cat /srv/host/data data/data /etc/one-file; echo; cp /srv/host/data own/copy; \
                       echo new > data/written; (echo no > /srv/host/x) 2>&1 | grep -c Read-only; \
                       df /scratch | tail -1 | awk '{print $1, $2}'; stat -c %a /scratch; cat /run/own/secret hidden; \
                       stat -c %a /run/own/secret; (echo no > hidden) 2>&1 | grep -c Read-only; echo from-above > /above/mark";
        let mut spec = in_image("volumes", command, &node.sandboxes());
        let pod = node.sandboxes().join("pod");
        fs::create_dir_all(&pod).unwrap();
        spec.container.as_mut().unwrap().mounts = vec![
            mount(MountSource::Host(host.clone()), "/srv/host", true),
            mount(MountSource::Host(host.join("data")), "/etc/one-file", false),
            mount(MountSource::Host(node.path().join("made")), "/made", false),
            mount(MountSource::Persistent(persistent.clone()), "data", false),
            mount(MountSource::Sandbox("some/where".into()), "own", false),
            mount(MountSource::Parent { sandbox: pod.clone(), path: "shared".into() }, "/above", false),
            mount(MountSource::Tmpfs(Tmpfs { size: Some(1 << 20), mode: Some(0o750) }), "/scratch", false),
            mount(MountSource::Secret(Hidden(b"hush".to_vec())), "/run/own/secret", true),
            mount(MountSource::Secret(Hidden(b"psst\n".to_vec())), "hidden", true),
        ];
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        assert_eq!(output(&spec, "stdout"), "hostpersistenthost\n1\ntmpfs 1024\n750\nhushpsst\n400\n1\n");
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&persistent.join("written")), "new\n");
        assert_eq!(read(&spec.sandbox.join("some/where/copy")), "host");
        assert_eq!(read(&pod.join("shared/mark")), "from-above\n");
        assert!(node.path().join("made").is_dir() && !host.join("x").exists());
    });
}

fn volumes_of_a_process_are_its_own() {
    let node = Node::new();
    let [host, persistent] = directories(&node);
    let target = node.path().join("target");
    fs::create_dir(&target).unwrap();
    node.agent(async |containerizer| {
        let command =
            format!("cat {}/data data/data; pwd; ls /work > /dev/null; echo done", target.display());
        let mut spec = shell("process", &command, &node.sandboxes());
        let mounts = vec![
            mount(MountSource::Host(host.clone()), &target.display().to_string(), true),
            mount(MountSource::Persistent(persistent.clone()), "data", false),
        ];
        spec.container = Some(Box::new(ContainerSetup { image: None, mounts, ..setup("") }));
        assert_eq!(
            node::run(&containerizer, &spec).await.status,
            code(0).status,
            "{}",
            output(&spec, "stderr")
        );
        let text = output(&spec, "stdout");
        assert_eq!(text, format!("hostpersistent{}\ndone\n", spec.sandbox.display()));
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "it is seen on the machine");
        let missing = mount(MountSource::Host(host.clone()), "/no/such/place", false);
        let setup = ContainerSetup { image: None, mounts: vec![missing], ..setup("") };
        let spec =
            ContainerSpec { container: Some(Box::new(setup)), ..shell("missing", "true", &node.sandboxes()) };
        containerizer.prepare(&spec).await.unwrap();
        let error = containerizer.launch(&spec).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/place") && !Path::new("/no").exists(), "{error}");
        containerizer.cleanup("missing").await.unwrap();
    });
}

fn a_hundred_layers_are_mounted() {
    let node = Node::new();
    let dir = std::path::PathBuf::from(format!("/tmp/meshos-many-{}", std::process::id()));
    for number in 0..120 {
        let layer = dir.join(number.to_string());
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join("layer"), number.to_string()).unwrap();
        fs::write(layer.join(format!("of-{number}")), "").unwrap();
    }
    node.agent(async |containerizer| {
        let mut spec = in_image("many", "cat /layer; ls / | grep -c of-", &node.sandboxes());
        spec.container.as_mut().unwrap().image.as_mut().unwrap().name = "many".to_owned();
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        assert_eq!(output(&spec, "stdout"), "119120\n");
    });
    fs::remove_dir_all(dir).unwrap();
}
