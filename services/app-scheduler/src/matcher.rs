//! Which waiting instance goes on which offer.
//!
//! All offers at hand are looked at together, for the whole queue. Apps are taken hardest first: those with
//! constraints, then by the largest share that one instance has of the largest offer. What is easy to place finds
//! room later; what is hard would not. Within an app instances go round the offers, one on each in turn, so that
//! they spread over agents.

pub mod constraints;
pub mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meshos_proto::{meshos::apps::v1::App, mesos::v1 as pb};
use meshos_types::{Milli, Ranges, Resource, Resources, RoleName, Shortage, Wanted, rank_for_role};
use regex::Regex;

use constraints::{Placed, Spread};

/// Why an offer was not used, in the order in which Marathon reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    UnfulfilledRole,
    UnfulfilledConstraint,
    InsufficientCpus,
    InsufficientMemory,
    InsufficientDisk,
    InsufficientGpus,
    InsufficientPorts,
}

impl Reason {
    /// Its name in `/v2/queue`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnfulfilledRole => "UnfulfilledRole",
            Self::UnfulfilledConstraint => "UnfulfilledConstraint",
            Self::InsufficientCpus => "InsufficientCpus",
            Self::InsufficientMemory => "InsufficientMemory",
            Self::InsufficientDisk => "InsufficientDisk",
            Self::InsufficientGpus => "InsufficientGpus",
            Self::InsufficientPorts => "InsufficientPorts",
        }
    }
}

/// An offer, and what is left of it.
#[derive(Debug)]
pub struct Offered {
    pub offer: pb::Offer,
    left: Resources,
    pub launches: Vec<Launch>,
}

impl Offered {
    /// An offer with resources that cannot be read counts as empty.
    pub fn new(offer: pb::Offer) -> Self {
        let left = Resources::from_proto(&offer.resources).unwrap_or_default();
        Self { offer, left, launches: Vec::new() }
    }

    fn role(&self) -> &str {
        self.offer.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or("*")
    }
}

/// An instance's place on an offer.
#[derive(Debug)]
pub struct Launch {
    pub instance_id: String,
    pub resources: Resources,
    /// In the order of the port definitions.
    pub ports: Vec<u32>,
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
}

/// What became of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Offers that did not take all that waited.
    pub looked_at: usize,
    pub by_reason: BTreeMap<Reason, usize>,
    /// Offers that were used.
    pub used: usize,
    /// Offers that were not used at all.
    pub unused: usize,
    /// Agents of the offers that refused.
    pub by_agent: Vec<(String, Reason)>,
}

/// Places as many as fit; at most `per_offer` on one offer. The answers are in the order of `requests`.
pub fn place(requests: &[Request<'_>], offers: &mut [Offered], per_offer: usize) -> Vec<Refusals> {
    let largest = largest(offers);
    let mut order: Vec<usize> = (0..requests.len()).collect();
    let hardness = |index: usize| {
        let app = requests[index].app;
        (!app.constraints.is_empty(), share(app, &largest))
    };
    order.sort_by(|a, b| {
        let ((a_bound, a_share), (b_bound, b_share)) = (hardness(*a), hardness(*b));
        b_bound.cmp(&a_bound).then(b_share.total_cmp(&a_share)).then(a.cmp(b))
    });
    let mut refusals = vec![Refusals::default(); requests.len()];
    for index in order {
        refusals[index] = place_one(&requests[index], offers, per_offer);
    }
    refusals
}

/// The largest amount of each scalar in one offer.
fn largest(offers: &[Offered]) -> BTreeMap<&'static str, f64> {
    let most = |name: &'static str| {
        let amounts = offers.iter().map(|offered| offered.left.scalar(name).to_f64());
        (name, amounts.fold(0.0, f64::max))
    };
    ["cpus", "mem", "disk", "gpus"].into_iter().map(most).collect()
}

/// The largest share that an instance has of the largest offer.
fn share(app: &App, largest: &BTreeMap<&'static str, f64>) -> f64 {
    let of = |name: &str, amount: f64| match largest.get(name) {
        _ if amount <= 0.0 => 0.0,
        Some(most) if *most > 0.0 => amount / most,
        _ => f64::INFINITY,
    };
    [of("cpus", app.cpus), of("mem", app.mem), of("disk", app.disk), of("gpus", f64::from(app.gpus))]
        .into_iter()
        .fold(0.0, f64::max)
}

