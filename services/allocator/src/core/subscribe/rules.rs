//! The rules of what frameworks say of themselves; the texts are Mesos's.

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{self as pb, framework_info::capability::Type as CapabilityType};
use meshos_types::{RoleName, role::check_role};

use crate::core::framework::{has_capability, roles_of};

/// Longest time that Mesos's durations hold, in seconds.
const LONGEST_SECONDS: f64 = 9_223_372_036.0;

pub(super) fn check_suppressed(roles: &BTreeSet<RoleName>, suppressed: &[String]) -> Result<(), String> {
    let odd = |role: &&String| !roles.contains(role.as_str());
    let outside: Vec<_> = suppressed.iter().filter(odd).map(|role| format!("'{role}'")).collect();
    if outside.is_empty() {
        return Ok(());
    }
    let outside = outside.join(", ");
    Err(format!("Suppressed roles {{ {outside} }} are not contained in the set of roles"))
}

/// Whether `--roles` has them all; an empty list has any.
pub(super) fn check_listed(roles: &BTreeSet<RoleName>, listed: &BTreeSet<RoleName>) -> Result<(), String> {
    if listed.is_empty() {
        return Ok(());
    }
    let outside: Vec<_> = roles.difference(listed).map(RoleName::as_str).collect();
    match outside.as_slice() {
        [] => Ok(()),
        outside => Err(format!("Roles {{ {} }} are not present in the master's --roles", outside.join(", "))),
    }
}

/// What a framework cannot change while it lives (3.1).
pub(super) fn check_same(before: &pb::FrameworkInfo, after: &pb::FrameworkInfo) -> Result<(), String> {
    if before.principal != after.principal {
        return Err("Changing framework's principal is not allowed.".to_owned());
    }
    if before.user != after.user {
        return Err(format!(
            "Updating 'FrameworkInfo.user' is unsupported; attempted to update from '{}' to '{}'",
            before.user, after.user
        ));
    }
    if before.checkpoint.unwrap_or_default() != after.checkpoint.unwrap_or_default() {
        return Err("Updating 'FrameworkInfo.checkpoint' is unsupported".to_owned());
    }
    Ok(())
}

/// Largest description of a framework: all of them are read at once when a leader begins.
const MOST_BYTES: usize = 256 * 1024;

/// What a framework says of itself.
#[allow(deprecated, reason = "single-role frameworks use the field `role`")]
pub(super) fn check_info(info: &pb::FrameworkInfo) -> Result<(), String> {
    let size = prost::Message::encoded_len(info);
    if size > MOST_BYTES {
        return Err(format!("'FrameworkInfo' has {size} bytes; at most {MOST_BYTES} are stored"));
    }
    if has_capability(info, CapabilityType::MultiRole) {
        if info.role.is_some() {
            let text = "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable";
            return Err(text.to_owned());
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = info.roles.iter().find(|role| !seen.insert(role.as_str())) {
            return Err(format!("'FrameworkInfo.roles' contains duplicate items: {twice}"));
        }
    } else if !info.roles.is_empty() {
        let text = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
        return Err(text.to_owned());
    }
    for role in roles_of(info) {
        check_role(role.as_str()).map_err(|error| error.to_string())?;
    }
    let timeout = info.failover_timeout.unwrap_or(0.0);
    if !timeout.is_finite() || timeout.abs() > LONGEST_SECONDS {
        return Err(format!("The framework failover_timeout ({timeout}) is invalid"));
    }
    Ok(())
}
