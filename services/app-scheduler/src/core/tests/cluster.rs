//! A store, an allocator and agents in a few maps. What the core says is carried out when the test says so.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use meshos_proto::{
    meshos::apps::v1::{
        App, AppUpdate, ChangeResponse, Condition, CreateAppRequest, Instance, Occurrence, UpdateAppsRequest,
    },
    mesos::v1::{TaskState, scheduler::Call, scheduler::call, task_status::Source, value},
};
use meshos_store::Op;
use meshos_types::{AgentId, TaskId, task_state};

use super::super::*;
use crate::{
    store::{self, Records},
    view::{self, View},
};

pub(super) const AGENTS: [&str; 3] = ["a1", "a2", "a3"];

/// A task as its agent knows it.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub agent: String,
    pub state: TaskState,
    pub cpus: f64,
}

pub(super) struct Cluster {
    pub core: Core,
    pub now: u64,
    pub stored: BTreeMap<String, Bytes>,
    pub view: View,
    pub tasks: BTreeMap<String, Task>,
    /// What the core said and is not stored yet.
    pub outputs: VecDeque<Output>,
    pub replies: BTreeMap<u64, Result<Reply, Refusal>>,
    pub statuses: VecDeque<pb::TaskStatus>,
    pub calls: Vec<Call>,
    /// All task ids that were ever launched.
    pub launched: Vec<String>,
    pub wants_offers: bool,
    pub cpus_per_agent: f64,
    /// Tasks come up without being told to.
    pub starts: bool,
    token: u64,
    offer: u64,
    rng: Rng,
    pub instances_seen: Vec<Instance>,
    pub occurred: Vec<Occurrence>,
    pub probes: Vec<Probe>,
    pub readiness_probes: Vec<ReadinessProbe>,
    /// Tasks say that they are ready without being told to.
    pub answers_ready: bool,
    /// Writes and deletions of keys so far.
    pub written: usize,
    /// Deployments that began so far.
    pub deployments_started: u64,
}

