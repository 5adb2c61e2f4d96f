//! What an operation consumes and what it leaves; the rules of `src/master/validation.cpp`.

mod volumes;

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{
    self as pb,
    offer::{Operation, operation::Type},
};
use meshos_types::{Resource, Resources, RoleName};

use self::volumes::{create, destroy, grow_volume, shrink_volume};
use super::disk;
use crate::core::{agent::Agent, framework::Framework};

/// Who wants an operation.
pub(super) enum Asker<'a> {
    /// In an offer to this role.
    Framework { framework: &'a Framework, role: &'a RoleName },
    /// `source`: for a reservation of what is reserved already, what it is now.
    Operator { source: &'a Resources },
}

/// What an operation makes of what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conversion {
    pub(super) consumed: Resources,
    pub(super) produced: Resources,
}

pub(super) fn conversion(
    asker: &Asker<'_>,
    agent: &Agent,
    operation: &Operation,
) -> Result<Conversion, String> {
    let missing = || format!("field '{}' is missing", operation.r#type().as_str_name().to_lowercase());
    match operation.r#type() {
        Type::Reserve => reserve(asker, operation.reserve.as_ref().ok_or_else(missing)?),
        Type::Unreserve => unreserve(asker, operation.unreserve.as_ref().ok_or_else(missing)?),
        Type::Create => create(asker, agent, operation.create.as_ref().ok_or_else(missing)?),
        Type::Destroy => destroy(asker, agent, operation.destroy.as_ref().ok_or_else(missing)?),
        Type::GrowVolume => {
            let grow = operation.grow_volume.as_ref().ok_or_else(missing)?;
            grow_volume(asker, agent, grow)
        }
        Type::ShrinkVolume => {
            let shrink = operation.shrink_volume.as_ref().ok_or_else(missing)?;
            shrink_volume(asker, agent, shrink)
        }
        Type::CreateDisk => disk::create(operation.create_disk.as_ref().ok_or_else(missing)?),
        Type::DestroyDisk => disk::destroy(operation.destroy_disk.as_ref().ok_or_else(missing)?),
        kind => Err(format!("{} is not an operation on reservations or volumes", kind.as_str_name())),
    }
}

/// Reads what the operation names, allocated to nobody.
fn read(asker: &Asker<'_>, messages: &[pb::Resource]) -> Result<Resources, String> {
    let resources = Resources::from_proto(messages).map_err(|fault| fault.to_string())?;
    if resources.is_empty() {
        return Err("no resources are named".to_owned());
    }
    let allocated = resources.iter().filter_map(|resource| resource.allocation.as_ref());
    for to in allocated {
        match asker {
            Asker::Framework { role, .. } if to == *role => {}
            Asker::Framework { role, .. } => {
                return Err(format!(
                    "resources are allocated to role '{to}' while role '{role}' is expected"
                ));
            }
            Asker::Operator { .. } => return Err("resources must not have 'allocation_info'".to_owned()),
        }
    }
    let providers: BTreeSet<_> = resources.iter().map(|resource| &resource.provider).collect();
    if providers.len() > 1 {
        return Err("resources must be of one provider".to_owned());
    }
    Ok(resources.unallocated())
}

/// A framework signs with its own name.
fn check_principal(asker: &Asker<'_>, what: &str, principal: Option<&str>) -> Result<(), String> {
    let Asker::Framework { framework, .. } = asker else { return Ok(()) };
    match framework.info.principal.as_deref() {
        Some(own) if principal != Some(own) => {
            let other = principal.unwrap_or("");
            Err(format!("{what} has principal '{other}' while the framework's principal is '{own}'"))
        }
        _ => Ok(()),
    }
}

fn reserve(asker: &Asker<'_>, reserve: &pb::offer::operation::Reserve) -> Result<Conversion, String> {
    let produced = read(asker, &reserve.resources)?;
    for resource in &produced {
        let Some(reservation) = resource.reservation().filter(|reservation| reservation.is_dynamic()) else {
            return Err(format!("resource {resource} is not dynamically reserved"));
        };
        if resource.persistence_id().is_some() {
            return Err(format!("persistent volume {resource} cannot be reserved"));
        }
        check_principal(asker, &format!("the reservation of {resource}"), reservation.principal.as_deref())?;
        if let Asker::Framework { role, .. } = asker
            && reservation.role != **role
        {
            return Err(format!(
                "resource {resource} is reserved for role '{}' while the offer is for role '{role}'",
                reservation.role
            ));
        }
    }
    match asker {
        Asker::Framework { .. } if !reserve.source.is_empty() => {
            Err("'source' is not supported for frameworks".to_owned())
        }
        Asker::Operator { source } if !source.is_empty() => reserve_again(source, produced),
        _ => Ok(Conversion { consumed: produced.pop_reservation(), produced }),
    }
}

/// From one stack of reservations to another.
fn reserve_again(source: &Resources, produced: Resources) -> Result<Conversion, String> {
    let bare = |resources: &Resources| -> Resources {
        let strip = |resource: &Resource| Resource { reservations: Vec::new(), ..resource.clone() };
        resources.iter().map(strip).collect()
    };
    for resources in [source, &produced] {
        let stacks: BTreeSet<_> = resources.iter().map(|resource| &resource.reservations).collect();
        if stacks.len() > 1 {
            return Err("'source' and 'resources' must each have one stack of reservations".to_owned());
        }
    }
    let fixed = |resource: &Resource| resource.reservations.iter().any(|r| !r.is_dynamic());
    if source.iter().any(fixed) != produced.iter().any(fixed) {
        return Err("a static reservation cannot be changed".to_owned());
    }
    if bare(source) != bare(&produced) {
        return Err("'source' and 'resources' must have the same quantities".to_owned());
    }
    Ok(Conversion { consumed: source.clone(), produced })
}

fn unreserve(asker: &Asker<'_>, unreserve: &pb::offer::operation::Unreserve) -> Result<Conversion, String> {
    let consumed = read(asker, &unreserve.resources)?;
    for resource in &consumed {
        if !resource.is_dynamically_reserved() {
            return Err(format!("resource {resource} is not dynamically reserved"));
        }
        if resource.persistence_id().is_some() {
            return Err(format!(
                "a dynamically reserved persistent volume {resource} cannot be unreserved directly; destroy it first"
            ));
        }
    }
    Ok(Conversion { produced: consumed.pop_reservation(), consumed })
}
