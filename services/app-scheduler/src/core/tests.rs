//! The core against a small cluster without any I/O.

mod cluster;
mod conformance;
mod courses;
mod judged;
mod more;
mod random;
