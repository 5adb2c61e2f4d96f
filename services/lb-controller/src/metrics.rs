//! Metrics of the controller.

use prometheus::IntGauge;

/// What this controller follows.
#[derive(Clone, Debug)]
pub struct LbMetrics {
    pub apps: IntGauge,
    pub instances: IntGauge,
}

impl LbMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &meshos_mesh::Metrics) -> Self {
        Self {
            apps: metrics.gauge("meshos_lb_apps", "Apps that the load balancer's controller knows"),
            instances: metrics
                .gauge("meshos_lb_instances", "Instances that the load balancer's controller knows"),
        }
    }
}
