//! HAProxy as a program: its files, its sockets, its process.

pub mod certs;
pub mod check;
pub mod files;
pub mod ports;
pub mod process;
pub mod socket;
pub mod workers;
