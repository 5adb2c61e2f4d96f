//! The rules of the resources that tasks and executors take.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::mesos::v1 as pb;
use meshos_types::{Resource, ResourceValue, Resources, RoleName};

use crate::core::shared::subtract_unshared;

/// Reads what a task or an executor takes. Returns it allocated to nobody.
pub(super) fn read(what: &str, role: &RoleName, messages: &[pb::Resource]) -> Result<Resources, String> {
    let resources =
        Resources::from_proto(messages).map_err(|error| format!("{what} uses invalid resources: {error}"))?;
    if let Some(foreign) = resources.iter().filter_map(|r| r.allocation.as_ref()).find(|of| *of != role) {
        return Err(format!(
            "{what} uses invalid resources: allocated to role '{foreign}' while role '{role}' is expected"
        ));
    }
    let resources = resources.unallocated();
    consistent(what, resources.iter())?;
    Ok(resources)
}

fn consistent<'a>(what: &str, resources: impl Iterator<Item = &'a Resource>) -> Result<(), String> {
    let mut revocable: BTreeMap<&str, bool> = BTreeMap::new();
    let mut volumes = BTreeSet::new();
    for resource in resources {
        if *revocable.entry(&*resource.name).or_insert(resource.revocable) != resource.revocable {
            return Err(format!(
                "{what} uses invalid resources: cannot use both revocable and non-revocable '{}' at the same time",
                resource.name
            ));
        }
        // A shared volume may be used by several.
        if let Some(id) = resource.persistence_id().filter(|_| !resource.shared)
            && !volumes.insert((resource.reserved_role(), id))
        {
            return Err(format!("{what} uses duplicate persistence ID {id}"));
        }
    }
    Ok(())
}

/// Whether resources of several may be taken together: none is taken twice, kinds are not mixed.
pub(super) fn go_together(what: &str, all: &[&Resources]) -> Result<(), String> {
    consistent(what, all.iter().flat_map(|resources| resources.iter()))?;
    for (at, resources) in all.iter().enumerate() {
        for resource in resources.iter() {
            let mut others = all[..at].iter().flat_map(|others| others.iter());
            let same =
                |other: &Resource| other.name == resource.name && overlap(&other.value, &resource.value);
            if others.any(same) {
                return Err(format!("{what} use the same '{}'", resource.name));
            }
        }
    }
    Ok(())
}

fn overlap(a: &ResourceValue, b: &ResourceValue) -> bool {
    match (a, b) {
        (ResourceValue::Ranges(a), ResourceValue::Ranges(b)) => !a.intersection(b).is_empty(),
        (ResourceValue::Set(a), ResourceValue::Set(b)) => a.iter().any(|item| b.contains(item)),
        _ => false,
    }
}

/// Whether all can be taken, one after the other.
pub(super) fn fit<'a>(offered: &Resources, all: impl Iterator<Item = &'a Resources> + Clone) -> bool {
    let mut left = None;
    let mut all = all.peekable();
    while let Some(resources) = all.next() {
        let rest = left.as_ref().unwrap_or(offered);
        if !rest.contains(resources) {
            return false;
        }
        if all.peek().is_some() {
            let mut rest = rest.clone();
            subtract_unshared(&mut rest, resources);
            left = Some(rest);
        }
    }
    true
}
