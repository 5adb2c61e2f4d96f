//! Executors of frameworks: from the launch of the process over its calls to its end.

use meshos_proto::{
    meshos::allocator::v1::ShutdownExecutor,
    mesos::v1::{
        executor::{Call, call, event},
        task_status::Source,
    },
};

use super::{recovery::running, *};
use crate::{core::executor::CallError, token::Claims};

pub(super) const EXECUTOR: &str = "e";

fn executor() -> pb::ExecutorInfo {
    let scalar = |name: &str, value: f64| pb::Resource {
        name: name.to_owned(),
        scalar: Some(pb::value::Scalar { value }),
        ..pb::Resource::default()
    };
    pb::ExecutorInfo {
        r#type: Some(pb::executor_info::Type::Custom as i32),
        executor_id: pb::ExecutorId { value: EXECUTOR.to_owned() },
        command: Some(pb::CommandInfo {
            value: Some("python3 executor.py".to_owned()),
            ..pb::CommandInfo::default()
        }),
        resources: vec![scalar("cpus", 0.5), scalar("mem", 64.0)],
        ..pb::ExecutorInfo::default()
    }
}

pub(super) fn task_for_executor(id: &str) -> pb::TaskInfo {
    let mem = pb::Resource {
        name: "mem".to_owned(),
        scalar: Some(pb::value::Scalar { value: 32.0 }),
        ..pb::Resource::default()
    };
    pb::TaskInfo { command: None, executor: Some(executor()), resources: vec![mem], ..task(id) }
}

pub(super) fn call(kind: call::Type) -> Call {
    Call {
        executor_id: pb::ExecutorId { value: EXECUTOR.to_owned() },
        framework_id: pb::FrameworkId { value: FRAMEWORK.to_owned() },
        r#type: Some(kind as i32),
        ..Call::default()
    }
}

pub(super) fn update(task: &str, state: TaskState, uuid: u8) -> call::Update {
    let status = pb::TaskStatus {
        task_id: pb::TaskId { value: task.to_owned() },
        state: state as i32,
        source: Some(Source::Executor as i32),
        uuid: Some(vec![uuid; 16].into()),
        ..pb::TaskStatus::default()
    };
    call::Update { status }
}

impl Scene {
    pub(super) fn call(&mut self, call: Call, stream: Option<u64>) -> Result<(), CallError> {
        let now = self.now();
        let effects = self.core.executor_call(call, stream, None, now)?;
        self.carry_out(effects);
        Ok(())
    }

    pub(super) fn subscribe(&mut self, stream: u64, subscribe: call::Subscribe) {
        let call = Call { subscribe: Some(subscribe), ..call(call::Type::Subscribe) };
        self.call(call, Some(stream)).unwrap();
    }

    pub(super) fn update(&mut self, task: &str, state: TaskState, uuid: u8) {
        let call = Call { update: Some(update(task, state, uuid)), ..call(call::Type::Update) };
        self.call(call, None).unwrap();
    }

