//! Everything that is decided, without any I/O: see [`Core::handle`].
//!
//! A core is made from the stored records ([`Core::restore`]) and then fed with [`Input`]s. Each gives an
//! [`Output`]: records to write, and what to do, either at once or only after these records are stored. The order
//! of outputs is the order of effects.

mod apps;
mod change;
mod deployments;
mod finished;
mod groups;
mod health;
mod history;
mod instances;
mod kills;
mod launch;
mod members;
mod occurrences;
mod offers;
mod output;
mod readiness;
mod restore;
mod roles;
mod specs;
mod status;
mod timers;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use indexmap::IndexMap;
use meshos_mesh::Rng;
use meshos_proto::{
    meshos::apps::v1::{
        App, CancelDeploymentRequest, ChangeResponse, CreateAppRequest, DeleteAppRequest, DeleteGroupRequest,
        Deployment, FrameworkMessage, GetGroupVersionRequest, GetGroupVersionResponse, Group, Instance,
        KillTasksRequest, KillTasksResponse, ListGroupVersionsRequest, ListGroupVersionsResponse,
        ListUnusedOffersResponse, ListVersionsRequest, ListVersionsResponse, Queue, ReadinessResponse,
        ResetDelayRequest, RestartAppRequest, RootChange, SetEnforceRoleRequest, TaskFailure,
        UpdateAppsRequest, UpdateGroupRequest, occurrence::What,
    },
    mesos::v1 as pb,
};

use crate::{
    backoff::{Backoff, BackoffPolicy},
    config::MarathonArgs,
    error::Refusal,
    health::Outcome,
    matcher::{Refusals, constraints::Patterns},
    update::Defaults,
    validate::Rules,
};
use deployments::Running;
use finished::Finished;
pub use health::Probe;
use health::Watched;
use members::Members;
use offers::{Asking, Tally};
pub use output::{After, CameUp, Output};
pub use readiness::ReadinessProbe;
use restore::store_framework;
use timers::Timers;
use volumes::VolumeUsers;

/// What users ask for.
#[derive(Clone, Debug)]
pub enum Request {
    Create(Box<CreateAppRequest>),
    Update(UpdateAppsRequest),
    Delete(DeleteAppRequest),
    Restart(RestartAppRequest),
    Kill(KillTasksRequest),
    Cancel(CancelDeploymentRequest),
    ResetDelay(ResetDelayRequest),
    Versions(ListVersionsRequest),
    UpdateGroup(Box<UpdateGroupRequest>),
    DeleteGroup(DeleteGroupRequest),
    SetEnforceRole(SetEnforceRoleRequest),
    GroupVersions(ListGroupVersionsRequest),
    GroupVersion(GetGroupVersionRequest),
    UnusedOffers,
}

/// What they get. Revisions are filled in once the change is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Change(ChangeResponse),
    Kill(KillTasksResponse),
    Versions(ListVersionsResponse),
    GroupVersions(ListGroupVersionsResponse),
    GroupVersion(GetGroupVersionResponse),
    UnusedOffers(ListUnusedOffersResponse),
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody asks; the answer carries `token`. `traceparent` is the context of the request, or empty.
    Request {
        token: u64,
        request: Request,
        traceparent: String,
    },
    /// The allocator accepted the framework.
    Subscribed {
        framework_id: String,
    },
    /// The masters' region.
    HomeRegion(String),
    /// An executor said something to this framework.
    Message(Box<FrameworkMessage>),
    /// The event stream ended: calls get nowhere.
    Disconnected,
    /// The allocator does not want this framework any more: the next subscription is that of a new one.
    FrameworkRemoved,
    Offers(Vec<pb::Offer>),
    Status(Box<pb::TaskStatus>),
    /// An ACCEPT was refused: its tasks do not exist.
    LaunchRefused {
        task_ids: Vec<String>,
        message: String,
    },
    /// What a health check found.
    Probed {
        probe: Box<Probe>,
        outcome: Outcome,
    },
    /// What a readiness check was answered; none: nothing.
    ReadinessProbed {
        probe: Box<ReadinessProbe>,
        response: Option<ReadinessResponse>,
    },
    /// Nothing but that time has passed; due at [`Core::next_deadline`] at the latest.
    Tick,
}

