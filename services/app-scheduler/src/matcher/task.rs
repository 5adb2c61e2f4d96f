//! The task of an instance: command, environment, ports, labels.

mod container;

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::apps::v1::{App, Fetch, HealthCheck, HealthProtocol, TaskCheck, task_check::Kind},
    mesos::v1::{self as pb, network_info::Protocol},
};
use meshos_types::{AppId, AppPort, Format, Timestamp, app_ports};

use super::{Launch, ports};
use crate::health::is_agent_run;

/// A check that the agent makes begins after so long, unless it says otherwise.
const DELAY_S: u64 = 15;
/// Labels longer than this are not exported as variables.
const LONGEST_LABEL: usize = 512;

/// What a task is built from, besides the app and its place.
#[derive(Clone, Copy, Debug)]
pub struct TaskContext<'a> {
    pub task_id: &'a str,
    pub agent_id: &'a str,
    pub host: &'a str,
    /// Executor of apps that name none.
    pub executor: &'a str,
    /// Prefix of `PORT*` and `HOST`.
    pub prefix: &'a str,
    /// The network that stands for bridge networking where the agent runs the container itself.
    pub bridge_name: &'a str,
    /// The top-level group of the app insists on its role.
    pub role_is_enforced: bool,
}

/// The message that launches the instance.
pub fn task_info(app: &App, launch: &Launch, context: TaskContext<'_>) -> pb::TaskInfo {
    let name = AppId::parse(&app.id).map(|id| id.task_name()).unwrap_or_default();
    let mut command = command(app, environment(app, launch, context));
    if let Some(environment) = &mut command.environment {
        environment
            .variables
            .extend(app.env_secrets.iter().map(|(name, secret)| by_secret(app, name, secret)));
    }
    let mut task = pb::TaskInfo {
        name: name.clone(),
        task_id: pb::TaskId { value: context.task_id.to_owned() },
        agent_id: pb::AgentId { value: context.agent_id.to_owned() },
        resources: launch.resources.to_proto(Format::PostRefinement),
        labels: Some(labels(&app.labels)),
        discovery: Some(discovery(app, launch, name)),
        kill_policy: kill_policy(app),
        health_check: app
            .health_checks
            .iter()
            .find(|check| is_agent_run(check))
            .and_then(|check| health_check(check, launch)),
        check: app.check.as_ref().and_then(|check| check_info(check, launch)),
        limits: limits(app),
        ..Default::default()
    };
    let container = container::container_info(app, launch, context);
    if let Some(path) = own_executor(app, context.executor) {
        let info = custom_executor(path, command, context.task_id);
        let resources = launch.executor.to_proto(Format::PostRefinement);
        task.executor = Some(pb::ExecutorInfo { container, resources, ..info });
    } else {
        task.command = Some(command);
        task.container = container;
    }
    task
}

/// Path of the executor that the task brings along; none: the agents' own runs it. `default` is that of apps that
/// name none.
pub(super) fn own_executor<'a>(app: &'a App, default: &'a str) -> Option<&'a str> {
    let executor = if app.executor.is_empty() { default } else { &app.executor };
    Some(executor).filter(|executor| !matches!(*executor, "" | "//cmd"))
}

/// Up to how much the task may use, where that is more than it asks for; infinite: without a limit.
fn limits(app: &App) -> BTreeMap<String, pb::value::Scalar> {
    let limits = app.resource_limits.unwrap_or_default();
    let named = [("cpus", limits.cpus), ("mem", limits.mem)];
    let scalar = |(name, limit): (&str, Option<f64>)| {
        limit.map(|value| (name.to_owned(), pb::value::Scalar { value }))
    };
    named.into_iter().filter_map(scalar).collect()
}

/// The check that is only told of, as the agent makes it; none when it has no port.
fn check_info(check: &TaskCheck, launch: &Launch) -> Option<pb::CheckInfo> {
    use pb::check_info::{Command, Http, Tcp, Type};
    let seconds = |seconds: u64| Some(seconds as f64);
    let mut made = pb::CheckInfo {
        delay_seconds: seconds(check.delay_s),
        interval_seconds: seconds(check.interval_s),
        timeout_seconds: seconds(check.timeout_s),
        ..Default::default()
    };
    match check.kind.as_ref()? {
        Kind::Http(http) => {
            made.r#type = Some(Type::Http.into());
            let path = http.path.clone();
            made.http = Some(Http { port: port(launch, http.port, http.port_index)?, path });
        }
        Kind::Tcp(tcp) => {
            made.r#type = Some(Type::Tcp.into());
            made.tcp = Some(Tcp { port: port(launch, tcp.port, tcp.port_index)? });
        }
        Kind::Exec(exec) => {
            made.r#type = Some(Type::Command.into());
            let shell = exec.shell.is_some();
            let value = exec.shell.clone().or_else(|| exec.argv.first().cloned());
            let command = pb::CommandInfo {
                shell: Some(shell),
                value,
                arguments: if shell { Vec::new() } else { exec.argv.clone() },
                ..Default::default()
            };
            made.command = Some(Command { command });
        }
    }
    Some(made)
}

