//! Spans that continue the traces of the requests.

use std::collections::BTreeMap;

use meshos_mesh::trace;
use meshos_proto::meshos::apps::v1::Delta;
use tracing::{Span, info_span};

use crate::core::CameUp;

/// One open span for each deployment that runs.
#[derive(Debug, Default)]
pub(super) struct Deployments(BTreeMap<String, Span>);

impl Deployments {
    pub(super) fn apply(&mut self, delta: &Delta) {
        for deployment in &delta.deployments {
            self.0.entry(deployment.id.clone()).or_insert_with(|| {
                let span =
                    info_span!("deployment", deployment_id = deployment.id, apps = ?deployment.affected_apps);
                trace::set_parent(&span, &deployment.traceparent);
                span
            });
        }
        for id in &delta.removed_deployments {
            self.0.remove(id);
        }
    }
}

/// A span for each request that gets tasks from this launch; the call itself belongs to the first.
pub(super) fn launch(tasks: &[(String, String)]) -> Vec<Span> {
    let mut by_parent: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for (task_id, traceparent) in tasks {
        by_parent.entry(traceparent).or_insert((task_id, 0)).1 += 1;
    }
    let span = |(parent, (task_id, count)): (&str, (&str, usize))| {
        let span = info_span!("launch", task_id, tasks = count);
        trace::set_parent(&span, parent);
        span
    };
    by_parent.into_iter().map(span).collect()
}

/// A span without length: the task runs.
pub(super) fn task_running(task: &CameUp) {
    let span = info_span!("task running", app_id = task.app_id, task_id = task.task_id);
    trace::set_parent(&span, &task.traceparent);
    let _entered = span.enter();
    tracing::debug!(task_id = task.task_id, "task runs");
}
