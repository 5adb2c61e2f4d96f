//! Replaces an app by a new one without a failed request: what marathon-lb's `zdd.py` did. The new app (green) joins
//! the deployment group of the old one (blue); each task of it that is healthy lets one old task go, once the load
//! balancers say that it has no request under way. At any time the old side can be brought back.

mod plan;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::marathon::client::{Access, Client, Failure};
use plan::{Next, Seen, Step};

/// Why a deployment stopped, with the exit status that `zdd.py` had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file}: {message}")]
    File { file: PathBuf, message: String },
    #[error("the app lacks {0}")]
    Missing(&'static str),
    #[error("{0}")]
    Arguments(String),
    #[error("load balancer {url}: {message}")]
    LoadBalancer { url: String, message: String },
    #[error("marathon: {0}")]
    Marathon(String),
    #[error("the new app {id} did not become healthy in time and was removed; the old one serves")]
    RolledBack { id: String },
    #[error("the hook before killing ended with {0}")]
    Hook(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Marathon(failure.to_string())
    }
}

impl Error {
    /// The exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Arguments(_) | Self::File { .. } => 3,
            Self::Missing(_) => 4,
            Self::LoadBalancer { .. } => 5,
            Self::Marathon(_) => 6,
            Self::RolledBack { .. } => 7,
            Self::Hook(_) => 2,
        }
    }
}

/// Flags, with `zdd.py`'s names.
#[derive(Args, Clone, Debug)]
pub struct DeployArgs {
    /// The app's definition.
    #[arg(long, short = 'j', value_name = "FILE")]
    pub json: PathBuf,
    /// Marathon's API.
    #[arg(long, short = 'm', default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub marathon: String,
    /// Admin ports of all load balancers.
    #[arg(
        long,
        short = 'l',
        default_value = "http://127.0.0.1:9090",
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub marathon_lb: Vec<String>,
    /// Instances that the new app begins with.
    #[arg(long, short = 'i', default_value_t = 1, value_name = "N")]
    pub initial_instances: u64,
    /// Stop with so many new instances, and keep both sides.
    #[arg(long, short = 'n', default_value_t = 0, value_name = "N")]
    pub new_instances: u64,
    /// Add so many instances at a time; half as many again as there are when absent.
    #[arg(long, value_name = "N")]
    pub linear_increase: Option<u64>,
    /// Pause between two looks.
    #[arg(long, short = 's', default_value = "1s", value_parser = meshos_mesh::config::parse_duration, value_name = "DURATION")]
    pub step_delay: Duration,
    /// Longest wait for tasks to become healthy, and for old ones to be let go of.
    #[arg(long, short = 'w', default_value = "300s", value_parser = meshos_mesh::config::parse_duration, value_name = "DURATION")]
    pub max_wait: Duration,
    /// Go on with a deployment that was interrupted.
    #[arg(long, short = 'r')]
    pub resume: bool,
    /// Finish one at once: the old app goes.
    #[arg(long, short = 'c', conflicts_with_all = ["complete_prev", "resume"])]
    pub complete_cur: bool,
    /// Take one back: the new app goes.
    #[arg(long, short = 'p', conflicts_with = "resume")]
    pub complete_prev: bool,
    /// Program that is run before old tasks are killed, with the old app, the tasks and the new app as JSON.
    #[arg(long, value_name = "FILE")]
    pub pre_kill_hook: Option<PathBuf>,
    /// Only show the new app's definition.
    #[arg(long, short = 'd')]
    pub dry_run: bool,
}

/// Deploys. Returns the definition that was (or, for a dry run, would be) created.
///
/// # Errors
/// Why it stopped.
pub async fn run(args: &DeployArgs) -> Result<Value, Error> {
    let file = |message: String| Error::File { file: args.json.clone(), message };
    let text = std::fs::read_to_string(&args.json).map_err(|error| file(error.to_string()))?;
    let given: Value = serde_json::from_str(&text).map_err(|error| file(error.to_string()))?;
    let deployment = Deployment { args, client: client(&args.marathon)? };
    deployment.run(given).await
}

fn client(url: &str) -> Result<Client, Error> {
    Client::new(&Access { urls: vec![url.to_owned()], ..Access::default() }).map_err(Error::Arguments)
}

struct Deployment<'a> {
    args: &'a DeployArgs,
    client: Client,
}

