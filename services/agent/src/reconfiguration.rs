//! Whether an agent may go on with other resources, attributes or names than before.

use meshos_proto::mesos::v1 as pb;
use meshos_types::{Resource, Resources};

use crate::config::ReconfigurationPolicy as Policy;

/// Whether a policy lets an agent that was `before` start as `now`; why not.
///
/// # Errors
/// Names what differs, and how.
pub(crate) fn permitted(policy: Policy, before: &pb::AgentInfo, now: &pb::AgentInfo) -> Result<(), String> {
    let found = match policy {
        Policy::Any => None,
        Policy::Equal => differs(before, now),
        Policy::Additive => is_less(before, now),
    };
    match found {
        None => Ok(()),
        Some(what) => Err(format!(
            "policy '{}' does not permit it: {what}; give the old value, or another --reconfiguration_policy",
            policy.name()
        )),
    }
}

fn differs(before: &pb::AgentInfo, now: &pb::AgentInfo) -> Option<String> {
    let (old, new) = (resources(before), resources(now));
    if old != new {
        return Some(format!("the resources were {old} and are {new}"));
    }
    let other = |one: &pb::AgentInfo, two: &pb::AgentInfo| {
        one.attributes
            .iter()
            .find(|attribute| !two.attributes.contains(attribute))
            .map(|found| found.name.clone())
    };
    if let Some(name) = other(before, now).or_else(|| other(now, before)) {
        return Some(format!("the attribute '{name}' is another than before"));
    }
    if before.domain != now.domain {
        return Some("the fault domain is another".to_owned());
    }
    named(before, now)
}

fn named(before: &pb::AgentInfo, now: &pb::AgentInfo) -> Option<String> {
    if before.hostname != now.hostname {
        return Some(format!("the hostname was {} and is {}", before.hostname, now.hostname));
    }
    (before.port() != now.port()).then(|| format!("the port was {} and is {}", before.port(), now.port()))
}

fn is_less(before: &pb::AgentInfo, now: &pb::AgentInfo) -> Option<String> {
    let (old, new) = (resources(before), resources(now));
    if !new.contains(&old) {
        return Some(format!("the resources were {old} and are only {new}"));
    }
    let lost = before.attributes.iter().find(|old| !now.attributes.iter().any(|new| covers(new, old)));
    if let Some(lost) = lost {
        return Some(format!("the attribute '{}' is gone, or less than before", lost.name));
    }
    if before.domain.is_some() && before.domain != now.domain {
        return Some("the fault domain is another".to_owned());
    }
    named(before, now)
}

/// Whether an attribute is at least what another one was.
fn covers(new: &pb::Attribute, old: &pb::Attribute) -> bool {
    let value = |scalar: &Option<pb::value::Scalar>| scalar.as_ref().map(|scalar| scalar.value);
    let within = |old: &pb::value::Range| {
        let new = new.ranges.iter().flat_map(|ranges| &ranges.range);
        new.into_iter().any(|new| new.begin <= old.begin && old.end <= new.end)
    };
    let item = |old: &String| new.set.iter().flat_map(|set| &set.item).any(|new| new == old);
    new.name == old.name
        && new.r#type == old.r#type
        && value(&new.scalar) >= value(&old.scalar)
        && old.ranges.iter().flat_map(|ranges| &ranges.range).all(within)
        && old.set.iter().flat_map(|set| &set.item).all(item)
        && new.text == old.text
}

fn resources(info: &pb::AgentInfo) -> Resources {
    Resources::from_proto(&info.resources).unwrap_or_default()
}

/// Whether what is reserved or used now can be had from what the flags give.
///
/// # Errors
/// Says what is needed.
pub(crate) fn fits<'a>(
    given: &Resources,
    total: &Resources,
    used: impl Iterator<Item = &'a [pb::Resource]>,
) -> Result<(), String> {
    let mut needed = Resources::new();
    total.iter().filter(|resource| is_made(resource)).for_each(|resource| needed.add(basis(resource)));
    for resources in used {
        let used = Resources::from_proto(resources).unwrap_or_default().unallocated();
        used.iter().filter(|resource| !is_made(resource)).for_each(|resource| needed.add(resource.clone()));
    }
    match given.contains(&needed) {
        true => Ok(()),
        false => Err(format!("what runs and what is reserved needs {needed}, but there is only {given}")),
    }
}

