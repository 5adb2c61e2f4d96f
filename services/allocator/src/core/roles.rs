//! What operators set for roles: weights and quotas (Mesos 2.5).

mod rules;

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::{
        allocator::v1::{RoleSettings, UpdateQuotaRequest},
        registry::v1 as registry,
    },
    mesos::v1::{self as pb, quota::QuotaConfig},
};
use meshos_types::{Quantities, RoleName, role::check_role};

use self::rules::check_quota;
use super::{
    CallError, Core, Effect,
    offers::OfferNo,
    quota::{Quota, consumption, top},
    timers::Timer,
};

/// Settings of one role; none of them: the role is not among the settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    weight: Option<f64>,
    quota: Option<QuotaConfig>,
}

/// So many of them, rounded down; no more than all.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of agents, and never below 0"
)]
fn part_of(count: usize, factor: f64) -> usize {
    ((count as f64 * factor).max(0.0) as usize).min(count)
}

impl Core {
    /// What the registry remembers, at the begin of a term, after the agents.
    pub(super) fn load_roles(&mut self, records: Vec<registry::Role>) {
        for record in records {
            let role = RoleName::new(record.name);
            let settings = Settings { weight: record.weight, quota: record.quota };
            self.put_in_force(&role, &settings);
            self.role_settings.insert(role.clone(), settings);
            self.dirty.roles.insert(role);
        }
        let awaited = self.recovered.len();
        if !self.quotas.is_empty() && awaited > 0 {
            self.recovery_hold = Some(awaited - part_of(awaited, self.config.recovery_factor));
            self.timers.set(self.now + self.config.recovery_ms, Timer::RecoveryOver);
        }
    }

    fn put_in_force(&mut self, role: &RoleName, settings: &Settings) {
        self.shares.set_weight(role, settings.weight.unwrap_or(1.0));
        let quota = settings.quota.as_ref().map(Quota::of).unwrap_or_default();
        let had_guarantees = self.quotas.has_guarantees();
        self.quotas.set(role, quota);
        if self.quotas.has_guarantees() && !had_guarantees {
            self.count_all_headroom();
        }
    }

    /// Whether offers wait until most agents are back: guarantees could not be kept otherwise (Mesos 2.1).
    pub(super) fn waits_for_agents(&mut self) -> bool {
        if self.recovery_hold.is_some_and(|few| self.recovered.len() <= few) {
            self.recovery_hold = None;
        }
        self.recovery_hold.is_some()
    }

    /// Changes settings, all at once, durably.
    fn change_roles(&mut self, changes: BTreeMap<RoleName, Settings>) {
        let mut records = Vec::with_capacity(changes.len());
        for (role, settings) in changes {
            self.put_in_force(&role, &settings);
            records.push(registry::Role {
                format: 1,
                name: role.to_string(),
                weight: settings.weight,
                quota: settings.quota.clone(),
            });
            self.dirty.roles.insert(role.clone());
            if settings == Settings::default() {
                self.role_settings.remove(&role);
            } else {
                self.role_settings.insert(role, settings);
            }
        }
        if !records.is_empty() {
            self.effects.push(Effect::PersistRoles(records));
        }
    }

    fn settings(&self, role: &RoleName) -> Settings {
        self.role_settings.get(role).cloned().unwrap_or_default()
    }

    /// UPDATE_WEIGHTS.
    pub(super) fn update_weights(&mut self, weights: Vec<pb::WeightInfo>) -> Result<(), CallError> {
        let mut changes = BTreeMap::new();
        for info in weights {
            let fault = |text: String| {
                CallError::Invalid(format!("Failed to validate update weights request JSON: {text}"))
            };
            let role = info.role.unwrap_or_default();
            let role = role.trim();
            check_role(role).map_err(|error| fault(format!("Invalid role '{role}': {error}")))?;
            if !info.weight.is_finite() || info.weight <= 0.0 {
                let weight = info.weight;
                return Err(fault(format!("Invalid weight '{weight}': Weights must be positive")));
            }
            let role = RoleName::new(role);
            let settings = Settings { weight: Some(info.weight), ..self.settings(&role) };
            changes.insert(role, settings);
        }
        let active = changes.keys().any(|role| self.shares.is_known(role));
        self.change_roles(changes);
        if active {
            for offer in self.offers.keys() {
                self.rescind(&offer);
            }
        }
        Ok(())
    }

