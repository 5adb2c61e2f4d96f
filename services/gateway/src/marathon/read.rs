//! Definitions as users send them: a typed read that reports every error at once, with Marathon's codes and
//! paths. Pure.
//!
//! Unknown fields are ignored, and `residency`, which says nothing. What Marathon has and this version does not act on
//! is refused: an app must never run in another way than its definition says.

mod check;
mod container;
mod faults;
mod group;
mod health;
mod legacy;
mod limits;
mod parts;
mod readiness;

use meshos_proto::meshos::apps::v1::{AppUpdate, StringList};
use meshos_types::AppId;
use serde_json::{Map, Value};

use super::error::ApiError;
use faults::{Faults, Field, field};
pub(super) use group::{enforce_role, group};

/// One definition.
pub(super) fn app(value: &Value) -> Result<AppUpdate, ApiError> {
    let mut faults = Faults::default();
    let update = definition(&Field { path: String::new(), value }, &mut faults);
    faults.finish()?;
    Ok(update)
}

/// Several definitions, each with its id.
pub(super) fn apps(value: &Value) -> Result<Vec<AppUpdate>, ApiError> {
    let mut faults = Faults::default();
    let list = faults.list(&Field { path: String::new(), value }).unwrap_or_default();
    let updates: Vec<AppUpdate> = list.iter().map(|item| definition(item, &mut faults)).collect();
    faults.finish()?;
    if updates.iter().any(|update| update.id.is_none()) {
        return Err(ApiError::illegal("requirement failed: App Update must have app id set"));
    }
    Ok(updates)
}

/// The ids of `POST /v2/tasks/delete`.
pub(super) fn task_ids(value: &Value) -> Result<Vec<String>, ApiError> {
    let mut faults = Faults::default();
    let body = faults.object(&Field { path: String::new(), value });
    let ids = body.and_then(|body| {
        let found = field(body, "", "ids");
        if found.is_none() {
            faults.read("/ids", "error.path.missing");
        }
        faults.string_list(&found?)
    });
    faults.finish()?;
    Ok(ids.unwrap_or_default())
}

