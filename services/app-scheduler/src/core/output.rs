//! What the core wants done.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshos_proto::{
    meshos::apps::v1::{
        App, Delta, Deployment, FinishedDeployment, Group, Instance, RootChange, TaskFailure,
    },
    mesos::v1::scheduler::{Call, call},
};
use meshos_store::Op;
use prost::Message;

use super::{Core, Probe, ReadinessProbe, Reply};
use crate::{error::Refusal, store};

/// Something that must not happen before the records are stored.
#[derive(Clone, Debug)]
pub enum After {
    Call(Call),
    /// An ACCEPT with its tasks: task id and the trace context of who asked for it.
    Launch {
        call: Call,
        tasks: Vec<(String, String)>,
    },
    Reply {
        token: u64,
        reply: Result<Reply, Refusal>,
    },
}

/// A task came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameUp {
    pub app_id: String,
    pub task_id: String,
    pub traceparent: String,
}

/// What follows from one input.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Calls to make at once, in order.
    pub now: Vec<Call>,
    /// Records to write: deployments, then apps, then instances.
    pub ops: Vec<Op>,
    /// What readers see once the records are stored. An instance may stand in it several times: its states in order,
    /// the last one also when it is removed (see [`crate::view::in_order`]).
    pub delta: Delta,
    /// In order, once the records are stored.
    pub after: Vec<After>,
    pub came_up: Vec<CameUp>,
    /// Deployments that began.
    pub deployments_started: u64,
    /// Health checks to make at once.
    pub probes: Vec<Probe>,
    /// Readiness checks to make at once.
    pub readiness_probes: Vec<ReadinessProbe>,
    writes: BTreeMap<String, Option<Bytes>>,
}

impl Output {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.ops.is_empty() && self.after.is_empty() && self.delta == Delta::default()
    }

    fn put(&mut self, key: String, record: &impl Message) {
        self.writes.insert(key, Some(Bytes::from(record.encode_to_vec())));
    }

    pub(super) fn put_text(&mut self, key: &str, text: &str) {
        self.writes.insert(key.to_owned(), Some(Bytes::copy_from_slice(text.as_bytes())));
    }

    pub(super) fn remove(&mut self, key: String) {
        self.writes.insert(key, None);
    }

    pub(super) fn put_app(&mut self, app: &App) {
        self.put(store::app_key(&app.id), app);
        self.put(store::version_key(&app.id, app.version_ms), app);
        self.delta.apps.push(app.clone());
    }

    pub(super) fn remove_app(&mut self, app_id: &str) {
        self.remove(store::app_key(app_id));
        self.delta.apps.retain(|app| app.id != app_id);
        self.delta.failures.retain(|failure| failure.app_id != app_id);
        self.delta.removed_apps.push(app_id.to_owned());
    }

    pub(super) fn put_instance(&mut self, instance: &Instance) {
        self.put(store::instance_key(&instance.id), instance);
        self.delta.instances.push(instance.clone());
    }

    /// A state that is seen but not stored: another one follows, or a new leader finds it again by itself.
    pub(super) fn show_instance(&mut self, instance: &Instance) {
        self.delta.instances.push(instance.clone());
    }

    pub(super) fn remove_instance(&mut self, instance: &Instance) {
        // One that was never launched has no record.
        if instance.incarnation > 0 {
            self.remove(store::instance_key(&instance.id));
        }
        self.delta.removed_instances.push(instance.id.clone());
    }

    /// A deployment that begins.
    pub(super) fn put_deployment(&mut self, deployment: &Deployment) {
        let records = store::deployment_records(deployment);
        self.writes.extend(records.into_iter().map(|(key, record)| (key, Some(record))));
        self.show_deployment(deployment);
    }

    /// One that goes on: its definitions are stored already.
    pub(super) fn update_deployment(&mut self, deployment: &Deployment) {
        let main = store::deployment_records(deployment).into_iter().next();
        self.writes.extend(main.map(|(key, record)| (key, Some(record))));
        self.show_deployment(deployment);
    }

    /// Readers need no definitions.
    fn show_deployment(&mut self, deployment: &Deployment) {
        let shown = Deployment { originals: Vec::new(), targets: Vec::new(), ..deployment.clone() };
        self.delta.deployments.push(shown);
    }

    pub(super) fn remove_deployment(&mut self, deployment: &Deployment) {
        let id = &deployment.id;
        for (key, _) in store::deployment_records(deployment) {
            self.remove(key);
        }
        self.delta.removed_deployments.push(id.to_owned());
    }

    pub(super) fn put_finished(&mut self, finished: &FinishedDeployment) {
        let id = finished.deployment.as_ref().map(|one| one.id.as_str()).unwrap_or_default();
        self.put(store::finished_key(id), finished);
        self.delta.finished.push(finished.clone());
    }

    pub(super) fn remove_finished(&mut self, id: &str) {
        self.remove(store::finished_key(id));
        let is = |one: &FinishedDeployment| one.deployment.as_ref().is_some_and(|one| one.id == id);
        self.delta.finished.retain(|one| !is(one));
        self.delta.removed_finished.push(id.to_owned());
    }

    pub(super) fn put_group(&mut self, group: &Group) {
        self.put(store::group_key(&group.id), group);
        self.delta.groups.push(group.clone());
    }

    pub(super) fn remove_group(&mut self, id: &str) {
        self.remove(store::group_key(id));
        self.delta.groups.retain(|group| group.id != id);
        self.delta.removed_groups.push(id.to_owned());
    }

    pub(super) fn put_root(&mut self, change: &RootChange) {
        let records = store::root_records(change);
        self.writes.extend(records.into_iter().map(|(key, record)| (key, Some(record))));
    }

    pub(super) fn remove_root(&mut self, change: &RootChange) {
        for (key, _) in store::root_records(change) {
            self.remove(key);
        }
    }

    pub(super) fn put_failure(&mut self, failure: &TaskFailure) {
        self.put(store::failure_key(&failure.app_id), failure);
        self.delta.failures.push(failure.clone());
    }
}

impl Core {
    /// Hands the output of this input over. A crash between two transactions must leave what the next leader can
    /// complete: deployments hold the apps they change, and missing instances are made again.
    pub(super) fn finish_output(&mut self) -> Output {
        let mut out = std::mem::take(&mut self.out);
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for (key, value) in std::mem::take(&mut out.writes) {
            let last = key.starts_with("apps/instances/");
            let op = value.map_or_else(|| Op::delete(key.clone()), |value| Op::put(key.clone(), value));
            if last { late.push(op) } else { early.push(op) }
        }
        early.append(&mut late);
        out.ops = early;
        out
    }

    /// A call of this framework.
    pub(super) fn call(&self, kind: call::Type) -> Call {
        let framework_id =
            self.framework_id.as_ref().map(|id| meshos_proto::mesos::v1::FrameworkId { value: id.clone() });
        Call { framework_id, r#type: Some(kind.into()), ..Default::default() }
    }
}
