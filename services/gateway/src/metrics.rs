//! What the gateway counts.

use std::time::Duration;

use meshos_mesh::{Env, Metrics};
use prometheus::{Histogram, IntCounter, IntGauge};
use tokio::time::Instant;

/// Seconds; most reads take less than a millisecond, a write waits for the store.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Metrics of one HTTP API.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    api: &'static str,
    requests: IntCounter,
    refused: IntCounter,
    failed: IntCounter,
    active: IntGauge,
    duration: Histogram,
}

impl HttpMetrics {
    /// `api` is part of the names: `mesos`, `marathon`.
    pub(crate) fn new(metrics: &Metrics, api: &'static str) -> Self {
        let name = |rest: &str| format!("meshos_gateway_{api}_{rest}");
        Self {
            api,
            requests: metrics.counter(&name("requests_total"), "Requests answered"),
            refused: metrics.counter(&name("refused_total"), "Requests answered with a status of 400 to 499"),
            failed: metrics.counter(&name("failed_total"), "Requests answered with a status of 500 or more"),
            active: metrics.gauge(&name("active_requests"), "Requests being answered"),
            duration: metrics.histogram(
                &name("duration_seconds"),
                "Time to the head of the answer",
                &BUCKETS,
            ),
        }
    }

    /// Which API it is.
    pub(crate) fn api(&self) -> &'static str {
        self.api
    }

    /// Requests that are being answered.
    pub(crate) fn active(&self) -> IntGauge {
        self.active.clone()
    }

    /// A request begins.
    pub(crate) fn begin(&self) -> Pending<'_> {
        self.active.inc();
        Pending { metrics: self, since: Instant::now() }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    metrics: &'a HttpMetrics,
    since: Instant,
}

impl Pending<'_> {
    /// It was answered with this status.
    pub(crate) fn answered(self, status: u16) {
        self.metrics.requests.inc();
        match status {
            400..500 => self.metrics.refused.inc(),
            500.. => self.metrics.failed.inc(),
            _ => {}
        }
        let taken: Duration = self.since.elapsed();
        self.metrics.duration.observe(taken.as_secs_f64());
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.metrics.active.dec();
    }
}

/// Open event streams of frameworks.
pub(crate) fn event_streams(env: &Env) -> IntGauge {
    env.metrics.gauge("meshos_gateway_event_streams", "Open event streams of frameworks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_outcome() {
        let metrics = Metrics::new();
        let http = HttpMetrics::new(&metrics, "mesos");
        http.begin().answered(200);
        http.begin().answered(404);
        http.begin().answered(503);
        drop(http.begin());
        let text = metrics.render();
        for line in [
            "meshos_gateway_mesos_requests_total 3",
            "meshos_gateway_mesos_refused_total 1",
            "meshos_gateway_mesos_failed_total 1",
            "meshos_gateway_mesos_active_requests 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
