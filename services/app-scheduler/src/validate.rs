//! The rules that a definition must obey, with Marathon's messages and paths.

mod checks;

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{App, Constraint, HealthProtocol, Violation};
use meshos_types::AppId;
use prost::Message;
use regex::{Regex, RegexBuilder};

pub use checks::probe_path;

use crate::{error::Refusal, health::is_agent_run};

/// What the rules depend on besides the definition.
#[derive(Clone, Debug)]
pub struct Rules {
    pub role: String,
    pub gpus_enabled: bool,
    pub secrets_enabled: bool,
    /// Instances that an app may have.
    pub max_instances: u32,
}

/// Largest definition; several of them stand in one record.
const MAX_APP_BYTES: usize = 256 * 1024;
/// Most constraints of an app: each is looked at for each offer.
const MAX_CONSTRAINTS: usize = 64;
/// Longest time that a user may name, in seconds: a year. Sums of it and the present time stay far from overflow.
const MAX_SECONDS: u64 = 31_536_000;
/// What a compiled regular expression, and what matching keeps at hand for it, may take, in bytes.
const MAX_REGEX_BYTES: usize = 256 * 1024;
/// How deep the groups of a regular expression may be nested.
const MAX_REGEX_NESTING: u32 = 32;

const COMMAND: &str = "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.";
const OPERATORS: [&str; 7] = ["UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "MAX_PER", "UNLIKE", "IS"];

/// Violations by path.
#[derive(Debug, Default)]
struct Found(BTreeMap<String, Vec<String>>);

impl Found {
    fn add(&mut self, path: &str, error: impl Into<String>) {
        self.0.entry(path.to_owned()).or_default().push(error.into());
    }

    fn check(&mut self, holds: bool, path: &str, error: impl Into<String>) {
        if !holds {
            self.add(path, error);
        }
    }
}

/// Checks one definition.
pub fn app(app: &App, rules: &Rules) -> Result<(), Refusal> {
    let mut found = Found::default();
    if let Err(error) = app_id(&app.id) {
        found.add("/id", error);
    }
    let bytes = app.encoded_len();
    let rule = format!("the definition has {bytes} bytes, which is over the limit of {MAX_APP_BYTES}");
    found.check(bytes <= MAX_APP_BYTES, "/", rule);
    found.check(app.cmd.is_some() == app.args.is_empty(), "/", COMMAND);
    found.check(app.cmd.as_ref().is_none_or(|cmd| !cmd.is_empty()), "/cmd", "must not be empty");
    resources(app, rules, &mut found);
    launching(app, &mut found);
    ports(app, &mut found);
    roles(app, rules, &mut found);
    seconds(app, &mut found);
    for (index, check) in app.health_checks.iter().enumerate() {
        checks::health_check(app, check, &format!("/healthChecks({index})"), &mut found);
    }
    let agents = app
        .health_checks
        .iter()
        .filter(|check| is_agent_run(check) && check.protocol() != HealthProtocol::Command);
    let few = agents.count() <= 1;
    found.check(few, "/healthChecks", "AppDefinition can contain at most one Mesos health check");
    checks::readiness(app, &mut found);
    secrets(app, rules, &mut found);
    found.check(app.constraints.len() <= MAX_CONSTRAINTS, "/constraints", "error.maxLength");
    for (index, one) in app.constraints.iter().take(MAX_CONSTRAINTS).enumerate() {
        if let Err(error) = constraint(one) {
            found.add(&format!("/constraints({index})"), error);
        }
    }
    for (index, dependency) in app.dependencies.iter().enumerate() {
        if let Err(error) = AppId::parse(dependency) {
            found.add(&format!("/dependencies({index})"), error.to_string());
        }
    }
    for (index, fetch) in app.fetch.iter().enumerate() {
        let valid = !fetch.uri.is_empty() && !fetch.uri.chars().any(|c| c.is_whitespace() || c.is_control());
        found.check(valid, &format!("/fetch({index})/uri"), "URI has invalid syntax.");
    }
    if found.0.is_empty() {
        return Ok(());
    }
    Err(Refusal::Invalid(found.0.into_iter().map(|(path, errors)| Violation { path, errors }).collect()))
}

/// Checks the id of an app.
pub fn app_id(text: &str) -> Result<AppId, String> {
    let last = text.rsplit('/').next().unwrap_or_default();
    if last == "." || last == ".." {
        return Err(
            "must not end with any of the following reserved keywords: restart, tasks, versions, ., .."
                .to_owned(),
        );
    }
    let id = AppId::parse(text).map_err(|error| error.to_string())?;
    id.check_app().map_err(|error| error.to_string())?;
    Ok(id)
}

fn secrets(app: &App, rules: &Rules, found: &mut Found) {
    found.check(
        app.secrets.is_empty() || rules.secrets_enabled,
        "/secrets",
        "Feature secrets is not enabled. Enable with --enable_features secrets)",
    );
    if !app.env_secrets.is_empty() && !rules.secrets_enabled {
        let rule = "use of secret-references in the environment requires the secrets feature to be enabled";
        found.add("/env", rule);
    }
    for (name, source) in &app.secrets {
        found.check(!source.is_empty(), &format!("/secrets/{name}/source"), "error.minLength");
    }
    for (variable, secret) in &app.env_secrets {
        let known = app.secrets.contains_key(secret);
        let unknown = format!("references an undefined secret named '{secret}'");
        found.check(known, &format!("/env/{variable}"), unknown);
    }
}

fn seconds(app: &App, found: &mut Found) {
    let unreachable = app.unreachable_strategy.unwrap_or_default();
    for (path, value) in [
        ("/backoffSeconds", app.backoff_ms / 1000),
        ("/maxLaunchDelaySeconds", app.max_launch_delay_ms / 1000),
        ("/taskKillGracePeriodSeconds", app.kill_grace_period_s.unwrap_or_default().into()),
        ("/unreachableStrategy/inactiveAfterSeconds", unreachable.inactive_after_s),
        ("/unreachableStrategy/expungeAfterSeconds", unreachable.expunge_after_s),
    ] {
        found.check(value <= MAX_SECONDS, path, "error.max");
    }
}

fn resources(app: &App, rules: &Rules, found: &mut Found) {
    found.check(app.instances <= rules.max_instances, "/instances", "error.max");
    found.check(app.cpus.is_finite() && app.cpus >= 0.001, "/cpus", "error.min");
    found.check(app.mem.is_finite() && app.mem >= 0.0, "/mem", "error.min");
    found.check(app.disk.is_finite() && app.disk >= 0.0, "/disk", "error.min");
    found.check(
        app.gpus == 0 || rules.gpus_enabled,
        "/gpus",
        "Feature gpu_resources is not enabled. Enable with --enable_features gpu_resources)",
    );
    if app.labels.get("MARATHON_SINGLE_INSTANCE_APP").is_some_and(|value| value == "true") {
        found.check(app.instances <= 1, "/instances", "Single instance app may only have one instance");
        let strategy = app.upgrade_strategy.unwrap_or_default();
        let none = strategy.minimum_health_capacity == 0.0 && strategy.maximum_over_capacity == 0.0;
        found.check(
            none,
            "/upgradeStrategy",
            "got a capacity that is not 0, expected 0 for a single instance app",
        );
    }
}

fn launching(app: &App, found: &mut Found) {
    let strategy = app.upgrade_strategy.unwrap_or_default();
    for (path, value) in [
        ("/upgradeStrategy/minimumHealthCapacity", strategy.minimum_health_capacity),
        ("/upgradeStrategy/maximumOverCapacity", strategy.maximum_over_capacity),
    ] {
        found.check((0.0..=1.0).contains(&value), path, format!("got {value}, expected between 0.0 and 1.0"));
    }
    let factor = app.backoff_factor;
    let fine = factor.is_finite() && factor >= 1.0;
    found.check(fine, "/backoffFactor", format!("got {factor}, expected 1.0 or more"));
    let unreachable = app.unreachable_strategy.unwrap_or_default();
    found.check(
        unreachable.disabled || unreachable.inactive_after_s <= unreachable.expunge_after_s,
        "/unreachableStrategy",
        format!(
            "inactiveAfterSeconds ({}) must be less or equal to expungeAfterSeconds, which is {}",
            unreachable.inactive_after_s, unreachable.expunge_after_s
        ),
    );
    found.check(
        executor(&app.executor),
        "/executor",
        "must fully match regular expression '^(//cmd)|(/?[^/]+(/[^/]+)*)|$'",
    );
}

fn executor(text: &str) -> bool {
    let path = text.strip_prefix('/').unwrap_or(text);
    text.is_empty() || text == "//cmd" || path.split('/').all(|segment| !segment.is_empty())
}

fn ports(app: &App, found: &mut Found) {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let (mut unique_names, mut unique_numbers) = (true, true);
    for (index, port) in app.port_definitions.iter().enumerate() {
        let path = |field: &str| format!("/portDefinitions({index})/{field}");
        found.check(port.port <= 65_535, &path("port"), "error.max");
        let protocol = matches!(port.protocol.as_str(), "tcp" | "udp" | "udp,tcp" | "tcp,udp");
        found.check(protocol, &path("protocol"), "error.unknown.enum.literal");
        if let Some(name) = &port.name {
            let expected = "must fully match regular expression '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'";
            found.check(port_name(name), &path("name"), expected);
            unique_names &= names.insert(name);
        }
        unique_numbers &= port.port == 0 || numbers.insert(port.port);
    }
    found.check(unique_names, "/portDefinitions", "Port names must be unique.");
    found.check(unique_numbers, "/portDefinitions", "Ports must be unique.");
}

fn port_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.bytes().all(allowed) && !name.starts_with('-') && !name.ends_with('-')
}

