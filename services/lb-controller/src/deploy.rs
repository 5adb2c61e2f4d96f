//! Replaces an app by a new one without a failed request: what marathon-lb's `zdd.py` did. The new app (green) joins
//! the deployment group of the old one (blue); each task of it that is healthy lets one old task go, once the load
//! balancers say that it has no request under way. At any time the old side can be brought back.

mod plan;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use http::Uri;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::{
    config::credentials,
    marathon::client::{Access, Client, Failure},
};
use plan::{Next, Seen, Step};

/// For the addresses of a load balancer's name.
const RESOLVE: Duration = Duration::from_secs(10);

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
    #[error("the deployment of {id} did not end in time")]
    Stuck { id: String },
    #[error("creating the app: {0}")]
    Create(String),
    #[error("deleting the app: {0}")]
    Delete(String),
    #[error("scaling the app: {0}")]
    Scale(String),
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
            Self::RolledBack { .. } | Self::Create(_) => 7,
            Self::Delete(_) => 8,
            Self::Scale(_) => 9,
            Self::Hook(_) | Self::Stuck { .. } => 2,
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
    /// `user:password` for it.
    #[arg(
        long,
        env = "MESHOS_LB_MARATHON_CREDENTIALS",
        hide_env_values = true,
        value_name = "USER:PASSWORD"
    )]
    pub auth_credentials: Option<String>,
    /// A file whose first line holds them.
    #[arg(long, env = "MESHOS_LB_MARATHON_CREDENTIALS_FILE", value_name = "FILE")]
    pub marathon_auth_credential_file: Option<PathBuf>,
    /// Certificates of authorities for it.
    #[arg(long, env = "MESHOS_LB_MARATHON_CA_CERT", value_name = "FILE")]
    pub marathon_ca_cert: Option<PathBuf>,
    /// Admin ports of all load balancers; a name stands for all its addresses.
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
    #[arg(long, short = 's', default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub step_delay: Duration,
    /// Longest wait for tasks to become healthy, and for old ones to be let go of.
    #[arg(long, short = 'w', default_value = "300s", value_parser = duration, value_name = "DURATION")]
    pub max_wait: Duration,
    /// Go on with a deployment that was interrupted.
    #[arg(long, short = 'r')]
    pub resume: bool,
    /// Finish one, whatever part of it was asked for: all instances move to the new app, and the old one goes.
    #[arg(long, short = 'c', conflicts_with_all = ["complete_prev", "resume"])]
    pub complete_cur: bool,
    /// Take one back: the old app gets all its instances again, and the new one goes.
    #[arg(long, short = 'p', conflicts_with = "resume")]
    pub complete_prev: bool,
    /// Program that is run before old tasks are killed, with the old app, the tasks and the new app as JSON.
    #[arg(long, value_name = "FILE")]
    pub pre_kill_hook: Option<PathBuf>,
    /// Nobody is asked anyway.
    #[arg(long, short = 'f', hide = true)]
    pub force: bool,
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
    let credentials = credentials(args.auth_credentials.clone(), args.marathon_auth_credential_file.as_ref());
    let access = Access {
        urls: vec![args.marathon.clone()],
        credentials: credentials.map_err(Error::Arguments)?,
        authorities: args.marathon_ca_cert.clone(),
    };
    let deployment = Deployment { args, client: Client::new(&access).map_err(Error::Arguments)? };
    deployment.run(given).await
}

/// Seconds are meant where no unit is given.
fn duration(text: &str) -> Result<Duration, String> {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    meshos_mesh::config::parse_duration(&if bare { format!("{text}s") } else { text.to_owned() })
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
        let created = self.client.send("POST", "/v2/apps", Some(&new)).await;
        created.map_err(|failure| Error::Create(failure.to_string()))?;
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
        if self.args.complete_prev {
            self.take_back(id(&old), id(&new)).await?;
            Ok(old)
        } else if self.args.resume || self.args.complete_cur {
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
                if matches!(error, Error::Stuck { .. }) {
                    self.take_back(old, new).await?;
                    return Err(Error::RolledBack { id: new.to_owned() });
                }
                return Err(error);
            }
            let seen = self.look(old, new, waiting.elapsed() >= self.args.max_wait).await?;
            // What was to stay split is finished on demand.
            let split = if self.args.complete_cur { 0 } else { self.args.new_instances };
            match plan::step(&seen, split, self.args.linear_increase) {
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

    /// Gives the old app back what it has lost before the new one goes.
    async fn take_back(&self, old: &str, new: &str) -> Result<(), Error> {
        let app = self.client.send("GET", &format!("/v2/apps/{new}"), None).await?["app"].take();
        let target = plan::target(&app);
        info!(old, new, instances = target, "taking the deployment back");
        self.scale(old, target).await?;
        // Those that there are serve; the new app is removed even if no more come up.
        if let Err(error) = self.deployed(old).await {
            warn!(app = old, %error, "the old app does not get all its instances back yet");
        }
        self.delete(new).await
    }

    async fn scale(&self, app: &str, instances: u64) -> Result<(), Error> {
        let path = format!("/v2/apps/{app}?force=true");
        let scaled = self.client.send("PUT", &path, Some(&json!({"instances": instances}))).await;
        scaled.map(drop).map_err(|failure| Error::Scale(failure.to_string()))
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
            self.scale(new, instances).await?;
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
            lbs.extend(statuses(url, new).await?);
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
                return Err(Error::Stuck { id: id.to_owned() });
            }
            sleep(self.args.step_delay.min(Duration::from_millis(200))).await;
        }
    }

    /// Deletes an app and waits until it is gone: before that nothing may be made under its id again.
    async fn delete(&self, id: &str) -> Result<(), Error> {
        let deleted = self.client.send("DELETE", &format!("/v2/apps/{id}?force=true"), None).await;
        let deleted = deleted.map_err(|failure| Error::Delete(failure.to_string()))?;
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

/// What all load balancers of that name say of the app.
async fn statuses(url: &str, app: &str) -> Result<Vec<Value>, Error> {
    let failed = |message: String| Error::LoadBalancer { url: url.to_owned(), message };
    let mut statuses = Vec::new();
    for address in addresses(url).await.map_err(failed)? {
        let access = Access { urls: vec![address], ..Access::default() };
        let client = Client::new(&access).map_err(failed)?;
        let status = client.send("GET", &format!("/_lb/status?app={app}"), None).await;
        statuses.push(status.map_err(|error| failed(error.to_string()))?);
    }
    Ok(statuses)
}

/// The URL once for each address of its host.
async fn addresses(url: &str) -> Result<Vec<String>, String> {
    let parsed: Uri = url.parse().map_err(|_| "no URL".to_owned())?;
    let Some(host) = parsed.host().filter(|_| parsed.scheme_str() == Some("http")) else {
        return Ok(vec![url.to_owned()]);
    };
    let port = parsed.port_u16().unwrap_or(80);
    let found = timeout(RESOLVE, tokio::net::lookup_host((host.trim_matches(['[', ']']), port))).await;
    let found =
        found.map_err(|_| "its name is not resolved in time".to_owned())?.map_err(|e| e.to_string())?;
    let mut urls: Vec<String> = found.map(|address| format!("http://{address}")).collect();
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn id(app: &Value) -> &str {
    app["id"].as_str().unwrap_or_default()
}

/// Now, so that texts sort as times do.
fn started_at() -> String {
    let seconds = meshos_mesh::Clock::system().unix_ms();
    format!("{seconds:015}")
}