pub(super) fn app(id: &str) -> AppUpdate {
    AppUpdate {
        id: Some(id.into()),
        cmd: Some("sleep 1000".into()),
        cpus: Some(0.1),
        mem: Some(32.0),
        ..Default::default()
    }
}

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        Self::of(seed, MarathonArgs::default())
    }

    pub(super) fn of(seed: u64, args: MarathonArgs) -> Self {
        let rng = Rng::seeded(seed);
        let settings = Settings::new(args);
        let core = Core::restore(settings, rng.clone(), Records::default(), 1_000_000);
        let mut cluster = Self {
            core,
            now: 1_000_000,
            stored: BTreeMap::new(),
            view: View::default(),
            tasks: BTreeMap::new(),
            outputs: VecDeque::new(),
            replies: BTreeMap::new(),
            statuses: VecDeque::new(),
            calls: Vec::new(),
            launched: Vec::new(),
            wants_offers: false,
            cpus_per_agent: 10.0,
            starts: true,
            token: 0,
            offer: 0,
            rng,
            instances_seen: Vec::new(),
            occurred: Vec::new(),
            probes: Vec::new(),
            readiness_probes: Vec::new(),
            answers_ready: false,
            written: 0,
            deployments_started: 0,
        };
        cluster.input(Input::Subscribed { framework_id: "F".into() });
        cluster.wants_offers = true;
        cluster
    }

    pub(super) fn input(&mut self, input: Input) {
        let output = self.core.handle(input, self.now);
        self.deployments_started += output.deployments_started;
        for call in &output.now {
            self.call(call);
        }
        self.outputs.push_back(output);
    }

    /// Stores the next output and does what waited for it; false when there is none.
    pub(super) fn commit(&mut self) -> bool {
        let Some(output) = self.outputs.pop_front() else { return false };
        self.written += output.ops.len();
        for op in &output.ops {
            match op {
                Op::Put { key, value, .. } => drop(self.stored.insert(key.clone(), value.clone())),
                Op::Delete { key } => drop(self.stored.remove(key)),
                Op::DeletePrefix { .. } => panic!("not used"),
            }
        }
        self.occurred.extend(output.delta.occurrences.iter().cloned());
        self.probes.extend(output.probes.iter().cloned());
        self.readiness_probes.extend(output.readiness_probes.iter().cloned());
        self.instances_seen.extend(output.delta.instances.iter().cloned());
        view::in_order(output.delta).for_each(|delta| self.view.apply(&delta));
        for after in output.after {
            match after {
                After::Call(call) | After::Launch { call, .. } => self.call(&call),
                After::Reply { token, reply } => drop(self.replies.insert(token, reply)),
            }
        }
        true
    }

    fn call(&mut self, call: &Call) {
        self.calls.push(call.clone());
        match call.r#type() {
            call::Type::Revive => self.wants_offers = true,
            call::Type::Suppress => self.wants_offers = false,
            call::Type::Accept => {
                for operation in &call.accept.as_ref().unwrap().operations {
                    for task in &operation.launch.as_ref().unwrap().task_infos {
                        self.launch(task);
                    }
                }
            }
            call::Type::Kill => {
                let id = call.kill.as_ref().unwrap().task_id.value.clone();
                if self.tasks.contains_key(&id) {
                    self.end(&id, TaskState::TaskKilled);
                }
            }
            call::Type::Reconcile => self.reconcile(&call.reconcile.as_ref().unwrap().tasks),
            _ => {}
        }
    }

    fn launch(&mut self, task: &pb::TaskInfo) {
        let id = task.task_id.value.clone();
        let name = meshos_types::TaskName::of(&TaskId::new(id.as_str())).unwrap();
        let key = store::instance_key(name.instance.as_str());
        let stored = Records::from_map(&BTreeMap::from([(key.clone(), self.stored[&key].clone())]));
        assert_eq!(stored.instances[0].task_id, id, "launched before its record was stored");
        assert!(!self.launched.contains(&id), "{id} launched twice");
        let prefix = format!("{}.", name.instance);
        let twin = self.tasks.keys().find(|other| other.starts_with(&prefix));
        assert_eq!(twin, None, "a second task of the same instance");
        let cpus = task.resources.iter().filter(|r| r.name == "cpus").filter_map(|r| r.scalar.as_ref());
        let task = Task {
            agent: task.agent_id.value.clone(),
            state: TaskState::TaskStaging,
            cpus: cpus.map(|scalar| scalar.value).sum(),
        };
        assert!(self.free(&task.agent) + 1e-6 >= task.cpus, "overbooked");
        self.launched.push(id.clone());
        self.tasks.insert(id, task);
    }

    fn reconcile(&mut self, tasks: &[call::reconcile::Task]) {
        let known = |id: &String| self.tasks.get(id).map_or(TaskState::TaskGone, |task| task.state);
        let answers: Vec<_> = if tasks.is_empty() {
            self.tasks.iter().map(|(id, task)| (id.clone(), task.state)).collect()
        } else {
            tasks.iter().map(|task| (task.task_id.value.clone(), known(&task.task_id.value))).collect()
        };
        for (id, state) in answers {
            let status = task_state::new_status(&TaskId::new(id.as_str()), state, Source::Master);
            self.statuses.push_back(task_state::with_reason(
                status,
                pb::task_status::Reason::Reconciliation,
                "",
            ));
        }
    }

    /// The task changes its state, and its agent reports that.
    pub(super) fn report(&mut self, id: &str, state: TaskState) {
        let task = self.tasks.get_mut(id).unwrap();
        task.state = state;
        let mut status = task_state::new_status(&TaskId::new(id), state, Source::Executor);
        status.agent_id = Some(AgentId::new(task.agent.as_str()).to_proto());
        status.uuid = Some(Bytes::from_static(&[1; 16]));
        self.statuses.push_back(status);
    }

    /// The task is over.
    pub(super) fn end(&mut self, id: &str, state: TaskState) {
        self.report(id, state);
        self.tasks.remove(id);
    }

    pub(super) fn free(&self, agent: &str) -> f64 {
        let used: f64 = self.tasks.values().filter(|task| task.agent == agent).map(|task| task.cpus).sum();
        self.cpus_per_agent - used
    }

    /// All that is free is offered, unless launches are on their way.
    pub(super) fn offer(&mut self) {
        let on_the_way = self
            .outputs
            .iter()
            .flat_map(|output| &output.after)
            .any(|after| matches!(after, After::Launch { .. }));
        if !self.wants_offers || on_the_way {
            return;
        }
        let offers = AGENTS.map(|agent| {
            self.offer += 1;
            let scalar = |name: &str, value: f64| pb::Resource {
                name: name.into(),
                r#type: value::Type::Scalar.into(),
                scalar: Some(value::Scalar { value }),
                ..Default::default()
            };
            pb::Offer {
                id: pb::OfferId { value: format!("o{}", self.offer) },
                agent_id: pb::AgentId { value: agent.into() },
                hostname: format!("host-{agent}"),
                resources: vec![
                    scalar("cpus", (self.free(agent) * 1000.0).round() / 1000.0),
                    scalar("mem", 100_000.0),
                    scalar("disk", 100_000.0),
                    pb::Resource {
                        name: "ports".into(),
                        r#type: value::Type::Ranges.into(),
                        ranges: Some(value::Ranges {
                            range: vec![value::Range { begin: 31000, end: 32000 }],
                        }),
                        ..Default::default()
                    },
                ],
                ..Default::default()
            }
        });
        self.input(Input::Offers(offers.into()));
    }

    pub(super) fn deliver(&mut self) -> bool {
        let Some(status) = self.statuses.pop_front() else { return false };
        self.input(Input::Status(Box::new(status)));
        true
    }

    fn say_ready(&mut self) -> bool {
        if !self.answers_ready {
            return false;
        }
        let Some(probe) = self.readiness_probes.pop() else { return false };
        let response = Some(ReadinessResponse { status: 200, ..Default::default() });
        self.input(Input::ReadinessProbed { probe: Box::new(probe), response });
        true
    }

    /// Lets everything happen that happens by itself now.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.commit() || self.deliver() || self.say_ready() {
                continue;
            }
            let staging: Vec<String> = self
                .tasks
                .iter()
                .filter(|(_, task)| self.starts && task.state == TaskState::TaskStaging)
                .map(|(id, _)| id.clone())
                .collect();
            if !staging.is_empty() {
                staging.iter().for_each(|id| self.report(id, TaskState::TaskRunning));
                continue;
            }
            if self.wants_offers {
                let before = self.launched.len();
                self.offer();
                while self.commit() {}
                if self.launched.len() > before {
                    continue;
                }
            }
            return;
        }
        panic!("does not come to rest");
    }

    /// Time passes; what is due happens.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.input(Input::Tick);
            self.settle();
        }
        self.now = end;
        self.input(Input::Tick);
        self.settle();
    }

    /// Another replica leads: what was not stored is forgotten.
    pub(super) fn change_leader(&mut self) {
        self.outputs.clear();
        self.statuses.clear();
        let records = Records::from_map(&self.stored);
        self.view = View::new(&records, String::new());
        let settings = Settings::new(MarathonArgs::default());
        self.core = Core::restore(settings, self.rng.clone(), records, self.now);
        self.input(Input::Tick);
        self.wants_offers = true;
        self.input(Input::Subscribed { framework_id: "F".into() });
    }

    pub(super) fn ask(&mut self, request: Request) -> u64 {
        self.token += 1;
        self.now += 1;
        self.input(Input::Request { token: self.token, request, traceparent: String::new() });
        self.token
    }

    /// Asks and waits for the answer alone.
    pub(super) fn answer(&mut self, request: Request) -> Result<Reply, Refusal> {
        let token = self.ask(request);
        while self.commit() {}
        self.replies.remove(&token).unwrap()
    }

    pub(super) fn change(&mut self, request: Request) -> Result<ChangeResponse, Refusal> {
        match self.answer(request)? {
            Reply::Change(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn create(&mut self, app: AppUpdate) -> Result<ChangeResponse, Refusal> {
        self.change(Request::Create(Box::new(CreateAppRequest {
            app: Some(app),
            force: false,
            limits: None,
        })))
    }

    /// PUT with `partialUpdate`.
    pub(super) fn put(&mut self, app: AppUpdate, force: bool) -> Result<ChangeResponse, Refusal> {
        let request = UpdateAppsRequest { apps: vec![app], force, partial: true, create: true, limits: None };
        self.change(Request::Update(request))
    }

    pub(super) fn app(&self, id: &str) -> Option<App> {
        self.view.snapshot().apps.into_iter().find(|app| app.id == id)
    }

    pub(super) fn instances(&self, app_id: &str) -> Vec<Instance> {
        self.view.snapshot().instances.into_iter().filter(|instance| instance.app_id == app_id).collect()
    }

    pub(super) fn running(&self, app_id: &str) -> usize {
        self.instances(app_id).iter().filter(|i| i.condition() == Condition::Running).count()
    }

    pub(super) fn deployments(&self) -> Vec<Deployment> {
        self.view.snapshot().deployments
    }

    pub(super) fn task_ids(&self, app_id: &str) -> Vec<String> {
        self.instances(app_id).into_iter().map(|instance| instance.task_id).collect()
    }
}
