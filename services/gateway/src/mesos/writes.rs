//! What operators change: a call to the leading allocator, then a wait until the local view shows it, so that a
//! client reads its own writes.

use http::StatusCode;
use meshos_proto::{
    meshos::allocator::v1::{
        ApplyRequest, UpdateQuotaRequest, UpdateWeightsRequest, operator_client::OperatorClient,
    },
    mesos::v1::{
        AgentId, Resource, WeightInfo,
        offer::{
            Operation,
            operation::{Create, Destroy, GrowVolume, Reserve, ShrinkVolume, Type, Unreserve},
        },
        quota::{QuotaConfig, QuotaRequest},
    },
};

use tracing::debug;

use super::{Mesos, OWN_WRITE, no_leader, refusal, settings};
use crate::{
    client::{CallError, Repeat},
    http::Reply,
    views::{Cluster, Position, cluster::is_away},
};

impl Mesos {
    pub(super) async fn update_weights(&self, mut weights: Vec<WeightInfo>) -> Reply {
        if let Err(why) = settings::check_weights(&mut weights) {
            return bad_request(why);
        }
        let request = UpdateWeightsRequest { weights };
        let called = self.allocator.call(Repeat::Safe, |channel| {
            let request = request.clone();
            async move { OperatorClient::new(channel).update_weights(request).await }
        });
        let written = called.await.map(|answer| (answer.get_ref().epoch, answer.get_ref().revision));
        self.written(written, StatusCode::OK).await
    }

    pub(super) async fn update_quota(&self, configs: Vec<QuotaConfig>, force: bool) -> Reply {
        self.change_quota(UpdateQuotaRequest { configs, force, remove: Vec::new() }).await
    }

    /// The old way: refused when there is a quota already.
    pub(super) async fn set_quota(&self, request: &QuotaRequest) -> Reply {
        let config = match settings::from_request(request) {
            Ok(config) => config,
            Err(why) => return bad_request(why),
        };
        let force = request.force();
        let judged = self.cluster.read(|cluster| {
            let taken = settings::quota_of(cluster, &config.role).is_some();
            (taken, settings::overcommit(cluster, &config).filter(|_| !force))
        });
        match judged {
            None => no_leader(),
            Some((true, _)) => bad_request(format!(
                "Failed to validate set quota request: Cannot set quota for role '{}' which already has quota",
                config.role
            )),
            Some((false, Some(why))) => Reply::text(StatusCode::CONFLICT, why),
            Some((false, None)) => self.update_quota(vec![config], force).await,
        }
    }

    /// `at` says how the text begins when there is none: `Failed to remove quota`.
    pub(super) async fn remove_quota(&self, role: &str, at: &str) -> Reply {
        match self.cluster.read(|cluster| settings::quota_of(cluster, role).is_some()) {
            None => no_leader(),
            Some(false) => bad_request(format!("{at}: Role '{role}' has no quota set")),
            Some(true) => {
                let remove = vec![role.to_owned()];
                self.change_quota(UpdateQuotaRequest { remove, ..Default::default() }).await
            }
        }
    }

    async fn change_quota(&self, request: UpdateQuotaRequest) -> Reply {
        let called = self.allocator.call(Repeat::Safe, |channel| {
            let request = request.clone();
            async move { OperatorClient::new(channel).update_quota(request).await }
        });
        let written = called.await.map(|answer| (answer.get_ref().epoch, answer.get_ref().revision));
        self.written(written, StatusCode::OK).await
    }

    /// Changes reservations or volumes of one agent.
    pub(super) async fn apply(&self, agent_id: AgentId, change: Change) -> Reply {
        let known = |cluster: &Cluster| {
            let agent = cluster.agents.get(agent_id.value.as_str());
            agent.is_some_and(|agent| !agent.recovered && !is_away(agent))
        };
        match self.cluster.read(known) {
            None => return no_leader(),
            Some(false) => return bad_request("No agent found with specified ID".to_owned()),
            Some(true) => {}
        }
        let source = change.source();
        let operation = Some(change.operation());
        let request = Box::new(ApplyRequest { agent_id: Some(agent_id), operation, source });
        let called = self.allocator.call(Repeat::Unsafe, |channel| {
            let request = request.clone();
            // Boxed, like the request: an operation is a large message.
            async move { Box::pin(OperatorClient::new(channel).apply(*request)).await }
        });
        let written = called.await.map(|answer| (answer.get_ref().epoch, answer.get_ref().revision));
        self.written(written, StatusCode::ACCEPTED).await
    }

    /// The answer to a change that was made, once the local view shows it; or to one that was not.
    pub(super) async fn written(&self, written: Result<Position, CallError>, status: StatusCode) -> Reply {
        match written {
            Ok(position) => {
                if !self.cluster.wait(position, OWN_WRITE).await {
                    debug!(
                        epoch = position.0,
                        revision = position.1,
                        "answered before the view shows a write"
                    );
                }
                Reply::empty(status)
            }
            Err(error) => refusal(&error),
        }
    }
}

fn bad_request(text: String) -> Reply {
    Reply::text(StatusCode::BAD_REQUEST, text)
}

/// A change of an agent's reservations or volumes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Reserve { resources: Vec<Resource>, source: Vec<Resource> },
    Unreserve(Vec<Resource>),
    Create(Vec<Resource>),
    Destroy(Vec<Resource>),
    Grow(Box<GrowVolume>),
    Shrink(Box<ShrinkVolume>),
}

impl Change {
    fn source(&self) -> Vec<Resource> {
        match self {
            Self::Reserve { source, .. } => source.clone(),
            _ => Vec::new(),
        }
    }

    fn operation(self) -> Operation {
        let of = |kind: Type| Operation { r#type: Some(kind as i32), ..Default::default() };
        match self {
            Self::Reserve { resources, source } => {
                Operation { reserve: Some(Reserve { resources, source }), ..of(Type::Reserve) }
            }
            Self::Unreserve(resources) => {
                Operation { unreserve: Some(Unreserve { resources }), ..of(Type::Unreserve) }
            }
            Self::Create(volumes) => Operation { create: Some(Create { volumes }), ..of(Type::Create) },
            Self::Destroy(volumes) => Operation { destroy: Some(Destroy { volumes }), ..of(Type::Destroy) },
            Self::Grow(grow) => Operation { grow_volume: Some(*grow), ..of(Type::GrowVolume) },
            Self::Shrink(shrink) => Operation { shrink_volume: Some(*shrink), ..of(Type::ShrinkVolume) },
        }
    }
}
