//! From a definition as a user sent it to a complete one: defaults, partial updates.

mod container;

use meshos_proto::meshos::apps::v1::{
    App, AppUpdate, HealthCheck, HealthProtocol, KillSelection, UnreachableStrategy, UpgradeStrategy,
};
use meshos_types::{AppId, app_ports};

/// What absent fields become.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub role: String,
    /// Name of container networks.
    pub network_name: Option<String>,
}

/// An app with nothing but defaults.
fn blank(id: &str, defaults: &Defaults) -> App {
    App {
        format: 1,
        id: id.to_owned(),
        cpus: 1.0,
        mem: 128.0,
        instances: 1,
        port_definitions: vec![container::default_port()],
        backoff_ms: 1000,
        backoff_factor: 1.15,
        max_launch_delay_ms: 300_000,
        kill_selection: KillSelection::YoungestFirst.into(),
        unreachable_strategy: Some(UnreachableStrategy::default()),
        role: defaults.role.clone(),
        ..Default::default()
    }
}

/// The definition that `update` asks for. Absent fields keep what `base` has, or get their default without one. Ids
/// of dependencies are resolved from the root.
pub fn apply(id: &str, update: &AppUpdate, base: Option<&App>, defaults: &Defaults) -> App {
    let mut app = base.cloned().unwrap_or_else(|| blank(id, defaults));
    app.id = id.to_owned();
    apply_command(&mut app, update);
    apply_resources(&mut app, update);
    container::apply(&mut app, update, defaults);
    apply_checks(&mut app, update);
    if base.is_none() {
        app.upgrade_strategy = Some(container::default_strategy(&app));
    }
    apply_launching(&mut app, update);
    app
}

fn apply_command(app: &mut App, update: &AppUpdate) {
    // A command of the other form replaces what was there: both at once are refused only when both were sent.
    if let Some(cmd) = &update.cmd {
        app.cmd = Some(cmd.clone());
        if update.args.is_none() {
            app.args.clear();
        }
    }
    if let Some(args) = &update.args {
        app.args.clone_from(&args.items);
        if update.cmd.is_none() && !args.items.is_empty() {
            app.cmd = None;
        }
    }
    if let Some(env) = &update.env {
        app.env.clone_from(&env.items);
    }
    if let Some(secrets) = &update.env_secrets {
        app.env_secrets.clone_from(&secrets.items);
    }
    if let Some(secrets) = &update.secrets {
        app.secrets.clone_from(&secrets.items);
    }
    if let Some(labels) = &update.labels {
        app.labels.clone_from(&labels.items);
    }
    if let Some(fetch) = &update.fetch {
        app.fetch.clone_from(&fetch.items);
    }
    if update.user.is_some() {
        app.user.clone_from(&update.user);
    }
    set(&mut app.executor, update.executor.as_ref());
    set(&mut app.role, update.role.as_ref());
}

fn apply_resources(app: &mut App, update: &AppUpdate) {
    set(&mut app.cpus, update.cpus.as_ref());
    set(&mut app.mem, update.mem.as_ref());
    set(&mut app.disk, update.disk.as_ref());
    set(&mut app.gpus, update.gpus.as_ref());
    set(&mut app.instances, update.instances.as_ref());
    set(&mut app.require_ports, update.require_ports.as_ref());
    if let Some(limits) = update.resource_limits {
        app.resource_limits = Some(limits).filter(|limits| limits.cpus.is_some() || limits.mem.is_some());
    }
    if update.executor_resources.is_some() {
        app.executor_resources = update.executor_resources;
    }
    if let Some(ports) = &update.port_definitions {
        app.port_definitions.clone_from(&ports.items);
        for port in &mut app.port_definitions {
            if port.protocol.is_empty() {
                "tcp".clone_into(&mut port.protocol);
            }
        }
    }
    if let Some(roles) = &update.accepted_resource_roles {
        app.accepted_resource_roles.clone_from(&roles.items);
    }
}

fn apply_checks(app: &mut App, update: &AppUpdate) {
    if let Some(checks) = &update.health_checks {
        app.health_checks.clone_from(&checks.items);
    }
    let has_ports = app_ports(app).next().is_some();
    // The first port is checked where nothing else is said.
    let addressed =
        |check: &&mut HealthCheck| check.port.is_none() && check.protocol() != HealthProtocol::Command;
    for check in app.health_checks.iter_mut().filter(addressed) {
        if check.port_index.is_none() && has_ports {
            check.port_index = Some(0);
        }
    }
    if let Some(checks) = &update.readiness_checks {
        app.readiness_checks.clone_from(&checks.items);
    }
    if update.check.is_some() {
        app.check.clone_from(&update.check);
    }
}

