use std::time::Duration;

use meshos_mesh::Rng;
use meshos_proto::{
    meshos::allocator::v1::{AllocatorMessage, Launch, allocator_message::Body},
    mesos::v1::TaskState,
};
use meshos_types::AgentId;

use super::*;
use crate::{containerizer::sim::SimContainerizer, core::Settings};

fn runner(dir: &std::path::Path, env: &Env, machine: &SimContainerizer) -> (Runner, mpsc::Receiver<Event>) {
    let work_dir = WorkDir::open(dir).unwrap();
    let (events, inbox) = mpsc::channel(EVENTS);
    let settings = Settings::test(work_dir.path.clone());
    let identity = Identity {
        info: pb::AgentInfo::default(),
        version: String::new(),
        endpoint: settings.endpoint.clone(),
        capabilities: vec![],
    };
    let parts = Parts {
        env: env.clone(),
        checkpoint: Checkpoint::open(&work_dir.checkpoint()).unwrap().0,
        containerizer: Arc::new(machine.clone()),
        identity,
        sandboxes: Sandboxes::new(&work_dir.path),
        past: Past::new(),
        announced: watch::channel(pb::AgentInfo::default()).0,
        status: watch::channel(Status::default()).0,
        events,
        renew: Arc::default(),
        work_dir,
    };
    (Runner::new(parts, Core::new(settings, Rng::seeded(1)), Instant::now()), inbox)
}

fn launch(task: &str) -> Input {
    let framework = pb::FrameworkInfo {
        id: Some(pb::FrameworkId { value: "f".to_owned() }),
        checkpoint: Some(true),
        ..pb::FrameworkInfo::default()
    };
    let command = pb::CommandInfo { value: Some("sleep 60".to_owned()), ..pb::CommandInfo::default() };
    let task = pb::TaskInfo {
        task_id: pb::TaskId { value: task.to_owned() },
        command: Some(command),
        ..pb::TaskInfo::default()
    };
    let launch = Launch { framework: Some(framework), tasks: vec![task], ..Launch::default() };
    Input::Allocator(Box::new(AllocatorMessage { epoch: 1, body: Some(Body::Launch(launch)) }))
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_while_the_checkpoint_cannot_be_written() {
    let (env, dir) = (Env::in_memory(), tempfile::tempdir().unwrap());
    let machine = SimContainerizer::new(&env.tasks);
    let (mut runner, mut inbox) = runner(dir.path(), &env, &machine);
    runner.input(Input::Registered(AgentId::new("a")));
    runner.checkpoint.fill_disk();
    // Nor can it be written anew.
    let in_the_way = dir.path().join("meta/agent.next");
    std::fs::create_dir(&in_the_way).unwrap();
    for task in ["t1", "t2"] {
        runner.input(launch(task));
    }
    let tasks = runner.core.reregister().tasks;
    assert_eq!(tasks.iter().map(pb::Task::state).collect::<Vec<_>>(), [TaskState::TaskFailed; 2]);
    let last = tasks[0].statuses.last().unwrap();
    assert!(last.message().starts_with("the checkpoint cannot be written: "), "{last:?}");

    std::fs::remove_dir(&in_the_way).unwrap();
    runner.input(launch("t3"));
    let started = loop {
        match inbox.recv().await.unwrap() {
            Event::Input(Input::Launched { container_id, .. }) => break container_id,
            Event::Input(Input::LaunchFailed { reason, .. }) => panic!("{reason}"),
            _ => {}
        }
    };
    assert_eq!(machine.running().keys().collect::<Vec<_>>(), [&started]);
    let (_, replay) = Checkpoint::open(&dir.path().join("meta/agent.journal")).unwrap();
    let known: Vec<_> = replay.tasks.keys().map(|(_, task)| task.as_str()).collect();
    assert_eq!((known, replay.agent.unwrap().id.as_str()), (vec!["t1", "t2", "t3"], "a"));
    let states = |task: &str| {
        let updates = &replay.tasks[&("f".to_owned(), task.to_owned())].updates;
        updates.iter().map(pb::TaskStatus::state).collect::<Vec<_>>()
    };
    assert_eq!(states("t1"), [TaskState::TaskStarting, TaskState::TaskFailed]);
    assert_eq!(states("t3"), [TaskState::TaskStarting]);
    assert!(env.tasks.shutdown(Duration::from_secs(5)).await);
}
