//! Resources from and to `mesos.v1.Resource`, in both formats of reservations.

use meshos_proto::mesos::v1 as pb;

use crate::{
    quantities::shared_name,
    reservation::ReservationKind,
    resource::{Resource, ResourceValue},
    resources::Resources,
    role::RoleName,
};

mod reservations;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use value::{ranges_from_proto, ranges_to_proto, set_from_proto, set_to_proto};

/// How reservations stand in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `role` and `reservation`: frameworks without RESERVATION_REFINEMENT. It cannot express refined reservations.
    PreRefinement,
    /// The stack `reservations`: frameworks with it, and everything inside the mesh.
    PostRefinement,
    /// Both, where there is at most one reservation: the JSON of the operator endpoints.
    Endpoint,
}

/// Why a message is not a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid resource '{resource}': {field} {problem}")]
pub struct ResourceError {
    /// The resource's name, possibly empty.
    pub resource: String,
    /// The field of the message.
    pub field: &'static str,
    /// What is wrong with the field, to be read after its name.
    pub problem: String,
}

/// A field and what is wrong with it.
pub(crate) type Fault = (&'static str, String);

/// A fault of `field`.
pub(crate) fn fault<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Fault> {
    Err((field, problem.into()))
}

impl TryFrom<&pb::Resource> for Resource {
    type Error = ResourceError;

    /// Takes either format, checked by the rules of Mesos (`Resources::validate`).
    fn try_from(message: &pb::Resource) -> Result<Self, ResourceError> {
        read(message).map_err(|(field, problem)| ResourceError {
            resource: message.name.clone(),
            field,
            problem,
        })
    }
}

impl TryFrom<pb::Resource> for Resource {
    type Error = ResourceError;

    fn try_from(message: pb::Resource) -> Result<Self, ResourceError> {
        Self::try_from(&message)
    }
}

fn read(message: &pb::Resource) -> Result<Resource, Fault> {
    if message.name.is_empty() {
        return fault("name", "must not be empty");
    }
    let value = value::read(message)?;
    if &*message.name == "gpus"
        && let ResourceValue::Scalar(gpus) = &value
        && !gpus.is_whole()
    {
        return fault("scalar", format!("is {gpus}, but 'gpus' must be a whole number"));
    }
    let resource = Resource {
        name: shared_name(&message.name),
        reservations: reservations::read(message)?,
        allocation: reservations::allocation(message)?,
        disk: message.disk.as_deref().cloned().map(Into::into),
        revocable: message.revocable.is_some(),
        shared: message.shared.is_some(),
        provider: message.provider_id.as_ref().map(Into::into),
        value,
    };
    check_extras(&resource)?;
    Ok(resource)
}

/// What must fit together beyond single fields.
fn check_extras(resource: &Resource) -> Result<(), Fault> {
    if resource.disk.is_some() && &*resource.name != "disk" {
        return fault("disk", "may only be set for 'disk'");
    }
    if resource.shared && resource.persistence_id().is_none() {
        return fault("shared", "may only be set for a persistent volume");
    }
    if resource.revocable && resource.reservations.iter().any(|r| r.kind == ReservationKind::Dynamic) {
        return fault("revocable", "must not be set: revocable resources cannot be dynamically reserved");
    }
    Ok(())
}

impl Resource {
    /// The message; none where the format cannot express the reservations.
    pub fn to_proto(&self, format: Format) -> Option<pb::Resource> {
        let mut message = pb::Resource {
            name: self.name.to_string(),
            disk: self.disk.as_ref().map(|disk| Box::new(disk.info().clone())),
            allocation_info: self
                .allocation
                .as_ref()
                .map(|role| pb::resource::AllocationInfo { role: Some(role.to_string()) }),
            provider_id: self.provider.as_ref().map(Into::into),
            revocable: self.revocable.then_some(pb::resource::RevocableInfo {}),
            shared: self.shared.then_some(pb::resource::SharedInfo {}),
            ..Default::default()
        };
        value::write(&self.value, &mut message);
        reservations::write(&self.reservations, format, &mut message).then_some(message)
    }
}

impl Resources {
    /// Reads messages of either format; empty resources are dropped, equal ones added up.
    pub fn from_proto(messages: &[pb::Resource]) -> Result<Self, ResourceError> {
        messages.iter().map(Resource::try_from).collect()
    }

    /// As [`Self::to_proto`], allocated to `role` whatever they are allocated to here.
    pub fn to_proto_for(&self, role: &RoleName, format: Format) -> Vec<pb::Resource> {
        let mut messages = self.to_proto(format);
        for message in &mut messages {
            message.allocation_info = Some(pb::resource::AllocationInfo { role: Some(role.to_string()) });
        }
        messages
    }

    /// The messages. What the format cannot express is left out; a shared resource stands once.
    pub fn to_proto(&self, format: Format) -> Vec<pb::Resource> {
        let distinct = self.distinct();
        let mut messages = Vec::with_capacity(distinct.len());
        messages.extend(distinct.iter().filter_map(|resource| resource.to_proto(format)));
        messages
    }
}
