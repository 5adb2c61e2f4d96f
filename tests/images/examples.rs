//! The files under `examples/`, as a user would post them.

use meshos_testing::{Http, ports::ports};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Options},
    engine,
    load::get,
};

fn example(name: &str) -> Value {
    let path = format!("{}/examples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_load_balancer_as_an_app_serves_the_web_server() {
    if !engine::is_there() {
        return;
    }
    engine::name_if_absent("meshos-test-nginx:1", "nginx");
    assert!(engine::has_image("meshos"), "run scripts/images first");
    let cluster = Cluster::start(&Options::default());
    let [http, https, admin, app_id] = ports();
    let mut balancer = example("load-balancer");
    // Of the whole file only the addresses change: this machine may have something at port 80.
    let marathon = format!("http://{}", cluster.marathon_address());
    let more = ["--http-port", "--https-port", "--admin-port", "--app-id-port"].into_iter();
    let more =
        more.zip([http, https, admin, app_id]).flat_map(|(flag, port)| [flag.to_owned(), port.to_string()]);
    let mut arguments: Vec<String> =
        ["sse", "-m", "http://127.0.0.1:1", "-m", &marathon].map(str::to_owned).into();
    arguments.extend(["--group", "external", "--lb-maxconn", "2000"].map(str::to_owned));
    arguments.extend(more);
    balancer["args"] = json!(arguments);
    balancer["healthChecks"][0]["port"] = json!(admin);
    balancer["healthChecks"][0]["intervalSeconds"] = json!(1);
    cluster.marathon("POST", "/v2/apps", &balancer);
    let mut nginx = example("nginx");
    if !engine::grants_privileges() {
        nginx["container"]["docker"]["privileged"] = json!(false);
    }
    cluster.marathon("POST", "/v2/apps", &nginx);
    cluster.settled("/nginx", 1);
    cluster.settled("/load-balancer", 1);
    cluster.wait_for("nginx is served by its host", || {
        get(http, "nginx.marathon.mesos", "/").map_err(|error| error.to_string())
    });
    assert!(get(http, "other.test", "/").is_err(), "another host is nobody's");
    let status = Http::new(format!("127.0.0.1:{admin}")).get("/_haproxy_health_check").unwrap();
    assert_eq!(status.status, 200);
    cluster.delete("/load-balancer");
    assert!(get(http, "nginx.marathon.mesos", "/").is_err(), "it has gone");
    cluster.delete("/nginx");
}
