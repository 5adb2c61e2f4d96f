//! Which waiting instance goes on which offer.
//!
//! All offers at hand are looked at together, for the whole queue, and the whole queue for all offers. Wanted is, in
//! this order:
//!
//! 1. as much of the demand as possible finds a place, and never less than plain first fit would place;
//! 2. instances of one app spread over agents;
//! 3. load evens out.
//!
//! [`place`] first tries to spread. Only where that leaves something over that would have fitted into an untouched
//! offer, two other orders are tried as well, tight packing and first fit, and the one that places most is taken.
//! What is hard to place (constraints, then a large share of the largest offer) goes first: what is easy finds room
//! later.

mod attempt;
pub mod constraints;
mod fit;
mod ports;
pub mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meshos_proto::{meshos::apps::v1::App, mesos::v1 as pb};
use meshos_types::Resources;
use regex::Regex;

use attempt::{Attempt, Order};
use constraints::Placed;
use fit::Amounts;

/// Why an offer was not used, in the order in which Marathon reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    UnfulfilledRole,
    UnfulfilledConstraint,
    AgentMaintenance,
    InsufficientCpus,
    InsufficientMemory,
    InsufficientDisk,
    InsufficientGpus,
    InsufficientPorts,
    DeclinedScarceResources,
}

impl Reason {
    /// Its name in `/v2/queue`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnfulfilledRole => "UnfulfilledRole",
            Self::UnfulfilledConstraint => "UnfulfilledConstraint",
            Self::AgentMaintenance => "AgentMaintenance",
            Self::InsufficientCpus => "InsufficientCpus",
            Self::InsufficientMemory => "InsufficientMemory",
            Self::InsufficientDisk => "InsufficientDisk",
            Self::InsufficientGpus => "InsufficientGpus",
            Self::InsufficientPorts => "InsufficientPorts",
            Self::DeclinedScarceResources => "DeclinedScarceResources",
        }
    }
}

/// An offer, and what is left of it.
#[derive(Clone, Debug)]
pub struct Offered {
    pub offer: Arc<pb::Offer>,
    left: Resources,
    pub launches: Vec<Launch>,
}

impl Offered {
    /// An offer with resources that cannot be read counts as empty.
    pub fn new(offer: pb::Offer) -> Self {
        let left = Resources::from_proto(&offer.resources).unwrap_or_default();
        Self { offer: Arc::new(offer), left, launches: Vec::new() }
    }

    fn role(&self) -> &str {
        self.offer.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or("*")
    }
}

/// An instance's place on an offer.
#[derive(Clone, Debug)]
pub struct Launch {
    pub instance_id: String,
    /// Of the task alone.
    pub resources: Resources,
    /// Of its own executor, if it has one and asks for some.
    pub executor: Resources,
    /// Of the host, in the order of the app's ports; 0: none there.
    pub ports: Vec<u32>,
    /// Inside the container, likewise; empty on the host's network.
    pub container_ports: Vec<u32>,
}

/// One app's waiting instances that run the same definition.
#[derive(Debug)]
pub struct Request<'a> {
    pub app: &'a App,
    /// Ids, in the order in which they are to be placed.
    pub waiting: Vec<String>,
    /// Where instances of the same configuration are.
    pub placed: Vec<Placed>,
    /// Roles whose reserved resources may be used; `*` means what is unreserved.
    pub accepted_roles: Vec<String>,
    /// Of the app's constraints: see [`constraints::Patterns::of`].
    pub patterns: Vec<Option<Arc<Regex>>>,
    /// GROUP_BY without a number no longer waits for groups that have no room.
    pub relaxed: bool,
}

/// What holds for all requests.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Most launches on one offer.
    pub per_offer: usize,
    /// Unix time, milliseconds.
    pub now_ms: u64,
    /// Agents whose maintenance begins within so many milliseconds get nothing; none: maintenance does not count.
    pub draining_ms: Option<u64>,
    /// Agents with GPUs are kept for apps that ask for some, unless the app's label says otherwise.
    pub gpus_are_kept: bool,
    /// Where in an offer's ports the search for free ones begins; 0: with the lowest. A port that was just given back
    /// is then seldom the next one to be taken, while load balancers and peers may still know it as another task's.
    pub port_seed: u64,
    /// Executor of apps that name none.
    pub executor: String,
    /// Where the masters are: agents elsewhere take only apps that name a region or a zone.
    pub home_region: Option<String>,
}

/// What became of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Offers that did not take all that waited.
    pub looked_at: usize,
    /// Each of them under its first reason.
    pub by_reason: BTreeMap<Reason, usize>,
    /// Offers that were used.
    pub used: usize,
    /// Offers that were not used at all.
    pub unused: usize,
    /// Place of each offer that refused, its agent, and all its reasons.
    pub by_offer: Vec<(usize, String, BTreeSet<Reason>)>,
    /// Instances that found no place. Each of them was refused by every offer that is counted above.
    pub left_over: usize,
}

/// Places as many as fit. The answers are in the order of `requests`.
pub fn place(requests: &[Request<'_>], offers: &mut [Offered], terms: &Terms) -> Vec<Refusals> {
    let supply: Vec<Amounts> = offers.iter().map(|offered| Amounts::of(&offered.left)).collect();
    let mut best = Attempt::run(requests, offers, terms, Order::Spread);
    let few = requests.len().saturating_mul(offers.len()) <= MOST_PAIRS;
    if few && is_tight(requests, &supply, &best, terms) {
        let total = supply.iter().fold(Amounts::default(), |sum, one| sum.plus(one));
        let mut most = best.placed_share(requests, &total, terms);
        for order in [Order::Pack, Order::First] {
            let other = Attempt::run(requests, offers, terms, order);
            let share = other.placed_share(requests, &total, terms);
            // Sums of the same shares in another order differ in their last digits.
            if share > most + 1e-9 {
                (best, most) = (other, share);
            }
        }
    }
    best.finish(offers)
}

/// Pairs of a request and an offer that the other orders may look at.
const MOST_PAIRS: usize = 2_000_000;

/// Whether something found no place that would have fitted into an offer that nothing else uses.
fn is_tight(requests: &[Request<'_>], supply: &[Amounts], attempt: &Attempt, terms: &Terms) -> bool {
    let left_over = requests.iter().zip(attempt.refusals()).filter(|(_, refusals)| refusals.left_over > 0);
    let mut needs = left_over.map(|(request, _)| Amounts::wanted(request.app, terms));
    needs.any(|need| supply.iter().any(|offer| need.shortage(offer).is_empty()))
}

#[cfg(test)]
mod quality;
#[cfg(test)]
mod tests;
