//! Apps that come as images, through the Docker Engine and without it: `meshos local`, a registry that wants a
//! password, and what users of the originals post.
//!
//! Needs a Docker engine, Debian's docker-registry and apache2-utils, and for the parts without Docker root and CNI
//! plugins; scripts/setup sees to them. `MESHOS_TEST_SKIP_DOCKER=1` leaves the tests out and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod docker;
mod engine;
mod examples;
#[path = "../lb/load.rs"]
mod load;
mod mesos;
mod registry;
mod same;
