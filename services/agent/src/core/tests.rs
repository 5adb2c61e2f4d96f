use std::collections::BTreeMap;

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::{
        Acknowledge, AllocatorMessage, Kill, Launch, LinkAccepted, ShutdownFramework, StatusUpdate,
        allocator_message::Body,
    },
    mesos::v1::{self as pb, TaskState, framework_info::capability::Type as Capability, task_status::Reason},
};

use super::{updates::LAST_RETRY, *};
use crate::{
    checkpoint::Replay,
    containerizer::{ExitStatus, Recovered},
};

mod model;
mod operations;

const FRAMEWORK: &str = "f-0000";

fn settings() -> Settings {
    Settings {
        ip: "10.0.0.1".to_owned(),
        endpoint: "10.0.0.1:5051".to_owned(),
        work_dir: "/work".into(),
        resources: meshos_types::parse_resources(
            "cpus:4;mem:1000;disk:1000;cpus(eng):1",
            &meshos_types::RoleName::star(),
        )
        .unwrap()
        .resources,
        recovery_timeout: Duration::from_secs(900),
        shutdown_grace: Duration::from_secs(5),
    }
}

/// A core, its clock, and all that it did.
struct Scene {
    core: Core,
    time: Duration,
    epoch: u64,
    /// Of the randomness: another for each agent process.
    seed: u64,
    replay: Replay,
    sent: Vec<StatusUpdate>,
    launched: Vec<ContainerSpec>,
    signals: Vec<(String, i32)>,
    cleaned: Vec<String>,
    operations: Vec<OperationUpdate>,
    /// Directories of volumes that there are.
    volumes: std::collections::BTreeSet<PathBuf>,
}