    /// What the executor on a stream was told since last asked.
    pub(super) fn told(&mut self, stream: u64) -> Vec<event::Type> {
        let (told, rest) = std::mem::take(&mut self.events).into_iter().partition(|(s, _)| *s == stream);
        self.events = rest;
        let told: Vec<(u64, Event)> = told;
        told.into_iter().map(|(_, event)| event.r#type()).collect()
    }

    /// An executor with one task that it was told of; its container.
    pub(super) fn with_executor(&mut self, task: &str) -> String {
        self.launch_with(&[], vec![task_for_executor(task)]);
        let container = self.launched.last().unwrap().container_id.clone();
        self.input(Input::Launched { container_id: container.clone(), pid: 42 });
        self.subscribe(1, call::Subscribe::default());
        assert_eq!(self.told(1), [event::Type::Subscribed, event::Type::Launch]);
        container
    }
}

#[test]
fn an_executor_gets_its_process_its_tasks_and_answers_for_them() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task_for_executor("a"), task_for_executor("b")]);
    assert_eq!(scene.launched.len(), 1, "one process for both tasks");
    let spec = scene.launched[0].clone();
    assert_eq!(spec.arguments, ["-c", "python3 executor.py"]);
    let value = |name: &str| spec.environment.get(name).map_or("", String::as_str);
    assert_eq!((value("MESOS_EXECUTOR_ID"), value("MESOS_SLAVE_PID")), (EXECUTOR, "slave(1)@10.0.0.1:5051"));
    assert_eq!((value("MESOS_SUBSCRIPTION_BACKOFF_MAX"), value("MESOS_CHECKPOINT")), ("2secs", "1"));
    let claims = crate::token::check(&Secret::new("secret"), value("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"));
    let (eid, fid) = (EXECUTOR.to_owned(), FRAMEWORK.to_owned());
    assert_eq!(claims.unwrap(), Claims { cid: spec.container_id.clone(), eid, fid });
    assert!(spec.sandbox.ends_with(format!("executors/{EXECUTOR}/runs/{}", spec.container_id)));
    assert!(scene.sent.is_empty(), "the executor speaks for its tasks");

    scene.input(Input::Launched { container_id: spec.container_id.clone(), pid: 42 });
    let early = scene.call(call(call::Type::Heartbeat), None);
    assert_eq!(early, Err(CallError::NotSubscribed));
    scene.subscribe(1, call::Subscribe::default());
    let subscribed = scene.events[0].1.subscribed.clone().unwrap();
    assert_eq!(subscribed.executor_info.framework_id.unwrap().value, FRAMEWORK);
    assert_eq!(subscribed.agent_info.id.unwrap().value, "a-S0");
    assert_eq!(subscribed.container_id.unwrap().value, spec.container_id);
    assert_eq!(scene.told(1), [event::Type::Subscribed, event::Type::Launch, event::Type::Launch]);
    assert_eq!(scene.resized.last().unwrap().1.memory, 128 * 1024 * 1024, "the executor and both tasks");

    scene.update("a", TaskState::TaskRunning, 1);
    assert_eq!(scene.told(1), [event::Type::Acknowledged]);
    let status = scene.last();
    assert_eq!(
        (status.state(), status.executor_id.unwrap().value.as_str()),
        (TaskState::TaskRunning, EXECUTOR)
    );
    let place = status.container_status.unwrap();
    assert_eq!(
        (place.container_id.unwrap().value, place.executor_pid),
        (spec.container_id.clone(), Some(42))
    );
    assert_eq!(place.network_infos[0].ip_addresses[0].ip_address(), "10.0.0.1");
    // Told twice: the acknowledgement may have been lost.
    scene.update("a", TaskState::TaskRunning, 1);
    assert_eq!(scene.told(1), [event::Type::Acknowledged]);
    scene.update("a", TaskState::TaskFinished, 2);
    assert_eq!(scene.drain(), [TaskState::TaskRunning, TaskState::TaskFinished]);
    assert_eq!(scene.resized.last().unwrap().1.memory, 96 * 1024 * 1024, "what ended needs nothing");
    assert!(scene.state("a").is_none() && scene.state("b").is_some());
}

#[test]
fn messages_pass_both_ways() {
    let mut scene = Scene::new();
    scene.with_executor("t");
    let message = call::Message { data: Bytes::from_static(b"up") };
    scene.call(Call { message: Some(message), ..call(call::Type::Message) }, None).unwrap();
    assert_eq!(scene.messages[0].data, "up");
    assert_eq!(scene.messages[0].executor_id.as_ref().unwrap().value, EXECUTOR);
    scene.obey(Body::FrameworkMessage(FrameworkMessage {
        framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
        executor_id: Some(pb::ExecutorId { value: EXECUTOR.to_owned() }),
        data: Bytes::from_static(b"down"),
    }));
    assert_eq!(scene.events[0].1.message.as_ref().unwrap().data, "down");
}

