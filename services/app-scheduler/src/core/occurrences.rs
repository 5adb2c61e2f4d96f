//! What happened, for event streams: told in the change that brings it about.

use meshos_proto::{
    meshos::apps::v1::{
        Condition, Deployment, DeploymentChanged, DeploymentPhase, GroupChanged, Instance, InstanceChanged,
        Occurrence, SchedulerConnection, TaskStatusChanged, UnknownInstanceTerminated, occurrence::What,
    },
    mesos::v1 as pb,
};

use super::Core;

/// What every event of an instance tells. There are many of them, so they hold no more.
fn outline(instance: &Instance) -> Instance {
    Instance {
        format: instance.format,
        id: instance.id.clone(),
        app_id: instance.app_id.clone(),
        version_ms: instance.version_ms,
        condition: instance.condition,
        goal: instance.goal,
        incarnation: instance.incarnation,
        agent_id: instance.agent_id.clone(),
        host: instance.host.clone(),
        ..Default::default()
    }
}

/// A new condition or goal.
pub(super) fn changed(instance: &Instance) -> What {
    What::Instance(InstanceChanged { instance: Some(outline(instance)) })
}

impl Core {
    pub(super) fn occurred(&mut self, what: What) {
        self.out.delta.occurrences.push(Occurrence { timestamp_ms: self.now, what: Some(what) });
    }

    /// A status that changed something; `instance` is as after it.
    pub(super) fn tell_status(&mut self, instance: &Instance, status: &pb::TaskStatus) {
        let message = status.message.clone().unwrap_or_default();
        let state = instance.mesos_state.clone();
        let told = Instance {
            task_id: instance.task_id.clone(),
            ports: instance.ports.clone(),
            ip_addresses: instance.ip_addresses.clone(),
            ..outline(instance)
        };
        self.occurred(What::TaskStatus(TaskStatusChanged { instance: Some(told), state, message }));
    }

    /// A new condition or goal.
    pub(super) fn tell_instance(&mut self, instance: &Instance) {
        self.occurred(changed(instance));
    }

    pub(super) fn tell_deployment(&mut self, deployment: &Deployment, phase: DeploymentPhase, reason: &str) {
        self.occurred(What::Deployment(DeploymentChanged {
            deployment: Some(deployment.clone()),
            phase: phase.into(),
            reason: reason.to_owned(),
        }));
    }

    /// A change below the group was accepted (`failure` is empty) or refused.
    pub(super) fn tell_group(&mut self, group_id: &str, version_ms: u64, failure: String) {
        self.occurred(What::Group(GroupChanged { group_id: group_id.to_owned(), version_ms, failure }));
    }

    pub(super) fn tell_app_terminated(&mut self, app_id: &str) {
        self.occurred(What::AppTerminated(app_id.to_owned()));
    }

    pub(super) fn tell_unknown(&mut self, instance_id: &str, app_id: &str, condition: Condition) {
        self.occurred(What::UnknownInstanceTerminated(UnknownInstanceTerminated {
            instance_id: instance_id.to_owned(),
            app_id: app_id.to_owned(),
            condition: condition.into(),
        }));
    }

    /// `registered`, `reregistered` or `disconnected`.
    pub(super) fn tell_scheduler(&mut self, event: &str) {
        let framework_id = self.framework_id.clone().unwrap_or_default();
        let event = event.to_owned();
        self.occurred(What::Scheduler(SchedulerConnection { event, framework_id, master: String::new() }));
    }
}
