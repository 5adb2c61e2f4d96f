//! Calls of frameworks on their way to the leader: through several gateways, and when the leader changes.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::join_all;
use meshos_gateway::Config;
use tonic::Status;

use crate::{
    client::{Response, send},
    scene::Scene,
};

const HEADERS: [(&str, &str); 2] = [("content-type", "application/json"), ("mesos-stream-id", "stream-1")];

async fn call(gateway: &str, kind: &str, framework: &str) -> Response {
    let body = format!(r#"{{"type":"{kind}","framework_id":{{"value":"{framework}"}},"accept":{{}}}}"#);
    send(gateway, "POST /api/v1/scheduler", &HEADERS, &body).await
}

#[tokio::test]
async fn calls_of_many_go_through_any_gateway_and_each_gets_its_own_answer() {
    let scene = Scene::new().await;
    let config = Config { listen: "second".to_owned(), ..Config::default() };
    let second = meshos_gateway::start(&scene.env, Arc::clone(&scene.store), config).await.unwrap();
    let gateways = [scene.mesos(), &second.mesos_address];
    let names: Vec<String> = (0..60).map(|number| format!("f{number}")).collect();
    let calls = names.iter().enumerate().map(|(at, name)| call(gateways[at % 2], "REVIVE", name));
    let answers = join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    let called = scene.allocator.calls.lock().unwrap().clone();
    assert_eq!(called.len(), 60);
    let each: BTreeSet<_> =
        names.iter().filter(|name| called.iter().any(|call| call.contains(&format!("\"{name}\"")))).collect();
    assert_eq!(each.len(), 60, "each call arrived once");

    // One refusal meets one of those that are under way at both, and it alone.
    scene.allocator.refuse(Status::permission_denied("Framework is not subscribed"));
    let answers = join_all((0..20).map(|at| call(gateways[at % 2], "REVIVE", "f"))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].status, refused[0].text()), (403, "Framework is not subscribed"));
    scene.stop().await;
}

#[tokio::test]
async fn a_call_whose_stream_broke_is_made_again_only_where_twice_is_as_once() {
    let scene = Scene::new().await;
    *scene.allocator.hang_ups.lock().unwrap() = 2;
    assert_eq!(call(scene.mesos(), "REVIVE", "f").await.status, 202);
    assert_eq!(scene.allocator.calls.lock().unwrap().len(), 1, "answered over the second stream");
    *scene.allocator.hang_ups.lock().unwrap() = 2;
    let broken = call(scene.mesos(), "ACCEPT", "f").await;
    assert_eq!(broken.status, 503);
    assert!(broken.text().contains("look at the state before you try again"), "{}", broken.text());
    assert_eq!(scene.allocator.calls.lock().unwrap().len(), 1);
    assert_eq!(call(scene.mesos(), "ACCEPT", "f").await.status, 202, "over a new stream");
    scene.stop().await;
}

#[tokio::test]
async fn calls_follow_the_lead() {
    let scene = Scene::new().await;
    let next = scene.another_allocator("allocator-2").await;
    assert_eq!(call(scene.mesos(), "ACCEPT", "f").await.status, 202);
    // The old leader does not lead any more, the new one is not known yet.
    scene.allocator.refuse(Status::unavailable("not leading"));
    let (answer, ()) = tokio::join!(call(scene.mesos(), "ACCEPT", "g"), async {
        while !scene.allocator.last_call().contains("\"g\"") {
            tokio::task::yield_now().await;
        }
        scene.lead_at("allocator", "allocator-2").await;
    });
    assert_eq!(answer.status, 202);
    assert_eq!(scene.allocator.calls.lock().unwrap().len() + next.calls.lock().unwrap().len(), 3);
    while next.calls.lock().unwrap().is_empty() {
        assert_eq!(call(scene.mesos(), "ACCEPT", "h").await.status, 202);
    }
    scene.stop().await;
}