fn framework(capabilities: &[Capability]) -> pb::FrameworkInfo {
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

fn task(id: &str) -> pb::TaskInfo {
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
    fn new() -> Self {
        let mut scene = Self::over(Core::new(settings(), Rng::seeded(1)));
        scene.input(Input::Registered(AgentId::new("a-S0")));
        scene.link();
        scene
    }

    fn over(core: Core) -> Self {
        Self {
            core,
            time: Duration::ZERO,
            epoch: 5,
            seed: 1,
            replay: Replay::default(),
            sent: vec![],
            launched: vec![],
            signals: vec![],
            cleaned: vec![],
            operations: vec![],
            volumes: std::collections::BTreeSet::new(),
        }
    }

    fn now(&self) -> Now {
        Now { elapsed: self.time, unix: Duration::from_secs(1_000_000) + self.time }
    }

    fn input(&mut self, input: Input) {
        let effects = self.core.handle(input, self.now());
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.replay.apply(*record).unwrap(),
                Effect::Launch(spec) => self.launched.push(*spec),
                Effect::Signal { container_id, signal } => self.signals.push((container_id, signal)),
                Effect::Cleanup { container_id } => self.cleaned.push(container_id),
                Effect::Send(update) => self.sent.push(*update),
                Effect::SendOperation(update) => self.operations.push(*update),
                Effect::MakeVolume(path) => drop(self.volumes.insert(path)),
                Effect::RemoveVolume { path, .. } => assert!(self.volumes.remove(&path)),
                Effect::Changed(_) | Effect::Removed(_) | Effect::Detach(_) | Effect::LinkRefused(_) => {}
            }
        }
    }

    fn obey(&mut self, body: Body) {
        let message = AllocatorMessage { epoch: self.epoch, body: Some(body) };
        self.input(Input::Allocator(Box::new(message)));
    }

    fn link(&mut self) {
        self.obey(Body::Accepted(LinkAccepted {}));
    }

    fn launch_with(&mut self, capabilities: &[Capability], tasks: Vec<pb::TaskInfo>) {
        let launch = Launch {
            framework: Some(framework(capabilities)),
            tasks,
            traceparent: "00-aa-bb-01".to_owned(),
            group_executor: None,
        };
        self.obey(Body::Launch(launch));
    }

    /// Launches a task and lets it run; its container.
    fn run(&mut self, info: pb::TaskInfo) -> String {
        self.run_with(&[], info)
    }

    fn run_with(&mut self, capabilities: &[Capability], info: pb::TaskInfo) -> String {
        self.launch_with(capabilities, vec![info]);
        let container_id = self.launched.last().unwrap().container_id.clone();
        self.input(Input::Launched { container_id: container_id.clone(), pid: 42 });
        container_id
    }

    fn exit(&mut self, container_id: &str, status: ExitStatus) {
        let exit = Exit { status, out_of_memory: false };
        self.input(Input::Exited { container_id: container_id.to_owned(), exit });
    }

    fn kill(&mut self, task: &str, grace: Option<Duration>) {
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
    fn acknowledge(&mut self) -> pb::TaskStatus {
        let status = self.sent.last().unwrap().status.clone().unwrap();
        self.acknowledge_status(&status);
        status
    }

    fn acknowledge_status(&mut self, status: &pb::TaskStatus) {
        self.obey(Body::Acknowledge(Acknowledge {
            framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
            task_id: Some(status.task_id.clone()),
            uuid: status.uuid.clone().unwrap_or_default(),
        }));
    }

    /// Acknowledges until nothing more comes; the states in order.
    fn drain(&mut self) -> Vec<TaskState> {
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

    fn wait(&mut self, time: Duration) {
        let end = self.time + time;
        while let Some(at) = self.core.next_timer().filter(|at| *at <= end) {
            self.time = at.max(self.time);
            self.input(Input::Timer);
        }
        self.time = end;
    }

    fn last(&self) -> pb::TaskStatus {
        self.sent.last().unwrap().status.clone().unwrap()
    }

    fn key(task: &str) -> TaskKey {
        TaskKey { framework_id: FrameworkId::new(FRAMEWORK), task_id: TaskId::new(task) }
    }

    fn state(&self, task: &str) -> Option<TaskState> {
        self.core.task(&Self::key(task)).map(super::task::Task::state)
    }

    /// The agent dies and another recovers from the checkpoint; the clock goes on from zero.
    fn restart(self, containers: Vec<Recovered>) -> Self {
        let (replay, seed) = (self.replay.clone(), self.seed + 1);
        let (core, effects) =
            Core::recover(settings(), Rng::seeded(seed), self.replay, containers, Now::default());
        let mut scene = Self { replay, seed, epoch: self.epoch, ..Self::over(core) };
        scene.carry_out(effects);
        scene
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn mesos_c35_starting_running_and_finished_come_in_order_each_after_the_acknowledgement_of_the_one_before() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.exit(&container, ExitStatus::Code(0));
    assert_eq!(scene.sent.len(), 1, "only the oldest update is on its way");
    assert_eq!(scene.sent[0].latest_state(), TaskState::TaskStarting);
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFinished]);
    assert_eq!(scene.last().message(), "Command exited with status 0");
    assert_eq!(scene.state("t"), None, "the terminal acknowledgement removes the task");
    assert_eq!(scene.cleaned, [container]);
}

#[test]
fn a_status_says_who_where_and_when() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.acknowledge();
    let status = scene.last();
    assert_eq!(status.source(), pb::task_status::Source::Executor);
    assert_eq!(status.uuid.as_ref().map(Bytes::len), Some(16));
    assert_eq!(status.timestamp, Some(1_000_000.0));
    assert_eq!(status.executor_id.unwrap().value, "t");
    assert_eq!(status.agent_id.unwrap().value, "a-S0");
    let place = status.container_status.unwrap();
    assert_eq!((place.container_id.unwrap().value, place.executor_pid), (container, Some(42)));
    assert_eq!(place.network_infos[0].ip_addresses[0].ip_address(), "10.0.0.1");
    assert_eq!(scene.sent[0].traceparent, "00-aa-bb-01");
}

