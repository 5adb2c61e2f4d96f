//! A registry on this machine that wants a user and a password.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meshos_testing::{Http, ports::ports, wait::until_blocking};
use serde_json::json;
use tempfile::TempDir;

use crate::engine::{docker, has_image};

const USER: &str = "meshos";
const PASSWORD: &str = "p4ssw0rd";

/// Stops when it is dropped, and takes its names out of the engine.
pub(crate) struct Registry {
    child: Child,
    /// `127.0.0.1:port`
    pub(crate) address: String,
    dir: TempDir,
    /// Images by the names that the engine may know them by.
    names: Vec<String>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [port] = ports();
        let address = format!("127.0.0.1:{port}");
        let users = Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]).output();
        let users = users.expect("apache2-utils is installed: run scripts/setup");
        fs::write(dir.path().join("users"), users.stdout).unwrap();
        let settings = json!({
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": {"addr": address},
            "auth": {"htpasswd": {"realm": "test", "path": dir.path().join("users")}},
        });
        // YAML understands JSON.
        fs::write(dir.path().join("config.yml"), settings.to_string()).unwrap();
        fs::create_dir(dir.path().join("docker")).unwrap();
        let registry = Self {
            child: Command::new("docker-registry")
                .args(["serve".into(), dir.path().join("config.yml").into_os_string()])
                .stdout(Stdio::null())
                .spawn()
                .expect("docker-registry is installed: run scripts/setup"),
            address,
            dir,
            names: Vec::new(),
        };
        fs::write(registry.dir.path().join("docker/config.json"), registry.credentials()).unwrap();
        let http = Http::new(&registry.address);
        until_blocking("the registry asks for a password", || match http.get("/v2/") {
            Ok(response) if response.status == 401 => Ok(()),
            Ok(response) => Err(response.status.to_string()),
            Err(error) => Err(error.to_string()),
        });
        registry
    }

    /// What `docker login` writes.
    pub(crate) fn credentials(&self) -> String {
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        json!({"auths": {self.address.as_str(): {"auth": auth}}}).to_string()
    }

    /// Puts an image in under another name; the name to pull it by, which the engine does not know any more.
    pub(crate) fn push(&mut self, image: &str, name: &str) -> String {
        let name = format!("{}/{name}", self.address);
        docker(&["tag", image, &name]);
        let config = self.dir.path().join("docker");
        let config = config.to_str().unwrap();
        docker(&["--config", config, "push", "--quiet", &name]);
        docker(&["rmi", &name]);
        self.names.push(name.clone());
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for name in self.names.iter().filter(|name| has_image(name)) {
            // A container that is still there keeps the image under no name.
            let _ = Command::new("docker").args(["rmi", "--force", name]).output();
        }
    }
}
