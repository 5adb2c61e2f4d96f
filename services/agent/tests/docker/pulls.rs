//! Images from a registry that wants a password.

use std::time::Duration;

use meshos_agent::containerizer::{
    ContainerSpec, Containerizer, ExitStatus,
    conformance::ended,
    docker::{DockerContainerizer, Settings},
};
use meshos_mesh::{Env, transport};

use crate::{
    engine::{Node, WithSandbox, docker, read, shell, skipped},
    registry::{PASSWORD, Registry},
};

const DONE: Duration = Duration::from_secs(10);

fn with_image(mut spec: ContainerSpec, name: &str, force_pull: bool) -> ContainerSpec {
    let image = spec.container.as_mut().unwrap().image.as_mut().unwrap();
    (image.name, image.force_pull) = (name.to_owned(), force_pull);
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_from_a_registry_with_the_credentials_of_operator_or_task() {
    if skipped() {
        return;
    }
    let registry = Registry::start().await;
    let name = registry.push("debian:bookworm-slim", "docker-pulls");
    let node = Node::new();
    let agent = |config: Option<String>| {
        let env = Env::real(transport::tcp());
        let opened = DockerContainerizer::open(&env, Settings { config, ..node.settings() }).unwrap();
        (env, WithSandbox(opened))
    };

    let (env, containerizer) = agent(Some(registry.credentials("wrong")));
    let spec = with_image(shell(&node, "refused", "true"), &name, false);
    containerizer.prepare(&spec).await.unwrap();
    let error = containerizer.fetch(&spec).await.unwrap_err().to_string();
    assert!(error.contains("Failed to pull the image") && !error.contains("wrong"), "{error}");
    // A file among the task's own goes before.
    std::fs::write(spec.sandbox.join(".dockercfg"), registry.credentials(PASSWORD)).unwrap();
    containerizer.fetch(&spec).await.unwrap();
    docker(&["rmi", &name]);
    env.tasks.shutdown(DONE).await;
    drop(containerizer);

    let config = node.path().join("config.json");
    std::fs::write(&config, registry.credentials(PASSWORD)).unwrap();
    let (env, containerizer) = agent(Some(format!("file://{}", config.display())));
    let mut events = containerizer.events();
    let spec = with_image(shell(&node, "pulled", "exit 6"), &name, false);
    containerizer.prepare(&spec).await.unwrap();
    containerizer.fetch(&spec).await.unwrap();
    containerizer.launch(&spec).await.unwrap();
    assert_eq!(ended(&mut events, &spec.container_id).await.status, ExitStatus::Code(6));
    containerizer.cleanup(&spec.container_id).await.unwrap();
    // It is here: without force_pull_image nobody asks the registry, which is gone.
    drop(registry);
    let here = with_image(shell(&node, "here", "true"), &name, false);
    containerizer.prepare(&here).await.unwrap();
    containerizer.fetch(&here).await.unwrap();
    assert!(!read(&here.sandbox.join("stderr")).contains("Pulling"));
    let forced = with_image(shell(&node, "forced", "true"), &name, true);
    containerizer.prepare(&forced).await.unwrap();
    assert!(containerizer.fetch(&forced).await.is_err());
    assert!(read(&forced.sandbox.join("stderr")).contains("Pulling the image"));
    docker(&["rmi", &name]);
    env.tasks.shutdown(DONE).await;
}