#[test]
fn mesos_c36_an_unacknowledged_update_comes_again_after_10_20_40_seconds_up_to_10_minutes() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    let mut delays = vec![];
    let mut last = scene.time;
    while scene.time < seconds(10_000) {
        let sent = scene.sent.len();
        scene.wait(seconds(1));
        if scene.sent.len() > sent {
            delays.push((scene.time - last).as_secs());
            last = scene.time;
        }
    }
    assert_eq!(delays[..8], [10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!(LAST_RETRY, seconds(600));
    assert!(scene.sent.iter().all(|update| update.status == scene.sent[0].status), "the identical update");
}

#[test]
fn updates_wait_while_there_is_no_link_and_start_anew_with_the_next() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    scene.wait(seconds(100));
    scene.input(Input::LinkDown);
    let sent = scene.sent.len();
    scene.wait(seconds(1000));
    assert_eq!(scene.sent.len(), sent, "nothing is sent without a link");
    scene.link();
    assert_eq!(scene.sent.len(), sent + 1);
    scene.wait(seconds(10));
    assert_eq!(scene.sent.len(), sent + 2, "delays begin small again");
}

#[test]
fn mesos_c46_a_status_other_than_zero_is_a_failure_in_the_words_of_mesos() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.exit(&container, ExitStatus::Code(1));
    assert_eq!(scene.drain().last(), Some(&TaskState::TaskFailed));
    assert_eq!(scene.last().message(), "Command exited with status 1");
    assert_eq!(scene.last().reason, None);
}

#[test]
fn mesos_c40_a_kill_is_term_then_kill_after_3_seconds() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.kill("t", None);
    assert_eq!(scene.signals, [(container.clone(), 15)]);
    scene.wait(Duration::from_millis(2999));
    assert_eq!(scene.signals.len(), 1);
    scene.wait(Duration::from_millis(1));
    assert_eq!(scene.signals[1], (container.clone(), 9));
    scene.wait(seconds(1));
    assert_eq!(scene.signals.len(), 3, "SIGKILL is repeated");
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskKilled]);
    assert_eq!(scene.last().message(), "Command terminated with signal Killed");
    let signals = scene.signals.len();
    scene.wait(seconds(100));
    assert_eq!(scene.signals.len(), signals, "nothing is signalled after its end");
}

#[test]
fn mesos_c41_killing_comes_first_where_it_is_known() {
    let mut scene = Scene::new();
    let container = scene.run_with(&[Capability::TaskKillingState], task("t"));
    scene.kill("t", None);
    // It may even end well: it is killed all the same.
    scene.exit(&container, ExitStatus::Code(0));
    let states = scene.drain();
    assert_eq!(states[2..], [TaskState::TaskKilling, TaskState::TaskKilled]);
}

#[test]
fn a_second_kill_may_only_be_stricter() {
    let mut scene = Scene::new();
    let mut info = task("t");
    info.kill_policy =
        Some(pb::KillPolicy { grace_period: Some(pb::DurationInfo { nanoseconds: 20_000_000_000 }) });
    scene.run(info);
    scene.kill("t", None);
    scene.kill("t", Some(seconds(60)));
    scene.wait(seconds(5));
    assert_eq!(scene.signals.len(), 1);
    scene.kill("t", Some(seconds(2)));
    scene.wait(seconds(2));
    assert_eq!(scene.signals[1].1, 9, "two seconds after the stricter kill");
}

#[test]
fn a_kill_before_the_start_says_so() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container = scene.launched[0].container_id.clone();
    scene.kill("t", None);
    assert!(scene.signals.is_empty(), "there is nothing to signal yet");
    scene.input(Input::Launched { container_id: container.clone(), pid: 1 });
    assert_eq!(scene.signals, [(container.clone(), 9)]);
    scene.wait(seconds(1));
    assert_eq!(scene.signals.len(), 2, "until it is gone");
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskKilled]);
    assert_eq!(scene.last().reason(), Reason::TaskKilledDuringLaunch);
}

#[test]
fn an_end_that_overtakes_the_answer_to_the_launch_is_told_in_order() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container = scene.launched[0].container_id.clone();
    scene.exit(&container, ExitStatus::Code(0));
    scene.input(Input::Launched { container_id: container, pid: 1 });
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFinished]);
}

