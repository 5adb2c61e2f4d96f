//! A cluster of simulated agents whose tasks are web servers, with apps on it and HAProxy in front.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use meshos_testing::{Http, ports::free_ports};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::requests::{Connection, Kill, Request};
use crate::{
    arguments::Arguments,
    cluster::{Cluster, Sample},
    fleet::Fleets,
    show,
};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until thousands of apps are loaded for the first time.
const FIRST_LOAD: Duration = Duration::from_secs(240);
/// So many instances can each have a listener.
const FEW: usize = 1000;
/// Apps in one PUT of a group.
const TOGETHER: usize = 500;
/// Instances of an agent, when all run.
const PER_AGENT: usize = 400;
/// Service ports of the apps begin here.
const FIRST_PORT: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Scene {
    cluster: Cluster,
    fleets: Fleets,
    pub(crate) apps: usize,
    /// HAProxy's port of virtual hosts.
    pub(crate) http: u16,
    admin: Http,
    controller: Vec<String>,
    dir: PathBuf,
    _temporary: tempfile::TempDir,
    /// Controllers and schedulers that have been started.
    started: usize,
    /// Reloads by controllers that were killed.
    reloads_before: u64,
}

impl Scene {
    /// Starts everything; returns when all apps are served.
    pub(crate) async fn start(arguments: &Arguments, apps: usize) -> anyhow::Result<Self> {
        let mut arguments = arguments.clone();
        let instances = apps * arguments.servers;
        arguments.agents = instances.div_ceil(PER_AGENT).max(4);
        arguments.fleets = 1;
        // Tasks that are killed here have listeners of their own.
        arguments.listen_each = instances <= FEW;
        let ports = (2 * instances / arguments.agents + 20).min(1000);
        arguments.serve = Some(u16::try_from(ports)?);
        let mut cluster = Cluster::start(&arguments.binary, arguments.keep.as_deref()).await?;
        cluster.service("app-scheduler-0", &[])?;
        cluster.service("app-scheduler-1", &[])?;
        let mut fleets = Fleets::start(&arguments, &cluster.registry)?;
        fleets.go()?;
        fleets.linked_after(0).await?;
        let temporary = tempfile::tempdir()?;
        let ports = free_ports(4)?;
        let dir = temporary.path().to_owned();
        let flags = ["--http-port", "--https-port", "--admin-port", "--app-id-port"];
        let mut controller: Vec<String> = flags
            .iter()
            .zip(&ports)
            .flat_map(|(flag, port)| [(*flag).to_owned(), port.to_string()])
            .collect();
        controller.extend(["--lb-bind-address", "127.0.0.1", "--haproxy-dir"].map(str::to_owned));
        controller.push(dir.display().to_string());
        let mut scene = Self {
            cluster,
            fleets,
            apps,
            http: ports[0],
            admin: Http::new(format!("127.0.0.1:{}", ports[2])),
            controller,
            dir,
            _temporary: temporary,
            started: 0,
            reloads_before: 0,
        };
        scene.controller()?;
        scene.deploy(&arguments).await?;
        Ok(scene)
    }

    /// Starts a controller.
    fn controller(&mut self) -> anyhow::Result<()> {
        let arguments: Vec<&str> = self.controller.iter().map(String::as_str).collect();
        self.started += 1;
        self.cluster.service(&format!("lb-controller-{}", self.started), &arguments)
    }

    /// All apps, in groups.
    async fn deploy(&mut self, arguments: &Arguments) -> anyhow::Result<()> {
        let began = Instant::now();
        let numbers: Vec<usize> = (0..self.apps).collect();
        for (group, numbers) in numbers.chunks(TOGETHER).enumerate() {
            let apps: Vec<Value> =
                numbers.iter().map(|number| self.app(*number, arguments.servers)).collect();
            let body = json!({"id": format!("/g{group}"), "apps": apps});
            self.marathon("PUT", &format!("/v2/groups//g{group}"), body).await?;
        }
        let wanted = (self.apps * arguments.servers) as u64;
        self.fleets.until("not all instances run", |report| report.running == wanted).await?;
        let running = began.elapsed();
        for number in [0, self.apps / 2, self.apps - 1] {
            self.served(&self.host(number), FIRST_LOAD).await?;
        }
        show(&format!(
            "| {} apps × {}: all run; all served | {:.1} s; {:.1} s |",
            self.apps,
            arguments.servers,
            running.as_secs_f64(),
            began.elapsed().as_secs_f64()
        ));
        // Whatever is still to be loaded must not be taken for a consequence of changes.
        self.calm().await?;
        let usage = self.usage();
        show(&format!("| … CPU and memory so far | {} |", usage.since(&Sample::default())));
        Ok(())
    }

