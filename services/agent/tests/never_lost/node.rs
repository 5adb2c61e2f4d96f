//! A real agent process on a directory, and the control plane that it talks to.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use meshos_agent::{
    Config,
    containerizer::{
        SharedContainerizer,
        process::{ProcessContainerizer, Settings, SupervisorProgram},
        router::Router,
    },
};
use meshos_mesh::{Env, serve, transport};
use meshos_proto::{
    meshos::{
        allocator::v1::{
            Kill, LinkAccepted, Reregister, agent_link_server::AgentLinkServer, allocator_message::Body,
        },
        registry::v1::{self as registry, registry_server::RegistryServer},
    },
    mesos::v1::{self as pb, TaskState},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    fakes::{FakeAllocator, FakeRegistry, LinkEnd, PATIENCE, framework_id},
    ports::ports,
};

/// Runs an agent until it is killed.
pub(crate) fn be_an_agent(
    work_dir: &str,
    (registry, port): (&str, u16),
    (recovery, isolation): (&str, &str),
) -> ExitCode {
    let config = Config {
        port,
        strict: recovery != "leniently",
        resources: Some("cpus:4;mem:1024;disk:1000".to_owned()),
        isolation: Some(isolation.to_owned()),
        cgroups_root: cgroups_root(nix::unistd::getppid()),
        ..Config::new(vec![registry.to_owned()], work_dir)
    };
    let config = if super::images::is_meant(&config) { super::images::config(config) } else { config };
    let supervisor = config.work_dir.join("supervisor");
    let settings =
        Settings { program: SupervisorProgram::this_program(&supervisor), ..Settings::new(&config) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let env = Env::real(transport::tcp());
        let containerizer: SharedContainerizer = match super::images::is_meant(&config) {
            true => Arc::new(Router::open(&env, &config).unwrap()),
            false => Arc::new(ProcessContainerizer::open(&env, &settings)),
        };
        let done = match recovery {
            "cleanup" => meshos_agent::clean_up(&config, &containerizer).await,
            _ => match meshos_agent::start(&env, config, containerizer).await {
                Ok(_agent) => std::future::pending().await,
                Err(error) => Err(error),
            },
        };
        done.map_or_else(
            |error| {
                eprintln!("{error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        )
    })
}

/// Of the agents that this test starts.
fn cgroups_root(test: nix::unistd::Pid) -> String {
    format!("meshos-lost-{test}")
}

/// How tasks ended, as a framework learns it.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    ends: BTreeMap<String, pb::TaskStatus>,
    /// Terminal updates that are not acknowledged yet or whose acknowledgement may be lost.
    live: Vec<String>,
}

impl Ends {
    pub(crate) fn of(&self, task: &str) -> Option<&pb::TaskStatus> {
        self.ends.get(task)
    }

    pub(crate) fn count(&self, state: TaskState) -> usize {
        self.ends.values().filter(|status| status.state() == state).count()
    }

    /// What a new link begins with.
    pub(crate) fn reregistered(&mut self, reregister: &Reregister) {
        self.live = reregister.tasks.iter().map(|task| task.task_id.value.clone()).collect();
        for task in &reregister.tasks {
            let last = task.statuses.last();
            if let Some(last) = last.filter(|status| is_end(status.state())) {
                self.note(last.clone());
            }
        }
    }

    fn note(&mut self, status: pb::TaskStatus) {
        let task = status.task_id.value.clone();
        if let Some(before) = self.ends.get(&task) {
            assert_eq!(before.uuid, status.uuid, "{task} ended twice: {before:?}, {status:?}");
        }
        self.ends.insert(task, status);
    }

    /// Takes updates and acknowledges them, until `done`, or the link ends.
    pub(crate) async fn take(&mut self, link: &mut LinkEnd, mut done: impl FnMut() -> bool) {
        while !done() {
            let Ok(Some(message)) = link.messages.message().await else { return };
            self.take_one(link, message).await;
        }
    }

    async fn take_one(
        &mut self,
        link: &mut LinkEnd,
        message: meshos_proto::meshos::allocator::v1::AgentMessage,
    ) {
        use meshos_proto::meshos::allocator::v1::agent_message;
        let Some(agent_message::Body::Update(update)) = message.body else { return };
        let status = update.status.unwrap();
        if is_end(status.state()) {
            self.live.retain(|task| *task != status.task_id.value);
            self.note(status.clone());
        }
        link.acknowledge(&status).await;
    }

    /// Until all tasks that the agent has on this link have ended.
    pub(crate) async fn take_all(&mut self, link: &mut LinkEnd) {
        self.reregistered(&link.reregister.clone());
        while !self.live.is_empty() {
            let message = timeout(PATIENCE, link.messages.message()).await;
            let message = message.unwrap_or_else(|_| panic!("no news of {:?}", self.live)).unwrap().unwrap();
            self.take_one(link, message).await;
        }
    }
}

fn is_end(state: TaskState) -> bool {
    meshos_types::task_state::is_terminal(state)
}

impl LinkEnd {
    pub(crate) async fn kill(&self, task: &str) {
        let kill = Kill {
            framework_id: Some(framework_id()),
            task_id: Some(pb::TaskId { value: task.to_owned() }),
            kill_policy: None,
        };
        self.command(Body::Kill(kill)).await;
    }
}

/// The machine and its control plane.
pub(crate) struct Node {
    env: Env,
    dir: tempfile::TempDir,
    links: mpsc::Receiver<LinkEnd>,
    registry: String,
    /// Of the agent's API, the same for each: executors come back to it.
    pub(crate) port: u16,
    pub(crate) isolation: &'static str,
    agent: Option<Child>,
    _registrations: mpsc::Receiver<registry::Register>,
}

impl Node {
    pub(crate) async fn new(dir: tempfile::TempDir) -> Self {
        let env = Env::real(transport::tcp());
        let (link_sender, links) = mpsc::channel(64);
        let (registrations, receiver) = mpsc::channel(100_000);
        let routes = tonic::service::Routes::new(AgentLinkServer::new(FakeAllocator { links: link_sender }));
        let listener = env.transport.bind("127.0.0.1:0").await.unwrap();
        let allocator = serve(&env, "allocator", listener, routes).await;
        let leader =
            registry::Leader { instance: "a1".to_owned(), address: allocator.address.clone(), epoch: 7 };
        let fake = FakeRegistry { allocator: leader, refuse: None, registrations };
        let routes = tonic::service::Routes::new(RegistryServer::new(fake));
        let listener = env.transport.bind("127.0.0.1:0").await.unwrap();
        let registry = serve(&env, "registry", listener, routes).await.address.clone();
        let [port] = ports();
        Self {
            env,
            dir,
            links,
            registry,
            port,
            isolation: "posix/cpu",
            agent: None,
            _registrations: receiver,
        }
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    fn command(&self, recovery: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("agent").arg(self.work_dir()).arg(&self.registry).arg(recovery).arg(self.isolation);
        command.arg(self.port.to_string());
        command
    }

    pub(crate) fn start(&mut self) {
        self.agent = Some(self.command("strict").spawn().unwrap());
    }

    pub(crate) fn start_leniently(&mut self) {
        self.agent = Some(self.command("leniently").spawn().unwrap());
    }

    /// Starts an agent that ends by itself: its status, and what it said.
    pub(crate) fn start_in_vain(&mut self) -> (i32, String) {
        self.until_it_ends("strict")
    }

    /// Ends what agents before left; the same.
    pub(crate) fn clean_up(&mut self) -> (i32, String) {
        self.until_it_ends("cleanup")
    }

    fn until_it_ends(&self, recovery: &str) -> (i32, String) {
        let output = self.command(recovery).stderr(Stdio::piped()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The agent's next link that is still open.
    pub(crate) async fn link(&mut self) -> LinkEnd {
        loop {
            let link = timeout(PATIENCE, self.links.recv()).await.expect("the agent links").unwrap();
            // Of an agent process that was killed since: nobody reads it.
            if !link.commands.is_closed() {
                link.command(Body::Accepted(LinkAccepted {})).await;
                return link;
            }
        }
    }

    /// Kills the agent process alone.
    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Kills it from another thread; [`Node::kill`] must follow.
    pub(crate) fn signal_agent(&self) {
        Self::signal(i32::try_from(self.agent.as_ref().unwrap().id()).unwrap());
    }

    /// Processes of this node with their command lines, but for the agent and its supervisor.
    pub(crate) fn left_over(&self) -> Vec<(i32, String)> {
        self.processes()
            .into_iter()
            .filter(|(_, line)| !line.contains("supervisor") && !line.contains("--dir"))
            .collect()
    }

    /// All that has this node's directory in its command line or environment.
    fn processes(&self) -> Vec<(i32, String)> {
        let dir = self.dir.path().display().to_string();
        let own = self.agent.as_ref().map(|agent| i32::try_from(agent.id()).unwrap());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let read = |file: &str| {
                let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let line = read("cmdline");
            if Some(pid) != own && !line.is_empty() && (line.contains(&dir) || read("environ").contains(&dir))
            {
                found.push((pid, line));
            }
        }
        found
    }

    fn signal(pid: i32) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }

    pub(crate) fn kill_supervisor(&self) {
        let found = self.processes().into_iter().find(|(_, line)| line.contains("supervisor --dir"));
        Self::signal(found.unwrap().0);
    }

    /// Everything stops at once, and the machine comes up again: another boot.
    pub(crate) fn lose_power(&mut self) {
        self.kill();
        let started = Instant::now();
        while !self.processes().is_empty() {
            assert!(started.elapsed() < PATIENCE);
            self.processes().into_iter().for_each(|(pid, _)| Self::signal(pid));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Names of the cgroups of containers that are left; the cgroup of all goes with this.
    pub(crate) fn left_cgroups(&self) -> Vec<String> {
        let mut left = Vec::new();
        for controller in ["cpu", "memory", "pids", ""] {
            let root = Path::new("/sys/fs/cgroup").join(controller).join(cgroups_root(nix::unistd::getpid()));
            let entries = fs::read_dir(&root).into_iter().flatten().flatten();
            let groups = entries.filter(|entry| entry.file_type().unwrap().is_dir());
            left.extend(groups.map(|entry| entry.path().display().to_string()));
            let _ = fs::remove_dir(root);
        }
        left
    }

    /// How often a task's command was started.
    pub(crate) fn runs(&self, task: &str) -> usize {
        let file = self.work_dir().join(format!("ran-{task}"));
        fs::read_to_string(file).unwrap_or_default().lines().count()
    }

    /// Makes a file in a task's sandbox.
    pub(crate) fn touch(&self, task: &str, name: &str) {
        let run = format!("slaves/m-S0/frameworks/f-0000/executors/{task}/runs/latest");
        fs::write(self.work_dir().join(run).join(name), "").unwrap();
    }

    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        fs::read(self.work_dir().join("meta/agent.journal")).unwrap()
    }

    pub(crate) fn write_checkpoint(&self, bytes: &[u8]) {
        fs::write(self.work_dir().join("meta/agent.journal"), bytes).unwrap();
    }

    pub(crate) fn fill_disk(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.dir.path().join("ballast")).unwrap();
        let mut chunk = vec![0; 64 * 1024];
        // Smaller and smaller, to the last byte.
        while !chunk.is_empty() {
            if file.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
    }

    pub(crate) fn free_disk(&self) {
        fs::remove_file(self.dir.path().join("ballast")).unwrap();
    }

    pub(crate) async fn end(mut self) {
        if self.agent.is_some() {
            self.lose_power();
        }
        assert!(self.env.tasks.shutdown(PATIENCE).await);
    }
}

/// A test that failed leaves nothing running either.
impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        self.processes().into_iter().for_each(|(pid, _)| Self::signal(pid));
    }
}
