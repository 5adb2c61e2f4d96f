//! What operators have set for roles: weights and quota, as messages and as requests. Pure.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::{
    Resource, WeightInfo,
    quota::{QuotaConfig, QuotaInfo, QuotaRequest, QuotaStatus},
    value,
};
use meshos_types::{Milli, RoleName};

use crate::views::Cluster;

/// Amounts by name, as quotas give them.
pub(super) type Amounts = BTreeMap<String, value::Scalar>;

/// Weights that are set, by role.
pub(super) fn weights(cluster: &Cluster) -> Vec<WeightInfo> {
    let set = cluster.roles.values().filter_map(|settings| {
        let role = Some(settings.role.clone());
        settings.weight.map(|weight| WeightInfo { weight, role })
    });
    set.collect()
}

/// A role's weight.
pub(super) fn weight(cluster: &Cluster, role: &str) -> f64 {
    cluster.roles.get(role).and_then(|settings| settings.weight).unwrap_or(1.0)
}

/// A role's quota, when one is set.
pub(super) fn quota_of<'a>(cluster: &'a Cluster, role: &str) -> Option<&'a QuotaConfig> {
    cluster.roles.get(role)?.quota.as_ref()
}

/// Quotas that are set, in the old form and the new.
#[allow(deprecated, reason = "readers of the old form are still there")]
pub(super) fn quota(cluster: &Cluster) -> QuotaStatus {
    let configs: Vec<QuotaConfig> =
        cluster.roles.values().filter_map(|settings| settings.quota.clone()).collect();
    let infos = configs.iter().map(|config| QuotaInfo {
        role: Some(config.role.clone()),
        guarantee: config.guarantees.iter().map(|(name, amount)| scalar(name, *amount)).collect(),
        ..Default::default()
    });
    QuotaStatus { infos: infos.collect(), configs }
}

/// A scalar resource without role or reservation.
pub(super) fn scalar(name: &str, amount: value::Scalar) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar as i32,
        scalar: Some(amount),
        ..Default::default()
    }
}

/// Why weights are refused.
pub(super) fn check_weights(weights: &mut [WeightInfo]) -> Result<(), String> {
    const FAILED: &str = "Failed to validate update weights request JSON";
    for info in weights {
        let role = info.role().trim().to_owned();
        if let Err(error) = RoleName::parse(&role) {
            return Err(format!("{FAILED}: Invalid role '{role}': {error}"));
        }
        if !info.weight.is_finite() || info.weight <= 0.0 {
            let weight = info.weight;
            return Err(format!(
                "{FAILED} for role '{role}': Invalid weight '{weight}': Weights must be positive"
            ));
        }
        info.role = Some(role);
    }
    Ok(())
}

/// What the old way of setting a quota asks for: the guarantee is the limit too.
pub(super) fn from_request(request: &QuotaRequest) -> Result<QuotaConfig, String> {
    const FAILED: &str = "Failed to validate set quota request";
    let role = request.role().to_owned();
    if role.is_empty() {
        return Err(format!("{FAILED}: QuotaInfo must specify a role"));
    }
    RoleName::parse(&role).map_err(|error| format!("{FAILED}: Invalid role '{role}': {error}"))?;
    if role.contains('/') {
        return Err(format!("Setting quota on nested role '{role}' is not supported yet"));
    }
    let mut amounts = Amounts::new();
    for resource in &request.guarantee {
        let name = &resource.name;
        let Some(amount) = resource.scalar.filter(|_| resource.r#type() == value::Type::Scalar) else {
            return Err(format!("{FAILED}: QuotaInfo must not include non-scalar resources: '{name}'"));
        };
        if resource.reservation.is_some() || !resource.reservations.is_empty() {
            return Err(format!("{FAILED}: QuotaInfo must not contain reservations: '{name}'"));
        }
        if resource.disk.is_some() || resource.revocable.is_some() {
            return Err(format!("{FAILED}: QuotaInfo must not contain DiskInfo or RevocableInfo: '{name}'"));
        }
        if amounts.insert(name.clone(), amount).is_some() {
            return Err(format!("{FAILED}: QuotaInfo contains duplicate resource name '{name}'"));
        }
    }
    Ok(QuotaConfig { role, guarantees: amounts.clone(), limits: amounts })
}

