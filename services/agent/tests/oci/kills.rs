//! An agent that is killed at any moment: no container is lost, nothing is left of those that went.

use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitCode},
    time::Duration,
};

use meshos_agent::containerizer::{Containerizer, conformance::ended};

use crate::{
    Test,
    networks::{configure, has_plugins, in_network, leftovers, remove_bridge},
    node::{self, Node, code, in_image, output, wait_until},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_agent_killed_at_any_moment_leaves_nothing_behind",
        an_agent_killed_at_any_moment_leaves_nothing_behind,
    ),
    ("exit_codes_wait_for_the_next_agent", exit_codes_wait_for_the_next_agent),
];

/// How often the agent is killed.
const KILLS: u64 = 12;

/// Starts and ends containers in this directory until it is killed.
pub(crate) fn be_an_agent(dir: &Path) -> ExitCode {
    let settings = node::settings(dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let containerizer = node::open(&settings);
        let mut events = containerizer.events();
        for container in containerizer.recover().await.unwrap() {
            if container.exit.is_none() {
                containerizer.signal(&container.container_id, 9).await.unwrap();
                ended(&mut events, &container.container_id).await;
            }
            containerizer.cleanup(&container.container_id).await.unwrap();
        }
        for number in 0.. {
            let name = format!("c{}-{number}", std::process::id());
            let sandboxes = dir.join("sandboxes");
            let spec = match number % 3 == 0 && dir.join("cni").exists() {
                true => in_network(&name, "exec sleep 1000", &sandboxes, vec![]),
                false => in_image(&name, "exec sleep 1000", &sandboxes),
            };
            node::start(&containerizer, &spec).await;
            if number % 2 == 1 {
                containerizer.signal(&name, 9).await.unwrap();
                ended(&mut events, &name).await;
                containerizer.cleanup(&name).await.unwrap();
            }
        }
    });
    ExitCode::SUCCESS
}

fn agent(node: &Node) -> Child {
    Command::new(std::env::current_exe().unwrap()).arg("agent").arg(node.path()).spawn().unwrap()
}

/// The moments are spread over what an agent does; what is left is looked at when the node goes.
fn an_agent_killed_at_any_moment_leaves_nothing_behind() {
    let node = Node::new();
    let bridge = has_plugins().then(|| configure(&node));
    for kill in 0..KILLS {
        let mut child = agent(&node);
        wait_until("it has started something", || node.path().join("sandboxes").exists());
        std::thread::sleep(Duration::from_millis(20 + 37 * kill % 300));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    node.agent(async |containerizer| {
        let known = containerizer.recover().await.unwrap();
        let directories = fs::read_dir(node.path().join("oci")).map_or(0, Iterator::count);
        assert!(directories <= known.len(), "{directories} directories of {} containers", known.len());
    });
    drop(node);
    if let Some(bridge) = bridge {
        assert_eq!(leftovers(&bridge), "");
        remove_bridge(&bridge);
    }
}

fn exit_codes_wait_for_the_next_agent() {
    let node = Node::new();
    let spec =
        in_image("goes", "touch ready; while [ ! -e go ]; do sleep 0.02; done; exit 5", &node.sandboxes());
    node.agent(async |containerizer| {
        node::start(&containerizer, &spec).await;
    });
    wait_until("it runs", || spec.sandbox.join("ready").exists());
    fs::write(spec.sandbox.join("go"), "").unwrap();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        containerizer.recover().await.unwrap();
        assert_eq!(ended(&mut events, "goes").await, code(5), "{}", output(&spec, "stderr"));
        containerizer.cleanup("goes").await.unwrap();
    });
}
