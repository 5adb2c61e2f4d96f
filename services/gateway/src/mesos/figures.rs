//! Metrics: the leader's counters beside what the view holds, as Mesos's JSON and as Prometheus's text.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use meshos_mesh::config::parse_duration;
use meshos_proto::meshos::allocator::v1::{MetricsRequest, operator_client::OperatorClient};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{
    Mesos,
    snapshot::{self, Metrics},
    system,
};
use crate::{
    client::Repeat,
    http::{Query, Reply},
};

/// The leader is asked at most twice a second, as Mesos answers at most twice a second.
const KEPT: Duration = Duration::from_millis(500);
/// Metrics are answered without the leader's when it takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The leader's metrics, and since when they are known.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Instant, Arc<Metrics>)>>);

impl Kept {
    fn fresh(&self) -> Option<Arc<Metrics>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(since, _)| since.elapsed() < KEPT).map(|(_, metrics)| Arc::clone(metrics))
    }

    fn keep(&self, metrics: Arc<Metrics>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), metrics));
    }
}

impl Mesos {
    /// `GET /metrics/snapshot`
    pub(super) async fn metrics_snapshot(&self, query: &Query) -> Reply {
        match query.get("timeout").map(|text| (text, parse_duration(text))) {
            Some((text, Err(why))) => {
                Reply::text(StatusCode::BAD_REQUEST, format!("Invalid timeout '{text}': {why}.\n"))
            }
            Some((_, Ok(timeout))) => Reply::json(&self.metrics(timeout.min(PATIENCE)).await),
            None => Reply::json(&self.metrics(PATIENCE).await),
        }
    }

    /// All metrics; those of the cluster only once it is known, those of the leader only if they come within
    /// `patience`.
    pub(super) async fn metrics(&self, patience: Duration) -> Value {
        let uptime = (self.env.clock.unix_ms().saturating_sub(self.started_ms)) as f64 / 1000.0;
        let mut cluster = self.cluster.read(snapshot::of_cluster);
        if let Some(metrics) = &mut cluster {
            let leader = self.leader_metrics(patience).await;
            snapshot::merge(metrics, &leader);
            let mut own = |name: &str, value: f64| metrics.insert(format!("master/{name}"), value);
            own("operator_event_stream_subscribers", self.subscribers.count() as f64);
            own("http_cache_hits", self.documents.hits() as f64);
            own("event_queue_http_requests", self.requests.get() as f64);
        }
        snapshot::snapshot(cluster, uptime, &system::stats())
    }

    async fn leader_metrics(&self, patience: Duration) -> Arc<Metrics> {
        if let Some(kept) = self.leader_metrics.fresh() {
            return kept;
        }
        let called = self.allocator.call(Repeat::Safe, |channel| async move {
            OperatorClient::new(channel).metrics(MetricsRequest {}).await
        });
        match timeout(patience, called).await {
            Ok(Ok(answer)) => {
                let values = Arc::new(answer.into_inner().values);
                self.leader_metrics.keep(Arc::clone(&values));
                return values;
            }
            Ok(Err(error)) => tracing::debug!(%error, "metrics without the leader's"),
            Err(_) => tracing::debug!("metrics without the leader's: it was silent"),
        }
        Arc::default()
    }

    /// `GET /metrics`
    pub(super) async fn prometheus(&self) -> Reply {
        let mut text = self.env.metrics.render();
        text.push_str(&exposition(&self.metrics(PATIENCE).await));
        Reply::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }
}

/// A flat object as Prometheus's text; `master/tasks_running` becomes `mesos_master_tasks_running`.
fn exposition(metrics: &Value) -> String {
    let mut lines = BTreeMap::new();
    for (name, value) in metrics.as_object().into_iter().flatten() {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // Of two names that differ in signs only, the first stays.
        lines.entry(format!("mesos_{name}")).or_insert(value.as_f64().unwrap_or_default());
    }
    lines.iter().map(|(name, value)| format!("# TYPE {name} untyped\n{name} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_made_fit_for_prometheus() {
        let text = exposition(&json!({"master/tasks_running": 2.0, "a/b-c": 0.5, "a/b_c": 1.0}));
        let wanted = "# TYPE mesos_a_b_c untyped\nmesos_a_b_c 0.5\n\
                      # TYPE mesos_master_tasks_running untyped\nmesos_master_tasks_running 2\n";
        assert_eq!(text, wanted);
    }
}
