//! Groups, hosts, paths, tasks.

use meshos_proto::meshos::apps::v1::{App, Condition, Delta, Instance, IpAddress, PortDefinition};

use crate::{
    client::{Load, get},
    scene::{Scene, app, app_at, app_with_addresses, checked_app, instance, label, port, port_of, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c01_a_service_port_is_served() {
    let scene = Scene::new().await;
    let web = app("/web", &[]);
    scene.put(&web);
    let task = scene.task("one").await;
    scene.run(&web, &task);
    assert_eq!(scene.served(port_of(&web, 0)).await.task(), "one");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c02_c03_c04_groups_decide_where_it_is_served() {
    let mut scene = Scene::new().await;
    let internal = scene.another(&["--group=internal"]).await;
    let all = scene.another(&["--group=*"]).await;
    let ports = [port(), port()];
    let both = app_at(
        "/both",
        &ports,
        &[("HAPROXY_GROUP", "internal"), ("HAPROXY_0_GROUP", "external , x"), ("HAPROXY_1_VHOST", "b.test")],
    );
    let mut none = app("/none", &[("HAPROXY_0_VHOST", "none.test")]);
    none.labels.remove("HAPROXY_GROUP");
    let task = scene.task("one").await;
    scene.put(&both);
    scene.put(&none);
    scene.instance(instance(&both, "both", &[task.port, task.port]));
    scene.run(&none, &task);
    internal.served("b.test").await;
    all.served("none.test").await;
    assert_eq!(internal.host("none.test", "/").await.status, 503);
    // All bind the same service ports here: what is whose is seen in what each of them publishes.
    for (lb, wanted) in [
        (&scene.lb, &[("/both", 0)][..]),
        (&internal, &[("/both", 1)]),
        (&all, &[("/both", 0), ("/both", 1), ("/none", 0)]),
    ] {
        until("what is published", || async {
            let services = lb.status().await.services;
            let found: Vec<_> = services.iter().map(|s| (s.app_id.as_str(), s.index)).collect();
            if found == wanted { Ok(()) } else { Err(services.len()) }
        })
        .await;
    }
    assert_eq!(scene.lb.host("b.test", "/").await.status, 503);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c05_c06_hosts_are_compared_whole_without_case_and_port() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "A.Example.com,b.example.com,*.wild.test")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.example.com").await;
    for host in ["A.EXAMPLE.COM", "b.example.com", "a.example.com:8080", "x.wild.test"] {
        assert_eq!(scene.lb.host(host, "/").await.status, 200, "{host}");
    }
    for host in ["c.example.com", "xa.example.com", "a.example.com.x", "wild.test"] {
        assert_eq!(scene.lb.host(host, "/").await.status, 503, "{host}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c07_c08_c09_c41_paths_and_weights() {
    let scene = Scene::new().await;
    let host = ("HAPROXY_0_VHOST", "h.test");
    let apps = [
        app("/root", &[host]),
        app("/aa", &[host, ("HAPROXY_0_PATH", "/api")]),
        app("/zz", &[host, ("HAPROXY_0_PATH", "/api/v2")]),
        app("/i", &[host, ("HAPROXY_0_PATH", "-i /one /two")]),
    ];
    for app in &apps {
        scene.put(app);
        scene.run(app, &scene.task(&app.id).await);
    }
    for (path, task) in [
        ("/x", "/root"),
        ("/api/1", "/aa"),
        ("/api/v2/z", "/zz"),
        ("/ONE/a", "/i"),
        ("/two", "/i"),
        ("/three", "/root"),
    ] {
        until(path, || async {
            let answer = scene.lb.host("h.test", path).await;
            if answer.task() == task { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
    // The same host and weight: the first by id answers; with more weight the other.
    let twin = app("/twin", &[host]);
    scene.put(&twin);
    scene.run(&twin, &scene.task("twin").await);
    assert!(scene.lb.problem("/twin HAPROXY_0_VHOST").await.contains("h.test/ is served by /root"));
    assert_eq!(scene.lb.host("h.test", "/x").await.task(), "/root");
    scene.put(&label(&twin, "HAPROXY_0_BACKEND_WEIGHT", "5"));
    until("the heavier one answers", || async {
        let answer = scene.lb.host("h.test", "/api/1").await;
        if answer.task() == "twin" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    assert!(scene.lb.problem("/root HAPROXY_0_VHOST").await.contains("is served by /twin"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c18_without_hosts_and_checks_bytes_are_relayed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scene = Scene::new().await;
    let raw = app("/raw", &[]);
    scene.put(&raw);
    let echo = crate::tasks::tcp_echo(&scene.env).await;
    scene.instance(instance(&raw, "echo", &[echo]));
    until("bytes come back", || async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port_of(&raw, 0))).await?;
        stream.write_all(b"hello \x01\n").await?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"HELLO \x01\n");
        Ok::<(), std::io::Error>(())
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c20_the_app_id_header_chooses_the_app() {
    let scene = Scene::new().await;
    let tweeter = app("/tweeter", &[("HAPROXY_0_MODE", "http")]);
    scene.put(&tweeter);
    scene.run(&tweeter, &scene.task("one").await);
    scene.served(port_of(&tweeter, 0)).await;
    let ask = |id: &'static str| async move {
        get(scene.lb.app_id, "x", "/", &[("X-Marathon-App-Id", id)]).await.unwrap().status
    };
    assert_eq!((ask("/tweeter").await, ask("/nobody").await), (200, 503));
    let map = scene.lb.admin("/_haproxy_getappmap").await;
    assert!(map.body.contains("/tweeter tweeter_"), "{map:?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c21_only_running_and_unreachable_tasks_are_asked() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_MODE", "http")]);
    scene.put(&web);
    let conditions = [
        Condition::Staging,
        Condition::Starting,
        Condition::Killing,
        Condition::Failed,
        Condition::Unreachable,
        Condition::Running,
    ];
    let mut tasks = Vec::new();
    for condition in conditions {
        let task = scene.task(&format!("{condition:?}")).await;
        let mut instance = instance(&web, &task.name, &[task.port]);
        instance.set_condition(condition);
        scene.instance(instance);
        tasks.push(task);
    }
    scene.served(port_of(&web, 0)).await;
    until("both are asked", || async {
        get(port_of(&web, 0), "x", "/", &[]).await.unwrap();
        let hits: Vec<bool> = tasks.iter().map(|task| task.hits() > 0).collect();
        if hits == [false, false, false, false, true, true] { Ok(()) } else { Err(hits) }
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c22_c23_c32_health_decides_and_is_remembered() {
    let scene = Scene::new().await;
    let web = checked_app("/web");
    scene.put(&web);
    let (good, new) = (scene.task("good").await, scene.task("new").await);
    let first = scene.run(&web, &good);
    scene.checked(&first, true);
    scene.served(port_of(&web, 0)).await;
    let reloads = scene.lb.reloads().await;
    let second = scene.run(&web, &new);
    for _ in 0..20 {
        assert_eq!(get(port_of(&web, 0), "x", "/", &[]).await.unwrap().task(), "good");
    }
    scene.checked(&second, true);
    until("the healthy one is asked", || async {
        let answer = get(port_of(&web, 0), "x", "/", &[]).await.unwrap();
        if answer.task() == "new" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    scene.checked(&first, false);
    until("the unhealthy one is not", || async {
        let before = good.hits();
        for _ in 0..10 {
            assert_eq!(get(port_of(&web, 0), "x", "/", &[]).await.unwrap().status, 200);
        }
        if good.hits() == before { Ok(()) } else { Err(good.hits()) }
    })
    .await;
    assert_eq!(scene.lb.status().await.reloads, reloads, "servers change without a reload");
    // A new leader has no results yet; what was known stays with the instance.
    {
        let mut state = scene.scheduler.0.lock().unwrap();
        state.snapshot.health.clear();
        for instance in &mut state.snapshot.instances {
            instance.healthy = Some(instance.id == second.id);
        }
        state.cut();
    }
    until("the snapshot was read", || async {
        let subscriptions = scene.scheduler.0.lock().unwrap().subscriptions;
        if subscriptions > 1 { Ok(()) } else { Err(subscriptions) }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(get(port_of(&web, 0), "x", "/", &[]).await.unwrap().task(), "new");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c24_scaled_to_zero_nobody_answers() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    let task = scene.task("one").await;
    let one = scene.run(&web, &task);
    scene.lb.served("a.test").await;
    scene.gone(&one);
    scene.lb.unserved("a.test").await;
    assert_eq!(scene.lb.host("a.test", "/").await.status, 503);
    scene.unserved(port_of(&web, 0)).await;
    scene.run(&web, &task);
    scene.lb.served("a.test").await;
    scene.served(port_of(&web, 0)).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c27_in_strict_mode_only_what_says_so_is_served() {
    let scene = Scene::with(&["--strict-mode"]).await;
    let off = app("/off", &[("HAPROXY_0_VHOST", "off.test")]);
    let on = app("/on", &[("HAPROXY_0_VHOST", "on.test"), ("HAPROXY_0_ENABLED", "true")]);
    let task = scene.task("one").await;
    for app in [&off, &on] {
        scene.put(app);
        scene.run(app, &task);
    }
    scene.lb.served("on.test").await;
    assert_eq!(scene.lb.host("off.test", "/").await.status, 503);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c48_blue_makes_room_for_green() {
    let scene = Scene::new().await;
    let number = port();
    let deployment = |colour: &str, started: &str, instances: u32| {
        let mut side = App {
            port_definitions: vec![PortDefinition {
                port: u32::from(port()),
                protocol: "tcp".into(),
                ..PortDefinition::default()
            }],
            instances,
            ..checked_app(&format!("/app-{colour}"))
        };
        for (name, value) in [
            ("HAPROXY_DEPLOYMENT_GROUP", "app"),
            ("HAPROXY_DEPLOYMENT_COLOUR", colour),
            ("HAPROXY_DEPLOYMENT_STARTED_AT", started),
            ("HAPROXY_DEPLOYMENT_TARGET_INSTANCES", "3"),
            ("HAPROXY_DEPLOYMENT_NEW_INSTANCES", "0"),
            ("HAPROXY_0_PORT", &number.to_string()),
        ] {
            side.labels.insert(name.into(), value.into());
        }
        side
    };
    let blue = deployment("blue", "2026-01-01T00:00:00", 3);
    let green = deployment("green", "2026-01-02T00:00:00", 1);
    let mut blues = Vec::new();
    scene.put(&blue);
    for name in ["b1", "b2", "b3"] {
        let task = scene.task(name).await;
        let instance = scene.run(&blue, &task);
        scene.checked(&instance, true);
        blues.push(task);
    }
    scene.served(number).await;
    scene.put(&green);
    let task = scene.task("g1").await;
    let instance = scene.run(&green, &task);
    scene.checked(&instance, true);
    until("green answers and the first blue one does not", || async {
        let before = blues[0].hits();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..30 {
            seen.insert(get(number, "x", "/", &[]).await.unwrap().task().to_owned());
        }
        if blues[0].hits() == before && seen.len() == 3 && seen.contains("g1") { Ok(()) } else { Err(seen) }
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c30_tasks_come_and_go_without_a_failed_request_and_without_a_reload() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    let mut tasks = Vec::new();
    for index in 0..6 {
        tasks.push(scene.task(&format!("t{index}")).await);
    }
    scene.run(&web, &tasks[0]);
    scene.lb.served("a.test").await;
    let reloads = scene.lb.reloads().await;
    let load = Load::start(&scene.env, 20, false, scene.lb.http, "a.test");
    for round in 0..100 {
        let (out, next) = (&tasks[1 + round % 5], &tasks[1 + (round + 1) % 5]);
        let before = next.hits();
        scene.run(&web, next);
        until("the new one is asked", || async {
            if next.hits() > before { Ok(()) } else { Err(next.hits()) }
        })
        .await;
        scene.gone(&instance(&web, &out.name, &[]));
    }
    let asked = load.asked();
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{} of {asked} failed: {:?}", failures.len(), failures.first());
    assert_eq!(scene.lb.status().await.reloads, reloads);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c31_apps_come_and_go_without_a_failed_request() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    let task = scene.task("one").await;
    scene.run(&web, &task);
    scene.lb.served("a.test").await;
    let load = Load::start(&scene.env, 20, true, scene.lb.http, "a.test");
    for round in 0..10 {
        let other = app(&format!("/other-{round}"), &[("HAPROXY_0_VHOST", "o.test")]);
        scene.put(&other);
        let one = scene.run(&other, &task);
        scene.served(port_of(&other, 0)).await;
        scene.gone(&one);
        scene.remove(&other);
        scene.unserved(port_of(&other, 0)).await;
    }
    assert!(scene.lb.status().await.reloads >= 10);
    let asked = load.asked();
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{} of {asked} failed: {:?}", failures.len(), failures.first());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c35_more_tasks_than_there_was_room_for_are_all_asked() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    let first = scene.task("t0").await;
    scene.run(&web, &first);
    scene.lb.served("a.test").await;
    let load = Load::start(&scene.env, 4, false, scene.lb.http, "a.test");
    let mut tasks = Vec::new();
    let mut instances = Vec::new();
    for index in 1..30 {
        let task = scene.task(&format!("t{index}")).await;
        instances.push(instance(&web, &task.name, &[task.port]));
        tasks.push(task);
    }
    scene.scheduler.change(Delta { instances, ..Delta::default() });
    until("all are asked", || async {
        let idle: Vec<&str> =
            tasks.iter().filter(|task| task.hits() == 0).map(|task| task.name.as_str()).collect();
        if idle.is_empty() { Ok(()) } else { Err(idle.len()) }
    })
    .await;
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    scene.end().await;
}

/// A task at 127.0.0.1 of its own, on a host that does not exist.
fn with_address(app: &App, name: &str, port: u16) -> Instance {
    Instance {
        host: "nowhere.invalid".into(),
        container_ports: vec![port.into()],
        ip_addresses: vec![IpAddress { address: "127.0.0.1".into(), protocol: "IPv4".into() }],
        ..instance(app, name, &[0])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c25_tasks_are_asked_at_their_host_or_at_their_own_address() {
    let scene = Scene::new().await;
    let (at_host, own) = (scene.task("host").await, scene.task("own").await);
    let web = app("/web", &[]);
    scene.put(&web);
    scene.run(&web, &at_host);
    let service = port();
    let container = app_with_addresses("/container", own.port, service, &[]);
    scene.put(&container);
    scene.instance(with_address(&container, "own", own.port));
    assert_eq!(scene.served(port_of(&web, 0)).await.task(), "host");
    assert_eq!(scene.served(service).await.task(), "own");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c26_a_port_is_assigned_where_none_is_named_and_all_assign_the_same() {
    let mut scene = Scene::with(&["--group=external"]).await;
    let other = scene.another(&["--group=external", "--lb-bind-address=127.0.0.2"]).await;
    let own = scene.task("own").await;
    for number in 0..3 {
        let host = format!("a{number}.test");
        let app = app_with_addresses(&format!("/a{number}"), own.port, 0, &[("HAPROXY_0_VHOST", &host)]);
        scene.put(&app);
        scene.instance(with_address(&app, &format!("own-{number}"), own.port));
    }
    assert_eq!(scene.lb.served("a2.test").await.task(), "own");
    let mut published = Vec::new();
    for lb in [&scene.lb, &other] {
        let ports = until("three services", || async {
            let services = lb.status().await.services;
            let ports: Vec<u32> = services.iter().map(|service| service.port).collect();
            if ports.len() == 3 { Ok(ports) } else { Err(ports) }
        });
        published.push(ports.await);
    }
    assert_eq!(published[0], published[1]);
    assert!(published[0].iter().all(|port| (10_050..=10_100).contains(port)), "{published:?}");
    scene.end().await;
}
