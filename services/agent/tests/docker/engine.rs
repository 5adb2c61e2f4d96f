//! An agent's part that runs containers, and the engine as users see it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use meshos_agent::containerizer::{
    ContainerSpec, Containerizer, ContainerizerError, Ended, Limits, NetworkStatus, Probe, ProbeOutcome,
    Recovered, SharedContainerizer, Usage, conformance,
    container::{ContainerSetup, ImageCommand, ImageSetup, Runtime},
    docker::{DockerContainerizer, Settings},
};
use meshos_mesh::{Env, transport};

pub(crate) const IMAGE: &str = "debian:bookworm-slim";
pub(crate) const SANDBOX: &str = "/mnt/mesos/sandbox";

/// Whether these tests are left out.
pub(crate) fn skipped() -> bool {
    std::env::var_os("MESHOS_TEST_SKIP_DOCKER").is_some()
}

/// An agent's directory; its containers are gone when it is.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        std::fs::canonicalize(self.dir.path()).unwrap()
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            work_dir: self.path(),
            socket: None,
            host: None,
            config: None,
            home: None,
            remove_delay: Duration::ZERO,
            kill_orphans: true,
            cfs: false,
        }
    }

    /// The part of an agent; another one takes over when the environment's tasks have ended.
    pub(crate) fn agent(&self) -> (Env, Arc<WithSandbox>) {
        let env = Env::real(transport::tcp());
        let containerizer = DockerContainerizer::open(&env, self.settings()).unwrap();
        (env, Arc::new(WithSandbox(containerizer)))
    }

    fn owner(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("docker/owner")).unwrap_or_default()
    }

    /// The engine's containers of this agent, running or not.
    pub(crate) fn containers(&self) -> Vec<String> {
        let filter = format!("label=meshos.owner={}", self.owner());
        let listed = docker(&["ps", "--all", "--format", "{{.Names}}", "--filter", &filter]);
        listed.lines().map(str::to_owned).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for name in self.containers() {
            docker(&["rm", "--force", "--volumes", &name]);
        }
    }
}

/// What a command of the engine's own client says.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes sandboxes, as the agent does beside the engine.
#[derive(Debug)]
pub(crate) struct WithSandbox(pub(crate) DockerContainerizer);

#[async_trait]
impl Containerizer for WithSandbox {
    fn events(&self) -> BoxStream<'static, Ended> {
        self.0.events()
    }

    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError> {
        self.0.recover().await
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        std::fs::create_dir_all(&spec.sandbox).unwrap();
        for name in ["stdout", "stderr"] {
            std::fs::OpenOptions::new().append(true).create(true).open(spec.sandbox.join(name)).unwrap();
        }
        self.0.prepare(spec).await
    }

    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        self.0.fetch(spec).await
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        self.0.launch(spec).await
    }

    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError> {
        self.0.resize(container_id, limits).await
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError> {
        self.0.signal(container_id, signal).await
    }

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        self.0.probe(probe).await
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        self.0.cleanup(container_id).await
    }

    async fn usage(&self, container_id: &str, pid: u32) -> Option<Usage> {
        self.0.usage(container_id, pid).await
    }

    async fn network(&self, container_id: &str) -> NetworkStatus {
        self.0.network(container_id).await
    }

    async fn stop(&self) {
        self.0.stop().await;
    }
}

/// A process as a container of the base image.
pub(crate) fn in_image(spec: ContainerSpec) -> ContainerSpec {
    let command = match spec.arguments.get(1) {
        Some(line) => ImageCommand { shell: true, value: Some(line.clone()), arguments: Vec::new() },
        None => ImageCommand { shell: false, value: Some(spec.program.clone()), arguments: Vec::new() },
    };
    // As process 1 a shell would not be ended by a signal.
    let init = if command.shell { "true" } else { "false" };
    let parameters = [("init", init), ("workdir", SANDBOX)];
    let setup = ContainerSetup {
        runtime: Runtime::Docker,
        image: Some(ImageSetup { name: IMAGE.to_owned(), ..ImageSetup::default() }),
        command,
        parameters: parameters.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        sandbox_directory: SANDBOX.into(),
        ..ContainerSetup::default()
    };
    ContainerSpec { container: Some(Box::new(setup)), ..spec }
}

/// A container that runs a shell command; its id is unique on the engine.
pub(crate) fn shell(node: &Node, name: &str, command: &str) -> ContainerSpec {
    let unique = node.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
    in_image(conformance::shell(&format!("{unique}-{name}"), command, &node.path()))
}

pub(crate) async fn start(containerizer: &Arc<WithSandbox>, spec: &ContainerSpec) -> u32 {
    containerizer.prepare(spec).await.unwrap();
    containerizer.fetch(spec).await.unwrap();
    containerizer.launch(spec).await.unwrap()
}

pub(crate) fn shared(containerizer: &Arc<WithSandbox>) -> SharedContainerizer {
    Arc::clone(containerizer) as SharedContainerizer
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come");
}
