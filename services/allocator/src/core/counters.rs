//! Plain counters under Mesos's metric names (9.1).

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::registry::v1::AgentState,
    mesos::v1::{self as pb, TaskState, offer::operation, scheduler::call, task_status},
};
use meshos_types::{Milli, Quantities, task_state::is_terminal};

use super::{Core, framework::Connection};

/// Tasks in a state, and everything that is only counted up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    counts: BTreeMap<String, u64>,
    live: BTreeMap<TaskState, u64>,
}

impl Counters {
    pub(crate) fn add(&mut self, name: &str, count: u64) {
        match self.counts.get_mut(name) {
            Some(value) => *value += count,
            None => {
                self.counts.insert(name.to_owned(), count);
            }
        }
    }

    pub(crate) fn task_entered(&mut self, state: TaskState) {
        *self.live.entry(state).or_default() += 1;
    }

    pub(crate) fn task_left(&mut self, state: TaskState) {
        if let Some(count) = self.live.get_mut(&state) {
            *count = count.saturating_sub(1);
        }
    }

    pub(crate) fn task_changed(&mut self, before: TaskState, after: TaskState) {
        self.task_left(before);
        self.task_entered(after);
    }

    /// A status seen for the first time: how tasks ended, and why.
    pub(crate) fn status(&mut self, status: &pb::TaskStatus) {
        let state = status.state();
        let state_name = state.as_str_name().to_ascii_lowercase();
        if is_terminal(state) {
            self.add(&format!("master/{}", state_name.replacen("task_", "tasks_", 1)), 1);
        }
        if let (Some(_), Some(_)) = (status.source, status.reason) {
            let (source, reason) = (old_name(status.source().as_str_name()), old_name(reason_name(status)));
            self.add(&format!("master/{state_name}/{source}/{reason}"), 1);
        }
    }

    pub(crate) fn call(&mut self, kind: call::Type) {
        self.add(&format!("master/calls_{}", kind.as_str_name().to_ascii_lowercase()), 1);
        let message = match kind {
            call::Type::Accept => "launch_tasks",
            call::Type::Decline => "decline_offers",
            call::Type::Revive => "revive_offers",
            call::Type::Suppress => "suppress_offers",
            call::Type::Kill => "kill_task",
            call::Type::Acknowledge => "status_update_acknowledgement",
            call::Type::AcknowledgeOperationStatus => "operation_status_update_acknowledgement",
            call::Type::Reconcile => "reconcile_tasks",
            call::Type::ReconcileOperations => "reconcile_operations",
            call::Type::Message => "framework_to_executor",
            call::Type::Request => "resource_request",
            call::Type::Teardown => "unregister_framework",
            _ => return,
        };
        self.add(&format!("master/messages_{message}"), 1);
    }

    pub(crate) fn operation(&mut self, kind: operation::Type) {
        if !matches!(kind, operation::Type::Launch | operation::Type::LaunchGroup) {
            self.add(&format!("master/operations/{}/total", kind.as_str_name().to_ascii_lowercase()), 1);
        }
    }
}

fn reason_name(status: &pb::TaskStatus) -> &'static str {
    status
        .reason
        .and_then(|reason| task_status::Reason::try_from(reason).ok())
        .map_or("", |r| r.as_str_name())
}

/// Metrics keep the names of the first API: an agent is a slave.
fn old_name(name: &str) -> String {
    name.to_ascii_lowercase().replace("agent", "slave")
}

/// Counters that are shown even before they count.
const ALWAYS: [&str; 26] = [
    "master/tasks_finished",
    "master/tasks_failed",
    "master/tasks_killed",
    "master/tasks_lost",
    "master/tasks_error",
    "master/tasks_dropped",
    "master/tasks_gone",
    "master/tasks_gone_by_operator",
    "master/messages_register_framework",
    "master/messages_reregister_framework",
    "master/messages_unregister_framework",
    "master/messages_kill_task",
    "master/messages_status_update_acknowledgement",
    "master/messages_launch_tasks",
    "master/messages_decline_offers",
    "master/messages_revive_offers",
    "master/messages_suppress_offers",
    "master/messages_reconcile_tasks",
    "master/valid_status_updates",
    "master/invalid_status_updates",
    "master/valid_status_update_acknowledgements",
    "master/invalid_status_update_acknowledgements",
    "master/slave_registrations",
    "master/slave_reregistrations",
    "master/slave_removals",
    "allocator/mesos/allocation_runs",
];

