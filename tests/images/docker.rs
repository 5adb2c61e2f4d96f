//! Containers of the Docker Engine.

use meshos_testing::Http;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Options},
    engine::{self, containers_of, docker, has_image},
    registry::Registry,
    same::{memory_is_a_volume, nginx, nginx_is_updated_without_a_failed_request, python, python_serves},
};

#[test]
fn an_image_of_a_private_registry_serves_on_a_port_of_the_host() {
    if !engine::is_there() {
        return;
    }
    let mut registry = Registry::start();
    let image = registry.push("meshos-test-python:3", "python:3");
    let options = Options { credentials: Some(registry.credentials()), ..Options::default() };
    let cluster = Cluster::start(&options);
    let task = python_serves(&cluster, &python("DOCKER", &image));
    assert!(has_image(&image), "it was pulled");
    let id = task["id"].as_str().unwrap();
    assert_eq!(containers_of(id).len(), 1);
    memory_is_a_volume(&cluster, "DOCKER", &image);

    // A forced pull without the registry fails, although a copy is here.
    drop(registry);
    docker(&["tag", "meshos-test-python:3", &image]);
    let mut again = python("DOCKER", &image);
    again["id"] = json!("/again");
    cluster.marathon("POST", "/v2/apps", &again);
    cluster.wait_for("the pull fails", || {
        let app = cluster.get("/v2/apps//again")["app"].clone();
        if app["lastTaskFailure"]["state"] == "TASK_FAILED" { Ok(()) } else { Err(app) }
    });
    docker(&["rmi", &image]);
    cluster.delete("/again");
    cluster.delete("/basic-3");
    cluster.wait_for("its container ends", || match containers_of(id) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}

#[test]
fn a_rolling_update_of_three_fails_no_request() {
    if !engine::is_there() {
        return;
    }
    engine::name_if_absent("meshos-test-nginx:1", "nginx");
    let cluster = Cluster::start(&Options { lb: true, ..Options::default() });
    nginx_is_updated_without_a_failed_request(&cluster, &nginx("DOCKER"), "meshos-test-nginx:2");
    cluster.delete("/nginx");
}

/// A network of the engine; gone when it is dropped.
struct Network(String);

impl Network {
    fn create() -> Self {
        let name = format!("meshos-test-{}", std::process::id());
        docker(&["network", "create", &name]);
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["network", "rm", &self.0]).output();
    }
}

#[test]
fn a_task_in_a_network_of_the_user_is_checked_at_its_own_address() {
    if !engine::is_there() {
        return;
    }
    let network = Network::create();
    {
        let cluster = Cluster::start(&Options::default());
        let mut app: Value = nginx("DOCKER");
        app["instances"] = json!(2);
        app["container"]["docker"]["image"] = json!("meshos-test-nginx:1");
        app["container"]["portMappings"] = json!([{"containerPort": 80, "name": "http"}]);
        app["networks"] = json!([{"mode": "container", "name": network.0}]);
        cluster.marathon("POST", "/v2/apps", &app);
        let shown = cluster.settled("/nginx", 2);
        assert!(shown["container"]["portMappings"][0].get("hostPort").is_none(), "{shown}");
        for task in shown["tasks"].as_array().unwrap() {
            assert_eq!(task["ports"], json!([]), "no port of the host is needed");
            let address = task["ipAddresses"][0]["ipAddress"].as_str().unwrap();
            assert_ne!(address, "127.0.0.1");
            let page = Http::new(format!("{address}:80")).get("/").unwrap();
            assert!(page.text().contains("version 1"), "{}", page.text());
        }
        cluster.delete("/nginx");
    }
}
