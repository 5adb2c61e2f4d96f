//! ACCEPT: offers become tasks, atomically (Mesos 2.7, 2.8).

use meshos_proto::{
    meshos::allocator::v1::{Launch, allocator_message::Body},
    mesos::v1::{
        self as pb, OperationState, TaskState,
        offer::{Operation, operation},
        scheduler::call,
        task_status::Reason,
    },
};
use meshos_types::{AgentId, Format, FrameworkId, OfferId, Resources, TaskId};

use super::{
    Core,
    account::Place,
    events::{self, Verdict},
    ledger::Entry,
    validate::{self, TaskScene},
};

/// The offers of an ACCEPT: what they are of, and what is left of them.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) place: Place,
    pub(super) rest: Resources,
    /// What of the rest was made by operations of this ACCEPT.
    pub(super) converted: Resources,
}

impl Core {
    pub(super) fn accept(&mut self, id: &FrameworkId, accept: call::Accept, traceparent: &str) {
        let mut taken = match self.take_accepted(id, &accept.offer_ids) {
            Ok(taken) => taken,
            Err(verdict) => return self.fail_operations(id, accept.operations, &verdict),
        };
        if let Some(verdict) = self.agent_away(id, &taken.place.agent) {
            return self.fail_operations(id, accept.operations, &verdict);
        }
        let mut launched = Vec::new();
        for operation in accept.operations {
            self.counters.operation(operation.r#type());
            match operation.r#type() {
                operation::Type::Launch => self.launch(&mut taken, operation, &mut launched),
                operation::Type::LaunchGroup => {
                    let message = "Task groups are not supported yet".to_owned();
                    let reason = Reason::TaskGroupInvalid;
                    let verdict = Verdict { state: TaskState::TaskError, reason, message };
                    self.fail_operation(id, operation, &verdict);
                }
                _ => self.operate(&mut taken, operation),
            }
        }
        self.send_launch(&taken.place, launched, traceparent);
        // What was made just now comes back at once.
        taken.rest.subtract_all(&taken.converted);
        self.refuse(&taken.place, taken.rest, accept.filters.as_ref());
    }

    /// Takes the offers if all of them are valid. If one is not, the framework's own go back without a filter,
    /// and those of others stay where they are.
    fn take_accepted(&mut self, id: &FrameworkId, ids: &[pb::OfferId]) -> Result<Taken, Verdict> {
        let ids: Vec<OfferId> = ids.iter().map(OfferId::from).collect();
        let checked = self.check_offers(id, &ids);
        let mut rest = Resources::new();
        for offer in &ids {
            if self.owns(id, offer)
                && let Some(offer) = self.take_offer(offer)
            {
                rest.add_all(&offer.resources);
            }
        }
        match checked {
            Ok(place) => {
                self.counters.add("master/offers_accepted", u64::try_from(ids.len()).unwrap_or(u64::MAX));
                Ok(Taken { place, rest, converted: Resources::new() })
            }
            Err(fault) => Err(Verdict {
                state: self.dropped(id),
                reason: Reason::InvalidOffers,
                message: format!("Task launched with invalid offers: {fault}"),
            }),
        }
    }

    fn check_offers(&self, id: &FrameworkId, ids: &[OfferId]) -> Result<Place, String> {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = ids.iter().find(|offer| !seen.insert(*offer)) {
            return Err(format!("Duplicate offer {twice} in offer list"));
        }
        let mut common: Option<&Place> = None;
        for offer_id in ids {
            let Some(offer) = self.offers.get(offer_id) else {
                return Err(format!("Offer {offer_id} is no longer valid"));
            };
            let place = &offer.place;
            if place.framework != *id {
                let owner = &place.framework;
                return Err(format!(
                    "Offer {offer_id} has invalid framework {owner} while framework {id} is expected"
                ));
            }
            match common {
                Some(first) if first.role != place.role => {
                    return Err(format!(
                        "Aggregated offers must be allocated to the same role. Offer {offer_id} uses role \
                         {} but another is using role {}",
                        place.role, first.role
                    ));
                }
                Some(first) if first.agent != place.agent => {
                    return Err(format!(
                        "Aggregated offers must belong to one single agent. Offer {offer_id} uses agent {} \
                         and agent {}",
                        place.agent, first.agent
                    ));
                }
                _ => common = Some(place),
            }
        }
        common.cloned().ok_or_else(|| "No offers specified".to_owned())
    }

    fn agent_away(&self, id: &FrameworkId, agent: &AgentId) -> Option<Verdict> {
        let (reason, message) = match self.agents.get(agent) {
            None => (Reason::AgentRemoved, format!("Agent {agent} was removed")),
            Some(known) if !known.is_active() => {
                (Reason::AgentDisconnected, format!("Agent {agent} is disconnected"))
            }
            Some(_) => return None,
        };
        Some(Verdict { state: self.dropped(id), reason, message })
    }

    fn dropped(&self, id: &FrameworkId) -> TaskState {
        let framework = self.frameworks.get(id);
        framework.map_or(TaskState::TaskLost, |framework| framework.state_or_lost(TaskState::TaskDropped))
    }

