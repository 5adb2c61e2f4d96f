//! The pure core: agents, frameworks, offers and tasks, and every decision about them.
//!
//! [`Core::handle`] takes one input; [`Core::settle`] then makes the offers that the inputs since the last call
//! made possible, and hands over all effects. Both are deterministic: the same inputs at the same times give the
//! same effects. Work is proportional to what changed: an event touches its own agent, framework and offers,
//! and allocation looks only at touched agents, and at touched frameworks on agents that have something left.

mod accept;
mod account;
mod agent;
mod agents;
mod allocate;
mod call;
mod config;
mod constraints;
mod counters;
mod events;
mod executors;
mod explain;
mod filters;
mod framework;
mod frameworks;
mod interned;
mod io;
mod ledger;
mod offers;
mod operations;
mod picture;
mod publish;
mod quota;
mod reconcile;
mod record;
mod remembered;
mod report;
mod roles;
mod shared;
mod shares;
mod subscribe;
mod table;
mod timers;
mod updates;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meshos_proto::packed::Reregister;
use meshos_types::{AgentId, FrameworkId, RoleName};

pub use config::CoreConfig;
pub use io::{CallError, Effect, Input, LinkId, Outcome, StreamId};

use self::{
    agent::Agent,
    counters::Counters,
    executors::Executors,
    framework::{Completed, Framework},
    interned::Interned,
    offers::{OfferNo, Offers},
    publish::Dirty,
    quota::Quotas,
    remembered::Remembered,
    shared::SharedVolumes,
    shares::{Luck, Shares},
    table::{Key, Table},
    timers::Timers,
};

type AgentKey = Key<AgentId>;
type FrameworkKey = Key<FrameworkId>;
type RoleKey = Key<RoleName>;

/// The whole live state of the cluster.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    /// Time of the input that is handled.
    now: u64,
    agents: Table<AgentId, Agent>,
    frameworks: Table<FrameworkId, Framework>,
    completed: Remembered<FrameworkId, Completed>,
    /// Ids that may never subscribe again.
    removed: BTreeSet<FrameworkId>,
    offers: Offers,
    /// Streams of connected frameworks.
    streams: BTreeMap<StreamId, FrameworkId>,
    /// Links of connected agents.
    links: BTreeMap<LinkId, AgentId>,
    /// Links of agents that the registry does not show as admitted yet.
    waiting: BTreeMap<LinkId, Reregister>,
    executors: Executors,
    /// What reported tasks have.
    interned: Interned,
    shares: Shares,
    /// Shared volumes that frameworks use or are offered.
    shared: SharedVolumes,
    quotas: Quotas,
    /// What operators have set.
    role_settings: BTreeMap<RoleName, roles::Settings>,
    /// After a change of leader: no offers until at most so many agents are missing.
    recovery_hold: Option<usize>,
    /// Hosts whose agents are offered; none: all.
    whitelist: Option<BTreeSet<String>>,
    timers: Timers,
    /// Agents with more to offer than before.
    touched_agents: Vec<AgentKey>,
    /// Frameworks that may want what they did not want before.
    touched_frameworks: Vec<FrameworkKey>,
    /// Agents that have something left to offer.
    available: Vec<AgentKey>,
    /// How many of them have more than what is nobody's and for everybody.
    odd_available: usize,
    /// Where the next look at them begins.
    next_available: usize,
    /// Offers that were made and not told yet, those of a framework together.
    made: Vec<(FrameworkKey, OfferNo)>,
    /// Bytes of agents' records in the registry.
    registered_bytes: u64,
    /// Agents known to the registry that have not linked to this leader yet.
    recovered: BTreeSet<AgentId>,
    next_framework: u64,
    next_filter: u64,
    next_operation: u64,
    /// Operations that have not ended, or whose end their frameworks have not acknowledged.
    operations: BTreeMap<operations::OperationUuid, operations::Tracked>,
    /// Tells this term from others.
    seed: u64,
    /// State of the generator that shuffles agents.
    shuffle: u64,
    counters: Counters,
    effects: Vec<Effect>,
    /// What frameworks want to know of their tasks, in order.
    questions: VecDeque<(FrameworkId, reconcile::Question)>,
    dirty: Dirty,
    /// Whether anybody is told of changes.
    watched: bool,
}

