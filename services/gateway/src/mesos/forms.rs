//! Endpoints that change something and take a form or JSON: `/teardown`, `/reserve`, `/quota`, `/weights` and such.

use bytes::Bytes;
use http::Method;
use meshos_proto::{
    json::{self, from_json, to_json},
    mesos::v1::{AgentId, Resource, WeightInfo, quota::QuotaRequest},
};
use serde_json::Value;

use super::{Mesos, bad_body, call::refuse, no_leader, routes::Route, settings, writes::Change};
use crate::http::{Query, Reply, Request, query::percent_decode};

impl Mesos {
    /// An endpoint that takes a form.
    pub(super) async fn form(&self, route: Route, request: &Request) -> Reply {
        match self.try_form(route, request).await {
            Ok(reply) => reply,
            Err(refused) => *refused,
        }
    }

    async fn try_form(&self, route: Route, request: &Request) -> Result<Reply, Box<Reply>> {
        let form = Form(Query::parse(&String::from_utf8_lossy(body(request)?)));
        if route == Route::Teardown {
            return Ok(self.tear_down(form.get("frameworkId")?).await);
        }
        let agent = AgentId { value: form.get("slaveId")?.to_owned() };
        let change = match route {
            Route::Reserve => {
                let resources = form.resources("resources", "Error parsing")?;
                let given = form.0.get("source").is_some();
                let source = if given { form.resources("source", "Error parsing")? } else { Vec::new() };
                Change::Reserve { resources, source }
            }
            Route::Unreserve => Change::Unreserve(form.resources("resources", "Error in parsing")?),
            Route::CreateVolumes => Change::Create(form.resources("volumes", "Error in parsing")?),
            _ => Change::Destroy(form.resources("volumes", "Error in parsing")?),
        };
        Ok(self.apply(agent, change).await)
    }

    /// `/weights`
    pub(super) async fn weights(&self, request: &Request) -> Reply {
        if *request.verb() == Method::GET {
            let weights = self.cluster.read(settings::weights);
            return weights.map_or_else(no_leader, |list| Reply::json(&list.iter().map(to_json).collect()));
        }
        match body(request).and_then(|body| weights(body).map_err(refuse)) {
            Ok(weights) => self.update_weights(weights).await,
            Err(refused) => *refused,
        }
    }

    /// `/quota` and `/quota/<role>`
    pub(super) async fn quota(&self, request: &Request) -> Reply {
        match *request.verb() {
            Method::GET => {
                let quota = self.cluster.read(settings::quota);
                quota.map_or_else(no_leader, |quota| Reply::json(&to_json(&quota)))
            }
            Method::DELETE => {
                let role = Route::quota_role(&request.path).map(percent_decode);
                let at = format!("Failed to remove quota for path '{}'", request.path);
                match role {
                    Some(role) => self.remove_quota(&role, &at).await,
                    None => *refuse(format!("{at}: expected a role, found none")),
                }
            }
            _ => match body(request).and_then(|body| quota_request(body).map_err(refuse)) {
                Ok(wanted) => self.set_quota(&wanted).await,
                Err(refused) => *refused,
            },
        }
    }
}

/// A form's fields, with the refusals that Mesos has for absent ones.
struct Form(Query);

impl Form {
    fn get(&self, name: &str) -> Result<&str, Box<Reply>> {
        let missing = || refuse(format!("Missing '{name}' query parameter in the request body"));
        self.0.get(name).ok_or_else(missing)
    }

    /// A JSON array of resources; `failed` begins the text of a refusal.
    fn resources(&self, name: &str, failed: &str) -> Result<Vec<Resource>, Box<Reply>> {
        let text = self.get(name)?;
        let read = || -> Result<Vec<Resource>, String> {
            let value = json::parse(text.as_bytes()).map_err(|error| error.to_string())?;
            let list = value.as_array().ok_or("Unexpected JSON type parsed: an array was expected")?;
            list.iter().map(|item| from_json(item).map_err(|error| error.to_string())).collect()
        };
        read().map_err(|why| refuse(format!("{failed} '{name}' query parameter in the request body: {why}")))
    }
}