impl Core {
    /// All metrics by Mesos's name. Walks all agents: for scrapes, not for events.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics: BTreeMap<String, f64> =
            ALWAYS.iter().map(|name| ((*name).to_owned(), 0.0)).collect();
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let mut set = |name: &str, value: u64| metrics.insert(name.to_owned(), value as f64);
        self.counters.counts.iter().for_each(|(name, value)| {
            set(name, *value);
        });
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        for (state, name) in [
            (TaskState::TaskStaging, "staging"),
            (TaskState::TaskStarting, "starting"),
            (TaskState::TaskRunning, "running"),
            (TaskState::TaskKilling, "killing"),
        ] {
            set(&format!("master/tasks_{name}"), self.live_tasks(state));
        }
        let unreachable = self.frameworks.values().map(|f| f.ledger.unreachable.iter().count()).sum();
        set("master/tasks_unreachable", count(unreachable));
        set("master/outstanding_offers", count(self.offers.len()));
        set("master/elected", 1);
        set("master/uptime_secs", self.now.saturating_sub(self.config.elected_at_ms) / 1000);
        let agents = |wanted: &dyn Fn(&super::Agent) -> bool| {
            count(self.agents.values().filter(|a| wanted(a)).count())
        };
        set("master/slaves_connected", agents(&|agent| agent.link.is_some()));
        set("master/slaves_disconnected", agents(&|agent| agent.link.is_none() && agent.heard));
        set("master/slaves_active", agents(&super::Agent::is_active));
        set("master/slaves_inactive", agents(&|agent| !agent.is_active() && agent.heard));
        set("master/slaves_unreachable", agents(&|agent| agent.state == AgentState::Unreachable));
        let connected = count(self.streams.len());
        let away = |framework: &&super::Framework| framework.connection == Connection::Disconnected;
        let away = count(self.frameworks.values().filter(away).count());
        for (name, value) in
            [("connected", connected), ("active", connected), ("disconnected", away), ("inactive", away)]
        {
            set(&format!("master/frameworks_{name}"), value);
        }
        self.resource_metrics(&mut metrics);
        metrics
    }

    fn resource_metrics(&self, metrics: &mut BTreeMap<String, f64>) {
        let mut used = Quantities::new();
        let mut offered = Quantities::new();
        for agent in self.agents.values() {
            used.add(&agent.used.scalars());
            offered.add(&agent.offered.scalars());
        }
        let total = self.shares.total();
        for name in ["cpus", "gpus", "mem", "disk"] {
            let (total, used, offered) = (total.get(name), used.get(name), offered.get(name));
            let percent = if total == Milli::ZERO { 0.0 } else { used.to_f64() / total.to_f64() };
            for (kind, value) in [("total", total.to_f64()), ("used", used.to_f64()), ("percent", percent)] {
                metrics.insert(format!("master/{name}_{kind}"), value);
                metrics.insert(format!("master/{name}_revocable_{kind}"), 0.0);
            }
            let held = used.saturating_add(offered).to_f64();
            metrics.insert(format!("allocator/mesos/resources/{name}/total"), total.to_f64());
            metrics.insert(format!("allocator/mesos/resources/{name}/offered_or_allocated"), held);
        }
        self.quotas.metrics(metrics);
        for (role, share) in self.shares.role_shares() {
            metrics.insert(format!("allocator/mesos/roles/{role}/shares/dominant"), share);
        }
        for framework in self.frameworks.values() {
            for (role, filters) in framework.filters.count_by_role() {
                let name = format!("allocator/mesos/offer_filters/roles/{role}/active");
                #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
                let filters = filters as f64;
                *metrics.entry(name).or_default() += filters;
            }
        }
    }

    /// Live tasks in a state.
    #[must_use]
    pub fn live_tasks(&self, state: TaskState) -> u64 {
        self.counters.live.get(&state).copied().unwrap_or_default()
    }

    /// Outstanding offers.
    #[must_use]
    pub fn outstanding_offers(&self) -> usize {
        self.offers.len()
    }

    /// Agents with an open link.
    #[must_use]
    pub fn linked_agents(&self) -> usize {
        self.links.len()
    }

    /// Frameworks with an open stream.
    #[must_use]
    pub fn connected_frameworks(&self) -> usize {
        self.streams.len()
    }
}
