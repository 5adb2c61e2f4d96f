//! What the tests against `meshos local` share.

use std::{collections::BTreeSet, fmt::Debug, path::Path};

use meshos_testing::{Http, LocalCluster, wait::until_blocking};
use serde_json::{Value, json};

/// A cluster on free ports with its data under `dir`.
pub(crate) fn cluster(dir: &Path) -> LocalCluster {
    LocalCluster::new(env!("CARGO_BIN_EXE_meshos"), &dir.join("data"))
}

/// The first app of the README.
pub(crate) fn basic_app() -> Value {
    json!({
        "id": "basic-0",
        "cmd": "while [ true ] ; do echo 'Hello Marathon' ; sleep 5 ; done",
        "cpus": 0.1,
        "mem": 10.0,
        "instances": 1
    })
}

/// An app that does nothing for a long time.
pub(crate) fn sleeper(id: &str, instances: u32) -> Value {
    json!({"id": id, "cmd": "sleep 100000", "cpus": 0.01, "mem": 1, "instances": instances})
}

pub(crate) fn eventually<T, E: Debug>(what: &str, probe: impl FnMut() -> Result<T, E>) -> T {
    until_blocking(what, probe)
}

/// Waits until the app satisfies `is`, and returns it.
pub(crate) fn app(marathon: &Http, id: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("app {id}"), || {
        let response = marathon.get(&format!("/v2/apps/{id}")).map_err(|error| error.to_string())?;
        if response.status != 200 {
            return Err(response.text());
        }
        let app = response.json()["app"].clone();
        if is(&app) { Ok(app) } else { Err(app.to_string()) }
    })
}

pub(crate) fn task_ids(app: &Value) -> BTreeSet<String> {
    let ids = app["tasks"].as_array().into_iter().flatten();
    ids.map(|task| task["id"].as_str().unwrap().to_owned()).collect()
}
