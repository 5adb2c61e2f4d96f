//! A cluster whose agent runs images.

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use meshos_testing::{
    Local, LocalCluster,
    ports::{free_ports, ports},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for a deployment: images are pulled and unpacked meanwhile, and other tests want the machine too.
const PATIENCE: Duration = Duration::from_secs(400);

pub(crate) struct Cluster {
    local: Local,
    /// Port of the load balancer for virtual hosts.
    pub(crate) http: u16,
    /// A bridge that is left when the last container has gone.
    bridge: Option<String>,
    _dir: TempDir,
}

/// What an agent has to be told.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) lb: bool,
    /// Contents of a `.docker/config.json`.
    pub(crate) credentials: Option<String>,
    /// Containers without the Docker Engine, their images from this registry.
    pub(crate) own: Option<String>,
}

impl Cluster {
    pub(crate) fn start(options: &Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [http, https, admin, app_id] = ports();
        // Tasks bind the ports that they are given: no other test's cluster may give out the same.
        static CLUSTERS: AtomicU16 = AtomicU16::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let own: Vec<_> = free_ports(25).unwrap().iter().map(|port| format!("{port}-{port}")).collect();
        let resources = format!("cpus:8;mem:8192;disk:10000;ports:[{}]", own.join(","));
        let mut arguments = vec!["--resources", &resources];
        arguments.extend(options.lb.then_some("--lb"));
        let mut cluster =
            LocalCluster::new(env!("CARGO_BIN_EXE_meshos"), &dir.path().join("data")).with(&arguments);
        let mut set = |name: &str, value: String| cluster.environment.push((name.to_owned(), value));
        set("MESOS_HOSTNAME", "127.0.0.1".to_owned());
        set("MESOS_CONTAINERIZERS", "docker,mesos".to_owned());
        set("MESOS_DOCKER_REMOVE_DELAY", "1secs".to_owned());
        set("MARATHON_ENABLE_FEATURES", "external_volumes".to_owned());
        if let Some(credentials) = &options.credentials {
            set("MESOS_DOCKER_CONFIG", credentials.clone());
        }
        for (name, port) in [("HTTP", http), ("HTTPS", https), ("ADMIN", admin), ("APP_ID", app_id)] {
            if options.lb {
                set(&format!("MESHOS_LB_{name}_PORT"), port.to_string());
            }
        }
        let bridge = options.own.as_ref().map(|registry| {
            let bridge = format!("mt{}n{number}", std::process::id() % 100_000);
            bridge_network(dir.path(), &bridge, (std::process::id() % 200) as u8, number as u8);
            set("MESOS_ISOLATION", "cgroups,filesystem/linux,docker/runtime,network/cni".to_owned());
            set("MESOS_IMAGE_PROVIDERS", "docker".to_owned());
            set("MESOS_DOCKER_REGISTRY", format!("http://{registry}"));
            set("MESOS_NETWORK_CNI_CONFIG_DIR", dir.path().join("cni").display().to_string());
            set("MESOS_NETWORK_CNI_PLUGINS_DIR", "/usr/lib/cni".to_owned());
            bridge
        });
        Self { local: cluster.start(), http, bridge, _dir: dir }
    }

    pub(crate) fn marathon(&self, method: &str, path: &str, body: &Value) -> Value {
        let response = self.local.marathon.json(method, path, body).unwrap();
        assert!(response.status < 300, "{method} {path}: {}", response.text());
        response.json()
    }

    /// `host:port` of Marathon's API.
    pub(crate) fn marathon_address(&self) -> &str {
        &self.local.marathon.address
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.marathon("GET", path, &json!({}))
    }

    /// Waits until as many tasks run, all healthy where that is checked, and no deployment touches the app.
    pub(crate) fn settled(&self, id: &str, tasks: u64) -> Value {
        self.wait_for(&format!("{tasks} tasks of {id}"), || {
            let app = self.get(&format!("/v2/apps/{id}"))["app"].clone();
            let checked = app["healthChecks"].as_array().is_some_and(|checks| !checks.is_empty());
            let settled = app["tasksRunning"] == tasks
                && (!checked || app["tasksHealthy"] == tasks)
                && app["deployments"] == json!([]);
            if settled { Ok(app) } else { Err(app) }
        })
    }

    /// Deletes the app; returns when it is gone.
    pub(crate) fn delete(&self, id: &str) {
        self.marathon("DELETE", &format!("/v2/apps/{id}"), &json!({}));
        self.wait_for(&format!("{id} is gone"), || {
            let running = self.get("/v2/deployments");
            if running == json!([]) { Ok(()) } else { Err(running) }
        });
    }

    /// Waits for more than an image has to be pulled for.
    pub(crate) fn wait_for<T, E: std::fmt::Debug>(
        &self,
        what: &str,
        mut probe: impl FnMut() -> Result<T, E>,
    ) -> T {
        #[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
        let started = Instant::now();
        loop {
            match probe() {
                Ok(value) => return value,
                Err(missing) if started.elapsed() > PATIENCE => panic!("{what}: {missing:#?}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(bridge) = &self.bridge {
            // Plugins leave it to whoever named it.
            let _ = Command::new("ip").args(["link", "delete", bridge]).output();
        }
    }
}

/// The network that stands for bridge networking, by Debian's plugins.
fn bridge_network(dir: &Path, bridge: &str, second: u8, third: u8) {
    let network = json!({
        "cniVersion": "0.4.0",
        "name": "mesos-bridge",
        "plugins": [
            {
                "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": dir.join("addresses"),
                    "ranges": [[{"subnet": format!("10.{}.{third}.0/24", 50 + u16::from(second))}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    });
    std::fs::create_dir(dir.join("cni")).unwrap();
    std::fs::write(dir.join("cni/bridge.conflist"), network.to_string()).unwrap();
}