    /// Where etcd has its data.
    pub(crate) fn store_dir(&self) -> &Path {
        self.cluster.dir()
    }

    fn app(&self, number: usize, instances: usize) -> Value {
        json!({
            "id": self.id(number), "cmd": "serve", "cpus": 0.01, "mem": 1, "instances": instances,
            "portDefinitions": [{"port": FIRST_PORT + number, "protocol": "tcp"}],
            "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": self.host(number)},
        })
    }

    pub(crate) fn id(&self, number: usize) -> String {
        format!("/g{}/a{number}", number / TOGETHER)
    }

    pub(crate) fn host(&self, number: usize) -> String {
        format!("a{number}.test")
    }

    /// A call that has to succeed.
    pub(crate) async fn marathon(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let (http, method, path) = (self.cluster.marathon.clone(), method.to_owned(), path.to_owned());
        let began = Instant::now();
        loop {
            let call = {
                let (http, method, path, body) = (http.clone(), method.clone(), path.clone(), body.clone());
                tokio::task::spawn_blocking(move || http.json(&method, &path, &body)).await?
            };
            match call {
                Ok(answer) if answer.status < 300 => return Ok(serde_json::from_slice(&answer.body)?),
                // Another leads soon; another deployment ends soon.
                Ok(answer) if [502, 503, 409].contains(&answer.status) && began.elapsed() < PATIENCE => {
                    sleep(Duration::from_millis(50)).await;
                }
                Ok(answer) => bail!("{method} {path}: {} {}", answer.status, answer.text()),
                Err(_) if began.elapsed() < PATIENCE => sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error).context("Marathon's API"),
            }
        }
    }

    /// The id of one of the app's tasks.
    pub(crate) async fn a_task(&self, id: &str) -> anyhow::Result<String> {
        let answer = self.marathon("GET", &format!("/v2/apps/{id}/tasks"), json!({})).await?;
        answer["tasks"][0]["id"].as_str().map(str::to_owned).with_context(|| format!("no task: {answer}"))
    }

    /// Waits until no deployment of the app runs.
    pub(crate) async fn settled(&self, id: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let answer = self.marathon("GET", &format!("/v2/apps/{id}"), json!({})).await?;
            let app = &answer["app"];
            if app["deployments"] == json!([]) && app["tasksRunning"] == app["instances"] {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{id} does not settle: {app}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn scale(&self, id: &str, instances: usize) -> anyhow::Result<()> {
        self.marathon("PUT", &format!("/v2/apps/{id}"), json!({"instances": instances})).await?;
        self.settled(id).await
    }

    /// An app comes, is served, and goes.
    pub(crate) async fn another_app(&self, number: usize) -> anyhow::Result<()> {
        let host = format!("other{number}.test");
        let mut app = self.app(self.apps, 2);
        app["id"] = json!("/other");
        app["labels"]["HAPROXY_0_VHOST"] = json!(host);
        self.marathon("POST", "/v2/apps", app).await?;
        self.served(&host, PATIENCE).await?;
        self.settled("/other").await?;
        self.marathon("DELETE", "/v2/apps//other", json!({})).await?;
        let began = Instant::now();
        let listed = || async {
            let apps = self.marathon("GET", "/v2/apps?id=other", json!({})).await?;
            let deployments = self.marathon("GET", "/v2/deployments", json!({})).await?;
            anyhow::Ok(apps["apps"] != json!([]) || deployments != json!([]))
        };
        while listed().await? {
            ensure!(began.elapsed() < PATIENCE, "/other does not go");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// One of the app's instances dies; another one takes its place.
    pub(crate) async fn kill_instance(&mut self, id: &str) -> anyhow::Result<Kill> {
        let answer = self.marathon("GET", &format!("/v2/apps/{id}/tasks"), json!({})).await?;
        let task = &answer["tasks"][0];
        let (name, host) =
            (task["id"].as_str().context("no task")?, task["host"].as_str().context("no host")?);
        let port = u16::try_from(task["ports"][0].as_u64().context("no port")?)?;
        let before = Instant::now();
        self.fleets.fail_task(name)?;
        while TcpStream::connect((host, port)).await.is_ok() {
            ensure!(before.elapsed() < PATIENCE, "{name} does not die");
            sleep(Duration::from_millis(1)).await;
        }
        let kill = (before, Instant::now());
        loop {
            let answer = self.marathon("GET", &format!("/v2/apps/{id}/tasks"), json!({})).await?;
            let tasks = answer["tasks"].as_array().context("no tasks")?;
            if tasks.iter().all(|task| task["id"] != name) {
                break;
            }
            ensure!(before.elapsed() < PATIENCE, "{name} is not known to be dead");
            sleep(Duration::from_millis(5)).await;
        }
        self.settled(id).await?;
        Ok(kill)
    }

    /// `kill -9` of the controller; the next one takes HAProxy over.
    pub(crate) async fn replace_controller(&mut self) -> anyhow::Result<()> {
        self.reloads_before += self.reloads_of_this().await?;
        self.cluster.kill("lb-controller")?;
        self.controller()?;
        self.followed().await
    }

    /// Waits until the controller follows the leading app-scheduler: only then kills wait for it.
    async fn followed(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.status().await.is_ok_and(|status| status["following"] == true) {
            ensure!(began.elapsed() < PATIENCE, "no controller follows the app-scheduler");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// `kill -9` of the app-scheduler that leads; another one becomes the standby.
    pub(crate) async fn replace_scheduler(&mut self) -> anyhow::Result<()> {
        // The oldest leads: each new one stands by.
        self.cluster.kill("app-scheduler")?;
        self.started += 1;
        self.cluster.service(&format!("app-scheduler-{}", self.started), &[])?;
        self.marathon("PUT", &format!("/v2/apps/{}", self.id(0)), json!({})).await?;
        self.followed().await
    }

    async fn served(&self, host: &str, patience: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let request = Request::new(host, "/", false);
            let answer = async { Connection::open(self.http).await?.ask(&request).await };
            match answer.await {
                Ok(_) => return Ok(()),
                Err(error) => ensure!(began.elapsed() < patience, "{host} is not served: {error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the workers of former configurations are gone: for a moment after a reload they still accept
    /// connections, and answer what the former configuration says.
    async fn calm(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let admin = self.admin.clone();
            let answer = tokio::task::spawn_blocking(move || admin.get("/_haproxy_getpids")).await??;
            let pids = String::from_utf8_lossy(&answer.body).split_whitespace().count();
            if answer.status == 200 && pids == 2 && self.status().await?["changing"] == false {
                return Ok(());
            }
            ensure!(began.elapsed() < FIRST_LOAD, "HAProxy has {pids} processes");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reloads of HAProxy so far.
    pub(crate) async fn reloads(&self) -> anyhow::Result<u64> {
        Ok(self.reloads_before + self.reloads_of_this().await?)
    }

    /// Those that the present controller has made.
    async fn reloads_of_this(&self) -> anyhow::Result<u64> {
        self.status().await?["reloads"].as_u64().context("reloads")
    }

    async fn status(&self) -> anyhow::Result<Value> {
        let admin = self.admin.clone();
        let answer = tokio::task::spawn_blocking(move || admin.get("/_lb/status")).await??;
        ensure!(answer.status == 200, "/_lb/status: {}", answer.status);
        Ok(serde_json::from_slice(&answer.body)?)
    }

    pub(crate) fn usage(&self) -> Sample {
        let workers = self.haproxy().into_iter().flat_map(|master| {
            let children = format!("/proc/{master}/task/{master}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            let newest = children.split_whitespace().filter_map(|pid| pid.parse().ok()).max();
            newest.map(|pid| ("haproxy", pid))
        });
        self.cluster.usage().with(self.fleets.usage()).with(Sample::of(workers))
    }

    fn haproxy(&self) -> Option<u32> {
        fs::read_to_string(self.dir.join("haproxy.pid")).ok()?.trim().parse().ok()
    }

    /// Stops everything, HAProxy too, which outlives its controller.
    pub(crate) async fn end(self) {
        drop(self);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // First the controller, which would start it anew.
        let _ = self.cluster.kill("lb-controller");
        if let Some(pid) = self.haproxy().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}
