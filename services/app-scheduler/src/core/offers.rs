//! Asking for offers, and what to do with those that come.

use std::{collections::BTreeMap, sync::Arc};

use meshos_proto::{
    meshos::apps::v1::{ActionKind, ListUnusedOffersResponse, UnusedOffer},
    mesos::v1::{self as pb, scheduler::call},
};

use super::{AppState, Core, members::Class, timers::Timer};
use crate::matcher::{
    self, Offered, Reason, Refusals, Request, Terms,
    constraints::{self, Placed},
};

/// Calls for offers that may be made at once, and how many come back each second.
const ASK_BURST: f64 = 100.0;
const ASK_PER_SECOND: f64 = 20.0;

/// What is known about the wish for offers.
#[derive(Debug)]
pub(super) struct Asking {
    /// Something new waits that no offer was looked at for.
    pub fresh: bool,
    /// Something waits again: its delay is over.
    pub again: bool,
    suppressed: bool,
    tokens: f64,
    refilled_ms: u64,
    last_ms: u64,
}

impl Default for Asking {
    fn default() -> Self {
        Self { fresh: false, again: false, suppressed: false, tokens: ASK_BURST, refilled_ms: 0, last_ms: 0 }
    }
}

impl Asking {
    /// After subscribing: offers come by themselves.
    pub(super) fn restart(&mut self) {
        self.fresh = false;
        self.again = false;
        self.suppressed = false;
    }

    fn refill(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.refilled_ms) as f64 / 1000.0;
        self.tokens = (self.tokens + elapsed * ASK_PER_SECOND).min(ASK_BURST);
        self.refilled_ms = now_ms;
    }
}

/// Agents whose last refusal is kept for an app that waits.
const AGENTS_KEPT: usize = 10_000;
/// Agents whose last unused offer is kept for an app that waits, to be shown.
const OFFERS_KEPT: usize = 100;
/// How long GROUP_BY without a number waits for groups that have no room.
const GROUPS_WAIT_MS: u64 = 10_000;

/// What became of the offers that an app was looked at for, since it began to wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub processed: u64,
    pub unused: u64,
    pub by_reason: BTreeMap<Reason, u64>,
    /// Why the last offer of an agent was not used, or not for all that waited.
    by_agent: BTreeMap<String, Reason>,
    /// How many agents each of these reasons has.
    last: BTreeMap<Reason, u64>,
    /// By agent.
    offers: BTreeMap<String, Unused>,
    pub last_used_ms: u64,
    pub last_unused_ms: u64,
}

/// An offer that was not used.
#[derive(Clone, Debug, PartialEq)]
struct Unused {
    offer: Arc<pb::Offer>,
    reasons: Vec<&'static str>,
    at_ms: u64,
}

impl Tally {
    fn add(&mut self, refusals: &Refusals, offers: &[Offered], now_ms: u64) {
        let (unused, used) = (refusals.unused as u64, refusals.used as u64);
        self.processed += unused + used;
        self.unused += unused;
        for (reason, count) in &refusals.by_reason {
            *self.by_reason.entry(*reason).or_default() += *count as u64;
        }
        for (at, agent, reasons) in &refusals.by_offer {
            let Some(first) = reasons.first() else { continue };
            if self.by_agent.len() < AGENTS_KEPT || self.by_agent.contains_key(agent) {
                let before = self.by_agent.insert(agent.clone(), *first);
                if let Some(count) = before.and_then(|before| self.last.get_mut(&before)) {
                    *count -= 1;
                }
                *self.last.entry(*first).or_default() += 1;
            }
            if (self.offers.len() < OFFERS_KEPT || self.offers.contains_key(agent))
                && let Some(offered) = offers.get(*at)
            {
                let reasons = reasons.iter().map(|reason| reason.name()).collect();
                let unused = Unused { offer: Arc::clone(&offered.offer), reasons, at_ms: now_ms };
                self.offers.insert(agent.clone(), unused);
            }
        }
        if used > 0 {
            self.last_used_ms = now_ms;
        }
        if unused > 0 {
            self.last_unused_ms = now_ms;
        }
    }

    /// By name, since it began to wait, and of the last offer of each agent.
    pub(super) fn named(&self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let named = |counts: &BTreeMap<Reason, u64>| -> BTreeMap<String, u64> {
            let some = counts.iter().filter(|(_, count)| **count > 0);
            some.map(|(reason, count)| (reason.name().to_owned(), *count)).collect()
        };
        (named(&self.by_reason), named(&self.last))
    }
}