/// Why this quota would guarantee more than the cluster has.
pub(super) fn overcommit(cluster: &Cluster, wanted: &QuotaConfig) -> Option<String> {
    let mut total: BTreeMap<&str, Milli> = BTreeMap::new();
    let others = cluster.roles.values().filter_map(|settings| settings.quota.as_ref());
    let others = others.filter(|quota| quota.role != wanted.role && !quota.role.contains('/'));
    for (name, amount) in others.chain([wanted]).flat_map(|quota| &quota.guarantees) {
        let sum = total.entry(name).or_default();
        *sum = Milli::round(sum.to_f64() + amount.value);
    }
    let capacity: BTreeMap<&str, Milli> = cluster.sums().total.all_firm().collect();
    let over = total.iter().any(|(name, amount)| *amount > capacity.get(*name).copied().unwrap_or_default());
    let total = written(total.iter().map(|(name, amount)| (*name, *amount)));
    let capacity = written(capacity.iter().map(|(name, amount)| (*name, *amount)));
    over.then(|| {
        format!(
            "Quota guarantees overcommit the cluster (use 'force' to bypass this check): \
             Total quota guarantees '{total}' exceed cluster capacity '{capacity}'"
        )
    })
}

/// `cpus:1; mem:128`
fn written<'a>(amounts: impl Iterator<Item = (&'a str, Milli)>) -> String {
    amounts.map(|(name, amount)| format!("{name}:{}", amount.to_f64())).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::golden_cluster;
    use meshos_proto::json::{from_json, to_json};
    use serde_json::{Value, json};

    #[test]
    fn settings_are_those_of_a_real_master() {
        let cluster = golden_cluster();
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/master_quota.json")).unwrap();
        assert_eq!(to_json(&quota(&cluster)), golden);
        assert_eq!(to_json(&quota(&Cluster::default())), json!({}));
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/master_weights.json")).unwrap();
        let ours: Value = weights(&cluster).iter().map(to_json).collect();
        assert_eq!(ours, golden);
        assert_eq!((weight(&cluster, "eng"), weight(&cluster, "other")), (2.0, 1.0));
    }

    #[test]
    fn weights_need_a_role_and_must_be_positive() {
        let check = |role: &str, weight: f64| {
            let mut list = [WeightInfo { weight, role: Some(role.to_owned()) }];
            check_weights(&mut list).map(|()| list[0].role().to_owned())
        };
        assert_eq!(check(" eng ", 2.5), Ok("eng".to_owned()));
        let text = "Failed to validate update weights request JSON for role 'eng': \
                    Invalid weight '0': Weights must be positive";
        assert_eq!(check("eng", 0.0), Err(text.to_owned()));
        assert!(check("eng", f64::NAN).is_err());
        assert!(check("a//b", 1.0).unwrap_err().contains("Invalid role 'a//b': "));
    }

    fn request(text: &str) -> QuotaRequest {
        from_json(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn the_old_request_sets_guarantee_and_limit() {
        let cpus = r#"{"name":"cpus","type":"SCALAR","scalar":{"value":2}}"#;
        let config = from_request(&request(&format!(r#"{{"role":"a","guarantee":[{cpus}]}}"#))).unwrap();
        assert_eq!((config.guarantees["cpus"].value, config.limits["cpus"].value), (2.0, 2.0));
        for wrong in [
            format!(r#"{{"guarantee":[{cpus}]}}"#),
            format!(r#"{{"role":"a/b","guarantee":[{cpus}]}}"#),
            format!(r#"{{"role":"a","guarantee":[{cpus},{cpus}]}}"#),
            r#"{"role":"a","guarantee":[{"name":"ports","type":"RANGES","ranges":{}}]}"#.to_owned(),
        ] {
            assert!(from_request(&request(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn guarantees_beyond_the_cluster_are_seen() {
        let cluster = golden_cluster();
        let wanted = |cpus: f64| QuotaConfig {
            role: "new".to_owned(),
            guarantees: [("cpus".to_owned(), value::Scalar { value: cpus })].into(),
            ..Default::default()
        };
        assert_eq!(overcommit(&cluster, &wanted(999.0)), None);
        let text = overcommit(&cluster, &wanted(999.5)).unwrap();
        assert!(text.contains("'cpus:1000.5; mem:128' exceed cluster capacity 'cpus:1000;"), "{text}");
        let again = QuotaConfig { role: "ops".to_owned(), ..wanted(1000.0) };
        assert_eq!(overcommit(&cluster, &again), None, "it takes the place of the old one");
    }
}
