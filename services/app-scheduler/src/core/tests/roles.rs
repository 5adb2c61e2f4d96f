//! Roles of apps in groups.

use meshos_proto::meshos::apps::v1::{AppUpdate, ExecutorResources, GroupUpdate, SetEnforceRoleRequest};

use super::{
    super::*,
    cluster::{Cluster, app},
};

fn with_role(id: &str, role: &str) -> AppUpdate {
    AppUpdate { role: Some(role.into()), ..app(id) }
}

#[test]
fn an_app_may_have_the_role_of_its_top_level_group() {
    let mut cluster = Cluster::new(1);
    cluster.create(with_role("/g/a", "g")).unwrap();
    cluster.create(with_role("/g/h/b", "g")).unwrap();
    assert_eq!(cluster.app("/g/h/b").unwrap().role, "g");
    cluster.create(app("/g/c")).unwrap();
    assert_eq!(cluster.app("/g/c").unwrap().role, "*");
    let refused = |cluster: &mut Cluster, id: &str, role: &str| match cluster.create(with_role(id, role)) {
        Err(Refusal::Invalid(found)) => format!("{} {}", found[0].path, found[0].errors[0]),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut cluster, "/g/h/x", "h"), "/role got h, expected one of: [*, g]");
    assert_eq!(refused(&mut cluster, "/x", "x"), "/role got x, expected one of: [*]", "it is in no group");
    let insist = SetEnforceRoleRequest { id: "/g".into(), enforce_role: true };
    cluster.change(Request::SetEnforceRole(insist)).unwrap();
    assert_eq!(refused(&mut cluster, "/g/x", "*"), "/role got *, expected one of: [g]");
}

#[test]
fn new_top_level_groups_insist_where_that_is_set() {
    let args = MarathonArgs { new_group_enforce_role: "top".into(), ..MarathonArgs::default() };
    let mut cluster = Cluster::of(1, args);
    cluster.create(app("/g/h/a")).unwrap();
    assert_eq!(cluster.app("/g/h/a").unwrap().role, "g");
    assert!(cluster.core.groups["/g"].enforce_role && !cluster.core.groups["/g/h"].enforce_role);
    cluster.create(app("/top")).unwrap();
    assert_eq!(cluster.app("/top").unwrap().role, "*");
    let named = |id: &str, enforce_role| {
        let update = Some(GroupUpdate { enforce_role, ..Default::default() });
        Request::UpdateGroup(Box::new(UpdateGroupRequest { id: id.into(), update, ..Default::default() }))
    };
    cluster.change(named("/free", Some(false))).unwrap();
    cluster.create(app("/free/a")).unwrap();
    assert_eq!(cluster.app("/free/a").unwrap().role, "*");
    cluster.change(named("/said", None)).unwrap();
    assert!(cluster.core.groups["/said"].enforce_role);
}

#[test]
fn other_resources_of_the_executor_are_a_version_without_new_tasks() {
    let mut cluster = Cluster::new(1);
    cluster.create(app("/a")).unwrap();
    cluster.settle();
    let (before, tasks) = (cluster.app("/a").unwrap(), cluster.task_ids("/a"));
    let resources = ExecutorResources { cpus: 0.2, mem: 64.0, disk: 10.0 };
    let update =
        AppUpdate { executor_resources: Some(resources), id: Some("/a".into()), ..Default::default() };
    let change = cluster.put(update, false).unwrap();
    cluster.settle();
    let after = cluster.app("/a").unwrap();
    assert_eq!((after.version_ms, after.executor_resources), (change.version_ms, Some(resources)));
    assert_eq!(after.last_config_change_at_ms, before.last_config_change_at_ms);
    assert_eq!(cluster.task_ids("/a"), tasks);
}