fn body(request: &Request) -> Result<&Bytes, Box<Reply>> {
    request.body.as_ref().map_err(|error| Box::new(bad_body(*error)))
}

fn weights(body: &[u8]) -> Result<Vec<WeightInfo>, String> {
    let shown = String::from_utf8_lossy(body).into_owned();
    let unread = |why: String| format!("Failed to parse update weights request JSON ('{shown}'): {why}");
    let value = json::parse(body).map_err(|error| unread(error.to_string()))?;
    let list = value.as_array().ok_or_else(|| unread("an array was expected".to_owned()))?;
    list.iter()
        .map(from_json)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("Failed to convert weights JSON array to protobuf ('{shown}'): {error}"))
}

fn quota_request(body: &[u8]) -> Result<QuotaRequest, String> {
    let failed = |why: String| {
        format!("Failed to parse set quota request JSON '{}': {why}", String::from_utf8_lossy(body))
    };
    let value: Value = json::parse(body).map_err(|error| failed(error.to_string()))?;
    from_json(&value).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        Form(Query::parse(text))
    }

    #[test]
    fn absent_and_broken_fields_are_named_as_mesos_names_them() {
        let missing = form("a=b").get("slaveId").unwrap_err();
        assert_eq!(missing.body_text(), "Missing 'slaveId' query parameter in the request body");
        let broken = form("resources=[").resources("resources", "Error parsing").unwrap_err();
        let text = broken.body_text();
        assert!(
            text.starts_with("Error parsing 'resources' query parameter in the request body: "),
            "{text}"
        );
        let broken = form("volumes={}").resources("volumes", "Error in parsing").unwrap_err();
        assert_eq!(broken.status, 400);
        let cpus = "resources=[{\"name\":\"cpus\",\"type\":\"SCALAR\",\"scalar\":{\"value\":1}}]";
        assert_eq!(form(cpus).resources("resources", "").unwrap()[0].name, "cpus");
    }

    #[test]
    fn weights_are_an_array() {
        assert_eq!(weights(br#"[{"role":"a","weight":2}]"#).unwrap()[0].weight, 2.0);
        assert!(weights(br#"{"role":"a"}"#).unwrap_err().starts_with("Failed to parse update weights"));
        assert!(weights(br#"[{"role":"a"}]"#).unwrap_err().starts_with("Failed to convert weights"));
    }

    proptest::proptest! {
        /// Whatever a form or body holds, it is read or refused.
        #[test]
        fn any_form_is_read_or_refused(text: String, bytes: Vec<u8>) {
            let whole = format!("slaveId=a&resources={text}");
            for form in [form(&text), form(&whole)] {
                if let Err(reply) = form.resources("resources", "Error parsing") {
                    proptest::prop_assert_eq!(reply.status.as_u16(), 400);
                }
            }
            let _ = (weights(&bytes), weights(text.as_bytes()), quota_request(&bytes));
        }

        #[test]
        fn what_is_encoded_is_decoded(pairs: Vec<(String, String)>) {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let pairs: Vec<_> = pairs.into_iter().filter(|(name, _)| !name.is_empty()).collect();
            let text: Vec<_> = pairs.iter().map(|(a, b)| format!("{}={}", encode(a), encode(b))).collect();
            let query = Query::parse(&text.join("&"));
            for (name, _) in &pairs {
                let wanted: Vec<_> = pairs.iter().filter(|(other, _)| other == name).map(|(_, v)| v.as_str()).collect();
                proptest::prop_assert_eq!(query.all(name).collect::<Vec<_>>(), wanted);
            }
        }

        #[test]
        fn any_path_has_a_route_or_none(path in "[ -~]{0,60}") {
            let _ = (Route::of(&path), Route::quota_role(&path).map(percent_decode), Route::help_topic(&path));
            let _ = crate::mesos::help::help(&path, &Query::parse(&path));
        }
    }
}
