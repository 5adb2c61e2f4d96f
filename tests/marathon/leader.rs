//! A change of leader.

use crate::common::{c, cluster, ids};
use serde_json::json;

#[test]
fn marathon_c89_another_leader_finds_the_same_tasks() {
    let marathon = cluster();
    let before = ids(&marathon.run(&c("/a", json!({"instances": 3}))));
    let given_up = marathon.bare("DELETE", "/v2/leader");
    assert_eq!((given_up.status, given_up.json()["message"].clone()), (200, json!("Leadership abdicated")));
    let scaled = marathon.ask("PUT", "/v2/apps//a", &json!({"instances": 4}));
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    let after = ids(&marathon.settled("/a", 4));
    assert!(before.iter().all(|id| after.contains(id)));
}
