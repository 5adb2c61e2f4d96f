//! Prometheus metrics of the allocator. Those under Mesos's names come from [`crate::core::Core::metrics`].

use meshos_mesh::Metrics;
use prometheus::{IntCounter, IntGauge};

/// Gauges of the present term.
#[derive(Clone, Debug)]
pub struct AllocatorMetrics {
    pub leading: IntGauge,
    pub agents: IntGauge,
    pub frameworks: IntGauge,
    pub offers: IntGauge,
    pub running_tasks: IntGauge,
    pub turns: IntCounter,
}

impl AllocatorMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            leading: metrics.gauge("meshos_allocator_leading", "1 while this replica leads"),
            agents: metrics.gauge("meshos_allocator_linked_agents", "Agents with an open link"),
            frameworks: metrics
                .gauge("meshos_allocator_connected_frameworks", "Frameworks with an open stream"),
            offers: metrics.gauge("meshos_allocator_outstanding_offers", "Offers that wait for an answer"),
            running_tasks: metrics.gauge("meshos_allocator_running_tasks", "Tasks in the state TASK_RUNNING"),
            turns: metrics.counter("meshos_allocator_turns_total", "Turns of the owner's loop"),
        }
    }
}
