//! What both HTTP APIs share: connections, requests, replies.

mod gzip;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod server;
mod stall;
pub(crate) mod stream;

use tokio::runtime::{Handle, RuntimeFlavor};

pub(crate) use query::Query;
pub(crate) use reply::Reply;
pub(crate) use request::{BodyError, Request};
pub(crate) use server::{Api, serve};

/// Runs work that takes a while where it does not hold up other requests, as far as the runtime has such a place.
pub(crate) fn apart<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
