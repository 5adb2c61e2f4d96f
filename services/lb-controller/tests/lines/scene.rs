//! A load balancer with everything around it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs::{self, Permissions},
    future::Future,
    io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use clap::Parser;
use meshos_lb_controller::{Config, LbArgs};
use meshos_mesh::{Env, connect};
use meshos_proto::meshos::{
    apps::v1::{
        App, Condition, Container, Delta, Goal, HealthCheck, HealthProtocol, HealthResult, Instance,
        InstanceHealth, Network, NetworkMode, PortDefinition, PortMapping, PortMappingList,
    },
    lb::v1::{GetStatusRequest, Status, lb_controller_client::LbControllerClient},
};
use meshos_store::{Embedded, SharedStore};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    client::{self, Answer},
    ports::ports,
    scheduler::Scheduler,
    tasks::TaskServer,
};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    args: LbArgs,
}

/// A port that nobody else gets.
pub(crate) fn port() -> u16 {
    ports::<1>()[0]
}

/// For what a slow and busy machine needs; a test that passes does not wait for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `probe` gives a value.
pub(crate) async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(missing) if begun.elapsed() > PATIENCE => panic!("{what}: {missing:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// One controller and its HAProxy.
pub(crate) struct Lb {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) http: u16,
    pub(crate) https: u16,
    pub(crate) admin: u16,
    pub(crate) app_id: u16,
    name: String,
    config: Config,
    store: SharedStore,
}

impl Drop for Lb {
    /// A test that failed must not leave a HAProxy behind.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(pid) = std::fs::read_to_string(self.dir.join("haproxy.pid"))
        {
            let _ = std::process::Command::new("kill").args(["-TERM", pid.trim()]).status();
        }
    }
}

impl Lb {
    pub(crate) async fn status(&self) -> Status {
        let mut client = LbControllerClient::new(connect(&self.env, &self.name));
        client.get_status(GetStatusRequest::default()).await.unwrap().into_inner()
    }

    /// Messages of problems that mention `text`.
    pub(crate) async fn problem(&self, text: &str) -> String {
        until(&format!("a problem about {text}"), || async {
            let problems = self.status().await.problems;
            let shown = problems.iter().map(|p| format!("{} {} {}", p.app_id, p.label, p.message));
            let all: Vec<String> = shown.collect();
            all.iter().find(|problem| problem.contains(text)).cloned().ok_or(all)
        })
        .await
    }

    pub(crate) async fn host(&self, host: &str, path: &str) -> Answer {
        client::get(self.http, host, path, &[]).await.unwrap()
    }

    /// Waits until the host is answered 200 at the virtual hosts' port.
    pub(crate) async fn served(&self, host: &str) -> Answer {
        let answer = served(self.http, host).await;
        self.calm().await;
        answer
    }

    /// Waits until nobody serves the virtual host.
    pub(crate) async fn unserved(&self, host: &str) {
        unserved(self.http, host).await;
        self.calm().await;
    }

