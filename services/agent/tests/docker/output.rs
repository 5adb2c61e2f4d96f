//! Output of containers, through the ends of agents.

use std::time::Duration;

use meshos_agent::containerizer::{Containerizer, conformance::ended};

use crate::engine::{Node, read, shell, skipped, start, until};

const DONE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn output_is_taken_once_however_often_the_agent_ends() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (mut env, mut containerizer) = node.agent();
    let long = "x".repeat(40_000);
    let command = format!(
        "i=0; while test $i -lt 300; do echo line $i; echo error $i >&2; i=$((i+1)); sleep 0.01; done; \
         echo {long}; printf end"
    );
    let spec = shell(&node, "talks", &command);
    start(&containerizer, &spec).await;
    let stdout = spec.sandbox.join("stdout");
    for lines in [40, 90, 200] {
        until("output", || read(&stdout).lines().count() > lines).await;
        env.tasks.shutdown(DONE).await;
        drop(containerizer);
        (env, containerizer) = node.agent();
        let mut events = containerizer.events();
        let found = containerizer.recover().await.unwrap();
        assert_eq!(found.len(), 1);
        if lines == 200 && found[0].exit.is_none() {
            ended(&mut events, &spec.container_id).await;
        }
    }
    let lines = |word: &str| (0..300).map(|line| format!("{word} {line}\n")).collect::<String>();
    assert_eq!(read(&stdout), format!("{}{long}\nend", lines("line")));
    assert_eq!(read(&spec.sandbox.join("stderr")), lines("error"));
    containerizer.cleanup(&spec.container_id).await.unwrap();
    assert!(node.containers().is_empty());
    env.tasks.shutdown(DONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_one_stream() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    let mut events = containerizer.events();
    let mut spec = shell(&node, "terminal", "test -t 1 && echo on a terminal; echo error >&2");
    spec.container.as_mut().unwrap().parameters.push(("tty".to_owned(), "true".to_owned()));
    start(&containerizer, &spec).await;
    ended(&mut events, &spec.container_id).await;
    assert_eq!(read(&spec.sandbox.join("stdout")), "on a terminal\r\nerror\r\n");
    containerizer.cleanup(&spec.container_id).await.unwrap();
    env.tasks.shutdown(DONE).await;
}
