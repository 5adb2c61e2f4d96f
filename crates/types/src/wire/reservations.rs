//! The stack of reservations from and to the two formats.

// `Resource.role` is the older format, which clients still use.
#![allow(deprecated)]

use meshos_proto::mesos::v1::{
    self as pb,
    resource::{ReservationInfo, reservation_info::Type},
};

use super::{Fault, Format, fault};
use crate::{
    reservation::{Reservation, ReservationKind},
    role::RoleName,
};

/// The stack, whichever format the message has.
pub(super) fn read(message: &pb::Resource) -> Result<Vec<Reservation>, Fault> {
    if message.reservations.is_empty() {
        return read_legacy(message);
    }
    let mut stack: Vec<Reservation> = Vec::with_capacity(message.reservations.len());
    for entry in &message.reservations {
        let next = read_entry(entry)?;
        if let Some(last) = stack.last() {
            if !next.is_dynamic() {
                return fault("reservations", "may have STATIC only as the first entry");
            }
            if !next.role.is_strict_subrole_of(last.role.as_str()) {
                let problem = format!("has '{}' on top of '{}', which is not above it", next.role, last.role);
                return fault("reservations", problem);
            }
        }
        stack.push(next);
    }
    match stack.as_slice() {
        [single] => check_both(message, single)?,
        _ if message.role.is_some() => return fault("role", "must not be set with several reservations"),
        _ if message.reservation.is_some() => {
            return fault("reservation", "must not be set with several reservations");
        }
        _ => {}
    }
    Ok(stack)
}

/// The format before refinement: `role` and `reservation`.
fn read_legacy(message: &pb::Resource) -> Result<Vec<Reservation>, Fault> {
    let role = message.role.as_deref().unwrap_or("*");
    if let Some(reservation) = &message.reservation {
        if reservation.r#type.is_some() {
            return fault("reservation.type", "must not be set; it belongs into reservations");
        }
        if reservation.role.is_some() {
            return fault("reservation.role", "must not be set; it belongs into reservations");
        }
        if role == "*" {
            return fault("reservation", "must not be set for the role '*'");
        }
    }
    if role == "*" {
        return Ok(Vec::new());
    }
    let role = read_role("role", role)?;
    Ok(vec![match &message.reservation {
        Some(reservation) => Reservation::from_parts(role, ReservationKind::Dynamic, reservation),
        None => Reservation::fixed(role),
    }])
}

fn read_entry(entry: &ReservationInfo) -> Result<Reservation, Fault> {
    let kind = match entry.r#type.map(Type::try_from) {
        Some(Ok(Type::Static)) => ReservationKind::Static,
        Some(Ok(Type::Dynamic)) => ReservationKind::Dynamic,
        _ => return fault("reservations.type", "must be STATIC or DYNAMIC"),
    };
    let Some(role) = entry.role.as_deref() else { return fault("reservations.role", "must be set") };
    if role == "*" {
        return fault("reservations.role", "must not be '*'");
    }
    Ok(Reservation::from_parts(read_role("reservations.role", role)?, kind, entry))
}

/// With one reservation the older fields may stand beside it, and must then say the same.
fn check_both(message: &pb::Resource, single: &Reservation) -> Result<(), Fault> {
    if let Some(role) = message.role.as_deref()
        && role != single.role.as_str()
    {
        return fault("role", format!("is '{role}', but the reservation is for '{}'", single.role));
    }
    match (&message.reservation, single.kind) {
        (Some(_), ReservationKind::Static) => {
            fault("reservation", "must not be set for a static reservation")
        }
        (None, ReservationKind::Static) => Ok(()),
        (older, ReservationKind::Dynamic) => {
            if older.is_some() != message.role.is_some() {
                return fault("reservation", "and role must be both set or both unset");
            }
            let same = older.as_ref().is_none_or(|older| {
                Reservation::from_parts(single.role.clone(), single.kind, older) == *single
            });
            if same { Ok(()) } else { fault("reservation", "differs from the entry of reservations") }
        }
    }
}

/// The role that the resource is allocated to.
pub(super) fn allocation(message: &pb::Resource) -> Result<Option<RoleName>, Fault> {
    let role = message.allocation_info.as_ref().and_then(|info| info.role.as_deref());
    role.map(|role| read_role("allocation_info.role", role)).transpose()
}

fn read_role(field: &'static str, role: &str) -> Result<RoleName, Fault> {
    RoleName::parse(role).map_err(|error| (field, format!("is not a role: {error}")))
}

/// Writes the stack; false where the format cannot express it.
pub(super) fn write(stack: &[Reservation], format: Format, message: &mut pb::Resource) -> bool {
    let older = format != Format::PostRefinement;
    if format != Format::PreRefinement {
        message.reservations = stack.iter().map(Reservation::to_proto).collect();
    }
    match stack {
        [] if older => message.role = Some("*".to_owned()),
        [single] if older => {
            message.role = Some(single.role.to_string());
            message.reservation = single.is_dynamic().then(|| single.to_legacy_proto());
        }
        [_, _, ..] if format == Format::PreRefinement => return false,
        _ => {}
    }
    true
}
