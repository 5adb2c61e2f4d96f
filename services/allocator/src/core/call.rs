//! Calls of subscribed frameworks, except ACCEPT and RECONCILE.

use meshos_proto::{
    meshos::allocator::v1::{Acknowledge, Kill, TaskPlace, allocator_message::Body},
    mesos::v1::scheduler::{self, call},
};
use meshos_types::{AgentId, FrameworkId, OfferId, RoleName, TaskId, task_state::is_terminal};

use super::{CallError, Core, StreamId, validate};

impl Core {
    /// Any call but SUBSCRIBE, checked in Mesos's order (5.1).
    pub(super) fn call(
        &mut self,
        stream: &StreamId,
        call: scheduler::Call,
        traceparent: &str,
    ) -> Result<(), CallError> {
        validate::call(&call)?;
        let id = call.framework_id.as_ref().map(FrameworkId::from);
        let Some(id) = id else { return Err(CallError::invalid(validate::expecting("framework_id"))) };
        self.check_stream(&id, stream)?;
        self.dispatch(&id, call, traceparent)
    }

    fn check_stream(&self, id: &FrameworkId, stream: &StreamId) -> Result<(), CallError> {
        let framework = self.frameworks.get(id);
        let Some(framework) = framework else { return Err(CallError::invalid("Framework cannot be found")) };
        let Some(current) = framework.stream() else {
            return Err(CallError::Forbidden("Framework is not subscribed".to_owned()));
        };
        if stream.is_empty() {
            let text = "All non-subscribe calls should include the 'Mesos-Stream-Id' header";
            return Err(CallError::invalid(text));
        }
        if stream != current {
            return Err(CallError::Invalid(format!(
                "The stream ID '{stream}' included in this request didn't match the stream ID currently \
                 associated with framework ID {id}"
            )));
        }
        Ok(())
    }

    fn dispatch(&mut self, id: &FrameworkId, call: scheduler::Call, trace: &str) -> Result<(), CallError> {
        use call::Type;
        let kind = call.r#type();
        self.count_call(id, kind);
        match kind {
            Type::Accept => self.accept(id, call.accept.unwrap_or_default(), trace),
            Type::Decline => self.decline(id, &call.decline.unwrap_or_default()),
            Type::Revive => self.revive(id, &call.revive.unwrap_or_default().roles),
            Type::Suppress => self.suppress(id, &call.suppress.unwrap_or_default().roles),
            Type::Kill => self.kill(id, call.kill.unwrap_or_default()),
            Type::Acknowledge => self.acknowledge(id, call.acknowledge.unwrap_or_default()),
            Type::Reconcile => self.reconcile(id, &call.reconcile.unwrap_or_default()),
            Type::ReconcileOperations => {
                self.reconcile_operations(id, &call.reconcile_operations.unwrap_or_default());
            }
            Type::AcknowledgeOperationStatus => {
                self.acknowledge_operation(id, &call.acknowledge_operation_status.unwrap_or_default());
            }
            Type::Teardown => self.remove_framework(id),
            Type::Message => self.message_to_executor(id, call.message.unwrap_or_default()),
            Type::Shutdown => self.shut_down_executor(id, call.shutdown.unwrap_or_default()),
            // Inverse offers are never sent, so any answer names an unknown one; requests are taken and ignored, as
            // Mesos's own allocator does.
            Type::AcceptInverseOffers | Type::DeclineInverseOffers | Type::Request => {}
            Type::UpdateFramework => {
                return match call.update_framework {
                    Some(update) => self.update_framework(id, update),
                    None => Err(CallError::invalid(validate::expecting("update_framework"))),
                };
            }
            Type::Unknown | Type::Subscribe => {
                return Err(CallError::invalid(validate::expecting("type")));
            }
        }
        Ok(())
    }

    fn decline(&mut self, id: &FrameworkId, decline: &call::Decline) {
        for offer in decline.offer_ids.iter().map(OfferId::from) {
            if !self.owns(id, &offer) {
                continue;
            }
            if let Some(offer) = self.take_offer(&offer) {
                if let Some(framework) = self.frameworks.get_mut(id) {
                    framework.figures.offers_declined += 1;
                }
                self.refuse_offer(offer, decline.filters.as_ref());
            }
        }
    }

