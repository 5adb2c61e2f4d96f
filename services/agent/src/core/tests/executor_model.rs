//! Anything in any order, beside an executor that does its duty and remembers what the agent has not acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshos_mesh::Rng;
use meshos_proto::mesos::v1::{
    self as pb, TaskState,
    executor::{call, event},
};
use meshos_types::task_state::is_terminal;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{
    Scene,
    executors::{task_for_executor, update},
    recovery::{ended, running},
    settings,
};
use crate::{
    containerizer::{ExitStatus, Recovered},
    core::{Core, Input},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Launch,
    Started,
    Subscribe,
    Disconnect,
    /// The executor tells something of one of its tasks; whether it ended.
    Report(u8, bool),
    Exit,
    Kill(u8),
    Acknowledge(u8),
    LinkDown,
    Link,
    Wait(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..8_u8;
    prop_oneof![
        4 => Just(Step::Launch),
        4 => Just(Step::Started),
        6 => Just(Step::Subscribe),
        1 => Just(Step::Disconnect),
        6 => (n.clone(), prop::bool::ANY).prop_map(|(n, over)| Step::Report(n, over)),
        1 => Just(Step::Exit),
        1 => n.clone().prop_map(Step::Kill),
        6 => n.prop_map(Step::Acknowledge),
        1 => Just(Step::LinkDown),
        2 => Just(Step::Link),
        1 => (0..70_u16).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

/// What the executor's process knows; it goes with the process.
#[derive(Default)]
struct Process {
    container_id: String,
    stream: Option<u64>,
    /// Tasks that it was told of and that have not ended.
    tasks: BTreeSet<String>,
    /// All that it was ever told of.
    heard: BTreeSet<String>,
    unacknowledged_tasks: BTreeSet<String>,
    unacknowledged: Vec<call::Update>,
}

struct Model {
    scene: Scene,
    launched: u32,
    starting: Option<String>,
    process: Option<Process>,
    ended: BTreeMap<String, Recovered>,
    last_uuid: u8,
    last_stream: u64,
    /// States that the framework saw, by task.
    seen: BTreeMap<String, Vec<TaskState>>,
    waiting: BTreeMap<String, pb::TaskStatus>,
    read: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            scene: Scene::new(),
            launched: 0,
            starting: None,
            process: None,
            ended: BTreeMap::new(),
            last_uuid: 0,
            last_stream: 0,
            seen: BTreeMap::new(),
            waiting: BTreeMap::new(),
            read: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Launch => {
                let before = self.scene.launched.len();
                self.scene.launch_with(&[], vec![task_for_executor(&format!("t{}", self.launched))]);
                self.launched += 1;
                for spec in &self.scene.launched[before..] {
                    assert!(
                        self.starting.is_none() && self.process.is_none(),
                        "two processes of one executor"
                    );
                    self.starting = Some(spec.container_id.clone());
                }
            }
            Step::Started => {
                if let Some(container_id) = self.starting.take() {
                    self.process = Some(Process { container_id: container_id.clone(), ..Process::default() });
                    self.scene.input(Input::Launched { container_id, pid: 1 });
                }
            }
            Step::Subscribe => self.subscribe(),
            Step::Disconnect => {
                if let Some(stream) = self.process.as_mut().and_then(|process| process.stream.take()) {
                    self.scene.core.executor_gone(stream);
                }
            }
            Step::Report(n, over) => self.report(n, over),
            Step::Exit => self.exit(),
            Step::Kill(n) => self.scene.kill(&format!("t{n}"), None),
            Step::Acknowledge(n) => {
                if let Some(status) = self.waiting.remove(&format!("t{n}")) {
                    self.scene.acknowledge_status(&status);
                }
            }
            Step::LinkDown => self.scene.input(Input::LinkDown),
            Step::Link => self.scene.link(),
            Step::Wait(time) => self.scene.wait(Duration::from_secs(time.into())),
            Step::Restart => self.restart(),
        }
        self.hear();
    }

    fn subscribe(&mut self) {
        let Some(process) = self.process.as_mut() else { return };
        self.last_stream += 1;
        process.stream = Some(self.last_stream);
        let subscribe = call::Subscribe {
            unacknowledged_tasks: process
                .unacknowledged_tasks
                .iter()
                .map(|id| task_for_executor(id))
                .collect(),
            unacknowledged_updates: process.unacknowledged.clone(),
        };
        let call = call::Subscribe { ..subscribe };
        self.scene.subscribe(self.last_stream, call);
    }

    fn report(&mut self, n: u8, over: bool) {
        let Some(process) = self.process.as_mut() else { return };
        let count = process.tasks.len().max(1);
        let Some(id) = process.tasks.iter().nth(usize::from(n) % count).cloned() else { return };
        self.last_uuid = self.last_uuid.wrapping_add(1).max(1);
        let state = if over { TaskState::TaskFinished } else { TaskState::TaskRunning };
        let update = update(&id, state, self.last_uuid);
        if over {
            process.tasks.remove(&id);
        }
        process.unacknowledged.push(update.clone());
        if process.stream.is_some() {
            let call = call::Type::Update;
            let call = meshos_proto::mesos::v1::executor::Call {
                update: Some(update),
                ..super::executors::call(call)
            };
            self.scene.call(call, None).unwrap();
        }
    }

    fn exit(&mut self) {
        if let Some(process) = self.process.take() {
            let container_id = process.container_id;
            self.ended.insert(container_id.clone(), ended(&container_id, ExitStatus::Code(0)));
            self.scene.exit(&container_id, ExitStatus::Code(0));
        }
    }

    fn restart(&mut self) {
        // What was being started when the agent died never ran.
        self.starting = None;
        let live = self.process.iter_mut().map(|process| {
            process.stream = None;
            running(&process.container_id)
        });
        let there = live.chain(self.ended.values().cloned()).collect();
        let scene = std::mem::replace(&mut self.scene, Scene::over(Core::new(settings(), Rng::seeded(0))));
        self.scene = scene.restart(there);
        self.read = 0;
    }

    /// What the core did is heard by the executor, the machine and the framework.
    fn hear(&mut self) {
        for (stream, event) in std::mem::take(&mut self.scene.events) {
            let Some(process) = self.process.as_mut().filter(|process| process.stream == Some(stream)) else {
                continue;
            };
            match event.r#type() {
                event::Type::Launch => {
                    let id = event.launch.unwrap().task.task_id.value;
                    assert!(process.heard.insert(id.clone()), "told twice to run {id}");
                    process.tasks.insert(id.clone());
                    process.unacknowledged_tasks.insert(id);
                }
                event::Type::Acknowledged => {
                    let acknowledged = event.acknowledged.unwrap();
                    let uuid = Some(&acknowledged.uuid);
                    process.unacknowledged.retain(|update| update.status.uuid.as_ref() != uuid);
                    process.unacknowledged_tasks.remove(&acknowledged.task_id.value);
                }
                _ => {}
            }
        }
        let killed = |process: &Process| self.scene.signals.contains(&(process.container_id.clone(), 9));
        if self.process.as_ref().is_some_and(killed) {
            self.exit();
        }
        for update in &self.scene.sent[self.read..] {
            let status = update.status.clone().unwrap();
            let id = status.task_id.value.clone();
            let seen = self.seen.entry(id.clone()).or_default();
            if seen.last() != Some(&status.state()) {
                seen.push(status.state());
            }
            self.waiting.insert(id, status);
        }
        self.read = self.scene.sent.len();
        self.scene.cleaned.iter().for_each(|id| drop(self.ended.remove(id)));
    }

    /// The world calms down: everything ends and everything is heard.
    fn settle(&mut self) {
        self.apply(Step::Started);
        self.apply(Step::Exit);
        self.apply(Step::Link);
        for _ in 0..60 {
            for id in self.waiting.keys().cloned().collect::<Vec<_>>() {
                let status = self.waiting.remove(&id).unwrap();
                self.scene.acknowledge_status(&status);
                self.hear();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_task_of_an_executor_ends_once_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        model.settle();
        for n in 0..model.launched {
            let states = model.seen.get(&format!("t{n}")).cloned().unwrap_or_default();
            prop_assert!(states.last().is_some_and(|state| is_terminal(*state)), "t{n}: {states:?}");
            let over = states.iter().filter(|state| is_terminal(**state)).count();
            prop_assert_eq!(over, 1, "t{}: {:?}", n, states);
        }
        let report = model.scene.core.reregister();
        prop_assert!(report.tasks.is_empty(), "tasks are left: {:?}", report.tasks);
        prop_assert!(report.executors.is_empty() && model.scene.core.live() == 0, "an executor is left");
        prop_assert!(model.ended.is_empty(), "containers are left: {:?}", model.ended);
    }
}
