//! HAProxy in front of many apps: how soon a change is served, and whether any request fails while things change.

mod requests;
mod scene;

use std::{collections::BTreeSet, io::Write, time::Duration};

use anyhow::ensure;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{arguments::Arguments, show, statistics};
use requests::{Connection, Kind, Lap, Load, Outcome, Request};
use scene::Scene;

/// A change that is not served by then never will be.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests to the first and to the last virtual host.
const ASKED: usize = 2000;
/// Who asks while everything changes.
const CLIENTS: [(Kind, usize); 3] = [(Kind::KeepAlive, 6), (Kind::NewConnections, 2), (Kind::Slow, 4)];
/// After so many rounds everything has happened.
const EVERYTHING: usize = 5;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for apps in &arguments.balanced {
        let mut scene = Scene::start(arguments, *apps).await?;
        changes(&mut scene, arguments).await?;
        if apps == &arguments.balanced[0] {
            hitless(&mut scene, arguments).await?;
        }
        scene.end().await;
    }
    Ok(())
}

/// What a change waits for several times: etcd has on disk what it says that it has.
fn disk(scene: &Scene, changes: usize) -> anyhow::Result<()> {
    let mut file = tempfile::tempfile_in(scene.store_dir())?;
    let mut synced = Vec::new();
    for _ in 0..changes.max(10) {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        synced.push(began.elapsed());
    }
    show(&statistics::row("the store's disk: 4 KiB written and synced", &mut synced));
    Ok(())
}

/// From a change to the first request that a new instance answers, one app after the other.
async fn changes(scene: &mut Scene, arguments: &Arguments) -> anyhow::Result<()> {
    disk(scene, arguments.changes)?;
    let reloads = scene.reloads().await?;
    let before = scene.usage();
    let (mut scaled, mut moved) = (Vec::new(), Vec::new());
    for round in 0..arguments.changes {
        // A prime: all apps get their turn.
        let app = round * 7919 % scene.apps;
        let (id, host) = (scene.id(app), scene.host(app));
        let known = all_of(scene.http, &host, arguments.servers).await?;
        let began = Instant::now();
        scene.marathon("PUT", &format!("/v2/apps/{id}"), json!({"instances": arguments.servers + 1})).await?;
        scaled.push(until_other(scene.http, &host, (&known, false), began).await?);
        scene.settled(&id).await?;
        scene.marathon("PUT", &format!("/v2/apps/{id}"), json!({"instances": arguments.servers})).await?;
        scene.settled(&id).await?;
        let known = all_of(scene.http, &host, arguments.servers).await?;
        let task = scene.a_task(&id).await?;
        let began = Instant::now();
        let path = format!("/v2/apps/{id}/tasks/{task}");
        scene.marathon("DELETE", &path, json!({})).await?;
        // Where it was the only one, nobody answers meanwhile.
        let alone = arguments.servers == 1;
        moved.push(until_other(scene.http, &host, (&known, alone), began).await?);
        scene.settled(&id).await?;
    }
    let name = |what: &str| format!("{} apps × {}: {what}", scene.apps, arguments.servers);
    show(&statistics::row(&name("PUT of one more instance to its first request"), &mut scaled));
    show(&statistics::row(&name("DELETE of a task to its successor's first request"), &mut moved));
    for app in [0, scene.apps - 1] {
        let mut asked = Vec::new();
        let mut connection = Connection::open(scene.http).await?;
        let request = Request::new(&scene.host(app), "/", true);
        for _ in 0..ASKED {
            let began = Instant::now();
            connection.ask(&request).await?;
            asked.push(began.elapsed());
        }
        show(&statistics::row(&name(&format!("requests to the virtual host of app {app}")), &mut asked));
    }
    let after = scene.usage();
    let more = scene.reloads().await? - reloads;
    show(&format!(
        "| … reloads; CPU per change of lb-controller; HAProxy | {}; {:.1} ms; {:.1} ms |",
        more,
        after.cpu_since(&before, "lb-controller") * 1e3 / (3 * arguments.changes) as f64,
        after.cpu_since(&before, "haproxy") * 1e3 / (3 * arguments.changes) as f64,
    ));
    ensure!(more == 0, "{more} reloads for changes of servers");
    Ok(())
}

