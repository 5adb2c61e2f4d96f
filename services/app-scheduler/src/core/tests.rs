//! The core against a small cluster without any I/O.

mod cluster;
mod conformance;
mod containers;
mod courses;
mod judged;
mod large;
mod more;
mod random;
mod roles;
