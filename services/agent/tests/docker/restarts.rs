//! What agents that end leave to the next one, and an engine that is away.

use std::{io::Read, os::unix::net::UnixListener, time::Duration};

use meshos_agent::containerizer::{
    Containerizer, Exit, ExitStatus,
    conformance::ended,
    docker::{DockerContainerizer, Settings},
};
use meshos_mesh::{Env, transport};

use crate::engine::{Node, docker, shell, skipped, start, until};

const DONE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_found_again_with_what_became_of_them() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    let stays = shell(&node, "stays", "exec sleep 1000");
    let goes = shell(&node, "goes", "while ! test -e go; do sleep 0.05; done; exit 5");
    let removed = shell(&node, "removed", "exec sleep 1000");
    let pid = start(&containerizer, &stays).await;
    for spec in [&goes, &removed] {
        start(&containerizer, spec).await;
    }
    env.tasks.shutdown(DONE).await;
    drop(containerizer);
    std::fs::write(goes.sandbox.join("go"), "").unwrap();
    let name = format!("mesos-{}", goes.container_id);
    until("the end", || docker(&["inspect", "--format", "{{.State.Status}}", &name]) == "exited").await;
    docker(&["rm", "--force", &format!("mesos-{}", removed.container_id)]);

    let (env, containerizer) = node.agent();
    let found = containerizer.recover().await.unwrap();
    let of = |id: &str| found.iter().find(|found| found.container_id == id).unwrap();
    assert_eq!((of(&stays.container_id).pid, of(&stays.container_id).exit), (pid, None));
    let exit = |status| Some(Exit { status, out_of_memory: false });
    assert_eq!(of(&goes.container_id).exit, exit(ExitStatus::Code(5)));
    assert_eq!(of(&removed.container_id).exit, exit(ExitStatus::Unknown));
    let mut events = containerizer.events();
    containerizer.signal(&stays.container_id, 9).await.unwrap();
    assert_eq!(ended(&mut events, &stays.container_id).await.status, ExitStatus::Code(137));
    for spec in [&stays, &goes, &removed] {
        containerizer.cleanup(&spec.container_id).await.unwrap();
    }
    assert!(containerizer.recover().await.unwrap().is_empty());
    assert!(node.containers().is_empty());
    env.tasks.shutdown(DONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_holds_nothing_up_and_is_believed_later() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let (env, containerizer) = node.agent();
    let spec = shell(&node, "believed", "exec sleep 1000");
    let pid = start(&containerizer, &spec).await;
    env.tasks.shutdown(DONE).await;
    drop(containerizer);

    // An engine that takes connections and never answers, until it is the real one.
    let socket = node.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let hangs = std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((mut connection, _)) = listener.accept() {
            let mut byte = [0];
            if connection.read(&mut byte).is_ok_and(|count| count == 0) {
                return;
            }
            held.push(connection);
        }
    });
    let env = Env::real(transport::tcp());
    let settings = Settings { socket: Some(socket.display().to_string()), ..node.settings() };
    let containerizer = DockerContainerizer::open(&env, settings).unwrap();
    let mut events = containerizer.events();
    let found = containerizer.recover().await.unwrap();
    assert_eq!((found[0].pid, found[0].exit), (pid, None));
    until("trouble", || containerizer.trouble().is_some()).await;
    let refused = containerizer.prepare(&shell(&node, "other", "true")).await.unwrap_err().to_string();
    assert!(refused.contains("does not answer"), "{refused}");

    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    until("the engine", || containerizer.trouble().is_none()).await;
    containerizer.signal(&spec.container_id, 9).await.unwrap();
    assert_eq!(ended(&mut events, &spec.container_id).await.status, ExitStatus::Code(137));
    containerizer.cleanup(&spec.container_id).await.unwrap();
    assert!(node.containers().is_empty());
    env.tasks.shutdown(DONE).await;
    drop(hangs);
}
