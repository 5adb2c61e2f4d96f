//! The stream of calls.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use meshos_proto::mesos::v1::scheduler::call::Type;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::support::{Cluster, Framework, PATIENCE, encoded};

fn said(answer: &Result<(), Status>) -> (Code, &str) {
    answer.as_ref().err().map_or((Code::Ok, ""), |status| (status.code(), status.message()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_together_are_taken_in_order_and_answered_each_by_itself() {
    let cluster = Cluster::start(1).await;
    let framework = Framework::subscribe(&cluster, None).await;
    let other = Framework::subscribe(&cluster, None).await;
    let (calls, id) = (framework.caller(), framework.id.as_str());
    let mut answers = Vec::new();
    for (stream, call) in [
        (framework.stream.as_str(), encoded(id, Type::Revive)),
        (framework.stream.as_str(), Bytes::from_static(b"\xff")),
        ("another", encoded(id, Type::Revive)),
        (other.stream.as_str(), encoded(&other.id, Type::Suppress)),
        (framework.stream.as_str(), encoded(id, Type::Teardown)),
        (framework.stream.as_str(), encoded(id, Type::Revive)),
        (other.stream.as_str(), encoded(&other.id, Type::Revive)),
    ] {
        answers.push(calls.send(stream, call, String::new()).await.unwrap());
    }
    let answers = join_all(answers.into_iter().map(|answer| async { answer.wait().await.map(drop) }));
    let answers = timeout(PATIENCE, answers).await.unwrap();
    let [first, unreadable, elsewhere, others, teardown, too_late, others_last] = &answers[..] else {
        panic!("{answers:?}")
    };
    for taken in [first, others, teardown, others_last] {
        assert_eq!(said(taken), (Code::Ok, ""));
    }
    let (code, text) = said(unreadable);
    assert!(code == Code::InvalidArgument && text.starts_with("the call cannot be decoded"), "{text}");
    let (code, text) = said(elsewhere);
    assert!(code == Code::InvalidArgument && text.contains("didn't match the stream ID"), "{text}");
    assert_eq!(said(too_late), (Code::InvalidArgument, "Framework cannot be found"));
    assert!(cluster.registry.framework(id).unwrap().removed, "durable when it was answered");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_when_the_leader_ends_are_answered_or_said_to_be_lost() {
    let mut cluster = Cluster::start(2).await;
    let framework = Framework::subscribe(&cluster, None).await;
    let calls = framework.caller();
    let (stream, id) = (framework.stream.clone(), framework.id.clone());
    let (told, first) = tokio::sync::oneshot::channel();
    let (go_on, asked) = (tokio_util::sync::CancellationToken::new(), calls.clone());
    let over = go_on.clone();
    cluster.env.tasks.spawn("calls", async move {
        let mut answers = Vec::new();
        while !over.is_cancelled() {
            for _ in 0..50 {
                let sent = asked.send(&stream, encoded(&id, Type::Revive), String::new()).await.unwrap();
                answers.push(sent);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = told.send(answers);
    });
    cluster.kill_leader().await;
    go_on.cancel();
    let answers = first.await.unwrap();
    for answer in answers {
        match timeout(PATIENCE, answer.wait()).await.expect("no call waits for ever") {
            Ok(_) => {}
            Err(status) => assert!(
                (status.code(), status.message()) == (Code::Unavailable, "not leading")
                    || (status.code(), status.message())
                        == (Code::PermissionDenied, "Framework is not subscribed")
                    || status.source().is_some(),
                "{status:?}"
            ),
        }
    }
    assert!(!said(&calls.call("", Bytes::new(), String::new()).await.map(drop)).1.is_empty());
    cluster.stop().await;
}
