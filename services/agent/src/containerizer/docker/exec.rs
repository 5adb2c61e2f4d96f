//! Commands inside running containers.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures::StreamExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::timeout;

use super::{
    create::name_of,
    engine::{Engine, EngineError},
};
use crate::containerizer::ContainerSpec;

const LOOK: Duration = Duration::from_secs(10);

/// Runs a command in a container to its end; its exit status. `limit`: absent, it may take for ever.
pub(super) async fn run(
    engine: &Engine,
    container_id: &str,
    spec: &ContainerSpec,
    limit: Option<Duration>,
) -> Result<i32, String> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(std::iter::once(spec.program.clone()).chain(spec.arguments.iter().cloned()).collect()),
        ..CreateExecOptions::<String>::default()
    };
    let name = name_of(container_id);
    let created = engine.call(LOOK, |docker| async move { docker.create_exec(&name, options).await }).await;
    let id = created.map_err(|error| error.to_string())?.id;
    let ended = match limit {
        Some(limit) => timeout(limit, to_end(engine, &id)).await,
        None => Ok(to_end(engine, &id).await),
    };
    match ended {
        Ok(ended) => ended.map_err(|error| error.to_string())?,
        Err(_) => {
            end(engine, &id).await;
            return Err(format!("no answer within {} s", limit.unwrap_or_default().as_secs_f64()));
        }
    }
    let id = id.as_str();
    let seen = engine.call(LOOK, |docker| async move { docker.inspect_exec(id).await }).await;
    let status = seen.map_err(|error| error.to_string())?.exit_code;
    status
        .and_then(|status| i32::try_from(status).ok())
        .ok_or_else(|| "its exit status is not known".to_owned())
}

/// What it says goes nowhere, as for plain processes.
async fn to_end(engine: &Engine, id: &str) -> Result<(), EngineError> {
    let started = engine.call(LOOK, |docker| async move { docker.start_exec(id, None).await }).await?;
    if let StartExecResults::Attached { mut output, .. } = started {
        while let Some(item) = output.next().await {
            engine.item(item)?;
        }
    }
    Ok(())
}

/// The engine has no call that ends a command: its process is ended, where it is seen.
async fn end(engine: &Engine, id: &str) {
    let seen = engine.call(LOOK, |docker| async move { docker.inspect_exec(id).await }).await;
    let running = seen.ok().filter(|seen| seen.running.unwrap_or_default());
    let pid = running.and_then(|seen| i32::try_from(seen.pid?).ok()).filter(|pid| *pid > 1);
    let Some(pid) = pid else { return };
    // An engine of another machine, or outside this container, tells pids that mean something else here.
    if is_containers(pid) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Whether a process is one of the engine's: in another PID namespace than this one.
fn is_containers(pid: i32) -> bool {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = namespace("self");
    cgroup.contains("docker")
        && own.is_some()
        && namespace(&pid.to_string()).is_some_and(|other| Some(other) != own)
}
