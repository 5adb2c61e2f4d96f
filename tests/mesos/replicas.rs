//! Several gateways before one cluster: a framework's stream at one of them, its calls at another.

use meshos_testing::{Cluster, ClusterOptions, EventStream, Http, wait::PATIENCE};
use serde_json::{Value, json};

use crate::support::{Framework, JSON, SCHEDULER, eventually, info, task};

/// Two gateways, one agent.
async fn two_gateways() -> Cluster {
    let options = ClusterOptions { app_scheduler: false, gateways: 2, ..ClusterOptions::default() };
    Cluster::start(&options).await
}

/// Runs what blocks beside the cluster, which lives in this process.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn operator(mesos: &Http) -> EventStream {
    let mut stream =
        EventStream::open(mesos, ("POST", "/api/v1"), &[JSON], br#"{"type":"SUBSCRIBE"}"#).unwrap();
    assert_eq!(stream.event(PATIENCE).unwrap().unwrap()["type"], "SUBSCRIBED");
    stream
}

fn next_of(stream: &mut EventStream, kind: &str) -> Value {
    loop {
        let event = stream.event(PATIENCE).unwrap().expect("the stream goes on");
        if event["type"] == kind {
            return event;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_come_in_at_another_gateway_than_the_stream() {
    let cluster = two_gateways().await;
    let [first, second] = [0, 1].map(|number| cluster.gateways[number].mesos.clone());
    aside(move || {
        let mut watcher = operator(&second);
        let mut framework = Framework::subscribe(&first, &info(json!({})));
        let offer = framework.offer();
        framework.calls_go_to(&second);
        framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
        framework.until("t", "TASK_RUNNING");
        assert_eq!(next_of(&mut watcher, "TASK_ADDED")["task_added"]["task"]["task_id"]["value"], "t");
        for gateway in [&first, &second] {
            eventually("each gateway shows it", || {
                let tasks = gateway.get("/tasks").unwrap().json();
                if tasks["tasks"][0]["state"] == "TASK_RUNNING" { Ok(()) } else { Err(tasks) }
            });
        }
        let wrong = framework.call_with("REVIVE", json!({}), &[JSON, ("Mesos-Stream-Id", "x")]);
        assert_eq!(wrong.status, 400, "{}", wrong.text());
        framework.kill("t");
        framework.until("t", "TASK_KILLED");
        assert_eq!(next_of(&mut watcher, "TASK_UPDATED")["task_updated"]["state"], "TASK_STARTING");
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_reads_its_own_writes_and_others_soon_do() {
    let cluster = two_gateways().await;
    let [first, second] = [0, 1].map(|number| cluster.gateways[number].mesos.clone());
    aside(move || {
        for weight in 1..30 {
            let wanted = json!([{"weight": f64::from(weight), "role": "eng"}]);
            let put = first.json("PUT", "/weights", &wanted).unwrap();
            assert_eq!((put.status, put.text().as_str()), (200, ""));
            assert_eq!(first.get("/weights").unwrap().json(), wanted, "at once");
            eventually("the other gateway follows", || {
                let shown = second.get("/weights").unwrap().json();
                if shown == wanted { Ok(()) } else { Err(shown) }
            });
        }
        let framework = Framework::subscribe(&first, &info(json!({"failover_timeout": 0})));
        eventually("it is seen", || {
            let shown = second.get("/frameworks").unwrap().json()["frameworks"].clone();
            if shown[0]["id"] == framework.id.as_str() { Ok(()) } else { Err(shown) }
        });
        let form = format!("frameworkId={}", framework.id);
        let gone = second.send("POST", "/teardown", &[], form.as_bytes()).unwrap();
        assert_eq!((gone.status, gone.text().as_str()), (200, ""));
        let shown = second.get("/frameworks").unwrap().json();
        assert_eq!(
            (&shown["frameworks"], &shown["completed_frameworks"][0]["id"]),
            (&json!([]), &json!(framework.id))
        );
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_framework_goes_on_at_another_gateway_when_its_own_ends() {
    let cluster = two_gateways().await;
    let [first, second] = [0, 1].map(|number| cluster.gateways[number].mesos.clone());
    let mut framework = aside(move || {
        let mut framework = Framework::subscribe(&first, &info(json!({})));
        let offer = framework.offer();
        framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
        framework.until("t", "TASK_RUNNING");
        framework
    })
    .await;
    cluster.gateways[0].stop().await;
    aside(move || {
        while framework.events.event(PATIENCE).unwrap().is_some() {}
        let again = info(json!({"id": {"value": framework.id}}));
        let mut back = Framework::subscribe(&second, &again);
        assert_eq!(back.id, framework.id);
        back.tell("RECONCILE", json!({"tasks": []}));
        let status = back.update();
        assert_eq!((&status["task_id"]["value"], &status["state"]), (&json!("t"), &json!("TASK_RUNNING")));
        // The stream of before is none any more.
        let old = [JSON, ("Mesos-Stream-Id", framework.stream_id.as_str())];
        let call = json!({"type": "REVIVE", "framework_id": {"value": framework.id}}).to_string();
        assert_eq!(second.send("POST", SCHEDULER, &old, call.as_bytes()).unwrap().status, 400);
    })
    .await;
    cluster.stop().await;
}
