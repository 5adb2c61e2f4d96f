//! `POST /api/v1`: calls of operators.

mod events;
mod respond;
mod subscribe;

use std::time::Duration;

use http::StatusCode;
use meshos_proto::mesos::v1::{
    AgentId,
    master::{Call, Response, call::Type},
    offer::operation::{GrowVolume, ShrinkVolume},
};

use super::{
    Mesos,
    call::{self, Encoding, refuse},
    documents::Asked,
    figures::PATIENCE,
    no_leader,
    writes::Change,
};
use crate::{
    http::{Reply, Request},
    views::Cluster,
};
pub(super) use subscribe::Subscribers;

impl Mesos {
    pub(super) async fn operator(&self, request: Request) -> Reply {
        match self.try_operator(&request).await {
            Ok(reply) => reply,
            Err(refused) => *refused,
        }
    }

    async fn try_operator(&self, request: &Request) -> Result<Reply, Box<Reply>> {
        let call: Box<Call> = Box::new(call::read(request)?);
        let kind =
            validate(&call).map_err(|why| refuse(format!("Failed to validate master::Call: {why}")))?;
        let encoding = call::accept(request)?;
        let call = match self.write(kind, call).await {
            Done::Reply(reply) => return Ok(*reply),
            Done::NotAWrite(call) => call,
        };
        let response = match kind {
            Type::Subscribe => return Ok(self.subscribe_operator(encoding)),
            Type::ListFiles | Type::ReadFile => Some(self.file_call(&call).await?),
            Type::SetLoggingLevel => return Ok(self.set_logging_level(&call)),
            Type::GetMetrics => Some(respond::metrics(&self.metrics(patience(&call)).await)),
            Type::Unknown => return Err(not_implemented("501 Not Implemented.")),
            _ => match render(kind) {
                Some(render) => return Ok(self.shown(kind, encoding, render).await),
                None => match self.read(kind) {
                    Some(response) => response,
                    None => {
                        let name = kind.as_str_name();
                        return Err(not_implemented(&format!(
                            "{name} is not supported by this version of meshos"
                        )));
                    }
                },
            },
        };
        Ok(response.map_or_else(no_leader, |response| reply(encoding, &response)))
    }

    /// The answer to a call that shows much of the cluster.
    async fn shown(&self, kind: Type, encoding: Encoding, render: Render) -> Reply {
        let encoded = |cluster: &Cluster| encoding.encode(&render(cluster));
        let body = self.documents.get(&self.cluster, Asked::Call(kind, encoding), encoded).await;
        body.map_or_else(no_leader, |body| Reply::bytes(StatusCode::OK, encoding.content_type(), body))
    }

    /// The response of a call that only reads; none inside while nobody leads, none at all for other calls.
    fn read(&self, kind: Type) -> Option<Option<Response>> {
        let view = &self.cluster;
        Some(match kind {
            Type::GetHealth => Some(respond::health()),
            Type::GetVersion => Some(respond::version()),
            Type::GetFlags => Some(respond::flags(&self.about)),
            Type::GetLoggingLevel => Some(respond::logging_level(self.logging.level())),
            Type::GetWeights => view.read(respond::weights),
            Type::GetQuota => view.read(respond::quota),
            Type::GetMaintenanceStatus => view.read(|_| respond::maintenance_status()),
            Type::GetMaintenanceSchedule => view.read(|_| respond::maintenance_schedule()),
            Type::GetMaster => view.read(|cluster| respond::master(cluster, &self.about)),
            _ => return None,
        })
    }

