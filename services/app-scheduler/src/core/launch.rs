//! Launching instances on an offer. The ACCEPT goes out only after the instances' records, with the ids of their
//! tasks, are stored: whoever leads next knows of every task that may exist.

use meshos_proto::{
    meshos::apps::v1::Condition,
    mesos::v1::{
        self as pb,
        offer::{Operation, operation},
        scheduler::call,
    },
};
use meshos_types::InstanceId;

use super::{After, Core, timers::Timer};
use crate::matcher::{
    Launch, Offered, constraints,
    task::{TaskContext, task_info},
};

impl Core {
    pub(super) fn accept(&mut self, offered: Offered) {
        let Offered { offer, launches, .. } = offered;
        // There may be a thousand, and each is large: grown step by step they would be copied again and again.
        let mut tasks = Vec::with_capacity(launches.len());
        let mut traced = Vec::with_capacity(launches.len());
        for launch in launches {
            if let Some((task, traceparent)) = self.provision(&offer, &launch) {
                traced.push((task.task_id.value.clone(), traceparent));
                tasks.push(task);
            }
        }
        let mut call = self.call(call::Type::Accept);
        let launch = Operation {
            r#type: Some(operation::Type::Launch.into()),
            launch: Some(operation::Launch { task_infos: tasks }),
            ..Default::default()
        };
        call.accept = Some(call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![launch],
            // A longer one could hide the rest from an instance that begins to wait before this call arrives.
            filters: Some(pb::Filters { refuse_seconds: Some(0.0) }),
        });
        self.out.after.push(After::Launch { call, tasks: traced });
    }

    /// The instance is on the agent now, as far as we are concerned.
    fn provision(&mut self, offer: &pb::Offer, launch: &Launch) -> Option<(pb::TaskInfo, String)> {
        let instance = self.instances.get(&launch.instance_id)?;
        let definition = self.apps.get(&instance.app_id)?.definition(instance)?;
        let incarnation = instance.incarnation + 1;
        let id = launch.instance_id.clone();
        let task_id = InstanceId::new(id.as_str()).task_id(u64::from(incarnation)).as_str().to_owned();
        let context = TaskContext {
            task_id: &task_id,
            agent_id: &offer.agent_id.value,
            host: &offer.hostname,
            executor: &self.settings.args.executor,
            prefix: self.settings.args.env_vars_prefix.as_deref().unwrap_or_default(),
            bridge_name: &self.settings.args.mesos_bridge_name,
            role_is_enforced: self.enforced_role(&definition.id, |top| self.groups.get(top)).is_some(),
        };
        let task = task_info(&definition, launch, context);
        let traceparent = instance.traceparent.clone();
        let attributes = constraints::fields(&definition, offer);
        let now = self.now;
        let domain = offer.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
        let (region, zone) =
            domain.map(|at| (at.region.name.clone(), at.zone.name.clone())).unwrap_or_default();
        self.update_instance(&id, |instance| {
            (instance.region, instance.zone) = (region, zone);
            instance.set_condition(Condition::Provisioned);
            instance.incarnation = incarnation;
            instance.version_ms = definition.version_ms;
            instance.task_id = task_id;
            instance.agent_id.clone_from(&offer.agent_id.value);
            instance.host.clone_from(&offer.hostname);
            instance.ports.clone_from(&launch.ports);
            instance.container_ports.clone_from(&launch.container_ports);
            // Those of the task before.
            instance.ip_addresses.clear();
            instance.staged_at_ms = now;
            instance.attributes = attributes;
        });
        let due = now.saturating_add(self.settings.args.task_launch_confirm_timeout_ms);
        self.timers.set(due, Timer::Launch(id, incarnation));
        Some((task, traceparent))
    }
}