/// A port by its number, or by its place among the app's ports: inside the container where it has its own.
fn port(launch: &Launch, number: Option<u32>, index: Option<u32>) -> Option<u32> {
    let ports = if launch.container_ports.is_empty() { &launch.ports } else { &launch.container_ports };
    number.or_else(|| ports.get(index? as usize).copied())
}

/// The check as the agent makes it, from within the task's network; none when it has no port.
fn health_check(check: &HealthCheck, launch: &Launch) -> Option<pb::HealthCheck> {
    use pb::health_check::{HttpCheckInfo, TcpCheckInfo, Type};
    let seconds = |seconds: u64| Some(seconds as f64);
    let mut made = pb::HealthCheck {
        delay_seconds: seconds(check.delay_s.unwrap_or(DELAY_S)),
        interval_seconds: seconds(check.interval_s),
        timeout_seconds: seconds(check.timeout_s),
        grace_period_seconds: seconds(check.grace_period_s),
        consecutive_failures: Some(check.max_consecutive_failures),
        ..Default::default()
    };
    let port = || port(launch, check.port, check.port_index);
    let protocol = if check.ipv6 { Protocol::IPv6 } else { Protocol::IPv4 };
    match check.protocol() {
        HealthProtocol::Command => {
            made.r#type = Some(Type::Command.into());
            let value = check.command.clone();
            made.command = Some(pb::CommandInfo { shell: Some(true), value, ..Default::default() });
        }
        HealthProtocol::MesosTcp => {
            made.r#type = Some(Type::Tcp.into());
            made.tcp = Some(TcpCheckInfo { port: port()?, protocol: Some(protocol.into()) });
        }
        kind => {
            let scheme = if kind == HealthProtocol::MesosHttps { "https" } else { "http" };
            made.r#type = Some(Type::Http.into());
            made.http = Some(HttpCheckInfo {
                protocol: Some(protocol.into()),
                scheme: Some(scheme.to_owned()),
                port: port()?,
                path: Some(check.path.clone().unwrap_or_else(|| "/".to_owned())),
                ..Default::default()
            });
        }
    }
    Some(made)
}

/// How long the task has between TERM and KILL; none: the agent's default.
pub fn kill_policy(app: &App) -> Option<pb::KillPolicy> {
    let seconds = app.kill_grace_period_s?;
    let nanoseconds = i64::from(seconds).saturating_mul(1_000_000_000);
    Some(pb::KillPolicy { grace_period: Some(pb::DurationInfo { nanoseconds }) })
}

fn command(app: &App, variables: BTreeMap<String, String>) -> pb::CommandInfo {
    let variable = |(name, value): (String, String)| pb::environment::Variable {
        name,
        value: Some(value),
        ..Default::default()
    };
    let mut command = pb::CommandInfo {
        uris: app.fetch.iter().map(uri).collect(),
        environment: Some(pb::Environment { variables: variables.into_iter().map(variable).collect() }),
        user: app.user.clone(),
        ..Default::default()
    };
    match &app.cmd {
        Some(cmd) => {
            command.shell = Some(true);
            command.value = Some(cmd.clone());
        }
        None => {
            command.shell = Some(false);
            // An image knows what the arguments are for.
            let has_image = app.container.as_ref().is_some_and(|container| container.image.is_some());
            command.value = app.args.first().filter(|_| !has_image).cloned();
            command.arguments.clone_from(&app.args);
        }
    }
    command
}

/// A variable that gets its value only when the task is launched.
fn by_secret(app: &App, name: &str, secret: &str) -> pb::environment::Variable {
    pb::environment::Variable {
        name: name.to_owned(),
        r#type: Some(pb::environment::variable::Type::Secret.into()),
        secret: Some(reference(app, secret)),
        ..Default::default()
    }
}

/// A secret of the app, by where its value comes from.
fn reference(app: &App, secret: &str) -> pb::Secret {
    let source = app.secrets.get(secret).cloned().unwrap_or_default();
    pb::Secret {
        r#type: Some(pb::secret::Type::Reference.into()),
        reference: Some(pb::secret::Reference { name: source, key: None }),
        value: None,
    }
}

fn uri(fetch: &Fetch) -> pb::command_info::Uri {
    pb::command_info::Uri {
        value: fetch.uri.clone(),
        executable: Some(fetch.executable),
        extract: Some(fetch.extract),
        cache: Some(fetch.cache),
        output_file: fetch.dest_path.clone(),
    }
}

