//! Bad input: nobody else is touched, and nothing from a label gets out of its place.

use meshos_proto::meshos::apps::v1::App;

use crate::scene::{Scene, app, instance, label, port, port_of, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c36_c37_c38_one_bad_label_hurts_nobody_else() {
    let scene = Scene::new().await;
    let apps: Vec<App> =
        (0..100).map(|i| app(&format!("/app-{i}"), &[("HAPROXY_0_VHOST", &format!("h{i}.test"))])).collect();
    let task = scene.task("first").await;
    for app in &apps {
        scene.put(app);
        scene.run(app, &task);
    }
    scene.lb.served("h0.test").await;
    scene.served(port_of(&apps[99], 0)).await;
    // HAProxy refuses it: what was there before goes on.
    let bad = label(&apps[0], "HAPROXY_0_BALANCE", "bogus");
    scene.put(&bad);
    let problem = scene.lb.problem("/app-0").await;
    assert!(problem.contains("HAPROXY_0_BALANCE") && problem.contains("roundrobin"), "{problem}");
    assert_eq!(scene.lb.host("h0.test", "/").await.status, 200);
    // The others are not kept from changing.
    scene.put(&label(&apps[1], "HAPROXY_0_VHOST", "new.test"));
    scene.lb.served("new.test").await;
    scene.put(&label(&apps[2], "HAPROXY_0_BALANCE", "leastconn"));
    until("the other's label is in force", || async {
        let text = scene.lb.admin("/_haproxy_getconfig").await.body;
        if text.contains("balance leastconn") { Ok(()) } else { Err(text.len()) }
    })
    .await;
    assert!(!scene.lb.admin("/_haproxy_getconfig").await.body.contains("bogus"));
    // Its servers go on changing.
    let second = scene.task("second").await;
    scene.gone(&instance(&bad, "first", &[]));
    scene.run(&bad, &second);
    until("the new address is asked", || async {
        let answer = scene.lb.host("h0.test", "/").await;
        if answer.task() == "second" { Ok(()) } else { Err(answer.status) }
    })
    .await;
    // A label that does not parse is left out alone.
    scene.put(&label(&apps[3], "HAPROXY_0_BACKEND_WEIGHT", "abc"));
    scene.put(&label(&apps[4], "HAPROXY_0_AUTH", "a:b"));
    assert!(scene.lb.problem("/app-3").await.contains("HAPROXY_0_BACKEND_WEIGHT"));
    assert!(scene.lb.problem("/app-4").await.contains("realm:user:hash"));
    scene.lb.served("h3.test").await;
    assert_eq!(scene.lb.status().await.failed_reloads, 0);
    // Mended, it is published again.
    scene.put(&label(&apps[0], "HAPROXY_0_BALANCE", "source"));
    until("the problem is gone", || async {
        let left: Vec<String> =
            scene.lb.status().await.problems.into_iter().map(|problem| problem.app_id).collect();
        if left.contains(&"/app-0".to_owned()) { Err(left) } else { Ok(()) }
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_from_a_label_gets_out_of_its_place() {
    let scene = Scene::new().await;
    let good = app("/good", &[("HAPROXY_0_VHOST", "good.test")]);
    scene.put(&good);
    scene.run(&good, &scene.task("good").await);
    scene.lb.served("good.test").await;
    let stolen = port();
    let evil = format!("x\n  bind *:{stolen}\nfrontend evil\n  bind *:{stolen}\n  default_backend good\n");
    let names = [
        "VHOST",
        "PATH",
        "PORT",
        "MODE",
        "BALANCE",
        "STICKY",
        "AUTH",
        "BACKEND_WEIGHT",
        "BACKEND_NETWORK_ALLOWED_ACL",
        "SSL_CERT",
        "BIND_OPTIONS",
        "BIND_ADDR",
        "HTTP_BACKEND_PROXYPASS_PATH",
        "HTTP_BACKEND_REVPROXY_PATH",
        "HTTP_BACKEND_REDIR",
        "BACKEND_HTTP_OPTIONS",
        "BACKEND_HEAD",
        "FRONTEND_HEAD",
        "GROUP",
    ];
    let forms = [
        evil.clone(),
        format!("/a\"{evil}"),
        format!("roundrobin # {evil}"),
        format!("a.test,{evil}"),
        format!("realm:user:{evil}"),
        format!("/ok\\\n bind *:{stolen}"),
        "${HOME}".into(),
        "%[env(HOME)]".into(),
        "a'b".into(),
    ];
    for name in names {
        for (index, form) in forms.iter().enumerate() {
            let id = format!("/evil-{}-{index}", name.to_lowercase().replace('_', "-"));
            scene.put(&app(&id, &[(&format!("HAPROXY_0_{name}"), form)]));
        }
    }
    let mut many = app("/many", &[]);
    many.labels.extend((0..10_000).map(|i| (format!("HAPROXY_0_X{i}"), "y".repeat(50))));
    many.labels.insert("HAPROXY_DEPLOYMENT_GROUP".into(), "../../etc\nglobal".into());
    scene.put(&many);
    let marker = app("/marker", &[("HAPROXY_0_VHOST", "marker.test")]);
    scene.put(&marker);
    scene.run(&marker, &scene.task("marker").await);
    scene.lb.served("marker.test").await;
    let text = scene.lb.admin("/_haproxy_getconfig").await.body;
    assert!(!text.contains(&stolen.to_string()) && !text.contains("evil\n"), "{text}");
    assert!(!text.contains("HOME"));
    assert!(std::net::TcpStream::connect(("127.0.0.1", stolen)).is_err());
    assert_eq!(scene.lb.host("good.test", "/").await.task(), "good");
    assert_eq!(scene.lb.status().await.failed_reloads, 0);
    scene.end().await;
}

/// A name, labels, and what the problem says.
type BadInput<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// What an app asks for and does not get is named; the others are served as before, and change as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_bad_input_is_named_and_touches_nobody_else() {
    let scene = Scene::new().await;
    let good = app("/good", &[("HAPROXY_0_VHOST", "good.test")]);
    scene.put(&good);
    let task = scene.task("good").await;
    scene.run(&good, &task);
    scene.lb.served("good.test").await;
    let broken = scene.lb.dir.join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n").unwrap();
    let broken = broken.to_str().unwrap();
    let pipe = scene.lb.dir.join("pipe.pem");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let crt_pipe = format!("ssl crt {}", pipe.display());
    let cases: [BadInput; 15] = [
        ("line-break", &[("HAPROXY_0_BALANCE", "roundrobin\n  option httplog")], "must not contain '\\n'"),
        ("quote", &[("HAPROXY_0_VHOST", "a\".test")], "no host name"),
        ("directive", &[("HAPROXY_0_BALANCE", "bogus")], "roundrobin"),
        ("option", &[("HAPROXY_0_BIND_OPTIONS", "no-such-option")], "no-such-option"),
        ("file", &[("HAPROXY_0_BIND_OPTIONS", "ssl crt-list /etc/passwd")], "crt-list"),
        ("same-host", &[("HAPROXY_0_VHOST", "good.test")], "served by /good"),
        ("port-range", &[("HAPROXY_0_PORT", "70000")], "no port"),
        ("port-zero", &[("HAPROXY_0_PORT", "0")], "no port"),
        ("certificate", &[("HAPROXY_0_SSL_CERT", broken)], "broken.pem"),
        ("no-certificate", &[("HAPROXY_0_SSL_CERT", "/nowhere/x.pem")], "/nowhere/x.pem"),
        ("endless", &[("HAPROXY_0_SSL_CERT", "/dev/zero")], "no regular file"),
        ("pipe", &[("HAPROXY_0_BIND_OPTIONS", &crt_pipe)], "no regular file"),
        ("converter", &[("HAPROXY_0_BALANCE", "hash src,map_ip(/etc/passwd)")], "converters"),
        (
            "spaces",
            &[("HAPROXY_0_VHOST", "s.test"), ("HAPROXY_0_HTTP_BACKEND_REDIR", "/a b")],
            "must not contain ' '",
        ),
        ("path", &[("HAPROXY_0_VHOST", "p.test"), ("HAPROXY_0_PATH", "/ok nonsense")], "no path"),
    ];
    for (name, labels, _) in cases {
        scene.put(&app(&format!("/x-{name}"), labels));
    }
    let taken = crate::scene::app_at("/x-taken", &[port_of(&good, 0)], &[]);
    scene.put(&taken);
    for (name, _, message) in cases.into_iter().chain([("taken", &[][..], "is taken by /good")]) {
        let problem = scene.lb.problem(&format!("/x-{name} ")).await;
        assert!(problem.contains(message), "{name}: {problem}");
        assert!(!problem.contains("root:"), "{problem}");
    }
    // A word of the label that can be used is: two prefixes, of which one is none.
    let two = scene.task("two").await;
    scene.run(&app("/x-path", &[]), &two);
    until("the good prefix is served", || async {
        let answer = scene.lb.host("p.test", "/ok").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.status) }
    })
    .await;
    scene.lb.calm().await;
    assert_eq!(scene.lb.host("good.test", "/").await.task(), "good");
    assert_eq!(crate::client::get(port_of(&good, 0), "x", "/", &[]).await.unwrap().task(), "good");
    let marker = app("/marker", &[("HAPROXY_0_VHOST", "marker.test")]);
    scene.put(&marker);
    scene.run(&marker, &task);
    scene.lb.served("marker.test").await;
    assert_eq!(scene.lb.status().await.failed_reloads, 0);
    scene.end().await;
}
