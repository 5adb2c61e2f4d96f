//! Who dies is back, and who is away is waited for.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use meshos_proto::meshos::apps::v1::{App, Snapshot};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_went_while_nobody_knows_what_haproxy_runs_is_taken_out() {
    let mut scene = Scene::keeping().await;
    let (stays, goes) = (app("/stays", &[("HAPROXY_0_VHOST", "a.test")]), app("/goes", &[]));
    let task = scene.task("one").await;
    for app in [&stays, &goes] {
        scene.put(app);
        scene.run(app, &task);
    }
    scene.lb.served("a.test").await;
    scene.served(port_of(&goes, 0)).await;
    let env = scene.env.clone();
    scene.lb.stop_controller_keeping_haproxy().await;
    // As after an end in the middle of a reload.
    fs::write(scene.lb.dir.join("applied"), "something else").unwrap();
    scene.remove(&goes);
    scene.gone(&instance(&goes, "one", &[]));
    scene.lb.start_controller(&env).await;
    scene.unserved(port_of(&goes, 0)).await;
    scene.lb.served("a.test").await;
    let texts = texts(&scene.lb.dir);
    assert!(texts.contains("stays_") && !texts.contains("goes_"), "{texts}");
    scene.lb.stop_haproxy().await;
    scene.end().await;
}

fn app_files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir.join("apps")).unwrap().map(|entry| entry.unwrap().path())
}

/// What HAProxy reads of all apps.
fn texts(dir: &Path) -> String {
    app_files(dir).map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// With a HAProxy that starts only while there is a file `go` in the directory, and two apps that are served.
async fn with_late_haproxy(dir: &Path) -> (Scene, App, App) {
    fs::write(dir.join("go"), "").unwrap();
    let binary = dir.join("haproxy");
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' -c '*) ;; *) while [ ! -e {}/go ]; do sleep 0.02; done ;; esac\n\
         exec haproxy \"$@\"\n",
        dir.display()
    );
    fs::write(&binary, text).unwrap();
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
    let scene = Scene::with(&["--haproxy-binary", binary.to_str().unwrap()]).await;
    let (one, two) =
        (app("/one", &[("HAPROXY_0_VHOST", "a.test")]), app("/two", &[("HAPROXY_0_VHOST", "b.test")]));
    for app in [&one, &two] {
        scene.put(app);
        scene.run(app, &scene.task(&app.id).await);
    }
    scene.lb.served("a.test").await;
    scene.lb.served("b.test").await;
    scene.served(port_of(&two, 0)).await;
    scene.lb.reloads().await;
    (scene, one, two)
}

/// Kills HAProxy, which does not come back yet.
fn kill_haproxy(scene: &Scene, dir: &Path) {
    fs::remove_file(dir.join("go")).unwrap();
    kill(fs::read_to_string(scene.lb.dir.join("haproxy.pid")).unwrap().trim().parse().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_somebody_takes_while_haproxy_is_dead_takes_no_other_app_down() {
    let dir = tempfile::tempdir().unwrap();
    let (scene, one, two) = with_late_haproxy(dir.path()).await;
    kill_haproxy(&scene, dir.path());
    let number = port_of(&two, 0);
    let foreign = until("the port is free", || async { TcpListener::bind(("0.0.0.0", number)) }).await;
    fs::write(dir.path().join("go"), "").unwrap();
    scene.lb.served("a.test").await;
    scene.served(port_of(&one, 0)).await;
    assert!(scene.lb.problem(&number.to_string()).await.contains("held by another program"));
    scene.lb.served("b.test").await;
    drop(foreign);
    scene.served(number).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_haproxy_does_not_start_on_are_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (scene, _, two) = with_late_haproxy(dir.path()).await;
    kill_haproxy(&scene, dir.path());
    for path in app_files(&scene.lb.dir) {
        let text = fs::read_to_string(&path).unwrap();
        let damaged = text.replace("mode http", "mode hxxp");
        assert_ne!(damaged, text);
        fs::write(&path, damaged).unwrap();
    }
    fs::write(dir.path().join("go"), "").unwrap();
    scene.lb.served("a.test").await;
    scene.lb.served("b.test").await;
    scene.served(port_of(&two, 0)).await;
    assert!(!texts(&scene.lb.dir).contains("hxxp"));
    scene.end().await;
}