    /// Waits until the workers of former configurations are gone: for a moment after a reload they still accept
    /// connections, and answer what the former configuration says.
    pub(crate) async fn calm(&self) {
        until("one worker is left", || async {
            match client::get(self.admin, "lb", "/_haproxy_getpids", &[]).await {
                Ok(answer) if answer.status == 200 && answer.body.split(' ').count() == 2 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    pub(crate) async fn admin(&self, path: &str) -> Answer {
        client::get(self.admin, "lb", path, &[]).await.unwrap()
    }

    /// Kills the controller as a crash would: its tasks are dropped where they are.
    pub(crate) async fn stop_controller_keeping_haproxy(&mut self) {
        self.env.tasks.shutdown(Duration::from_secs(10)).await;
    }

    /// A HAProxy that nobody watches any more.
    pub(crate) async fn stop_haproxy(&mut self) {
        self.env.tasks.shutdown(Duration::from_secs(10)).await;
        let pid = std::fs::read_to_string(self.dir.join("haproxy.pid")).unwrap();
        let _ = std::process::Command::new("kill").args(["-TERM", pid.trim()]).status();
    }

    /// A controller on the same directory.
    pub(crate) async fn start_controller(&mut self, env: &Env) {
        self.env = env.child();
        meshos_lb_controller::start(&self.env, Some(Arc::clone(&self.store)), self.config.clone())
            .await
            .unwrap();
    }

    /// The number of reloads, once none is due or under way: what is served was loaded a moment ago.
    pub(crate) async fn reloads(&self) -> u64 {
        until("a reload is known", || async {
            let Status { reloads, changing, .. } = self.status().await;
            if reloads > 0 && !changing { Ok(reloads) } else { Err((reloads, changing)) }
        })
        .await
    }
}

pub(crate) struct Scene {
    pub(crate) env: Env,
    pub(crate) store: SharedStore,
    pub(crate) scheduler: Scheduler,
    pub(crate) confirmed: mpsc::UnboundedReceiver<String>,
    pub(crate) lb: Lb,
    dirs: Vec<TempDir>,
}

impl Scene {
    /// Group `external`.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(arguments: &[&str]) -> Self {
        Self::with_variables(arguments, &[]).await
    }

    /// `variables`: HAPROXY_* as in the environment.
    pub(crate) async fn with_variables(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let env = Env::in_memory();
        let store: SharedStore = Arc::new(Embedded::in_memory());
        let (scheduler, confirmed) = Scheduler::start(&env, &store).await;
        let dir = tempfile::tempdir().unwrap();
        let mut lb = new_lb(&env, &store, &dir, arguments);
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        lb.config.haproxy_variables = variables.collect::<BTreeMap<_, _>>();
        lb.start_controller(&env).await;
        lb.calm().await;
        Self { env, store, scheduler, confirmed, lb, dirs: vec![dir] }
    }

    /// Whose HAProxy stays when the controller goes.
    pub(crate) async fn keeping() -> Self {
        let mut scene = Self::with(&[]).await;
        scene.lb.env.tasks.shutdown(Duration::from_secs(10)).await;
        scene.lb.config.keep_haproxy = true;
        let env = scene.env.clone();
        scene.lb.start_controller(&env).await;
        scene.lb.calm().await;
        scene
    }

    /// Somebody else starts HAProxy on the directory, with the command that the documentation names.
    pub(crate) async fn beside() -> (Self, Sidecar) {
        let env = Env::in_memory();
        let store: SharedStore = Arc::new(Embedded::in_memory());
        let (scheduler, confirmed) = Scheduler::start(&env, &store).await;
        let dir = tempfile::tempdir().unwrap();
        let mut lb = new_lb(&env, &store, &dir, &["--haproxy=beside"]);
        let sidecar = Sidecar::start(lb.dir.clone());
        lb.start_controller(&env).await;
        lb.calm().await;
        (Self { env, store, scheduler, confirmed, lb, dirs: vec![dir] }, sidecar)
    }

    /// Another load balancer beside the first.
    pub(crate) async fn another(&mut self, arguments: &[&str]) -> Lb {
        let dir = tempfile::tempdir().unwrap();
        let mut lb = new_lb(&self.env, &self.store, &dir, arguments);
        self.dirs.push(dir);
        lb.start_controller(&self.env).await;
        lb
    }

    pub(crate) async fn end(self) {
        self.lb.env.tasks.shutdown(Duration::from_secs(10)).await;
        self.env.tasks.shutdown(Duration::from_secs(10)).await;
    }

    pub(crate) async fn task(&self, name: &str) -> TaskServer {
        TaskServer::start(&self.env, name).await
    }

    pub(crate) fn put(&self, app: &App) {
        self.scheduler.change(Delta { apps: vec![app.clone()], ..Delta::default() });
    }

    pub(crate) fn remove(&self, app: &App) {
        self.scheduler.change(Delta { removed_apps: vec![app.id.clone()], ..Delta::default() });
    }

    pub(crate) fn instance(&self, instance: Instance) {
        self.scheduler.change(Delta { instances: vec![instance], ..Delta::default() });
    }

    /// A running instance named after its server.
    pub(crate) fn run(&self, app: &App, server: &TaskServer) -> Instance {
        let instance = instance(app, &server.name, &[server.port]);
        self.instance(instance.clone());
        instance
    }

    pub(crate) fn gone(&self, instance: &Instance) {
        self.scheduler.change(Delta { removed_instances: vec![instance.id.clone()], ..Delta::default() });
    }

    /// What a check of the instance found.
    pub(crate) fn checked(&self, instance: &Instance, alive: bool) {
        let result = HealthResult { alive, ..HealthResult::default() };
        let health = InstanceHealth { instance_id: instance.id.clone(), results: vec![result] };
        self.scheduler.change(Delta { health: vec![health], ..Delta::default() });
    }

    /// Waits until the service port answers 200.
    pub(crate) async fn served(&self, port: u16) -> Answer {
        let answer = served(port, "x").await;
        self.lb.calm().await;
        answer
    }

    /// Waits until nobody serves the service port.
    pub(crate) async fn unserved(&self, port: u16) {
        unserved(port, "x").await;
        self.lb.calm().await;
    }
}

/// Waits until host at port answers 200.
async fn served(port: u16, host: &str) -> Answer {
    until(&format!("{host} at {port} is served"), || async {
        match client::get(port, host, "/", &[]).await {
            Ok(answer) if answer.status == 200 => Ok(answer),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Waits until nobody serves it.
async fn unserved(port: u16, host: &str) {
    until(&format!("{host} at {port} is not served"), || async {
        match client::get(port, host, "/", &[]).await {
            Ok(answer) if answer.status == 200 => Err(answer.body),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

/// Keeps a HAProxy running, as a container runtime would.
pub(crate) struct Sidecar {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sidecar {
    fn start(dir: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let master = format!("{},mode,600", dir.join("master.sock").display());
                let mut child = std::process::Command::new("haproxy")
                    .args(["-W", "-S", &master, "-f"])
                    .arg(dir.join("head.cfg"))
                    .arg("-f")
                    .arg(dir.join("apps"))
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .unwrap();
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join("haproxy.pid"), child.id().to_string()).unwrap();
                while child.try_wait().unwrap().is_none() {
                    if stopped.load(Ordering::Relaxed) {
                        child.kill().unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn new_lb(env: &Env, store: &SharedStore, dir: &TempDir, arguments: &[&str]) -> Lb {
    // Whom HAProxy's workers become has to get there.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let (http, https, admin, app_id) = (port(), port(), port(), port());
    let ports = [
        format!("--http-port={http}"),
        format!("--https-port={https}"),
        format!("--admin-port={admin}"),
        format!("--app-id-port={app_id}"),
        "--lb-maxconn=2000".to_owned(),
    ];
    let all = std::iter::once("lb").chain(ports.iter().map(String::as_str)).chain(arguments.iter().copied());
    let args = Arguments::try_parse_from(all).unwrap().args;
    let name = format!("lb-{http}");
    let mut config = Config::new(name.clone(), args, dir.path().join("lb"));
    config.haproxy_variables = BTreeMap::new();
    Lb {
        env: env.child(),
        dir: dir.path().join("lb"),
        http,
        https,
        admin,
        app_id,
        name,
        config,
        store: Arc::clone(store),
    }
}

/// An app of group `external` with one service port.
pub(crate) fn app(id: &str, labels: &[(&str, &str)]) -> App {
    app_at(id, &[port()], labels)
}

pub(crate) fn app_at(id: &str, ports: &[u16], labels: &[(&str, &str)]) -> App {
    static VERSION: AtomicU16 = AtomicU16::new(1);
    let definition = |port: &u16| PortDefinition {
        port: u32::from(*port),
        protocol: "tcp".into(),
        ..PortDefinition::default()
    };
    let mut all: BTreeMap<String, String> = [("HAPROXY_GROUP".into(), "external".into())].into();
    all.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    App {
        format: 1,
        id: id.to_owned(),
        instances: 1,
        labels: all,
        port_definitions: ports.iter().map(definition).collect(),
        version_ms: u64::from(VERSION.fetch_add(1, Ordering::Relaxed)),
        ..App::default()
    }
}

/// An app whose tasks have addresses of their own; 0: no service port.
pub(crate) fn app_with_addresses(id: &str, own: u16, service: u16, labels: &[(&str, &str)]) -> App {
    let mapping = PortMapping {
        container_port: own.into(),
        service_port: service.into(),
        protocol: "tcp".into(),
        ..PortMapping::default()
    };
    let container =
        Container { port_mappings: Some(PortMappingList { items: vec![mapping] }), ..Container::default() };
    let network = Network { mode: NetworkMode::Container.into(), ..Network::default() };
    App { container: Some(container), networks: vec![network], ..app_at(id, &[], labels) }
}

/// The app's service port of that index.
pub(crate) fn port_of(app: &App, index: usize) -> u16 {
    u16::try_from(app.port_definitions[index].port).unwrap()
}

pub(crate) fn label(app: &App, name: &str, value: &str) -> App {
    let mut app = app.clone();
    app.labels.insert(name.to_owned(), value.to_owned());
    app.version_ms += 1000;
    app
}

pub(crate) fn checked_app(id: &str) -> App {
    let check = HealthCheck {
        protocol: HealthProtocol::Http.into(),
        path: Some("/".into()),
        port_index: Some(0),
        interval_s: 10,
        timeout_s: 5,
        max_consecutive_failures: 3,
        ..HealthCheck::default()
    };
    App { health_checks: vec![check], ..app(id, &[]) }
}

pub(crate) fn instance(app: &App, name: &str, ports: &[u16]) -> Instance {
    let mut instance = Instance {
        format: 1,
        id: format!("{}.instance-{name}", app.id.trim_start_matches('/').replace('/', "_")),
        app_id: app.id.clone(),
        task_id: format!("{name}-task"),
        host: "127.0.0.1".into(),
        ports: ports.iter().map(|port| u32::from(*port)).collect(),
        mesos_state: "TASK_RUNNING".into(),
        started_at_ms: 1,
        ..Instance::default()
    };
    instance.set_condition(Condition::Running);
    instance.set_goal(Goal::Running);
    instance
}
