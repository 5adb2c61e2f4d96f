//! MARK_AGENT_GONE: the registry decides, and the view shows it a moment later.

use http::StatusCode;
use meshos_proto::meshos::registry::v1::{
    MarkAgentGoneRequest, registry_operator_client::RegistryOperatorClient,
};
use tonic::Code;
use tracing::debug;

use super::{Mesos, OWN_WRITE, no_leader, refusal};
use crate::{client::CallError, http::Reply, views::Cluster};

impl Mesos {
    pub(super) async fn mark_agent_gone(&self, id: &str) -> Reply {
        if self.cluster.read(|_| ()).is_none() {
            return no_leader();
        }
        let called = self.registry.call(|channel| {
            let request = MarkAgentGoneRequest { agent_id: id.to_owned() };
            async move { RegistryOperatorClient::new(channel).mark_agent_gone(request).await }
        });
        match called.await {
            Ok(_) => {
                let shows = |cluster: &Cluster| cluster.agents.get(id).is_none_or(|agent| agent.gone);
                if !self.cluster.wait_until(shows, OWN_WRITE).await {
                    debug!(agent_id = id, "answered before the view shows that the agent is gone");
                }
                Reply::empty(StatusCode::OK)
            }
            Err(status) if status.code() == Code::NotFound => {
                Reply::text(StatusCode::NOT_FOUND, status.message())
            }
            Err(status) => refusal(&CallError::Refused(Box::new(status))),
        }
    }
}