/// Settings in the form in which they are used.
#[derive(Clone, Debug)]
pub struct Settings {
    pub args: MarathonArgs,
    pub defaults: Defaults,
    pub rules: Rules,
}

impl Settings {
    /// From the flags.
    #[must_use]
    pub fn new(args: MarathonArgs) -> Self {
        let (role, network_name) = (args.mesos_role.clone(), args.default_network_name.clone());
        let defaults = Defaults { role, network_name };
        let enabled = |name: &str| args.enable_features.iter().any(|feature| feature == name);
        let rules = Rules {
            roles: vec![args.mesos_role.clone()],
            gpus_enabled: enabled("gpu_resources"),
            secrets_enabled: enabled("secrets"),
            external_volumes_enabled: enabled("external_volumes"),
            max_instances: args.max_instances_per_app,
        };
        Self { args, defaults, rules }
    }
}

/// One app: its definition while it is wanted, and what there is of it.
#[derive(Debug, Default)]
struct AppState {
    /// None once it is removed, while instances are still ending.
    spec: Option<Arc<App>>,
    versions: BTreeMap<u64, Arc<App>>,
    members: Members,
    backoff: Backoff,
    /// The deployment that locks it.
    deployment: Option<String>,
    failure: Option<TaskFailure>,
    /// Why offers were not used the last time.
    refusals: Refusals,
    /// What became of offers since it began to wait.
    tally: Tally,
    waiting_since_ms: u64,
    /// The configuration whose health checks readers were told of; 0: none.
    told_checks_ms: u64,
    /// Until then surplus instances stay (a deployment was stopped).
    hold_surplus_until_ms: u64,
    /// Until then the next of very many instances are not made.
    paused_until_ms: u64,
    /// Until then the next of very many instances are not ended.
    kills_paused_until_ms: u64,
}

impl AppState {
    fn policy(&self) -> BackoffPolicy {
        let spec = self.spec.as_deref();
        BackoffPolicy {
            first_ms: spec.map_or(1000, |app| app.backoff_ms),
            factor: spec.map_or(1.15, |app| app.backoff_factor),
            max_ms: spec.map_or(300_000, |app| app.max_launch_delay_ms),
        }
    }

    /// Whether the instance runs the configuration that is wanted now.
    fn is_current(&self, instance: &Instance) -> bool {
        self.spec.as_ref().is_some_and(|spec| instance.version_ms >= spec.last_config_change_at_ms)
    }

    /// The definition that the instance runs, or will run.
    fn definition(&self, instance: &Instance) -> Option<Arc<App>> {
        if self.is_current(instance) {
            return self.spec.clone();
        }
        self.versions.get(&instance.version_ms).or(self.spec.as_ref()).cloned()
    }
}

/// By id. They are looked up far more often than gone through; their order is that of insertions and removals.
type Instances = IndexMap<String, Instance, foldhash::fast::RandomState>;

/// All apps, instances and deployments, and what is to be done for them.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    rng: Rng,
    /// Unix time in milliseconds of the input that is handled.
    now: u64,
    apps: BTreeMap<String, AppState>,
    instances: Instances,
    deployments: BTreeMap<String, Running>,
    finished: Finished,
    /// Groups with a record; others are there as long as something is below them.
    groups: BTreeMap<String, Group>,
    /// What each version of the root replaced, by version.
    roots: BTreeMap<u64, RootChange>,
    /// Roles that the framework has.
    roles: BTreeSet<String>,
    /// Checks of tasks, by instance.
    health: BTreeMap<String, Watched>,
    /// Instances whose readiness readers know of.
    readiness: BTreeSet<String>,
    framework_id: Option<String>,
    /// Region of the masters, where they name one.
    home_region: Option<String>,
    connected: bool,
    /// Service ports, with the number of definitions that have them.
    service_ports: BTreeMap<u32, usize>,
    volumes: VolumeUsers,
    last_version: u64,
    /// Apps to look at before this input is done.
    dirty: BTreeSet<String>,
    /// Apps with waiting instances and no delay.
    launchable: BTreeSet<String>,
    /// Instances whose task was told to end and has not, with when it is told again.
    kills: BTreeMap<String, u64>,
    asking: Asking,
    patterns: Patterns,
    timers: Timers,
    queue_dirty: BTreeSet<String>,
    queue: BTreeMap<String, Queue>,
    out: Output,
}

