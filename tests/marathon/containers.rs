//! Definitions with containers and networks, as they are shown and refused.

use crate::common::{c, cluster_with, message};
use serde_json::{Value, json};

/// Nothing of it is started.
fn image(id: &str, more: Value) -> Value {
    let mut app = json!({"id": id, "instances": 0, "cpus": 0.1, "mem": 32});
    app.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app
}

#[test]
fn marathon_c17_older_and_newer_forms_are_shown_in_the_newer_one() {
    let marathon = cluster_with(&[], &[("MARATHON_DEFAULT_NETWORK_NAME", "overlay")]);
    let shown = |app: Value| {
        marathon.create(&app);
        marathon.app(app["id"].as_str().unwrap(), |_| true)
    };
    let mappings = json!([{"containerPort": 8080}]);
    let docker = json!({"image": "python:3", "network": "BRIDGE", "portMappings": mappings});
    let app = shown(image("/bridge", json!({"container": {"type": "DOCKER", "docker": docker}})));
    assert_eq!(app["networks"], json!([{"mode": "container/bridge"}]));
    let mapping = &app["container"]["portMappings"][0];
    assert_eq!((&mapping["hostPort"], &mapping["protocol"]), (&json!(0), &json!("tcp")));
    assert!(mapping["servicePort"].as_u64().unwrap() >= 10_000);
    let docker = json!({"forcePullImage": false, "image": "python:3", "parameters": [], "privileged": false});
    assert_eq!(app["container"]["docker"], docker);
    assert_eq!(app["container"]["volumes"], json!([]));
    for absent in ["portDefinitions", "ipAddress", "ports"] {
        assert!(app.get(absent).is_none(), "{absent}");
    }

    let app = shown(image("/own", json!({"cmd": "x", "ipAddress": {}})));
    assert_eq!(app["networks"], json!([{"name": "overlay", "mode": "container"}]));
    assert_eq!(app["container"]["type"], "MESOS");
    let mapping = &app["container"]["portMappings"][0];
    assert!(mapping["name"] == "default" && mapping.get("hostPort").is_none(), "{mapping}");

    let host = json!({"container": {"docker": {"image": "x", "network": "HOST"}}});
    let app = shown(image("/host", host));
    assert_eq!((&app["networks"], &app["container"]["type"]), (&json!([{"mode": "host"}]), &json!("DOCKER")));
    assert!(app["container"].get("portMappings").is_none());
    assert_eq!(app["portDefinitions"][0]["name"], "default");
}

