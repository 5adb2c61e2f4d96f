//! A real client from PyPI, unmodified: `marathon`.

#[path = "../clients/environment.rs"]
mod environment;

use std::{path::Path, process::Command};

use crate::common::cluster;

#[test]
fn the_python_client_walks_through_its_whole_surface() {
    let cluster = cluster();
    let walk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/marathon/clients/marathon_client.py");
    let url = format!("http://{}", cluster.address);
    let output = Command::new(environment::python()).arg(walk).arg(url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("all 36 methods\n"), "{said}");
}
