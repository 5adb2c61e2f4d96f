//! A cluster around the core: hands inputs in, keeps what comes out.

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::{
        allocator::v1::{Change, Reregister, StatusUpdate, allocator_message::Body, explain_request},
        registry::v1::{self as registry, AgentState},
    },
    mesos::v1::{
        self as pb, TaskState,
        scheduler::{Call, Event, call, event},
    },
};
use meshos_types::{AgentId, Format, FrameworkId, RoleName, parse_resources};

use super::super::*;

pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) fn config() -> CoreConfig {
    CoreConfig {
        master: pb::MasterInfo { id: "m".to_owned(), ..pb::MasterInfo::default() },
        elected_at_ms: START,
        ..CoreConfig::default()
    }
}

pub(crate) fn resources(text: &str) -> Vec<pb::Resource> {
    parse_resources(text, &RoleName::star()).unwrap().resources.to_proto(Format::PostRefinement)
}

pub(crate) fn info(name: &str) -> pb::FrameworkInfo {
    use pb::framework_info::{Capability, capability::Type};
    let capability = |kind: Type| Capability { r#type: Some(kind.into()) };
    pb::FrameworkInfo {
        user: "nobody".to_owned(),
        name: name.to_owned(),
        failover_timeout: Some(60.0),
        capabilities: vec![capability(Type::PartitionAware), capability(Type::ReservationRefinement)],
        ..pb::FrameworkInfo::default()
    }
}

pub(crate) fn call(framework: &FrameworkId, kind: call::Type) -> Call {
    Call { framework_id: Some(framework.to_proto()), r#type: Some(kind.into()), ..Call::default() }
}

/// A command task.
pub(crate) fn task(id: &str, agent: &str, wanted: &str) -> pb::TaskInfo {
    pb::TaskInfo {
        name: id.to_owned(),
        task_id: pb::TaskId { value: id.to_owned() },
        agent_id: pb::AgentId { value: agent.to_owned() },
        resources: resources(wanted),
        command: Some(pb::CommandInfo { value: Some("true".to_owned()), ..pb::CommandInfo::default() }),
        ..pb::TaskInfo::default()
    }
}

pub(crate) fn launch(tasks: Vec<pb::TaskInfo>) -> pb::offer::Operation {
    use pb::offer::operation::{Launch, Type};
    pb::offer::Operation {
        r#type: Some(Type::Launch.into()),
        launch: Some(Launch { task_infos: tasks }),
        ..pb::offer::Operation::default()
    }
}

pub(crate) fn record(agent: &str, state: AgentState) -> registry::Agent {
    let id = Some(pb::AgentId { value: agent.to_owned() });
    registry::Agent {
        format: 1,
        info: Some(pb::AgentInfo { hostname: agent.to_owned(), id, ..pb::AgentInfo::default() }),
        state: state.into(),
        ..registry::Agent::default()
    }
}

pub(crate) fn report(agent: &str, total: &str) -> Reregister {
    let id = Some(pb::AgentId { value: agent.to_owned() });
    let hostname = agent.to_owned();
    let info = pb::AgentInfo { hostname, id, resources: resources(total), ..pb::AgentInfo::default() };
    Reregister { agent: Some(info), endpoint: "10.0.0.1:5051".to_owned(), ..Reregister::default() }
}

#[derive(Debug)]
pub(crate) struct Harness {
    pub(crate) core: Core,
    pub(crate) now: u64,
    /// Events by stream, not looked at yet.
    pub(crate) events: BTreeMap<StreamId, Vec<Event>>,
    pub(crate) closed: Vec<StreamId>,
    /// Commands by link, not looked at yet.
    pub(crate) commands: BTreeMap<LinkId, Vec<Body>>,
    pub(crate) closed_links: Vec<LinkId>,
    pub(crate) records: Vec<registry::Framework>,
    pub(crate) roles: Vec<registry::Role>,
    pub(crate) changes: Vec<Change>,
    next: u64,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: CoreConfig) -> Self {
        Self {
            core: Core::new(config),
            now: START,
            events: BTreeMap::new(),
            closed: Vec::new(),
            commands: BTreeMap::new(),
            closed_links: Vec::new(),
            records: Vec::new(),
            roles: Vec::new(),
            changes: Vec::new(),
            next: 1,
        }
    }

    pub(crate) fn try_input(&mut self, input: Input) -> Result<(), CallError> {
        let result = self.core.handle(input, self.now);
        let outcome = self.core.settle(self.now);
        for effect in outcome.effects {
            match effect {
                Effect::Events { stream, events, .. } => {
                    self.events.entry(stream).or_default().extend(events)
                }
                Effect::CloseStream { stream } => self.closed.push(stream),
                Effect::Command { link, command } => self.commands.entry(link).or_default().push(*command),
                Effect::CloseLink { link } => self.closed_links.push(link),
                Effect::Persist(record) => self.records.push(*record),
                Effect::PersistRoles(roles) => self.roles.extend(roles),
            }
        }
        self.changes.extend(outcome.changes);
        result
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.try_input(input).unwrap();
    }

    /// Time passes, and every timer runs.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// The registry shows the agent, and it links.
    pub(crate) fn agent(&mut self, agent: &str, total: &str) -> LinkId {
        self.input(Input::RegistryChanged(Box::new(record(agent, AgentState::Connected))));
        self.link(report(agent, total))
    }

    pub(crate) fn link(&mut self, report: Reregister) -> LinkId {
        let link = self.next;
        self.next += 1;
        self.input(Input::AgentLinked { link, report: Box::new(report.into()) });
        link
    }

    pub(crate) fn subscribe(&mut self, info: pb::FrameworkInfo) -> (FrameworkId, StreamId) {
        let stream = self.subscribe_any(info);
        let subscribed = self.events[&stream][0].subscribed.clone().unwrap();
        (FrameworkId::from(subscribed.framework_id), stream)
    }

    pub(crate) fn subscribe_any(&mut self, info: pb::FrameworkInfo) -> StreamId {
        let stream = format!("stream-{}", self.next);
        self.next += 1;
        let call = Call {
            framework_id: info.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: info, ..call::Subscribe::default() }),
            ..Call::default()
        };
        self.input(Input::Subscribe { stream: stream.clone(), call: Box::new(call) });
        stream
    }

    pub(crate) fn try_call(&mut self, stream: &StreamId, call: Call) -> Result<(), CallError> {
        let traceparent = String::new();
        self.try_input(Input::Call { stream: stream.clone(), call: Box::new(call), traceparent })
    }

    pub(crate) fn call(&mut self, stream: &StreamId, call: Call) {
        self.try_call(stream, call).unwrap();
    }

    /// Events of a stream since the last look.
    pub(crate) fn take(&mut self, stream: &StreamId) -> Vec<Event> {
        self.events.remove(stream).unwrap_or_default()
    }

    pub(crate) fn take_offers(&mut self, stream: &StreamId) -> Vec<pb::Offer> {
        self.take(stream)
            .into_iter()
            .filter_map(|event| event.offers)
            .flat_map(|offers| offers.offers)
            .collect()
    }

    /// Why the framework got no offers in its first role, and how often.
    pub(crate) fn refusals(&self, framework: &FrameworkId) -> Vec<(String, u64)> {
        let subject = explain_request::Subject::FrameworkId(framework.to_string());
        self.core.explain(&subject).unwrap().remove(0).refusals.into_iter().collect()
    }

    pub(crate) fn take_statuses(&mut self, stream: &StreamId) -> Vec<pb::TaskStatus> {
        self.take(stream).into_iter().filter_map(|event| event.update).map(|update| update.status).collect()
    }

    pub(crate) fn take_commands(&mut self, link: LinkId) -> Vec<Body> {
        self.commands.remove(&link).unwrap_or_default()
    }

    pub(crate) fn accept(
        &mut self,
        (framework, stream): &(FrameworkId, StreamId),
        offers: &[&pb::Offer],
        operations: Vec<pb::offer::Operation>,
    ) {
        let offer_ids = offers.iter().map(|offer| offer.id.clone()).collect();
        let accept = call::Accept { offer_ids, operations, filters: None };
        self.call(stream, Call { accept: Some(accept), ..call(framework, call::Type::Accept) });
    }

    pub(crate) fn decline(
        &mut self,
        (framework, stream): &(FrameworkId, StreamId),
        offer: &pb::Offer,
        refuse_seconds: Option<f64>,
    ) {
        let filters = refuse_seconds.map(|seconds| pb::Filters { refuse_seconds: Some(seconds) });
        let decline = call::Decline { offer_ids: vec![offer.id.clone()], filters };
        self.call(stream, Call { decline: Some(decline), ..call(framework, call::Type::Decline) });
    }

    /// A framework with one task that runs on a fresh agent `s1` of 4 cpus.
    pub(crate) fn with_running_task(info: pb::FrameworkInfo) -> (Self, (FrameworkId, StreamId), LinkId) {
        let mut cluster = Self::new();
        let link = cluster.agent("s1", "cpus:4;mem:1024");
        let framework = cluster.subscribe(info);
        let offers = cluster.take_offers(&framework.1);
        cluster.accept(&framework, &[&offers[0]], vec![launch(vec![task("t1", "s1", "cpus:1;mem:64")])]);
        cluster.update(link, &framework.0, "t1", TaskState::TaskRunning, 1);
        cluster.take(&framework.1);
        cluster.take_commands(link);
        (cluster, framework, link)
    }

    /// The agent reports a state with a uuid of these bytes.
    #[allow(clippy::too_many_arguments, reason = "a test reads better without a struct")]
    pub(crate) fn update(
        &mut self,
        link: LinkId,
        framework: &FrameworkId,
        task: &str,
        state: TaskState,
        uuid: u8,
    ) {
        let agent = self.core.links.get(&link).map(AgentId::to_proto);
        let status = pb::TaskStatus {
            task_id: pb::TaskId { value: task.to_owned() },
            state: state.into(),
            source: Some(pb::task_status::Source::Executor.into()),
            agent_id: agent,
            uuid: Some(vec![uuid; 16].into()),
            ..pb::TaskStatus::default()
        };
        let framework_id = Some(framework.to_proto());
        let update = StatusUpdate {
            framework_id,
            status: Some(status),
            latest_state: state.into(),
            ..Default::default()
        };
        self.input(Input::StatusUpdate { link, update: Box::new(update) });
    }

    pub(crate) fn acknowledge(
        &mut self,
        (framework, stream): &(FrameworkId, StreamId),
        agent: &str,
        task: &str,
        uuid: u8,
    ) {
        let acknowledge = call::Acknowledge {
            agent_id: pb::AgentId { value: agent.to_owned() },
            task_id: pb::TaskId { value: task.to_owned() },
            uuid: vec![uuid; 16].into(),
        };
        self.call(
            stream,
            Call { acknowledge: Some(acknowledge), ..call(framework, call::Type::Acknowledge) },
        );
    }

    pub(crate) fn kill(&mut self, (framework, stream): &(FrameworkId, StreamId), task: &str) {
        let kill = call::Kill { task_id: pb::TaskId { value: task.to_owned() }, ..call::Kill::default() };
        self.call(stream, Call { kill: Some(kill), ..call(framework, call::Type::Kill) });
    }

    pub(crate) fn reconcile(
        &mut self,
        (framework, stream): &(FrameworkId, StreamId),
        tasks: &[(&str, Option<&str>)],
    ) {
        let asked = |(task, agent): &(&str, Option<&str>)| call::reconcile::Task {
            task_id: pb::TaskId { value: (*task).to_owned() },
            agent_id: agent.map(|agent| pb::AgentId { value: agent.to_owned() }),
        };
        let reconcile = call::Reconcile { tasks: tasks.iter().map(asked).collect() };
        self.call(stream, Call { reconcile: Some(reconcile), ..call(framework, call::Type::Reconcile) });
    }

    /// The state of the agent's tasks as it would report them.
    pub(crate) fn report_with(&self, agent: &str, total: &str, tasks: &[&str]) -> Reregister {
        let snapshot = self.core.snapshot();
        let known = |name: &&str| {
            let mut tasks = snapshot.tasks.iter().filter_map(|task| task.unpack());
            tasks.find(|task| task.task_id.value == **name).unwrap()
        };
        Reregister {
            frameworks: snapshot.frameworks.iter().filter_map(|framework| framework.info.clone()).collect(),
            tasks: tasks.iter().map(known).collect(),
            executors: snapshot
                .executors
                .iter()
                .filter(|executor| executor.agent_id == agent)
                .filter_map(|executor| executor.info.clone())
                .collect(),
            ..report(agent, total)
        }
    }

    /// State and place of each task by id.
    pub(crate) fn tasks(
        &self,
    ) -> BTreeMap<String, (TaskState, meshos_proto::meshos::allocator::v1::TaskPlace)> {
        let tasks = self.core.snapshot().tasks.into_iter();
        tasks
            .map(|task| {
                let inner = task.unpack().unwrap();
                (inner.task_id.value.clone(), (inner.state(), task.place()))
            })
            .collect()
    }
}

pub(crate) fn kinds(events: &[Event]) -> Vec<event::Type> {
    events.iter().map(Event::r#type).collect()
}

pub(crate) fn cpus(resources: &[pb::Resource]) -> f64 {
    resources.iter().filter(|r| r.name == "cpus").filter_map(|r| r.scalar).map(|scalar| scalar.value).sum()
}
