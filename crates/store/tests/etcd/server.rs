//! A real etcd for tests.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meshos_store::{Etcd, EtcdOptions, Store};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// One etcd member in a directory of its own; stopped and deleted when dropped.
pub(crate) struct EtcdServer {
    dir: TempDir,
    client: String,
    peer: String,
    process: Child,
}

// The file and not the crate: that depends on all services.
#[path = "../../../testing/src/ports.rs"]
#[allow(unreachable_pub, clippy::unwrap_used, reason = "it is written as a part of that crate")]
mod ports;

/// An address on which nobody listens, and which no other test takes.
pub(crate) fn free_address() -> String {
    let [port] = ports::ports();
    format!("127.0.0.1:{port}")
}

impl EtcdServer {
    pub(crate) async fn start() -> Self {
        // Somebody else can take a free port before etcd does.
        for _ in 0..5 {
            let (client, peer) = (free_address(), free_address());
            let dir = tempfile::tempdir().expect("a temporary directory");
            let process = spawn(&dir, &client, &peer);
            let mut server = Self { dir, client, peer, process };
            if server.serves().await {
                return server;
            }
        }
        panic!("etcd did not start; is the package etcd-server installed?");
    }

    pub(crate) fn address(&self) -> String {
        self.client.clone()
    }

    pub(crate) async fn client(&self) -> Etcd {
        Etcd::connect(&[&self.client], EtcdOptions::default()).await.expect("an address")
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
    }

    /// Starts it again on the same ports and directory.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(&self.dir, &self.client, &self.peer);
        assert!(self.serves().await, "etcd did not start again");
    }

    /// Waits until it answers; false when it ended instead.
    async fn serves(&mut self) -> bool {
        let store = self.client().await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if self.process.try_wait().expect("our child").is_some() {
                return false;
            }
            if store.get("ready").await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(dir: &TempDir, client: &str, peer: &str) -> Child {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--name", "test", "--log-level", "error", "--initial-cluster", &format!("test={peer}")])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd starts; is the package etcd-server installed?")
}
