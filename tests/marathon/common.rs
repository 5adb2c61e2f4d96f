//! What these tests share.

use std::ops::Deref;

use meshos_testing::{Http, Local, LocalCluster, Response, wait::until_blocking};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running cluster with its Marathon API at hand.
pub(crate) struct Cluster {
    local: Local,
    _dir: TempDir,
}

impl Deref for Cluster {
    type Target = Http;

    fn deref(&self) -> &Http {
        &self.local.marathon
    }
}

/// One agent, with room for small tasks only.
pub(crate) fn cluster() -> Cluster {
    cluster_of(&["--resources", "cpus:4;mem:4096;disk:1000;ports:[31000-31100]"])
}

/// As many agents as are named, each with the attribute `rack`.
pub(crate) fn racks(names: &[&str]) -> Cluster {
    let count = names.len().to_string();
    let mut arguments = vec!["--agents".to_owned(), count];
    for name in names {
        arguments.extend(["--attributes".to_owned(), format!("rack:{name}")]);
        arguments
            .extend(["--resources".to_owned(), "cpus:4;mem:4096;disk:1000;ports:[31000-31100]".to_owned()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    cluster_of(&arguments)
}

pub(crate) fn cluster_of(arguments: &[&str]) -> Cluster {
    cluster_with(arguments, &[])
}

/// Ports that nobody else listens on.
pub(crate) fn cluster_with_own_ports() -> Cluster {
    let ports = meshos_testing::ports::free_ports(20).unwrap();
    let ports: Vec<String> = ports.iter().map(|port| format!("{port}-{port}")).collect();
    cluster_of(&["--resources", &format!("cpus:4;mem:4096;disk:1000;ports:[{}]", ports.join(","))])
}

/// With settings in the environment.
pub(crate) fn cluster_with(arguments: &[&str], environment: &[(&str, &str)]) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_meshos");
    let cluster = LocalCluster::new(program, &dir.path().join("data")).with(arguments);
    let local = cluster.start_with(|command| {
        command.envs(environment.iter().copied());
    });
    Cluster { local, _dir: dir }
}

/// The default definition of the reference's lines, changed by `more`.
pub(crate) fn c(id: &str, more: Value) -> Value {
    let mut app = json!({"id": id, "cmd": "sleep 1000", "cpus": 0.1, "mem": 32});
    for (key, value) in more.as_object().unwrap() {
        app[key] = value.clone();
    }
    app
}

/// An app that fits nowhere.
pub(crate) fn huge(id: &str) -> Value {
    c(id, json!({"cpus": 1000}))
}

impl Cluster {
    pub(crate) fn mesos(&self) -> &Http {
        &self.local.mesos
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Response {
        self.json(method, path, body).unwrap()
    }

    /// A request without a body.
    pub(crate) fn bare(&self, method: &str, path: &str) -> Response {
        self.send(method, path, &[], b"").unwrap()
    }

    pub(crate) fn read(&self, path: &str) -> Value {
        let response = self.get(path).unwrap();
        assert_eq!(response.status, 200, "GET {path}: {}", response.text());
        response.json()
    }

    pub(crate) fn create(&self, app: &Value) -> String {
        let created = self.ask("POST", "/v2/apps", app);
        assert_eq!(created.status, 201, "{}", created.text());
        created.header("marathon-deployment-id").unwrap().to_owned()
    }

    /// Creates an app and waits until its deployment is over.
    pub(crate) fn run(&self, app: &Value) -> Value {
        self.create(app);
        let id = app["id"].as_str().unwrap();
        let wanted = app.get("instances").and_then(Value::as_u64).unwrap_or(1);
        self.settled(id, wanted)
    }

    /// Waits until as many tasks run and no deployment touches the app.
    pub(crate) fn settled(&self, id: &str, tasks: u64) -> Value {
        self.app(id, |app| {
            app["tasksRunning"] == tasks && ids(app).len() as u64 == tasks && app["deployments"] == json!([])
        })
    }

    /// Waits until the app satisfies `is`.
    pub(crate) fn app(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        until_blocking(&format!("app {id}"), || {
            let response = self.get(&format!("/v2/apps/{id}")).unwrap();
            if response.status != 200 {
                return Err(response.text());
            }
            let app = response.json()["app"].clone();
            if is(&app) { Ok(app) } else { Err(app.to_string()) }
        })
    }

    /// Waits until the app is gone.
    pub(crate) fn gone(&self, id: &str) {
        until_blocking(&format!("app {id} is gone"), || {
            let response = self.get(&format!("/v2/apps/{id}")).unwrap();
            if response.status == 404 { Ok(()) } else { Err(response.text()) }
        });
    }

    /// Waits until no deployment runs.
    pub(crate) fn quiet(&self) {
        until_blocking("no deployment runs", || {
            let running = self.read("/v2/deployments");
            if running == json!([]) { Ok(()) } else { Err(running) }
        });
    }

    /// Waits until the queue satisfies `is` for the app.
    pub(crate) fn queued(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        until_blocking(&format!("{id} in the queue"), || {
            let queue = self.read("/v2/queue");
            let entries = queue["queue"].as_array().unwrap();
            let entry = entries.iter().find(|entry| entry["app"]["id"] == id).cloned();
            entry.filter(|entry| is(entry)).ok_or(queue)
        })
    }
}

/// Ids of the app's tasks, sorted.
pub(crate) fn ids(app: &Value) -> Vec<String> {
    let tasks = app["tasks"].as_array().into_iter().flatten();
    let mut ids: Vec<String> = tasks.map(|task| task["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// The instance that a task id belongs to.
pub(crate) fn instance(task: &str) -> &str {
    task.split("._app.").next().unwrap()
}

/// Status and message of a refusal.
pub(crate) fn message(response: &Response) -> (u16, String) {
    (response.status, response.json()["message"].as_str().unwrap_or_default().to_owned())
}

/// How often a reason declined offers since the launch attempt began.
pub(crate) fn declined(entry: &Value, reason: &str) -> u64 {
    let steps = entry["processedOffersSummary"]["rejectSummaryLaunchAttempt"].as_array().unwrap();
    steps.iter().find(|step| step["reason"] == reason).unwrap()["declined"].as_u64().unwrap()
}
