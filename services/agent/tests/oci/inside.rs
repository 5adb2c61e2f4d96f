//! What enters a container that is there: checks and whoever looks in.

use std::fs;

use meshos_agent::containerizer::{
    ContainerSpec, Containerizer, ExitStatus, Probe, ProbeKind, ProbeOutcome, conformance::ended,
    conformance::shell,
};

use crate::{
    Test,
    node::{self, Node, code, in_image, output, wait_until},
};

pub(crate) const TESTS: &[Test] = &[
    ("commands_of_checks_run_in_the_container", commands_of_checks_run_in_the_container),
    ("who_looks_in_sees_what_the_container_sees", who_looks_in_sees_what_the_container_sees),
    ("nothing_enters_what_has_ended", nothing_enters_what_has_ended),
];

fn probe(id: &str, command: &str, node: &Node) -> Probe {
    let mut spec = ContainerSpec {
        sandbox: node.sandboxes().join(id),
        inside: Some(id.to_owned()),
        ..shell("check", command, &node.sandboxes())
    };
    spec.environment = [("OWN".to_owned(), "check".to_owned())].into();
    Probe {
        container_id: id.to_owned(),
        kind: ProbeKind::Command(Box::new(spec)),
        timeout: Some(crate::PATIENCE),
    }
}

fn commands_of_checks_run_in_the_container() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut spec = in_image("checked", "touch /root/mark; touch ready; exec sleep 1000", &node.sandboxes());
        spec.environment.insert("OF_TASK".to_owned(), "task".to_owned());
        node::start(&containerizer, &spec).await;
        wait_until("it runs", || spec.sandbox.join("ready").exists());
        let looks = "[ -e /root/mark ] && [ -e ready ] && [ $OWN$OF_TASK = checktask ] && [ -d /proc/1 ] && \
                     grep -q 'Seccomp:.2' /proc/self/status && grep -q CapBnd:.00000000a00425fb /proc/self/status && \
                     [ $(cat /proc/1/comm) = sleep ] && exit 4";
        for (command, code) in [(looks, 4), ("exit 0", 0), ("unshare -m true", 1)] {
            let outcome = containerizer.probe(&probe("checked", command, &node)).await;
            assert_eq!(outcome, ProbeOutcome::Exited(code), "{command}: {}", output(&spec, "stderr"));
        }
        let late = Probe { timeout: Some(std::time::Duration::from_millis(100)), ..probe("checked", "sleep 1000", &node) };
        assert!(matches!(containerizer.probe(&late).await, ProbeOutcome::Failed(_)));
        // The supervisor itself is where it was: what starts now is no part of the container.
        let plain = shell("plain", "[ $$ -gt 1 ] && ls /root/mark", &node.sandboxes());
        assert_eq!(node::run(&containerizer, &plain).await, code_of(2));
        containerizer.signal("checked", 9).await.unwrap();
    });
}

fn code_of(status: i32) -> meshos_agent::containerizer::Exit {
    code(status)
}

fn who_looks_in_sees_what_the_container_sees() {
    let node = Node::new();
    let pid = node.agent(async |containerizer| {
        let spec =
            in_image("above", "echo here > /root/mark; touch ready; exec sleep 1000", &node.sandboxes());
        let pid = node::start(&containerizer, &spec).await;
        wait_until("it runs", || spec.sandbox.join("ready").exists());
        pid
    });
    // After a restart of the agent, too.
    node.agent(async |containerizer| {
        containerizer.recover().await.unwrap();
        let (mut events, mut of_above) = (containerizer.events(), containerizer.events());
        let sandbox = node.sandboxes().join("above/containers/session");
        let spec = ContainerSpec {
            sandbox: sandbox.clone(),
            inside: Some("above".to_owned()),
            beside: Some("above".to_owned()),
            ..shell("above.session", "cat /root/mark; pwd; exec sleep 1000", &node.sandboxes())
        };
        node::start(&containerizer, &spec).await;
        wait_until("it has said so", || output(&spec, "stdout").lines().count() == 2);
        assert_eq!(output(&spec, "stdout"), "here\n/mnt/mesos/sandbox/containers/session\n");
        // It ends with the container that it is in.
        containerizer.signal("above", 9).await.unwrap();
        assert_eq!(ended(&mut events, "above.session").await.status, ExitStatus::Signal(9));
        ended(&mut of_above, "above").await;
        assert!(fs::metadata(format!("/proc/{pid}/root/bin/sh")).is_err());
        for id in ["above.session", "above"] {
            containerizer.cleanup(id).await.unwrap();
        }
    });
}

fn nothing_enters_what_has_ended() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let spec = in_image("ended", "true", &node.sandboxes());
        node::start(&containerizer, &spec).await;
        ended(&mut events, "ended").await;
        let outcome = containerizer.probe(&probe("ended", "true", &node)).await;
        assert!(matches!(&outcome, ProbeOutcome::Failed(why) if why.contains("does not run")), "{outcome:?}");
        containerizer.cleanup("ended").await.unwrap();
    });
}
