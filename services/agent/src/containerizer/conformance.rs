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
    run_as(&Suite { containerizer, dir, form: |spec| spec }).await;
}

/// Runs the suite with plain processes in the form that a containerizer takes.
pub async fn run_as(suite: &Suite<'_>) {
    exit_codes_are_told(suite).await;
    signals_end_containers(suite).await;
    a_deaf_container_needs_sigkill(suite).await;
    what_is_there_is_recovered(suite).await;
    a_program_that_is_not_there_fails_the_launch(suite).await;
    an_id_runs_once(suite).await;
    cleaning_up_twice_is_no_error(suite).await;
}

/// What is tested, and where.
#[derive(Debug)]
pub struct Suite<'a> {
    pub containerizer: SharedContainerizer,
    pub dir: &'a Path,
    /// Makes a container of a process. It may end by a signal with the status 128 and its number.
    pub form: fn(ContainerSpec) -> ContainerSpec,
}

impl Suite<'_> {
    fn shell(&self, container_id: &str, command: &str) -> ContainerSpec {
        (self.form)(shell(container_id, command, self.dir))
    }

    async fn start(&self, spec: &ContainerSpec) -> u32 {
        self.containerizer.prepare(spec).await.unwrap();
        self.containerizer.launch(spec).await.unwrap()
    }

    /// A shell that never ends by itself.
    async fn endless(&self, container_id: &str) -> u32 {
        self.start(&self.shell(container_id, "while true; do sleep 1; done")).await
    }
}

fn was_signalled(exit: Exit, signal: i32) -> bool {
    exit.status == ExitStatus::Signal(signal) || exit.status == ExitStatus::Code(128 + signal)
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

/// Waits for the end of a container.
pub async fn ended(events: &mut BoxStream<'static, Ended>, container_id: &str) -> Exit {
    loop {
        let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        if event.container_id == container_id {
            return event.exit;
        }
    }
}

async fn exit_codes_are_told(suite: &Suite<'_>) {
    for (name, command, code) in [("ok", "exit 0", 0), ("bad", "sleep 0.1; exit 3", 3)] {
        let mut events = suite.containerizer.events();
        let pid = suite.start(&suite.shell(name, command)).await;
        // 0: it ended sooner than it could be looked at.
        assert!(pid != 1);
        let exit = ended(&mut events, name).await;
        assert_eq!(exit, Exit { status: ExitStatus::Code(code), out_of_memory: false });
        suite.containerizer.cleanup(name).await.unwrap();
    }
}

async fn signals_end_containers(suite: &Suite<'_>) {
    for (name, signal) in [("term", SIGTERM), ("kill", SIGKILL)] {
        let mut events = suite.containerizer.events();
        suite.endless(name).await;
        suite.containerizer.signal(name, signal).await.unwrap();
        let exit = ended(&mut events, name).await;
        assert!(was_signalled(exit, signal), "{exit:?}");
        suite.containerizer.cleanup(name).await.unwrap();
    }
}

async fn a_deaf_container_needs_sigkill(suite: &Suite<'_>) {
    let mut events = suite.containerizer.events();
    let spec = suite.shell("deaf", "trap '' TERM; touch deaf; while true; do sleep 0.05; done");
    suite.start(&spec).await;
    // A real one is deaf once its shell got so far; a simulated one at once, and has no files.
    for _ in 0..200 {
        if spec.sandbox.join("deaf").exists() || !spec.sandbox.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    suite.containerizer.signal("deaf", SIGTERM).await.unwrap();
    let early = timeout(Duration::from_millis(300), ended(&mut events, "deaf")).await;
    assert!(early.is_err(), "SIGTERM ended a container that ignores it");
    suite.containerizer.signal("deaf", SIGKILL).await.unwrap();
    let exit = ended(&mut events, "deaf").await;
    assert!(was_signalled(exit, SIGKILL), "{exit:?}");
    suite.containerizer.cleanup("deaf").await.unwrap();
}

async fn what_is_there_is_recovered(suite: &Suite<'_>) {
    let containerizer = &suite.containerizer;
    let mut events = containerizer.events();
    let pid = suite.endless("stays").await;
    suite.start(&suite.shell("went", "exit 7")).await;
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

async fn a_program_that_is_not_there_fails_the_launch(suite: &Suite<'_>) {
    let program = "/no/such/program".to_owned();
    let spec = ContainerSpec { program, arguments: Vec::new(), ..shell("none", "", suite.dir) };
    let spec = (suite.form)(spec);
    suite.containerizer.prepare(&spec).await.unwrap();
    let error = suite.containerizer.launch(&spec).await.unwrap_err().to_string();
    assert!(error.to_ascii_lowercase().contains("no such file or directory"), "{error}");
    suite.containerizer.cleanup("none").await.unwrap();
    assert!(suite.containerizer.recover().await.unwrap().is_empty());
}

async fn an_id_runs_once(suite: &Suite<'_>) {
    let mut events = suite.containerizer.events();
    suite.endless("once").await;
    let again = suite.shell("once", "exit 1");
    assert!(suite.containerizer.launch(&again).await.is_err(), "the same container ran twice");
    assert!(suite.containerizer.cleanup("once").await.is_err(), "a running container was cleaned up");
    suite.containerizer.signal("once", SIGKILL).await.unwrap();
    ended(&mut events, "once").await;
    suite.containerizer.cleanup("once").await.unwrap();
}

async fn cleaning_up_twice_is_no_error(suite: &Suite<'_>) {
    suite.containerizer.cleanup("once").await.unwrap();
    suite.containerizer.cleanup("never-was").await.unwrap();
}
