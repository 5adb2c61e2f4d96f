//! The Marathon API.

use std::time::Duration;

use meshos_proto::meshos::apps::v1::{
    App, ChangeResponse, Condition, Delta, ErrorDetail, ErrorKind, Instance, KillTasksResponse,
};
use prost::Message;
use serde_json::json;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::{
    client::{get, post, send},
    scene::{Scene, apps_delta},
};

fn app(id: &str) -> App {
    App {
        id: id.to_owned(),
        cmd: Some("sleep 1".to_owned()),
        version_ms: 1_767_225_600_123,
        ..Default::default()
    }
}

fn change(id: &str, revision: u64, created: bool) -> ChangeResponse {
    let version_ms = 1_767_225_600_123;
    ChangeResponse {
        deployment_id: "d-1".to_owned(),
        version_ms,
        revision,
        apps: vec![app(id)],
        created,
        ..Default::default()
    }
}

fn task(app: &str, unique: &str) -> Instance {
    let id = format!("{}.instance-{unique}", app.trim_start_matches('/'));
    Instance {
        task_id: format!("{id}._app.1"),
        id,
        app_id: app.to_owned(),
        agent_id: "s".to_owned(),
        host: "h".to_owned(),
        condition: Condition::Running.into(),
        mesos_state: "TASK_RUNNING".to_owned(),
        ..Default::default()
    }
}

fn refusal(code: Code, kind: ErrorKind, message: &str) -> Status {
    let detail = ErrorDetail {
        kind: kind.into(),
        message: message.to_owned(),
        deployment_ids: vec!["d-0".to_owned()],
        ..Default::default()
    };
    Status::with_details(code, message, detail.encode_to_vec().into())
}

/// A scene with `/a` and one running task of it.
async fn with_app() -> Scene {
    let scene = Scene::new().await;
    *scene.apps.change.lock().unwrap() = change("/a", 2, false);
    let delta = Delta { apps: vec![app("/a")], instances: vec![task("/a", "1")], ..Default::default() };
    scene.apps.watch.publish(apps_delta(2, delta));
    while get(scene.marathon(), "/v2/apps//a").await.status == 404 {
        sleep(Duration::from_millis(5)).await;
    }
    scene
}

#[tokio::test]
async fn marathon_c01_a_creation_is_seen_by_the_next_read() {
    let scene = Scene::new().await;
    *scene.apps.change.lock().unwrap() = change("/a", 5, true);
    let publish = async {
        while scene.apps.last_call().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(100)).await;
        scene.apps.watch.publish(apps_delta(5, Delta { apps: vec![app("/a")], ..Default::default() }));
    };
    let body = r#"{"id":"/a","cmd":"sleep 1","version":"2026-01-01T00:00:00.000Z"}"#;
    let (reply, ()) = tokio::join!(post(scene.marathon(), "POST /v2/apps?force=true", body), publish);
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), format!("http://{}/a", scene.marathon()));
    assert_eq!(reply.header("marathon-deployment-id"), "d-1");
    assert_eq!(reply.json()["deployments"], json!([{"id": "d-1"}]));
    assert_eq!(reply.json()["tasksRunning"], 0);
    assert!(reply.json().get("tasks").is_none());
    let call = scene.apps.last_call();
    assert!(call.contains("force: true") && call.contains("version_ms: None"), "{call}");
    let shown = get(scene.marathon(), "/v2/apps//a").await;
    assert_eq!((shown.status, &shown.json()["app"]["id"]), (200, &json!("/a")));
    scene.stop().await;
}

