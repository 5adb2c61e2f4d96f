//! Killing tasks.

use crate::common::{c, cluster, ids, instance, message};
use serde_json::json;

#[test]
fn marathon_c39_c40_c41_a_killed_task_is_followed_unless_scaled_away() {
    let marathon = cluster();
    let before = ids(&marathon.run(&c("/a", json!({"instances": 2}))));
    let killed = marathon.bare("DELETE", &format!("/v2/apps//a/tasks/{}", before[0]));
    assert_eq!((killed.status, &killed.json()["task"]["id"]), (200, &json!(before[0])), "c39");
    let next = format!("{}._app.2", instance(&before[0]));
    let app = marathon.app("/a", |app| app["tasksRunning"] == 2 && ids(app).contains(&next));
    assert_eq!(app["instances"], 2, "c39");

    let scaled = marathon.bare("DELETE", &format!("/v2/apps//a/tasks/{next}?scale=true"));
    assert_eq!(scaled.status, 200);
    assert!(scaled.json()["deploymentId"].is_string(), "c40");
    let one = marathon.settled("/a", 1);
    assert_eq!((&one["instances"], ids(&one)), (&json!(1), vec![before[1].clone()]), "c40");

    assert_eq!(marathon.bare("DELETE", &format!("/v2/apps//a/tasks/{}?wipe=true", before[1])).status, 200);
    let wiped = marathon.app("/a", |app| app["tasksRunning"] == 1 && !ids(app).contains(&before[1]));
    let successor = ids(&wiped)[0].clone();
    assert_ne!(instance(&successor), instance(&before[1]), "c41");
    assert!(successor.ends_with("._app.1"), "c41");
}

#[test]
fn marathon_c42_c43_odd_kills_are_refused_or_ignored() {
    let marathon = cluster();
    marathon.run(&c("/a", json!({})));
    let both = marathon.bare("DELETE", "/v2/apps//a/tasks?scale=true&wipe=true");
    let text = "You cannot use scale and wipe at the same time.";
    assert_eq!(message(&both), (400, text.to_owned()), "c42");
    let (status, text) = message(&marathon.ask("POST", "/v2/tasks/delete", &json!({"ids": ["bogus"]})));
    assert!(status == 400 && text.starts_with("Invalid task id 'bogus'"), "c43");
    let unknown = json!({"ids": ["a.instance-00000000-0000-0000-0000-000000000000._app.1"]});
    let ignored = marathon.ask("POST", "/v2/tasks/delete", &unknown);
    assert_eq!((ignored.status, ignored.json()), (200, json!({"tasks": []})));
    // The only host is this one.
    let none = marathon.bare("DELETE", "/v2/apps//a/tasks?host=elsewhere");
    assert_eq!((none.status, none.json()), (200, json!({"tasks": []})), "c44");
}
