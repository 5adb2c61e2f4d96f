//! Containers of a real Docker Engine: the conformance suite, their output, what they leave behind. Needs an engine
//! (`scripts/docker-engine start`) and `debian:bookworm-slim` (`scripts/base-image`); `MESHOS_TEST_SKIP_DOCKER=1` leaves
//! these tests out.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test of the real machine")]

mod engine;
mod output;
#[path = "../../../../crates/testing/src/ports.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests of all services")]
mod ports;
mod pulls;
#[path = "../images/registry.rs"]
#[allow(dead_code, clippy::expect_used, clippy::print_stdout, reason = "shared with the tests of images")]
mod registry;
mod restarts;
mod runs;
