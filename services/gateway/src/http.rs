//! What both HTTP APIs share: connections, requests, replies.

pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod server;
mod stall;
pub(crate) mod stream;

pub(crate) use query::Query;
pub(crate) use reply::Reply;
pub(crate) use request::{BodyError, Request};
pub(crate) use server::{Api, serve};
