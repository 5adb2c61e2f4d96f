//! The rules of quotas.

use meshos_proto::mesos::v1::quota::QuotaConfig;
use meshos_types::{Quantities, role::check_role};

use crate::core::quota::Quota;

/// Largest amount of memory or disk, in MB: one EB.
const MOST_MB: f64 = 1_099_511_627_776.0;
/// Largest amount of anything else.
const MOST: f64 = 1e12;

/// The rules of `src/master/quota.cpp`.
pub(super) fn check_quota(config: &QuotaConfig) -> Result<(), String> {
    let role = &config.role;
    check_role(role).map_err(|error| format!("Invalid 'QuotaConfig.role': {error}"))?;
    if role.contains('/') {
        return Err(format!("Updating quota on nested role '{role}' is not supported yet"));
    }
    for (kind, values) in [("guarantee", &config.guarantees), ("limit", &config.limits)] {
        for (name, scalar) in values {
            let value = scalar.value;
            amount(name, value).map_err(|problem| {
                format!("Invalid {kind} configuration {{'{name}': {value}}}: {problem}")
            })?;
        }
    }
    let quota = Quota::of(config);
    let above = |(name, guarantee): (&std::sync::Arc<str>, meshos_types::Milli)| {
        quota.limits.get(name).is_some_and(|limit| guarantee > *limit)
    };
    if quota.guarantees.iter().any(above) {
        let limits: Quantities = quota.limits.iter().map(|(name, limit)| (name.clone(), *limit)).collect();
        return Err(format!(
            "'QuotaConfig.guarantees' {{{}}} is not contained within the 'QuotaConfig.limits' {{{limits}}}",
            quota.guarantees
        ));
    }
    Ok(())
}

fn amount(name: &str, value: f64) -> Result<(), String> {
    meshos_types::Milli::from_f64(value).map_err(|error| error.to_string())?;
    let most = if matches!(name, "mem" | "disk") { MOST_MB } else { MOST };
    if value > most { Err(format!("values greater than {most} are not supported")) } else { Ok(()) }
}
