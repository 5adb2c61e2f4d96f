//! The rules of persistent volumes.

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{
    self as pb, framework_info::capability::Type as CapabilityType, resource::disk_info::source,
};
use meshos_types::{Disk, Milli, Resource, ResourceValue, Resources, ids::check_id};

use super::{Asker, Conversion, check_principal, read};
use crate::core::agent::Agent;

/// The disk that a volume is made of.
fn stripped(volume: &Resource) -> Resource {
    let disk = volume.disk.as_ref().and_then(|disk| {
        let source = disk.info().source.clone()?;
        Some(Disk::new(pb::resource::DiskInfo { source: Some(source), ..Default::default() }))
    });
    Resource { disk, shared: false, ..volume.clone() }
}

pub(super) fn create(
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

pub(super) fn destroy(
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

pub(super) fn grow_volume(
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

pub(super) fn shrink_volume(
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
