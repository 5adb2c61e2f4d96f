//! The rules that a definition must obey, with Marathon's messages and paths.

mod checks;
mod container;
pub mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{App, Constraint, HealthProtocol, Violation};
use meshos_types::AppId;
use prost::Message;
use regex::{Regex, RegexBuilder};

pub use checks::probe_path;

use crate::{error::Refusal, health::is_agent_run};

/// What the rules depend on besides the definition.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Roles that an app may have.
    pub roles: Vec<String>,
    pub gpus_enabled: bool,
    pub secrets_enabled: bool,
    pub external_volumes_enabled: bool,
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
const MIGRATION: &str = "DCOS_PACKAGE_FRAMEWORK_NAME and DCOS_MIGRATION_API_PATH must be defined when using \
                         DCOS_MIGRATION_API_VERSION";
const PORT_NAME: &str = "must fully match regular expression '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'";
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

    fn refusal(self) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        let violation = |(path, errors)| Violation { path, errors };
        Err(Refusal::Invalid(self.0.into_iter().map(violation).collect()))
    }
}

/// Checks one definition. Of what the app `stored` has as well, only what every version of this program refused.
pub fn app(app: &App, stored: Option<&App>, rules: &Rules) -> Result<(), Refusal> {
    let mut found = Found::default();
    if let Err(error) = app_id(&app.id) {
        found.add("/id", error);
    }
    let bytes = app.encoded_len();
    let rule = format!("the definition has {bytes} bytes, which is over the limit of {MAX_APP_BYTES}");
    if bytes > MAX_APP_BYTES {
        // The work of the other rules grows with it.
        return Err(Refusal::invalid("/", rule));
    }
    let both = app.cmd.is_some() && !app.args.is_empty();
    let one = app.cmd.is_some() || !app.args.is_empty() || container::has_image(app);
    found.check(one && !both, "/", COMMAND);
    found.check(app.cmd.as_ref().is_none_or(|cmd| !cmd.is_empty()), "/cmd", "must not be empty");
    number(app, rules, &mut found);
    resources(app, rules, &mut found);
    labels(app, &mut found);
    launching(app, &mut found);
    ports(app, &mut found);
    container::check(app, rules, &mut found);
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
    checks::told(app, &mut found);
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
    if stored.is_none_or(|stored| stored.fetch != app.fetch) {
        fetched(app, &mut found);
    }
    if stored.is_none_or(|stored| stored.labels != app.labels) {
        migration(app, &mut found);
    }
    found.refusal()
}

/// Checks what a mere change of the number of instances may break.
pub fn scaled(app: &App, rules: &Rules) -> Result<(), Refusal> {
    let mut found = Found::default();
    number(app, rules, &mut found);
    found.refusal()
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

/// The number of instances.
fn number(app: &App, rules: &Rules, found: &mut Found) {
    found.check(app.instances <= rules.max_instances, "/instances", "error.max");
    if is_single(app) {
        found.check(app.instances <= 1, "/instances", "Single instance app may only have one instance");
    }
}

fn is_single(app: &App) -> bool {
    label(app, "MARATHON_SINGLE_INSTANCE_APP") == "true"
}

/// The value of a label, or nothing.
fn label<'a>(app: &'a App, name: &str) -> &'a str {
    app.labels.get(name).map(String::as_str).unwrap_or_default()
}

fn resources(app: &App, rules: &Rules, found: &mut Found) {
    found.check(app.cpus.is_finite() && app.cpus >= 0.001, "/cpus", "error.min");
    found.check(app.mem.is_finite() && app.mem >= 0.0, "/mem", "error.min");
    found.check(app.disk.is_finite() && app.disk >= 0.0, "/disk", "error.min");
    found.check(
        app.gpus == 0 || rules.gpus_enabled,
        "/gpus",
        "Feature gpu_resources is not enabled. Enable with --enable_features gpu_resources)",
    );
    limits(app, found);
    executor_resources(app, found);
}

/// Labels that mean something to the scheduler.
fn labels(app: &App, found: &mut Found) {
    if is_single(app) {
        let strategy = app.upgrade_strategy.unwrap_or_default();
        for (path, value) in [
            ("/upgradeStrategy/minimumHealthCapacity", strategy.minimum_health_capacity),
            ("/upgradeStrategy/maximumOverCapacity", strategy.maximum_over_capacity),
        ] {
            found.check(value == 0.0, path, format!("got {value:?}, expected 0.0"));
        }
    }
}

/// Labels that mean something to pages.
fn migration(app: &App, found: &mut Found) {
    let version = label(app, "DCOS_MIGRATION_API_VERSION");
    let companions = ["DCOS_PACKAGE_FRAMEWORK_NAME", "DCOS_MIGRATION_API_PATH"];
    let complete = version == "v1" && companions.iter().all(|name| !label(app, name).is_empty());
    found.check(version.is_empty() || complete, "/", MIGRATION);
}

/// The least that an executor gets.
fn executor_resources(app: &App, found: &mut Found) {
    let Some(asked) = app.executor_resources else { return };
    for (part, value, least) in
        [("cpus", asked.cpus, 0.1), ("mem", asked.mem, 32.0), ("disk", asked.disk, 10.0)]
    {
        let fine = value.is_finite() && value >= least;
        found.check(fine, &format!("/executorResources/{part}"), "error.min");
    }
}

/// A task may use as much as it asks for at least.
fn limits(app: &App, found: &mut Found) {
    let limits = app.resource_limits.unwrap_or_default();
    for (path, limit, asked) in
        [("/resourceLimits/cpus", limits.cpus, app.cpus), ("/resourceLimits/mem", limits.mem, app.mem)]
    {
        let rule = format!("resource limit must be greater than or equal to requested resource ({asked:?})");
        found.check(limit.is_none_or(|limit| limit >= asked), path, rule);
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

fn fetched(app: &App, found: &mut Found) {
    for (index, fetch) in app.fetch.iter().enumerate() {
        found.check(is_uri(&fetch.uri), &format!("/fetch({index})/uri"), "URI has invalid syntax.");
    }
}

/// Whether it has only characters that a URI may have, and escapes that are complete.
fn is_uri(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}".contains(c);
    let mut escapes = text.split('%').skip(1);
    let complete = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    !text.is_empty() && !text.chars().any(odd) && escapes.all(complete)
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
            found.check(port_name(name), &path("name"), PORT_NAME);
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
    let expected = format!("got {}, expected one of: [{}]", app.role, rules.roles.join(", "));
    found.check(rules.roles.contains(&app.role), "/role", expected);
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
mod tests;
