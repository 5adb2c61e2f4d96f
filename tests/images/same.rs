//! What holds for both kinds of containers.

use std::collections::BTreeSet;

use meshos_testing::Http;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    engine,
    load::{self, Load},
};

/// The first example of Marathon's own documentation.
pub(crate) fn python(kind: &str, image: &str) -> Value {
    json!({
        "id": "/basic-3",
        "cmd": "python3 -m http.server 8080",
        "cpus": 0.5,
        "mem": 32.0,
        "container": {
            "type": kind,
            "docker": {"image": image, "forcePullImage": true},
            "portMappings": [{"containerPort": 8080, "hostPort": 0}],
        },
        "networks": [{"mode": "container/bridge"}],
    })
}

/// What users post of nginx, with somewhere to be reached and a check.
pub(crate) fn nginx(kind: &str) -> Value {
    let privileged = kind != "DOCKER" || engine::grants_privileges();
    json!({
        "id": "/nginx",
        "cpus": 0.1,
        "mem": 64,
        "instances": 3,
        "container": {
            "type": kind,
            "docker": {"forcePullImage": false, "image": "nginx", "parameters": [], "privileged": privileged},
            "portMappings": [
                {"containerPort": 80, "hostPort": 0, "labels": {}, "protocol": "tcp", "servicePort": 80}
            ],
        },
        "networks": [{"mode": "container/bridge"}],
        "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "nginx.test"},
        "healthChecks": [{
            "protocol": "HTTP", "path": "/", "portIndex": 0,
            "gracePeriodSeconds": 60, "intervalSeconds": 1, "timeoutSeconds": 5,
        }],
    })
}

/// Starts the web server and asks it; the task.
pub(crate) fn python_serves(cluster: &Cluster, app: &Value) -> Value {
    let created = cluster.marathon("POST", "/v2/apps", app);
    assert_eq!(created["container"]["portMappings"][0]["hostPort"], 0, "{created}");
    let shown = cluster.settled("/basic-3", 1);
    let mapping = &shown["container"]["portMappings"][0];
    assert!(mapping["servicePort"].as_u64().unwrap() >= 10_000, "{mapping}");
    assert_eq!((&mapping["protocol"], &mapping["labels"]), (&json!("tcp"), &json!({})));
    assert!(shown.get("portDefinitions").is_none(), "{shown}");
    let task = shown["tasks"][0].clone();
    let port = task["ports"][0].as_u64().unwrap();
    let http = Http::new(format!("127.0.0.1:{port}"));
    // The process runs before it listens.
    let page = cluster.wait_for("the server answers", || match http.get("/") {
        Ok(response) if response.status == 200 => Ok(response.text()),
        other => Err(format!("{other:?}")),
    });
    assert!(page.contains("Directory listing for /"), "{page}");
    task
}

/// Runs an app with a volume in memory, which it finds as large as was asked for.
pub(crate) fn memory_is_a_volume(cluster: &Cluster, kind: &str, image: &str) {
    let find = "set -e; test $(stat -f -c %T /scratch) = tmpfs; test $(df --output=size /scratch | tail -1) -eq 2048; \
                head -c 1000000 /dev/zero > /scratch/fits; if head -c 3000000 /dev/zero > /scratch/more; then exit 1; fi; \
                touch /tmp/found; exec sleep 1000";
    let options = json!({"dvdi/driver": "tmpfs", "dvdi/size": "2m"});
    let volume = json!({"containerPath": "/scratch", "mode": "RW",
        "external": {"provider": "dvdi", "name": "scratch", "options": options}});
    let app = json!({
        "id": "/memory", "cmd": find, "cpus": 0.1, "mem": 64,
        "container": {"type": kind, "docker": {"image": image}, "volumes": [volume]},
        "healthChecks": [{
            "protocol": "COMMAND", "command": {"value": "test -e /tmp/found"},
            "gracePeriodSeconds": 60, "intervalSeconds": 1, "timeoutSeconds": 5,
        }],
    });
    cluster.marathon("POST", "/v2/apps", &app);
    cluster.settled("/memory", 1);
    cluster.delete("/memory");
}

/// Runs three, and replaces their image while clients ask without a pause.
pub(crate) fn nginx_is_updated_without_a_failed_request(cluster: &Cluster, app: &Value, next: &str) {
    cluster.marathon("POST", "/v2/apps", app);
    let before = ids(&cluster.settled("/nginx", 3));
    assert_eq!(before.len(), 3);
    cluster.wait_for("the app is served", || load::get(cluster.http, "nginx.test", "/"));
    let loads = [false, true].map(|keep| Load::start(2, keep, cluster.http, "nginx.test"));

    let mut container = app["container"].clone();
    container["docker"]["image"] = json!(next);
    cluster.marathon("PUT", "/v2/apps//nginx", &json!({"container": container}));
    cluster.wait_for("the new version answers", || match load::get(cluster.http, "nginx.test", "/") {
        Ok(body) if body.contains("version 2") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let after = cluster.settled("/nginx", 3);
    assert_eq!(after["container"]["docker"]["image"], next);
    assert!(ids(&after).is_disjoint(&before), "{after}");
    for load in loads {
        let (asked, failures) = load.stop();
        assert!(failures.is_empty(), "{} of {asked} failed: {:?}", failures.len(), &failures[..1]);
        assert!(asked > 100, "{asked}");
    }
    let versions = cluster.get("/v2/apps//nginx/versions");
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2, "{versions}");
}

pub(crate) fn ids(app: &Value) -> BTreeSet<String> {
    let tasks = app["tasks"].as_array().unwrap();
    tasks.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
}
