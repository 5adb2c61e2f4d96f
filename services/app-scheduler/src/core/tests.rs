//! The core against a small cluster without any I/O.

mod cluster;
mod conformance;
mod more;
mod random;
