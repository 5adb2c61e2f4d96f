use meshos_proto::meshos::apps::v1::{
    AppUpdate, Container, ContainerImage, ContainerType, ExecutorResources, Fetch, HealthCheck,
    PortDefinition, ResourceLimits, TaskCheck, TcpTaskCheck, UnreachableStrategy, UpgradeStrategy,
    task_check::Kind,
};

use super::{checks::MAX_PROBE_SECONDS, *};
use crate::update::{self, Defaults};

pub(super) fn valid() -> App {
    let update = AppUpdate { cmd: Some("sleep 1000".into()), ..Default::default() };
    update::apply("/a", &update, None, &Defaults { role: "*".into(), network_name: None })
}

pub(super) fn refused(app: &App) -> Vec<(String, String)> {
    refused_by(app, &Rules { roles: vec!["*".into()], max_instances: 100, ..Rules::default() })
}

pub(super) fn refused_by(app: &App, rules: &Rules) -> Vec<(String, String)> {
    match super::app(app, None, rules) {
        Ok(()) => Vec::new(),
        Err(Refusal::Invalid(violations)) => {
            violations.into_iter().map(|v| (v.path, v.errors.join("; "))).collect()
        }
        Err(other) => panic!("{other}"),
    }
}

pub(super) fn has(app: &App, path: &str, message: &str) {
    let found = refused(app);
    assert!(found.iter().any(|(p, m)| p == path && m.contains(message)), "{path} {message} not in {found:?}");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn marathon_c8_ids_are_checked() {
    assert!(refused(&valid()).is_empty());
    has(&App { id: "/x/restart".into(), ..valid() }, "/id", "reserved keywords");
    has(&App { id: "/".into(), ..valid() }, "/id", "must not be root");
    has(&App { id: "/A_b".into(), ..valid() }, "/id", "must fully match regular expression");
}

#[test]
fn marathon_c9_one_of_cmd_and_args_is_needed() {
    has(&App { cmd: None, ..valid() }, "/", COMMAND);
    has(&App { args: vec!["x".into()], ..valid() }, "/", COMMAND);
}

#[test]
fn marathon_c11_capacities_are_fractions() {
    let strategy = UpgradeStrategy { minimum_health_capacity: 1.5, maximum_over_capacity: 1.0 };
    let app = App { upgrade_strategy: Some(strategy), ..valid() };
    has(&app, "/upgradeStrategy/minimumHealthCapacity", "expected between 0.0 and 1.0");
    has(&App { cpus: 0.0, ..valid() }, "/cpus", "error.min");
    has(&App { cpus: f64::NAN, ..valid() }, "/cpus", "error.min");
    has(&App { backoff_factor: 0.5, ..valid() }, "/backoffFactor", "1.0 or more");
}

#[test]
fn marathon_c20_port_names_and_numbers_are_unique() {
    let port = |name: &str, port| PortDefinition {
        port,
        protocol: "tcp".into(),
        name: Some(name.into()),
        ..Default::default()
    };
    let app = App { port_definitions: vec![port("http", 0), port("http", 0)], ..valid() };
    has(&app, "/portDefinitions", "Port names must be unique.");
    let app = App { port_definitions: vec![port("a", 80), port("b", 80)], ..valid() };
    has(&app, "/portDefinitions", "Ports must be unique.");
    has(&App { port_definitions: vec![port("a_b", 80)], ..valid() }, "/portDefinitions(0)/name", "regular");
}

#[test]
fn marathon_c21_c22_constraints_are_checked() {
    let with = |operator: &str, value: Option<&str>| App {
        constraints: vec![Constraint {
            field: "hostname".into(),
            operator: operator.into(),
            value: value.map(str::to_owned),
        }],
        ..valid()
    };
    for (operator, value, message) in [
        ("UNIQUE", Some("x"), "UNIQUE does not accept a value"),
        ("LIKE", Some("("), "is not a valid regular expression"),
        ("UNLIKE", None, "LIKE and UNLIKE require"),
        ("MAX_PER", Some("x"), "MAX_PER requires an integer value"),
        ("GROUP_BY", Some("x"), "GROUP BY must define an integer value"),
        ("IS", Some("{a}"), "IS only supports"),
        (
            "NEAR",
            None,
            "operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS",
        ),
    ] {
        has(&with(operator, value), "/constraints(0)", message);
    }
    for (operator, value) in [("UNIQUE", None), ("CLUSTER", None), ("LIKE", Some("a|b")), ("GROUP_BY", None)]
    {
        assert!(refused(&with(operator, value)).is_empty(), "{operator}");
    }
}

#[test]
fn other_rules_have_marathons_words() {
    let strategy = UnreachableStrategy { disabled: false, inactive_after_s: 5, expunge_after_s: 4 };
    let app = App { unreachable_strategy: Some(strategy), ..valid() };
    has(
        &app,
        "/unreachableStrategy",
        "inactiveAfterSeconds (5) must be less or equal to expungeAfterSeconds, which is 4",
    );
    has(&App { gpus: 1, ..valid() }, "/gpus", "Feature gpu_resources is not enabled");
    has(&App { role: "x".into(), ..valid() }, "/role", "got x, expected one of: [*]");
    let roles = vec!["*".into(), "x".into()];
    has(
        &App { accepted_resource_roles: roles, ..valid() },
        "/acceptedResourceRoles",
        "can only contain * and *",
    );
    has(&App { executor: "a//b".into(), ..valid() }, "/executor", "must fully match");
}

#[test]
fn definitions_have_a_largest_size() {
    let with = |bytes: usize| App { cmd: Some("x".repeat(bytes)), ..valid() };
    assert!(refused(&with(MAX_APP_BYTES - 1000)).is_empty());
    has(&with(MAX_APP_BYTES), "/", "over the limit of 262144");
}

#[test]
fn instances_are_limited() {
    assert!(refused(&App { instances: 100, ..valid() }).is_empty());
    has(&App { instances: 101, ..valid() }, "/instances", "error.max");
}

#[test]
fn times_are_limited() {
    let (most, more) = (MAX_SECONDS, MAX_SECONDS + 1);
    let check = |interval_s, timeout_s, grace_period_s| App {
        health_checks: vec![HealthCheck {
            interval_s,
            timeout_s,
            grace_period_s,
            port: Some(80),
            ..Default::default()
        }],
        ..valid()
    };
    assert!(refused(&check(most, MAX_PROBE_SECONDS, most)).is_empty());
    has(&check(more, 1, 1), "/healthChecks(0)/intervalSeconds", "error.max");
    has(&check(1, MAX_PROBE_SECONDS + 1, 1), "/healthChecks(0)/timeoutSeconds", "error.max");
    has(&check(1, 1, u64::MAX), "/healthChecks(0)/gracePeriodSeconds", "error.max");
    has(&App { backoff_ms: u64::MAX, ..valid() }, "/backoffSeconds", "error.max");
    has(&App { max_launch_delay_ms: u64::MAX, ..valid() }, "/maxLaunchDelaySeconds", "error.max");
    let strategy = UnreachableStrategy { disabled: false, inactive_after_s: 0, expunge_after_s: more };
    let app = App { unreachable_strategy: Some(strategy), ..valid() };
    has(&app, "/unreachableStrategy/expungeAfterSeconds", "error.max");
}

#[test]
fn the_path_of_a_health_check_cannot_end_the_request() {
    let with = |path: &str| App {
        health_checks: vec![HealthCheck { path: Some(path.into()), port: Some(80), ..Default::default() }],
        ..valid()
    };
    for path in ["", "/", "/a?b=%20c#d"] {
        assert!(refused(&with(path)).is_empty(), "{path}");
    }
    for path in ["/ HTTP/1.0", "/\r\nX: y", "/\n", "/\t", "/\u{7f}", "/ä"] {
        has(&with(path), "/healthChecks(0)/path", "visible ASCII");
    }
}

#[test]
fn regular_expressions_and_their_number_are_limited() {
    let like = |text: &str| Constraint {
        field: "hostname".into(),
        operator: "LIKE".into(),
        value: Some(text.to_owned()),
    };
    let with = |constraints| App { constraints, ..valid() };
    let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
    for text in ["(?:a{1000}){1000}", "\\w{500}", &deep] {
        has(&with(vec![like(text)]), "/constraints(0)", "is not a valid regular expression");
    }
    assert!(refused(&with(vec![like("node-\\w+[0-9]{1,3}\\.(a|b)\\.example"); 64])).is_empty());
    has(&with(vec![like("a"); 65]), "/constraints", "error.maxLength");
}

#[test]
fn a_regular_expression_matches_the_whole_text() {
    let one_of = full_match("a|b").unwrap();
    assert!(one_of.is_match("a") && one_of.is_match("b") && !one_of.is_match("ab"));
}

#[test]
fn limits_hold_what_is_asked_for() {
    let limited = |cpus, mem| App { resource_limits: Some(ResourceLimits { cpus, mem }), ..valid() };
    assert!(refused(&limited(Some(f64::INFINITY), Some(128.0))).is_empty());
    let rule = "resource limit must be greater than or equal to requested resource (128.0)";
    has(&limited(None, Some(127.0)), "/resourceLimits/mem", rule);
    has(&limited(Some(0.5), None), "/resourceLimits/cpus", "requested resource (1.0)");
}

#[test]
fn a_check_has_a_port_and_no_docker() {
    let tcp = |port_index, port| Some(Kind::Tcp(TcpTaskCheck { port_index, port }));
    let checked =
        |kind| App { check: Some(TaskCheck { kind, interval_s: 60, timeout_s: 20, delay_s: 15 }), ..valid() };
    assert!(refused(&checked(tcp(Some(0), None))).is_empty());
    assert!(refused(&checked(tcp(None, Some(80)))).is_empty());
    has(&checked(tcp(Some(1), None)), "/check", "must address an element of the ports array");
    let image = Some(ContainerImage { name: "nginx".into(), ..Default::default() });
    let container = Some(Container { r#type: ContainerType::Docker.into(), image, ..Default::default() });
    let docker = App { container, ..checked(tcp(Some(0), None)) };
    has(&docker, "/check", "AppDefinition must not use 'checks' if using docker");
    let mut slow = checked(tcp(Some(0), None));
    slow.check.as_mut().unwrap().timeout_s = MAX_PROBE_SECONDS + 1;
    has(&slow, "/check/timeoutSeconds", "error.max");
}

#[test]
fn labels_that_mean_something_are_checked() {
    let labels = |pairs: &[(&str, &str)]| App {
        labels: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..valid()
    };
    let (version, path) = (("DCOS_MIGRATION_API_VERSION", "v1"), ("DCOS_MIGRATION_API_PATH", "/v1/plan"));
    let name = ("DCOS_PACKAGE_FRAMEWORK_NAME", "kafka");
    for incomplete in [&[version][..], &[version, path], &[version, name], &[(version.0, "v2"), path, name]] {
        has(&labels(incomplete), "/", MIGRATION);
    }
    for complete in [&[version, path, name][..], &[path], &[(version.0, "")]] {
        assert!(refused(&labels(complete)).is_empty(), "{complete:?}");
    }
    let single = App { instances: 2, ..labels(&[("MARATHON_SINGLE_INSTANCE_APP", "true")]) };
    let found = refused(&single);
    let wanted = [
        ("/instances", "Single instance app may only have one instance"),
        ("/upgradeStrategy/maximumOverCapacity", "got 1.0, expected 0.0"),
        ("/upgradeStrategy/minimumHealthCapacity", "got 1.0, expected 0.0"),
    ];
    assert_eq!(found, wanted.map(|(path, rule)| (path.to_owned(), rule.to_owned())));
}

#[test]
fn an_executor_has_a_least_size() {
    let with = |cpus| {
        let resources = ExecutorResources { cpus, mem: 32.0, disk: 10.0 };
        App { executor_resources: Some(resources), ..valid() }
    };
    assert!(refused(&with(0.1)).is_empty());
    has(&with(0.05), "/executorResources/cpus", "error.min");
    has(&with(f64::NAN), "/executorResources/cpus", "error.min");
}

#[test]
fn what_is_fetched_is_named_by_a_uri() {
    let with = |uri: &str| App { fetch: vec![Fetch { uri: uri.into(), ..Default::default() }], ..valid() };
    for uri in ["http://h/x.tgz?a=b&c=%20d#e", "hdfs://[::1]/x", "/local/file", "s3n://k:s%2F@b/x"] {
        assert!(refused(&with(uri)).is_empty(), "{uri}");
    }
    for uri in ["", "http://h/a b", "http://h/{x}", "http://h/100%", "http://h/%zz", "h|x", "a\\b"] {
        has(&with(uri), "/fetch(0)/uri", "URI has invalid syntax.");
    }
}

#[test]
fn what_is_stored_already_need_not_obey_later_rules() {
    let rules = Rules { roles: vec!["*".into()], max_instances: 100, ..Rules::default() };
    let stored = App {
        fetch: vec![Fetch { uri: "http://h/a b".into(), ..Default::default() }],
        labels: [("DCOS_MIGRATION_API_VERSION".to_owned(), "v1".to_owned())].into(),
        ..valid()
    };
    let allowed = |app: &App| super::app(app, Some(&stored), &rules).is_ok();
    assert_eq!(refused(&stored).len(), 2, "a new app has to");
    assert!(allowed(&App { instances: 3, ..stored.clone() }));
    assert!(!allowed(&App { cpus: 0.0, ..stored.clone() }));
    let mut other = stored.clone();
    other.fetch[0].uri = "http://h/{x}".into();
    assert!(!allowed(&other));
    let mut other = stored.clone();
    other.labels.insert("a".into(), "b".into());
    assert!(!allowed(&other));
}