fn place_one(request: &Request<'_>, offers: &mut [Offered], per_offer: usize) -> Refusals {
    let mut refused: BTreeMap<usize, Reason> = BTreeMap::new();
    let mut used: BTreeSet<usize> = BTreeSet::new();
    let mut spread = Spread::new(request.app, &request.placed, &request.patterns);
    let mut waiting = request.waiting.iter().peekable();
    // The emptiest first, so that load evens out; an offer that refused once is not asked again in this round.
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(offers[*index].left.cpus()));
    while waiting.peek().is_some() && !order.is_empty() {
        let before = waiting.len();
        let mut next = Vec::new();
        for index in order {
            let Some(instance_id) = waiting.peek() else { break };
            let offered = &mut offers[index];
            if offered.launches.len() >= per_offer {
                continue;
            }
            match fit(request, offered, &spread) {
                Ok((resources, ports)) => {
                    spread.add(&offered.offer);
                    offered.launches.push(Launch { instance_id: (*instance_id).clone(), resources, ports });
                    waiting.next();
                    refused.remove(&index);
                    used.insert(index);
                    next.push(index);
                }
                Err(reason) => {
                    refused.insert(index, reason);
                    if reason == Reason::UnfulfilledConstraint && spread.may_change() {
                        next.push(index);
                    }
                }
            }
        }
        if waiting.len() == before {
            break;
        }
        order = next;
    }
    let unused = refused.keys().filter(|index| !used.contains(index)).count();
    let mut refusals = Refusals { looked_at: refused.len(), used: used.len(), unused, ..Refusals::default() };
    for (index, reason) in refused {
        *refusals.by_reason.entry(reason).or_default() += 1;
        refusals.by_agent.push((offers[index].offer.agent_id.value.clone(), reason));
    }
    refusals
}

fn fit(
    request: &Request<'_>,
    offered: &mut Offered,
    spread: &Spread<'_>,
) -> Result<(Resources, Vec<u32>), Reason> {
    let app = request.app;
    if offered.role() != app.role {
        return Err(Reason::UnfulfilledRole);
    }
    if !spread.allows(&offered.offer) {
        return Err(Reason::UnfulfilledConstraint);
    }
    let role: RoleName = RoleName::parse(&app.role).map_err(|_| Reason::UnfulfilledRole)?;
    let base = rank_for_role(&role);
    let rank = |resource: &Resource| {
        // Labelled dynamic reservations belong to one stateful instance.
        let kept = resource.reservation().is_some_and(|r| r.is_dynamic() && r.labels.is_some());
        let reserved = resource.reserved_role().map_or("*", RoleName::as_ref);
        let accepted = request.accepted_roles.iter().any(|role| role == reserved);
        if kept || !accepted { None } else { base(resource) }
    };
    let mut left = offered.left.clone();
    let mut taken = Resources::new();
    for (name, amount, reason) in [
        ("cpus", app.cpus, Reason::InsufficientCpus),
        ("mem", app.mem, Reason::InsufficientMemory),
        ("disk", app.disk, Reason::InsufficientDisk),
        ("gpus", f64::from(app.gpus), Reason::InsufficientGpus),
    ] {
        let amount = Milli::round(amount);
        if !amount.is_zero() {
            taken.add_all(&left.take_scalar(&Arc::from(name), amount, rank).map_err(|_| reason)?);
        }
    }
    let ports = take_ports(app, &mut left, &mut taken, rank).map_err(|_| Reason::InsufficientPorts)?;
    offered.left = left;
    Ok((taken, ports))
}

/// Takes the host ports: exactly the wanted ones when the app requires that, else whichever are free.
fn take_ports(
    app: &App,
    left: &mut Resources,
    taken: &mut Resources,
    rank: impl Fn(&Resource) -> Option<u32> + Copy,
) -> Result<Vec<u32>, Shortage> {
    let fixed = |port: u32| app.require_ports && port != 0;
    let exact: Ranges =
        app.port_definitions.iter().filter(|d| fixed(d.port)).map(|d| u64::from(d.port)).collect();
    let any = app.port_definitions.iter().filter(|d| !fixed(d.port)).count();
    let wanted = Wanted { ports: exact, ..Wanted::default() };
    taken.add_all(&left.take(&wanted, rank)?);
    let dynamic = left.take_any_ports(any as u64, rank)?;
    let numbers: Vec<u32> = dynamic.ports().values().filter_map(|port| u32::try_from(port).ok()).collect();
    taken.add_all(&dynamic);
    let mut numbers = numbers.into_iter();
    let ports = app.port_definitions.iter().map(|definition| {
        if fixed(definition.port) { definition.port } else { numbers.next().unwrap_or_default() }
    });
    Ok(ports.collect())
}

#[cfg(test)]
mod tests;
