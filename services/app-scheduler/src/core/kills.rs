//! Ending tasks: by request, again after a while, and tasks that nobody knows.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::apps::v1::{App, Condition, Instance, KillTasksRequest, KillTasksResponse},
    mesos::v1::{self as pb, scheduler::call},
};
use meshos_types::{TaskId, TaskName};

use super::{After, Core, apps::Edit, change::Batch, timers::Timer};
use crate::error::Refusal;

/// Kills that are repeated in one millisecond: calls wait in a queue that has an end.
const REPEATS_PER_MS: u64 = 25;

impl Core {
    /// Tells the instance's task to end, and again after a while until it has.
    pub(super) fn kill(&mut self, id: &str) {
        let Some(instance) = self.instances.get(id) else { return };
        if instance.task_id.is_empty() {
            return;
        }
        let (task_id, agent_id) = (instance.task_id.clone(), instance.agent_id.clone());
        if instance.started_at_ms != 0 {
            // Load balancers let go of it first.
            self.out.delta.leaving_instances.push(id.to_owned());
        }
        let again = self.now.saturating_add(self.settings.args.kill_retry_timeout_ms);
        self.kill_again(id, again);
        self.kill_task(&task_id, Some(&agent_id));
    }

    /// The task is told to end again at this time, and at no other.
    pub(super) fn kill_again(&mut self, id: &str, at_ms: u64) {
        self.kills.insert(id.to_owned(), at_ms);
        self.timers.set(at_ms, Timer::Kill(id.to_owned()));
    }

    /// All tasks that were told to end are told again, from `from_ms` on.
    pub(super) fn repeat_kills(&mut self, from_ms: u64) {
        let ids: Vec<String> = self.kills.keys().cloned().collect();
        for (count, id) in (0u64..).zip(ids) {
            self.kill_again(&id, from_ms.saturating_add(count / REPEATS_PER_MS));
        }
    }

    pub(super) fn kill_due(&mut self, id: &str) {
        // Else it ended, or it was told again since, and another timer is set.
        if self.kills.get(id).is_some_and(|due| *due <= self.now) {
            self.kill(id);
        }
    }

    /// The call alone. Without a connection it is left out: subscribing repeats all kills.
    pub(super) fn kill_task(&mut self, task_id: &str, agent_id: Option<&str>) {
        if !self.connected {
            return;
        }
        let mut call = self.call(call::Type::Kill);
        call.kill = Some(call::Kill {
            task_id: pb::TaskId { value: task_id.to_owned() },
            agent_id: agent_id.map(|id| pb::AgentId { value: id.to_owned() }),
            kill_policy: None,
        });
        // After what was stored so far: the launch of this very task may still be waiting for that.
        self.out.after.push(After::Call(call));
    }

    /// Plain kill, wipe, or kill and scale.
    pub(super) fn kill_tasks(
        &mut self,
        request: &KillTasksRequest,
        traceparent: &str,
    ) -> Result<KillTasksResponse, Refusal> {
        if request.scale && request.wipe {
            return Err(Refusal::BadRequest("You cannot use scale and wipe at the same time.".to_owned()));
        }
        let ids = self.selected(request)?;
        let instances = ids.iter().filter_map(|id| self.instances.get(id).cloned()).collect();
        let mut response = KillTasksResponse { instances, deployment: None, revision: 0 };
        if request.scale {
            response.deployment = self.kill_and_scale(&ids, request.force, traceparent)?;
            return Ok(response);
        }
        for id in ids {
            let lost = self.instances.get(&id).is_some_and(|instance| {
                matches!(instance.condition(), Condition::Unreachable | Condition::UnreachableInactive)
            });
            self.asking.fresh = true;
            if request.wipe || lost { self.decommission(&id) } else { self.kill(&id) }
        }
        Ok(response)
    }

    /// Instances with a task that the request means.
    fn selected(&self, request: &KillTasksRequest) -> Result<Vec<String>, Refusal> {
        let candidates: Vec<String> =
            if let (true, Some(app_id)) = (request.task_ids.is_empty(), request.app_id.as_deref()) {
                let state = self.apps.get(app_id).filter(|state| state.spec.is_some());
                state.ok_or_else(|| Refusal::NoApp(app_id.to_owned()))?.members.ids()
            } else {
                if let Some(app_id) = &request.app_id {
                    self.spec(app_id)?;
                }
                let mut ids = Vec::new();
                for text in &request.task_ids {
                    let name = TaskName::of(&TaskId::new(text.as_str())).ok_or_else(|| {
                        Refusal::BadRequest(format!(
                            "Invalid task id '{text}'. [taskId {text} no valid identifier]"
                        ))
                    })?;
                    let id = name.instance.as_str().to_owned();
                    if self.instances.get(&id).is_some_and(|instance| instance.task_id == *text) {
                        ids.push(id);
                    }
                }
                ids
            };
        let wanted = |instance: &Instance| {
            let on_host = request.host.as_deref().is_none_or(|host| host == "*" || host == instance.host);
            let of_app = request.app_id.as_deref().is_none_or(|app_id| app_id == instance.app_id);
            !instance.task_id.is_empty() && on_host && of_app
        };
        let unique: BTreeSet<String> = candidates.into_iter().collect();
        Ok(unique.into_iter().filter(|id| self.instances.get(id).is_some_and(wanted)).collect())
    }

    fn kill_and_scale(
        &mut self,
        ids: &[String],
        force: bool,
        traceparent: &str,
    ) -> Result<Option<meshos_proto::meshos::apps::v1::ChangeResponse>, Refusal> {
        let mut by_app: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in ids {
            if let Some(instance) = self.instances.get(id) {
                by_app.entry(instance.app_id.clone()).or_default().push(id.clone());
            }
        }
        let mut edits = Vec::new();
        for (app_id, kill) in by_app {
            let Ok(spec) = self.spec(&app_id) else { continue };
            let fewer = spec.instances.saturating_sub(u32::try_from(kill.len()).unwrap_or(u32::MAX));
            let new = App { instances: fewer, ..(*spec).clone() };
            edits.push(Edit { id: app_id, new: Some(new), kill, restart: false });
        }
        if edits.is_empty() {
            return Ok(None);
        }
        let named: Vec<String> = edits.iter().flat_map(|edit| edit.kill.clone()).collect();
        let response = self.change(Batch::of(edits, force), traceparent)?;
        for id in named {
            self.decommission(&id);
        }
        Ok(Some(response))
    }
}