fn apply_launching(app: &mut App, update: &AppUpdate) {
    if let Some(strategy) = &update.upgrade_strategy {
        let default = container::default_strategy(app);
        app.upgrade_strategy = Some(UpgradeStrategy {
            minimum_health_capacity: strategy
                .minimum_health_capacity
                .unwrap_or(default.minimum_health_capacity),
            maximum_over_capacity: strategy.maximum_over_capacity.unwrap_or(default.maximum_over_capacity),
        });
    }
    set(&mut app.backoff_ms, update.backoff_s.map(|s| s.saturating_mul(1000)).as_ref());
    set(&mut app.backoff_factor, update.backoff_factor.as_ref());
    set(&mut app.max_launch_delay_ms, update.max_launch_delay_s.map(|s| s.saturating_mul(1000)).as_ref());
    if let Some(dependencies) = &update.dependencies {
        app.dependencies = dependencies.items.iter().map(|text| resolved(text)).collect();
    }
    if update.kill_grace_period_s.is_some() {
        app.kill_grace_period_s = update.kill_grace_period_s;
    }
    if update.kill_selection() != KillSelection::Unspecified {
        app.kill_selection = update.kill_selection;
    }
    if update.unreachable_strategy.is_some() {
        app.unreachable_strategy = update.unreachable_strategy;
    }
    if let Some(constraints) = &update.constraints {
        app.constraints.clone_from(&constraints.items);
        for constraint in &mut app.constraints {
            constraint.operator.make_ascii_uppercase();
        }
    }
}

/// An invalid id stays as it is, for validation to name it.
fn resolved(text: &str) -> String {
    AppId::parse(text).map_or_else(|_| text.to_owned(), |id| id.as_str().to_owned())
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

/// Whether an update that rolls back to a version says anything else.
pub fn says_more_than_version(update: &AppUpdate) -> bool {
    AppUpdate { id: None, version_ms: None, ..update.clone() } != AppUpdate::default()
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{StringList, StringMap};

    use super::*;

    fn defaults() -> Defaults {
        Defaults { role: "*".into(), network_name: None }
    }

    fn map(pairs: &[(&str, &str)]) -> StringMap {
        StringMap { items: pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect() }
    }

    #[test]
    fn marathon_c13_a_minimal_app_has_the_defaults_of_marathon() {
        let update = AppUpdate { cmd: Some("sleep 1000".into()), ..Default::default() };
        let app = apply("/a", &update, None, &defaults());
        assert_eq!((app.cpus, app.mem, app.disk, app.instances), (1.0, 128.0, 0.0, 1));
        assert_eq!((app.backoff_ms, app.backoff_factor, app.max_launch_delay_ms), (1000, 1.15, 300_000));
        assert_eq!(app.port_definitions.len(), 1);
        assert_eq!(app.port_definitions[0].name.as_deref(), Some("default"));
        assert_eq!(app.upgrade_strategy.unwrap().maximum_over_capacity, 1.0);
        assert_eq!(app.kill_selection(), KillSelection::YoungestFirst);
    }

    #[test]
    fn marathon_c25_a_present_field_is_replaced_whole_and_an_absent_one_kept() {
        let base = AppUpdate {
            cmd: Some("x".into()),
            env: Some(map(&[("A", "0"), ("B", "0")])),
            ..Default::default()
        };
        let base = apply("/a", &base, None, &defaults());
        let update = AppUpdate { env: Some(map(&[("A", "1")])), ..Default::default() };
        let app = apply("/a", &update, Some(&base), &defaults());
        assert_eq!(app.env, map(&[("A", "1")]).items);
        assert_eq!(app.cmd.as_deref(), Some("x"));
    }

    #[test]
    fn marathon_c26_without_a_base_absent_fields_are_at_their_defaults() {
        let update = AppUpdate { cmd: Some("sleep 2000".into()), ..Default::default() };
        let app = apply("/a", &update, None, &defaults());
        assert!(app.env.is_empty() && app.instances == 1);
    }

    #[test]
    fn args_replace_a_command_and_back() {
        let base = apply("/a", &AppUpdate { cmd: Some("x".into()), ..Default::default() }, None, &defaults());
        let args = StringList { items: vec!["y".into(), "z".into()] };
        let app =
            apply("/a", &AppUpdate { args: Some(args), ..Default::default() }, Some(&base), &defaults());
        assert_eq!((app.cmd.clone(), app.args.len()), (None, 2));
        let back = AppUpdate { cmd: Some("x".into()), ..Default::default() };
        assert!(apply("/a", &back, Some(&app), &defaults()).args.is_empty());
    }

    #[test]
    fn dependencies_are_taken_from_the_root() {
        let list = StringList { items: vec!["db".into(), "/p/q/".into(), "../x".into(), "B_ad".into()] };
        let update = AppUpdate { dependencies: Some(list), ..Default::default() };
        assert_eq!(apply("/g/a", &update, None, &defaults()).dependencies, ["/db", "/p/q", "/x", "B_ad"]);
    }
}
