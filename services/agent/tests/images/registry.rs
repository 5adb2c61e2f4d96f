//! Debian's docker-registry behind a password, and images that the Docker Engine made.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tempfile::TempDir;

use crate::ports::ports;

const USER: &str = "meshos";
pub(crate) const PASSWORD: &str = "p4ssw0rd";

/// Whether the tests are left out, and says so.
pub(crate) fn is_skipped() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let skipped = std::env::var_os("MESHOS_TEST_SKIP_DOCKER").is_some() || !root;
    if skipped {
        let text = "SKIPPED a test of images: it needs root, and MESHOS_TEST_SKIP_DOCKER not to be set";
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    skipped
}

/// Runs a docker command; what it says.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output =
        Command::new("docker").args(arguments).output().expect("docker is installed: run scripts/setup");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An image of this test, which goes with it.
pub(crate) struct Built {
    pub(crate) name: String,
}

impl Built {
    pub(crate) fn new(dockerfile: &str) -> Self {
        assert!(Command::new(base_image()).status().unwrap().success(), "scripts/base-image");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Dockerfile"), dockerfile).unwrap();
        let name = format!("meshos-test-store-{}:v1", std::process::id());
        docker(&["build", "--quiet", "--tag", &name, dir.path().to_str().unwrap()]);
        Self { name }
    }
}

fn base_image() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/base-image")
}

impl Drop for Built {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--force", &self.name]).output();
    }
}

/// Stops when it is dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
    dir: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [port] = ports();
        let address = format!("127.0.0.1:{port}");
        let users = Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]).output();
        fs::write(dir.path().join("users"), users.expect("htpasswd is installed: run scripts/setup").stdout)
            .unwrap();
        let settings = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": {"addr": address},
            "auth": {"htpasswd": {"realm": "test", "path": dir.path().join("users")}},
        });
        // YAML understands JSON.
        fs::write(dir.path().join("config.yml"), settings.to_string()).unwrap();
        fs::create_dir(dir.path().join("docker")).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve".into(), dir.path().join("config.yml").into_os_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: run scripts/setup");
        let registry = Self { child, address, dir };
        fs::write(registry.dir.path().join("docker/config.json"), registry.credentials(PASSWORD)).unwrap();
        while tokio::net::TcpStream::connect(&registry.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// What `docker login` writes.
    pub(crate) fn credentials(&self, password: &str) -> String {
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        json!({"auths": {self.address.as_str(): {"auth": auth}}}).to_string()
    }

    /// Puts an image in under another name; the whole of that.
    pub(crate) fn push(&self, image: &str, name: &str) -> String {
        let name = format!("{}/{name}", self.address);
        let config = self.dir.path().join("docker");
        docker(&["tag", image, &name]);
        docker(&["--config", config.to_str().unwrap(), "push", "--quiet", &name]);
        fs::write(
            self.dir.path().join("digest"),
            docker(&["inspect", "--format", "{{json .RepoDigests}}", &name]),
        )
        .unwrap();
        docker(&["rmi", &name]);
        name
    }

    /// The digest that the engine got to know when it pushed.
    pub(crate) fn digest(&self, name: &str) -> String {
        let digests = fs::read(self.dir.path().join("digest")).unwrap();
        let digests: Vec<String> = serde_json::from_slice(&digests).unwrap();
        let repository = name.rsplit_once(':').unwrap().0;
        let own = digests.iter().find_map(|digest| digest.strip_prefix(&format!("{repository}@")));
        own.unwrap().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
