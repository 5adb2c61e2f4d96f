//! Task groups whose executor the agent plays.

use meshos_proto::mesos::v1::volume::{Source, source};

use super::{recovery::running, *};

fn pod() -> pb::ExecutorInfo {
    pb::ExecutorInfo {
        r#type: Some(pb::executor_info::Type::Default as i32),
        executor_id: pb::ExecutorId { value: "pod".to_owned() },
        ..pb::ExecutorInfo::default()
    }
}

impl Scene {
    pub(super) fn launch_group(&mut self, tasks: Vec<pb::TaskInfo>) {
        self.obey(Body::Launch(Launch {
            framework: Some(framework(&[])),
            tasks,
            group_executor: Some(pod()),
            ..Launch::default()
        }));
    }

    /// A group of which all run; their containers.
    fn run_group(&mut self, ids: &[&str]) -> Vec<String> {
        let before = self.launched.len();
        self.launch_group(ids.iter().map(|id| task(id)).collect());
        let containers: Vec<_> =
            self.launched[before..].iter().map(|spec| spec.container_id.clone()).collect();
        assert_eq!(containers.len(), ids.len());
        for container_id in containers.clone() {
            self.input(Input::Launched { container_id, pid: 7 });
        }
        containers
    }

    /// The newest state of each task, by id.
    fn states(&self, ids: &[&str]) -> Vec<Option<TaskState>> {
        ids.iter().map(|id| self.state(id)).collect()
    }
}

#[test]
fn a_group_shares_a_sandbox_and_needs_no_process_of_its_own() {
    let mut scene = Scene::new();
    let mut sharing = task("a");
    sharing.container = Some(pb::ContainerInfo {
        r#type: pb::container_info::Type::Mesos as i32,
        volumes: vec![pb::Volume {
            container_path: "shared".to_owned(),
            source: Some(Source {
                r#type: Some(source::Type::SandboxPath as i32),
                sandbox_path: Some(source::SandboxPath {
                    r#type: Some(source::sandbox_path::Type::Parent as i32),
                    path: "common".to_owned(),
                }),
                ..Source::default()
            }),
            ..pb::Volume::default()
        }],
        ..pb::ContainerInfo::default()
    });
    scene.launch_group(vec![sharing, task("b")]);
    assert_eq!(scene.launched.len(), 2);
    let [a, b] = [0, 1].map(|n| scene.launched[n].clone());
    let within = a.within.unwrap();
    assert_eq!(within.sandbox, b.within.unwrap().sandbox);
    assert_eq!(a.sandbox, within.sandbox.join("containers").join(&a.container_id));
    assert_eq!((within.link, within.shared), ("tasks/a".into(), vec![("common".into(), "shared".into())]));
    assert_eq!(a.environment["MESOS_EXECUTOR_ID"], "pod");
    let status = scene.last();
    assert_eq!(status.executor_id.unwrap().value, "pod");
    let id = status.container_status.unwrap().container_id.unwrap();
    let parent = within.sandbox.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!((id.value, id.parent.unwrap().value), (b.container_id, parent));
    assert_eq!(scene.core.reregister().executors[0].executor_id.value, "pod");
}

#[test]
fn a_volume_that_cannot_be_given_fails_the_whole_group() {
    let mut scene = Scene::new();
    for path in ["../../etc", "/etc", ""] {
        let mut bad = task("a");
        let sandbox_path = source::SandboxPath {
            r#type: Some(source::sandbox_path::Type::Parent as i32),
            path: path.to_owned(),
        };
        let source = Source {
            r#type: Some(source::Type::SandboxPath as i32),
            sandbox_path: Some(sandbox_path),
            ..Source::default()
        };
        let volume =
            pb::Volume { container_path: "x".to_owned(), source: Some(source), ..pb::Volume::default() };
        bad.container = Some(pb::ContainerInfo {
            r#type: pb::container_info::Type::Mesos as i32,
            volumes: vec![volume],
            ..pb::ContainerInfo::default()
        });
        scene.launch_group(vec![bad, task("b")]);
        assert_eq!(scene.states(&["a", "b"]), [Some(TaskState::TaskFailed); 2]);
        assert_eq!(scene.last().reason(), Reason::ContainerLaunchFailed);
        let statuses: Vec<_> =
            scene.sent[scene.sent.len() - 2..].iter().map(|s| s.status.clone().unwrap()).collect();
        statuses.iter().for_each(|status| scene.acknowledge_status(status));
        assert!(scene.core.reregister().executors.is_empty());
    }
    assert!(scene.launched.is_empty());
}

