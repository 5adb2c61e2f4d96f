//! What executors and task groups must look like.

use meshos_proto::mesos::v1::{self as pb, executor_info, task_status::Reason};

use super::{
    super::{super::*, harness::*},
    TOTAL, custom, default_executor, group, scene, shown, used, with_executor,
};

#[test]
fn a_group_that_may_not_run_is_refused_as_such() {
    let mut cluster = Harness::with(CoreConfig { root_submissions: false, ..config() });
    cluster.agent("s1", TOTAL);
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    let mut root = task("a", "s1", "cpus:1");
    root.command.as_mut().unwrap().user = Some("root".to_owned());
    let tasks = vec![root, task("b", "s1", "cpus:1")];
    cluster.accept(&framework, &[&offer], vec![group(default_executor(&framework.0, "e"), tasks)]);
    let statuses = cluster.take_statuses(&framework.1);
    let reasons: Vec<_> = statuses.iter().map(pb::TaskStatus::reason).collect();
    assert_eq!(reasons, [Reason::TaskGroupUnauthorized; 2]);
}

type Spoil = fn(&mut pb::ExecutorInfo, &mut Vec<pb::TaskInfo>);

#[test]
fn groups_that_break_a_rule_are_refused_with_its_text() {
    let cases: [(Spoil, &str); 13] = [
        (|e, _| e.r#type = None, "'ExecutorInfo.type' must be set"),
        (|e, _| e.framework_id = None, "'ExecutorInfo.framework_id' must be set"),
        (
            |e, _| e.framework_id = Some(pb::FrameworkId { value: "x".to_owned() }),
            "ExecutorInfo has an invalid FrameworkID (Actual: x vs Expected: m-0000)",
        ),
        (
            |e, _| e.command = Some(pb::CommandInfo::default()),
            "'ExecutorInfo.command' must not be set for 'DEFAULT' executor",
        ),
        (
            |e, _| e.r#type = Some(executor_info::Type::Custom.into()),
            "'ExecutorInfo.command' must be set for 'CUSTOM' executor",
        ),
        (|e, _| e.executor_id.value = "a/b".to_owned(), "invalid character '/'"),
        (
            |e, _| e.resources = resources("cpus:0.005;mem:32;disk:1"),
            "Executor 'e' uses less CPUs (0.005) than the minimum required (0.01)",
        ),
        (
            |e, _| e.resources = resources("cpus:1;mem:31;disk:1"),
            "Executor 'e' uses less memory (31MB) than the minimum required (32MB)",
        ),
        (|e, _| e.resources = resources("cpus:1;mem:32"), "Executor 'e' uses no disk"),
        (
            |_, t| t[0].executor = Some(custom("other", "cpus:1")),
            "The `ExecutorInfo` of task 'a' is different from executor 'e'",
        ),
        (|_, t| t[1].task_id.value = "a".to_owned(), "Task 'a' is invalid: Task has duplicate ID: a"),
        (
            |_, t| t.iter_mut().for_each(|t| t.resources = resources("cpus:2")),
            "required by task group and its executor are more than available",
        ),
        (
            |_, t| t.iter_mut().for_each(|t| t.resources = resources("ports:[31000-31000]")),
            "Task group and its executor use the same 'ports'",
        ),
    ];
    for (spoil, text) in cases {
        let (mut cluster, framework, _, offer) = scene();
        let mut executor = default_executor(&framework.0, "e");
        let mut tasks = vec![task("a", "s1", "cpus:1"), task("b", "s1", "cpus:1")];
        spoil(&mut executor, &mut tasks);
        cluster.accept(&framework, &[&offer], vec![group(executor, tasks)]);
        let statuses = cluster.take_statuses(&framework.1);
        assert_eq!(statuses.len(), 2, "{text}");
        assert_eq!(statuses[0].reason(), Reason::TaskGroupInvalid);
        assert!(statuses[0].message().contains(text), "{} does not contain {text}", statuses[0].message());
        assert!(cluster.tasks().is_empty() && shown(&cluster).is_empty());
        assert_eq!(used(&cluster), (0.0, 0.0));
    }
}

#[test]
fn executors_that_break_a_rule_are_refused_with_its_text() {
    type Spoil = fn(&mut pb::ExecutorInfo);
    let cases: [(Spoil, &str); 6] = [
        (|e| e.r#type = Some(executor_info::Type::Default.into()), "'ExecutorInfo.command' must not be set"),
        (|e| e.command = None, "'ExecutorInfo.command' must be set"),
        (
            |e| e.shutdown_grace_period = Some(pb::DurationInfo { nanoseconds: -1 }),
            "ExecutorInfo's 'shutdown_grace_period' must be non-negative",
        ),
        (
            |e| e.resources = resources("cpus:3.5"),
            "Task uses more resources cpus:4.5; ports:[31000-31001] than available",
        ),
        (|e| e.resources = resources("ports:[31001-31002]"), "Task and its executor use the same 'ports'"),
        (
            |e| {
                let linux_info = Some(pb::LinuxInfo { share_cgroups: Some(true), ..Default::default() });
                let r#type = pb::container_info::Type::Mesos.into();
                e.container = Some(pb::ContainerInfo { r#type, linux_info, ..Default::default() });
            },
            "'linux_info.share_cgroups' must not be true for an executor",
        ),
    ];
    for (spoil, text) in cases {
        let (mut cluster, framework, _, offer) = scene();
        let mut executor = custom("e", "cpus:0.5");
        spoil(&mut executor);
        let task = with_executor(task("t", "s1", "cpus:1;ports:[31000-31001]"), executor);
        cluster.accept(&framework, &[&offer], vec![launch(vec![task])]);
        let statuses = cluster.take_statuses(&framework.1);
        assert_eq!(statuses[0].reason(), Reason::TaskInvalid, "{text}");
        assert!(statuses[0].message().contains(text), "{} does not contain {text}", statuses[0].message());
        assert!(shown(&cluster).is_empty());
    }
}
