//! Frameworks and agents that a test drives by hand.

use std::collections::VecDeque;

use bytes::Bytes;
use meshos_mesh::Calls;
use meshos_proto::{
    meshos::allocator::v1::{
        AgentMessage, AllocatorMessage, Reregister, SubscribeRequest, SubscribeResponse,
        agent_link_client::AgentLinkClient, agent_message, allocator_message::Body,
        scheduler_client::SchedulerClient,
    },
    mesos::v1::{
        self as pb,
        scheduler::{Call, Event, call, event},
    },
};
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Cluster, PATIENCE};

/// A framework and its event stream.
pub(crate) struct Framework {
    pub(crate) id: String,
    pub(crate) stream: String,
    caller: Calls,
    responses: Streaming<SubscribeResponse>,
    events: VecDeque<Event>,
}

impl Framework {
    pub(crate) async fn subscribe(cluster: &Cluster, id: Option<&str>) -> Self {
        let channel = cluster.channel().await;
        let mut client = SchedulerClient::new(channel.clone());
        let id = id.map(|id| pb::FrameworkId { value: id.to_owned() });
        let info = pb::FrameworkInfo {
            user: "nobody".to_owned(),
            name: "test".to_owned(),
            id: id.clone(),
            failover_timeout: Some(3600.0),
            ..pb::FrameworkInfo::default()
        };
        let call = Call {
            framework_id: id,
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: info, ..call::Subscribe::default() }),
            ..Call::default()
        };
        let response = client.subscribe(SubscribeRequest { call: Some(call) }).await.unwrap();
        let stream = response.metadata().get("mesos-stream-id").unwrap().to_str().unwrap().to_owned();
        let responses = response.into_inner();
        let caller = Calls::open(&cluster.env, channel);
        let mut framework = Self { id: String::new(), stream, caller, responses, events: VecDeque::new() };
        let subscribed = framework.event(event::Type::Subscribed).await.subscribed.unwrap();
        framework.id = subscribed.framework_id.value;
        framework
    }

    /// The next event of that type; others before it are skipped.
    pub(crate) async fn event(&mut self, wanted: event::Type) -> Event {
        let found = async {
            loop {
                while let Some(event) = self.events.pop_front() {
                    if event.r#type() == wanted {
                        return event;
                    }
                }
                let response = self.responses.message().await.unwrap().unwrap();
                self.events.extend(response.events);
            }
        };
        timeout(PATIENCE, found).await.unwrap()
    }

    pub(crate) async fn offer(&mut self) -> pb::Offer {
        self.event(event::Type::Offers).await.offers.unwrap().offers.remove(0)
    }

    /// Whether the stream ends, after whatever events.
    pub(crate) async fn ended(&mut self) -> bool {
        let end = async { while let Ok(Some(_)) = self.responses.message().await {} };
        timeout(PATIENCE, end).await.is_ok()
    }

    pub(crate) async fn accept(&mut self, offer: &pb::Offer, task: pb::TaskInfo) -> Result<(), Status> {
        let launch = pb::offer::operation::Launch { task_infos: vec![task] };
        let operation = pb::offer::Operation {
            r#type: Some(pb::offer::operation::Type::Launch.into()),
            launch: Some(launch),
            ..pb::offer::Operation::default()
        };
        let accept =
            call::Accept { offer_ids: vec![offer.id.clone()], operations: vec![operation], filters: None };
        self.call(call::Type::Accept, |call| call.accept = Some(accept)).await
    }

    pub(crate) async fn call(&self, kind: call::Type, fill: impl FnOnce(&mut Call)) -> Result<(), Status> {
        let mut call = empty(&self.id, kind);
        fill(&mut call);
        self.caller.call(&self.stream, call.encode_to_vec().into(), String::new()).await.map(drop)
    }

    pub(crate) async fn call_on(&self, stream: &str, kind: call::Type) -> Result<(), Status> {
        call_with(&self.caller, &self.id, stream, kind).await
    }

    pub(crate) fn caller(&self) -> Calls {
        self.caller.clone()
    }
}

fn empty(framework: &str, kind: call::Type) -> Call {
    let framework_id = Some(pb::FrameworkId { value: framework.to_owned() });
    Call { framework_id, r#type: Some(kind.into()), ..Call::default() }
}

/// An encoded call without a body.
pub(crate) fn encoded(framework: &str, kind: call::Type) -> Bytes {
    empty(framework, kind).encode_to_vec().into()
}

/// A call without a body, on any stream.
pub(crate) async fn call_with(
    caller: &Calls,
    framework: &str,
    stream: &str,
    kind: call::Type,
) -> Result<(), Status> {
    caller.call(stream, encoded(framework, kind), String::new()).await.map(drop)
}

/// An agent's link.
pub(crate) struct Agent {
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<AllocatorMessage>,
    pub(crate) highest_epoch: u64,
}

impl Agent {
    pub(crate) async fn link(cluster: &Cluster, report: Reregister) -> Self {
        let (outgoing, receiver) = mpsc::channel(16);
        let first = AgentMessage { body: Some(agent_message::Body::Reregister(report)) };
        outgoing.send(first).await.unwrap();
        let mut client = AgentLinkClient::new(cluster.channel().await);
        let incoming = client.link(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { outgoing, incoming, highest_epoch: 0 }
    }

    pub(crate) fn send(&self, body: agent_message::Body) {
        self.outgoing.try_send(AgentMessage { body: Some(body) }).unwrap();
    }

    pub(crate) async fn command(&mut self) -> Body {
        self.try_command().await.unwrap()
    }

    /// The next command; none when the link has ended.
    pub(crate) async fn try_command(&mut self) -> Option<Body> {
        let message = timeout(PATIENCE, self.incoming.message()).await.unwrap().ok().flatten()?;
        self.highest_epoch = self.highest_epoch.max(message.epoch);
        message.body
    }
}
