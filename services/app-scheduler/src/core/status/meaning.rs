//! What statuses say, apart from any instance.

use meshos_proto::{
    meshos::apps::v1::{CheckResult, Condition, IpAddress, check_result::Found},
    mesos::v1::{self as pb, TaskState, network_info, task_status::Reason},
};
use meshos_types::task_state;

/// What a state means. A lost task may come back for these reasons only.
pub(super) fn condition(state: TaskState, reason: Option<Reason>) -> Option<Condition> {
    Some(match state {
        TaskState::TaskStaging => Condition::Staging,
        TaskState::TaskStarting => Condition::Starting,
        TaskState::TaskRunning => Condition::Running,
        TaskState::TaskKilling => Condition::Killing,
        TaskState::TaskFinished => Condition::Finished,
        TaskState::TaskFailed => Condition::Failed,
        TaskState::TaskKilled => Condition::Killed,
        TaskState::TaskError => Condition::Error,
        TaskState::TaskDropped => Condition::Dropped,
        TaskState::TaskGone | TaskState::TaskGoneByOperator => Condition::Gone,
        TaskState::TaskUnknown => Condition::Unknown,
        TaskState::TaskUnreachable => Condition::Unreachable,
        TaskState::TaskLost => match reason {
            Some(Reason::Reconciliation | Reason::AgentDisconnected | Reason::AgentRemoved) => {
                Condition::Unreachable
            }
            Some(Reason::TaskUnknown) => Condition::Unknown,
            _ => Condition::Gone,
        },
    })
}

/// What the task's check found; none: the status says nothing of it.
pub(super) fn check_result(status: &pb::TaskStatus) -> Option<CheckResult> {
    let told = status.check_status.as_ref()?;
    let http = told.http.and_then(|http| http.status_code).map(Found::HttpStatus);
    let tcp = || told.tcp.and_then(|tcp| tcp.succeeded).map(Found::TcpSucceeded);
    let command = || told.command.and_then(|command| command.exit_code).map(Found::ExitCode);
    let found = http.or_else(tcp).or_else(command)?;
    Some(CheckResult { found: Some(found) })
}

/// The app that an instance's id names.
pub(super) fn app_of(instance_id: &str) -> String {
    let path = instance_id.rsplit_once(".instance-").map_or(instance_id, |(path, _)| path);
    format!("/{}", path.replace('_', "/"))
}

/// Whether a task that ended so failed.
pub(super) fn counts_as_failed(condition: Condition) -> bool {
    matches!(condition, Condition::Failed | Condition::Error | Condition::Dropped | Condition::Gone)
}

/// Whether the task is over.
pub(in crate::core) fn is_terminal(condition: Condition) -> bool {
    matches!(
        condition,
        Condition::Error
            | Condition::Failed
            | Condition::Finished
            | Condition::Killed
            | Condition::Gone
            | Condition::Dropped
            | Condition::Unknown
    )
}

/// `TASK_RUNNING`
pub(super) fn state_name(status: &pb::TaskStatus) -> &'static str {
    task_state::state_of(status).map_or("", |state| state.as_str_name())
}

/// The task's own addresses; empty: the status says nothing of them.
pub(super) fn addresses(status: &pb::TaskStatus) -> Vec<IpAddress> {
    let networks = status.container_status.iter().flat_map(|container| &container.network_infos);
    let address = |address: &network_info::IpAddress| {
        let protocol = match address.protocol() {
            network_info::Protocol::IPv4 => "IPv4",
            network_info::Protocol::IPv6 => "IPv6",
        };
        let text = address.ip_address.clone()?;
        Some(IpAddress { address: text, protocol: protocol.to_owned() })
    };
    networks.flat_map(|network| &network.ip_addresses).filter_map(address).collect()
}