impl Core {
    /// Takes an input in and says what to do.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Output {
        self.handle_all([input], now_ms)
    }

    /// Takes inputs in, in order, and says what to do after all of them.
    pub fn handle_all(&mut self, inputs: impl IntoIterator<Item = Input>, now_ms: u64) -> Output {
        // The wall clock may step back; decisions do not.
        self.now = self.now.max(now_ms);
        self.fire_timers();
        for input in inputs {
            self.take_in(input);
        }
        self.settle();
        self.ask_for_offers();
        self.publish_queue();
        self.finish_output()
    }

    fn take_in(&mut self, input: Input) {
        match input {
            Input::Request { token, request, traceparent } => {
                let reply = self.request(request, &traceparent);
                self.out.after.push(After::Reply { token, reply });
            }
            Input::Subscribed { framework_id } => self.subscribed(framework_id),
            Input::HomeRegion(region) => self.home_region = Some(region),
            Input::Message(message) => self.occurred(What::FrameworkMessage(*message)),
            Input::Disconnected => self.disconnected(),
            Input::FrameworkRemoved => self.forget_framework(),
            Input::Offers(offers) => {
                // What the inputs before ask for may be launched on them.
                self.settle();
                self.offers(offers);
            }
            Input::Status(status) => self.status(&status),
            Input::LaunchRefused { task_ids, message } => self.launch_refused(&task_ids, &message),
            Input::Probed { probe, outcome } => self.probed(&probe, &outcome),
            Input::ReadinessProbed { probe, response } => self.readiness_probed(&probe, response),
            Input::Tick => {}
        }
    }

    /// When [`Input::Tick`] is due, in Unix milliseconds; none: when anything else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Why the offers that came last were not used for the app's waiting instances.
    #[must_use]
    pub fn refusals(&self, app_id: &str) -> Option<&Refusals> {
        self.apps.get(app_id).map(|state| &state.refusals)
    }

    /// Deployments that run.
    #[must_use]
    pub fn running_deployments(&self) -> Vec<&Deployment> {
        self.deployments.values().map(|running| &running.record).collect()
    }

    fn request(&mut self, request: Request, traceparent: &str) -> Result<Reply, Refusal> {
        match request {
            Request::Create(request) => self.create(&request, traceparent).map(Reply::Change),
            Request::Update(request) => self.update_apps(&request, traceparent).map(Reply::Change),
            Request::Delete(request) => self.delete(&request, traceparent).map(Reply::Change),
            Request::Restart(request) => self.restart(&request, traceparent).map(Reply::Change),
            Request::Kill(request) => self.kill_tasks(&request, traceparent).map(Reply::Kill),
            Request::Cancel(request) => self.cancel(&request, traceparent).map(Reply::Change),
            Request::ResetDelay(request) => self.reset_delay(&request).map(Reply::Change),
            Request::Versions(request) => self.versions(&request).map(Reply::Versions),
            Request::UpdateGroup(request) => self.update_group(&request, traceparent).map(Reply::Change),
            Request::DeleteGroup(request) => self.delete_group(&request, traceparent).map(Reply::Change),
            Request::SetEnforceRole(request) => {
                self.set_enforce_role(&request, traceparent).map(Reply::Change)
            }
            Request::GroupVersions(request) => self.group_versions(&request).map(Reply::GroupVersions),
            Request::GroupVersion(request) => self.group_version(&request).map(Reply::GroupVersion),
            Request::UnusedOffers => Ok(Reply::UnusedOffers(self.unused_offers())),
        }
    }

    /// Brings every app that changed nearer to what is wanted, until nothing is left to do.
    fn settle(&mut self) {
        while let Some(app_id) = self.dirty.pop_first() {
            self.reconcile_app(&app_id);
        }
    }
}

#[cfg(test)]
mod tests;
