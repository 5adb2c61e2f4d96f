//! Agents as the registry admits, misses and removes them, and the end of their links.

mod unsaved;

use std::{collections::BTreeSet, sync::Arc};

use meshos_proto::{
    meshos::{
        allocator::v1::{LinkRefused, TaskPlace, allocator_message::Body},
        registry::v1::{self as registry, AgentState},
    },
    mesos::v1::{OperationState, TaskState, task_status::Reason},
};
use meshos_types::{AgentId, Resources};
use prost::Message;

use super::{
    Core, Effect, LinkId,
    agent::{About, Agent},
    events::{self, Verdict},
};

impl Core {
    /// The registry's whole picture: what it does not show is gone.
    pub(super) fn registry_snapshot(&mut self, agents: Vec<registry::Agent>) {
        let shown: BTreeSet<AgentId> = agents.iter().filter_map(id_of).collect();
        let missing: Vec<_> = self.agents.keys().filter(|id| !shown.contains(*id)).cloned().collect();
        for id in missing {
            self.registry_removed(&id);
        }
        for agent in agents {
            self.registry_changed(agent);
        }
    }

    /// The registry shows an agent, new or changed.
    pub(super) fn registry_changed(&mut self, record: registry::Agent) {
        let Some(id) = id_of(&record) else { return };
        let state = record.state();
        if state == AgentState::Removed {
            return self.registry_removed(&id);
        }
        if !self.agents.contains_key(&id) {
            self.agents.insert(id.clone(), Agent::new(id.clone(), &record));
        }
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let bytes = u32::try_from(record.encoded_len()).unwrap_or(u32::MAX);
        let replaced = std::mem::replace(&mut agent.record_bytes, bytes);
        self.registered_bytes += u64::from(bytes);
        self.registered_bytes -= u64::from(replaced);
        let before = std::mem::replace(&mut agent.state, state);
        let (planned, plans) = (agent.unavailability, record.unavailability);
        agent.unavailability = plans;
        let unreachable_at_ms = record.unreachable_at_ms;
        agent.registered_at_ms = record.registered_at_ms;
        agent.reregistered_at_ms = record.reregistered_at_ms;
        agent.gone_at_ms = record.gone_at_ms;
        if agent.link.is_none() && !agent.heard {
            agent.about = Arc::new(About::of_record(record, &mut self.interned));
        }
        self.note_free(&id);
        if planned != plans {
            // Offers tell of it: they are made anew.
            self.rescind_of_agent(&id);
            self.touch_agent(&id);
        }
        match state {
            AgentState::Unreachable if before != AgentState::Unreachable => {
                self.agent_unreachable(&id, unreachable_at_ms);
            }
            AgentState::Gone if before != AgentState::Gone => self.agent_gone(&id),
            AgentState::Disconnected => self.lose_unsaved(&id),
            _ => {}
        }
        self.note_recovered(&id);
        self.admit_waiting(&id);
    }

    /// The agent left for good, or the registry has forgotten one that was away for long.
    pub(super) fn registry_removed(&mut self, id: &AgentId) {
        if let Some(agent) = self.agents.get(id) {
            self.registered_bytes -= u64::from(agent.record_bytes);
            if agent.is_admitted() {
                self.counters.add("master/slave_removals", 1);
                self.counters.add("master/slave_removals/reason_unregistered", 1);
                self.counters.add("master/messages_unregister_slave", 1);
            }
            self.lose_agent(id, TaskState::TaskLost, Reason::AgentRemoved, TaskPlace::Completed);
            self.agents.remove(id);
            self.no_longer_awaited(id);
            self.note_free(id);
        }
        self.refuse_waiting(id, "Agent has been removed");
    }

    fn agent_unreachable(&mut self, id: &AgentId, at_ms: u64) {
        let now = self.now;
        if let Some(agent) = self.agents.get_mut(id) {
            agent.unreachable_at_ms = if at_ms == 0 { now } else { at_ms };
            agent.was_unreachable = true;
            agent.heard = false;
        }
        if self.recovered.contains(id) {
            self.counters.add("master/recovery_slave_removals", 1);
        }
        self.counters.add("master/slave_unreachable_scheduled", 1);
        self.counters.add("master/slave_unreachable_completed", 1);
        self.counters.add("master/slave_removals", 1);
        self.counters.add("master/slave_removals/reason_unhealthy", 1);
        self.lose_agent(id, TaskState::TaskUnreachable, Reason::AgentRemoved, TaskPlace::Unreachable);
    }

