//! Pages of other origins, when `--access_control_allow_origin` lets them read.

use http::{HeaderName, Method, StatusCode, header};

use crate::http::{Reply, Request};

/// How long a browser may remember the answer.
const MAX_AGE: &str = "86400";

/// Which origins may read.
#[derive(Clone, Debug, Default)]
pub(super) struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// From a list with commas; none: no page may.
    pub(super) fn new(origins: Option<String>) -> Self {
        let list = origins.unwrap_or_default();
        let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        Self { origins: origins.map(str::to_owned).collect() }
    }

    /// As `/v2/info` shows it.
    pub(super) fn shown(&self) -> Option<&[String]> {
        (!self.origins.is_empty()).then_some(self.origins.as_slice())
    }

    /// The answer to a browser that asks before it reads.
    pub(super) fn preflight(&self, request: &Request) -> Option<Reply> {
        let asked = request.method == Method::OPTIONS && !self.origins.is_empty();
        asked.then(|| Reply::empty(StatusCode::OK))
    }

    /// Adds what lets the page read the reply.
    pub(super) fn allow(&self, reply: Reply, request: &Request) -> Reply {
        let asked = request.header(header::ORIGIN.as_str());
        // A browser takes one origin only: the page's own where it is listed.
        let own = self.origins.iter().find(|origin| Some(origin.as_str()) == asked);
        let Some(origin) = own.or(self.origins.first()) else { return reply };
        let wanted = HeaderName::from_static("access-control-request-headers");
        let headers = request.header(wanted.as_str()).unwrap_or_default();
        let reply = reply
            .set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS")
            .set(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if headers.is_empty() { reply } else { reply.set(header::ACCESS_CONTROL_ALLOW_HEADERS, headers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(cors: &Cors, from: &str) -> Option<String> {
        let request = Request::test("GET", "/v2/apps", "").with("origin", from);
        let reply = cors.allow(Reply::empty(StatusCode::OK), &request);
        reply.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_listed_origins_may_read() {
        let cors = Cors::new(Some("http://a, http://b".to_owned()));
        assert_eq!(origin(&cors, "http://b").as_deref(), Some("http://b"));
        assert_eq!(origin(&cors, "http://c").as_deref(), Some("http://a"));
        assert_eq!(origin(&Cors::new(None), "http://a"), None);
        assert!(cors.preflight(&Request::test("OPTIONS", "/v2/apps", "")).is_some());
        assert!(Cors::new(None).preflight(&Request::test("OPTIONS", "/v2/apps", "")).is_none());
    }
}