#[tokio::test]
async fn every_reply_has_the_headers() {
    let scene = Scene::new().await;
    for path in ["/v2/apps", "/v2/nosuch", "/v2/apps/none", "/ping"] {
        let reply = get(scene.marathon(), path).await;
        assert_eq!(reply.header("cache-control"), "no-cache, no-store, must-revalidate", "{path}");
        assert_eq!((reply.header("pragma"), reply.header("expires")), ("no-cache", "0"));
        assert_eq!(reply.header("x-frame-options"), "DENY");
        assert_eq!(reply.header("x-marathon-leader"), format!("http://{}", scene.marathon()));
    }
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c02_c48_reads() {
    let scene = with_app().await;
    let address = scene.marathon();
    let list = get(address, "/v2/apps").await.json();
    assert_eq!((list["apps"][0]["tasksRunning"].clone(), list["apps"][0].get("tasks")), (json!(1), None));
    let list = get(address, "/v2/apps?embed=apps.tasks").await.json();
    assert_eq!(list["apps"][0]["tasks"][0]["id"], "a.instance-1._app.1");
    for path in ["/v2/apps/a", "/v2/apps//a", "/v2/apps/%2Fa"] {
        assert_eq!(get(address, path).await.json()["app"]["tasks"][0]["host"], "h", "{path}");
    }
    assert_eq!(get(address, "/v2/apps/a/tasks").await.json()["tasks"][0]["state"], "TASK_RUNNING");
    assert_eq!(get(address, "/v2/tasks").await.json()["tasks"][0]["servicePorts"], json!([]));
    assert_eq!(get(address, "/v2/deployments").await.json(), json!([]));
    assert_eq!(get(address, "/v2/queue").await.json(), json!({"queue": []}));
    assert_eq!(get(address, "/v2/leader").await.json(), json!({"leader": address}));
    assert_eq!(get(address, "/v2/info").await.json()["name"], "marathon");
    assert_eq!(get(address, "/v2/groups").await.json()["apps"][0]["id"], "/a");
    assert_eq!(get(address, "/v2/plugins").await.json(), json!({"plugins": []}));
    assert_eq!(get(address, "/metrics").await.json()["gauges"]["marathon.apps.active.gauge"]["value"], 1.0);
    assert_eq!(get(address, "/metrics/prometheus").await.status, 200);
    assert_eq!(get(address, "/ping").await.text(), "pong");
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c38_what_does_not_exist() {
    let scene = with_app().await;
    let address = scene.marathon();
    for (line, message) in [
        ("GET /v2/apps/x", "App '/x' does not exist"),
        ("GET /v2/apps/x/tasks", "App '/x' does not exist"),
        ("DELETE /v2/apps/x/tasks/t", "App '/x' does not exist"),
        ("DELETE /v2/apps/a/tasks/t", "Task 't' does not exist"),
        ("GET /v2/groups/x", "Group '/x' does not exist"),
        ("GET /v2/nosuch", "URI not found"),
    ] {
        let reply = send(address, line, &[], "").await;
        assert_eq!((reply.status, reply.json()), (404, json!({"message": message})), "{line}");
    }
    assert_eq!(send(address, "POST /v2/apps/a", &[], "{}").await.status, 405);
    assert_eq!(
        send(address, "DELETE /v2/info", &[], "").await.json(),
        json!({"message": "Method Not Allowed"})
    );
    assert_eq!(get(address, "/v2/pods").await.status, 501);
    assert!(scene.apps.calls.lock().unwrap().is_empty());
    scene.stop().await;
}

#[tokio::test]
async fn updates_say_what_they_mean() {
    let scene = with_app().await;
    let address = scene.marathon();
    for (line, body, wanted) in [
        ("PUT /v2/apps//a", r#"{"id":"/other","instances":3}"#, "force: false, partial: true, create: true"),
        (
            "PUT /v2/apps/a?partialUpdate=false&force=true",
            r#"{"cmd":"x"}"#,
            "force: true, partial: false, create: true",
        ),
        ("PATCH /v2/apps/a", r#"{"cmd":"x"}"#, "force: false, partial: true, create: false"),
        ("PATCH /v2/apps", r#"[{"id":"/a","cmd":"x"}]"#, "partial: true, create: false"),
        ("PUT /v2/apps", r#"[{"id":"/a","cmd":"x"}]"#, "partial: true, create: true"),
    ] {
        let reply = post(address, line, body).await;
        assert_eq!(reply.status, 200, "{line}: {}", reply.text());
        assert_eq!(reply.json(), json!({"version": "2026-01-01T00:00:00.123Z", "deploymentId": "d-1"}));
        assert_eq!(reply.header("marathon-deployment-id"), "d-1");
        let call = scene.apps.last_call();
        assert!(call.contains(wanted) && call.contains("id: Some(\"/a\")"), "{line}: {call}");
    }
    *scene.apps.change.lock().unwrap() = change("/a", 2, true);
    assert_eq!(post(address, "PUT /v2/apps/a", r#"{"cmd":"x"}"#).await.status, 201);
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c34_deletion_is_forced_by_default_and_restart_is_not() {
    let scene = with_app().await;
    let address = scene.marathon();
    for (line, wanted) in [
        ("DELETE /v2/apps//a", "DeleteAppRequest { id: \"/a\", force: true }"),
        ("DELETE /v2/apps//a?force=false", "DeleteAppRequest { id: \"/a\", force: false }"),
        ("POST /v2/apps//a/restart", "RestartAppRequest { id: \"/a\", force: false, limits: None }"),
        (
            "POST /v2/apps//a/restart?force=true",
            "RestartAppRequest { id: \"/a\", force: true, limits: None }",
        ),
    ] {
        let reply = send(address, line, &[], "").await;
        assert_eq!((reply.status, scene.apps.last_call().as_str()), (200, wanted));
        assert_eq!(reply.json()["deploymentId"], "d-1");
    }
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c03_c32_conflicts() {
    let scene = with_app().await;
    let address = scene.marathon();
    let exists = "An app with id [/a] already exists.";
    scene.apps.refuse(refusal(Code::AlreadyExists, ErrorKind::Conflict, exists));
    let reply = post(address, "POST /v2/apps", r#"{"id":"/a","cmd":"x"}"#).await;
    assert_eq!((reply.status, reply.json()), (409, json!({"message": exists})));
    scene.apps.refuse(refusal(Code::Aborted, ErrorKind::Locked, "App is locked"));
    let reply = post(address, "PUT /v2/apps/a", r#"{"instances":2}"#).await;
    assert_eq!(reply.status, 409);
    assert_eq!(reply.json(), json!({"message": "App is locked", "deployments": [{"id": "d-0"}]}));
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c04_c06_unreadable_definitions_never_reach_the_scheduler() {
    let scene = with_app().await;
    let address = scene.marathon();
    for (body, status, message) in [
        ("", 400, "Please specify data in JSON format"),
        (r#"{"id":"#, 400, "Invalid JSON"),
        (r#"{"id":123}"#, 422, "Invalid JSON"),
        (r#"{"cmd":"x"}"#, 422, "Invalid JSON"),
    ] {
        let reply = post(address, "POST /v2/apps", body).await;
        assert_eq!((reply.status, reply.json()["message"].as_str().unwrap()), (status, message), "{body}");
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(send(address, "POST /v2/apps", &form, "{}").await.status, 415);
    assert!(scene.apps.calls.lock().unwrap().is_empty());
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c39_to_c44_kills() {
    let scene = with_app().await;
    let address = scene.marathon();
    let killed = KillTasksResponse { instances: vec![task("/a", "1")], deployment: None, revision: 2 };
    *scene.apps.killed.lock().unwrap() = killed.clone();
    let one = send(address, "DELETE /v2/apps/a/tasks/a.instance-1._app.1?wipe=true", &[], "").await;
    assert_eq!((one.status, &one.json()["task"]["id"]), (200, &json!("a.instance-1._app.1")));
    assert!(scene.apps.last_call().contains("wipe: true"));
    let all = send(address, "DELETE /v2/apps//a/tasks?host=h", &[], "").await;
    assert_eq!(all.json()["tasks"][0]["appId"], "/a");
    assert!(scene.apps.last_call().contains("app_id: Some(\"/a\"), host: Some(\"h\")"));
    let body = r#"{"ids":["a.instance-1._app.1"]}"#;
    assert_eq!(post(address, "POST /v2/tasks/delete", body).await.json()["tasks"][0]["host"], "h");
    let both = post(address, "POST /v2/tasks/delete?scale=true&wipe=true", body).await;
    assert_eq!(
        (both.status, both.json()["message"].as_str()),
        (400, Some("You cannot use scale and wipe at the same time."))
    );
    let bogus = post(address, "POST /v2/tasks/delete", r#"{"ids":["bogus"]}"#).await;
    assert_eq!(bogus.status, 400);
    assert!(bogus.json()["message"].as_str().unwrap().starts_with("Invalid task id 'bogus'"));
    let scaled = KillTasksResponse { deployment: Some(change("/a", 2, false)), ..killed };
    *scene.apps.killed.lock().unwrap() = scaled;
    let reply = send(address, "DELETE /v2/apps/a/tasks?scale=true", &[], "").await;
    assert_eq!(
        (&reply.json()["deploymentId"], reply.header("marathon-deployment-id")),
        (&json!("d-1"), "d-1")
    );
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c35_to_c37_deployments_and_delays() {
    let scene = with_app().await;
    let address = scene.marathon();
    let rollback = send(address, "DELETE /v2/deployments/d-0", &[], "").await;
    assert_eq!((rollback.status, &rollback.json()["deploymentId"]), (200, &json!("d-1")));
    let forced = send(address, "DELETE /v2/deployments/d-0?force=true", &[], "").await;
    assert_eq!((forced.status, forced.text()), (202, ""));
    let message = "DeploymentPlan nope does not exist";
    scene.apps.refuse(refusal(Code::NotFound, ErrorKind::NotFound, message));
    let unknown = send(address, "DELETE /v2/deployments/nope", &[], "").await;
    assert_eq!((unknown.status, unknown.json()), (404, json!({"message": message})));
    let delay = send(address, "DELETE /v2/queue//a/delay", &[], "").await;
    assert_eq!((delay.status, delay.text()), (204, ""));
    assert_eq!(scene.apps.last_call(), "ResetDelayRequest { app_id: \"/a\" }");
    scene.stop().await;
}

#[tokio::test]
async fn marathon_c30_versions() {
    let scene = with_app().await;
    let address = scene.marathon();
    let version = "2026-01-01T00:00:00.123Z";
    assert_eq!(get(address, "/v2/apps//a/versions").await.json(), json!({"versions": [version]}));
    let one = get(address, &format!("/v2/apps//a/versions/{version}")).await;
    assert_eq!((one.json()["id"].as_str(), one.json().get("app")), (Some("/a"), None));
    let unknown = get(address, "/v2/apps//a/versions/2020-01-01T00:00:00.000Z").await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.json()["message"].as_str().unwrap().starts_with("App '/a' does not exist in version 2020")
    );
    assert_eq!(get(address, "/v2/apps//a/versions/x").await.status, 422);
    scene.stop().await;
}
