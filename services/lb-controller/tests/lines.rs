//! The conformance lines of the load balancer's reference: a real HAProxy and real requests; the test plays the
//! app-scheduler and the tasks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "lines/bad.rs"]
mod bad;
#[path = "lines/changes.rs"]
mod changes;
#[path = "lines/client.rs"]
mod client;
#[path = "lines/failures.rs"]
mod failures;
#[path = "lines/figures.rs"]
mod figures;
#[path = "lines/labels.rs"]
mod labels;
#[path = "../../../crates/testing/src/ports.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of all services")]
mod ports;
#[path = "lines/rights.rs"]
mod rights;
#[path = "lines/routing.rs"]
mod routing;
#[path = "lines/scene.rs"]
mod scene;
#[path = "lines/scheduler.rs"]
mod scheduler;
#[path = "lines/tasks.rs"]
mod tasks;
#[path = "lines/tls.rs"]
mod tls;
