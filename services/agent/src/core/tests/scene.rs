//! A core, its clock, and an allocator and a containerizer that do what the test says.

use prost::Message;

use super::*;

pub(super) const FRAMEWORK: &str = "f-0000";

pub(super) fn settings() -> Settings {
    let text = "cpus:4;mem:1000;disk:1000;cpus(eng):1";
    let resources = meshos_types::parse_resources(text, &meshos_types::RoleName::star()).unwrap().resources;
    Settings { resources, executor_secret: Some(Secret::new("secret")), ..Settings::test("/work") }
}

/// A core, its clock, and all that it did.
pub(super) struct Scene {
    pub(super) core: Core,
    pub(super) time: Duration,
    pub(super) epoch: u64,
    /// Of the randomness: another for each agent process.
    pub(super) seed: u64,
    pub(super) replay: Replay,
    pub(super) sent: Vec<StatusUpdate>,
    pub(super) launched: Vec<ContainerSpec>,
    pub(super) signals: Vec<(String, i32)>,
    /// Launches that were given up.
    pub(super) abandoned: Vec<String>,
    pub(super) probes: Vec<(Which, Probe)>,
    /// Sandboxes that may be removed.
    pub(super) provisions: Vec<(u64, ContainerSpec)>,
    pub(super) past: Vec<PathBuf>,
    pub(super) cleaned: Vec<String>,
    pub(super) operations: Vec<OperationUpdate>,
    /// Events for executors, by stream.
    pub(super) events: Vec<(u64, Event)>,
    pub(super) closed: Vec<u64>,
    pub(super) ended_containers: Vec<String>,
    pub(super) messages: Vec<FrameworkMessage>,
    pub(super) ended: Vec<ExecutorEnded>,
    pub(super) resized: Vec<(String, Limits)>,
    /// Directories of volumes that there are.
    pub(super) volumes: std::collections::BTreeSet<PathBuf>,
}