#[test]
fn a_launch_that_fails_and_a_task_that_cannot_be_run_say_why() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container_id = scene.launched[0].container_id.clone();
    scene.input(Input::LaunchFailed { container_id, reason: "no such user".to_owned() });
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskFailed]);
    assert_eq!(
        (scene.last().reason(), scene.last().message()),
        (Reason::ContainerLaunchFailed, "no such user")
    );

    let mut info = task("u");
    info.command.as_mut().unwrap().uris.push(pb::command_info::Uri::default());
    scene.launch_with(&[], vec![info]);
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    assert!(scene.last().message().contains("URIs to fetch"));
    assert_eq!(scene.launched.len(), 1);
}

#[test]
fn mesos_c47_memory_over_the_limit_is_a_failure_with_its_limitation() {
    let mut scene = Scene::new();
    let mut info = task("t");
    let scalar = Some(pb::value::Scalar { value: 32.0 });
    info.resources = vec![pb::Resource { name: "mem".to_owned(), scalar, ..pb::Resource::default() }];
    let container_id = scene.run(info);
    let exit = Exit { status: ExitStatus::Signal(9), out_of_memory: true };
    scene.input(Input::Exited { container_id, exit });
    assert_eq!(scene.drain().last(), Some(&TaskState::TaskFailed));
    let status = scene.last();
    assert_eq!(status.reason(), Reason::ContainerLimitationMemory);
    assert_eq!(status.limitation.unwrap().resources[0].name, "mem");
}

#[test]
fn max_completion_time_ends_a_task_as_failed() {
    let mut scene = Scene::new();
    let mut info = task("t");
    info.max_completion_time = Some(pb::DurationInfo { nanoseconds: 7_000_000_000 });
    let container = scene.run_with(&[Capability::TaskKillingState], info);
    scene.wait(seconds(7));
    assert_eq!(scene.signals, [(container.clone(), 15)]);
    scene.exit(&container, ExitStatus::Signal(15));
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    assert_eq!(scene.last().reason(), Reason::MaxCompletionTimeReached);
}

#[test]
fn only_the_newest_allocator_is_obeyed() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    scene.epoch = 4;
    scene.kill("t", None);
    scene.launch_with(&[], vec![task("u")]);
    assert!(scene.signals.is_empty() && scene.launched.len() == 1);
    scene.epoch = 9;
    scene.link();
    assert_eq!(scene.core.reregister().highest_epoch, 9);
    let scene = scene.restart(vec![]);
    assert_eq!(scene.core.reregister().highest_epoch, 9, "the epoch survives a restart");
}

#[test]
fn a_launch_told_twice_runs_once() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    scene.launch_with(&[], vec![task("t")]);
    assert_eq!(scene.launched.len(), 1);
}

#[test]
fn mesos_c38_an_id_may_be_used_again_after_the_terminal_acknowledgement() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        let container = scene.run(task("t"));
        scene.exit(&container, ExitStatus::Code(0));
        assert_eq!(scene.drain().len(), 3);
    }
    assert_eq!(scene.launched.len(), 2);
}

#[test]
fn ids_that_would_leave_the_sandbox_are_dropped() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("../../etc"), task(".."), task("good")]);
    assert_eq!(scene.launched.len(), 1);
    let sandbox = scene.launched[0].sandbox.display().to_string();
    let container = &scene.launched[0].container_id;
    assert_eq!(sandbox, format!("/work/slaves/a-S0/frameworks/f-0000/executors/good/runs/{container}"));
}

