//! What a call of a framework must carry.

use meshos_proto::mesos::v1::scheduler::{Call, call::Type};

/// The field that a call of type `kind` needs, and whether it is there; none when it needs none.
#[must_use]
pub fn needed_field(call: &Call, kind: Type) -> Option<(&'static str, bool)> {
    Some(match kind {
        Type::Subscribe => ("subscribe", call.subscribe.is_some()),
        Type::Accept => ("accept", call.accept.is_some()),
        Type::Decline => ("decline", call.decline.is_some()),
        Type::AcceptInverseOffers => ("accept_inverse_offers", call.accept_inverse_offers.is_some()),
        Type::DeclineInverseOffers => ("decline_inverse_offers", call.decline_inverse_offers.is_some()),
        Type::Kill => ("kill", call.kill.is_some()),
        Type::Shutdown => ("shutdown", call.shutdown.is_some()),
        Type::Acknowledge => ("acknowledge", call.acknowledge.is_some()),
        Type::AcknowledgeOperationStatus => {
            ("acknowledge_operation_status", call.acknowledge_operation_status.is_some())
        }
        Type::Reconcile => ("reconcile", call.reconcile.is_some()),
        Type::ReconcileOperations => ("reconcile_operations", call.reconcile_operations.is_some()),
        Type::Message => ("message", call.message.is_some()),
        Type::Request => ("request", call.request.is_some()),
        Type::UpdateFramework => ("update_framework", call.update_framework.is_some()),
        Type::Teardown | Type::Revive | Type::Suppress | Type::Unknown => return None,
    })
}
