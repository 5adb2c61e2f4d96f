//! One framework's loop.

mod launch;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use meshos_mesh::Backoff;
use meshos_proto::mesos::v1::{
    self as pb, framework_info,
    scheduler::{Call, Event, call, event},
    task_status::Reason,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use self::launch::Launching;
use super::{
    Firsts, Order, Plan, Shared,
    ledger::Ledger,
    via::{Caller, Events, Via},
};

/// Roles that the frameworks are spread over.
const ROLES: usize = 20;
/// Calls under way at a time; the allocator refuses those beyond a thousand.
const CALLS: usize = 512;
/// Seconds for which offers that nobody needs are refused.
const REFUSE: f64 = 60.0;
/// A framework without offers asks for them this often.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A framework that does not know what became of an ACCEPT asks this often.
const RECONCILE: Duration = Duration::from_secs(2);

struct Reconciling {
    from: Instant,
    missing: u64,
    done: oneshot::Sender<Duration>,
}

/// A call to be made.
struct Waiting {
    call: Call,
    /// Numbers of the tasks that it launches.
    tasks: Range<usize>,
    /// Told once the call is answered.
    done: Option<oneshot::Sender<()>>,
}

/// How a call ended.
struct Answered {
    kind: call::Type,
    ok: bool,
    tasks: Range<usize>,
    done: Option<oneshot::Sender<()>>,
}

pub(super) struct Framework {
    via: Via,
    info: pb::FrameworkInfo,
    caller: Option<Arc<Caller>>,
    events: Option<Events>,
    /// When the stream of events began.
    subscribed: Instant,
    backoff: Option<Backoff>,
    offers: BTreeMap<String, pb::Offer>,
    queue: VecDeque<String>,
    ledger: Ledger,
    launching: Option<Launching>,
    reconciling: Option<Reconciling>,
    waiting: VecDeque<Waiting>,
    calls: FuturesUnordered<BoxFuture<'static, Answered>>,
    shared: Arc<Shared>,
    /// When it may ask for offers again.
    revive: Instant,
    /// Tasks of ACCEPTs that failed: they may have been launched.
    unsure: Vec<Range<usize>>,
    /// When it may ask for them again.
    reconcile: Instant,
    /// Told once there are enough offers.
    waking: Option<oneshot::Sender<()>>,
}

impl Framework {
    pub(super) fn new(number: usize, via: Via, shared: Arc<Shared>) -> Self {
        let name = format!("load{number}");
        let multi_role =
            framework_info::Capability { r#type: Some(framework_info::capability::Type::MultiRole.into()) };
        let info = pb::FrameworkInfo {
            user: "root".to_owned(),
            name: name.clone(),
            roles: vec![format!("load{}", number % ROLES)],
            capabilities: vec![multi_role],
            failover_timeout: Some(604_800.0),
            checkpoint: Some(true),
            ..pb::FrameworkInfo::default()
        };
        Self {
            via,
            info,
            caller: None,
            events: None,
            subscribed: Instant::now(),
            backoff: None,
            offers: BTreeMap::new(),
            queue: VecDeque::new(),
            ledger: Ledger::new(&name),
            launching: None,
            reconciling: None,
            waiting: VecDeque::new(),
            calls: FuturesUnordered::new(),
            shared,
            revive: Instant::now(),
            unsure: Vec::new(),
            reconcile: Instant::now(),
            waking: None,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            if self.events.is_none() {
                self.subscribe().await;
            }
            let due = self.next_due();
            tokio::select! {
                biased;
                events = next(&mut self.events) => match events {
                    Some(events) => events.into_iter().for_each(|event| self.event(event)),
                    None => self.disconnected(),
                },
                Some(answered) = self.calls.next() => self.answered(answered),
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                () = at(due) => {}
            }
            self.submit();
            self.ask_again();
            self.ask_for_unsure();
            self.send_waiting();
            self.check_done();
        }
    }

    async fn subscribe(&mut self) {
        let call = Call {
            framework_id: self.info.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: self.info.clone(),
                ..call::Subscribe::default()
            }),
            ..Call::default()
        };
        match self.via.subscribe(call).await {
            Ok((caller, events)) => {
                self.caller = Some(Arc::new(caller));
                self.events = Some(events);
            }
            Err(_) => {
                let rng = meshos_mesh::Rng::system();
                let backoff = self.backoff.get_or_insert_with(|| {
                    Backoff::new(&rng, Duration::from_millis(10), Duration::from_millis(200))
                });
                backoff.wait().await;
            }
        }
    }

    fn disconnected(&mut self) {
        if self.caller.take().is_some() && self.info.id.is_some() {
            self.shared.subscribed.send_modify(|count| *count -= 1);
        }
        self.events = None;
        self.offers.clear();
        self.queue.clear();
        let never_sent = self.waiting.drain(..).map(|waiting| waiting.tasks);
        self.unsure.extend(never_sent.filter(|tasks| !tasks.is_empty()));
    }

    fn event(&mut self, event: Event) {
        match event.r#type() {
            event::Type::Subscribed => {
                self.backoff = None;
                self.subscribed = Instant::now();
                self.shared.subscribed.send_modify(|count| *count += 1);
                self.info.id = event.subscribed.map(|subscribed| subscribed.framework_id);
            }
            event::Type::Offers => {
                let mut surplus = Vec::new();
                for offer in event.offers.unwrap_or_default().offers {
                    if self.offers.len() >= self.shared.hoard {
                        surplus.push(offer.id);
                        continue;
                    }
                    self.queue.push_back(offer.id.value.clone());
                    self.offers.insert(offer.id.value.clone(), offer);
                }
                if !surplus.is_empty() {
                    self.decline(surplus, REFUSE, None);
                }
            }
            event::Type::Rescind => {
                if let Some(rescind) = event.rescind {
                    self.offers.remove(&rescind.offer_id.value);
                }
            }
            event::Type::Update => {
                if let Some(update) = event.update {
                    self.status(update.status);
                }
            }
            _ => {}
        }
    }

    fn status(&mut self, status: pb::TaskStatus) {
        let answer = status.reason == Some(Reason::Reconciliation.into());
        let state = status.state();
        if self.ledger.status(&status.task_id.value, state, answer) {
            Firsts::note(&self.shared.firsts.running);
        }
        if answer && let Some(reconciling) = &mut self.reconciling {
            reconciling.missing = reconciling.missing.saturating_sub(1);
        }
        let (Some(uuid), Some(agent_id)) = (status.uuid, status.agent_id) else { return };
        let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id, uuid };
        self.queue_call(Call { acknowledge: Some(acknowledge), ..self.call(call::Type::Acknowledge) }, None);
    }

    fn queue_call(&mut self, call: Call, done: Option<oneshot::Sender<()>>) {
        self.waiting.push_back(Waiting { call, tasks: 0..0, done });
    }

    fn call(&self, kind: call::Type) -> Call {
        Call { framework_id: self.info.id.clone(), r#type: Some(kind.into()), ..Call::default() }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Launch(plan, done) => {
                // Offers of a stream that began later are fresh ones; who forgot them would keep them from all others.
                if plan.fresh && self.subscribed < plan.from {
                    self.offers.clear();
                    self.queue.clear();
                }
                self.launching = Some(Launching::new(plan, done));
            }
            Order::Want(true, done) => {
                self.revive = Instant::now();
                self.waking = Some(done);
            }
            Order::Want(false, done) => self.release(Some(done)),
            Order::Reconcile(done) => {
                let missing = self.ledger.running();
                self.reconciling = Some(Reconciling { from: Instant::now(), missing, done });
                let reconcile = Some(call::Reconcile::default());
                self.queue_call(Call { reconcile, ..self.call(call::Type::Reconcile) }, None);
            }
            // Whoever asked may have gone.
            Order::Account(reply) => drop(reply.send(self.ledger.account())),
        }
    }

    /// Wants no offers any more: an idle framework must not keep what others need.
    fn release(&mut self, done: Option<oneshot::Sender<()>>) {
        self.queue_call(self.call(call::Type::Suppress), None);
        let ids = self.offers.keys().map(|id| pb::OfferId { value: id.clone() }).collect();
        self.decline(ids, 0.0, done);
        self.offers.clear();
        self.queue.clear();
    }

    fn decline(&mut self, offer_ids: Vec<pb::OfferId>, seconds: f64, done: Option<oneshot::Sender<()>>) {
        let filters = Some(pb::Filters { refuse_seconds: Some(seconds) });
        let decline = Some(call::Decline { offer_ids, filters });
        self.queue_call(Call { decline, ..self.call(call::Type::Decline) }, done);
    }

    /// Asks for offers that it refused before, when it has none and something to launch.
    fn ask_again(&mut self) {
        let starves = self.offers.is_empty() && self.launching.as_ref().is_some_and(Launching::goes_on)
            || self.offers.len() < self.shared.enough && self.waking.is_some();
        if starves && self.revive <= Instant::now() {
            self.revive = Instant::now() + ASK_AGAIN;
            self.queue_call(self.call(call::Type::Revive), None);
        }
    }

    /// Asks for tasks whose ACCEPT failed, until it is known of each whether it was launched.
    fn ask_for_unsure(&mut self) {
        if self.unsure.is_empty() || self.events.is_none() || Instant::now() < self.reconcile {
            return;
        }
        self.reconcile = Instant::now() + RECONCILE;
        let ledger = &self.ledger;
        self.unsure.retain(|tasks| ledger.unsettled(tasks.clone()).next().is_some());
        let ids = self.unsure.iter().flat_map(|tasks| ledger.unsettled(tasks.clone()));
        let tasks: Vec<_> = ids
            .map(|id| call::reconcile::Task { task_id: pb::TaskId { value: id }, agent_id: None })
            .collect();
        if !tasks.is_empty() {
            let reconcile = Some(call::Reconcile { tasks });
            self.queue_call(Call { reconcile, ..self.call(call::Type::Reconcile) }, None);
        }
    }

    /// When there is something to do even if nothing happens.
    fn next_due(&self) -> Option<Instant> {
        let unsure = (!self.unsure.is_empty()).then_some(self.reconcile);
        let waking = self.waking.is_some().then_some(self.revive);
        [unsure, waking, self.next_launch()].into_iter().flatten().min()
    }

    fn send_waiting(&mut self) {
        let Some(caller) = &self.caller else { return };
        while self.calls.len() < CALLS
            && let Some(Waiting { call, tasks, done }) = self.waiting.pop_front()
        {
            let (caller, kind) = (Arc::clone(caller), call.r#type());
            let sent = async move {
                let answer = caller.call(call).await;
                if let Err(error) = &answer {
                    crate::note(&format!("{kind:?} failed: {error:#}"));
                }
                Answered { kind, ok: answer.is_ok(), tasks, done }
            };
            self.calls.push(sent.boxed());
        }
    }

    fn answered(&mut self, answered: Answered) {
        if !answered.ok {
            self.ledger.failed_call();
            self.unsure.extend(Some(answered.tasks).filter(|tasks| !tasks.is_empty()));
        } else if answered.kind == call::Type::Accept {
            Firsts::note(&self.shared.firsts.accepted);
        }
        if let Some(done) = answered.done {
            let _ = done.send(());
        }
    }

    fn check_done(&mut self) {
        if self.launching.as_mut().is_some_and(Launching::releases) {
            self.release(None);
        }
        let enough = self.offers.len() >= self.shared.enough;
        if let Some(done) = self.waking.take_if(|_| enough) {
            let _ = done.send(());
        }
        let settled = self.ledger.open() == 0;
        if let Some(done) = self.launching.take_if(|l| l.submitted >= l.plan.tasks && settled) {
            let _ = done.done.send(());
        }
        if let Some(done) = self.reconciling.take_if(|reconciling| reconciling.missing == 0) {
            let _ = done.done.send(done.from.elapsed());
        }
    }
}

async fn next(events: &mut Option<Events>) -> Option<Vec<Event>> {
    match events {
        Some(events) => events.next().await,
        None => None,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