#[test]
fn a_task_gets_the_environment_of_mesos_then_its_own() {
    let mut scene = Scene::new();
    let mut info = task("t");
    let variable = |name: &str, value: &str| pb::environment::Variable {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..pb::environment::Variable::default()
    };
    let variables = vec![variable("MESOS_CONTAINER_IP", "own"), variable("A", "b")];
    info.command.as_mut().unwrap().environment = Some(pb::Environment { variables });
    scene.run(info);
    let spec = &scene.launched[0];
    let value = |name: &str| spec.environment.get(name).map_or("", String::as_str);
    assert_eq!((value("A"), value("MESOS_CONTAINER_IP")), ("b", "own"));
    assert_eq!(
        (value("MESOS_FRAMEWORK_ID"), value("MESOS_EXECUTOR_ID"), value("MESOS_SLAVE_ID")),
        (FRAMEWORK, "t", "a-S0")
    );
    assert_eq!(value("MESOS_SANDBOX"), spec.sandbox.display().to_string());
    assert_eq!((value("MESOS_AGENT_ENDPOINT"), value("MESOS_RECOVERY_TIMEOUT")), ("10.0.0.1:5051", "15mins"));
    assert_eq!((value("TRACEPARENT"), value("MESOS_CHECKPOINT")), ("00-aa-bb-01", "1"));
    assert!(value("PATH").contains("/usr/bin"));
    assert_eq!(
        (spec.program.as_str(), spec.arguments.clone()),
        ("/bin/sh", vec!["-c".to_owned(), "sleep 60".to_owned()])
    );
}

#[test]
fn arguments_without_a_shell_begin_with_the_programs_own_name() {
    let mut scene = Scene::new();
    let mut info = task("t");
    let arguments = ["ls", "-l"].map(str::to_owned).to_vec();
    info.command = Some(pb::CommandInfo {
        shell: Some(false),
        value: Some("/bin/busybox".to_owned()),
        arguments,
        ..Default::default()
    });
    scene.run(info);
    let spec = &scene.launched[0];
    assert_eq!(
        (spec.program.as_str(), spec.argument_zero.as_str(), &spec.arguments[..]),
        ("/bin/busybox", "ls", &["-l".to_owned()][..])
    );
}

#[test]
fn a_framework_that_is_shut_down_leaves_nothing_and_nobody_is_told() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.drain();
    let sent = scene.sent.len();
    scene.obey(Body::ShutdownFramework(ShutdownFramework {
        framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
    }));
    scene.wait(seconds(5));
    assert_eq!(scene.signals, [(container.clone(), 15), (container.clone(), 9)]);
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!((scene.state("t"), scene.sent.len()), (None, sent));
    assert_eq!(scene.cleaned, [container]);
    assert!(scene.core.reregister().tasks.is_empty());
}

fn running(container_id: &str) -> Recovered {
    Recovered { container_id: container_id.to_owned(), pid: 42, exit: None }
}

fn ended(container_id: &str, status: ExitStatus) -> Recovered {
    Recovered { exit: Some(Exit { status, out_of_memory: false }), ..running(container_id) }
}

#[test]
fn mesos_c50_after_a_restart_tasks_run_on_and_no_terminal_update_is_sent() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.drain();
    let mut scene = scene.restart(vec![running(&container)]);
    assert_eq!(scene.core.agent_id().map(AgentId::as_str), Some("a-S0"));
    assert_eq!(scene.core.reregister().tasks[0].state(), TaskState::TaskRunning);
    scene.link();
    assert!(scene.sent.is_empty() && scene.signals.is_empty() && scene.launched.is_empty());
    scene.exit(&container, ExitStatus::Code(3));
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    assert_eq!(scene.last().message(), "Command exited with status 3");
}

#[test]
fn what_ended_while_no_agent_ran_is_told_with_its_status() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    let mut scene = scene.restart(vec![ended(&container, ExitStatus::Code(7))]);
    scene.link();
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    assert_eq!(scene.last().message(), "Command exited with status 7");
    assert_eq!(scene.cleaned, [container]);
}

#[test]
fn what_is_gone_after_a_restart_failed_and_what_never_started_was_dropped() {
    for (aware, state) in [(false, TaskState::TaskLost), (true, TaskState::TaskDropped)] {
        let capabilities: &[Capability] = if aware { &[Capability::PartitionAware] } else { &[] };
        let mut scene = Scene::new();
        scene.run_with(capabilities, task("ran"));
        scene.drain();
        scene.launch_with(capabilities, vec![task("new")]);
        scene.acknowledge();
        let mut scene = scene.restart(vec![]);
        scene.link();
        let by_task: BTreeMap<_, _> = scene
            .sent
            .iter()
            .map(|update| update.status.clone().unwrap())
            .map(|s| (s.task_id.value.clone(), s))
            .collect();
        assert_eq!(
            (by_task["ran"].state(), by_task["ran"].reason()),
            (TaskState::TaskFailed, Reason::ExecutorTerminated)
        );
        assert_eq!((by_task["new"].state(), by_task["new"].reason()), (state, Reason::AgentRestarted));
    }
}

