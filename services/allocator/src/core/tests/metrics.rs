//! Metrics: names of a real master, and what they count.

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{self as pb, TaskState};

use super::{super::*, harness::*};

/// What other services and the shell around the core count.
const ELSEWHERE: [&str; 8] = [
    "registrar/",
    "system/",
    "allocator/mesos/allocation_run_",
    "allocator/mesos/quota/",
    "allocator/mesos/roles/ops",
    "master/event_queue_messages",
    "master/http_cache_hits",
    "master/operator_event_stream_subscribers",
];

/// The name without what is a framework's own.
fn common(name: &str) -> String {
    let Some(rest) = name.strip_prefix("master/frameworks/") else { return name.to_owned() };
    let parts = rest.splitn(3, '/').nth(2).unwrap();
    let role = parts.strip_prefix("roles/").and_then(|rest| rest.rsplit_once('/'));
    role.map_or_else(|| format!("FRAMEWORK/{parts}"), |(_, last)| format!("FRAMEWORK/roles/ROLE/{last}"))
}

/// Names that tell a cause come with the first task of that cause.
fn tells_a_cause(name: &str) -> bool {
    name.contains("/source_")
}

#[test]
fn the_names_are_those_of_a_real_master() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../../gateway/tests/golden/master_metrics_snapshot.json"))
            .unwrap();
    let golden: BTreeSet<String> = golden.as_object().unwrap().keys().map(|name| common(name)).collect();
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    for role in ["eng", "ops"] {
        #[allow(deprecated, reason = "single-role frameworks use the field `role`")]
        cluster.subscribe(pb::FrameworkInfo { role: Some(role.to_owned()), ..info("golden") });
    }
    let ours: BTreeSet<String> = cluster.core.metrics().keys().map(|name| common(name)).collect();
    let expected = |name: &&String| {
        !tells_a_cause(name) && !ELSEWHERE.iter().any(|elsewhere| name.starts_with(elsewhere))
    };
    let missing: Vec<_> = golden.difference(&ours).filter(expected).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let invented: Vec<_> = ours.difference(&golden).filter(expected).collect();
    assert!(invented.is_empty(), "{invented:#?}");
}

#[test]
fn a_task_is_counted_in_each_state_and_by_its_cause() {
    let about = pb::FrameworkInfo { principal: Some("me".to_owned()), ..info("a b") };
    let (mut cluster, framework, link) = Harness::with_running_task(about);
    let of = |name: &str| format!("master/frameworks/a%20b/{}/{name}", framework.0);
    let metrics = cluster.core.metrics();
    assert_eq!((metrics["master/tasks_running"], metrics[&of("tasks/active/task_running")]), (1.0, 1.0));
    assert_eq!((metrics[&of("subscribed")], metrics[&of("calls/accept")]), (1.0, 1.0));
    assert_eq!((metrics[&of("operations")], metrics[&of("operations/launch")]), (1.0, 1.0));
    assert_eq!((metrics[&of("offers/sent")], metrics[&of("offers/accepted")]), (1.0, 1.0));
    assert_eq!(metrics[&of("events")], metrics[&of("events/update")] + 3.0, "subscribed, heartbeat, offers");
    assert_eq!(metrics[&of("roles/*/suppressed")], 0.0);

    cluster.update(link, &framework.0, "t1", TaskState::TaskFinished, 2);
    cluster.update(link, &framework.0, "t1", TaskState::TaskFinished, 2);
    cluster.acknowledge(&framework, "s1", "t1", 2);
    cluster.advance(6_000);
    let offer = cluster.take_offers(&framework.1).pop().unwrap();
    cluster.accept(&framework, &[&offer], vec![launch(vec![task("t2", "s1", "cpus:9")])]);
    cluster.input(Input::Teardown { framework: framework.0.clone() });
    let metrics = cluster.core.metrics();
    assert_eq!((metrics["master/tasks_running"], metrics["master/tasks_finished"]), (0.0, 1.0));
    assert_eq!(metrics["master/messages_status_update"], 3.0);
    assert_eq!(metrics["master/task_error/source_master/reason_task_invalid"], 1.0);
    // It is over, and remembered.
    assert_eq!((metrics[&of("subscribed")], metrics[&of("tasks/active/task_running")]), (0.0, 0.0));
    assert_eq!(
        (metrics[&of("tasks/terminal/task_finished")], metrics[&of("tasks/terminal/task_error")]),
        (1.0, 1.0)
    );
    assert_eq!(metrics["frameworks/me/messages_received"], metrics[&of("calls")]);
}

#[test]
fn frameworks_need_not_have_metrics_of_their_own() {
    let mut cluster = Harness::with(CoreConfig { framework_metrics: false, ..config() });
    cluster.subscribe(info("a"));
    assert!(!cluster.core.metrics().keys().any(|name| name.starts_with("master/frameworks/")));
}
