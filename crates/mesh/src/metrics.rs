//! Prometheus metrics, handed down; nothing is registered globally.

use prometheus::{Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Registry, TextEncoder};
use tracing::error;

/// A registry that services register into; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter. A name that exists already gives an unregistered one, and a log line: metrics never stop a
    /// service.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        let metric = IntCounter::new(name, help);
        self.keep(name, metric, || IntCounter::new("invalid", "invalid"))
    }

    /// A whole-number gauge.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(name, IntGauge::new(name, help), || IntGauge::new("invalid", "invalid"))
    }

    /// A gauge of any number.
    #[must_use]
    pub fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.keep(name, Gauge::new(name, help), || Gauge::new("invalid", "invalid"))
    }

    /// A histogram of seconds with these bucket bounds.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = |name: &str| HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = Histogram::with_opts(options(name));
        self.keep(name, metric, || Histogram::with_opts(options("invalid")))
    }

    fn keep<M>(
        &self,
        name: &str,
        metric: prometheus::Result<M>,
        fallback: impl Fn() -> prometheus::Result<M>,
    ) -> M
    where
        M: prometheus::core::Collector + Clone + 'static,
    {
        let metric = metric.or_else(|error| {
            error!(metric = name, %error, "metric is not valid");
            fallback()
        });
        #[allow(clippy::expect_used)]
        let metric = metric.expect("the fallback's name and buckets are constants");
        if let Err(error) = self.registry.register(Box::new(metric.clone())) {
            error!(metric = name, %error, "metric is not registered");
        }
        metric
    }

    /// All metrics in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            error!(%error, "metrics cannot be rendered");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}
