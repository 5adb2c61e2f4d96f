//! Tasks that are about to be killed, for load balancers that know Marathon's API alone.

use std::time::Duration;

use meshos_proto::meshos::apps::v1::{Delta, Instance};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    client::{Stream, get, open, post, send},
    scene::{Scene, apps_delta},
};

const ACCEPT: [(&str, &str); 1] = [("accept", "text/event-stream")];

async fn next(stream: &mut Stream) -> Value {
    loop {
        let piece = stream.next().await.unwrap();
        let text = std::str::from_utf8(&piece).unwrap().trim();
        if let Some(data) = text.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

/// Confirmations that came to the app-scheduler.
async fn confirmed(scene: &Scene, count: usize) -> Vec<String> {
    loop {
        let calls = scene.apps.calls.lock().unwrap().clone();
        if calls.len() >= count {
            return calls;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn only_who_asks_for_events_is_waited_for() {
    let scene = Scene::new().await;
    assert_eq!(get(scene.marathon(), "/v2/leaving").await.status, 406);
    let html = [("accept", "text/html, */*")];
    assert_eq!(send(scene.marathon(), "GET /v2/leaving", &html, "").await.status, 406);
    assert!(scene.apps.calls.lock().unwrap().is_empty());
    scene.stop().await;
}

#[tokio::test]
async fn a_task_that_leaves_is_named_in_full_and_confirmed() {
    let scene = Scene::new().await;
    let instance =
        Instance { id: "i".into(), app_id: "/a".into(), task_id: "t".into(), ..Instance::default() };
    scene.apps.watch.publish(apps_delta(2, Delta { instances: vec![instance], ..Delta::default() }));
    let mut stream = open(scene.marathon(), "GET /v2/leaving", &ACCEPT, "").await;
    let id = next(&mut stream).await["id"].as_str().unwrap().to_owned();
    assert_eq!(confirmed(&scene, 1).await, ["ConfirmLeftRequest { instances: [] }"]);

    // It is gone by the same change.
    let gone = Delta {
        removed_instances: vec!["i".into()],
        leaving_instances: vec!["i".into(), "unknown".into()],
        ..Delta::default()
    };
    scene.apps.watch.publish(apps_delta(3, gone));
    let named = json!({"leaving": [
        {"app": "/a", "instance": "i", "task": "t"},
        {"app": "", "instance": "unknown", "task": ""},
    ]});
    assert_eq!(next(&mut stream).await, named);

    let line = format!("POST /v2/leaving/{id}");
    for body in [r#"{"instances": []}"#, r#"{"instances": ["i"]}"#] {
        assert_eq!(post(scene.marathon(), &line, body).await.status, 204);
    }
    let told = confirmed(&scene, 2).await;
    assert_eq!(told[1..], [r#"ConfirmLeftRequest { instances: ["i"] }"#], "an empty one is not passed on");
    assert_eq!(post(scene.marathon(), "POST /v2/leaving/1", r#"{"instances": []}"#).await.status, 404);
    scene.stop().await;
}
