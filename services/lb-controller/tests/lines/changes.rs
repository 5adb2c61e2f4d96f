//! What changes while requests are under way.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use meshos_proto::meshos::apps::v1::Delta;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{get, read_answer},
    scene::{Scene, app, app_at, label, port, port_of, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c33_a_request_under_way_ends_before_its_task_is_let_go() {
    let mut scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    let task = scene.task("one").await;
    let one = scene.run(&web, &task);
    let second = scene.task("two").await;
    let two = scene.run(&web, &second);
    scene.lb.served("a.test").await;
    // Until the task in question has one: the other may get some of them.
    let mut slow = Vec::new();
    while task.busy.load(Ordering::SeqCst) == 0 {
        let http = scene.lb.http;
        #[allow(clippy::disallowed_methods, reason = "awaited below")]
        slow.push(tokio::spawn(async move { get(http, "a.test", "/?hold", &[]).await }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.scheduler.change(Delta { leaving_instances: vec![one.id.clone()], ..Delta::default() });
    // Reloads do not hurt it either; nobody waits for a task that has nothing.
    let other = app("/other", &[]);
    scene.put(&other);
    scene
        .scheduler
        .change(Delta { leaving_instances: vec!["other.instance-unknown".into()], ..Delta::default() });
    assert_eq!(scene.confirmed.recv().await.unwrap(), "other.instance-unknown");
    assert!(scene.confirmed.try_recv().is_err(), "it is not confirmed while a request is under way");
    task.release();
    second.release();
    assert_eq!(scene.confirmed.recv().await.unwrap(), one.id);
    assert_eq!(task.busy.load(Ordering::SeqCst), 0);
    for request in slow {
        assert_eq!(request.await.unwrap().unwrap().status, 200);
    }
    let hits = task.hits();
    for _ in 0..10 {
        assert_eq!(scene.lb.host("a.test", "/").await.task(), "two");
    }
    assert_eq!(task.hits(), hits);
    scene.gone(&two);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c34_a_websocket_outlives_reloads_up_to_the_limit() {
    let scene = Scene::with(&["--hard-stop-after=10s"]).await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.test").await;
    let mut socket = TcpStream::connect(("127.0.0.1", scene.lb.http)).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut socket).await.unwrap().status, 101);
    for round in 0..2 {
        let before = scene.lb.status().await.reloads;
        scene.put(&app(&format!("/other-{round}"), &[]));
        until("it is reloaded", || async {
            let now = scene.lb.status().await.reloads;
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
        socket.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    }
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(120), socket.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is cut at the limit");
    scene.lb.calm().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c39_a_port_that_somebody_else_holds_is_left_out_until_it_is_free() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.test").await;
    let load = crate::client::Load::start(&scene.env, 5, false, scene.lb.http, "a.test");
    let number = port();
    let foreign = std::net::TcpListener::bind(("0.0.0.0", number)).unwrap();
    let taken = app_at("/taken", &[number], &[("HAPROXY_0_VHOST", "t.test")]);
    scene.put(&taken);
    scene.run(&taken, &scene.task("two").await);
    assert!(scene.lb.problem(&number.to_string()).await.contains("held by another program"));
    scene.lb.served("t.test").await;
    drop(foreign);
    scene.served(number).await;
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(scene.lb.status().await.failed_reloads, 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c40_of_two_apps_with_one_port_the_older_one_has_it() {
    let scene = Scene::new().await;
    let number = port();
    let (old, new) = (app_at("/z-old", &[number], &[]), app_at("/a-new", &[number], &[]));
    for app in [&new, &old] {
        scene.put(app);
        scene.run(app, &scene.task(&app.id).await);
    }
    let problem = scene.lb.problem(&format!("service port {number} is taken")).await;
    scene.served(number).await;
    let loser = if problem.starts_with("/a-new") { "/a-new" } else { "/z-old" };
    let winner = if loser == "/a-new" { "/z-old" } else { "/a-new" };
    for _ in 0..100 {
        assert_eq!(get(number, "x", "/", &[]).await.unwrap().task(), winner);
    }
    // Who has it keeps it until it goes.
    scene.remove(if winner == "/z-old" { &old } else { &new });
    until("the other one gets it", || async {
        match get(number, "x", "/", &[]).await {
            Ok(answer) if answer.task() == loser => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_balancers_own_port_is_not_given_away_and_the_host_works() {
    let scene = Scene::new().await;
    let web = app_at("/nginx", &[scene.lb.http], &[("HAPROXY_0_VHOST", "nginx.marathon.mesos")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    assert_eq!(scene.lb.served("nginx.marathon.mesos").await.task(), "one");
    assert!(scene.lb.problem("/nginx").await.contains("the load balancer's own"));
    assert_eq!(scene.lb.host("other.test", "/").await.status, 503);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_move_without_a_reload_and_many_of_them_at_once() {
    let scene = Scene::new().await;
    let many: Vec<String> = (0..2000).map(|index| format!("h{index}.test")).collect();
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.test").await;
    let reloads = scene.lb.reloads().await;
    scene.put(&label(&web, "HAPROXY_0_VHOST", &many.join(",")));
    scene.lb.served("h0.test").await;
    scene.lb.served("h1999.test").await;
    scene.lb.unserved("a.test").await;
    scene.put(&label(&label(&web, "HAPROXY_0_VHOST", "b.test"), "HAPROXY_0_PATH", "/x;y"));
    until("the path is served", || async {
        let status = scene.lb.host("b.test", "/x;y").await.status;
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
    scene.lb.unserved("h0.test").await;
    assert_eq!(scene.lb.status().await.reloads, reloads);
    scene.end().await;
}

/// A HAProxy that looks at texts only while there is a file `go` in the directory.
fn hesitant_haproxy(dir: &Path) -> PathBuf {
    let path = dir.join("haproxy");
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' -c '*) cd {} && touch asked\nwhile [ ! -e go ]; do sleep 0.02; done ;; esac\n\
         exec haproxy \"$@\"\n",
        dir.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_comes_while_haproxy_looks_at_another_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (go, asked) = (dir.path().join("go"), dir.path().join("asked"));
    fs::write(&go, "").unwrap();
    let binary = hesitant_haproxy(dir.path());
    let scene = Scene::with(&["--haproxy-binary", binary.to_str().unwrap()]).await;
    let task = scene.task("one").await;
    let put = |id: &str, host: &str| {
        let app = app(id, &[("HAPROXY_0_VHOST", host)]);
        scene.put(&app);
        scene.run(&app, &task);
    };
    put("/before", "a.test");
    scene.lb.served("a.test").await;
    scene.lb.reloads().await;
    fs::remove_file(&go).unwrap();
    fs::remove_file(&asked).unwrap();
    put("/first", "b.test");
    until("HAProxy is asked", || async { asked.try_exists().unwrap().then_some(()).ok_or(()) }).await;
    put("/second", "c.test");
    let revision = scene.scheduler.0.lock().unwrap().revision;
    until("the second has come", || async {
        let seen = scene.lb.status().await.revision;
        if seen == revision { Ok(()) } else { Err(seen) }
    })
    .await;
    fs::write(&go, "").unwrap();
    scene.lb.served("b.test").await;
    scene.lb.served("c.test").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_with_many_ports_and_an_own_backend_name_comes_and_goes() {
    let scene = Scene::new().await;
    let first = app("/first", &[]);
    scene.put(&first);
    scene.run(&first, &scene.task("one").await);
    scene.served(port_of(&first, 0)).await;
    let before = port_of(&first, 0);
    let moved = port();
    scene.put(&label(&first, "HAPROXY_0_PORT", &moved.to_string()));
    scene.served(moved).await;
    scene.unserved(before).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_went_while_it_was_loaded_is_served_when_it_comes_back() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    let task = scene.task("one").await;
    for round in 0..3 {
        scene.put(&web);
        let one = scene.run(&web, &task);
        until("it is served", || async {
            match get(scene.lb.http, "a.test", "/", &[]).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        // The new worker answers before the controller knows that it runs.
        let (removed_apps, removed_instances) = (vec![web.id.clone()], vec![one.id]);
        scene.scheduler.change(Delta { removed_apps, removed_instances, ..Delta::default() });
        // A reason to load everything anew.
        let other = app(&format!("/other-{round}"), &[("HAPROXY_0_VHOST", &format!("o{round}.test"))]);
        scene.put(&other);
        scene.run(&other, &task);
        scene.lb.served(&format!("o{round}.test")).await;
    }
    scene.put(&web);
    scene.run(&web, &task);
    scene.lb.served("a.test").await;
    // The port that the new worker got was not taken for somebody else's.
    scene.served(port_of(&web, 0)).await;
    scene.end().await;
}
