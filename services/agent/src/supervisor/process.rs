//! From a request to a command that can be started.

use std::ffi::{CString, NulError};

use meshos_proto::meshos::agent::v1::{ResourceLimit, SpawnRequest};
use nix::{
    libc,
    unistd::{Gid, Pid},
};

use super::{
    enclosure::Plan,
    sys::{Command, Failure, Step},
};

/// Where programs without a slash are looked for when the task has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Prepares the start of a process. `joined` is the first process of the container that it joins.
///
/// # Errors
/// Text with a NUL byte, which no path or argument can hold; an enclosure that cannot be made.
pub(super) fn command(request: &SpawnRequest, joined: Option<Pid>) -> Result<Command, String> {
    let enclosure = Plan::new(request, joined)?;
    without_enclosure(request)
        .map(|command| Command { enclosure, ..command })
        .map_err(|error| error.to_string())
}

fn without_enclosure(request: &SpawnRequest) -> Result<Command, NulError> {
    let argument_zero =
        if request.argument_zero.is_empty() { &request.program } else { &request.argument_zero };
    let arguments = std::iter::once(argument_zero).chain(&request.arguments);
    let environment = request.environment.iter().map(|(name, value)| format!("{name}={value}"));
    Ok(Command {
        programs: candidates(request)?,
        arguments: arguments.map(|text| CString::new(text.as_str())).collect::<Result<_, _>>()?,
        environment: environment.map(CString::new).collect::<Result<_, _>>()?,
        directory: CString::new(request.working_directory.as_str())?,
        stdin: match request.stdin_path.as_str() {
            "" => None,
            path => Some(CString::new(path)?),
        },
        terminal: request.terminal,
        stdout: CString::new(request.stdout_path.as_str())?,
        stderr: CString::new(request.stderr_path.as_str())?,
        cgroups: request
            .cgroup_procs
            .iter()
            .map(|path| CString::new(path.as_str()))
            .collect::<Result<_, _>>()?,
        uid: request.uid,
        gid: request.gid,
        groups: request.groups.iter().copied().map(Gid::from_raw).collect(),
        limits: request.limits.iter().map(limit).collect(),
        enclosure: None,
        dies_with_parent: request.transient,
    })
}

fn limit(limit: &ResourceLimit) -> (u32, libc::rlimit) {
    let number = |value: Option<u64>| value.unwrap_or(libc::RLIM_INFINITY);
    (limit.resource, libc::rlimit { rlim_cur: number(limit.soft), rlim_max: number(limit.hard) })
}

/// The program itself, or each place on the task's PATH where it may be.
fn candidates(request: &SpawnRequest) -> Result<Vec<CString>, NulError> {
    let program = request.program.as_str();
    if program.contains('/') {
        return Ok(vec![CString::new(program)?]);
    }
    let path = request.environment.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let directories = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    directories.map(|dir| CString::new(format!("{dir}/{program}"))).collect()
}

/// What to tell the agent when a process could not be started.
pub(super) fn failure_text(request: &SpawnRequest, failure: Failure) -> String {
    let reason = failure.error.desc();
    match failure.step {
        Step::Signals => format!("cannot reset signals: {reason}"),
        Step::Cgroup => format!("cannot enter cgroup {}: {reason}", request.cgroup_procs.join(", ")),
        Step::Session => format!("cannot make a session: {reason}"),
        Step::Output => format!("cannot open {} or {}: {reason}", request.stdout_path, request.stderr_path),
        Step::Directory => format!("cannot enter {}: {reason}", request.working_directory),
        Step::User => format!("cannot become user {}: {reason}", request.uid.unwrap_or_default()),
        Step::Limits => format!("cannot set the resource limits: {reason}"),
        Step::Enclosure => failure.text,
        Step::Exec => format!("cannot execute '{}': {reason}", request.program),
    }
}
