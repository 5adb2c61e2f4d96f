//! One simulated agent: a session with the registry, and a link to whoever leads.

use std::{fmt, net::Ipv4Addr, rc::Rc, time::Duration};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedSender, unbounded},
    stream,
};
use meshos_mesh::{Backoff, MAX_MESSAGE_BYTES, MeshChannel};
use meshos_proto::{
    meshos::{
        allocator::v1::{AllocatorMessage, allocator_message::Body as Command},
        registry::v1::{
            Leader, Pong, Register, SessionRequest, SessionResponse, registry_client::RegistryClient,
            session_request, session_response::Body as Said,
        },
    },
    mesos::v1::{self as pb, TaskState},
    packed::{AgentMessage, Reregister, Told, agent_link_client::AgentLinkClient},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::Streaming;

use super::{
    child::{LinkChannel, Shared},
    report::{Report, id_sum},
    serve,
    tasks::{Settled, Tasks},
};

const OPENING: Duration = Duration::from_secs(5);
/// As the agent: an update that is not acknowledged is sent again.
const RESEND: Duration = Duration::from_secs(10);
/// Of the ports that agents have.
pub(crate) const FIRST_PORT: u16 = 31_000;
const PORTS: u16 = 1000;

/// An open stream both ways.
struct Open<Out, In> {
    out: UnboundedSender<Out>,
    messages: Streaming<In>,
}

/// A stream that is open, or is opened again at some time.
struct Peer<Out, In> {
    open: Option<Open<Out, In>>,
    again: Option<Instant>,
    backoff: Backoff,
}

impl<Out, In> Peer<Out, In> {
    fn new(shared: &Shared, last_delay: Duration) -> Self {
        let backoff = Backoff::new(&shared.env.rng, Duration::from_millis(20), last_delay);
        Self { open: None, again: None, backoff }
    }

    fn broke(&mut self) {
        self.open = None;
        self.again = Some(Instant::now() + self.backoff.delay());
    }

    fn send(&self, message: Out) {
        if let Some(open) = &self.open {
            // A stream that broke is found out by reading.
            let _ = open.out.unbounded_send(message);
        }
    }
}

impl<Out, In> fmt::Debug for Peer<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("open", &self.open.is_some()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Agent {
    shared: Rc<Shared>,
    registry: MeshChannel,
    links: Rc<LinkChannel>,
    session: Peer<SessionRequest, SessionResponse>,
    link: Peer<AgentMessage, AllocatorMessage>,
    finish: watch::Receiver<u64>,
    fail: watch::Receiver<String>,
    register: Register,
    id: String,
    leader: Option<Leader>,
    /// The newest leader that took this agent.
    epoch: u64,
    tasks: Tasks,
    resend: Option<Instant>,
    /// Where the tasks' web servers are.
    address: Ipv4Addr,
}

impl Agent {
    pub(crate) fn new(
        shared: &Rc<Shared>,
        number: usize,
        registry: MeshChannel,
        links: Rc<LinkChannel>,
    ) -> Self {
        let address = serve::address(shared.arguments.number, number);
        let hostname = match shared.arguments.serve {
            Some(_) => address.to_string(),
            None => format!("host-{}-{number}", shared.arguments.number),
        };
        let endpoint = format!("{hostname}:5051");
        let agent = pb::AgentInfo {
            hostname,
            resources: resources(shared.arguments.serve.unwrap_or(PORTS)),
            ..pb::AgentInfo::default()
        };
        let register = Register {
            agent: Some(agent),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            endpoint,
            capabilities: Vec::new(),
        };
        Self {
            session: Peer::new(shared, Duration::from_secs(5)),
            link: Peer::new(shared, Duration::from_secs(2)),
            finish: shared.finish.clone(),
            fail: shared.fail.clone(),
            shared: Rc::clone(shared),
            registry,
            links,
            register,
            id: String::new(),
            leader: None,
            epoch: 0,
            tasks: Tasks::default(),
            resend: None,
            address,
        }
    }

    pub(crate) async fn run(mut self) {
        self.open_session().await;
        loop {
            let due = [self.session.again, self.link.again, self.resend].into_iter().flatten().min();
            tokio::select! {
                biased;
                said = next(&mut self.session.open) => match said {
                    Some(response) => self.said(response).await,
                    None => self.session.broke(),
                },
                command = next(&mut self.link.open) => match command {
                    Some(message) => self.command(message),
                    None => self.link.broke(),
                },
                changed = self.finish.changed() => match changed {
                    Ok(()) => self.finish_tasks(),
                    Err(_) => return,
                },
                Ok(()) = self.fail.changed() => self.fail_task(),
                () = at(due) => self.timer().await,
            }
        }
    }

    async fn timer(&mut self) {
        let now = Instant::now();
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if due(&mut self.session.again) {
            self.open_session().await;
        }
        if due(&mut self.link.again) {
            self.open_link().await;
        }
        if due(&mut self.resend) {
            self.send_updates();
        }
    }

    async fn open_session(&mut self) {
        let (out, requests) = unbounded();
        let register = session_request::Body::Register(self.register.clone());
        let _ = out.unbounded_send(SessionRequest { body: Some(register) });
        let mut client = RegistryClient::new(self.registry.clone());
        match timeout(OPENING, client.session(requests)).await {
            Ok(Ok(opened)) => self.session.open = Some(Open { out, messages: opened.into_inner() }),
            _ => self.session.broke(),
        }
    }

    async fn said(&mut self, response: SessionResponse) {
        match response.body {
            Some(Said::Registered(registered)) => {
                self.session.backoff.reset();
                let id = registered.agent_id.unwrap_or_default();
                if self.id.is_empty() {
                    self.count(|report, now| {
                        report.registered += 1;
                        report.registered_at_us = now;
                    });
                }
                self.id.clone_from(&id.value);
                if let Some(agent) = self.register.agent.as_mut() {
                    agent.id = Some(id);
                }
                self.lead(registered.allocator).await;
            }
            Some(Said::Ping(ping)) => {
                let pong = session_request::Body::Pong(Pong { sequence: ping.sequence });
                self.session.send(SessionRequest { body: Some(pong) });
            }
            Some(Said::Allocator(leader)) => self.lead(Some(leader)).await,
            Some(Said::Refused(_)) | None => {}
        }
    }

    async fn lead(&mut self, leader: Option<Leader>) {
        let Some(leader) = leader else { return };
        if self.leader.as_ref().is_none_or(|current| current.epoch < leader.epoch) {
            self.leader = Some(leader);
            self.link.backoff.reset();
            self.open_link().await;
        }
    }

    async fn open_link(&mut self) {
        let Some(leader) = &self.leader else { return };
        self.link.open = None;
        self.link.again = None;
        let (frameworks, tasks) = self.tasks.report(&self.id);
        let report = Reregister {
            agent: self.register.agent.clone(),
            version: self.register.version.clone(),
            endpoint: self.register.endpoint.clone(),
            frameworks,
            tasks,
            highest_epoch: self.epoch,
            ..Reregister::default()
        };
        let first = AgentMessage { body: Some(Told::Reregister(report)) };
        let (out, messages) = unbounded();
        let mut client = AgentLinkClient::new(self.links.to(&self.shared.env, &leader.address))
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let messages = stream::once(async { first }).chain(messages);
        match timeout(OPENING, client.link(messages)).await {
            Ok(Ok(opened)) => self.link.open = Some(Open { out, messages: opened.into_inner() }),
            _ => self.link.broke(),
        }
    }

    fn command(&mut self, message: AllocatorMessage) {
        match message.body {
            Some(Command::Accepted(_)) => {
                self.link.backoff.reset();
                self.accepted(message.epoch);
            }
            Some(Command::Launch(launch)) => {
                let states = [TaskState::TaskStarting, TaskState::TaskRunning];
                let states = &states[usize::from(self.shared.arguments.one_update)..];
                let (ids, repeated) = self.tasks.launch(launch, states);
                self.count(|report, _| {
                    report.repeated += repeated;
                    report.launched += ids.len() as u64;
                    let sum = ids.iter().fold(0_u64, |sum, id| sum.wrapping_add(id_sum(id)));
                    report.launched_ids = report.launched_ids.wrapping_add(sum);
                });
                for id in &ids {
                    self.shared.serving.begin(self.address, self.tasks.ports(id));
                    self.send_update(id);
                }
            }
            Some(Command::Acknowledge(acknowledge)) => {
                match self.tasks.acknowledge(&acknowledge) {
                    Settled::Running => self.count(|report, _| report.running += 1),
                    Settled::Ended => self.count(|report, _| {
                        report.running -= 1;
                        report.ended += 1;
                    }),
                    Settled::Earlier => {}
                    Settled::Stale => return,
                }
                if let Some(task) = acknowledge.task_id {
                    self.send_update(&task.value);
                }
            }
            Some(Command::Kill(kill)) => {
                if let Some(id) = self.tasks.kill(&kill) {
                    self.shared.serving.end(self.address, self.tasks.ports(&id));
                    self.send_update(&id);
                }
            }
            _ => {}
        }
    }

    fn accepted(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.count(|report, now| {
                if epoch > report.epoch {
                    (report.epoch, report.linked) = (epoch, 0);
                }
                if epoch == report.epoch {
                    report.linked += 1;
                    report.linked_at_us = now;
                }
            });
        }
        self.send_updates();
    }

    fn finish_tasks(&mut self) {
        for id in self.tasks.finish() {
            self.send_update(&id);
        }
    }

    /// A task dies with all its connections, if it is one of these.
    fn fail_task(&mut self) {
        let id = self.fail.borrow_and_update().clone();
        let ports = self.tasks.ports(&id);
        if self.tasks.fail(&id) {
            self.shared.serving.end(self.address, ports);
            self.send_update(&id);
        }
    }

    fn send_update(&mut self, id: &str) {
        if let Some(update) = self.tasks.update(&self.id, id) {
            self.link.send(AgentMessage { body: Some(Told::Update(update)) });
            self.resend.get_or_insert_with(|| Instant::now() + RESEND);
        }
    }

    /// Everything that is not acknowledged, once more.
    fn send_updates(&mut self) {
        for update in self.tasks.updates(&self.id) {
            self.link.send(AgentMessage { body: Some(Told::Update(update)) });
        }
        self.resend = self.tasks.waits().then(|| Instant::now() + RESEND);
    }

    fn count(&self, change: impl FnOnce(&mut Report, u64)) {
        change(&mut self.shared.report.borrow_mut(), self.shared.now_us());
    }
}

/// The next message; none at the end. Never, when the stream is not open.
async fn next<Out, In>(peer: &mut Option<Open<Out, In>>) -> Option<In> {
    match peer {
        Some(open) => open.messages.message().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn resources(ports: u16) -> Vec<pb::Resource> {
    let scalar = |name: &str, value| pb::Resource {
        name: name.to_owned(),
        r#type: pb::value::Type::Scalar.into(),
        scalar: Some(pb::value::Scalar { value }),
        ..pb::Resource::default()
    };
    let range = pb::value::Range { begin: FIRST_PORT.into(), end: (FIRST_PORT + ports - 1).into() };
    let ports = pb::Resource {
        name: "ports".to_owned(),
        r#type: pb::value::Type::Ranges.into(),
        ranges: Some(pb::value::Ranges { range: vec![range] }),
        ..pb::Resource::default()
    };
    vec![scalar("cpus", 64.0), scalar("mem", 262_144.0), scalar("disk", 1_000_000.0), ports]
}
