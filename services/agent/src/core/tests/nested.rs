//! Containers of the API.

use super::{
    recovery::{ended, running},
    *,
};
use crate::core::nested::{ContainerError, NestedLaunch};

fn id(path: &str) -> pb::ContainerId {
    let mut ids = path.split('.').map(|value| pb::ContainerId { value: value.to_owned(), parent: None });
    let first = ids.next().unwrap();
    ids.fold(first, |parent, id| pb::ContainerId { parent: Some(Box::new(parent)), ..id })
}

fn launch(path: &str) -> NestedLaunch {
    let command = pb::CommandInfo { value: Some("sleep 60".to_owned()), ..pb::CommandInfo::default() };
    NestedLaunch { container_id: id(path), command: Some(command), ..NestedLaunch::default() }
}

impl Scene {
    fn nested(&mut self, launch: NestedLaunch) -> Result<ContainerSpec, ContainerError> {
        let effects = self.core.launch_nested(launch)?;
        self.carry_out(effects);
        let spec = self.launched.last().unwrap().clone();
        self.input(Input::Launched { container_id: spec.container_id.clone(), pid: 9 });
        Ok(spec)
    }

    fn remove(&mut self, path: &str) -> Result<(), ContainerError> {
        let effects = self.core.remove_container(&id(path))?;
        self.volumes.extend(effects.iter().filter_map(|effect| match effect {
            Effect::RemoveVolume { path, .. } => Some(path.clone()),
            _ => None,
        }));
        self.carry_out(effects);
        Ok(())
    }
}

#[test]
fn a_container_lives_below_a_task_and_ends_with_it() {
    let mut scene = Scene::new();
    let task = scene.run(task("t"));
    let sandbox = scene.launched[0].sandbox.clone();
    let spec = scene.nested(launch(&format!("{task}.a"))).unwrap();
    assert_eq!(spec.sandbox, sandbox.join("containers/a"));
    assert_eq!(spec.beside.as_ref(), Some(&task), "it uses what the task may use");
    assert_eq!(spec.environment["MESOS_SANDBOX"], spec.sandbox.display().to_string());
    let deeper = scene.nested(launch(&format!("{task}.a.b"))).unwrap();
    assert_eq!(deeper.sandbox, sandbox.join("containers/a/containers/b"));
    let twice = scene.nested(launch(&format!("{task}.a")));
    assert!(matches!(twice, Err(ContainerError::Exists(_))));
    assert!(matches!(scene.nested(launch("nobody.a")), Err(ContainerError::NotFound(_))));
    scene.exit(&task, ExitStatus::Code(0));
    let killed: Vec<_> = scene.signals.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(killed, [format!("{task}.a"), format!("{task}.a.b")]);
    for (container, _) in scene.signals.clone() {
        scene.exit(&container, ExitStatus::Signal(9));
    }
    assert_eq!(scene.core.live(), 0);
    assert!(scene.core.view().nested.is_empty());
}

#[test]
fn a_session_begins_where_its_container_is() {
    let mut scene = Scene::new();
    let mut info = task("t");
    let variable = pb::environment::Variable {
        name: "A".to_owned(),
        value: Some("b".to_owned()),
        ..pb::environment::Variable::default()
    };
    info.command.as_mut().unwrap().environment = Some(pb::Environment { variables: vec![variable] });
    let task = scene.run(info);
    let session = NestedLaunch { is_session: true, ..launch(&format!("{task}.s")) };
    let spec = scene.nested(session).unwrap();
    assert_eq!(spec.directory.as_ref(), Some(&scene.launched[0].sandbox));
    assert_eq!((spec.environment["A"].as_str(), &spec.beside), ("b", &Some(task.clone())));
    assert_eq!(spec.environment["MESOS_SANDBOX"], scene.launched[0].sandbox.display().to_string());
    // It does not outlive the agent.
    let scene = scene.restart(vec![running(&task), running(&format!("{task}.s"))]);
    assert_eq!(scene.signals, [(format!("{task}.s"), 9)]);
}

#[test]
fn how_a_container_ended_is_known_until_it_is_removed() {
    let mut scene = Scene::new();
    let spec = scene.nested(launch("alone")).unwrap();
    assert_eq!(spec.sandbox, std::path::Path::new("/work/containers/alone"));
    assert_eq!(scene.core.container_exit(&id("alone")), Ok(None));
    assert!(matches!(scene.remove("alone"), Err(ContainerError::Runs(_))));
    scene.exit("alone", ExitStatus::Code(3));
    assert_eq!(scene.ended_containers, ["alone"]);
    let exit =
        |scene: &Scene| scene.core.container_exit(&id("alone")).map(|exit| exit.unwrap().unwrap().status);
    assert_eq!(exit(&scene), Ok(ExitStatus::Code(3)));
    // The containerizer keeps its end until then, for the agent that comes after this one.
    assert!(scene.cleaned.is_empty());
    let mut scene = scene.restart(vec![ended("alone", ExitStatus::Code(3))]);
    assert_eq!(exit(&scene), Ok(ExitStatus::Code(3)));
    scene.remove("alone").unwrap();
    assert_eq!(scene.cleaned, ["alone"]);
    assert!(matches!(scene.core.container_exit(&id("alone")), Err(ContainerError::NotFound(_))));
    let scene = scene.restart(vec![]);
    assert!(scene.core.view().nested.is_empty());
}

#[test]
fn containers_survive_the_agent_unless_what_they_are_below_of_is_gone() {
    let mut scene = Scene::new();
    let task = scene.run(task("t"));
    scene.nested(launch(&format!("{task}.a"))).unwrap();
    let nested = format!("{task}.a");
    let scene = scene.restart(vec![running(&task), running(&nested)]);
    assert!(scene.signals.is_empty());
    assert_eq!(scene.core.view().nested.len(), 1);
    let mut scene = scene.restart(vec![running(&nested)]);
    assert_eq!(scene.signals, [(nested.clone(), 9)]);
    scene.exit(&nested, ExitStatus::Signal(9));
    assert_eq!(scene.cleaned.last(), Some(&nested));
}

#[test]
fn ids_that_would_lead_elsewhere_are_refused() {
    let mut scene = Scene::new();
    for bad in ["", "..", "a/b", "a b", "a\\b"] {
        let container_id = pb::ContainerId { value: bad.to_owned(), parent: None };
        let refused = scene.nested(NestedLaunch { container_id, ..launch("x") });
        assert!(matches!(refused, Err(ContainerError::Refused(_))), "{bad}");
    }
    let deep = vec!["a"; 20].join(".");
    assert!(matches!(scene.nested(launch(&deep)), Err(ContainerError::Refused(_))));
    assert!(scene.launched.is_empty());
}

#[test]
fn all_containers_end_when_the_node_stops() {
    let mut scene = Scene::new();
    scene.nested(launch("alone")).unwrap();
    scene.input(Input::Shutdown);
    assert_eq!((scene.core.live(), scene.signals.clone()), (1, vec![("alone".to_owned(), 9)]));
    assert!(matches!(scene.nested(launch("late")), Err(ContainerError::Refused(_))));
    scene.exit("alone", ExitStatus::Signal(9));
    assert_eq!(scene.core.live(), 0);
}