#[test]
fn calls_of_nobody_and_with_the_token_of_another_are_refused() {
    let mut scene = Scene::new();
    let nobody = scene.call(call(call::Type::Subscribe), Some(1));
    assert_eq!(nobody, Err(CallError::NoFramework));
    let container = scene.with_executor("t");
    let other = Call { executor_id: pb::ExecutorId { value: "x".to_owned() }, ..call(call::Type::Heartbeat) };
    assert_eq!(scene.call(other, None), Err(CallError::NoExecutor));
    let mut with = |cid: &str| {
        let (eid, fid) = (EXECUTOR.to_owned(), FRAMEWORK.to_owned());
        let claims = Claims { cid: cid.to_owned(), eid, fid };
        scene.core.executor_call(call(call::Type::Heartbeat), None, Some(&claims), Now::default()).map(drop)
    };
    assert_eq!((with(&container), with("other")), (Ok(()), Err(CallError::OtherClaims)));
}

#[test]
fn updates_that_can_be_of_no_task_are_counted() {
    let mut scene = Scene::new();
    let stray = |scene: &mut Scene| {
        let update = update("t", TaskState::TaskRunning, 9);
        scene.call(Call { update: Some(update), ..call(call::Type::Update) }, None)
    };
    assert_eq!(stray(&mut scene), Err(CallError::NoFramework));
    scene.with_executor("t");
    scene.update("unknown", TaskState::TaskRunning, 1);
    scene.update("", TaskState::TaskRunning, 2);
    scene.update("t", TaskState::TaskRunning, 3);
    scene.update("t", TaskState::TaskRunning, 3);
    assert_eq!(scene.core.view().counters.invalid_updates, 3, "told twice is no fault");
    scene.update("t", TaskState::TaskFinished, 4);
    scene.update("t", TaskState::TaskFailed, 5);
    assert_eq!(scene.core.view().counters.invalid_updates, 4);
}

#[test]
fn an_end_before_the_link_is_accepted_is_told_then() {
    let mut scene = Scene::new();
    let container = scene.with_executor("t");
    scene.input(Input::LinkDown);
    scene.exit(&container, ExitStatus::Code(0));
    assert!(scene.ended.is_empty());
    for _ in 0..2 {
        scene.link();
        assert_eq!(scene.ended.len(), 1);
    }
}

#[test]
fn tasks_end_with_their_executor() {
    let mut scene = Scene::new();
    let container = scene.with_executor("t");
    scene.exit(&container, ExitStatus::Code(3));
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    let status = scene.last();
    assert_eq!(
        (status.reason(), status.source()),
        (Reason::ExecutorTerminated, pb::task_status::Source::Agent)
    );
    assert_eq!(status.message(), "Executor exited with status 3");
    assert_eq!((scene.ended[0].wait_status, scene.cleaned.clone()), (3 << 8, vec![container]));
    assert_eq!(scene.closed, [1]);
    assert!(scene.core.reregister().executors.is_empty());
    // Another of the same id is another run.
    scene.with_executor("t");
    assert_eq!(scene.launched.len(), 2);
}

#[test]
fn an_executor_that_does_not_subscribe_is_ended() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task_for_executor("t")]);
    let container = scene.launched[0].container_id.clone();
    scene.input(Input::Launched { container_id: container.clone(), pid: 42 });
    scene.wait(seconds(59));
    assert!(scene.signals.is_empty());
    scene.wait(seconds(1));
    assert_eq!(scene.signals, [(container.clone(), 9)]);
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    assert_eq!(scene.last().reason(), Reason::ExecutorRegistrationTimeout);
}

#[test]
fn a_launch_that_fails_fails_its_tasks() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task_for_executor("t")]);
    let container_id = scene.launched[0].container_id.clone();
    scene.input(Input::LaunchFailed { container_id, reason: "no such user".to_owned() });
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    let status = scene.last();
    assert_eq!((status.reason(), status.message()), (Reason::ContainerLaunchFailed, "no such user"));
    let mut bare = task_for_executor("u");
    bare.executor.as_mut().unwrap().command = None;
    scene.launch_with(&[], vec![bare]);
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    assert!(scene.core.reregister().executors.is_empty() && scene.core.live() == 0);
}

