//! Who dies is back, and who is away is waited for.

use meshos_proto::meshos::apps::v1::Snapshot;

use crate::{
    client::{Load, get},
    scene::{Scene, app, instance, port_of, until},
};

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c42_without_the_scheduler_everything_stays_and_then_catches_up() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.test").await;
    let txn = meshos_store::Txn::new().delete("leaders/app-scheduler");
    scene.store.txn(txn).await.unwrap();
    {
        let mut state = scene.scheduler.0.lock().unwrap();
        state.cut();
    }
    until("it is known that nobody is followed", || async {
        let status = scene.lb.status().await;
        if !status.following && status.stale_since_ms > 0 { Ok(()) } else { Err(status.following) }
    })
    .await;
    assert_eq!(scene.lb.host("a.test", "/").await.task(), "one");
    let other = app("/other", &[("HAPROXY_0_VHOST", "b.test")]);
    scene.put(&other);
    scene.run(&other, &scene.task("two").await);
    scene.gone(&instance(&web, "one", &[]));
    scene.run(&web, &scene.task("three").await);
    let leader = meshos_proto::meshos::registry::v1::Leader {
        instance: "fake".to_owned(),
        address: "app-scheduler".to_owned(),
        epoch: 0,
    };
    let leader = prost::Message::encode_to_vec(&leader);
    scene.store.txn(meshos_store::Txn::new().put("leaders/app-scheduler", leader)).await.unwrap();
    scene.lb.served("b.test").await;
    until("the task is the new one", || async {
        let answer = scene.lb.host("a.test", "/").await;
        if answer.task() == "three" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c43_an_empty_list_is_believed_only_when_it_is_repeated() {
    let scene = Scene::new().await;
    let apps: Vec<_> =
        (0..10).map(|i| app(&format!("/app-{i}"), &[("HAPROXY_0_VHOST", &format!("h{i}.test"))])).collect();
    let task = scene.task("one").await;
    for app in &apps {
        scene.put(app);
        scene.run(app, &task);
    }
    for index in 0..10 {
        scene.lb.served(&format!("h{index}.test")).await;
    }
    let again = |empty: bool| {
        let mut state = scene.scheduler.0.lock().unwrap();
        if empty {
            state.snapshot = Snapshot::default();
        } else {
            state.once = Some(Snapshot::default());
        }
        state.cut();
        state.subscriptions
    };
    let before = again(false);
    until("it asks again", || async {
        let now = scene.scheduler.0.lock().unwrap().subscriptions;
        if now >= before + 2 { Ok(()) } else { Err(now) }
    })
    .await;
    for index in 0..10 {
        assert_eq!(scene.lb.host(&format!("h{index}.test"), "/").await.status, 200);
    }
    again(true);
    scene.lb.unserved("h5.test").await;
    assert_eq!(scene.lb.status().await.services.len(), 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c44_a_haproxy_that_dies_is_back_with_the_same_table() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    let first = scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.test").await;
    scene.run(&web, &scene.task("two").await);
    until("both answer", || async {
        let answer = scene.lb.host("a.test", "/").await;
        if answer.task() == "two" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    scene.gone(&first);
    until("one is gone", || async {
        let servers = scene.lb.status().await.services[0].servers.len();
        if servers == 1 { Ok(()) } else { Err(servers) }
    })
    .await;
    for _ in 0..3 {
        let worker = scene.lb.status().await.worker_pid;
        kill(worker);
        until("another worker runs", || async {
            let now = scene.lb.status().await.worker_pid;
            if now != worker && now != 0 { Ok(()) } else { Err(now) }
        })
        .await;
        for _ in 0..4 {
            assert_eq!(scene.lb.host("a.test", "/").await.task(), "two");
        }
        assert_eq!(get(port_of(&web, 0), "x", "/", &[]).await.unwrap().task(), "two");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c45_a_new_controller_takes_over_without_a_reload() {
    let mut scene = Scene::keeping().await;
    let apps: Vec<_> =
        (0..5).map(|i| app(&format!("/app-{i}"), &[("HAPROXY_0_VHOST", &format!("h{i}.test"))])).collect();
    let task = scene.task("one").await;
    for app in &apps {
        scene.put(app);
        scene.run(app, &task);
    }
    for index in 0..5 {
        scene.lb.served(&format!("h{index}.test")).await;
    }
    // Places in another order than a new controller would give them.
    let two = scene.task("two").await;
    scene.run(&apps[0], &two);
    scene.gone(&instance(&apps[0], "one", &[]));
    until("the second one answers", || async {
        let answer = scene.lb.host("h0.test", "/").await;
        if answer.task() == "two" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    let before = scene.lb.status().await;
    let load = Load::start(&scene.env, 5, true, scene.lb.http, "h0.test");
    let env = scene.env.clone();
    scene.lb.stop_controller_keeping_haproxy().await;
    assert_eq!(scene.lb.host("h1.test", "/").await.status, 200);
    scene.lb.start_controller(&env).await;
    until("it follows", || async {
        let status = scene.lb.status().await;
        if status.services.len() == 5 { Ok(()) } else { Err(status.services.len()) }
    })
    .await;
    let after = scene.lb.status().await;
    assert_eq!((after.worker_pid, after.reloads, after.repairs), (before.worker_pid, 0, 0));
    // It drives the same HAProxy: changes arrive.
    scene.run(&apps[1], &two);
    until("the new one is asked", || async {
        let answer = scene.lb.host("h1.test", "/").await;
        if answer.task() == "two" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(scene.lb.status().await.worker_pid, before.worker_pid);
    // And brings it back when it dies.
    kill(before.worker_pid);
    until("another worker runs", || async {
        let now = scene.lb.status().await.worker_pid;
        if now != before.worker_pid && now != 0 { Ok(()) } else { Err(now) }
    })
    .await;
    scene.lb.served("h4.test").await;
    scene.lb.stop_haproxy().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_haproxy_beside_is_driven_and_waited_for() {
    let (scene, sidecar) = Scene::beside().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    let task = scene.task("one").await;
    let one = scene.run(&web, &task);
    scene.lb.served("a.test").await;
    let reloads = scene.lb.reloads().await;
    scene.run(&web, &scene.task("two").await);
    scene.gone(&one);
    until("the second task is asked", || async {
        let answer = scene.lb.host("a.test", "/").await;
        if answer.task() == "two" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    assert_eq!(scene.lb.reloads().await, reloads);
    let master = std::fs::read_to_string(scene.lb.dir.join("haproxy.pid")).unwrap();
    kill(master.parse().unwrap());
    until("it is another one", || async {
        let now = std::fs::read_to_string(scene.lb.dir.join("haproxy.pid")).unwrap();
        if now == master { Err(now) } else { Ok(()) }
    })
    .await;
    assert_eq!(scene.lb.served("a.test").await.task(), "two");
    scene.end().await;
    drop(sidecar);
}