impl Deployment<'_> {
    async fn run(&self, given: Value) -> Result<Value, Error> {
        let group = plan::group(&given)?;
        let mut existing = self.members(&group).await?;
        if existing.len() > 1 {
            let (old, new) = (existing.remove(0), existing.remove(0));
            return self.unfinished(old, new).await;
        }
        if self.args.complete_cur || self.args.complete_prev || self.args.resume {
            return Err(Error::Arguments("there is no deployment under way".to_owned()));
        }
        let now = started_at();
        let new = plan::next(given, existing.first(), self.args, &now)?;
        if self.args.dry_run {
            return Ok(new);
        }
        info!(app = id(&new), "creating the new app");
        self.client.send("POST", "/v2/apps", Some(&new)).await?;
        match existing.first() {
            Some(old) => self.shift(id(old), id(&new)).await?,
            None => self.deployed(id(&new)).await?,
        }
        Ok(new)
    }

    /// Apps of the group, the older one first.
    async fn members(&self, group: &str) -> Result<Vec<Value>, Error> {
        let all = self.client.send("GET", "/v2/apps", None).await?;
        let apps = all["apps"].as_array().cloned().unwrap_or_default();
        let mut members: Vec<Value> =
            apps.into_iter().filter(|app| app["labels"]["HAPROXY_DEPLOYMENT_GROUP"] == group).collect();
        members.sort_by_key(|app| {
            app["labels"]["HAPROXY_DEPLOYMENT_STARTED_AT"].as_str().unwrap_or_default().to_owned()
        });
        Ok(members)
    }

    async fn unfinished(&self, old: Value, new: Value) -> Result<Value, Error> {
        if self.args.complete_cur {
            self.delete(id(&old)).await?;
            Ok(new)
        } else if self.args.complete_prev {
            self.delete(id(&new)).await?;
            Ok(old)
        } else if self.args.resume {
            self.shift(id(&old), id(&new)).await?;
            Ok(new)
        } else {
            let message = format!(
                "a deployment of {} and {} is under way: use --resume, --complete-cur or --complete-prev",
                id(&old),
                id(&new)
            );
            Err(Error::Arguments(message))
        }
    }

    /// Moves instances from the old app to the new one.
    async fn shift(&self, old: &str, new: &str) -> Result<(), Error> {
        let mut waiting = Instant::now();
        loop {
            if let Err(error) = self.deployed(new).await {
                if matches!(error, Error::RolledBack { .. }) {
                    self.delete(new).await?;
                }
                return Err(error);
            }
            let seen = self.look(old, new, waiting.elapsed() >= self.args.max_wait).await?;
            match plan::step(&seen, self.args) {
                Step::Wait => sleep(self.args.step_delay).await,
                Step::Move(next) => {
                    self.advance(old, new, &next).await?;
                    waiting = Instant::now();
                }
                Step::Finish => {
                    info!(app = old, "all old tasks are let go of, removing the old app");
                    return self.delete(old).await;
                }
                Step::Split => {
                    info!(old, new, "both apps stay, as asked for");
                    return Ok(());
                }
            }
        }
    }

    async fn advance(&self, old: &str, new: &str, next: &Next) -> Result<(), Error> {
        if !next.kill.is_empty() {
            self.hook(old, new, &next.kill).await?;
            info!(tasks = next.kill.len(), "ending old tasks");
            let body = json!({"ids": next.kill});
            self.client.send("POST", "/v2/tasks/delete?scale=true&force=true", Some(&body)).await?;
            self.deployed(old).await?;
        }
        if let Some(instances) = next.scale {
            info!(instances, "scaling the new app");
            let path = format!("/v2/apps/{new}");
            self.client.send("PUT", &path, Some(&json!({"instances": instances}))).await?;
        }
        Ok(())
    }

    async fn hook(&self, old: &str, new: &str, tasks: &[String]) -> Result<(), Error> {
        let Some(hook) = &self.args.pre_kill_hook else { return Ok(()) };
        let old = self.client.send("GET", &format!("/v2/apps/{old}"), None).await?;
        let new = self.client.send("GET", &format!("/v2/apps/{new}"), None).await?;
        let mut command = tokio::process::Command::new(hook);
        command.arg(old["app"].to_string()).arg(json!(tasks).to_string()).arg(new["app"].to_string());
        let status = command.status().await.map_err(|error| Error::Hook(error.to_string()))?;
        if status.success() { Ok(()) } else { Err(Error::Hook(status.to_string())) }
    }

    /// What Marathon and all load balancers say.
    async fn look(&self, old: &str, new: &str, overdue: bool) -> Result<Seen, Error> {
        let app = |id: &str| format!("/v2/apps/{id}?embed=app.tasks");
        let (old_app, new_app) = (
            self.client.send("GET", &app(old), None).await?["app"].take(),
            self.client.send("GET", &app(new), None).await?["app"].take(),
        );
        let mut lbs = Vec::new();
        for url in &self.args.marathon_lb {
            let failed = |message: String| Error::LoadBalancer { url: url.clone(), message };
            let client = client(url).map_err(|error| failed(error.to_string()))?;
            let status = client.send("GET", &format!("/_lb/status?app={new}"), None).await;
            lbs.push(status.map_err(|error| failed(error.to_string()))?);
        }
        Ok(Seen::new(&old_app, &new_app, &lbs, overdue))
    }

    /// Waits until no deployment touches the app.
    async fn deployed(&self, id: &str) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let app = self.client.send("GET", &format!("/v2/apps/{id}"), None).await?;
            if app["app"]["deployments"].as_array().is_none_or(Vec::is_empty) {
                return Ok(());
            }
            if begun.elapsed() > self.args.max_wait {
                return Err(Error::RolledBack { id: id.to_owned() });
            }
            sleep(self.args.step_delay.min(Duration::from_millis(200))).await;
        }
    }

    /// Deletes an app and waits until it is gone: before that nothing may be made under its id again.
    async fn delete(&self, id: &str) -> Result<(), Error> {
        let deleted = self.client.send("DELETE", &format!("/v2/apps/{id}?force=true"), None).await?;
        let is_it = |running: &Value| running["id"] == deleted["deploymentId"];
        let begun = Instant::now();
        while begun.elapsed() < self.args.max_wait {
            let running = self.client.send("GET", "/v2/deployments", None).await?;
            if !running.as_array().is_some_and(|all| all.iter().any(is_it)) {
                return Ok(());
            }
            sleep(self.args.step_delay.min(Duration::from_millis(200))).await;
        }
        warn!(app = id, "its tasks take long to end; it is deleted all the same");
        Ok(())
    }
}

fn id(app: &Value) -> &str {
    app["id"].as_str().unwrap_or_default()
}

/// Now, so that texts sort as times do.
fn started_at() -> String {
    let seconds = meshos_mesh::Clock::system().unix_ms();
    format!("{seconds:015}")
}