    /// Carries out a call that changes something.
    #[allow(deprecated, reason = "old calls are still made")]
    async fn write(&self, kind: Type, mut call: Box<Call>) -> Done {
        let reply = match kind {
            Type::Teardown => {
                let id = call.teardown.take().map(|call| call.framework_id.value).unwrap_or_default();
                self.tear_down(&id).await
            }
            Type::UpdateWeights => {
                let weights = call.update_weights.take().map(|call| call.weight_infos).unwrap_or_default();
                self.update_weights(weights).await
            }
            Type::UpdateQuota => {
                let update = call.update_quota.take().unwrap_or_default();
                let force = update.force();
                self.update_quota(update.quota_configs, force).await
            }
            Type::SetQuota => {
                let request = call.set_quota.take().unwrap_or_default().quota_request;
                self.set_quota(&request).await
            }
            Type::RemoveQuota => {
                let role = call.remove_quota.take().unwrap_or_default().role;
                self.remove_quota(&role, "Failed to remove quota").await
            }
            Type::MarkAgentGone => {
                let id = call.mark_agent_gone.take().map(|call| call.agent_id.value).unwrap_or_default();
                self.mark_agent_gone(&id).await
            }
            _ => match change(&mut call, kind) {
                Some((agent_id, change)) => self.apply(agent_id, change).await,
                None => return Done::NotAWrite(call),
            },
        };
        Done::Reply(Box::new(reply))
    }

    fn set_logging_level(&self, call: &Call) -> Reply {
        let Some(set) = &call.set_logging_level else { return Reply::empty(StatusCode::OK) };
        let nanoseconds = u64::try_from(set.duration.nanoseconds).unwrap_or_default();
        self.logging.set(set.level, Duration::from_nanos(nanoseconds));
        Reply::empty(StatusCode::OK)
    }
}

/// How long the metrics that others keep are waited for.
fn patience(call: &Call) -> Duration {
    let asked = call.get_metrics.as_ref().and_then(|get| get.timeout);
    let asked = asked.map(|timeout| Duration::from_nanos(u64::try_from(timeout.nanoseconds).unwrap_or(0)));
    asked.map_or(PATIENCE, |asked| asked.min(PATIENCE))
}

/// What became of a call.
enum Done {
    Reply(Box<Reply>),
    NotAWrite(Box<Call>),
}

/// The change of an agent's reservations or volumes that a call asks for.
fn change(call: &mut Call, kind: Type) -> Option<(AgentId, Change)> {
    Some(match kind {
        Type::ReserveResources => {
            let call = call.reserve_resources.take()?;
            (call.agent_id, Change::Reserve { resources: call.resources, source: call.source })
        }
        Type::UnreserveResources => {
            let call = call.unreserve_resources.take()?;
            (call.agent_id, Change::Unreserve(call.resources))
        }
        Type::CreateVolumes => {
            let call = call.create_volumes.take()?;
            (call.agent_id, Change::Create(call.volumes))
        }
        Type::DestroyVolumes => {
            let call = call.destroy_volumes.take()?;
            (call.agent_id, Change::Destroy(call.volumes))
        }
        Type::GrowVolume => {
            let call = call.grow_volume.take()?;
            let grow = GrowVolume { volume: call.volume, addition: call.addition };
            (call.agent_id?, Change::Grow(Box::new(grow)))
        }
        Type::ShrinkVolume => {
            let call = call.shrink_volume.take()?;
            let shrink = ShrinkVolume { volume: call.volume, subtract: call.subtract };
            (call.agent_id?, Change::Shrink(Box::new(shrink)))
        }
        _ => return None,
    })
}

fn not_implemented(text: &str) -> Box<Reply> {
    Box::new(Reply::text(StatusCode::NOT_IMPLEMENTED, text))
}

fn reply(encoding: Encoding, response: &Response) -> Reply {
    Reply::bytes(StatusCode::OK, encoding.content_type(), encoding.encode(response))
}

/// What makes a response of the cluster.
type Render = fn(&Cluster) -> Response;

/// For the calls that show much of the cluster.
fn render(kind: Type) -> Option<Render> {
    Some(match kind {
        Type::GetState => respond::state,
        Type::GetAgents => respond::agents,
        Type::GetFrameworks => respond::frameworks,
        Type::GetTasks => respond::tasks,
        Type::GetExecutors => respond::executors,
        Type::GetOperations => respond::operations,
        Type::GetRoles => respond::roles,
        _ => return None,
    })
}