fn roles(app: &App, rules: &Rules, found: &mut Found) {
    let expected = format!("got {}, expected one of: [{}]", app.role, rules.role);
    found.check(app.role == rules.role, "/role", expected);
    let accepted = &app.accepted_resource_roles;
    found.check(
        accepted.iter().all(|role| role == "*" || *role == app.role),
        "/acceptedResourceRoles",
        format!("acceptedResourceRoles can only contain * and {}", app.role),
    );
}

fn constraint(constraint: &Constraint) -> Result<(), String> {
    if constraint.field.is_empty() {
        return Err("missing field for constraint declaration".to_owned());
    }
    let value = constraint.value.as_deref();
    match constraint.operator.as_str() {
        "UNIQUE" if value.is_some() => Err("UNIQUE does not accept a value".to_owned()),
        "UNIQUE" | "CLUSTER" => Ok(()),
        "GROUP_BY" => match value.map(str::parse::<u32>) {
            None => Ok(()),
            Some(Ok(groups)) if groups > 0 => Ok(()),
            Some(_) => Err("GROUP BY must define an integer value or else no value at all".to_owned()),
        },
        "MAX_PER" => match value.map(str::parse::<u32>) {
            Some(Ok(_)) => Ok(()),
            _ => Err("MAX_PER requires an integer value".to_owned()),
        },
        "LIKE" | "UNLIKE" => match value {
            None | Some("") => {
                Err("LIKE and UNLIKE require a non-empty, regular expression value".to_owned())
            }
            Some(text) => match full_match(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("'{text}' is not a valid regular expression: {error}")),
            },
        },
        "IS" => match value {
            Some(text) if !text.is_empty() && !text.starts_with(['{', '[']) => Ok(()),
            _ => Err("IS only supports Mesos text and float values (see \
                      http://mesos.apache.org/documentation/latest/attributes-resources/)"
                .to_owned()),
        },
        _ => Err(format!("operator must be one of the following {}", list(&OPERATORS))),
    }
}

