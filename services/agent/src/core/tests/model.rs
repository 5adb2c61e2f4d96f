//! Anything in any order, beside a model that remembers what a machine and a framework would.

use std::{collections::BTreeMap, time::Duration};

use meshos_mesh::Rng;
use meshos_proto::mesos::v1::{self as pb, TaskState, framework_info::capability::Type as Capability};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{
    Scene,
    recovery::{ended, running},
    settings, task,
};
use crate::{
    containerizer::{ExitStatus, Recovered},
    core::{Core, Input},
};

/// What may happen, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Launch(u8),
    Started(u8),
    Exit(u8),
    Kill(u8),
    Acknowledge(u8),
    LinkDown,
    Link,
    Wait(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..4_u8;
    prop_oneof![
        3 => id.clone().prop_map(Step::Launch),
        3 => id.clone().prop_map(Step::Started),
        2 => id.clone().prop_map(Step::Exit),
        1 => id.clone().prop_map(Step::Kill),
        6 => id.prop_map(Step::Acknowledge),
        1 => Just(Step::LinkDown),
        2 => Just(Step::Link),
        2 => (0..700_u16).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

/// A machine and a framework that remember everything, beside the core.
struct Model {
    scene: Scene,
    /// Containers that run, by task; and those that ended and are not forgotten.
    running: BTreeMap<u8, String>,
    ended: BTreeMap<String, Recovered>,
    starting: BTreeMap<u8, String>,
    /// States that the framework saw, by container, in order.
    seen: BTreeMap<String, Vec<TaskState>>,
    /// Updates that were read from `scene.sent`.
    read: usize,
    waiting: BTreeMap<u8, pb::TaskStatus>,
}

impl Model {
    fn new() -> Self {
        Self {
            scene: Scene::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            starting: BTreeMap::new(),
            seen: BTreeMap::new(),
            read: 0,
            waiting: BTreeMap::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Launch(id) => {
                let before = self.scene.launched.len();
                self.scene.launch_with(&[Capability::PartitionAware], vec![task(&id.to_string())]);
                for spec in &self.scene.launched[before..] {
                    assert!(!self.running.contains_key(&id), "launched twice");
                    self.starting.insert(id, spec.container_id.clone());
                }
            }
            Step::Started(id) => {
                if let Some(container_id) = self.starting.remove(&id) {
                    self.running.insert(id, container_id.clone());
                    self.scene.input(Input::Launched { container_id, pid: 1 });
                }
            }
            Step::Exit(id) => {
                if let Some(container_id) = self.running.remove(&id) {
                    self.ended.insert(container_id.clone(), ended(&container_id, ExitStatus::Code(0)));
                    self.scene.exit(&container_id, ExitStatus::Code(0));
                }
            }
            Step::Kill(id) => self.scene.kill(&id.to_string(), None),
            Step::Acknowledge(id) => {
                if let Some(status) = self.waiting.remove(&id) {
                    self.scene.acknowledge_status(&status);
                }
            }
            Step::LinkDown => self.scene.input(Input::LinkDown),
            Step::Link => self.scene.link(),
            Step::Wait(time) => self.scene.wait(Duration::from_secs(time.into())),
            Step::Restart => self.restart(),
        }
        self.read_updates();
        self.scene.cleaned.iter().for_each(|id| drop(self.ended.remove(id)));
    }

    fn restart(&mut self) {
        // What was being started when the agent died never ran.
        self.starting.clear();
        let there = self.running.values().map(|id| running(id)).chain(self.ended.values().cloned()).collect();
        let scene = std::mem::replace(&mut self.scene, Scene::over(Core::new(settings(), Rng::seeded(0))));
        self.scene = scene.restart(there);
        self.read = 0;
        // Acknowledgements of updates from before the restart may still come.
    }

    fn read_updates(&mut self) {
        for update in &self.scene.sent[self.read..] {
            let status = update.status.clone().unwrap();
            let container = status.container_status.clone().unwrap().container_id.unwrap().value;
            let id: u8 = status.task_id.value.parse().unwrap();
            let seen = self.seen.entry(container).or_default();
            if seen.last() != Some(&status.state()) {
                seen.push(status.state());
            }
            self.waiting.insert(id, status);
        }
        self.read = self.scene.sent.len();
    }

    /// The world calms down: everything ends and everything is heard.
    fn settle(&mut self) {
        for id in 0..4 {
            self.apply(Step::Started(id));
            self.apply(Step::Exit(id));
        }
        self.apply(Step::Link);
        for _ in 0..40 {
            for id in 0..4 {
                self.apply(Step::Acknowledge(id));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn updates_come_in_order_and_none_is_lost_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        model.settle();
        for (container, states) in &model.seen {
            let rank = |state: &TaskState| match state {
                TaskState::TaskStarting => 0,
                TaskState::TaskRunning => 1,
                TaskState::TaskKilling => 2,
                _ => 3,
            };
            let ranks: Vec<_> = states.iter().map(rank).collect();
            prop_assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]), "{container}: {states:?}");
            prop_assert_eq!(ranks.first(), Some(&0), "{}: {:?}", container, states);
            prop_assert_eq!(ranks.last(), Some(&3), "{}: {:?}", container, states);
        }
        prop_assert!(model.scene.core.reregister().tasks.is_empty(), "tasks are left");
        prop_assert!(model.ended.is_empty(), "containers are left: {:?}", model.ended);
    }
}
