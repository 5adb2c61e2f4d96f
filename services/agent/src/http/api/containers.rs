//! Calls that launch, wait for, kill and remove containers.

use std::{collections::BTreeMap, sync::Arc};

use meshos_proto::mesos::v1::{
    self as pb, TaskState,
    agent::{Call, Response, call::Type, response},
};
use tokio::sync::oneshot;
use warp::http::StatusCode;

use super::{of, streams::Starting, unavailable};
use crate::{
    console::Console,
    containerizer::{Exit, ExitStatus},
    core::{ContainerError, NestedLaunch, container_path},
    http::{Api, reply::Reply},
    runner::{ContainerRequest, Event},
};

const SIGKILL: i32 = 9;

/// What a call came to.
pub(super) enum Done {
    Status(StatusCode),
    Response(Box<Response>),
}

/// Carries out a call about a container; none for other calls.
#[allow(deprecated, reason = "old calls are still made")]
pub(super) async fn act(api: &Api, kind: Type, call: &Call) -> Option<Result<Done, Reply>> {
    let call = call.clone();
    Some(match kind {
        Type::LaunchNestedContainer => {
            let part = call.launch_nested_container?;
            let (container_id, command, container) = (part.container_id, part.command, part.container);
            launch(api, NestedLaunch { container_id, command, container, ..NestedLaunch::default() }).await
        }
        Type::LaunchContainer => {
            let part = call.launch_container?;
            let launch_it = NestedLaunch {
                container_id: part.container_id,
                command: part.command,
                container: part.container,
                resources: part.resources,
                limits: part
                    .limits
                    .into_iter()
                    .map(|(name, limit)| (name, limit.value))
                    .collect::<BTreeMap<_, _>>(),
                ..NestedLaunch::default()
            };
            launch(api, launch_it).await
        }
        Type::WaitNestedContainer => wait(api, call.wait_nested_container?.container_id, true).await,
        Type::WaitContainer => wait(api, call.wait_container?.container_id, false).await,
        Type::KillNestedContainer => {
            let part = call.kill_nested_container?;
            kill(api, part.container_id, part.signal).await
        }
        Type::KillContainer => {
            let part = call.kill_container?;
            kill(api, part.container_id, part.signal).await
        }
        Type::RemoveNestedContainer => remove(api, call.remove_nested_container?.container_id).await,
        Type::RemoveContainer => remove(api, call.remove_container?.container_id).await,
        _ => return None,
    })
}

/// Asks the agent's loop.
pub(super) async fn ask<T>(
    api: &Api,
    request: impl FnOnce(oneshot::Sender<Result<T, ContainerError>>) -> ContainerRequest,
) -> Result<Result<T, ContainerError>, Reply> {
    let (reply, answer) = oneshot::channel();
    api.events.send(Event::Container(request(reply))).await.map_err(|_| unavailable())?;
    answer.await.map_err(|_| unavailable())
}

/// Starts a container; with a terminal, where it shall have one.
pub(super) async fn launch(api: &Api, launch: NestedLaunch) -> Result<Done, Reply> {
    let tty = launch.container.as_ref().and_then(|container| container.tty_info);
    match tty {
        None => start(api, launch).await.map(Done::Status),
        Some(tty) => {
            let path = container_path(&launch.container_id);
            let directory = api.io_directory(&path);
            let (console, stdio) = Console::open(&api.tasks, &directory, Some(&tty)).map_err(no_console)?;
            let starting = Starting { console: Arc::clone(&console), session: None };
            let started = start(api, NestedLaunch { stdio: Some(stdio), ..launch }).await;
            drop(starting);
            if matches!(started, Ok(StatusCode::OK)) {
                api.consoles.insert(&path, Arc::clone(&console));
                let consoles = api.consoles.clone();
                api.tasks.spawn("console-end", async move {
                    console.ended().await;
                    consoles.remove(&path);
                });
            }
            started.map(Done::Status)
        }
    }
}

pub(super) fn no_console(error: std::io::Error) -> Reply {
    let text = format!("No input and output can be made for the container: {error}");
    Reply::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// 200 when it runs, 202 when it did before.
pub(super) async fn start(api: &Api, launch: NestedLaunch) -> Result<StatusCode, Reply> {
    let launched = ask(api, |reply| ContainerRequest::Launch { launch: Box::new(launch), reply }).await?;
    match launched {
        Ok(()) => Ok(StatusCode::OK),
        Err(ContainerError::Exists(_)) => Ok(StatusCode::ACCEPTED),
        Err(error @ ContainerError::NotFound(_)) => {
            Err(Reply::text(StatusCode::NOT_FOUND, error.to_string()))
        }
        Err(error) => Err(Reply::bad_request(error.to_string())),
    }
}

async fn wait(api: &Api, id: pb::ContainerId, nested: bool) -> Result<Done, Reply> {
    let path = container_path(&id);
    let waited = ask(api, |reply| ContainerRequest::Wait { id, reply }).await?;
    let exit = waited
        .map_err(|_| Reply::text(StatusCode::NOT_FOUND, format!("Container '{path}' cannot be found")))?;
    let exit_status = exit.and_then(|exit| wait_status(exit.status));
    let (state, reason, message) = match exit {
        Some(Exit { out_of_memory: true, .. }) => (
            Some(TaskState::TaskFailed as i32),
            Some(pb::task_status::Reason::ContainerLimitationMemory as i32),
            Some("Memory limit exceeded".to_owned()),
        ),
        _ => (None, None, None),
    };
    let response = match nested {
        true => Response {
            wait_nested_container: Some(response::WaitNestedContainer {
                exit_status,
                state,
                reason,
                message,
                limitation: None,
            }),
            ..of(wait_nested())
        },
        false => Response {
            wait_container: Some(response::WaitContainer {
                exit_status,
                state,
                reason,
                message,
                limitation: None,
            }),
            ..of(response::Type::WaitContainer)
        },
    };
    Ok(Done::Response(Box::new(response)))
}

#[allow(deprecated, reason = "the answer to an old call")]
fn wait_nested() -> response::Type {
    response::Type::WaitNestedContainer
}

/// As `waitpid` gives it.
fn wait_status(status: ExitStatus) -> Option<i32> {
    match status {
        ExitStatus::Code(code) => Some(code << 8),
        ExitStatus::Signal(signal) => Some(signal),
        ExitStatus::Unknown => None,
    }
}

async fn kill(api: &Api, id: pb::ContainerId, signal: Option<i32>) -> Result<Done, Reply> {
    let (path, signal) = (container_path(&id), signal.unwrap_or(SIGKILL));
    let killed = ask(api, |reply| ContainerRequest::Signal { id, signal, reply }).await?;
    killed.map(|()| Done::Status(StatusCode::OK)).map_err(|_| {
        let text = format!("Container '{path}' cannot be found (or is already killed)");
        Reply::text(StatusCode::NOT_FOUND, text)
    })
}

async fn remove(api: &Api, id: pb::ContainerId) -> Result<Done, Reply> {
    let is_root = id.parent.is_none();
    let removed = ask(api, |reply| ContainerRequest::Remove { id, reply }).await?;
    match removed {
        Ok(()) => Ok(Done::Status(StatusCode::OK)),
        // Removed already.
        Err(ContainerError::NotFound(_)) if !is_root => Ok(Done::Status(StatusCode::OK)),
        Err(ContainerError::NotFound(_)) => {
            Err(Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "Unknown root container"))
        }
        Err(error) => Err(Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