fn list(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// A regular expression that must match the whole text. One that is too large or too deeply nested is an error.
pub fn full_match(text: &str) -> Result<Regex, regex::Error> {
    // Without the group, `a|b` would bind weaker than the anchors.
    RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .nest_limit(MAX_REGEX_NESTING)
        .build()
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{
        AppUpdate, HealthCheck, PortDefinition, UnreachableStrategy, UpgradeStrategy,
    };

    use super::{checks::MAX_PROBE_SECONDS, *};
    use crate::update::{self, Defaults};

    fn valid() -> App {
        let update = AppUpdate { cmd: Some("sleep 1000".into()), ..Default::default() };
        update::apply("/a", &update, None, &Defaults { role: "*".into() })
    }

    fn refused(app: &App) -> Vec<(String, String)> {
        let rules =
            Rules { role: "*".into(), gpus_enabled: false, secrets_enabled: false, max_instances: 100 };
        match super::app(app, &rules) {
            Ok(()) => Vec::new(),
            Err(Refusal::Invalid(violations)) => {
                violations.into_iter().map(|v| (v.path, v.errors.join("; "))).collect()
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn has(app: &App, path: &str, message: &str) {
        let found = refused(app);
        assert!(
            found.iter().any(|(p, m)| p == path && m.contains(message)),
            "{path} {message} not in {found:?}"
        );
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
        has(
            &App { port_definitions: vec![port("a_b", 80)], ..valid() },
            "/portDefinitions(0)/name",
            "regular",
        );
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
        for (operator, value) in
            [("UNIQUE", None), ("CLUSTER", None), ("LIKE", Some("a|b")), ("GROUP_BY", None)]
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
            health_checks: vec![HealthCheck {
                path: Some(path.into()),
                port: Some(80),
                ..Default::default()
            }],
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
}
