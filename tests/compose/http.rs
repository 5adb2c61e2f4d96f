//! Requests to an address of the project.

use std::io;

use meshos_testing::Http;
use serde_json::Value;

pub(crate) use meshos_testing::Response as Answer;

/// GET without a body.
pub(crate) fn get(address: &str, path: &str) -> io::Result<Answer> {
    Http::new(address).get(path)
}

/// A request with a JSON body; none when it is null.
pub(crate) fn send(address: &str, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
    let http = Http::new(address);
    if body.is_null() { http.send(method, path, &[], b"") } else { http.json(method, path, body) }
}