impl Core {
    /// REVIVE when something waits that offers were declined for, SUPPRESS when nothing waits. New instances ask at
    /// once; those that wait again after a failure ask at most once in an interval.
    pub(super) fn ask_for_offers(&mut self) {
        if !self.connected {
            return;
        }
        if self.launchable.is_empty() {
            self.asking.fresh = false;
            self.asking.again = false;
            if !self.asking.suppressed {
                self.asking.suppressed = true;
                let mut call = self.call(call::Type::Suppress);
                call.suppress = Some(call::Suppress { roles: self.role_list() });
                self.out.now.push(call);
            }
            return;
        }
        let now = self.now;
        let urgent = self.asking.fresh || self.asking.suppressed;
        if !urgent && !self.asking.again {
            return;
        }
        self.asking.refill(now);
        let interval = self.settings.args.min_revive_offers_interval_ms;
        let due = match (urgent, self.asking.tokens >= 1.0) {
            (true, true) => now,
            (true, false) => now.saturating_add(1 + (1000.0 / ASK_PER_SECOND) as u64),
            (false, _) => self.asking.last_ms.saturating_add(interval),
        };
        if due > now {
            self.timers.set(due, Timer::Ask);
            return;
        }
        self.asking.tokens -= 1.0;
        self.asking.last_ms = now;
        self.asking.restart();
        let mut call = self.call(call::Type::Revive);
        call.revive = Some(call::Revive { roles: self.role_list() });
        self.out.now.push(call);
    }

    /// Uses offers for what waits and declines the rest.
    pub(super) fn offers(&mut self, offers: Vec<pb::Offer>) {
        let mut offered: Vec<Offered> = offers.into_iter().map(Offered::new).collect();
        self.place_waiting(&mut offered);
        let mut unused = Vec::new();
        for one in offered {
            if one.launches.is_empty() { unused.push(one.offer.id.clone()) } else { self.accept(one) }
        }
        if unused.is_empty() {
            return;
        }
        let mut call = self.call(call::Type::Decline);
        let refuse_seconds = Some(self.settings.args.decline_offer_duration_ms as f64 / 1000.0);
        call.decline =
            Some(call::Decline { offer_ids: unused, filters: Some(pb::Filters { refuse_seconds }) });
        self.out.now.push(call);
    }

    /// Matches all that is launchable with all offers.
    fn place_waiting(&mut self, offered: &mut [Offered]) {
        let per_offer = self.settings.args.max_instances_per_offer.max(1);
        // More than that cannot be placed, however many wait.
        let room = offered.len().saturating_mul(per_offer);
        let terms = self.terms(per_offer);
        let mut owners = Vec::new();
        let mut definitions = Vec::new();
        let mut parts = Vec::new();
        for app_id in &self.launchable {
            for (definition, waiting) in self.waiting_by_definition(app_id, room) {
                owners.push(app_id.clone());
                parts.push((waiting, self.placed(app_id), self.is_relaxed(app_id, &definition)));
                definitions.push(definition);
            }
        }
        let mut patterns = std::mem::take(&mut self.patterns);
        let requests: Vec<Request<'_>> = definitions
            .iter()
            .zip(parts)
            .map(|(app, (waiting, placed, relaxed))| Request {
                app,
                waiting,
                placed,
                accepted_roles: self.accepted_roles(app),
                patterns: patterns.of(app),
                relaxed,
            })
            .collect();
        self.patterns = patterns;
        let refusals = matcher::place(&requests, offered, &terms);
        for (app_id, refusals) in owners.into_iter().zip(refusals) {
            if let Some(state) = self.apps.get_mut(&app_id) {
                state.tally.add(&refusals, offered, self.now);
                let spread = state.spec.iter().flat_map(|spread| &spread.constraints);
                let relax_ms = state.waiting_since_ms.saturating_add(GROUPS_WAIT_MS);
                let held = refusals.by_reason.contains_key(&Reason::UnfulfilledConstraint);
                if held && relax_ms > self.now && spread.into_iter().any(constraints::is_open_group_by) {
                    self.timers.set(relax_ms, Timer::Relax(app_id.clone()));
                }
                state.refusals = refusals;
            }
            self.queue_dirty.insert(app_id);
        }
    }