fn custom_executor(path: &str, command: pb::CommandInfo, task_id: &str) -> pb::ExecutorInfo {
    let value = match &command.value {
        Some(value) => format!("chmod ug+rx '{path}' && exec '{path}' {value}"),
        None => format!("chmod ug+rx '{path}' && exec '{path}'"),
    };
    pb::ExecutorInfo {
        r#type: Some(pb::executor_info::Type::Custom.into()),
        executor_id: pb::ExecutorId { value: format!("marathon-{task_id}") },
        command: Some(pb::CommandInfo {
            shell: Some(true),
            value: Some(value),
            arguments: Vec::new(),
            ..command
        }),
        ..Default::default()
    }
}

fn labels(labels: &BTreeMap<String, String>) -> pb::Labels {
    let label = |(key, value): (&String, &String)| pb::Label { key: key.clone(), value: Some(value.clone()) };
    pb::Labels { labels: labels.iter().map(label).collect() }
}

fn discovery(app: &App, launch: &Launch, name: String) -> pb::DiscoveryInfo {
    let scopes = app_ports(app).enumerate().flat_map(|(index, port)| discovered(app, launch, index, port));
    pb::DiscoveryInfo {
        visibility: pb::discovery_info::Visibility::Framework.into(),
        name: Some(name),
        ports: Some(pb::Ports { ports: scopes.collect() }),
        ..Default::default()
    }
}

/// A port in each of its protocols, with where its number holds: on the host, or in networks of containers.
fn discovered(app: &App, launch: &Launch, index: usize, port: AppPort<'_>) -> Vec<pb::Port> {
    let host = launch.ports.get(index).copied().unwrap_or_default();
    let number = if host == 0 { launch.container_ports.get(index).copied() } else { Some(host) };
    let mut known = port.labels.clone();
    if let Some(mapping) = port.mapping {
        let scope = if host == 0 { "container" } else { "host" };
        known.insert("network-scope".to_owned(), scope.to_owned());
        let mut names = app.networks.iter().filter_map(|network| network.name.as_ref());
        if host == 0
            && let Some(name) = mapping.network_names.first().or_else(|| names.next())
        {
            known.insert("network-name".to_owned(), name.clone());
        }
    }
    let made = |protocol: &str| pb::Port {
        number: number.unwrap_or_default(),
        name: port.name.map(str::to_owned),
        protocol: Some(protocol.to_owned()),
        labels: (!known.is_empty()).then(|| labels(&known)),
        ..Default::default()
    };
    port.protocol.split(',').map(made).collect()
}

/// The variables of the task; those that the user set win.
pub fn environment(app: &App, launch: &Launch, context: TaskContext<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([(format!("{}HOST", context.prefix), context.host.to_owned())]);
    let ports = ports::variables(app, launch).into_iter();
    variables.extend(ports.map(|(name, port)| (format!("{}{name}", context.prefix), port)));
    let version = i64::try_from(app.version_ms).unwrap_or(i64::MAX);
    let fixed = [
        ("MESOS_TASK_ID", context.task_id.to_owned()),
        ("MARATHON_APP_ID", app.id.clone()),
        ("MARATHON_APP_VERSION", Timestamp::from_millis(version).to_string()),
        ("MARATHON_APP_RESOURCE_CPUS", format!("{:?}", app.cpus)),
        ("MARATHON_APP_RESOURCE_MEM", format!("{:?}", app.mem)),
        ("MARATHON_APP_RESOURCE_DISK", format!("{:?}", app.disk)),
        ("MARATHON_APP_RESOURCE_GPUS", app.gpus.to_string()),
        (
            "MARATHON_APP_ENFORCE_GROUP_ROLE",
            if context.role_is_enforced { "TRUE" } else { "FALSE" }.to_owned(),
        ),
    ];
    variables.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
    if let Some(image) = app.container.as_ref().and_then(|container| container.image.as_ref()) {
        variables.insert("MARATHON_APP_DOCKER_IMAGE".to_owned(), image.name.clone());
    }
    variables.extend(label_variables(&app.labels));
    variables.extend(app.env.clone());
    // Those that the user set win, whatever their value comes from.
    variables.retain(|name, _| !app.env_secrets.contains_key(name));
    variables
}

fn label_variables(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut names = Vec::new();
    for (key, value) in labels {
        if key.len() >= LONGEST_LABEL || value.len() >= LONGEST_LABEL {
            continue;
        }
        let name = escaped(key);
        variables.insert(format!("MARATHON_APP_LABEL_{name}"), value.clone());
        names.push(name);
    }
    variables.insert("MARATHON_APP_LABELS".to_owned(), names.join(" "));
    variables
}

/// Upper case; every run of other characters than letters, digits and underscores becomes one underscore.
fn escaped(key: &str) -> String {
    let mut name = String::new();
    let mut gap = false;
    for c in key.to_uppercase().chars() {
        if c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_' {
            name.push(c);
            gap = false;
        } else if !gap {
            name.push('_');
            gap = true;
        }
    }
    name
}
