//! What an operation consumes and what it leaves; the rules of `src/master/validation.cpp`.

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{
    self as pb,
    framework_info::capability::Type as CapabilityType,
    offer::{Operation, operation::Type},
    resource::disk_info::source,
};
use meshos_types::{Disk, Milli, Resource, ResourceValue, Resources, RoleName, ids::check_id};

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
        kind => Err(format!("{} is not supported", kind.as_str_name())),
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

/// The disk that a volume is made of.
fn stripped(volume: &Resource) -> Resource {
    let disk = volume.disk.as_ref().and_then(|disk| {
        let source = disk.info().source.clone()?;
        Some(Disk::new(pb::resource::DiskInfo { source: Some(source), ..Default::default() }))
    });
    Resource { disk, shared: false, ..volume.clone() }
}

fn create(
    asker: &Asker<'_>,
    agent: &Agent,
    create: &pb::offer::operation::Create,
) -> Result<Conversion, String> {
    let produced = read(asker, &create.volumes)?;
    let held: BTreeSet<_> = agent.total.iter().filter_map(identity).collect();
    let mut seen = BTreeSet::new();
    for volume in &produced {
        check_volume(asker, volume)?;
        let Some(name) = identity(volume) else { continue };
        if held.contains(&name) || !seen.insert(name) {
            return Err(format!("persistence ID '{}' exists already for role '{}'", name.1, name.0));
        }
    }
    Ok(Conversion { consumed: produced.iter().map(stripped).collect(), produced })
}

/// What is unique among the volumes of an agent: role and persistence id.
fn identity(resource: &Resource) -> Option<(&str, &str)> {
    Some((resource.reserved_role()?.as_str(), resource.persistence_id()?))
}

fn check_volume(asker: &Asker<'_>, volume: &Resource) -> Result<(), String> {
    let info = volume.disk.as_ref().map(Disk::info);
    let Some(persistence) = info.and_then(|info| info.persistence.as_ref()) else {
        return Err(format!("{volume} is not a persistent volume"));
    };
    check_id("persistence ID", &persistence.id).map_err(|fault| fault.to_string())?;
    if volume.is_unreserved() {
        return Err(format!("persistent volume {volume} cannot be created from unreserved resources"));
    }
    if volume.revocable {
        return Err(format!("persistent volume {volume} cannot be created from revocable resources"));
    }
    let Some(mount) = info.and_then(|info| info.volume.as_ref()) else {
        return Err(format!("persistent volume {volume} needs 'volume'"));
    };
    if mount.host_path.is_some() {
        return Err("'host_path' must not be set for a persistent volume".to_owned());
    }
    if mount.mode() == pb::volume::Mode::Ro {
        return Err("read-only persistent volumes are not supported".to_owned());
    }
    if let Asker::Framework { framework, .. } = asker
        && volume.shared
        && !framework.has(CapabilityType::SharedResources)
    {
        return Err("a shared volume needs the capability SHARED_RESOURCES".to_owned());
    }
    check_principal(asker, &format!("persistent volume {volume}"), persistence.principal.as_deref())
}

/// Volumes that the agent has and that no task uses.
fn check_idle(agent: &Agent, volumes: &Resources) -> Result<(), String> {
    for volume in volumes {
        if volume.persistence_id().is_none() {
            return Err(format!("{volume} is not a persistent volume"));
        }
        if !agent.total.contains_one(volume) {
            return Err(format!("persistent volume {volume} does not exist on the agent"));
        }
        if agent.used.iter().any(|used| identity(used) == identity(volume)) {
            return Err(format!("persistent volume {volume} is in use"));
        }
    }
    Ok(())
}

fn destroy(
    asker: &Asker<'_>,
    agent: &Agent,
    destroy: &pb::offer::operation::Destroy,
) -> Result<Conversion, String> {
    let consumed = read(asker, &destroy.volumes)?;
    check_idle(agent, &consumed)?;
    Ok(Conversion { produced: consumed.iter().map(stripped).collect(), consumed })
}

/// A volume that can be made larger and smaller.
fn resizable(asker: &Asker<'_>, agent: &Agent, volume: &pb::Resource) -> Result<Resource, String> {
    let volumes = read(asker, std::slice::from_ref(volume))?;
    check_idle(agent, &volumes)?;
    let Some(volume) = volumes.into_iter().next() else { return Err("no volume is named".to_owned()) };
    if volume.shared {
        return Err("a shared volume cannot be resized".to_owned());
    }
    match volume.disk.as_ref().and_then(Disk::source_type) {
        None | Some(source::Type::Path) => Ok(volume),
        Some(_) => Err("only volumes on root and PATH disks can be resized".to_owned()),
    }
}

fn sized(resource: &Resource, amount: Milli) -> Resource {
    resource.with_value(ResourceValue::Scalar(amount))
}

fn grow_volume(
    asker: &Asker<'_>,
    agent: &Agent,
    grow: &pb::offer::operation::GrowVolume,
) -> Result<Conversion, String> {
    let volume = resizable(asker, agent, &grow.volume)?;
    let addition = read(asker, std::slice::from_ref(&grow.addition))?;
    let size = volume.amount().unwrap_or_default();
    let added = addition.disk();
    if addition != Resources::from(sized(&stripped(&volume), added)) || added.is_zero() {
        return Err(format!(
            "{addition} cannot be added to the volume {volume}: it must be disk of the same kind"
        ));
    }
    let mut consumed = addition;
    consumed.add(volume.clone());
    Ok(Conversion { consumed, produced: sized(&volume, size.saturating_add(added)).into() })
}

fn shrink_volume(
    asker: &Asker<'_>,
    agent: &Agent,
    shrink: &pb::offer::operation::ShrinkVolume,
) -> Result<Conversion, String> {
    let volume = resizable(asker, agent, &shrink.volume)?;
    let size = volume.amount().unwrap_or_default();
    let cut = Milli::from_f64(shrink.subtract.value).map_err(|fault| format!("'subtract': {fault}"))?;
    if cut.is_zero() || cut >= size {
        return Err(format!("'subtract' must be more than 0 and less than the volume's size {size}"));
    }
    let produced = [sized(&volume, size.saturating_sub(cut)), sized(&stripped(&volume), cut)];
    Ok(Conversion { consumed: volume.into(), produced: produced.into_iter().collect() })
}
