//! What the kernel lets a container do: capabilities, user, filter.

use caps::{CapSet, Capability, CapsHashSet};
use meshos_proto::meshos::agent::v1::Rights;
use nix::unistd::{self, Gid, Uid};

use super::{Step, failed, filter::Filter, syscalls};

/// From here on the process is what the container may be.
pub(super) fn confine(
    rights: &Rights,
    filter: Option<&Filter>,
    (uid, gid, groups): (Option<u32>, Option<u32>, &[Gid]),
) -> Step {
    let trouble = |error: caps::errors::CapsError| format!("cannot set capabilities: {error}");
    if let Some(bounding) = rights.bounding_capabilities {
        for capability in caps::all().into_iter().filter(|capability| !has(bounding, *capability)) {
            match caps::drop(None, CapSet::Bounding, capability) {
                // One that this kernel does not know.
                Err(_) if !caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) => {}
                dropped => dropped.map_err(trouble)?,
            }
        }
        caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(trouble)?;
    }
    if rights.no_new_privileges {
        syscalls::no_new_privileges().map_err(failed("cannot forbid new privileges"))?;
    }
    if let Some(gid) = gid {
        unistd::setgroups(groups).map_err(failed("cannot set the groups"))?;
        unistd::setgid(Gid::from_raw(gid)).map_err(failed(format!("cannot become group {gid}")))?;
    }
    // Without new privileges forbidden it takes the rights of root.
    filter.map_or(Ok(()), Filter::apply)?;
    become_user(uid, rights)
}

fn become_user(uid: Option<u32>, rights: &Rights) -> Step {
    let Some(uid) = uid else { return Ok(()) };
    let trouble = |error: caps::errors::CapsError| format!("cannot keep capabilities: {error}");
    let kept: CapsHashSet =
        caps::all().into_iter().filter(|capability| has(rights.ambient_capabilities, *capability)).collect();
    let keeps = uid != 0 && !kept.is_empty();
    if keeps {
        caps::securebits::set_keepcaps(true).map_err(trouble)?;
    }
    unistd::setuid(Uid::from_raw(uid)).map_err(failed(format!("cannot become user {uid}")))?;
    if keeps {
        for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient] {
            // Effective is a part of permitted: what is not kept leaves it first.
            if matches!(set, CapSet::Permitted) {
                caps::set(None, CapSet::Effective, &CapsHashSet::new()).map_err(trouble)?;
            }
            caps::set(None, set, &kept).map_err(trouble)?;
        }
    }
    Ok(())
}

fn has(bits: u64, capability: Capability) -> bool {
    bits & (1 << capability.index()) != 0
}
