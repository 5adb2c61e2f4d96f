//! Launches: which ACCEPT is due when, and what is in it.

use meshos_proto::mesos::v1::{
    self as pb,
    scheduler::{Call, call},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Framework, Plan, Waiting};

/// What is being launched.
pub(super) struct Launching {
    pub(super) plan: Plan,
    pub(super) submitted: u64,
    /// Everything is submitted, and the offers that are left are others'.
    released: bool,
    pub(super) done: oneshot::Sender<()>,
}

impl Launching {
    pub(super) fn new(plan: Plan, done: oneshot::Sender<()>) -> Self {
        Self { plan, submitted: 0, released: false, done }
    }

    pub(super) fn goes_on(&self) -> bool {
        self.submitted < self.plan.tasks
    }

    /// Whether the last task was submitted just now, as fast as it went: others want the offers that are left. Of a
    /// steady rate nobody wants more than there is, and thousands of offers that move would be measured with its end.
    pub(super) fn releases(&mut self) -> bool {
        self.plan.pace.is_none() && !self.goes_on() && !std::mem::replace(&mut self.released, true)
    }
}

impl Framework {
    /// When the next ACCEPT of a paced launch is due, if an offer is there for it.
    pub(super) fn next_launch(&self) -> Option<Instant> {
        let launching = self.launching.as_ref().filter(|launching| launching.goes_on())?;
        if self.queue.is_empty() {
            return Some(self.revive);
        }
        launching.plan.pace.map(|pace| launching.plan.from + pace.mul_f64(nth(launching)))
    }

    /// Sends the ACCEPTs that are due and have an offer.
    pub(super) fn submit(&mut self) {
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
            let first = self.ledger.next();
            let call = self.accept(offer, count, due);
            self.waiting.push_back(Waiting { call, tasks: first..self.ledger.next(), done: None });
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
