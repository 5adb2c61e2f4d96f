//! What the tests against `meshos local` share.

use std::{collections::BTreeSet, fmt::Debug, fs, path::Path, process::Command};

use meshos_testing::{Http, LocalCluster, wait::until_blocking};
use serde_json::{Value, json};

/// A directory of a test. At its end nothing may run any more that was started on it: no agent's supervisor, no task, no
/// load balancer.
pub(crate) struct Directory(tempfile::TempDir);

pub(crate) fn directory() -> Directory {
    Directory(tempfile::tempdir().unwrap())
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Processes with the directory in their command line or environment.
    fn processes(&self) -> Vec<(String, String)> {
        let name = self.path().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let read = |file: &str| {
                let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let line = read("cmdline");
            // One without a command line has ended.
            let ours = !line.is_empty() && (line.contains(&name) || read("environ").contains(&name));
            if pid.parse::<u32>().is_ok() && ours {
                found.push((pid, line));
            }
        }
        found
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let left = self.processes().into_iter().map(|(pid, _)| pid);
            let _ = Command::new("kill").arg("-KILL").args(left).status();
            return;
        }
        eventually("everything that the test started has ended", || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        });
    }
}

/// A cluster on free ports with its data under `dir`.
pub(crate) fn cluster(dir: &Path) -> LocalCluster {
    LocalCluster::new(env!("CARGO_BIN_EXE_meshos"), &dir.join("data"))
}

/// The first app of the README.
pub(crate) fn basic_app() -> Value {
    json!({
        "id": "basic-0",
        "cmd": "while [ true ] ; do echo 'Hello Marathon' ; sleep 5 ; done",
        "cpus": 0.1,
        "mem": 10.0,
        "instances": 1
    })
}

/// An app that does nothing for a long time.
pub(crate) fn sleeper(id: &str, instances: u32) -> Value {
    json!({"id": id, "cmd": "sleep 100000", "cpus": 0.01, "mem": 1, "instances": instances})
}

pub(crate) fn eventually<T, E: Debug>(what: &str, probe: impl FnMut() -> Result<T, E>) -> T {
    until_blocking(what, probe)
}

/// Waits until the app satisfies `is`, and returns it.
pub(crate) fn app(marathon: &Http, id: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("app {id}"), || {
        let response = marathon.get(&format!("/v2/apps/{id}")).map_err(|error| error.to_string())?;
        if response.status != 200 {
            return Err(response.text());
        }
        let app = response.json()["app"].clone();
        if is(&app) { Ok(app) } else { Err(app.to_string()) }
    })
}

pub(crate) fn task_ids(app: &Value) -> BTreeSet<String> {
    let ids = app["tasks"].as_array().into_iter().flatten();
    ids.map(|task| task["id"].as_str().unwrap().to_owned()).collect()
}
