//! Where there are several machines: every service and three agents in this process, on simulated machines, each
//! with a host name of its own.

use std::collections::BTreeMap;

use crate::common::{c, ids};
use meshos_testing::{Cluster, ClusterOptions, Http, wait::until_blocking};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Three machines: `h1`, `h2`, `h3`.
struct Machines {
    runtime: Runtime,
    cluster: Option<Cluster>,
    marathon: Http,
}

impl Machines {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let agent = "cpus:4;mem:4096;disk:4096;ports:[31000-32000]".to_owned();
        let options = ClusterOptions { agents: vec![agent; 3], own_hosts: true, ..ClusterOptions::default() };
        let cluster = runtime.block_on(Cluster::start(&options));
        let marathon = cluster.gateways[0].marathon.clone();
        Self { runtime, cluster: Some(cluster), marathon }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.marathon.json(method, path, body).unwrap();
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// Waits until the app satisfies `is`.
    fn app(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        until_blocking(&format!("app {id}"), || {
            let app = self.marathon.get(&format!("/v2/apps/{id}")).unwrap().json()["app"].clone();
            if is(&app) { Ok(app) } else { Err(app.to_string()) }
        })
    }

    fn settled(&self, id: &str, tasks: u64) -> Value {
        self.app(id, |app| app["tasksRunning"] == tasks && app["deployments"] == json!([]))
    }

    /// How many tasks the app has on each host.
    fn spread(&self, id: &str) -> BTreeMap<String, usize> {
        let app = self.app(id, |_| true);
        let mut counts = BTreeMap::new();
        for task in app["tasks"].as_array().unwrap() {
            *counts.entry(task["host"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Waits until so many wait because of a constraint.
    fn held(&self, id: &str, count: u64) {
        until_blocking(&format!("{id} waits"), || {
            let queue = self.marathon.get("/v2/queue").unwrap().json();
            let entries = queue["queue"].as_array().unwrap();
            let entry = entries.iter().find(|entry| entry["app"]["id"] == id).cloned().unwrap_or_default();
            let reasons = entry["processedOffersSummary"]["rejectSummaryLaunchAttempt"].clone();
            let declined = |step: &Value| {
                step["reason"] == "UnfulfilledConstraint" && step["declined"].as_u64() > Some(0)
            };
            let held =
                entry["count"] == count && reasons.as_array().is_some_and(|steps| steps.iter().any(declined));
            if held { Ok(()) } else { Err(queue) }
        });
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take().filter(|_| !std::thread::panicking()) {
            self.runtime.block_on(cluster.stop());
        }
    }
}

fn on(hosts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    hosts.iter().map(|(host, count)| ((*host).to_owned(), *count)).collect()
}

#[test]
fn marathon_c44_only_the_tasks_of_one_host_go() {
    let machines = Machines::start();
    machines.ask(
        "POST",
        "/v2/apps",
        &c("/a", json!({"instances": 3, "constraints": [["hostname", "UNIQUE"]]})),
    );
    let before = machines.settled("/a", 3);
    assert_eq!(machines.spread("/a"), on(&[("h1", 1), ("h2", 1), ("h3", 1)]));
    let on_h1 = |app: &Value| -> Vec<String> {
        let tasks = app["tasks"].as_array().unwrap().iter().filter(|task| task["host"] == "h1");
        tasks.map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    };
    let gone = on_h1(&before);
    let killed = machines.ask("DELETE", "/v2/apps//a/tasks?host=h1", &json!({}));
    let named: Vec<_> = killed["tasks"].as_array().unwrap().iter().map(|task| task["id"].clone()).collect();
    assert_eq!(named, gone);
    let after = machines.app("/a", |app| app["tasksRunning"] == 3 && ids(app) != ids(&before));
    let kept: Vec<String> = ids(&before).into_iter().filter(|id| !gone.contains(id)).collect();
    assert!(kept.iter().all(|id| ids(&after).contains(id)));
    assert_eq!(on_h1(&after).len(), 1);
}

#[test]
fn marathon_c71_c72_one_on_each_host_and_an_upgrade_is_not_blocked() {
    let machines = Machines::start();
    machines.ask(
        "POST",
        "/v2/apps",
        &c("/a", json!({"instances": 4, "constraints": [["hostname", "UNIQUE"]]})),
    );
    machines.app("/a", |app| app["tasksRunning"] == 3);
    machines.held("/a", 1);
    assert_eq!(machines.spread("/a"), on(&[("h1", 1), ("h2", 1), ("h3", 1)]), "c71");
    machines.ask("PUT", "/v2/apps//a?force=true", &json!({"instances": 3}));
    let before = ids(&machines.settled("/a", 3));
    let over = json!({"cmd": "sleep 2000", "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1}});
    machines.ask("PUT", "/v2/apps//a", &over);
    let replaced = |app: &Value| ids(app).iter().all(|id| !before.contains(id));
    machines.app("/a", |app| app["deployments"] == json!([]) && app["tasksRunning"] == 3 && replaced(app));
    assert_eq!(machines.spread("/a"), on(&[("h1", 1), ("h2", 1), ("h3", 1)]), "c72");
}

#[test]
fn marathon_c73_operators_by_hostname() {
    let machines = Machines::start();
    let with = |id: &str, constraint: Value, instances: u32| {
        machines.ask(
            "POST",
            "/v2/apps",
            &c(id, json!({"constraints": [constraint], "instances": instances})),
        );
    };
    with("/most", json!(["hostname", "MAX_PER", "2"]), 7);
    machines.app("/most", |app| app["tasksRunning"] == 6);
    machines.held("/most", 1);
    assert_eq!(machines.spread("/most"), on(&[("h1", 2), ("h2", 2), ("h3", 2)]));
    with("/together", json!(["hostname", "CLUSTER"]), 4);
    machines.settled("/together", 4);
    assert_eq!(machines.spread("/together").into_values().collect::<Vec<_>>(), [4]);
    with("/there", json!(["hostname", "CLUSTER", "h2"]), 2);
    machines.settled("/there", 2);
    assert_eq!(machines.spread("/there"), on(&[("h2", 2)]));
    with("/unlike", json!(["nosuch", "UNLIKE", "x"]), 1);
    machines.settled("/unlike", 1);
}