/// `POST /logging`: logger, level, and for how many seconds.
pub(super) fn logger_change(value: &Value) -> Result<(String, &'static str, Option<u64>), ApiError> {
    const LEVELS: [&str; 6] = ["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
    let mut faults = Faults::default();
    let mut change = (String::new(), "", None);
    if let Some(body) = faults.object(&Field { path: String::new(), value }) {
        let logger = faults.required(body, "", "logger").and_then(|name| faults.text(&name, 1, 1024));
        let levels = LEVELS.map(|level| (level, level));
        let level = faults.required(body, "", "level").and_then(|word| faults.word(&word, &levels));
        let seconds = field(body, "", "durationSeconds");
        let seconds = seconds.and_then(|seconds| faults.integer(&seconds, u64::from(u32::MAX)));
        change = (logger.unwrap_or_default(), level.unwrap_or_default(), seconds);
    }
    faults.finish().map(|()| change)
}

fn definition(body: &Field<'_>, faults: &mut Faults) -> AppUpdate {
    let Some(object) = faults.object(body) else { return AppUpdate::default() };
    let base = body.path.as_str();
    let mut update = AppUpdate::default();
    read_identity(&mut update, (object, base), faults);
    read_resources(&mut update, (object, base), faults);
    read_launching(&mut update, (object, base), faults);
    read_settings(&mut update, (object, base), faults);
    legacy::migrate(&mut update, (object, base), faults);
    update
}

/// An object and its path.
type At<'a> = (&'a Map<String, Value>, &'a str);

fn read_identity(update: &mut AppUpdate, (object, base): At<'_>, faults: &mut Faults) {
    let get = |name: &str| field(object, base, name);
    update.id = get("id").and_then(|id| path(&id, faults));
    update.cmd = get("cmd").and_then(|cmd| faults.text(&cmd, 1, usize::MAX));
    update.args = get("args").and_then(|args| faults.string_list(&args)).map(strings);
    update.user = get("user").and_then(|user| faults.string(&user));
    update.role = get("role").and_then(|role| faults.string(&role));
    update.executor = get("executor").and_then(|executor| parts::executor(&executor, faults));
    update.version_ms = get("version").and_then(|version| parts::version(&version, faults));
}

fn read_resources(update: &mut AppUpdate, (object, base): At<'_>, faults: &mut Faults) {
    let get = |name: &str| field(object, base, name);
    update.cpus = get("cpus").and_then(|cpus| faults.number(&cpus, 0.001, f64::MAX));
    update.mem = get("mem").and_then(|mem| faults.number(&mem, 0.0, f64::MAX));
    update.disk = get("disk").and_then(|disk| faults.number(&disk, 0.0, f64::MAX));
    update.gpus = get("gpus").and_then(|gpus| faults.integer(&gpus, u32::MAX));
    update.instances = get("instances").and_then(|instances| faults.integer(&instances, u32::MAX));
    update.port_definitions = get("portDefinitions").and_then(|ports| parts::ports(&ports, faults));
    update.health_checks = get("healthChecks").and_then(|checks| health::checks(&checks, faults));
    update.readiness_checks = get("readinessChecks").and_then(|checks| readiness::checks(&checks, faults));
    update.resource_limits = get("resourceLimits").and_then(|limits| limits::read(&limits, faults));
    update.executor_resources = get("executorResources").and_then(|found| limits::executor(&found, faults));
    update.check = get("check").and_then(|found| check::read(&found, faults));
    update.require_ports = get("requirePorts").and_then(|required| faults.boolean(&required));
    let roles = get("acceptedResourceRoles").and_then(|roles| {
        let list = faults.string_list(&roles)?;
        if list.is_empty() {
            faults.read(&roles.path, "error.minLength");
        }
        Some(list)
    });
    update.accepted_resource_roles = roles.map(strings);
}

fn read_launching(update: &mut AppUpdate, (object, base): At<'_>, faults: &mut Faults) {
    let get = |name: &str| field(object, base, name);
    update.upgrade_strategy = get("upgradeStrategy").and_then(|strategy| parts::upgrade(&strategy, faults));
    update.backoff_s = get("backoffSeconds").and_then(|seconds| faults.integer(&seconds, u64::MAX));
    update.backoff_factor = get("backoffFactor").and_then(|factor| faults.number(&factor, 1.0, f64::MAX));
    update.max_launch_delay_s = get("maxLaunchDelaySeconds").and_then(|s| faults.integer(&s, u64::MAX));
    update.kill_grace_period_s =
        get("taskKillGracePeriodSeconds").and_then(|seconds| faults.integer(&seconds, u32::MAX));
    let selection = get("killSelection").and_then(|selection| parts::kill_selection(&selection, faults));
    update.kill_selection = selection.unwrap_or_default().into();
    update.unreachable_strategy =
        get("unreachableStrategy").and_then(|strategy| parts::unreachable(&strategy, faults));
    update.constraints = get("constraints").and_then(|list| parts::constraints(&list, faults));
}

fn read_settings(update: &mut AppUpdate, (object, base): At<'_>, faults: &mut Faults) {
    let get = |name: &str| field(object, base, name);
    if let Some((env, secrets)) = get("env").and_then(|env| parts::environment(&env, faults)) {
        (update.env, update.env_secrets) = (Some(env), Some(secrets));
    }
    update.container = get("container").and_then(|found| container::container(&found, faults));
    update.networks = get("networks").and_then(|found| container::networks(&found, faults));
    update.tty = get("tty").and_then(|tty| faults.boolean(&tty));
    update.secrets = get("secrets").and_then(|secrets| parts::secrets(&secrets, faults));
    update.labels = get("labels").and_then(|labels| parts::labels(&labels, faults));
    update.fetch = get("fetch").and_then(|fetch| parts::fetch(&fetch, faults));
    update.dependencies = get("dependencies").and_then(|list| {
        let items = faults.list(&list)?;
        Some(strings(items.iter().filter_map(|item| path(item, faults)).collect()))
    });
}

/// A path of apps and groups, absolute or relative.
fn path(found: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = faults.text(found, 1, usize::MAX)?;
    if AppId::parse(&text).is_err() {
        faults.read(&found.path, "error.pattern");
    }
    Some(text)
}

fn strings(items: Vec<String>) -> StringList {
    StringList { items }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::meshos::apps::v1::KillSelection;
    use serde_json::json;

    fn details(value: Value) -> (u16, Value) {
        let error = app(&value).unwrap_err();
        (error.status.as_u16(), error.body)
    }

    #[test]
    fn marathon_c06_wrong_types_are_named() {
        let (status, body) = details(json!({"id": 123}));
        assert_eq!(status, 422);
        assert_eq!(
            body,
            json!({"message": "Invalid JSON", "details": [{"path": "/id", "errors": ["error.expected.jsstring"]}]})
        );
    }

    #[test]
    fn marathon_c07_an_id_must_fit_the_pattern() {
        let (_, body) = details(json!({"id": "/A_b"}));
        assert_eq!(body["details"], json!([{"path": "/id", "errors": ["error.pattern"]}]));
    }

    #[test]
    fn marathon_c10_all_errors_come_at_once() {
        let (_, body) = details(json!({"id": "/a", "instances": -1, "cpus": 0, "cmd": ""}));
        let wanted = json!([
            {"path": "/cmd", "errors": ["error.minLength"]},
            {"path": "/cpus", "errors": ["error.min"]},
            {"path": "/instances", "errors": ["error.min"]},
        ]);
        assert_eq!(body["details"], wanted);
    }

    #[test]
    fn marathon_c11_fractions_have_bounds() {
        let (status, body) = details(json!({"upgradeStrategy": {"minimumHealthCapacity": 1.5}}));
        assert_eq!(status, 422);
        assert_eq!(body["details"][0]["path"], "/upgradeStrategy/minimumHealthCapacity");
        assert_eq!(body["details"][0]["errors"], json!(["error.max"]));
    }

    #[test]
    fn marathon_c12_unknown_fields_are_ignored() {
        let update = app(&json!({"id": "/a", "cmd": "x", "foo": 1, "tasks": [], "tasksRunning": 1})).unwrap();
        assert_eq!(update, AppUpdate { id: Some("/a".into()), cmd: Some("x".into()), ..Default::default() });
    }

    #[test]
    fn null_is_absent() {
        let update = app(&json!({"cmd": null, "env": null, "container": null, "instances": 2})).unwrap();
        assert_eq!(update, AppUpdate { instances: Some(2), ..Default::default() });
    }

    #[test]
    fn constraints_are_a_set_of_two_or_three_words() {
        let list = json!([["hostname", "unique"], ["hostname", "UNIQUE"], ["rack", "LIKE", "r"]]);
        let update = app(&json!({"constraints": list})).unwrap();
        assert_eq!(update.constraints.unwrap().items.len(), 2);
        for words in [json!(["hostname"]), json!(["a", "LIKE", "b", "c"]), json!([])] {
            let (_, body) = details(json!({"constraints": [words]}));
            let rule = "Each constraint must have either 2 or 3 fields";
            assert_eq!(body["details"], json!([{"path": "/constraints(0)", "errors": [rule]}]));
        }
    }

    #[test]
    fn values_that_say_nothing_are_accepted() {
        let residency = json!({"relaunchEscalationTimeoutSeconds": 10, "taskLostBehavior": "WAIT_FOREVER"});
        let body = json!({
            "healthChecks": [], "readinessChecks": [], "secrets": {}, "tty": false, "networks": [],
            "residency": residency, "storeUrls": ["x"], "executor": "//cmd",
        });
        assert!(app(&body).is_ok());
        let (_, body) = details(json!({"executor": "a//b"}));
        assert_eq!(body["details"], json!([{"path": "/executor", "errors": ["error.pattern"]}]));
    }

    #[test]
    fn a_whole_definition_is_read() {
        let update = app(&json!({
            "id": "/g/a", "args": ["x", "y"], "cpus": 0.5, "mem": 32, "disk": 1, "gpus": 0, "instances": 2,
            "env": {"A": "1"}, "labels": {"l": "v"}, "networks": [{"mode": "host"}], "requirePorts": true,
            "portDefinitions": [{"port": 0, "name": "http", "protocol": "udp", "labels": {"VIP": "x"}}],
            "constraints": [["hostname", "unique"], ["rack", "LIKE", "r.*"]],
            "upgradeStrategy": {"maximumOverCapacity": 0}, "backoffSeconds": 2, "backoffFactor": 1.5,
            "maxLaunchDelaySeconds": 10, "dependencies": ["../b"], "fetch": [{"uri": "http://h/x.tgz"}],
            "taskKillGracePeriodSeconds": 5, "killSelection": "oldest_first", "unreachableStrategy": "disabled",
            "acceptedResourceRoles": ["*"], "role": "eng", "user": "u", "executor": "",
        }))
        .unwrap();
        assert_eq!(update.args.unwrap().items, ["x", "y"]);
        assert_eq!((update.cpus, update.mem, update.instances), (Some(0.5), Some(32.0), Some(2)));
        let ports = update.port_definitions.unwrap().items;
        assert_eq!((ports[0].name.as_deref(), ports[0].protocol.as_str()), (Some("http"), "udp"));
        let constraints = update.constraints.unwrap().items;
        assert_eq!((constraints[1].field.as_str(), constraints[1].value.as_deref()), ("rack", Some("r.*")));
        assert_eq!(update.upgrade_strategy.unwrap().minimum_health_capacity, None);
        assert_eq!(update.kill_selection, KillSelection::OldestFirst as i32);
        assert!(update.unreachable_strategy.unwrap().disabled);
        assert!(update.fetch.unwrap().items[0].extract);
        assert_eq!(update.dependencies.unwrap().items, ["../b"]);
    }

    #[test]
    fn an_array_of_updates_needs_ids() {
        let error = apps(&json!([{"id": "/a"}, {"cmd": "x"}])).unwrap_err();
        assert_eq!(error.body["message"], "requirement failed: App Update must have app id set");
        let error = apps(&json!([{"id": 1}])).unwrap_err();
        assert_eq!(error.body["details"][0]["path"], "(0)/id");
        assert_eq!(
            apps(&json!({})).unwrap_err().body["details"][0]["errors"],
            json!(["error.expected.jsarray"])
        );
    }

    #[test]
    fn task_ids_are_strings() {
        assert_eq!(task_ids(&json!({"ids": ["a", "b"]})).unwrap(), ["a", "b"]);
        assert_eq!(
            task_ids(&json!({})).unwrap_err().body["details"][0]["errors"],
            json!(["error.path.missing"])
        );
        assert_eq!(task_ids(&json!({"ids": [1]})).unwrap_err().body["details"][0]["path"], "/ids(0)");
    }

    /// JSON of any shape, with the names of real fields.
    fn any_value() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z/.]{0,6}".prop_map(Value::from),
        ];
        let names = proptest::sample::select(vec![
            "id",
            "cmd",
            "args",
            "env",
            "ports",
            "uris",
            "fetch",
            "uri",
            "networks",
            "mode",
            "constraints",
            "port",
            "portDefinitions",
            "labels",
            "unreachableStrategy",
            "upgradeStrategy",
            "version",
            "container",
            "docker",
            "image",
            "network",
            "portMappings",
            "volumes",
            "external",
            "ipAddress",
            "discovery",
        ]);
        leaf.prop_recursive(3, 32, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((names.clone(), inner), 0..8).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn any_json_is_read_or_refused(value in any_value()) {
            if let Err(error) = app(&value) {
                assert_eq!(error.status.as_u16(), 422);
            }
            let _ = (apps(&value), task_ids(&value));
        }
    }
}
