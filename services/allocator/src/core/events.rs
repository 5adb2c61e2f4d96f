//! Events for frameworks, and statuses that the leader itself makes.

use meshos_proto::mesos::v1::{
    self as pb,
    scheduler::{Event, event},
};
use meshos_types::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId};

use super::timers::HEARTBEAT_MS;

fn of(kind: event::Type) -> Event {
    Event { r#type: Some(kind.into()), ..Event::default() }
}

pub(crate) fn subscribed(framework: &FrameworkId, master: &pb::MasterInfo) -> Event {
    #[allow(clippy::cast_precision_loss, reason = "15 seconds")]
    let seconds = HEARTBEAT_MS as f64 / 1000.0;
    let subscribed = event::Subscribed {
        framework_id: framework.to_proto(),
        heartbeat_interval_seconds: Some(seconds),
        master_info: Some(master.clone()),
    };
    Event { subscribed: Some(subscribed), ..of(event::Type::Subscribed) }
}

pub(crate) fn heartbeat() -> Event {
    of(event::Type::Heartbeat)
}

pub(crate) fn error(message: impl Into<String>) -> Event {
    Event { error: Some(event::Error { message: message.into() }), ..of(event::Type::Error) }
}

pub(crate) fn offers(offers: Vec<pb::Offer>) -> Event {
    Event { offers: Some(event::Offers { offers }), ..of(event::Type::Offers) }
}

pub(crate) fn rescind(offer: &OfferId) -> Event {
    Event { rescind: Some(event::Rescind { offer_id: offer.to_proto() }), ..of(event::Type::Rescind) }
}

pub(crate) fn update(status: pb::TaskStatus) -> Event {
    Event { update: Some(event::Update { status }), ..of(event::Type::Update) }
}

pub(crate) fn operation(status: pb::OperationStatus) -> Event {
    let update = event::UpdateOperationStatus { status };
    Event { update_operation_status: Some(update), ..of(event::Type::UpdateOperationStatus) }
}

pub(crate) fn agent_lost(agent: &AgentId) -> Event {
    let failure = event::Failure { agent_id: Some(agent.to_proto()), executor_id: None, status: None };
    Event { failure: Some(failure), ..of(event::Type::Failure) }
}

/// An executor has ended with this raw wait status.
pub(crate) fn executor_ended(agent: &AgentId, executor: &ExecutorId, status: i32) -> Event {
    let (agent_id, executor_id) = (Some(agent.to_proto()), Some(executor.to_proto()));
    let failure = event::Failure { agent_id, executor_id, status: Some(status) };
    Event { failure: Some(failure), ..of(event::Type::Failure) }
}

/// A message of an executor.
pub(crate) fn message(agent: &AgentId, executor_id: pb::ExecutorId, data: bytes::Bytes) -> Event {
    let message = event::Message { agent_id: agent.to_proto(), executor_id, data };
    Event { message: Some(message), ..of(event::Type::Message) }
}

/// What the leader has to say of a task.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) state: pb::TaskState,
    pub(crate) reason: pb::task_status::Reason,
    pub(crate) message: String,
}

/// A status made by the leader: it has no uuid, so it is not acknowledged.
pub(crate) fn status(
    task: &TaskId,
    agent: Option<&AgentId>,
    verdict: &Verdict,
    now_ms: u64,
) -> pb::TaskStatus {
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 52 bits")]
    let timestamp = now_ms as f64 / 1000.0;
    pb::TaskStatus {
        task_id: task.to_proto(),
        state: verdict.state.into(),
        message: (!verdict.message.is_empty()).then(|| verdict.message.clone()),
        source: Some(pb::task_status::Source::Master.into()),
        reason: Some(verdict.reason.into()),
        agent_id: agent.map(AgentId::to_proto),
        timestamp: Some(timestamp),
        ..pb::TaskStatus::default()
    }
}
