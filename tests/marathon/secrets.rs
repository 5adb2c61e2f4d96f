//! Secrets from files.

use crate::common::{c, cluster_with};
use meshos_testing::wait::until_blocking;
use serde_json::json;

#[test]
fn a_secret_reaches_the_task_and_nobody_else() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("key"), "hunter2\n").unwrap();
    let shown = files.path().join("shown");
    let dir = files.path().to_str().unwrap();
    let environment = [("MARATHON_ENABLE_FEATURES", "secrets"), ("MESHOS_SECRETS_DIR", dir)];
    let marathon = cluster_with(&[], &environment);
    let with = |id: &str, source: &str| {
        let cmd = format!("printf %s \"$KEY\" > {} && sleep 1000", shown.display());
        let secrets = json!({"mine": {"source": source}});
        c(id, json!({"cmd": cmd, "env": {"KEY": {"secret": "mine"}, "B": "1"}, "secrets": secrets}))
    };
    let app = marathon.run(&with("/a", "key"));
    assert_eq!(app["env"], json!({"KEY": {"secret": "mine"}, "B": "1"}));
    assert_eq!(app["secrets"], json!({"mine": {"source": "key"}}));
    assert!(!app.to_string().contains("hunter2"));
    until_blocking("the task sees it", || match std::fs::read_to_string(&shown) {
        Ok(text) if text == "hunter2" => Ok(()),
        other => Err(other),
    });
    marathon.create(&with("/b", "nosuch"));
    let failed = marathon.app("/b", |app| app["lastTaskFailure"].is_object());
    let message = failed["lastTaskFailure"]["message"].as_str().unwrap();
    assert!(message.starts_with("the secret 'nosuch' cannot be read"), "{message}");
    let unknown = c("/c", json!({"env": {"KEY": {"secret": "other"}}}));
    let refused = marathon.ask("POST", "/v2/apps", &unknown);
    assert!(refused.text().contains("references an undefined secret named 'other'"), "{}", refused.text());
}

#[test]
fn secrets_are_a_feature_that_is_off_at_first() {
    let marathon = crate::common::cluster();
    let secrets = json!({"mine": {"source": "key"}});
    let refused = marathon.ask("POST", "/v2/apps", &c("/a", json!({"secrets": secrets})));
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("Feature secrets is not enabled."), "{}", refused.text());
}
