//! A task is killed once the request that is under way at it has ended, or when that takes too long.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    thread::{self, JoinHandle},
};

use meshos_testing::wait::until_blocking;
use serde_json::{Value, json};

use crate::{Cluster, load, marathon};

/// Answers a dot now and then until there is a file `gate`, and then says that it has come to the end. It dies at once
/// when it is told to.
const SERVER: &str = "
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == '/slow':
            open(os.environ['DIR'] + '/started', 'w').close()
            while not os.path.exists(os.environ['DIR'] + '/gate'):
                self.wfile.write(b'.')
                self.wfile.flush()
                time.sleep(0.05)
        self.wfile.write(b'the end')
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT0'])), Handler).serve_forever()
";

fn app(dir: &Path) -> Value {
    json!({
        "id": "/slow",
        "cmd": "exec python3 -c \"$SERVER\"",
        "env": {"SERVER": SERVER, "DIR": dir},
        "cpus": 0.1,
        "mem": 128,
        "instances": 1,
        "portDefinitions": [{"port": 0, "protocol": "tcp"}],
        "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "slow.test"},
    })
}

/// Asks for what does not end by itself; everything that was answered.
fn ask(port: u16) -> JoinHandle<io::Result<String>> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: slow.test\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// A request is under way at the app's only task, which is to be killed and gets no others.
fn under_way(cluster: &Cluster) -> JoinHandle<io::Result<String>> {
    let dir = cluster.dir.path();
    cluster.marathon("POST", "/v2/apps", &app(dir));
    until_blocking("the app is served", || load::get(cluster.http, "slow.test", "/"));
    let request = ask(cluster.http);
    until_blocking("the request is under way", || {
        if dir.join("started").exists() { Ok(()) } else { Err("it has not begun") }
    });
    cluster.marathon("PUT", "/v2/apps//slow", &json!({"instances": 0}));
    until_blocking("the task gets nothing new", || match load::get(cluster.http, "slow.test", "/") {
        Err(error) if error.to_string().contains("503") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    request
}

fn a_request_under_way_ends_before_its_task_does(cluster: &Cluster) {
    let request = under_way(cluster);
    let app = cluster.marathon("GET", "/v2/apps//slow", &json!({}))["app"].clone();
    assert_eq!(app["tasks"][0]["state"], "TASK_RUNNING", "{app}");
    assert!(!request.is_finished());
    std::fs::write(cluster.dir.path().join("gate"), "").unwrap();
    let answer = request.join().unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.") && answer.ends_with("the end"), "{answer}");
    gone(cluster);
}

fn gone(cluster: &Cluster) {
    until_blocking("the task is gone", || {
        let app = cluster.marathon("GET", "/v2/apps//slow", &json!({}))["app"].clone();
        if app["tasks"] == json!([]) && app["deployments"] == json!([]) { Ok(()) } else { Err(app) }
    });
}

/// Longer than anybody waits for a test.
const LONG: [(&str, &str); 1] = [("MESHOS_LB_DRAIN_TIMEOUT", "3600000")];

#[test]
fn a_request_under_way_ends_before_its_task_is_killed() {
    a_request_under_way_ends_before_its_task_does(&Cluster::with(&LONG));
}

#[test]
fn a_request_under_way_ends_before_its_task_is_killed_where_the_api_alone_is_known() {
    let (cluster, _controller) = marathon::start(&LONG);
    a_request_under_way_ends_before_its_task_does(&cluster);
}

#[test]
fn a_request_that_does_not_end_is_waited_for_no_longer_than_the_limit() {
    let cluster = Cluster::with(&[("MESHOS_LB_DRAIN_TIMEOUT", "1000")]);
    let request = under_way(&cluster);
    gone(&cluster);
    // Cut off, however it shows.
    let answer = request.join().unwrap().unwrap_or_default();
    assert!(!answer.ends_with("the end"), "{answer}");
}
