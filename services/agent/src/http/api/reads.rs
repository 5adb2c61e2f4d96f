//! Calls that only read: the view as responses.

use meshos_proto::mesos::v1::{
    self as pb, TaskState,
    agent::{
        Call, Response, call,
        call::Type,
        response::{self, get_containers, get_executors, get_frameworks},
    },
};
use serde_json::Value;

use super::{of, unavailable};
use crate::{
    MESOS_VERSION,
    core::{View, ViewFramework},
    http::{
        Api, metrics,
        reply::Reply,
        running::{self, Running},
        state::{command_executor, live_executors},
        version,
    },
};

/// Answers a call that reads.
pub(super) async fn read(api: &Api, kind: Type, call: &Call) -> Result<Response, Reply> {
    if let Some(response) = constant(api, kind) {
        return Ok(response);
    }
    let view = api.view().await.ok_or_else(unavailable)?;
    Ok(match kind {
        Type::GetMetrics => {
            Response { get_metrics: Some(metrics(api, &view)), ..of(response::Type::GetMetrics) }
        }
        Type::GetState => {
            let state = response::GetState {
                get_tasks: Some(tasks(&view)),
                get_executors: Some(executors(&view)),
                get_frameworks: Some(frameworks(&view)),
            };
            Response { get_state: Some(state), ..of(response::Type::GetState) }
        }
        Type::GetContainers => {
            let wanted = call.get_containers.unwrap_or_default();
            let containers = containers(api, &view, wanted).await;
            // As Mesos has it: without any, the part is left out.
            let get_containers = (!containers.is_empty()).then_some(response::GetContainers { containers });
            Response { get_containers, ..of(response::Type::GetContainers) }
        }
        Type::GetFrameworks => {
            Response { get_frameworks: Some(frameworks(&view)), ..of(response::Type::GetFrameworks) }
        }
        Type::GetExecutors => {
            Response { get_executors: Some(executors(&view)), ..of(response::Type::GetExecutors) }
        }
        Type::GetTasks => Response { get_tasks: Some(tasks(&view)), ..of(response::Type::GetTasks) },
        Type::GetAgent => {
            let id = view.agent_id.map(|value| pb::AgentId { value });
            let agent_info = Some(pb::AgentInfo { id, ..view.info });
            let get_agent = Some(response::GetAgent { agent_info, ..response::GetAgent::default() });
            Response { get_agent, ..of(response::Type::GetAgent) }
        }
        other => {
            let text = format!("{} is not supported by this version of meshos", other.as_str_name());
            return Err(Reply::text(warp::http::StatusCode::NOT_IMPLEMENTED, text));
        }
    })
}

/// What does not depend on what runs.
fn constant(api: &Api, kind: Type) -> Option<Response> {
    Some(match kind {
        Type::GetHealth => Response {
            get_health: Some(response::GetHealth { healthy: true }),
            ..of(response::Type::GetHealth)
        },
        Type::GetFlags => {
            let flags = api.flags.as_object().into_iter().flatten();
            let flags = flags.map(|(name, value)| pb::Flag {
                name: name.clone(),
                value: value.as_str().map(str::to_owned),
            });
            let get_flags = Some(response::GetFlags { flags: flags.collect() });
            Response { get_flags, ..of(response::Type::GetFlags) }
        }
        Type::GetVersion => {
            let built = version();
            let text = |name: &str| built[name].as_str().map(str::to_owned);
            let version_info = pb::VersionInfo {
                version: MESOS_VERSION.to_owned(),
                build_date: text("build_date"),
                build_time: built["build_time"].as_f64(),
                build_user: text("build_user"),
                ..pb::VersionInfo::default()
            };
            let get_version = Some(response::GetVersion { version_info });
            Response { get_version, ..of(response::Type::GetVersion) }
        }
        Type::GetLoggingLevel => {
            let get_logging_level = Some(response::GetLoggingLevel { level: api.logging.level() });
            Response { get_logging_level, ..of(response::Type::GetLoggingLevel) }
        }
        Type::GetOperations => Response {
            get_operations: Some(response::GetOperations::default()),
            ..of(response::Type::GetOperations)
        },
        Type::GetResourceProviders => Response {
            get_resource_providers: Some(response::GetResourceProviders::default()),
            ..of(response::Type::GetResourceProviders)
        },
        _ => return None,
    })
}

