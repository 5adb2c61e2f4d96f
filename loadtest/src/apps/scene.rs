//! A cluster with an app-scheduler, and what its users do.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use meshos_testing::Response;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    arguments::Arguments,
    cluster::{Cluster, Sample},
    fleet::{Fleets, Report},
    show,
};

/// A figure that takes longer is no figure.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// How often the API is asked whether something has come about.
const LOOK: Duration = Duration::from_millis(10);

pub(super) struct Scene {
    pub(super) cluster: Cluster,
    pub(super) fleets: Fleets,
    pub(super) arguments: Arguments,
}

/// A definition that a simulated agent has room for a hundred times and more.
pub(super) fn app(id: &str, instances: u64) -> Value {
    json!({"id": id, "cmd": "sleep 1000", "cpus": 0.01, "mem": 32, "instances": instances, "portDefinitions": []})
}

impl Scene {
    pub(super) async fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut cluster = Cluster::start(&arguments.binary, arguments.keep.as_deref()).await?;
        let limit = ["--max_running_deployments", "100000"];
        cluster.service("app-scheduler-0", &limit)?;
        cluster.service("app-scheduler-1", &limit)?;
        let mut fleets = Fleets::start(arguments, &cluster.registry)?;
        fleets.go()?;
        fleets.linked_after(0).await?;
        let scene = Self { cluster, fleets, arguments: arguments.clone() };
        // Written and gone again: everything is in place.
        scene
            .until(PATIENCE, "an app is taken", async || {
                Ok((scene.ask("POST", "/v2/apps", &app("/first", 1)).await?.status == 201).then_some(()))
            })
            .await?;
        scene.running("/first", 1).await?;
        scene.remove("/v2/apps//first").await?;
        show(&format!(
            "| {} simulated agents, one task has come and gone | {} |",
            arguments.agents,
            scene.memory()
        ));
        Ok(scene)
    }

    /// A request to Marathon's API.
    pub(super) async fn ask(
        &self,
        method: &'static str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Response> {
        let (marathon, path, body) = (self.cluster.marathon.clone(), path.to_owned(), body.clone());
        let asked = tokio::task::spawn_blocking(move || match &body {
            Value::Null => marathon.send(method, &path, &[], b""),
            body => marathon.json(method, &path, body),
        });
        Ok(asked.await??)
    }

    /// The same; any refusal is an error.
    pub(super) async fn change(
        &self,
        method: &'static str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Response> {
        let answer = self.ask(method, path, body).await?;
        ensure!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
        Ok(answer)
    }

    pub(super) async fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        mut found: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = found().await? {
                return Ok(found);
            }
            if started.elapsed() > limit {
                bail!("{what}: not after {limit:?}; agents: {:?}", self.fleets.report());
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until agents run as many tasks altogether and the app shows `count` of them.
    pub(super) async fn running(&self, id: &str, count: u64) -> anyhow::Result<()> {
        let path = format!("/v2/apps?id={id}");
        self.until(PATIENCE, "all running", async || {
            let answer = self.ask("GET", &path, &Value::Null).await?;
            if answer.status != 200 {
                return Ok(None);
            }
            let apps = answer.json()["apps"].clone();
            Ok((apps[0]["tasksRunning"] == count).then_some(()))
        })
        .await
    }

    /// Waits until agents run so many tasks.
    pub(super) async fn tasks(&self, count: u64) -> anyhow::Result<()> {
        let what = format!("{count} tasks do not run");
        self.fleets.until(&what, |report| report.running == count).await?;
        Ok(())
    }

    /// Waits until no deployment runs.
    pub(super) async fn quiet(&self) -> anyhow::Result<()> {
        self.until(PATIENCE, "no deployment", async || {
            let answer = self.ask("GET", "/v2/deployments", &Value::Null).await?;
            Ok((answer.body == b"[]").then_some(()))
        })
        .await
    }

    /// Removes an app or a group that is all there is, and waits until nothing runs.
    pub(super) async fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.change("DELETE", &format!("{path}?force=true"), &Value::Null).await?;
        self.tasks(0).await?;
        self.quiet().await
    }

    pub(super) fn usage(&self) -> Sample {
        self.cluster.usage().with(self.fleets.usage())
    }

    fn memory(&self) -> String {
        self.usage().since(&self.usage())
    }

    /// What a figure cost per task.
    pub(super) fn cost(&self, before: &Sample, tasks: u64) {
        let after = self.usage();
        #[allow(clippy::cast_precision_loss)]
        let micros = |name: &str| after.cpu_since(before, name) * 1e6 / tasks as f64;
        show(&format!(
            "| … CPU per task | app-scheduler {:.0} µs, allocator {:.0} µs, etcd {:.0} µs, gateway {:.0} µs, \
             agents {:.0} µs |",
            micros("app-scheduler"),
            micros("allocator"),
            micros("etcd"),
            micros("gateway"),
            micros("fleet")
        ));
    }

    /// Every launch was made once. Agents count a task when its update is acknowledged: a little later than others
    /// know of it.
    pub(super) async fn audit(&self) -> anyhow::Result<()> {
        let all = |report: &Report| report.launched == report.running + report.ended;
        let report = self.fleets.until("tasks are not accounted for", all).await?;
        ensure!(report.repeated == 0, "{} tasks were launched twice", report.repeated);
        Ok(())
    }
}

/// The id of the deployment that a change began.
pub(super) fn deployment(answer: &Response) -> anyhow::Result<String> {
    let id = answer.json()["deploymentId"].as_str().map(str::to_owned);
    id.or_else(|| answer.header("marathon-deployment-id").map(str::to_owned)).context("no deployment id")
}