#[test]
fn what_fails_takes_its_group_along_and_what_finishes_does_not() {
    let mut scene = Scene::new();
    let containers = scene.run_group(&["a", "b", "c"]);
    let other = scene.run_group(&["z"]);
    scene.exit(&containers[0], ExitStatus::Code(0));
    assert!(scene.signals.is_empty());
    scene.exit(&containers[1], ExitStatus::Code(1));
    assert_eq!(scene.signals, [(containers[2].clone(), 15)], "the rest of its own group only");
    scene.exit(&containers[2], ExitStatus::Signal(15));
    let (finished, failed, killed) =
        (Some(TaskState::TaskFinished), Some(TaskState::TaskFailed), Some(TaskState::TaskKilled));
    assert_eq!(scene.states(&["a", "b", "c"]), [finished, failed, killed]);
    assert!(scene.ended.is_empty(), "another group runs");
    scene.exit(&other[0], ExitStatus::Code(0));
    assert_eq!((scene.ended.len(), scene.ended[0].wait_status), (1, 0));
    assert!(scene.core.reregister().executors.is_empty());
}

#[test]
fn a_kill_of_one_is_a_kill_of_all() {
    let mut scene = Scene::new();
    let containers = scene.run_group(&["a", "b"]);
    scene.kill("a", None);
    assert_eq!(scene.signals.len(), 1);
    scene.exit(&containers[0], ExitStatus::Signal(15));
    assert_eq!(scene.signals[1], (containers[1].clone(), 15));
    scene.exit(&containers[1], ExitStatus::Signal(15));
    assert_eq!(scene.states(&["a", "b"]), [Some(TaskState::TaskKilled); 2]);
}

#[test]
fn a_group_that_is_told_twice_runs_once() {
    let mut scene = Scene::new();
    scene.run_group(&["a", "b"]);
    scene.launch_group(vec![task("a"), task("b")]);
    assert_eq!(scene.launched.len(), 2);
}

#[test]
fn groups_survive_a_restart_and_one_that_broke_meanwhile_is_killed() {
    let mut scene = Scene::new();
    let containers = scene.run_group(&["a", "b"]);
    let all = |containers: &[String]| containers.iter().map(|id| running(id)).collect::<Vec<_>>();
    let mut scene = scene.restart(all(&containers));
    scene.link();
    assert_eq!(scene.core.reregister().executors.len(), 1);
    assert!(scene.signals.is_empty());
    scene.exit(&containers[0], ExitStatus::Code(0));
    let mut scene = scene.restart(all(&containers[1..]));
    scene.link();
    assert!(scene.signals.is_empty(), "one finished, the other runs on");
    scene.exit(&containers[1], ExitStatus::Code(0));
    assert_eq!(scene.ended.len(), 1);

    let mut scene = Scene::new();
    let containers = scene.run_group(&["a", "b"]);
    // The process of `b` is gone without a trace: it failed, and `a` goes with it.
    scene.drain();
    let mut scene = scene.restart(all(&containers[..1]));
    assert_eq!(scene.signals, [(containers[0].clone(), 15)]);
    scene.exit(&containers[0], ExitStatus::Signal(15));
    assert_eq!(scene.states(&["a", "b"]), [Some(TaskState::TaskKilled), Some(TaskState::TaskFailed)]);
}
