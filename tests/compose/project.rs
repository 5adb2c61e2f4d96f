//! A compose project of its own, that is always taken down again.

use std::{
    io::Write as _,
    process::{Command, Output},
};

use tempfile::TempDir;

/// A running cluster.
pub(crate) struct Project {
    name: String,
    /// `host:port` of the Marathon API.
    pub(crate) marathon: String,
    /// `host:port` of the Mesos API.
    pub(crate) mesos: String,
    /// Where the agents keep their files, on this machine and in their containers.
    agents: TempDir,
}

impl Project {
    /// Starts the cluster under a name and on ports that nobody else uses.
    ///
    /// # Panics
    /// Says what is missing when it cannot be started.
    pub(crate) fn start() -> Self {
        check_prerequisites();
        // Made before anything is started, so that a failure on the way is cleaned up as well.
        let mut project = Self {
            name: format!("meshos-test-{}", std::process::id()),
            marathon: String::new(),
            mesos: String::new(),
            agents: tempfile::tempdir().expect("a temporary directory"),
        };
        project.compose(&["up", "-d"]);
        project.marathon = project.address("gateway", 8080);
        project.mesos = project.address("gateway", 5050);
        project
    }

    /// Runs docker compose on the project; returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub(crate) fn compose(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "compose {arguments:?} failed: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `host:port` where `port` of `service` is published.
    pub(crate) fn address(&self, service: &str, port: u16) -> String {
        self.compose(&["port", service, &port.to_string()])
    }

    /// The network in which the containers of the cluster are.
    pub(crate) fn network(&self) -> String {
        format!("{}_mesh", self.name)
    }

    /// The instance of `service` that leads, as etcd knows it.
    pub(crate) fn leader(&self, service: &str) -> Option<String> {
        let key = format!("leaders/{service}");
        let value = self.compose(&["exec", "-T", "etcd", "etcdctl", "get", "--print-value-only", &key]);
        ["a", "b"].map(|replica| format!("{service}-{replica}")).into_iter().find(|name| value.contains(name))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        // A limit, so that a stuck engine fails the test instead of stopping it for ever.
        let mut command = Command::new("timeout");
        command.arg("180").arg(script("compose")).args(["-p", &self.name]).args(arguments);
        let lb = ["LB_HTTP", "LB_HTTPS", "LB_ADMIN", "LB_APP_ID"];
        for port in ["MARATHON", "MESOS", "AGENT_A", "AGENT_B"].into_iter().chain(lb) {
            command.env(format!("PUBLISH_{port}_PORT"), "");
        }
        command.env("AGENTS_DIR", self.agents.path());
        command.output().expect("scripts/compose can be run")
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let mut out = std::io::stderr();
        if std::thread::panicking() {
            let logs = self.run(&["logs", "--no-color", "--tail=80"]);
            let _ = writeln!(out, "{}", String::from_utf8_lossy(&logs.stdout));
        }
        let down = self.run(&["down", "--volumes", "--timeout", "5"]);
        // Only root may remove what root wrote.
        let mount = format!("{}:/agents", self.agents.path().display());
        let remove =
            ["run", "--rm", "-v", &mount, "debian:bookworm-slim", "rm", "-rf", "/agents/a", "/agents/b"];
        let _ = Command::new("timeout").args(["60", "docker"]).args(remove).output();
        if !down.status.success() {
            let _ = writeln!(out, "{} is left: {}", self.name, String::from_utf8_lossy(&down.stderr));
        }
    }
}

fn check_prerequisites() {
    let engine = Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]).output();
    assert!(
        engine.is_ok_and(|output| output.status.success()),
        "no Docker engine answers: run scripts/setup, or leave this test out with MESHOS_TEST_SKIP_DOCKER=1"
    );
    let tag = std::env::var("IMAGE_TAG").unwrap_or_else(|_| "latest".to_owned());
    for image in ["meshos", "meshos-etcd"] {
        let image = format!("{image}:{tag}");
        let found = Command::new("docker").args(["image", "inspect", &image]).output();
        assert!(
            found.is_ok_and(|output| output.status.success()),
            "there is no image {image}: run `make images` (again after each change of the code)"
        );
    }
}

fn script(name: &str) -> String {
    format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}
