//! Who HAProxy is. Only where the tests are run by root.

use std::{collections::BTreeSet, fs, net::TcpListener, os::unix::fs::PermissionsExt};

use nix::unistd::geteuid;

use crate::scene::{Scene, app, app_at, until};

/// Users, and groups.
type Ids = (BTreeSet<u32>, BTreeSet<u32>);

/// Real, effective, saved and file system user, and groups of a process that is there.
fn identity(pid: u32) -> Option<Ids> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |names: &[&str]| {
        let lines =
            status.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| names.contains(name));
        lines.flat_map(|(_, ids)| ids.split_whitespace().map(|id| id.parse().unwrap())).collect()
    };
    Some((of(&["Uid"]), of(&["Gid", "Groups"])))
}

/// The worker, once it is none of these. It serves a moment before the controller names it.
async fn worker(scene: &Scene, old: &BTreeSet<u32>) -> (u32, Ids) {
    until("a worker that is there", || async {
        let pid = scene.lb.status().await.worker_pid;
        identity(pid).filter(|_| !old.contains(&pid)).map(|ids| (pid, ids)).ok_or(pid)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxys_workers_drop_roots_rights_and_ports_below_1024_work() {
    if !geteuid().is_root() {
        return;
    }
    let scene = Scene::new().await;
    let port = (700..1000).find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).unwrap();
    let (before, low) = (app("/before", &[("HAPROXY_0_VHOST", "a.test")]), app_at("/low", &[port], &[]));
    let task = scene.task("one").await;
    let mut workers = BTreeSet::new();
    for app in [&before, &low] {
        scene.put(app);
        scene.run(app, &task);
        scene.served(u16::try_from(app.port_definitions[0].port).unwrap()).await;
        let (worker, (users, groups)) = worker(&scene, &workers).await;
        assert!(users.len() == 1 && !users.contains(&0) && !groups.contains(&0), "{users:?} {groups:?}");
        workers.insert(worker);
    }
    let master = fs::read_to_string(scene.lb.dir.join("haproxy.pid")).unwrap().parse().unwrap();
    assert_eq!(identity(master).unwrap().0, BTreeSet::from([0]), "it opens ports");
    scene.lb.served("a.test").await;
    // The worker reaches the controller; nobody else reads keys and hashes.
    for path in ["/_lb/status", "/_lb/metrics", "/_haproxy_getconfig"] {
        assert_eq!(scene.lb.admin(path).await.status, 200, "{path}");
    }
    for part in ["apps", "certs", "check"] {
        let mode = scene.lb.dir.join(part).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{part}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_stays_root_only_where_the_operator_says_so() {
    if !geteuid().is_root() {
        return;
    }
    let scene = Scene::with(&["--haproxy-user="]).await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.test").await;
    assert_eq!(worker(&scene, &BTreeSet::new()).await.1.0, BTreeSet::from([0]));
    scene.end().await;
}
