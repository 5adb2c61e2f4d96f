//! What every containerizer does the same way. A test hands in a fresh one.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "test code that other crates may use too")]

use std::{path::Path, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use tokio::time::timeout;

use super::{ContainerSpec, Ended, Exit, ExitStatus, SharedContainerizer};

const PATIENCE: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Runs the suite; sandboxes are made below `dir`.
pub async fn run(containerizer: SharedContainerizer, dir: &Path) {
    exit_codes_are_told(&containerizer, dir).await;
    signals_end_containers(&containerizer, dir).await;
    a_deaf_container_needs_sigkill(&containerizer, dir).await;
    what_is_there_is_recovered(&containerizer, dir).await;
    a_program_that_is_not_there_fails_the_launch(&containerizer, dir).await;
    an_id_runs_once(&containerizer, dir).await;
    cleaning_up_twice_is_no_error(&containerizer, dir).await;
}

/// A spec that runs a shell command in a sandbox below `dir`.
#[must_use]
pub fn shell(container_id: &str, command: &str, dir: &Path) -> ContainerSpec {
    ContainerSpec {
        container_id: container_id.to_owned(),
        program: "/bin/sh".to_owned(),
        argument_zero: "sh".to_owned(),
        arguments: vec!["-c".to_owned(), command.to_owned()],
        environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        sandbox: dir.join(container_id),
        ..ContainerSpec::default()
    }
}

async fn start(containerizer: &SharedContainerizer, spec: &ContainerSpec) -> u32 {
    containerizer.prepare(spec).await.unwrap();
    containerizer.launch(spec).await.unwrap()
}

/// Waits for the end of a container.
pub async fn ended(events: &mut BoxStream<'static, Ended>, container_id: &str) -> Exit {
    loop {
        let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        if event.container_id == container_id {
            return event.exit;
        }
    }
}

async fn exit_codes_are_told(containerizer: &SharedContainerizer, dir: &Path) {
    for (name, command, code) in [("ok", "exit 0", 0), ("bad", "sleep 0.1; exit 3", 3)] {
        let mut events = containerizer.events();
        let pid = start(containerizer, &shell(name, command, dir)).await;
        assert!(pid > 1);
        let exit = ended(&mut events, name).await;
        assert_eq!(exit, Exit { status: ExitStatus::Code(code), out_of_memory: false });
        containerizer.cleanup(name).await.unwrap();
    }
}

async fn signals_end_containers(containerizer: &SharedContainerizer, dir: &Path) {
    for (name, signal) in [("term", SIGTERM), ("kill", SIGKILL)] {
        let mut events = containerizer.events();
        start(containerizer, &shell(name, "while true; do sleep 1; done", dir)).await;
        containerizer.signal(name, signal).await.unwrap();
        assert_eq!(ended(&mut events, name).await.status, ExitStatus::Signal(signal));
        containerizer.cleanup(name).await.unwrap();
    }
}

async fn a_deaf_container_needs_sigkill(containerizer: &SharedContainerizer, dir: &Path) {
    let mut events = containerizer.events();
    let spec = shell("deaf", "trap '' TERM; touch deaf; while true; do sleep 0.05; done", dir);
    start(containerizer, &spec).await;
    // A real one is deaf once its shell got so far; a simulated one at once, and has no files.
    for _ in 0..200 {
        if spec.sandbox.join("deaf").exists() || !spec.sandbox.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    containerizer.signal("deaf", SIGTERM).await.unwrap();
    let early = timeout(Duration::from_millis(300), ended(&mut events, "deaf")).await;
    assert!(early.is_err(), "SIGTERM ended a container that ignores it");
    containerizer.signal("deaf", SIGKILL).await.unwrap();
    assert_eq!(ended(&mut events, "deaf").await.status, ExitStatus::Signal(SIGKILL));
    containerizer.cleanup("deaf").await.unwrap();
}

async fn what_is_there_is_recovered(containerizer: &SharedContainerizer, dir: &Path) {
    let mut events = containerizer.events();
    let pid = start(containerizer, &shell("stays", "while true; do sleep 1; done", dir)).await;
    start(containerizer, &shell("went", "exit 7", dir)).await;
    ended(&mut events, "went").await;
    let mut recovered = containerizer.recover().await.unwrap();
    recovered.sort_by(|a, b| a.container_id.cmp(&b.container_id));
    let found: Vec<_> =
        recovered.iter().map(|c| (c.container_id.as_str(), c.exit.map(|exit| exit.status))).collect();
    assert_eq!(found, [("stays", None), ("went", Some(ExitStatus::Code(7)))]);
    assert_eq!(recovered[0].pid, pid);
    assert!(containerizer.usage("stays", pid).await.is_some());
    containerizer.signal("stays", SIGKILL).await.unwrap();
    ended(&mut events, "stays").await;
    for name in ["stays", "went"] {
        containerizer.cleanup(name).await.unwrap();
    }
    assert!(containerizer.recover().await.unwrap().is_empty());
}

async fn a_program_that_is_not_there_fails_the_launch(containerizer: &SharedContainerizer, dir: &Path) {
    let spec = ContainerSpec { program: "/no/such/program".to_owned(), ..shell("none", "", dir) };
    containerizer.prepare(&spec).await.unwrap();
    let error = containerizer.launch(&spec).await.unwrap_err();
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    containerizer.cleanup("none").await.unwrap();
    assert!(containerizer.recover().await.unwrap().is_empty());
}

async fn an_id_runs_once(containerizer: &SharedContainerizer, dir: &Path) {
    let mut events = containerizer.events();
    let spec = shell("once", "while true; do sleep 1; done", dir);
    start(containerizer, &spec).await;
    assert!(containerizer.launch(&spec).await.is_err(), "the same container ran twice");
    assert!(containerizer.cleanup("once").await.is_err(), "a running container was cleaned up");
    containerizer.signal("once", SIGKILL).await.unwrap();
    ended(&mut events, "once").await;
    containerizer.cleanup("once").await.unwrap();
}

async fn cleaning_up_twice_is_no_error(containerizer: &SharedContainerizer, _dir: &Path) {
    containerizer.cleanup("once").await.unwrap();
    containerizer.cleanup("never-was").await.unwrap();
}
