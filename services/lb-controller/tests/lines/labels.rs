//! What labels do to requests.

use crate::{
    client::get,
    scene::{Scene, app, instance, label, port_of, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c10_c11_c19_redirects_hsts_and_forwarded_headers() {
    let scene = Scene::new().await;
    let plain = app("/plain", &[("HAPROXY_0_VHOST", "plain.test")]);
    let secure = app(
        "/secure",
        &[
            ("HAPROXY_0_VHOST", "secure.test"),
            ("HAPROXY_0_REDIRECT_TO_HTTPS", "true"),
            ("HAPROXY_0_USE_HSTS", "yes"),
        ],
    );
    for app in [&plain, &secure] {
        scene.put(app);
        scene.run(app, &scene.task(&app.id).await);
    }
    let answer = scene.served(port_of(&secure, 0)).await;
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=15768000"));
    scene.lb.served("plain.test").await;
    let moved = scene.lb.host("secure.test", "/p?q=1").await;
    assert_eq!((moved.status, moved.header("location")), (301, Some("https://secure.test/p?q=1")));
    let spoofed = [("X-Forwarded-Proto", "https")];
    let answer = get(scene.lb.http, "plain.test", "/", &spoofed).await.unwrap();
    assert_eq!(answer.got("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(answer.got("x-forwarded-port"), Some(scene.lb.http.to_string().as_str()));
    assert_eq!(answer.got("x-forwarded-proto"), None);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c12_c13_a_password_is_asked_for_on_every_way_in() {
    // crypt(3) of `secret`.
    const HASH: &str = "$5$salt$kpa26zwgX83BPSR8d7w93OIXbFt/d3UOTZaAu5vsTM6";
    let scene = Scene::new().await;
    let auth = format!("My realm:bob:{HASH}");
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test"), ("HAPROXY_0_AUTH", &auth)]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    let right = [("Authorization", "Basic Ym9iOnNlY3JldA==")];
    until("the right password opens", || async {
        let answer = get(scene.lb.http, "a.test", "/", &right).await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    scene.lb.calm().await;
    for port in [scene.lb.http, port_of(&web, 0)] {
        let without = get(port, "a.test", "/", &[]).await.unwrap();
        assert_eq!(without.status, 401);
        assert_eq!(without.header("www-authenticate"), Some("Basic realm=\"My realm\""));
        let wrong = [("Authorization", "Basic Ym9iOndyb25n")];
        assert_eq!(get(port, "a.test", "/", &wrong).await.unwrap().status, 401);
        assert_eq!(get(port, "a.test", "/", &right).await.unwrap().status, 200);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c14_networks_that_are_not_allowed_get_nothing() {
    let scene = Scene::new().await;
    let only = ("HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8 192.168.0.0/16");
    let http = app("/http", &[("HAPROXY_0_VHOST", "a.test"), only]);
    let tcp = app("/tcp", &[only]);
    for app in [&http, &tcp] {
        scene.put(app);
        scene.run(app, &scene.task(&app.id).await);
    }
    until("http is refused", || async {
        let status = scene.lb.host("a.test", "/").await.status;
        if status == 403 { Ok(()) } else { Err(status) }
    })
    .await;
    until("tcp is closed", || async {
        match get(port_of(&tcp, 0), "x", "/", &[]).await {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    scene.put(&label(&http, only.0, "127.0.0.0/8"));
    scene.lb.served("a.test").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c15_c16_c17_sticky_clients_stay_with_their_task() {
    let mut scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test"), ("HAPROXY_0_STICKY", "true")]);
    scene.put(&web);
    let mut instances = Vec::new();
    for name in ["t1", "t2", "t3"] {
        instances.push(scene.run(&web, &scene.task(name).await));
    }
    until("all three answer", || async {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..12 {
            seen.insert(scene.lb.host("a.test", "/").await.task().to_owned());
        }
        if seen.len() == 3 { Ok(()) } else { Err(seen) }
    })
    .await;
    scene.lb.calm().await;
    let first = scene.lb.host("a.test", "/").await;
    let cookie = first.cookie().unwrap().to_owned();
    assert!(cookie.starts_with("mesosphere_server_id="), "{cookie}");
    for _ in 0..20 {
        let answer = get(scene.lb.http, "a.test", "/", &[("Cookie", &cookie)]).await.unwrap();
        assert_eq!(answer.task(), first.task());
    }
    // Another load balancer, whose servers came in another order.
    let other = scene.another(&[]).await;
    other.served("a.test").await;
    until("it knows the task", || async {
        let answer = get(other.http, "a.test", "/", &[("Cookie", &cookie)]).await.unwrap();
        if answer.task() == first.task() { Ok(()) } else { Err(answer.body) }
    })
    .await;
    let gone = instances.iter().find(|instance| instance.id.ends_with(first.task())).unwrap();
    scene.gone(gone);
    until("another one answers", || async {
        let answer = get(scene.lb.http, "a.test", "/", &[("Cookie", &cookie)]).await.unwrap();
        assert_eq!(answer.status, 200);
        let moved = answer.task() != first.task() && answer.cookie().is_some_and(|new| new != cookie);
        if moved { Ok(()) } else { Err(answer.body) }
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c28_prefixes_are_taken_off_and_put_on() {
    let scene = Scene::new().await;
    let web = app(
        "/web",
        &[
            ("HAPROXY_0_VHOST", "a.test,b.test"),
            ("HAPROXY_0_HTTP_BACKEND_PROXYPASS_PATH", "/app"),
            ("HAPROXY_0_HTTP_BACKEND_REVPROXY_PATH", "/app"),
            ("HAPROXY_0_HTTP_BACKEND_REDIR", "/app/begin"),
        ],
    );
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    until("it is served", || async {
        let answer = scene.lb.host("a.test", "/app").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.status) }
    })
    .await;
    scene.lb.calm().await;
    for (path, got) in [("/app", "/"), ("/app/", "/"), ("/app/foo", "/foo"), ("/apple", "/apple")] {
        assert_eq!(scene.lb.host("a.test", path).await.path(), got);
    }
    assert_eq!(scene.lb.host("b.test", "/app/x").await.got("host"), Some("b.test"));
    assert_eq!(get(port_of(&web, 0), "x", "/app/x", &[]).await.unwrap().got("host"), Some("a.test"));
    for to in ["/login", "http://a.test/login", "https://b.test:81/login"] {
        let answer = scene.lb.host("a.test", &format!("/app/x?to={to}")).await;
        assert_eq!(answer.header("location"), Some("/app/login"), "{to}");
    }
    let answer = scene.lb.host("a.test", "/app/x?to=http://other.test/login").await;
    assert_eq!(answer.header("location"), Some("http://other.test/login"));
    let moved = scene.lb.host("a.test", "/").await;
    assert_eq!((moved.status, moved.header("location")), (301, Some("/app/begin")));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c29_a_label_replaces_a_template_where_that_is_allowed() {
    let options = "  http-response set-header X-Mine yes\\n".replace("\\n", "\n");
    let labels = [("HAPROXY_0_VHOST", "a.test"), ("HAPROXY_0_BACKEND_HTTP_OPTIONS", options.as_str())];
    let (mine, other) = (app("/mine", &labels), app("/other", &[("HAPROXY_0_VHOST", "o.test")]));
    for (allowed, arguments) in [(true, &["--allow-custom-templates"][..]), (false, &[])] {
        let scene = Scene::with(arguments).await;
        for app in [&mine, &other] {
            scene.put(app);
            scene.run(app, &scene.task(&app.id).await);
        }
        let answer = scene.lb.served("a.test").await;
        assert_eq!(answer.header("x-mine"), allowed.then_some("yes"));
        assert_eq!(scene.lb.served("o.test").await.header("x-mine"), None);
        if !allowed {
            assert!(scene.lb.problem("BACKEND_HTTP_OPTIONS").await.contains("/mine"));
        }
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_the_http_port_can_be_replaced_by_labels_variables_and_files() {
    let acl = "  acl mine_{backend} hdr(x-mine) -m found\n  use_backend {backend} if mine_{backend}\n";
    let scene = Scene::with(&["--allow-custom-templates"]).await;
    let mine = app("/mine", &[("HAPROXY_0_VHOST", "a.test"), ("HAPROXY_0_HTTP_FRONTEND_ACL", acl)]);
    let other = app("/other", &[("HAPROXY_0_VHOST", "o.test")]);
    for app in [&mine, &other] {
        scene.put(app);
        scene.run(app, &scene.task(&app.id).await);
    }
    scene.lb.served("o.test").await;
    until("the rule holds", || async {
        let answer = get(scene.lb.http, "whatever", "/", &[("X-Mine", "1")]).await.unwrap();
        if answer.status == 200 { Ok(()) } else { Err(answer.status) }
    })
    .await;
    assert_eq!(scene.lb.host("a.test", "/").await.status, 503);
    scene.end().await;
    let variables =
        [("HAPROXY_BACKEND_HEAD", "\\nbackend {backend}\\n  balance leastconn\\n  mode {mode}\\n")];
    let scene = Scene::with_variables(&[], &variables).await;
    scene.put(&other);
    scene.run(&other, &scene.task("one").await);
    scene.lb.served("o.test").await;
    assert!(scene.lb.admin("/_haproxy_getconfig").await.body.contains("balance leastconn"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c50_a_host_in_tcp_mode_is_reported_and_the_port_works() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test"), ("HAPROXY_0_MODE", "tcp")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.served(port_of(&web, 0)).await;
    assert!(scene.lb.problem("HAPROXY_0_VHOST").await.contains("tcp mode"));
    assert_eq!(scene.lb.host("a.test", "/").await.status, 503);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c49_the_admin_port_answers_as_it_did() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    scene.instance(instance(&web, "one", &[scene.task("one").await.port]));
    scene.lb.served("a.test").await;
    for (path, part) in [
        ("/_haproxy_health_check", "200 OK"),
        ("/haproxy?stats;csv", "# pxname,svname"),
        ("/haproxy?stats", "Statistics Report"),
        ("/metrics", "haproxy_process_pool"),
        ("/_haproxy_getconfig", "backend web_"),
        ("/_haproxy_getvhostmap", "a.test web_"),
        ("/_lb/metrics", "meshos_lb_apps 1"),
        ("/_lb/status", "\"workerPid\""),
        ("/_mlb_signal/hup", "SIGHUP"),
    ] {
        // What is told of a reload comes a moment after it.
        until(path, || async {
            let answer = scene.lb.admin(path).await;
            if answer.status == 200 && answer.body.contains(part) { Ok(()) } else { Err(answer) }
        })
        .await;
    }
    scene.lb.calm().await;
    let reloads = scene.lb.status().await.reloads;
    assert_eq!(scene.lb.admin("/_mlb_signal/usr1").await.status, 200);
    until("it is reloaded", || async {
        let now = scene.lb.status().await.reloads;
        if now > reloads { Ok(()) } else { Err(now) }
    })
    .await;
    scene.end().await;
}