    /// UPDATE_QUOTA, and the removal of quotas.
    pub(super) fn update_quota(&mut self, update: UpdateQuotaRequest) -> Result<(), CallError> {
        let mut quotas = BTreeMap::new();
        let mut changes = BTreeMap::new();
        for role in update.remove {
            let role = RoleName::new(role);
            let settings = self.settings(&role);
            if settings.quota.is_none() {
                return Err(CallError::Invalid(format!(
                    "Failed to remove quota: Role '{role}' has no quota set"
                )));
            }
            quotas.insert(role.clone(), Quota::default());
            changes.insert(role, Settings { quota: None, ..settings });
        }
        for config in update.configs {
            let role = RoleName::new(config.role.as_str());
            check_quota(&config)
                .map_err(|text| CallError::Invalid(format!("Invalid QuotaConfig: {text}")))?;
            quotas.insert(role.clone(), Quota::of(&config));
            let settings = Settings { quota: Some(config), ..self.settings(&role) };
            changes.insert(role, settings);
        }
        if !update.force {
            self.check_capacity(&quotas)?;
        }
        self.change_roles(changes);
        self.rescind_above_limits(quotas.keys());
        self.rescind_for_guarantees();
        Ok(())
    }

    fn check_capacity(&self, quotas: &BTreeMap<RoleName, Quota>) -> Result<(), CallError> {
        for (role, quota) in quotas {
            let consumed = self.quotas.consumed(role);
            if quota.exceeded(&consumed).is_some() {
                return Err(CallError::Invalid(format!(
                    "Invalid QuotaConfig: Role '{role}' is already consuming '{consumed}'; this is more than its \
                     requested limits (use 'force' flag to bypass this check)"
                )));
            }
        }
        let guarantees = self.quotas.guarantees_with(quotas);
        let raised = quotas.values().any(|quota| !quota.guarantees.is_empty());
        if raised && !self.shares.total().contains(&guarantees) {
            return Err(CallError::Invalid(format!(
                "Invalid QuotaConfig: total quota guarantees '{guarantees}' exceed cluster capacity '{}' (use \
                 'force' flag to bypass this check)",
                self.shares.total()
            )));
        }
        Ok(())
    }

    /// Offers beyond new limits go back.
    fn rescind_above_limits<'a>(&mut self, roles: impl Iterator<Item = &'a RoleName>) {
        for role in roles {
            if self.quotas.exceeded(role).is_none() {
                continue;
            }
            for offer in self.offers_where(|of| top(of) == *role) {
                let Some(name) = self.quotas.exceeded(role) else { break };
                let counted = self.offers.get(&offer).map(|offer| consumption(&offer.resources).clone());
                if counted.is_some_and(|counted| !counted.get(&name).is_zero()) {
                    self.rescind(&offer);
                }
            }
        }
    }

    /// Offers of others go back until what is free is enough for all guarantees.
    fn rescind_for_guarantees(&mut self) {
        if !self.quotas.has_guarantees() {
            return;
        }
        let needy: Vec<RoleName> = self.quotas.unmet_roles().cloned().collect();
        for offer in self.offers_where(|of| !needy.contains(&top(of))) {
            let shortage = self.quotas.shortage();
            if shortage.is_empty() {
                return;
            }
            let counted = self.offers.get(&offer).map(|offer| consumption(&offer.resources).clone());
            let helps = |counted: &Quantities| shortage.iter().any(|(name, _)| !counted.get(name).is_zero());
            if counted.as_ref().is_some_and(helps) {
                self.rescind(&offer);
            }
        }
    }

    fn offers_where(&self, of: impl Fn(&RoleName) -> bool) -> Vec<OfferNo> {
        self.offers.values().filter(|offer| of(&offer.place.role)).map(|offer| offer.number).collect()
    }

    /// As readers of Watch see it; none when nothing is set.
    pub(super) fn role_view(&self, role: &RoleName) -> Option<RoleSettings> {
        let Settings { weight, quota } = self.role_settings.get(role)?.clone();
        Some(RoleSettings { role: role.to_string(), weight, quota })
    }
}
