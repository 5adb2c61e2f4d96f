//! The nouns of the mesh in their fast and checked form: ids, resource arithmetic, roles, task states, times, and the
//! conversions from and to the wire messages.
//!
//! Everything here is pure: no clock, no socket, no file. Services convert a wire message once, at their edge, and
//! work with these types inside.

pub mod app_id;
pub mod app_port;
pub mod attributes;
pub mod container_id;
pub mod disk;
pub mod ids;
pub mod instance_id;
pub mod offer_constraints;
pub mod parse;
pub mod quantities;
pub mod ranges;
pub mod render;
pub mod reservation;
pub mod resource;
pub mod resources;
pub mod role;
pub mod scalar;
pub mod scheduler_call;
pub mod secrets;
pub mod set;
pub mod task_state;
pub mod timestamp;
pub mod wire;

#[cfg(test)]
mod testing;

pub use app_id::{AppId, AppIdError};
pub use app_port::{AppPort, HostPort, app_ports, network_mode};
pub use attributes::{Attribute, AttributeValue, Attributes};
pub use container_id::ContainerId;
pub use disk::Disk;
pub use ids::{
    AgentId, Epoch, ExecutorId, FrameworkId, IdError, OfferId, OperationId, ResourceProviderId, Revision,
    TaskId,
};
pub use instance_id::{InstanceId, TaskName};
pub use parse::{ParseError, ParsedResources, parse_attributes, parse_resources};
pub use quantities::Quantities;
pub use ranges::{Range, Ranges};
pub use reservation::{Label, Reservation, ReservationKind};
pub use resource::{Resource, ResourceValue};
pub use resources::{Digest, Resources, Shortage, Wanted, rank_for_role};
pub use role::{RoleError, RoleName};
pub use scalar::{Milli, ScalarError};
pub use set::TextSet;
pub use timestamp::{Timestamp, TimestampError};
pub use wire::{Format, ResourceError};
