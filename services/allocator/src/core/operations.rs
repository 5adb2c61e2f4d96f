//! Operations on reservations and volumes: applied here at once, carried out by the agent, told to the framework if
//! it asked to be told (Mesos 1.6, 1.7, 2.8, 7.1).

mod disk;
mod feedback;
mod reconcile;
mod rules;
mod tracked;

use meshos_proto::{
    meshos::allocator::v1::{ApplyOperation, ApplyRequest, allocator_message::Body},
    mesos::v1::{
        self as pb,
        agent_info::capability::Type as AgentCapability,
        offer::{Operation, operation::Type},
    },
};
use meshos_types::{AgentId, Format, FrameworkId, Resources};

use self::rules::{Asker, Conversion, conversion};
use super::{CallError, Core, accept::Taken, events::Verdict};
pub(crate) use tracked::Tracked;

/// An operation's id among all operations: 16 bytes.
pub(crate) type OperationUuid = [u8; 16];

impl Core {
    /// An operation in an ACCEPT, on what is left of the offers.
    pub(super) fn operate(&mut self, taken: &mut Taken, operation: Operation) {
        let framework = taken.place.framework.clone();
        match self.check_operation(taken, &operation) {
            Ok(conversion) => {
                taken.rest.subtract_all(&conversion.consumed);
                taken.converted.subtract_all(&conversion.consumed);
                if reusable(operation.r#type()) {
                    taken.rest.add_all(&conversion.produced);
                    taken.converted.add_all(&conversion.produced);
                }
                let agent = taken.place.agent.clone();
                self.convert(Some(&framework), &agent, operation, &conversion);
            }
            Err(message) => {
                let kind = operation.r#type().as_str_name();
                let verdict = Verdict {
                    // Not of a task: only the message is used.
                    state: pb::TaskState::TaskError,
                    reason: pb::task_status::Reason::TaskInvalid,
                    message: format!("Invalid {kind} operation: {message}"),
                };
                self.fail_operation(&framework, operation, &verdict);
            }
        }
    }

    fn check_operation(&self, taken: &Taken, operation: &Operation) -> Result<Conversion, String> {
        let place = &taken.place;
        let (Some(framework), Some(agent)) =
            (self.frameworks.get(&place.framework), self.agents.get(&place.agent))
        else {
            return Err("framework or agent is gone".to_owned());
        };
        if let Some(id) = operation.id.as_ref().filter(|id| framework.operations.contains_key(&id.value)) {
            return Err(format!("an operation with the id '{}' has not ended", id.value));
        }
        if operation.id.is_some() && !agent.has_capability(AgentCapability::AgentOperationFeedback) {
            return Err(format!("agent {} cannot tell what becomes of operations", agent.id));
        }
        let asker = Asker::Framework { framework, role: &place.role };
        let conversion = conversion(&asker, agent, operation)?;
        if !taken.rest.contains(&conversion.consumed) {
            return Err(format!("{} does not contain {}", taken.rest, conversion.consumed));
        }
        Ok(conversion)
    }

    /// The agent's resources are different from now on.
    fn convert(
        &mut self,
        framework: Option<&FrameworkId>,
        agent: &AgentId,
        operation: Operation,
        conversion: &Conversion,
    ) {
        let Some(known) = self.agents.get(agent) else { return };
        let (mut total, link) = (known.total.clone(), known.link);
        if !total.convert(&conversion.consumed, &conversion.produced) {
            // What is offered or free is part of the total.
            tracing::error!(agent_id = %agent, consumed = %conversion.consumed, "agent does not have what an operation consumes");
            return;
        }
        self.rescind_holders(agent, &conversion.consumed);
        self.set_total(agent, total);
        let uuid = self.next_operation_uuid();
        self.track_operation(uuid, framework, agent, operation.clone());
        let messages = |resources: &Resources| resources.to_proto(Format::PostRefinement);
        let apply = ApplyOperation {
            uuid: uuid.to_vec().into(),
            framework_id: framework.map(FrameworkId::to_proto),
            operation: Some(operation),
            consumed: messages(&conversion.consumed),
            produced: messages(&conversion.produced),
        };
        if let Some(link) = link {
            self.command(link, Body::ApplyOperation(Box::new(apply)));
        }
    }

    /// Begins with what tells this leader's term from others.
    fn next_operation_uuid(&mut self) -> OperationUuid {
        self.next_operation += 1;
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&self.seed.to_be_bytes());
        uuid[8..].copy_from_slice(&self.next_operation.to_be_bytes());
        uuid
    }

    /// An operation of an operator: offers go back as far as that is needed.
    pub(super) fn apply_for_operator(&mut self, request: ApplyRequest) -> Result<(), CallError> {
        let id = request.agent_id.as_ref().map(AgentId::from);
        let id = id.filter(|id| self.agents.get(id).is_some_and(super::Agent::is_admitted));
        let Some(id) = id else { return Err(CallError::invalid("No agent found with specified ID")) };
        let Some(operation) = request.operation else {
            return Err(CallError::invalid("Operation is missing"));
        };
        let Some(agent) = self.agents.get(&id) else { return Ok(()) };
        let kind = operation.r#type().as_str_name();
        let invalid =
            |fault: String| CallError::Invalid(format!("Invalid {kind} operation on agent {id}: {fault}"));
        let source = Resources::from_proto(&request.source).map_err(|fault| invalid(fault.to_string()))?;
        let asker = Asker::Operator { source: &source };
        let conversion = conversion(&asker, agent, &operation).map_err(invalid)?;
        self.counters.operation(operation.r#type());
        self.rescind_holders(&id, &conversion.consumed);
        self.free_for_operator(&id, &conversion.consumed)?;
        self.convert(None, &id, operation, &conversion);
        Ok(())
    }

    /// Takes offers back one by one until `wanted` is free.
    fn free_for_operator(&mut self, id: &AgentId, wanted: &Resources) -> Result<(), CallError> {
        let conflict = |text: &str| CallError::Conflict(format!("{text} on agent {id}: {wanted}"));
        let Some(agent) = self.agents.get(id) else { return Err(conflict("Nothing is available")) };
        if agent.link.is_none() {
            return Err(conflict("Nothing can be changed while it is disconnected"));
        }
        let mut unused = agent.total.clone();
        unused.subtract_all(&agent.used);
        if !unused.contains(wanted) {
            return Err(conflict("Not enough resources are free or offered"));
        }
        for offer in agent.offers.clone() {
            if self.agents.get(id).is_some_and(|agent| agent.free().contains(wanted)) {
                break;
            }
            self.rescind(&offer);
        }
        Ok(())
    }
}

/// Whether what an operation makes may be used later in the same ACCEPT.
fn reusable(kind: Type) -> bool {
    !matches!(kind, Type::GrowVolume | Type::ShrinkVolume)
}