pub(super) fn framework(capabilities: &[Capability]) -> pb::FrameworkInfo {
    pb::FrameworkInfo {
        id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
        user: "root".to_owned(),
        name: "test".to_owned(),
        checkpoint: Some(true),
        capabilities: capabilities
            .iter()
            .map(|c| pb::framework_info::Capability { r#type: Some(*c as i32) })
            .collect(),
        ..pb::FrameworkInfo::default()
    }
}

pub(super) fn task(id: &str) -> pb::TaskInfo {
    let command = pb::CommandInfo { value: Some("sleep 60".to_owned()), ..pb::CommandInfo::default() };
    pb::TaskInfo {
        name: id.to_owned(),
        task_id: pb::TaskId { value: id.to_owned() },
        agent_id: pb::AgentId { value: "a-S0".to_owned() },
        command: Some(command),
        ..pb::TaskInfo::default()
    }
}

impl Scene {
    /// A registered agent with a link.
    pub(super) fn new() -> Self {
        let mut scene = Self::over(Core::new(settings(), Rng::seeded(1)));
        scene.input(Input::Registered(AgentId::new("a-S0")));
        scene.link();
        scene
    }

    pub(super) fn over(core: Core) -> Self {
        Self {
            core,
            time: Duration::ZERO,
            epoch: 5,
            seed: 1,
            replay: Replay::default(),
            sent: vec![],
            launched: vec![],
            signals: vec![],
            abandoned: vec![],
            provisions: vec![],
            probes: vec![],
            past: vec![],
            cleaned: vec![],
            operations: vec![],
            events: vec![],
            closed: vec![],
            ended_containers: vec![],
            messages: vec![],
            ended: vec![],
            resized: vec![],
            volumes: std::collections::BTreeSet::new(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { elapsed: self.time, unix: Duration::from_secs(1_000_000) + self.time }
    }

    pub(super) fn input(&mut self, input: Input) {
        let effects = self.core.handle(input, self.now());
        self.carry_out(effects);
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                // Through its bytes: a kind that the record does not list would be lost there.
                Effect::Record(record) => {
                    let written = Record::decode(record.encode_to_vec().as_slice()).unwrap();
                    self.replay.apply(written).unwrap();
                }
                Effect::Launch(spec) => self.launched.push(*spec),
                Effect::Provide { number, spec } => self.provisions.push((number, *spec)),
                Effect::Abandon { container_id } => self.abandoned.push(container_id),
                Effect::Probe { which, probe } => self.probes.push((which, *probe)),
                Effect::Signal { container_id, signal } => self.signals.push((container_id, signal)),
                Effect::Cleanup { container_id } => self.cleaned.push(container_id),
                Effect::Send(update) => self.sent.push(*update),
                Effect::SendOperation(update) => self.operations.push(*update),
                Effect::SendMessage(message) => self.messages.push(*message),
                Effect::SendExecutorEnded(ended) => self.ended.push(*ended),
                Effect::ToExecutor { stream, event } => self.events.push((stream, *event)),
                Effect::CloseExecutor { stream } => self.closed.push(stream),
                Effect::ContainerEnded { path, .. } => self.ended_containers.push(path),
                Effect::Resize { container_id, limits } => self.resized.push((container_id, limits)),
                Effect::MakeVolume(path) => drop(self.volumes.insert(path)),
                Effect::RemoveVolume { path, .. } => assert!(self.volumes.remove(&path)),
                Effect::Collect(sandbox) => self.past.push(sandbox),
                Effect::Changed(_) | Effect::Removed(_) | Effect::Detach(_) | Effect::LinkRefused(_) => {}
                Effect::Reannounce(_) => {}
            }
        }
    }

    pub(super) fn obey(&mut self, body: Body) {
        let message = AllocatorMessage { epoch: self.epoch, body: Some(body) };
        self.input(Input::Allocator(Box::new(message)));
    }

    pub(super) fn link(&mut self) {
        self.obey(Body::Accepted(LinkAccepted {}));
    }

    pub(super) fn launch_with(&mut self, capabilities: &[Capability], tasks: Vec<pb::TaskInfo>) {
        let launch = Launch {
            framework: Some(framework(capabilities)),
            tasks,
            traceparent: "00-aa-bb-01".to_owned(),
            group_executor: None,
        };
        self.obey(Body::Launch(launch));
    }

    /// Launches a task and lets it run; its container.
    pub(super) fn run(&mut self, info: pb::TaskInfo) -> String {
        self.run_with(&[], info)
    }

    pub(super) fn run_with(&mut self, capabilities: &[Capability], info: pb::TaskInfo) -> String {
        self.launch_with(capabilities, vec![info]);
        let container_id = self.launched.last().unwrap().container_id.clone();
        self.input(Input::Launched { container_id: container_id.clone(), pid: 42 });
        container_id
    }

    pub(super) fn exit(&mut self, container_id: &str, status: ExitStatus) {
        let exit = Exit { status, out_of_memory: false };
        self.input(Input::Exited { container_id: container_id.to_owned(), exit });
    }

    pub(super) fn kill(&mut self, task: &str, grace: Option<Duration>) {
        let kill_policy = grace.map(|grace| pb::KillPolicy {
            grace_period: Some(pb::DurationInfo { nanoseconds: i64::try_from(grace.as_nanos()).unwrap() }),
        });
        self.obey(Body::Kill(Kill {
            framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
            task_id: Some(pb::TaskId { value: task.to_owned() }),
            kill_policy,
        }));
    }

    /// Acknowledges what was sent last.
    pub(super) fn acknowledge(&mut self) -> pb::TaskStatus {
        let status = self.sent.last().unwrap().status.clone().unwrap();
        self.acknowledge_status(&status);
        status
    }

    pub(super) fn acknowledge_status(&mut self, status: &pb::TaskStatus) {
        self.obey(Body::Acknowledge(Acknowledge {
            framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
            task_id: Some(status.task_id.clone()),
            uuid: status.uuid.clone().unwrap_or_default(),
        }));
    }

    /// Acknowledges until nothing more comes; the states in order.
    pub(super) fn drain(&mut self) -> Vec<TaskState> {
        let mut states = vec![];
        loop {
            let before = self.sent.len();
            if before == 0 {
                return states;
            }
            states.push(self.acknowledge().state());
            if self.sent.len() == before {
                return states;
            }
        }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.time + time;
        while let Some(at) = self.core.next_timer().filter(|at| *at <= end) {
            self.time = at.max(self.time);
            self.input(Input::Timer);
        }
        self.time = end;
    }

    pub(super) fn last(&self) -> pb::TaskStatus {
        self.sent.last().unwrap().status.clone().unwrap()
    }

    pub(super) fn key(task: &str) -> TaskKey {
        TaskKey { framework_id: FrameworkId::new(FRAMEWORK), task_id: TaskId::new(task) }
    }

    pub(super) fn state(&self, task: &str) -> Option<TaskState> {
        self.core.task(&Self::key(task)).map(super::task::Task::state)
    }

    /// The agent dies and another recovers from the checkpoint; the clock goes on from zero.
    pub(super) fn restart(self, containers: Vec<Recovered>) -> Self {
        let (replay, seed) = (self.replay.clone(), self.seed + 1);
        let (core, effects) =
            Core::recover(settings(), Rng::seeded(seed), self.replay, containers, Now::default());
        let mut scene = Self { replay, seed, epoch: self.epoch, ..Self::over(core) };
        scene.carry_out(effects);
        scene
    }
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