    fn terms(&self, per_offer: usize) -> Terms {
        let args = &self.settings.args;
        Terms {
            per_offer,
            now_ms: self.now,
            draining_ms: (!args.disable_maintenance_mode.0)
                .then(|| args.draining_seconds.saturating_mul(1000)),
            gpus_are_kept: args.gpu_scheduling_behavior == "restricted",
            port_seed: self.rng.u64(),
            executor: args.executor.clone(),
            home_region: self.home_region.clone(),
        }
    }

    /// Whether the app has waited long enough for groups that have no room.
    fn is_relaxed(&self, app_id: &str, definition: &super::App) -> bool {
        let since = self.apps.get(app_id).map_or(0, |state| state.waiting_since_ms);
        definition.constraints.iter().any(constraints::is_open_group_by)
            && self.now.saturating_sub(since) >= GROUPS_WAIT_MS
    }

    /// It no longer waits for them: offers that were declined may do.
    pub(super) fn relax(&mut self, app_id: &str) {
        self.asking.fresh |= self.launchable.contains(app_id);
    }

    pub(super) fn unused_offers(&self) -> ListUnusedOffersResponse {
        let waiting = self.queue.keys().filter_map(|app_id| Some((app_id, self.apps.get(app_id)?)));
        let offers = waiting.flat_map(|(app_id, state)| {
            state.tally.offers.values().map(|unused| UnusedOffer {
                app_id: app_id.clone(),
                offer: Some((*unused.offer).clone()),
                reasons: unused.reasons.iter().map(|reason| (*reason).to_owned()).collect(),
                timestamp_ms: unused.at_ms,
            })
        });
        ListUnusedOffersResponse { offers: offers.collect() }
    }

    /// The app's waiting instances, by the definition that they are to run: up to `most` with the wanted configuration
    /// and as many with others.
    pub(super) fn waiting_by_definition(
        &self,
        app_id: &str,
        most: usize,
    ) -> Vec<(std::sync::Arc<super::App>, Vec<String>)> {
        let Some(state) = self.apps.get(app_id) else { return Vec::new() };
        let most = most.min(self.wanted(state));
        let mut by_version: BTreeMap<u64, (std::sync::Arc<super::App>, Vec<String>)> = BTreeMap::new();
        let ids =
            [true, false].into_iter().flat_map(|current| state.members.some(Class::Waiting, current, most));
        for id in ids {
            let Some(instance) = self.instances.get(&id) else { continue };
            let Some(definition) = state.definition(instance) else { continue };
            let entry = by_version.entry(definition.version_ms);
            entry.or_insert_with(|| (definition, Vec::new())).1.push(id);
        }
        by_version.into_values().collect()
    }

    /// How many of the app's waiting instances may be launched: a surplus that is about to go is not. A rolling restart
    /// counts by itself.
    fn wanted(&self, state: &AppState) -> usize {
        let kind = |id: &String| self.deployments.get(id)?.action(&state.spec.as_ref()?.id);
        if state.deployment.as_ref().and_then(kind) == Some(ActionKind::RestartApplication) {
            return usize::MAX;
        }
        let target = state.spec.as_ref().map_or(0, |spec| spec.instances as usize);
        let waiting = state.members.count(Class::Waiting);
        target.saturating_sub(state.members.existing().saturating_sub(waiting))
    }

    /// Where instances of the wanted configuration are, in the order in which they were placed. Only constraints
    /// look at that.
    fn placed(&self, app_id: &str) -> Vec<Placed> {
        let Some(state) = self.apps.get(app_id) else { return Vec::new() };
        let Some(spec) = state.spec.as_deref().filter(|spec| !spec.constraints.is_empty()) else {
            return Vec::new();
        };
        let classes = [Class::Sent, Class::Launched, Class::Ready, Class::Unreachable];
        let ids = classes.into_iter().flat_map(|class| state.members.of_config(class, true));
        let mut placed: Vec<_> = ids.filter_map(|id| self.instances.get(&id)).collect();
        placed.sort_by_key(|instance| (instance.staged_at_ms, &instance.id));
        placed.into_iter().map(|instance| constraints::placed(spec, instance)).collect()
    }

    fn accepted_roles(&self, app: &super::App) -> Vec<String> {
        if !app.accepted_resource_roles.is_empty() {
            return app.accepted_resource_roles.clone();
        }
        match self.settings.args.accepted_resource_roles_default_behavior.as_str() {
            "unreserved" => vec!["*".to_owned()],
            "reserved" => vec![app.role.clone()],
            _ => vec!["*".to_owned(), app.role.clone()],
        }
    }
}
