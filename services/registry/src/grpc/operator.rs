//! What operators do with agents.

use meshos_proto::meshos::registry::v1::{
    MarkAgentGoneRequest, MarkAgentGoneResponse, registry_operator_server::RegistryOperator,
};
use tonic::{Request, Response, Status};

use super::Grpc;

#[tonic::async_trait]
impl RegistryOperator for Grpc {
    async fn mark_agent_gone(
        &self,
        request: Request<MarkAgentGoneRequest>,
    ) -> Result<Response<MarkAgentGoneResponse>, Status> {
        self.check_listed()?;
        self.roll.mark_gone(&request.into_inner().agent_id).await?;
        Ok(Response::new(MarkAgentGoneResponse {}))
    }
}