/// Whether an operation made this: a dynamic reservation or a volume.
pub(crate) fn is_made(resource: &Resource) -> bool {
    resource.is_dynamically_reserved() || resource.persistence_id().is_some()
}

/// What the flags would have to give for this: without the volume and dynamic reservations.
pub(crate) fn basis(resource: &Resource) -> Resource {
    let disk = resource.disk.as_ref().and_then(|disk| {
        let source = disk.info().source.clone()?;
        Some(meshos_types::Disk::new(pb::resource::DiskInfo { source: Some(source), ..Default::default() }))
    });
    let mut reservations = resource.reservations.clone();
    reservations.retain(|reservation| !reservation.is_dynamic());
    Resource { disk, reservations, shared: false, ..resource.clone() }
}

#[cfg(test)]
mod tests {
    use meshos_types::{Format, RoleName, parse_attributes, parse_resources};

    use super::*;

    fn agent(resources: &str, attributes: &str) -> pb::AgentInfo {
        let resources = parse_resources(resources, &RoleName::star()).unwrap().resources;
        pb::AgentInfo {
            hostname: "h".to_owned(),
            resources: resources.to_proto(Format::PostRefinement),
            attributes: parse_attributes(attributes).unwrap().to_proto(),
            ..pb::AgentInfo::default()
        }
    }

    #[test]
    fn mesos_c79_equal_means_the_same_and_additive_never_less() {
        let before = agent("cpus:4;ports:[1-10];disks:{a}", "rack:r1;ssd:2;zone:[1-3]");
        let same = before.clone();
        let more = agent("cpus:5;ports:[1-12];disks:{a,b};gpus:1", "rack:r1;ssd:3;zone:[0-5];new:x");
        let elsewhere = pb::AgentInfo { hostname: "other".to_owned(), ..before.clone() };
        for (now, equal, additive) in [
            (&same, true, true),
            (&more, false, true),
            (&agent("cpus:3;ports:[1-10];disks:{a}", "rack:r1;ssd:2;zone:[1-3]"), false, false),
            (&agent("cpus:4;ports:[2-10];disks:{a}", "rack:r1;ssd:2;zone:[1-3]"), false, false),
            (&agent("cpus:4;ports:[1-10];disks:{a}", "rack:r2;ssd:2;zone:[1-3]"), false, false),
            (&agent("cpus:4;ports:[1-10];disks:{a}", "rack:r1;ssd:1;zone:[1-3]"), false, false),
            (&agent("cpus:4;ports:[1-10];disks:{a}", "rack:r1;ssd:2"), false, false),
            (&elsewhere, false, false),
        ] {
            assert_eq!(permitted(Policy::Equal, &before, now).is_ok(), equal, "{now:?}");
            assert_eq!(permitted(Policy::Additive, &before, now).is_ok(), additive, "{now:?}");
            assert!(permitted(Policy::Any, &before, now).is_ok());
        }
        let error = permitted(Policy::Additive, &before, &agent("cpus:3", "rack:r1")).unwrap_err();
        assert!(error.contains("cpus:4") && error.contains("are only cpus:3"), "{error}");
    }

    #[test]
    fn what_runs_must_fit() {
        let parse = |text: &str| parse_resources(text, &RoleName::star()).unwrap().resources;
        let used = [parse("cpus:2;mem:100").to_proto(Format::PostRefinement)];
        let fits = |given: &str| fits(&parse(given), &parse("cpus:4"), used.iter().map(Vec::as_slice));
        assert!(fits("cpus:2;mem:100").is_ok());
        assert!(fits("cpus:1;mem:100").unwrap_err().contains("needs cpus:2"));
    }
}
