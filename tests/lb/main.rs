//! The load balancer in front of a real cluster: `meshos local --lb`, real tasks, real requests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod load;
mod marathon;
mod slow;

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU32, Ordering},
};

use load::Load;
use meshos_testing::{Http, Local, LocalCluster, ports::ports, wait::until_blocking};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A cluster whose HAProxy has ports of its own.
struct Cluster {
    local: Local,
    http: u16,
    admin: u16,
    dir: TempDir,
}

/// A directory that HAProxy's workers may enter when they are not root any more.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Resources of an agent. Tasks bind the ports that they are given: no other test's cluster may give out the same.
fn resources() -> String {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() % 3 * 4 + CLUSTERS.fetch_add(1, Ordering::Relaxed) % 4;
    let first = 31_600 + number * 100;
    format!("cpus:8;mem:8192;disk:1000;ports:[{first}-{}]", first + 99)
}

impl Cluster {
    fn start() -> Self {
        Self::with(&[])
    }

    /// `environment`: settings beside the usual ones.
    fn with(environment: &[(&str, &str)]) -> Self {
        let dir = open_dir();
        let [http, https, admin, app_id] = ports();
        let mut cluster = LocalCluster::new(env!("CARGO_BIN_EXE_meshos"), &dir.path().join("data")).with(&[
            "--lb",
            "--resources",
            &resources(),
        ]);
        let settings = [
            ("MESOS_HOSTNAME", "127.0.0.1".to_owned()),
            ("MESHOS_LB_HTTP_PORT", http.to_string()),
            ("MESHOS_LB_HTTPS_PORT", https.to_string()),
            ("MESHOS_LB_ADMIN_PORT", admin.to_string()),
            ("MESHOS_LB_APP_ID_PORT", app_id.to_string()),
            ("MESHOS_LB_MAXCONN", "2000".to_owned()),
        ];
        cluster.environment.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        cluster.environment.extend(environment.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        Self { local: cluster.start(), http, admin, dir }
    }

    fn marathon(&self, method: &str, path: &str, body: &Value) -> Value {
        let response = self.local.marathon.json(method, path, body).unwrap();
        assert!(response.status < 300, "{method} {path}: {}", response.text());
        response.json()
    }

    /// Waits until as many tasks are healthy and no deployment runs.
    fn settled(&self, id: &str, tasks: u64) -> Value {
        until_blocking(&format!("{tasks} tasks of {id}"), || {
            let response = self.local.marathon.get(&format!("/v2/apps/{id}")).unwrap();
            let app = response.json()["app"].clone();
            let settled = app["tasksHealthy"] == tasks
                && app["tasksRunning"] == tasks
                && app["deployments"] == json!([]);
            if settled { Ok(app) } else { Err(app["deployments"].to_string()) }
        })
    }

    fn admin(&self, path: &str) -> Result<String, String> {
        let response = Http::new(format!("127.0.0.1:{}", self.admin)).get(path).map_err(|e| e.to_string())?;
        if response.status == 200 { Ok(response.text()) } else { Err(response.text()) }
    }

    /// The number of reloads, once none is due or under way and the workers of former configurations are gone: for a
    /// moment after a reload they still accept connections, and answer what the former configuration says.
    fn reloads(&self) -> u64 {
        until_blocking("a reload is known", || {
            let status: Value = serde_json::from_str(&self.admin("/_lb/status")?).unwrap();
            let pids = self.admin("/_haproxy_getpids")?;
            match (status["reloads"].as_u64(), status["changing"].as_bool(), pids.split(' ').count()) {
                (Some(reloads @ 1..), Some(false), 2) => Ok(reloads),
                _ => Err(format!("{status} {pids}")),
            }
        })
    }

    /// Waits until that version alone answers at the port.
    fn answers(&self, port: u16, version: &str) {
        until_blocking(version, || match load::get(port, "x", "/") {
            Ok(body) if body.contains(version) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        self.reloads();
    }
}

/// A web server that ends at once when it is told to: requests under way would fail.
fn web(id: &str, instances: u64, version: &str) -> Value {
    json!({
        "id": id,
        "cmd": format!("echo {version} > index.html; exec python3 -m http.server $PORT0"),
        "cpus": 0.1,
        "mem": 128,
        "instances": instances,
        "portDefinitions": [{"port": 0, "protocol": "tcp"}],
        "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "web.test"},
        "healthChecks": [{
            "protocol": "HTTP", "path": "/", "portIndex": 0,
            "gracePeriodSeconds": 60, "intervalSeconds": 1, "timeoutSeconds": 5,
        }],
    })
}

#[test]
fn rolling_restarts_and_scaling_fail_no_request() {
    everything_changes_and_no_request_fails(&Cluster::start());
}

fn everything_changes_and_no_request_fails(cluster: &Cluster) {
    // A service port that no other test's HAProxy frees meanwhile, which would be a reason to reload.
    let [port] = ports();
    let version = |text: &str| {
        let mut app = web("/web", 3, text);
        app["portDefinitions"][0]["port"] = json!(port);
        app
    };
    cluster.marathon("POST", "/v2/apps", &version("one"));
    cluster.settled("/web", 3);
    until_blocking("the app is served", || {
        load::get(cluster.http, "web.test", "/").map_err(|e| e.to_string())
    });
    let reloads = cluster.reloads();
    let loads = [false, true].map(|keep| Load::start(2, keep, cluster.http, "web.test"));

    cluster.marathon("PUT", "/v2/apps//web", &json!({"instances": 4}));
    cluster.settled("/web", 4);
    cluster.marathon("PUT", "/v2/apps//web", &json!({"instances": 1}));
    cluster.settled("/web", 1);
    // One takes over from one.
    cluster.marathon("POST", "/v2/apps//web/restart", &json!({}));
    cluster.settled("/web", 1);
    cluster.marathon("PUT", "/v2/apps//web", &json!({"instances": 3}));
    cluster.settled("/web", 3);
    cluster.marathon("PUT", "/v2/apps//web", &version("two"));
    until_blocking("the new version answers", || match load::get(cluster.http, "web.test", "/") {
        Ok(body) if body.contains("two") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.settled("/web", 3);
    // A task that is killed on purpose leaves the table first, too.
    let app = cluster.settled("/web", 3);
    let task = app["tasks"][0]["id"].as_str().unwrap();
    cluster.marathon("DELETE", &format!("/v2/apps//web/tasks/{task}"), &json!({}));
    cluster.settled("/web", 3);

    for load in loads {
        let (asked, failures) = load.stop();
        assert!(failures.is_empty(), "{} of {asked} failed: {:?}", failures.len(), &failures[..1]);
        assert!(asked > 100, "{asked}");
    }
    assert_eq!(cluster.reloads(), reloads, "servers change without a reload");
}

#[test]
fn an_app_is_served_under_the_load_balancers_own_port_by_its_host() {
    let cluster = Cluster::start();
    let mut app = web("/nginx", 1, "hello");
    app["portDefinitions"][0]["port"] = json!(cluster.http);
    app["labels"]["HAPROXY_0_VHOST"] = json!("nginx.marathon.mesos");
    cluster.marathon("POST", "/v2/apps", &app);
    until_blocking("the app is served", || load::get(cluster.http, "nginx.marathon.mesos", "/"));
    until_blocking("it is said that it has no port of its own", || {
        let status: Value = serde_json::from_str(&cluster.admin("/_lb/status")?).unwrap();
        let message = status["problems"][0]["message"].as_str().unwrap_or_default();
        if message.contains("the load balancer's own") { Ok(()) } else { Err(status.to_string()) }
    });
}

/// Runs `meshos lb deploy`; its exit status.
fn deploy(cluster: &Cluster, app: &Value, more: &[&str]) -> (Option<i32>, String) {
    let file = cluster.dir.path().join("app.json");
    std::fs::write(&file, app.to_string()).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_meshos"))
        .args(["lb", "deploy", "--step-delay", "100ms", "-j"])
        .arg(&file)
        .args(["-m", &format!("http://{}", cluster.local.marathon.address)])
        .args(["-l", &format!("http://127.0.0.1:{}", cluster.admin)])
        .args(more)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_blue_green_deployment_fails_no_request_and_a_bad_one_is_taken_back() {
    let cluster = Cluster::start();
    let [port, alternative] = ports();
    let version = |text: &str| {
        let mut app = shop(port, alternative, text);
        app["instances"] = json!(2);
        app
    };
    let (status, said) = deploy(&cluster, &version("one"), &[]);
    assert_eq!(status, Some(0), "{said}");
    cluster.settled("/shop-blue", 2);
    cluster.answers(port, "one");
    let load = Load::start(2, false, port, "web.test");
    let (status, said) = deploy(&cluster, &version("two"), &[]);
    assert_eq!(status, Some(0), "{said}");
    cluster.settled("/shop-green", 2);
    assert_eq!(cluster.local.marathon.get("/v2/apps//shop-blue").unwrap().status, 404);
    cluster.answers(port, "two");

    let mut bad = version("three");
    bad["cmd"] = json!("sleep 1000");
    let (status, said) = deploy(&cluster, &bad, &["--max-wait", "3s"]);
    assert_eq!(status, Some(7), "{said}");
    until_blocking("the bad one is gone", || {
        let status = cluster.local.marathon.get("/v2/apps//shop-blue").unwrap().status;
        if status == 404 { Ok(()) } else { Err(status) }
    });
    cluster.answers(port, "two");
    let (asked, failures) = load.stop();
    assert!(failures.is_empty(), "{} of {asked} failed: {:?}", failures.len(), &failures[..1]);
}

/// The app in two versions, which take turns at a service port.
fn shop(port: u16, alternative: u16, text: &str) -> Value {
    let mut app = web("/shop", 3, text);
    app["portDefinitions"][0]["port"] = json!(port);
    app["labels"]["HAPROXY_DEPLOYMENT_GROUP"] = json!("shop");
    app["labels"]["HAPROXY_DEPLOYMENT_ALT_PORT"] = json!(alternative.to_string());
    app
}

#[test]
fn traffic_that_is_split_goes_back_or_on_without_a_failed_request() {
    let cluster = Cluster::start();
    let [port, alternative] = ports();
    let (one, two) = (shop(port, alternative, "one"), shop(port, alternative, "two"));
    assert_eq!(deploy(&cluster, &one, &[]).0, Some(0));
    cluster.settled("/shop-blue", 3);
    cluster.answers(port, "one");
    let loads = [false, true].map(|keep| Load::start(1, keep, port, "web.test"));
    let split = |cluster: &Cluster| {
        let (status, said) = deploy(cluster, &two, &["--new-instances", "1"]);
        assert_eq!(status, Some(0), "{said}");
        cluster.settled("/shop-green", 1);
        cluster.settled("/shop-blue", 2);
    };
    split(&cluster);
    let (status, said) = deploy(&cluster, &two, &[]);
    assert_eq!(status, Some(3), "one is under way: {said}");
    // Back: the old app has all its instances again before the new one goes.
    let (status, said) = deploy(&cluster, &two, &["--complete-prev"]);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(cluster.local.marathon.get("/v2/apps//shop-green").unwrap().status, 404);
    cluster.settled("/shop-blue", 3);
    cluster.answers(port, "one");
    split(&cluster);
    // On: the new app gets all instances before the old one goes.
    let (status, said) = deploy(&cluster, &two, &["--complete-cur"]);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(cluster.local.marathon.get("/v2/apps//shop-blue").unwrap().status, 404);
    cluster.settled("/shop-green", 3);
    cluster.answers(port, "two");
    for load in loads {
        let (asked, failures) = load.stop();
        assert!(failures.is_empty(), "{} of {asked} failed: {:?}", failures.len(), &failures[..1]);
    }
}
