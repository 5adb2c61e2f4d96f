//! `POST /api/v1`: calls of operators.

mod respond;

use http::StatusCode;
use meshos_proto::{
    json::to_json,
    mesos::v1::master::{Call, Response, call::Type},
};
use prost::Message;

use super::{
    Mesos,
    call::{self, Encoding, refuse},
    no_leader,
};
use crate::http::{Reply, Request};

impl Mesos {
    pub(super) async fn operator(&self, request: Request) -> Reply {
        match self.try_operator(&request).await {
            Ok(reply) => reply,
            Err(refused) => *refused,
        }
    }

    async fn try_operator(&self, request: &Request) -> Result<Reply, Box<Reply>> {
        let call: Call = call::read(request)?;
        let kind =
            validate(&call).map_err(|why| refuse(format!("Failed to validate master::Call: {why}")))?;
        let encoding = call::accept(request)?;
        if let (Type::Teardown, Some(teardown)) = (kind, &call.teardown) {
            return Ok(self.tear_down(&teardown.framework_id.value).await);
        }
        let response = match kind {
            Type::GetHealth => Some(respond::health()),
            Type::GetVersion => Some(respond::version()),
            Type::GetFlags => Some(respond::flags(&self.about)),
            Type::GetMetrics => Some(respond::metrics(&self.metrics())),
            Type::GetState => self.cluster.read(respond::state),
            Type::GetAgents => self.cluster.read(respond::agents),
            Type::GetFrameworks => self.cluster.read(respond::frameworks),
            Type::GetTasks => self.cluster.read(respond::tasks),
            Type::GetExecutors => self.cluster.read(|_| respond::executors()),
            Type::GetMaster => self.cluster.read(|cluster| respond::master(cluster, &self.about)),
            Type::Unknown => return Err(not_implemented("501 Not Implemented.")),
            other => {
                let name = other.as_str_name();
                return Err(not_implemented(&format!("{name} is not supported by this version of meshos")));
            }
        };
        Ok(response.map_or_else(no_leader, |response| reply(encoding, &response)))
    }
}

fn not_implemented(text: &str) -> Box<Reply> {
    Box::new(Reply::text(StatusCode::NOT_IMPLEMENTED, text))
}

fn reply(encoding: Encoding, response: &Response) -> Reply {
    match encoding {
        Encoding::Protobuf => Reply::bytes(StatusCode::OK, encoding.content_type(), response.encode_to_vec()),
        Encoding::Json => {
            let mut value = to_json(response);
            respond::fill_lists(&mut value);
            Reply::json(&value)
        }
    }
}

/// Why a call is refused; the text after `Failed to validate master::Call: `.
fn validate(call: &Call) -> Result<Type, String> {
    let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
    let kind = kind.ok_or("Expecting 'type' to be present")?;
    match missing(call, kind) {
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
