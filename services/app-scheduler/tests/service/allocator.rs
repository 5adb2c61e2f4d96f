//! A leading allocator with one framework; the test says what it does.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use meshos_mesh::{Candidate, Env, serve};
use meshos_proto::{
    meshos::allocator::v1::{
        CallResult, CallsRequest, CallsResponse, SubscribeRequest, SubscribeResponse,
        scheduler_server::{Scheduler, SchedulerServer},
    },
    mesos::v1::{
        self as pb, FrameworkInfo, TaskState,
        scheduler::{Call, Event, call, event},
        value,
    },
};
use meshos_store::SharedStore;
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Response, Status, Streaming, service::Routes};

const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    calls: mpsc::UnboundedReceiver<Call>,
    subscriptions: mpsc::UnboundedReceiver<FrameworkInfo>,
}

#[derive(Default)]
struct State {
    stream: Option<mpsc::UnboundedSender<Event>>,
    launched: usize,
    offers: u64,
    /// An agent whose tasks come up by themselves, with its cpus.
    player: Option<(String, f64)>,
}

struct Service {
    state: Arc<Mutex<State>>,
    calls: mpsc::UnboundedSender<Call>,
    subscriptions: mpsc::UnboundedSender<FrameworkInfo>,
}

impl Fake {
    pub(crate) async fn start(env: &Env, store: &SharedStore) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (call_sender, calls) = mpsc::unbounded_channel();
        let (subscription_sender, subscriptions) = mpsc::unbounded_channel();
        let service =
            Service { state: state.clone(), calls: call_sender, subscriptions: subscription_sender };
        let listener = env.transport.bind("allocator").await.unwrap();
        let serving =
            serve(env, "fake-allocator", listener, Routes::new(SchedulerServer::new(service))).await;
        serving.ready().await;
        let candidate = Candidate {
            service: "allocator",
            instance: "fake".into(),
            address: "allocator".into(),
            ttl: Duration::from_secs(5),
        };
        let mut role = candidate.run(env, store);
        role.wait_for(|role| matches!(role, meshos_mesh::Role::Leader(_))).await.unwrap();
        Self { state, calls, subscriptions }
    }

    /// The next call of this type; earlier ones of other types are passed over.
    pub(crate) async fn call(&mut self, wanted: call::Type) -> Call {
        let next = async {
            loop {
                let call = self.calls.recv().await.expect("the service has ended");
                if call.r#type() == wanted {
                    return call;
                }
            }
        };
        timeout(LONG, next).await.unwrap_or_else(|_| panic!("no {wanted:?}"))
    }

    pub(crate) async fn subscribed(&mut self) -> FrameworkInfo {
        timeout(LONG, self.subscriptions.recv()).await.expect("no SUBSCRIBE").unwrap()
    }

    pub(crate) fn offer(&self, agent: &str, cpus: f64) {
        self.state.lock().unwrap().offer(agent, cpus);
    }

    pub(crate) fn update(&self, status: pb::TaskStatus) {
        self.state.lock().unwrap().update(status);
    }

    pub(crate) fn launched(&self) -> usize {
        self.state.lock().unwrap().launched
    }

    /// From now on offers come by themselves, and so do the states of tasks.
    pub(crate) fn play(&self, agent: &str, cpus: f64) {
        self.state.lock().unwrap().player = Some((agent.to_owned(), cpus));
    }
}

impl State {
    fn send(&self, event: Event) {
        if let Some(stream) = &self.stream {
            let _ = stream.send(event);
        }
    }

    fn offer(&mut self, agent: &str, cpus: f64) {
        self.offers += 1;
        let scalar = |name: &str, value: f64| pb::Resource {
            name: name.into(),
            r#type: value::Type::Scalar.into(),
            scalar: Some(value::Scalar { value }),
            ..Default::default()
        };
        let ports = value::Ranges { range: vec![value::Range { begin: 31000, end: 33000 }] };
        let offer = pb::Offer {
            id: pb::OfferId { value: format!("O{}", self.offers) },
            agent_id: pb::AgentId { value: agent.into() },
            hostname: agent.into(),
            resources: vec![
                scalar("cpus", cpus),
                scalar("mem", 100_000.0),
                pb::Resource {
                    name: "ports".into(),
                    r#type: value::Type::Ranges.into(),
                    ranges: Some(ports),
                    ..Default::default()
                },
            ],
            ..Default::default()
        };
        self.send(Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers: vec![offer] }),
            ..Default::default()
        });
    }

    fn update(&self, status: pb::TaskStatus) {
        self.send(Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Default::default()
        });
    }

    fn called(&mut self, call: &Call) {
        let operations = call.accept.iter().flat_map(|accept| &accept.operations);
        let launches = operations.filter_map(|operation| operation.launch.as_ref());
        let tasks: Vec<_> = launches.flat_map(|launch| launch.task_infos.clone()).collect();
        self.launched += tasks.len();
        let Some((agent, cpus)) = self.player.clone() else { return };
        if call.r#type() == call::Type::Revive {
            self.offer(&agent, cpus);
        }
        for task in tasks {
            self.update(status(&task.task_id, TaskState::TaskStarting));
            self.update(status(&task.task_id, TaskState::TaskRunning));
        }
    }
}

pub(crate) fn status(task_id: &pb::TaskId, state: TaskState) -> pb::TaskStatus {
    pb::TaskStatus {
        task_id: task_id.clone(),
        state: state.into(),
        agent_id: Some(pb::AgentId { value: "agent-1".into() }),
        uuid: Some(Bytes::from_static(&[7; 16])),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Scheduler for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;
    type CallsStream = Pin<Box<dyn Stream<Item = Result<CallsResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: tonic::Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let info = request.into_inner().call.unwrap().subscribe.unwrap().framework_info;
        let (sender, events) = mpsc::unbounded_channel();
        let framework_id = info.id.clone().unwrap_or(pb::FrameworkId { value: "F-1".into() });
        let subscribed = event::Subscribed { framework_id, ..Default::default() };
        sender
            .send(Event {
                r#type: Some(event::Type::Subscribed.into()),
                subscribed: Some(subscribed),
                ..Default::default()
            })
            .unwrap();
        self.state.lock().unwrap().stream = Some(sender);
        self.subscriptions.send(info).unwrap();
        let events =
            UnboundedReceiverStream::new(events).map(|event| Ok(SubscribeResponse { events: vec![event] }));
        let mut response = Response::new(Box::pin(events) as Self::SubscribeStream);
        response.metadata_mut().insert("mesos-stream-id", "S-1".parse().unwrap());
        Ok(response)
    }

    async fn calls(
        &self,
        request: tonic::Request<Streaming<CallsRequest>>,
    ) -> Result<Response<Self::CallsStream>, Status> {
        let (state, calls) = (Arc::clone(&self.state), self.calls.clone());
        let requests = request.into_inner().take_while(|request| futures::future::ready(request.is_ok()));
        let results = requests.map(move |request| {
            let results = request.unwrap().calls.into_iter().map(|numbered| {
                assert_eq!(numbered.stream_id, "S-1");
                let call = Call::decode(numbered.call).unwrap();
                assert_eq!(call.framework_id.as_ref().unwrap().value, "F-1");
                state.lock().unwrap().called(&call);
                let _ = calls.send(call);
                CallResult { number: numbered.number, ..CallResult::default() }
            });
            Ok(CallsResponse { results: results.collect() })
        });
        Ok(Response::new(Box::pin(results)))
    }
}