fn metrics(api: &Api, view: &View) -> response::GetMetrics {
    let Value::Object(values) = metrics::snapshot(api, view) else { return response::GetMetrics::default() };
    let metric = |(name, value): (String, Value)| pb::Metric { name, value: value.as_f64() };
    response::GetMetrics { metrics: values.into_iter().map(metric).collect() }
}

fn frameworks(view: &View) -> response::GetFrameworks {
    let (live, past): (Vec<_>, Vec<_>) = view.frameworks.iter().partition(|framework| framework.is_live());
    let shown = |found: Vec<&ViewFramework>| {
        let found = found.into_iter().map(|framework| framework.info.clone());
        found.map(|framework_info| get_frameworks::Framework { framework_info }).collect()
    };
    response::GetFrameworks { frameworks: shown(live), completed_frameworks: shown(past) }
}

fn executors(view: &View) -> response::GetExecutors {
    let mut shown = response::GetExecutors::default();
    let wrap = |executor_info| get_executors::Executor { executor_info };
    for framework in &view.frameworks {
        let (live, past) = live_executors(framework);
        let own = framework.tasks.iter().filter(|task| task.task.executor_id.is_none());
        shown.executors.extend(live.into_iter().map(|executor| wrap(executor.info)));
        shown.executors.extend(own.map(|task| wrap(command_executor(&task.task, task.command.as_ref()))));
        let own = framework.completed.iter().filter(|completed| completed.task.executor_id.is_none());
        shown.completed_executors.extend(past.into_iter().map(|executor| wrap(executor.info)));
        shown.completed_executors.extend(own.map(|completed| wrap(command_executor(&completed.task, None))));
    }
    shown
}

fn tasks(view: &View) -> response::GetTasks {
    let mut shown = response::GetTasks::default();
    for framework in &view.frameworks {
        for task in &framework.tasks {
            let list = match () {
                () if task.is_queued() => &mut shown.queued_tasks,
                () if is_over(&task.task) => &mut shown.terminated_tasks,
                () => &mut shown.launched_tasks,
            };
            list.push(task.task.clone());
        }
        shown.completed_tasks.extend(framework.completed.iter().map(|completed| completed.task.clone()));
    }
    shown
}

fn is_over(task: &pb::Task) -> bool {
    TaskState::try_from(task.state).is_ok_and(meshos_types::task_state::is_terminal)
}

async fn containers(api: &Api, view: &View, wanted: call::GetContainers) -> Vec<get_containers::Container> {
    let mut found = running::roots(view);
    if wanted.show_nested() {
        found.extend(running::nested(view));
    }
    if wanted.show_standalone() {
        found.extend(running::standalone(view));
    }
    let statistics = running::statistics(api, &found).await;
    found
        .into_iter()
        .zip(statistics)
        .map(|(running, statistics)| container(running, Some(statistics)))
        .collect()
}

fn container(
    running: Running,
    resource_statistics: Option<pb::ResourceStatistics>,
) -> get_containers::Container {
    let some = |text: String| (!text.is_empty()).then_some(text);
    get_containers::Container {
        framework_id: some(running.framework_id).map(|value| pb::FrameworkId { value }),
        executor_id: some(running.executor_id).map(|value| pb::ExecutorId { value }),
        executor_name: some(running.executor_name),
        // As Mesos has it: what it is nested in stands in the status only.
        container_id: pb::ContainerId { value: running.container.value.clone(), parent: None },
        container_status: Some(pb::ContainerStatus {
            container_id: Some(running.container),
            executor_pid: running.pid,
            ..pb::ContainerStatus::default()
        }),
        resource_statistics,
    }
}
