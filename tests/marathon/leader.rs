//! A change of leader.

use crate::common::{c, cluster, ids};
use meshos_testing::{ClusterOptions, wait::until_blocking};
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

#[test]
fn marathon_c90_leaders_that_go_again_and_again_lose_and_double_nothing() {
    let marathon = cluster();
    marathon.run(&c("/a", json!({"instances": 8})));
    for round in 0..20 {
        let change = json!({"cmd": format!("sleep {}", 1000 + round), "instances": 5 + round % 4});
        until_blocking("the change is taken", || {
            let changed = marathon.ask("PUT", "/v2/apps//a?force=true", &change);
            if changed.status == 200 { Ok(()) } else { Err(changed.text()) }
        });
        until_blocking("somebody leads", || {
            let given_up = marathon.bare("DELETE", "/v2/leader");
            if given_up.status == 200 { Ok(()) } else { Err(given_up.text()) }
        });
    }
    let wanted = 5 + 19 % 4;
    let app = marathon.settled("/a", wanted);
    assert_eq!(app["cmd"], "sleep 1019");
    let shown = ids(&app);
    until_blocking("exactly what is shown runs", || {
        let state = marathon.mesos().get("/tasks?limit=1000").unwrap().json();
        let tasks = state["tasks"].as_array().unwrap().iter();
        let running = tasks.filter(|task| task["state"] == "TASK_RUNNING");
        let mut running: Vec<_> = running.map(|task| task["id"].as_str().unwrap().to_owned()).collect();
        running.sort();
        if running == shown { Ok(()) } else { Err(running) }
    });
}

#[test]
fn marathon_c87_c88_every_node_answers_as_the_leader() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = ClusterOptions { gateways: 3, ..ClusterOptions::default() };
    let cluster = runtime.block_on(meshos_testing::Cluster::start(&options));
    let nodes: Vec<_> = cluster.gateways.iter().map(|gateway| &gateway.marathon).collect();
    until_blocking("all nodes know each other", || {
        let bodies: Vec<_> = nodes.iter().map(|node| node.get("/v2/leader").unwrap().text()).collect();
        if bodies.iter().all(|body| *body == bodies[0]) { Ok(()) } else { Err(bodies) }
    });
    let addresses: Vec<_> = nodes.iter().map(|node| format!("http://{}", node.address)).collect();
    for (number, node) in nodes.iter().enumerate() {
        let root = node.get("/").unwrap();
        assert_eq!((root.status, root.header("location")), (302, Some("/ui/")), "c87");
        assert_eq!(node.get("/v2/info").unwrap().json()["elected"], true);
        let created = node.json("POST", "/v2/apps", &c(&format!("/a{number}"), json!({}))).unwrap();
        assert_eq!(created.status, 201, "c88: {}", created.text());
        // Which one: a busy machine may take it for gone for a moment.
        let leader = created.header("x-marathon-leader").unwrap().to_owned();
        assert!(addresses.contains(&leader), "c88: {leader}");
        let own = node.get(&format!("/v2/apps//a{number}")).unwrap();
        assert_eq!(own.status, 200, "c88: a client reads its own writes");
    }
    runtime.block_on(cluster.stop());
}