#[test]
fn kills_are_the_executors_to_carry_out_unless_it_has_not_heard_of_the_task() {
    let mut scene = Scene::new();
    scene.with_executor("t");
    scene.kill("t", Some(seconds(7)));
    let event = scene.events[0].1.kill.clone().unwrap();
    assert_eq!(event.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 7_000_000_000);
    assert!(scene.signals.is_empty() && scene.sent.is_empty());
    // Its connection breaks, it comes back: it hears of it again.
    scene.core.executor_gone(1);
    let unacknowledged_tasks = vec![task_for_executor("t")];
    scene.subscribe(2, call::Subscribe { unacknowledged_tasks, ..call::Subscribe::default() });
    assert_eq!(scene.told(2), [event::Type::Subscribed, event::Type::Kill]);
    scene.update("t", TaskState::TaskKilled, 1);
    assert_eq!(scene.drain(), [TaskState::TaskKilled]);

    // A task that waits for an executor that has not subscribed.
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task_for_executor("t")]);
    scene.kill("t", None);
    assert_eq!(scene.drain(), [TaskState::TaskKilled]);
    assert_eq!(scene.last().reason(), Reason::TaskKilledDuringLaunch);
    let container_id = scene.launched[0].container_id.clone();
    assert_eq!(scene.abandoned, [container_id.as_str()]);
    scene.input(Input::Launched { container_id: container_id.clone(), pid: 42 });
    assert_eq!(scene.signals, [(container_id, 9)], "it has nothing to live for");
}

#[test]
fn a_shut_down_executor_gets_its_grace() {
    let mut scene = Scene::new();
    let container = scene.with_executor("t");
    scene.obey(Body::ShutdownExecutor(ShutdownExecutor {
        framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
        executor_id: Some(pb::ExecutorId { value: EXECUTOR.to_owned() }),
    }));
    assert_eq!(scene.told(1), [event::Type::Shutdown]);
    scene.launch_with(&[], vec![task_for_executor("late")]);
    assert_eq!(scene.last().reason(), Reason::ExecutorTerminated);
    assert_eq!(scene.state("late"), Some(TaskState::TaskLost));
    scene.wait(seconds(5));
    assert_eq!(scene.signals, [(container.clone(), 9)]);
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.state("t"), Some(TaskState::TaskFailed));
    // It survives the agent as well.
    let mut scene = Scene::new();
    let container = scene.with_executor("t");
    scene.input(Input::Shutdown);
    let mut scene = scene.restart(vec![running(&container)]);
    scene.wait(seconds(5));
    assert_eq!(scene.signals, [(container, 9)]);
}

#[test]
fn executors_of_a_framework_that_is_gone_end_silently() {
    let mut scene = Scene::new();
    let container = scene.with_executor("t");
    scene.obey(Body::ShutdownFramework(ShutdownFramework {
        framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
    }));
    assert_eq!(scene.told(1), [event::Type::Shutdown]);
    assert_eq!(scene.core.live(), 1);
    scene.exit(&container, ExitStatus::Code(0));
    assert!(scene.sent.is_empty() && scene.state("t").is_none());
    assert_eq!(scene.core.live(), 0);
}

#[test]
fn a_group_for_an_executor_of_the_framework_is_one_event() {
    let mut scene = Scene::new();
    let tasks = vec![task("a"), task("b")];
    scene.obey(Body::Launch(Launch {
        framework: Some(framework(&[])),
        tasks,
        group_executor: Some(executor()),
        ..Launch::default()
    }));
    let container = scene.launched[0].container_id.clone();
    let mut scene = scene.restart(vec![running(&container)]);
    scene.subscribe(1, call::Subscribe::default());
    let group = scene.events[1].1.launch_group.clone().unwrap();
    assert_eq!(group.task_group.tasks.len(), 2);
    assert_eq!(scene.told(1), [event::Type::Subscribed, event::Type::LaunchGroup]);
}

