//! What the supervisor does with commands beside containers, and with starts that get stuck.

use std::{path::PathBuf, sync::Arc, time::Duration};

use meshos_agent::containerizer::{
    ContainerSpec, Containerizer, Probe, ProbeKind, ProbeOutcome, Stdio,
    conformance::{ended, shell},
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use tokio::time::timeout;

use super::{Node, PATIENCE, Test, lives, output, start, wait_until};

pub(crate) const TESTS: &[Test] = &[
    ("nothing_is_started_before_it_is_needed", nothing_is_started_before_it_is_needed),
    ("a_probe_dies_with_its_agent", a_probe_dies_with_its_agent),
    (
        "a_probe_dies_with_its_container_and_with_its_supervisor",
        a_probe_dies_with_its_container_and_supervisor,
    ),
    ("a_probe_is_run_again_after_an_upgrade", a_probe_is_run_again_after_an_upgrade),
    (
        "a_start_that_waits_for_a_pipe_does_not_stop_an_upgrade",
        a_start_that_waits_for_a_pipe_does_not_stop_an_upgrade,
    ),
];

fn nothing_is_started_before_it_is_needed() {
    let node = Node::new();
    node.agent(async |containerizer| {
        containerizer.stop().await;
        assert_eq!(node.supervisor(), None);
        assert!(containerizer.recover().await.unwrap().is_empty());
        assert!(node.supervisor().is_some());
    });
}

/// A probe of the container `task` that writes down who it is, and then waits.
fn probe(node: &Node, then: &str) -> (Probe, PathBuf) {
    let spec = shell("task", "", &node.sandboxes());
    let command = ContainerSpec {
        container_id: "task.probe".to_owned(),
        ..shell("task", &format!("echo $$ >> probes; {then}"), &node.sandboxes())
    };
    let kind = ProbeKind::Command(Box::new(command));
    (Probe { container_id: "task".to_owned(), kind, timeout: None }, spec.sandbox.join("probes"))
}

fn first_pid(file: &PathBuf) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    text.strip_suffix('\n')?.lines().next()?.parse().ok()
}

fn a_probe_dies_with_its_agent() {
    let node = Node::new();
    let (probe, file) = probe(&node, "exec sleep 1000");
    let pid = node.agent(async |containerizer| {
        start(&containerizer, &shell("task", "exec sleep 1000", &node.sandboxes())).await;
        let seen = async {
            loop {
                match first_pid(&file) {
                    Some(pid) => return pid,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::select! { outcome = containerizer.probe(&probe) => panic!("{outcome:?}"), pid = seen => pid }
    });
    wait_until("the probe has ended", || !lives(pid));
    node.agent(async |containerizer| {
        let found = containerizer.recover().await.unwrap();
        assert_eq!(found.len(), 1, "nobody needs to know of it: {found:?}");
    });
}

fn a_probe_dies_with_its_container_and_supervisor() {
    let node = Node::new();
    let (probe, file) = probe(&node, "exec sleep 1000");
    node.agent(async |containerizer| {
        start(&containerizer, &shell("task", "exec sleep 1000", &node.sandboxes())).await;
        let probing = Arc::clone(&containerizer);
        let asked = probe.clone();
        let outcome = tokio::spawn(async move { probing.probe(&asked).await });
        let running = async {
            while first_pid(&file).is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        timeout(PATIENCE, running).await.unwrap();
        let first = first_pid(&file).unwrap();
        containerizer.signal("task", 9).await.unwrap();
        let outcome = timeout(PATIENCE, outcome).await.unwrap().unwrap();
        assert_eq!(outcome, ProbeOutcome::Failed("the command was ended by signal 9".to_owned()));
        wait_until("the probe has ended", || !lives(first));

        std::fs::remove_file(&file).unwrap();
        let probing = Arc::clone(&containerizer);
        let outcome = tokio::spawn(async move { probing.probe(&probe).await });
        let running = async {
            while first_pid(&file).is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        timeout(PATIENCE, running).await.unwrap();
        let pid = first_pid(&file).unwrap();
        let supervisor = nix::unistd::Pid::from_raw(node.supervisor().unwrap());
        nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
        wait_until("the probe has ended", || !lives(pid));
        // It is run again by the next one, without end.
        outcome.abort();
        let _ = outcome.await;
    });
}

fn a_probe_is_run_again_after_an_upgrade() {
    let node = Node::new();
    let (probe, file) = probe(&node, "[ $(wc -l < probes) = 2 ] || exec sleep 1000; exit 7");
    node.agent(async |containerizer| {
        start(&containerizer, &shell("task", "exec sleep 1000", &node.sandboxes())).await;
        let probing = Arc::clone(&containerizer);
        let outcome = tokio::spawn(async move { probing.probe(&probe).await });
        let running = async {
            while first_pid(&file).is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        timeout(PATIENCE, running).await.unwrap();
        containerizer.upgrade_supervisor(&std::env::current_exe().unwrap()).await.unwrap();
        let outcome = timeout(PATIENCE, outcome).await.unwrap().unwrap();
        assert_eq!(outcome, ProbeOutcome::Exited(7));
        let first = first_pid(&file).unwrap();
        wait_until("the first has ended", || !lives(first));
    });
}

fn a_start_that_waits_for_a_pipe_does_not_stop_an_upgrade() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let stays = shell(
            "stays",
            "while [ ! -e go ]; do sleep 0.02; done; echo still here; exit 9",
            &node.sandboxes(),
        );
        start(&containerizer, &stays).await;
        let mut events = containerizer.events();
        let mut stuck = shell("stuck", "true", &node.sandboxes());
        containerizer.prepare(&stuck).await.unwrap();
        let pipe = stuck.sandbox.join("pipe");
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        stuck.stdio = Some(Stdio { stdout: pipe.clone(), stderr: pipe, ..Stdio::default() });
        let starting = Arc::clone(&containerizer);
        let spec = stuck.clone();
        let launch = tokio::spawn(async move { starting.launch(&spec).await });
        let forked = async {
            while !containerizer.recover().await.unwrap().iter().any(|found| found.container_id == "stuck") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, forked).await.unwrap();
        timeout(PATIENCE, containerizer.upgrade_supervisor(&std::env::current_exe().unwrap()))
            .await
            .unwrap()
            .unwrap();
        let _ = timeout(PATIENCE, launch).await.unwrap().unwrap();
        // It is told of as ended, and the other one is still there.
        timeout(PATIENCE, ended(&mut events, "stuck")).await.unwrap();
        std::fs::write(stays.sandbox.join("go"), "").unwrap();
        assert_eq!(ended(&mut events, "stays").await, super::code(9));
        assert_eq!(output(&stays, "stdout"), "still here\n");
    });
}
