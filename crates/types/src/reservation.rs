//! Reservations: a stack per resource, the last entry is the current one.

use std::sync::Arc;

use meshos_proto::mesos::v1::{self as pb, resource::reservation_info};

use crate::role::RoleName;

/// Whether the agent's configuration or an operation made the reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReservationKind {
    /// By the agent's `--resources`; only the first of a stack can be.
    Static,
    /// By a RESERVE operation.
    Dynamic,
}

/// A label of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub key: String,
    pub value: Option<String>,
}

/// One entry of a stack of reservations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reservation {
    pub role: RoleName,
    pub kind: ReservationKind,
    /// Who made it.
    pub principal: Option<Arc<str>>,
    /// Kept sorted: their order means nothing. Present but empty differs from absent.
    pub labels: Option<Vec<Label>>,
}

impl Reservation {
    /// A reservation by the agent's configuration.
    pub fn fixed(role: RoleName) -> Self {
        Self { role, kind: ReservationKind::Static, principal: None, labels: None }
    }

    /// A reservation by an operation.
    pub fn dynamic(role: RoleName, principal: Option<&str>) -> Self {
        Self { role, kind: ReservationKind::Dynamic, principal: principal.map(Arc::from), labels: None }
    }

    /// Whether an operation made it.
    pub fn is_dynamic(&self) -> bool {
        self.kind == ReservationKind::Dynamic
    }

    /// The wire message of a stack's entry.
    pub fn to_proto(&self) -> pb::resource::ReservationInfo {
        let kind = match self.kind {
            ReservationKind::Static => reservation_info::Type::Static,
            ReservationKind::Dynamic => reservation_info::Type::Dynamic,
        };
        pb::resource::ReservationInfo {
            r#type: Some(kind.into()),
            role: Some(self.role.to_string()),
            ..self.to_legacy_proto()
        }
    }

    /// The wire message of the older form, which has kind and role elsewhere.
    pub fn to_legacy_proto(&self) -> pb::resource::ReservationInfo {
        let label = |label: &Label| pb::Label { key: label.key.clone(), value: label.value.clone() };
        pb::resource::ReservationInfo {
            r#type: None,
            role: None,
            principal: self.principal.as_deref().map(str::to_owned),
            labels: self
                .labels
                .as_ref()
                .map(|labels| pb::Labels { labels: labels.iter().map(label).collect() }),
        }
    }

    /// The reservation with the principal and labels of a message.
    pub(crate) fn from_parts(
        role: RoleName,
        kind: ReservationKind,
        message: &pb::resource::ReservationInfo,
    ) -> Self {
        let labels = message.labels.as_ref().map(|labels| {
            let label = |label: &pb::Label| Label { key: label.key.clone(), value: label.value.clone() };
            let mut labels: Vec<Label> = labels.labels.iter().map(label).collect();
            labels.sort();
            labels
        });
        Self { role, kind, principal: message.principal.as_deref().map(Arc::from), labels }
    }
}