/// Asks until as many have answered as there are.
async fn all_of(port: u16, host: &str, count: usize) -> anyhow::Result<BTreeSet<u64>> {
    let (mut known, began) = (BTreeSet::new(), Instant::now());
    let (mut connection, request) = (Connection::open(port).await?, Request::new(host, "/", true));
    while known.len() < count {
        let answer = connection.ask(&request).await?;
        known.insert(answer.task);
        if !answer.stays {
            connection = Connection::open(port).await?;
        }
        ensure!(began.elapsed() < PATIENCE, "{host}: {} of {count} answer", known.len());
    }
    Ok(known)
}

/// Asks until somebody answers who is not known; whether nobody may answer until then.
async fn until_other(
    port: u16,
    host: &str,
    (known, nobody): (&BTreeSet<u64>, bool),
    began: Instant,
) -> anyhow::Result<Duration> {
    let (mut connection, request) = (Connection::open(port).await?, Request::new(host, "/", true));
    loop {
        let answer = match connection.ask(&request).await {
            Err(_) if nobody && began.elapsed() < PATIENCE => {
                connection = Connection::open(port).await?;
                continue;
            }
            answer => answer?,
        };
        if !known.contains(&answer.task) {
            return Ok(began.elapsed());
        }
        if !answer.stays {
            connection = Connection::open(port).await?;
        }
        ensure!(began.elapsed() < PATIENCE, "{host}: no new instance answered");
    }
}

/// Everything changes under a constant load.
async fn hitless(scene: &mut Scene, arguments: &Arguments) -> anyhow::Result<()> {
    let load = Load::start(scene.http, &scene.host(0), &CLIENTS);
    sleep(Duration::from_secs(2)).await;
    laps("nothing changes", load.lap());
    let reloads = scene.reloads().await?;
    let (mut rounds, mut kills, began) = (0, Vec::new(), Instant::now());
    while load.asked() < arguments.requests || rounds < EVERYTHING {
        kills.push(change_everything(scene, arguments, rounds).await?);
        rounds += 1;
    }
    laps("everything changes", load.lap());
    let Outcome { asked, in_flight, failed, reasons } = load.stop(&kills).await;
    show(&format!(
        "| scaled up and down, restarted, an instance killed, another app come and gone: {rounds} times in {:.0} s, a \
         controller and a leading app-scheduler killed every fifth time: requests; failed; lost in flight on killed \
         instances; reloads | {asked}; {failed}; {in_flight}; {} |",
        began.elapsed().as_secs_f64(),
        scene.reloads().await? - reloads,
    ));
    ensure!(failed == 0, "{failed} requests failed, the first ones: {reasons:?}");
    Ok(())
}

async fn change_everything(
    scene: &mut Scene,
    arguments: &Arguments,
    round: usize,
) -> anyhow::Result<requests::Kill> {
    let id = scene.id(0);
    scene.scale(&id, 2 * arguments.servers).await?;
    scene.scale(&id, arguments.servers).await?;
    scene.marathon("POST", &format!("/v2/apps/{id}/restart"), json!({})).await?;
    scene.settled(&id).await?;
    let kill = scene.kill_instance(&id).await?;
    scene.another_app(round).await?;
    match round % EVERYTHING {
        1 => scene.replace_controller().await?,
        3 => scene.replace_scheduler().await?,
        _ => {}
    }
    Ok(kill)
}

fn laps(when: &str, lap: Lap) {
    show(&lap.keep_alive.row(&format!("requests on connections that stay, {when}")));
    show(&lap.new_connections.row(&format!("requests on new connections, {when}")));
}