#[test]
fn what_is_shown_can_be_sent_back_and_changes_nothing() {
    let marathon = cluster_with(&[], &[("MARATHON_ENABLE_FEATURES", "secrets,external_volumes")]);
    let container = json!({
        "type": "MESOS",
        "docker": {"image": "nginx", "forcePullImage": true, "pullConfig": {"secret": "registry"}},
        "portMappings": [
            {"containerPort": 80, "hostPort": 0, "name": "http", "labels": {"VIP_0": "/x:80"}},
            {"containerPort": 53, "protocol": "tcp,udp"},
        ],
        "volumes": [
            {"containerPath": "/etc/x", "hostPath": "/x", "mode": "RO"},
            {"containerPath": "data", "mode": "RW", "external": {
                "name": "v", "provider": "dvdi", "options": {"dvdi/driver": "rexray"}
            }},
            {"containerPath": "key", "secret": "registry"},
        ],
        "linuxInfo": {"ipcInfo": {"mode": "PRIVATE", "shmSize": 16}, "seccomp": {"unconfined": true}},
    });
    let app = image(
        "/a",
        json!({
            "container": container, "networks": [{"mode": "container", "name": "n"}], "tty": true,
            "secrets": {"registry": {"source": "registry.json"}},
        }),
    );
    marathon.create(&app);
    let shown = marathon.app("/a", |_| true);
    assert_eq!(shown["container"]["portMappings"][1]["protocol"], "udp,tcp");
    assert_eq!(shown["upgradeStrategy"], json!({"maximumOverCapacity": 0, "minimumHealthCapacity": 0.5}));
    let mut sent = shown.clone();
    // Alone it would mean to go back to that version.
    sent.as_object_mut().unwrap().remove("version");
    let again = marathon.ask("PUT", "/v2/apps//a", &sent);
    assert_eq!(again.status, 200, "{}", again.text());
    let kept = marathon.app("/a", |_| true);
    for field in ["container", "networks", "tty", "version"] {
        assert_eq!(kept[field], shown[field], "{field}");
    }
    let group = |container: &Value| {
        let more = json!({
            "container": container, "cmd": "x", "networks": [{"mode": "container/bridge"}],
            "secrets": app["secrets"],
        });
        json!({"id": "/g", "apps": [image("/g/b", more)]})
    };
    let mut container = container;
    let taken = marathon.ask("PUT", "/v2/groups//g", &group(&container));
    assert!(taken.text().contains("conflicts with volume(s) of same name in app(s): /a"), "{}", taken.text());
    container["volumes"][1]["external"]["name"] = json!("w");
    let put = marathon.ask("PUT", "/v2/groups//g", &group(&container));
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(marathon.read("/v2/groups//g")["apps"][0]["container"]["docker"]["image"], "nginx");
    let changed = marathon.ask("PUT", "/v2/apps//a", &json!({"networks": [{"mode": "host"}]}));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let moved = marathon.app("/a", |app| app["networks"][0]["mode"] == "host");
    assert!(moved["container"].get("portMappings").is_none() && moved["portDefinitions"].is_array());
    let versions = marathon.read("/v2/apps//a/versions");
    let versions = versions["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    let first = shown["version"].as_str().unwrap();
    assert_eq!(marathon.read(&format!("/v2/apps//a/versions/{first}"))["container"], shown["container"]);
}

#[test]
fn marathon_c19_what_does_not_fit_together_is_named() {
    let marathon = cluster_with(&[], &[]);
    let refused = |app: Value, path: &str, part: &str| {
        let response = marathon.ask("POST", "/v2/apps", &app);
        assert_eq!(message(&response), (422, "Object is not valid".to_owned()), "{app}");
        let details = response.json()["details"].clone();
        let at = details.as_array().unwrap().iter().find(|one| one["path"] == path);
        assert!(at.is_some_and(|one| one.to_string().contains(part)), "{path} {part}: {details}");
    };
    let docker = json!({"docker": {"image": "x"}});
    let with = |networks: Value, container: &Value| {
        image("/a", json!({"networks": networks, "container": container}))
    };
    let two = json!([{"name": "a"}, {"name": "b"}]);
    refused(with(two, &docker), "/networks", "when using the Docker container engine");
    refused(with(json!([{}]), &docker), "/networks(0)", "Network name must be specified");
    refused(
        image("/a", json!({"cmd": "x", "container": {"volumes": []}})),
        "/container/docker",
        "not defined",
    );
    let mapped = json!({"docker": {"image": "x"}, "portMappings": [{"containerPort": 1}]});
    refused(
        with(json!([{"mode": "host"}]), &mapped),
        "/container/portMappings",
        "not allowed with host-networking",
    );
    let mut both = with(json!([{"mode": "container/bridge"}]), &docker);
    both["portDefinitions"] = json!([{"port": 0}]);
    refused(both, "/portDefinitions", "only allowed with host-networking");
    let volume = json!({"type": "MESOS", "volumes": [{"containerPath": "d", "mode": "RW", "external": {
        "name": "v", "provider": "dvdi", "options": {"dvdi/driver": "d"}}}]});
    let external = c("/a", json!({"container": volume}));
    refused(external, "/container/volumes(0)/external", "Feature external_volumes is not enabled");
    let persistent = json!({"type": "MESOS", "volumes": [
        {"containerPath": "d", "mode": "RW", "persistent": {"size": 1}}]});
    refused(
        c("/a", json!({"container": persistent})),
        "/container/volumes(0)/persistent",
        "is not supported",
    );
    assert_eq!(marathon.read("/v2/apps"), json!({"apps": []}), "nothing was created");
}