/// A disk resource with a persistent volume that the agent has.
fn volume(scene: &mut Scene, id: &str, container_path: &str) -> pb::Resource {
    let volume = pb::Resource {
        name: "disk".to_owned(),
        scalar: Some(pb::value::Scalar { value: 10.0 }),
        reservations: vec![pb::resource::ReservationInfo {
            r#type: Some(pb::resource::reservation_info::Type::Static as i32),
            role: Some("eng".to_owned()),
            ..Default::default()
        }],
        disk: Some(Box::new(pb::resource::DiskInfo {
            persistence: Some(pb::resource::disk_info::Persistence { id: id.to_owned(), principal: None }),
            volume: Some(pb::Volume { container_path: container_path.to_owned(), ..pb::Volume::default() }),
            ..Default::default()
        })),
        ..pb::Resource::default()
    };
    let held = meshos_types::Resources::from_proto(std::slice::from_ref(&volume)).unwrap();
    scene.core.total.extend(held);
    volume
}

fn task_with(id: &str, volume: &pb::Resource) -> pb::TaskInfo {
    let mut task = task_for_executor(id);
    task.resources.push(volume.clone());
    task
}

#[test]
fn a_persistent_volume_is_in_the_executors_sandbox_before_it_is_told_of_the_task() {
    let mut scene = Scene::new();
    let (one, two) = (volume(&mut scene, "v1", "one"), volume(&mut scene, "v2", "two"));
    scene.launch_with(&[], vec![task_with("first", &one)]);
    assert_eq!(scene.launched[0].volumes, [("/work/volumes/roles/eng/v1".into(), "one".into())]);
    let container = scene.launched[0].container_id.clone();
    scene.input(Input::Launched { container_id: container.clone(), pid: 42 });
    scene.subscribe(1, call::Subscribe::default());
    assert_eq!(scene.told(1), [event::Type::Subscribed, event::Type::Launch]);
    scene.launch_with(&[], vec![task_with("late", &two)]);
    scene.launch_with(&[], vec![task_for_executor("behind")]);
    assert!(scene.told(1).is_empty(), "it waits, and so do those that came after it");
    let (number, spec) = scene.provisions[0].clone();
    assert_eq!(spec.volumes, [("/work/volumes/roles/eng/v2".into(), "two".into())]);
    assert_eq!(
        (spec.container_id.as_str(), spec.beside.as_deref()),
        (container.as_str(), Some(container.as_str()))
    );
    scene.input(Input::Provided { container_id: container.clone(), number, error: None });
    assert_eq!(scene.told(1), [event::Type::Launch, event::Type::Launch]);

    // One that cannot be given its volume fails alone.
    scene.launch_with(&[], vec![task_with("again", &two), task_for_executor("beside")]);
    let number = scene.provisions[1].0;
    scene.input(Input::Provided { container_id: container, number, error: Some("no room".to_owned()) });
    assert_eq!(scene.state("again"), Some(TaskState::TaskFailed));
    assert_eq!(scene.told(1), [event::Type::Launch]);
    let told: Vec<_> = scene.sent.iter().filter_map(|update| update.status.as_ref()).collect();
    assert!(
        told.iter().any(|status| status.reason() == Reason::ContainerUpdateFailed
            && status.message().ends_with("no room"))
    );

    // Two places that lie one in the other.
    let inside = volume(&mut scene, "v3", "one/inside");
    scene.launch_with(&[], vec![task_with("nested", &inside)]);
    assert_eq!(scene.state("nested"), Some(TaskState::TaskFailed));
    assert!(scene.last().message().contains("lie one in the other"));
}

#[test]
fn after_a_restart_volumes_of_tasks_that_wait_are_provided_again() {
    let mut scene = Scene::new();
    let data = volume(&mut scene, "v", "data");
    scene.launch_with(&[], vec![task_with("t", &data)]);
    let container = scene.launched[0].container_id.clone();
    let mut scene = scene.restart(vec![running(&container)]);
    scene.subscribe(1, call::Subscribe::default());
    assert_eq!(scene.told(1), [event::Type::Subscribed]);
    let number = scene.provisions[0].0;
    scene.input(Input::Provided { container_id: container, number, error: None });
    assert_eq!(scene.told(1), [event::Type::Launch]);
}
