//! The variables that Mesos gives to executors and to the tasks of its own executors.

use std::{collections::BTreeMap, path::Path, time::Duration};

use meshos_proto::mesos::v1::{self as pb, environment::variable::Type as VariableType};

use super::{Settings, container, executor::Executor, task::Task};
use crate::containerizer::ContainerSetup;

/// Found first by a task that sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

type Variables = BTreeMap<String, String>;

/// What Mesos's command executor gives its task: its own variables, then the task's.
pub(super) fn of_task(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    task: &Task,
) -> Result<Variables, String> {
    let info = &task.info;
    let mut variables =
        base(settings, framework, (task.executor_id(), &info.agent_id.value, &task.directory));
    let role = info.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
    variables.insert("MESOS_CONTAINER_IP".to_owned(), settings.ip.clone());
    variables.extend(role.map(|role| ("MESOS_ALLOCATION_ROLE".to_owned(), role)));
    if !task.traceparent.is_empty() {
        variables.insert("TRACEPARENT".to_owned(), task.traceparent.clone());
    }
    with_own(variables, info.command.as_ref())
}

/// What an executor gets (Mesos 6.4): the operator's variables, those of the agent, its own. `token` proves to the
/// agent that it is this executor.
pub(super) fn of_executor(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    (executor, agent_id): (&Executor, &str),
    token: Option<String>,
) -> Result<Variables, String> {
    let mut variables = settings.executor_environment.clone();
    let place = (executor.info.executor_id.value.as_str(), agent_id, executor.directory.as_path());
    variables.extend(base(settings, framework, place));
    variables.insert("LIBPROCESS_PORT".to_owned(), "0".to_owned());
    variables.extend(token.map(|token| ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN".to_owned(), token)));
    with_own(variables, executor.info.command.as_ref())
}

/// What a container gets that belongs to no framework.
pub(super) fn bare(settings: &Settings) -> Variables {
    let variables = [("PATH", DEFAULT_PATH.to_owned()), ("MESOS_AGENT_ENDPOINT", settings.endpoint.clone())];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

fn base(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    (executor_id, agent_id, directory): (&str, &str, &Path),
) -> Variables {
    let directory = directory.display().to_string();
    let checkpoint = framework.checkpoint.unwrap_or_default();
    let mut variables: Variables = [
        ("PATH", DEFAULT_PATH.to_owned()),
        ("MESOS_FRAMEWORK_ID", framework.id.as_ref().map(|id| id.value.clone()).unwrap_or_default()),
        ("MESOS_EXECUTOR_ID", executor_id.to_owned()),
        ("MESOS_SLAVE_ID", agent_id.to_owned()),
        ("MESOS_DIRECTORY", directory.clone()),
        ("MESOS_SANDBOX", directory),
        ("MESOS_AGENT_ENDPOINT", settings.endpoint.clone()),
        ("MESOS_SLAVE_PID", format!("slave(1)@{}", settings.endpoint)),
        ("MESOS_CHECKPOINT", u8::from(checkpoint).to_string()),
        ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", mesos_duration(settings.shutdown_grace)),
        ("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if checkpoint {
        let reregistration = mesos_duration(settings.executor_reregistration_timeout);
        variables.insert("MESOS_RECOVERY_TIMEOUT".to_owned(), mesos_duration(settings.recovery_timeout));
        variables.insert("MESOS_SUBSCRIPTION_BACKOFF_MAX".to_owned(), reregistration);
    }
    variables
}

/// Adds the command's own variables, which go before all others.
pub(super) fn with_own(
    mut variables: Variables,
    command: Option<&pb::CommandInfo>,
) -> Result<Variables, String> {
    let given = command.and_then(|command| command.environment.as_ref());
    for variable in given.iter().flat_map(|environment| &environment.variables) {
        let value = match &variable.secret {
            Some(secret) if variable.r#type() == VariableType::Secret => hidden(secret),
            _ if variable.r#type() == VariableType::Secret => Err("it has no secret".to_owned()),
            Some(_) => Err("it has a secret and is not of the type SECRET".to_owned()),
            None => Ok(variable.value.clone().unwrap_or_default()),
        };
        let value = value.map_err(|reason| format!("variable '{}': {reason}", variable.name))?;
        variables.insert(variable.name.clone(), value);
    }
    match variables.keys().find(|name| name.is_empty() || name.contains('=')) {
        Some(name) => Err(format!("'{name}' cannot be the name of a variable")),
        None => Ok(variables),
    }
}

/// The value of a secret, as upstream's `environment_secret` gives it to a program.
fn hidden(secret: &pb::Secret) -> Result<String, String> {
    let text = String::from_utf8(container::secret_value(secret)?).ok();
    text.filter(|text| !text.contains('\0')).ok_or_else(|| "its secret is no text".to_owned())
}

/// Where an image says what its PATH is, and no command does, ours must not hide it.
pub(super) fn for_image(
    mut variables: Variables,
    commands: &[Option<&pb::CommandInfo>],
    setup: Option<&ContainerSetup>,
) -> Variables {
    let given = commands.iter().flatten().filter_map(|command| command.environment.as_ref());
    let own = given.flat_map(|given| &given.variables).any(|variable| variable.name == "PATH");
    if container::has_image(setup) && !own {
        variables.remove("PATH");
    }
    variables
}

/// As Mesos writes durations: the largest unit that leaves no fraction.
fn mesos_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 {
        return format!("{}ms", duration.as_millis());
    }
    match seconds {
        s if s > 0 && s % 3600 == 0 => format!("{}hrs", s / 3600),
        s if s > 0 && s % 60 == 0 => format!("{}mins", s / 60),
        s => format!("{s}secs"),
    }
}