    fn launch(&mut self, taken: &mut Taken, operation: Operation, launched: &mut Vec<pb::TaskInfo>) {
        let id = taken.place.framework.clone();
        if operation.id.is_some() {
            let message = "Operation LAUNCH must not have an 'id'".to_owned();
            let verdict = Verdict { state: TaskState::TaskError, reason: Reason::TaskInvalid, message };
            return self.fail_operation(&id, operation, &verdict);
        }
        for task in operation.launch.unwrap_or_default().task_infos {
            match self.check_task(taken, &task) {
                Ok(resources) => {
                    taken.rest.subtract_all(&resources);
                    taken.converted.subtract_all(&resources);
                    launched.push(self.enter_launched(&taken.place, task, resources));
                }
                Err((reason, message)) => {
                    let verdict = Verdict { state: TaskState::TaskError, reason, message };
                    self.refuse_task(&id, &task, &verdict);
                }
            }
        }
    }

    fn check_task(&self, taken: &Taken, task: &pb::TaskInfo) -> Result<Resources, (Reason, String)> {
        validate::submitter(task, self.config.root_submissions)
            .map_err(|message| (Reason::TaskUnauthorized, message))?;
        let invalid = |message: String| (Reason::TaskInvalid, message);
        let place = &taken.place;
        let (Some(framework), Some(agent)) =
            (self.frameworks.get(&place.framework), self.agents.get(&place.agent))
        else {
            return Err(invalid("Framework or agent is gone".to_owned()));
        };
        let scene = TaskScene { framework, agent, role: &place.role, offered: &taken.rest };
        validate::task(&scene, task).map_err(invalid)
    }

    /// The task is the leader's from now on. Returns it as the agent gets it.
    fn enter_launched(
        &mut self,
        place: &Place,
        mut task: pb::TaskInfo,
        resources: Resources,
    ) -> pb::TaskInfo {
        task.resources = resources.allocate(&place.role).to_proto(Format::PostRefinement);
        let framework = self.frameworks.get(&place.framework);
        let user = task.command.as_ref().and_then(|command| command.user.clone());
        let user = user.or_else(|| framework.map(|framework| framework.info.user.clone()));
        let record = pb::Task {
            name: task.name.clone(),
            task_id: task.task_id.clone(),
            framework_id: place.framework.to_proto(),
            agent_id: place.agent.to_proto(),
            state: TaskState::TaskStaging.into(),
            resources: task.resources.clone(),
            labels: task.labels.clone(),
            discovery: task.discovery.clone(),
            container: task.container.clone(),
            health_check: task.health_check.clone(),
            kill_policy: task.kill_policy,
            user,
            limits: task.limits.clone(),
            ..pb::Task::default()
        };
        let (agent, role) = (place.agent.clone(), place.role.clone());
        self.enter_task(&place.framework, Entry { task: record, agent, role, resources, holds: false });
        task
    }

    fn send_launch(&mut self, place: &Place, tasks: Vec<pb::TaskInfo>, traceparent: &str) {
        if tasks.is_empty() {
            return;
        }
        let link = self.agents.get(&place.agent).and_then(|agent| agent.link);
        let framework = self.frameworks.get(&place.framework).map(|framework| framework.info.clone());
        if let Some(link) = link {
            let traceparent = traceparent.to_owned();
            self.command(link, Body::Launch(Launch { framework, tasks, traceparent, group_executor: None }));
        }
    }

    fn fail_operations(&mut self, id: &FrameworkId, operations: Vec<Operation>, verdict: &Verdict) {
        for operation in operations {
            self.fail_operation(id, operation, verdict);
        }
    }

    /// Tasks get the verdict; another operation is dropped, and its framework told if it asked to be.
    pub(super) fn fail_operation(&mut self, id: &FrameworkId, operation: Operation, verdict: &Verdict) {
        let tasks = match operation.r#type() {
            operation::Type::Launch => operation.launch.unwrap_or_default().task_infos,
            operation::Type::LaunchGroup => {
                operation.launch_group.map(|group| group.task_group.tasks).unwrap_or_default()
            }
            _ => {
                self.counters.add("master/operations/error", 1);
                if operation.id.is_some() {
                    let status = pb::OperationStatus {
                        operation_id: operation.id,
                        state: OperationState::OperationError.into(),
                        message: Some(verdict.message.clone()),
                        ..pb::OperationStatus::default()
                    };
                    self.send(id, events::operation(status));
                }
                return;
            }
        };
        for task in &tasks {
            self.refuse_task(id, task, verdict);
        }
    }

    /// A task that was not accepted: no entry in the ledger.
    fn refuse_task(&mut self, id: &FrameworkId, task: &pb::TaskInfo, verdict: &Verdict) {
        let agent = AgentId::from(&task.agent_id);
        let status = events::status(&TaskId::from(&task.task_id), Some(&agent), verdict, self.now);
        self.counters.status(&status);
        self.send(id, events::update(status));
    }
}