    /// Whether the framework holds the offer.
    pub(super) fn owns(&self, id: &FrameworkId, offer: &OfferId) -> bool {
        self.offers.get(offer).is_some_and(|offer| offer.place.framework == *id)
    }

    /// The roles that a call names, all of them if none; none if one is not the framework's.
    fn named_roles(&self, id: &FrameworkId, named: &[String]) -> Vec<RoleName> {
        let Some(framework) = self.frameworks.get(id) else { return Vec::new() };
        if named.is_empty() {
            return framework.roles.iter().cloned().collect();
        }
        if named.iter().any(|role| !framework.roles.contains(role.as_str())) {
            return Vec::new();
        }
        named.iter().map(|role| RoleName::new(role.as_str())).collect()
    }

    fn revive(&mut self, id: &FrameworkId, roles: &[String]) {
        for role in self.named_roles(id, roles) {
            let Some(framework) = self.frameworks.get_mut(id) else { return };
            framework.suppressed.remove(&role);
            let cleared = framework.filters.clear(|of| *of == role);
            self.cancel_filters(id, cleared);
            self.set_active(&role, id, true);
            self.touch_framework(id);
            self.dirty.frameworks.insert(id.clone());
        }
    }

    fn suppress(&mut self, id: &FrameworkId, roles: &[String]) {
        for role in self.named_roles(id, roles) {
            self.set_active(&role, id, false);
            if let Some(framework) = self.frameworks.get_mut(id) {
                framework.suppressed.insert(role);
            }
            self.dirty.frameworks.insert(id.clone());
        }
    }

    /// Mesos 4.5: unknown tasks are reconciled; a kill stands until the task has ended, over any number of links.
    fn kill(&mut self, id: &FrameworkId, kill: call::Kill) {
        let task = TaskId::from(&kill.task_id);
        let named = kill.agent_id.as_ref().map(AgentId::from);
        let entry = self.frameworks.get(id).and_then(|framework| framework.ledger.live.get(&task));
        let Some(agent_id) = entry.map(|entry| entry.agent.clone()) else {
            return self.reconcile_one(id, &task, named.as_ref());
        };
        if named.is_some_and(|named| named != agent_id) {
            return;
        }
        let Some(agent) = self.agents.get_mut(&agent_id) else { return };
        agent.kills.insert((id.clone(), task.clone()), kill.kill_policy);
        let Some(link) = agent.link else { return };
        let (framework_id, task_id) = (Some(id.to_proto()), Some(task.to_proto()));
        self.command(link, Body::Kill(Kill { framework_id, task_id, kill_policy: kill.kill_policy }));
    }

    /// Mesos 4.3: passed on to the agent; the terminal one completes the task.
    fn acknowledge(&mut self, id: &FrameworkId, acknowledge: call::Acknowledge) {
        let agent_id = AgentId::from(&acknowledge.agent_id);
        let Some(link) = self.agents.get(&agent_id).and_then(|agent| agent.link) else {
            return self.counters.add("master/invalid_status_update_acknowledgements", 1);
        };
        self.counters.add("master/valid_status_update_acknowledgements", 1);
        let task = TaskId::from(&acknowledge.task_id);
        let entry = self.frameworks.get(id).and_then(|framework| framework.ledger.live.get(&task));
        let ended = entry.is_some_and(|entry| {
            entry.agent == agent_id
                && entry.task.told().is_some_and(is_terminal)
                && entry.task.uuid() == Some(&acknowledge.uuid[..])
        });
        if ended {
            self.retire_task(id, &task, TaskPlace::Completed);
        }
        let (framework_id, task_id) = (Some(id.to_proto()), Some(task.to_proto()));
        let command = Acknowledge { framework_id, task_id, uuid: acknowledge.uuid };
        self.command(link, Body::Acknowledge(command));
    }
}
