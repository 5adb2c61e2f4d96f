//! The metrics as they are asked for. Walks agents and frameworks: for scrapes, not for events.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::{
    OperationState, TaskState,
    offer::operation,
    task_status::{Reason, Source},
};
use meshos_types::task_state::is_terminal;
use prost::Message;

use super::names::{ALWAYS, ALWAYS_TOO, MESSAGES, OPERATIONS};
use crate::core::Core;

pub(super) type Metrics = BTreeMap<String, f64>;

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn value(count: u64) -> f64 {
    count as f64
}

pub(super) fn size(count: usize) -> f64 {
    value(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Metrics keep the names of the first API: an agent is a slave.
fn old_name(name: &str) -> String {
    name.to_ascii_lowercase().replace("agent", "slave")
}

impl Core {
    /// All metrics by Mesos's name.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut metrics: Metrics =
            ALWAYS.iter().chain(&ALWAYS_TOO).map(|name| ((*name).to_owned(), 0.0)).collect();
        for (name, count) in &self.counters.named {
            metrics.insert((*name).to_owned(), value(*count));
        }
        for (kind, message) in MESSAGES {
            metrics.insert(format!("master/messages_{message}"), value(self.counters.calls.get(kind)));
        }
        metrics.insert("master/outstanding_offers".to_owned(), size(self.offers.len()));
        metrics.insert("master/elected".to_owned(), 1.0);
        let uptime_ms = self.now.saturating_sub(self.config.elected_at_ms);
        metrics.insert("master/uptime_secs".to_owned(), value(uptime_ms) / 1000.0);
        metrics.insert("registrar/registry_size_bytes".to_owned(), value(self.registry_bytes()));
        self.task_metrics(&mut metrics);
        self.operation_metrics(&mut metrics);
        self.agent_metrics(&mut metrics);
        self.framework_metrics(&mut metrics);
        self.resource_metrics(&mut metrics);
        self.role_metrics(&mut metrics);
        metrics
    }

    /// What the registry holds: agents, frameworks and settings of roles, about.
    fn registry_bytes(&self) -> u64 {
        let frameworks: usize = self.frameworks.values().map(|framework| framework.info.encoded_len()).sum();
        let roles: usize = self
            .role_settings
            .keys()
            .filter_map(|role| self.role_view(role))
            .map(|role| role.encoded_len())
            .sum();
        self.registered_bytes + u64::try_from(frameworks + roles).unwrap_or(u64::MAX)
    }

    fn task_metrics(&self, metrics: &mut Metrics) {
        for (number, live) in self.counters.live.iter() {
            let Ok(state) = TaskState::try_from(number) else { continue };
            let name = state.as_str_name().to_ascii_lowercase().replacen("task_", "tasks_", 1);
            let count = if is_terminal(state) { self.counters.ended.get(number) } else { live };
            metrics.insert(format!("master/{name}"), value(count));
        }
        // An answer to a question, and no state that a task is in.
        metrics.remove("master/tasks_unknown");
        let unreachable = self.frameworks.values().map(|f| f.ledger.unreachable.len()).sum();
        metrics.insert("master/tasks_unreachable".to_owned(), size(unreachable));
        for ((state, source, reason), count) in &self.counters.causes {
            let names = (TaskState::try_from(*state), Source::try_from(*source), Reason::try_from(*reason));
            if let (Ok(state), Ok(source), Ok(reason)) = names {
                let state = state.as_str_name().to_ascii_lowercase();
                let (source, reason) = (old_name(source.as_str_name()), old_name(reason.as_str_name()));
                metrics.insert(format!("master/{state}/{source}/{reason}"), value(*count));
            }
        }
    }

    fn operation_metrics(&self, metrics: &mut Metrics) {
        let mut put = |kind: operation::Type, name: &str, count: u64| {
            let kind = kind.as_str_name().to_ascii_lowercase();
            *metrics.entry(format!("master/operations/{name}")).or_default() += value(count);
            metrics.insert(format!("master/operations/{kind}/{name}"), value(count));
        };
        for kind in OPERATIONS {
            put(kind, "total", self.counters.operations.get(kind));
            for state in ["pending", "recovering", "unreachable"] {
                let is = |tracked: &&crate::core::operations::Tracked| {
                    tracked.kind() == kind && name_of(tracked.state()) == state
                };
                put(
                    kind,
                    state,
                    u64::try_from(self.operations.values().filter(is).count()).unwrap_or(u64::MAX),
                );
            }
            let ends = self.counters.operation_ends.get(&kind.into());
            for state in [
                OperationState::OperationFinished,
                OperationState::OperationFailed,
                OperationState::OperationError,
                OperationState::OperationDropped,
                OperationState::OperationGoneByOperator,
            ] {
                put(kind, &name_of(state), ends.map_or(0, |ends| ends.get(state)));
            }
        }
    }

    /// How often offers were made since the term began.
    #[must_use]
    pub fn allocation_runs(&self) -> u64 {
        self.counters.named.get("allocator/mesos/allocation_runs").copied().unwrap_or_default()
    }

    /// Live tasks in a state.
    #[must_use]
    pub fn live_tasks(&self, state: TaskState) -> u64 {
        self.counters.live.get(state)
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

/// The state's part of a metric's name.
fn name_of(state: OperationState) -> String {
    state.as_str_name().to_ascii_lowercase().replacen("operation_", "", 1)
}