/// Why a call is refused; the text after `Failed to validate master::Call: `.
fn validate(call: &Call) -> Result<Type, String> {
    let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
    let kind = kind.ok_or("Expecting 'type' to be present")?;
    let nowhere = |named: bool| (!named).then_some("agent_id");
    let absent = missing(call, kind).or_else(|| match kind {
        Type::GrowVolume => call.grow_volume.as_ref().and_then(|call| nowhere(call.agent_id.is_some())),
        Type::ShrinkVolume => call.shrink_volume.as_ref().and_then(|call| nowhere(call.agent_id.is_some())),
        _ => None,
    });
    match absent {
        Some(field) => Err(format!("Expecting '{field}' to be present")),
        None => Ok(kind),
    }
}

/// The sub-message that the type needs, when it is absent.
#[allow(deprecated, reason = "old calls are checked like the others")]
fn missing(call: &Call, kind: Type) -> Option<&'static str> {
    let (field, present) = match kind {
        Type::GetMetrics => ("get_metrics", call.get_metrics.is_some()),
        Type::SetLoggingLevel => ("set_logging_level", call.set_logging_level.is_some()),
        Type::ListFiles => ("list_files", call.list_files.is_some()),
        Type::ReadFile => ("read_file", call.read_file.is_some()),
        Type::UpdateWeights => ("update_weights", call.update_weights.is_some()),
        Type::ReserveResources => ("reserve_resources", call.reserve_resources.is_some()),
        Type::UnreserveResources => ("unreserve_resources", call.unreserve_resources.is_some()),
        Type::CreateVolumes => ("create_volumes", call.create_volumes.is_some()),
        Type::DestroyVolumes => ("destroy_volumes", call.destroy_volumes.is_some()),
        Type::GrowVolume => ("grow_volume", call.grow_volume.is_some()),
        Type::ShrinkVolume => ("shrink_volume", call.shrink_volume.is_some()),
        Type::UpdateMaintenanceSchedule => {
            ("update_maintenance_schedule", call.update_maintenance_schedule.is_some())
        }
        Type::StartMaintenance => ("start_maintenance", call.start_maintenance.is_some()),
        Type::StopMaintenance => ("stop_maintenance", call.stop_maintenance.is_some()),
        Type::DrainAgent => ("drain_agent", call.drain_agent.is_some()),
        Type::DeactivateAgent => ("deactivate_agent", call.deactivate_agent.is_some()),
        Type::ReactivateAgent => ("reactivate_agent", call.reactivate_agent.is_some()),
        Type::UpdateQuota => ("update_quota", call.update_quota.is_some()),
        Type::SetQuota => ("set_quota", call.set_quota.is_some()),
        Type::RemoveQuota => ("remove_quota", call.remove_quota.is_some()),
        Type::Teardown => ("teardown", call.teardown.is_some()),
        Type::MarkAgentGone => ("mark_agent_gone", call.mark_agent_gone.is_some()),
        _ => return None,
    };
    (!present).then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::json::from_json;

    fn check(text: &str) -> Result<Type, String> {
        validate(&from_json(&serde_json::from_str(text).unwrap()).unwrap())
    }

    #[test]
    fn golden_refusals() {
        let golden =
            |text: &str| Err(text.strip_prefix("Failed to validate master::Call: ").unwrap().to_owned());
        let bad_type = include_str!("../../tests/golden/err_operator_bad_type.body");
        assert_eq!(check(r#"{"type":"NOSUCH"}"#), golden(bad_type));
        let missing = include_str!("../../tests/golden/err_operator_missing.body");
        assert_eq!(check(r#"{"type":"SET_LOGGING_LEVEL"}"#), golden(missing));
        assert_eq!(check(r#"{"type":"GET_STATE"}"#), Ok(Type::GetState));
    }

    #[test]
    fn protobuf_answers_are_bare_messages() {
        let reply = reply(Encoding::Protobuf, &respond::health());
        let golden = include_bytes!("../../tests/golden/master_v1_GET_HEALTH_pb.body");
        assert!(matches!(reply.body, crate::http::reply::Body::Full(bytes) if bytes == golden[..]));
    }
}
