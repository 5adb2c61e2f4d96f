//! One framework's loop.

use std::{
    collections::{BTreeMap, VecDeque},
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

use super::{
    Firsts, Order, Plan, Shared,
    ledger::Ledger,
    via::{Caller, Events, Via},
};

/// Roles that the frameworks are spread over.
const ROLES: usize = 20;
/// Calls under way at a time.
const CALLS: usize = 64;
/// Seconds for which offers that nobody needs are refused.
const REFUSE: f64 = 60.0;
/// A framework without offers asks for them this often.
const ASK_AGAIN: Duration = Duration::from_millis(500);

struct Launching {
    plan: Plan,
    submitted: u64,
    /// Everything is submitted, and the offers that are left are others'.
    released: bool,
    done: oneshot::Sender<()>,
}

impl Launching {
    fn goes_on(&self) -> bool {
        self.submitted < self.plan.tasks
    }

    /// Whether the last task was submitted just now.
    fn releases(&mut self) -> bool {
        !self.goes_on() && !std::mem::replace(&mut self.released, true)
    }
}

struct Reconciling {
    from: Instant,
    missing: u64,
    done: oneshot::Sender<Duration>,
}

/// How a call ended.
struct Answered {
    kind: call::Type,
    ok: bool,
    /// Told once the call is answered.
    done: Option<oneshot::Sender<()>>,
}

pub(super) struct Framework {
    via: Via,
    info: pb::FrameworkInfo,
    caller: Option<Arc<Caller>>,
    events: Option<Events>,
    backoff: Option<Backoff>,
    offers: BTreeMap<String, pb::Offer>,
    queue: VecDeque<String>,
    ledger: Ledger,
    launching: Option<Launching>,
    reconciling: Option<Reconciling>,
    waiting: VecDeque<(Call, Option<oneshot::Sender<()>>)>,
    calls: FuturesUnordered<BoxFuture<'static, Answered>>,
    shared: Arc<Shared>,
    /// When it may ask for offers again.
    revive: Instant,
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
        self.waiting.clear();
    }

    fn event(&mut self, event: Event) {
        match event.r#type() {
            event::Type::Subscribed => {
                self.backoff = None;
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
        let call = Call { acknowledge: Some(acknowledge), ..self.call(call::Type::Acknowledge) };
        self.waiting.push_back((call, None));
    }

    fn call(&self, kind: call::Type) -> Call {
        Call { framework_id: self.info.id.clone(), r#type: Some(kind.into()), ..Call::default() }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Launch(plan, done) => {
                if plan.fresh {
                    self.offers.clear();
                    self.queue.clear();
                }
                self.launching = Some(Launching { plan, submitted: 0, released: false, done });
            }
            Order::Want(true, done) => self.waiting.push_back((self.call(call::Type::Revive), Some(done))),
            Order::Want(false, done) => self.release(Some(done)),
            Order::Reconcile(done) => {
                let missing = self.ledger.running();
                self.reconciling = Some(Reconciling { from: Instant::now(), missing, done });
                let reconcile = Some(call::Reconcile::default());
                let call = Call { reconcile, ..self.call(call::Type::Reconcile) };
                self.waiting.push_back((call, None));
            }
            // Whoever asked may have gone.
            Order::Account(reply) => drop(reply.send(self.ledger.account())),
        }
    }

    /// Wants no offers any more: an idle framework must not keep what others need.
    fn release(&mut self, done: Option<oneshot::Sender<()>>) {
        self.waiting.push_back((self.call(call::Type::Suppress), None));
        let ids = self.offers.keys().map(|id| pb::OfferId { value: id.clone() }).collect();
        self.decline(ids, 0.0, done);
        self.offers.clear();
        self.queue.clear();
    }

    fn decline(&mut self, offer_ids: Vec<pb::OfferId>, seconds: f64, done: Option<oneshot::Sender<()>>) {
        let filters = Some(pb::Filters { refuse_seconds: Some(seconds) });
        let decline = Some(call::Decline { offer_ids, filters });
        self.waiting.push_back((Call { decline, ..self.call(call::Type::Decline) }, done));
    }

    /// Asks for offers that it refused before, when it has none and something to launch.
    fn ask_again(&mut self) {
        let starves = self.offers.is_empty() && self.launching.as_ref().is_some_and(Launching::goes_on);
        if starves && self.revive <= Instant::now() {
            self.revive = Instant::now() + ASK_AGAIN;
            self.waiting.push_back((self.call(call::Type::Revive), None));
        }
    }

    /// When the next ACCEPT of a paced launch is due, if an offer is there for it.
    fn next_due(&self) -> Option<Instant> {
        let launching = self.launching.as_ref().filter(|launching| launching.goes_on())?;
        if self.queue.is_empty() {
            return Some(self.revive);
        }
        launching.plan.pace.map(|pace| launching.plan.from + pace.mul_f64(nth(launching)))
    }

    /// Sends the ACCEPTs that are due and have an offer.
    fn submit(&mut self) {
        loop {
            let Some(launching) = &mut self.launching else { return };
            let Plan { tasks, each, window, pace, from, .. } = launching.plan;
            let left = tasks - launching.submitted;
            let now = Instant::now();
            let due = pace.map_or(now, |pace| from + pace.mul_f64(nth(launching)));
            if left == 0 || due > now || self.ledger.open() >= window {
                return;
            }
            let Some(id) = self.queue.pop_front() else { return };
            let Some(offer) = self.offers.remove(&id) else { continue };
            let count = each.min(usize::try_from(left).unwrap_or(usize::MAX));
            launching.submitted += count as u64;
            let call = self.accept(offer, count, due);
            self.waiting.push_back((call, None));
            self.send_waiting();
        }
    }

    fn accept(&mut self, offer: pb::Offer, count: usize, due: Instant) -> Call {
        let task_infos = (0..count).map(|_| task(self.ledger.submit(due), &offer.agent_id)).collect();
        let operation = pb::offer::Operation {
            r#type: Some(pb::offer::operation::Type::Launch.into()),
            launch: Some(pb::offer::operation::Launch { task_infos }),
            ..pb::offer::Operation::default()
        };
        let filters = Some(pb::Filters { refuse_seconds: Some(0.0) });
        let accept = call::Accept { offer_ids: vec![offer.id], operations: vec![operation], filters };
        Call { accept: Some(accept), ..self.call(call::Type::Accept) }
    }

    fn send_waiting(&mut self) {
        let Some(caller) = &self.caller else { return };
        while self.calls.len() < CALLS
            && let Some((call, done)) = self.waiting.pop_front()
        {
            let (caller, kind) = (Arc::clone(caller), call.r#type());
            let sent = async move {
                let answer = caller.call(call).await;
                if let Err(error) = &answer {
                    crate::note(&format!("{kind:?} failed: {error:#}"));
                }
                Answered { kind, ok: answer.is_ok(), done }
            };
            self.calls.push(sent.boxed());
        }
    }

    fn answered(&mut self, answered: Answered) {
        if !answered.ok {
            self.ledger.failed_call();
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
        let settled = self.ledger.open() == 0;
        if let Some(done) = self.launching.take_if(|l| l.submitted >= l.plan.tasks && settled) {
            let _ = done.done.send(());
        }
        if let Some(done) = self.reconciling.take_if(|reconciling| reconciling.missing == 0) {
            let _ = done.done.send(done.from.elapsed());
        }
    }
}

/// Number of the next ACCEPT of a launch.
fn nth(launching: &Launching) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let nth = launching.submitted as f64 / launching.plan.each.max(1) as f64;
    nth
}

fn task(id: String, agent: &pb::AgentId) -> pb::TaskInfo {
    pb::TaskInfo {
        name: "load".to_owned(),
        task_id: pb::TaskId { value: id },
        agent_id: agent.clone(),
        resources: vec![scalar("cpus", 0.1), scalar("mem", 32.0)],
        command: Some(pb::CommandInfo { value: Some("sleep 1000".to_owned()), ..pb::CommandInfo::default() }),
        ..pb::TaskInfo::default()
    }
}

fn scalar(name: &str, value: f64) -> pb::Resource {
    pb::Resource {
        name: name.to_owned(),
        r#type: pb::value::Type::Scalar.into(),
        scalar: Some(pb::value::Scalar { value }),
        ..pb::Resource::default()
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
