//! Metrics of the registry.

use prometheus::{IntCounter, IntGauge};

/// Counted by one replica.
#[derive(Clone, Debug)]
pub struct RegistryMetrics {
    pub sessions: IntGauge,
    pub registrations: IntCounter,
    pub unreachable: IntCounter,
    pub forgotten: IntCounter,
}

impl RegistryMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &meshos_mesh::Metrics) -> Self {
        Self {
            sessions: metrics.gauge("meshos_registry_sessions", "Agent sessions that this replica holds"),
            registrations: metrics
                .counter("meshos_registry_registrations_total", "Sessions that agents opened"),
            unreachable: metrics.counter(
                "meshos_registry_unreachable_total",
                "Agents that this replica declared unreachable",
            ),
            forgotten: metrics.counter(
                "meshos_registry_forgotten_total",
                "Unreachable, gone and removed agents that this replica forgot",
            ),
        }
    }
}