impl Core {
    /// An empty cluster.
    #[must_use]
    pub fn new(config: CoreConfig) -> Self {
        let seed = config.master.id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self {
            now: config.elected_at_ms,
            agents: Table::default(),
            frameworks: Table::default(),
            completed: Remembered::new(config.max_completed_frameworks),
            removed: BTreeSet::new(),
            offers: Offers::new(&config.master.id),
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            waiting: BTreeMap::new(),
            executors: Executors::default(),
            interned: Interned::default(),
            shares: Shares::new(config.excluded_from_shares.clone()).by_chance(
                config.random_roles.then(|| Luck::new(seed)),
                config.random_frameworks.then(|| Luck::new(seed.rotate_left(32))),
            ),
            shared: SharedVolumes::default(),
            quotas: Quotas::new(config.min_allocatable.clone()),
            role_settings: BTreeMap::new(),
            recovery_hold: None,
            whitelist: None,
            timers: Timers::default(),
            touched_agents: Vec::new(),
            touched_frameworks: Vec::new(),
            available: Vec::new(),
            odd_available: 0,
            next_available: 0,
            made: Vec::new(),
            registered_bytes: 0,
            recovered: BTreeSet::new(),
            next_framework: 0,
            next_filter: 0,
            next_operation: 0,
            operations: BTreeMap::new(),
            seed,
            shuffle: seed | 1,
            counters: Counters::default(),
            effects: Vec::new(),
            questions: VecDeque::new(),
            dirty: Dirty::default(),
            watched: true,
            config,
        }
    }

    /// Takes one input at a time (Unix time, milliseconds).
    ///
    /// # Errors
    /// Only calls fail; a refused call changes nothing.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Result<(), CallError> {
        self.now = self.now.max(now_ms);
        match input {
            Input::FrameworkRecords(records) => self.load_frameworks(records),
            Input::RoleRecords(records) => self.load_roles(records),
            Input::RegistrySnapshot(agents) => self.registry_snapshot(agents),
            Input::RegistryChanged(agent) => self.registry_changed(*agent),
            Input::RegistryRemoved(agent) => self.registry_removed(&agent),
            Input::AgentLinked { link, report } => self.agent_linked(link, *report),
            Input::AgentUnlinked { link } => self.agent_unlinked(link),
            Input::StatusUpdate { link, update } => self.status_update(link, *update),
            Input::Subscribe { stream, call } => return self.subscribe(stream, *call),
            Input::StreamClosed { stream } => self.stream_closed(&stream),
            Input::Call { stream, call, traceparent } => return self.call(&stream, *call, &traceparent),
            Input::Teardown { framework } => return self.operator_teardown(&framework),
            Input::OperationUpdate { link, update } => self.operation_update(link, *update),
            Input::MessageToFramework { link, message } => self.message_to_framework(link, *message),
            Input::ExecutorEnded { link, ended } => self.executor_ended(link, ended),
            Input::Whitelist(hosts) => self.set_whitelist(hosts),
            Input::UpdateWeights(weights) => return self.update_weights(weights),
            Input::UpdateQuota(update) => return self.update_quota(*update),
            Input::Apply(request) => return self.apply_for_operator(*request),
            Input::Tick => self.tick(),
        }
        Ok(())
    }

    /// Makes offers and hands over what is to be done since the last call.
    pub fn settle(&mut self, now_ms: u64) -> Outcome {
        self.decide(now_ms);
        self.outcome()
    }

    /// The first half of [`Core::settle`]: which offers are made. For those who measure it alone; [`Core::outcome`]
    /// comes next.
    pub fn decide(&mut self, now_ms: u64) {
        self.now = self.now.max(now_ms);
        self.answer_questions();
        self.allocate();
    }

    /// The second half of [`Core::settle`]: all messages.
    pub fn outcome(&mut self) -> Outcome {
        self.send_offers();
        let changes = match self.watched {
            true => self.take_changes(),
            false => self.forget_changes(),
        };
        Outcome { effects: std::mem::take(&mut self.effects), changes }
    }

    /// Whether the outcomes from now on are to have changes: without readers nobody needs them.
    pub fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// Agents that have not linked to this leader yet and are expected to.
    #[must_use]
    pub fn awaited_agents(&self) -> usize {
        self.recovered.len()
    }

    /// When [`Input::Tick`] is due next (Unix time, milliseconds).
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.questions.is_empty() { self.timers.next() } else { Some(self.now) }
    }
}