    fn agent_gone(&mut self, id: &AgentId) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.heard = false;
        }
        let reason = Reason::AgentRemovedByOperator;
        self.lose_agent(id, TaskState::TaskGoneByOperator, reason, TaskPlace::Completed);
        self.refuse_waiting(id, "Agent has been marked gone");
    }

    /// Takes an agent and its tasks out of the cluster (Mesos 4.7): tasks first, then offers, then FAILURE.
    fn lose_agent(&mut self, id: &AgentId, state: TaskState, reason: Reason, to: TaskPlace) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let link = agent.link.take();
        let tasks: Vec<_> = agent.tasks.iter().cloned().collect();
        let unreachable_ns =
            i64::try_from(agent.unreachable_at_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        if let Some(link) = link {
            self.links.remove(&link);
            self.effects.push(Effect::CloseLink { link });
        }
        for (framework, task) in tasks {
            let Some(known) = self.frameworks.get(&framework) else { continue };
            let state = known.state_or_lost(state);
            let message = match to {
                TaskPlace::Unreachable => format!("Agent {id} is unreachable"),
                _ if reason == Reason::AgentRemovedByOperator => format!("Agent {id} has been marked gone"),
                _ => format!("Agent {id} was removed"),
            };
            let mut status = events::status(&task, Some(id), &Verdict { state, reason, message }, self.now);
            if to == TaskPlace::Unreachable {
                let time = meshos_proto::mesos::v1::TimeInfo { nanoseconds: unreachable_ns };
                status.unreachable_time = Some(time);
            }
            self.judge_task(&framework, status);
            self.retire_task(&framework, &task, to);
        }
        self.end_executors(id, |_, _| true);
        self.lose_operations(
            id,
            match state {
                TaskState::TaskUnreachable => OperationState::OperationUnreachable,
                _ => OperationState::OperationGoneByOperator,
            },
        );
        self.rescind_of_agent(id);
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.kills.clear();
        let was_member = !agent.total.is_empty() || self.recovered.contains(id);
        self.set_total(id, Resources::new());
        self.note_free(id);
        self.leave_available(id);
        self.clear_filters_of_agent(id);
        if was_member {
            self.tell_agent_lost(id);
        }
    }

    fn tell_agent_lost(&mut self, id: &AgentId) {
        let connected: Vec<_> = self.streams.values().cloned().collect();
        for framework in connected {
            self.send(&framework, events::agent_lost(id));
        }
    }

    /// The agent's link broke: no more offers of it, its tasks are untouched.
    pub(super) fn agent_unlinked(&mut self, link: LinkId) {
        self.waiting.remove(&link);
        let Some(id) = self.links.remove(&link) else { return };
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.link = None;
        }
        self.rescind_of_agent(&id);
        self.leave_available(&id);
        self.note_free(&id);
        self.lose_unsaved(&id);
    }

    pub(super) fn rescind_of_agent(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        for offer in agent.offers.clone() {
            self.rescind(&offer);
        }
    }

    /// Nobody waits for an agent that may not link: frameworks get answers without it.
    pub(super) fn keep_out(&mut self, id: &AgentId) {
        if let Some(agent) = self.agents.get_mut(id).filter(|agent| agent.link.is_none()) {
            agent.kept_out = true;
            self.note_recovered(id);
        }
    }

    /// Keeps the set of agents that are known and have not linked yet.
    pub(super) fn note_recovered(&mut self, id: &AgentId) {
        let waiting = self.agents.get(id).is_some_and(Agent::is_awaited);
        if waiting {
            self.recovered.insert(id.clone());
        } else {
            self.no_longer_awaited(id);
        }
    }

    /// Ends a link that may not stay.
    pub(super) fn refuse_link(&mut self, link: LinkId, reason: &str) {
        let refused = Body::Refused(LinkRefused { reason: reason.to_owned() });
        self.effects.push(Effect::Command { link, command: Box::new(refused) });
        self.effects.push(Effect::CloseLink { link });
    }

    fn refuse_waiting(&mut self, id: &AgentId, reason: &str) {
        for link in self.waiting_links(id) {
            self.waiting.remove(&link);
            self.refuse_link(link, reason);
        }
    }

    fn admit_waiting(&mut self, id: &AgentId) {
        if !self.agents.get(id).is_some_and(Agent::is_admitted) {
            return;
        }
        for link in self.waiting_links(id) {
            if let Some(report) = self.waiting.remove(&link) {
                self.agent_linked(link, report);
            }
        }
    }

    fn waiting_links(&self, id: &AgentId) -> Vec<LinkId> {
        let of_agent = |report: &super::Reregister| report_id(report).as_ref() == Some(id);
        self.waiting.iter().filter(|(_, report)| of_agent(report)).map(|(link, _)| *link).collect()
    }

    pub(super) fn admission_expired(&mut self, link: LinkId) {
        if self.waiting.remove(&link).is_some() {
            self.refuse_link(link, "Agent is not admitted: its session with the registry must come first");
        }
    }
}

fn id_of(record: &registry::Agent) -> Option<AgentId> {
    record.info.as_ref()?.id.as_ref().map(AgentId::from)
}

/// The id that a report carries.
pub(super) fn report_id(report: &super::Reregister) -> Option<AgentId> {
    report.agent.as_ref()?.id.as_ref().map(AgentId::from)
}
