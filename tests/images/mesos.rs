//! Containers that the agent runs itself.

use std::io::Write as _;

use crate::{
    cluster::{Cluster, Options},
    engine,
    registry::Registry,
    same::{memory_is_a_volume, nginx, nginx_is_updated_without_a_failed_request, python, python_serves},
};

/// Namespaces and mounts are root's.
fn is_possible() -> bool {
    let uid = std::process::Command::new("id").arg("-u").output().unwrap();
    let root = String::from_utf8_lossy(&uid.stdout).trim() == "0";
    if !root {
        let _ = writeln!(std::io::stderr(), "SKIPPED the tests of containers without Docker: they need root");
    }
    root && engine::is_there()
}

fn own(registry: &Registry, lb: bool) -> Cluster {
    Cluster::start(&Options {
        lb,
        credentials: Some(registry.credentials()),
        own: Some(registry.address.clone()),
    })
}

#[test]
fn an_image_of_a_private_registry_serves_on_a_port_of_the_host() {
    if !is_possible() {
        return;
    }
    let mut registry = Registry::start();
    let image = registry.push("meshos-test-python:3", "python:3");
    let cluster = own(&registry, false);
    let task = python_serves(&cluster, &python("MESOS", &image));
    let address = task["ipAddresses"][0]["ipAddress"].as_str().unwrap_or_default();
    assert!(address.starts_with("10."), "it has an address in the bridge's network: {task}");
    cluster.delete("/basic-3");
    memory_is_a_volume(&cluster, "MESOS", &image);
}

#[test]
fn a_rolling_update_of_three_fails_no_request() {
    if !is_possible() {
        return;
    }
    let mut registry = Registry::start();
    registry.push("meshos-test-nginx:1", "nginx:latest");
    let next = registry.push("meshos-test-nginx:2", "nginx:2");
    let cluster = own(&registry, true);
    nginx_is_updated_without_a_failed_request(&cluster, &nginx("MESOS"), &next);
    cluster.delete("/nginx");
}