#[test]
fn a_launch_whose_answer_was_lost_with_the_agent_is_found() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container = scene.launched[0].container_id.clone();
    let mut scene = scene.restart(vec![running(&container)]);
    scene.link();
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning]);
    assert!(scene.launched.is_empty());
}

#[test]
fn a_kill_survives_a_restart() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.drain();
    scene.kill("t", Some(seconds(4)));
    let mut scene = scene.restart(vec![running(&container)]);
    assert_eq!(scene.signals, [(container.clone(), 15)]);
    scene.wait(seconds(4));
    assert_eq!(scene.signals[1], (container.clone(), 9));
    scene.link();
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.drain(), [TaskState::TaskKilled]);
}

#[test]
fn containers_of_no_task_are_ended_and_forgotten() {
    let scene = Scene::new();
    let mut scene = scene.restart(vec![running("lives"), ended("dead", ExitStatus::Code(0))]);
    assert_eq!(
        (scene.signals.clone(), scene.cleaned.clone()),
        (vec![("lives".to_owned(), 9)], vec!["dead".to_owned()])
    );
    scene.exit("lives", ExitStatus::Signal(9));
    assert_eq!(scene.cleaned[1], "lives");
}

#[test]
fn what_a_framework_does_not_want_checkpointed_is_not() {
    let mut scene = Scene::new();
    let plain = pb::FrameworkInfo { checkpoint: Some(false), ..framework(&[]) };
    scene.obey(Body::Launch(Launch { framework: Some(plain), tasks: vec![task("t")], ..Launch::default() }));
    let container = scene.launched[0].container_id.clone();
    let scene = scene.restart(vec![running(&container)]);
    assert!(scene.core.reregister().tasks.is_empty());
    assert_eq!(scene.signals, [(container, 9)], "its tasks die with the agent");
}

#[test]
fn the_fewest_records_give_the_same_state() {
    let mut scene = Scene::new();
    let done = scene.run(task("done"));
    scene.exit(&done, ExitStatus::Code(0));
    scene.drain();
    let runs = scene.run(task("runs"));
    scene.acknowledge();
    scene.kill("runs", None);
    let mut replay = Replay::default();
    for record in scene.core.records() {
        replay.apply(record).unwrap();
    }
    let (core, _) = Core::recover(settings(), Rng::seeded(3), replay, vec![running(&runs)], Now::default());
    assert_eq!(core.reregister(), scene.core.reregister());
    assert_eq!(core.view().frameworks[0].completed, scene.core.view().frameworks[0].completed);
}

#[test]
fn the_history_is_bounded() {
    let mut scene = Scene::new();
    for n in 0..60 {
        let id = Some(pb::FrameworkId { value: format!("f-{n:04}") });
        let framework = Some(pb::FrameworkInfo { id: id.clone(), ..framework(&[]) });
        let mut bad = task("t");
        bad.command = None;
        scene.obey(Body::Launch(Launch {
            framework,
            tasks: vec![bad],
            traceparent: String::new(),
            group_executor: None,
        }));
        let status = scene.last();
        scene.obey(Body::Acknowledge(Acknowledge {
            framework_id: id,
            task_id: Some(status.task_id),
            uuid: status.uuid.unwrap(),
        }));
    }
    assert_eq!(scene.core.view().frameworks.len(), 50);
    assert_eq!(scene.core.sandboxes().len(), 50);
}

#[test]
fn all_tasks_end_when_the_node_stops() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.input(Input::Shutdown);
    assert_eq!((scene.core.live(), scene.signals.len()), (1, 1));
    scene.launch_with(&[], vec![task("late")]);
    assert_eq!(scene.launched.len(), 1, "nothing starts any more");
    scene.exit(&container, ExitStatus::Signal(15));
    assert_eq!(scene.core.live(), 0);
}
