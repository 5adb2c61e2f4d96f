//! `GET /api/meshos/v1/explain`: why a framework or a role got no offers.

use http::StatusCode;
use meshos_proto::meshos::allocator::v1::{
    ExplainRequest, Explanation, explain_request::Subject, operator_client::OperatorClient,
};
use serde_json::{Value, json};
use tonic::Code;

use super::{Mesos, refusal};
use crate::{
    client::{CallError, Repeat},
    http::{Query, Reply},
};

impl Mesos {
    pub(super) async fn explain(&self, query: &Query) -> Reply {
        let subject = match (query.get("framework"), query.get("role")) {
            (Some(id), None) => Subject::FrameworkId(id.to_owned()),
            (None, Some(role)) => Subject::Role(role.to_owned()),
            _ => {
                let text = "Expecting either 'framework=<id>' or 'role=<name>' in query.";
                return Reply::text(StatusCode::BAD_REQUEST, text);
            }
        };
        let request = ExplainRequest { subject: Some(subject) };
        let called = self.allocator.call(Repeat::Safe, |channel| {
            let request = request.clone();
            async move { OperatorClient::new(channel).explain(request).await }
        });
        match called.await {
            Ok(answer) => {
                let explanations: Value = answer.into_inner().explanations.iter().map(shown).collect();
                Reply::json(&json!({"explanations": explanations}))
            }
            Err(CallError::Refused(status)) if status.code() == Code::NotFound => {
                Reply::text(StatusCode::NOT_FOUND, status.message())
            }
            Err(error) => refusal(&error),
        }
    }
}

fn shown(explanation: &Explanation) -> Value {
    json!({
        "framework_id": explanation.framework_id,
        "role": explanation.role,
        "suppressed": explanation.suppressed,
        "offered": explanation.offered,
        "refusals": explanation.refusals,
        "dominant_share": explanation.dominant_share,
    })
}
