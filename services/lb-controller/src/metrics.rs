//! Metrics of the controller.

use prometheus::{Histogram, IntCounter, IntGauge};

/// What this controller follows, and what it does with HAProxy.
#[derive(Clone, Debug)]
pub struct LbMetrics {
    pub apps: IntGauge,
    pub instances: IntGauge,
    pub services: IntGauge,
    pub problems: IntGauge,
    pub following: IntGauge,
    pub reloads: IntCounter,
    pub failed_reloads: IntCounter,
    pub reload_seconds: Histogram,
    pub commands: IntCounter,
    pub complaints: IntCounter,
    pub repairs: IntCounter,
    pub restarts: IntCounter,
    pub change_seconds: Histogram,
}

impl LbMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &meshos_mesh::Metrics) -> Self {
        const SECONDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
        Self {
            apps: metrics.gauge("meshos_lb_apps", "Apps that the load balancer's controller knows"),
            instances: metrics
                .gauge("meshos_lb_instances", "Instances that the load balancer's controller knows"),
            services: metrics.gauge("meshos_lb_services", "Service ports that are published"),
            problems: metrics
                .gauge("meshos_lb_problems", "Things that apps ask for in their labels and do not get"),
            following: metrics.gauge(
                "meshos_lb_following",
                "1 while the app-scheduler is followed, 0 while the table is stale",
            ),
            reloads: metrics.counter("meshos_lb_reloads_total", "Reloads of HAProxy"),
            failed_reloads: metrics
                .counter("meshos_lb_failed_reloads_total", "Reloads that HAProxy did not carry out"),
            reload_seconds: metrics.histogram(
                "meshos_lb_reload_seconds",
                "From the request for a reload until the new worker runs",
                &SECONDS,
            ),
            commands: metrics.counter("meshos_lb_commands_total", "Commands given to HAProxy while it ran"),
            complaints: metrics
                .counter("meshos_lb_refused_commands_total", "Commands that HAProxy did not carry out"),
            repairs: metrics.counter(
                "meshos_lb_repairs_total",
                "Differences between HAProxy and the table that were found and repaired",
            ),
            restarts: metrics.counter("meshos_lb_haproxy_restarts_total", "Starts of HAProxy after it died"),
            change_seconds: metrics.histogram(
                "meshos_lb_change_seconds",
                "From a change of tasks until HAProxy has it",
                &SECONDS,
            ),
        }
    }
}
