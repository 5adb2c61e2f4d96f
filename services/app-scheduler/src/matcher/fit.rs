//! Whether one instance fits into what is left of one offer, and every reason why not.

use std::{collections::BTreeSet, sync::Arc};

use meshos_proto::{
    meshos::apps::v1::{App, ExecutorResources},
    mesos::v1 as pb,
};
use meshos_types::{
    HostPort, Milli, Ranges, Resource, Resources, RoleName, Shortage, Wanted, app_ports, rank_for_role,
};

use super::{Offered, Reason, Request, Terms, constraints::Spread, task::own_executor};

/// The label by which an app chooses its own GPU policy.
const GPU_LABEL: &str = "GPU_SCHEDULING_BEHAVIOR";

/// Amounts of cpus, mem, disk and gpus.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Amounts([f64; 4]);

/// Names and reasons in the order of [`Amounts`].
const SCALARS: [(&str, Reason); 4] = [
    ("cpus", Reason::InsufficientCpus),
    ("mem", Reason::InsufficientMemory),
    ("disk", Reason::InsufficientDisk),
    ("gpus", Reason::InsufficientGpus),
];

impl Amounts {
    /// Of everything in it, whoever may use it.
    pub(super) fn of(resources: &Resources) -> Self {
        Self(SCALARS.map(|(name, _)| resources.scalar(name).to_f64()))
    }

    /// What one instance needs, with its executor.
    pub(super) fn wanted(app: &App, terms: &Terms) -> Self {
        Self::of_task(app).plus(&Self::of_executor(app, terms))
    }

    fn of_task(app: &App) -> Self {
        Self([app.cpus, app.mem, app.disk, f64::from(app.gpus)])
    }

    fn of_executor(app: &App, terms: &Terms) -> Self {
        let ExecutorResources { cpus, mem, disk } = executor_resources(app, terms).unwrap_or_default();
        Self([cpus, mem, disk, 0.0])
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] - other.0[at]))
    }

    /// The larger of each.
    pub(super) fn max(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].max(other.0[at])))
    }

    /// The largest share that this has of `whole`; infinite where there is nothing of what is needed.
    pub(super) fn share_of(&self, whole: &Self) -> f64 {
        let shares = self.0.iter().zip(&whole.0).map(|(part, whole)| match (*part > 0.0, *whole > 0.0) {
            (false, _) => 0.0,
            (true, true) => part / whole,
            (true, false) => f64::INFINITY,
        });
        shares.fold(0.0, f64::max)
    }

    /// The sum of squares of the shares of `whole`, each weighted.
    pub(super) fn spare(&self, whole: &Self, weights: &Self) -> f64 {
        let squares = (0..4).map(|at| match whole.0[at] > 0.0 {
            true => weights.0[at] * (self.0[at] / whole.0[at]).powi(2),
            false => 0.0,
        });
        squares.sum()
    }

    /// Each divided by that of `other`; 0 where that is nothing.
    pub(super) fn per(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| if other.0[at] > 0.0 { self.0[at] / other.0[at] } else { 0.0 }))
    }

    pub(super) fn times(&self, factor: f64) -> Self {
        Self(self.0.map(|amount| amount * factor))
    }

    pub(super) fn cpus(&self) -> f64 {
        self.0[0]
    }

    /// What there is too little of in `left`. Amounts count in thousandths.
    pub(super) fn shortage(&self, left: &Self) -> BTreeSet<Reason> {
        let missing = |at: &usize| self.0[*at] > left.0[*at] + 0.0005;
        (0..4).filter(missing).map(|at| SCALARS[at].1).collect()
    }
}

/// What an instance takes.
#[derive(Debug)]
pub(super) struct Place {
    /// Of the task alone.
    pub(super) resources: Resources,
    pub(super) executor: Resources,
    /// Of the host, in the order of the app's ports; 0 for none.
    pub(super) ports: Vec<u32>,
}

/// What is asked for the app's own executor. The agents' one is part of the task.
fn executor_resources(app: &App, terms: &Terms) -> Option<ExecutorResources> {
    app.executor_resources.filter(|_| own_executor(app, &terms.executor).is_some())
}

/// Takes the instance's place out of `left`, or says every reason why it cannot be.
pub(super) fn fit(
    request: &Request<'_>,
    offered: &Offered,
    left: &mut Resources,
    spread: &Spread<'_>,
    terms: &Terms,
) -> Result<Place, BTreeSet<Reason>> {
    let app = request.app;
    let mut reasons = refused_whatever_is_left(app, offered, terms);
    if !spread.allows(&offered.offer) {
        reasons.insert(Reason::UnfulfilledConstraint);
    }
    // Cheap, and true of most offers that do not fit: all that is left, whoever may use it, is too little.
    reasons.extend(Amounts::wanted(app, terms).shortage(&Amounts::of(left)));
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let Ok(role) = RoleName::parse(&app.role) else { return Err(BTreeSet::from([Reason::UnfulfilledRole])) };
    let base = rank_for_role(&role);
    let rank = |resource: &Resource| {
        // Labelled dynamic reservations belong to one stateful instance.
        let kept = resource.reservation().is_some_and(|r| r.is_dynamic() && r.labels.is_some());
        let reserved = resource.reserved_role().map_or("*", RoleName::as_ref);
        let accepted = request.accepted_roles.iter().any(|role| role == reserved);
        if kept || !accepted { None } else { base(resource) }
    };
    let mut rest = left.clone();
    let (mut resources, short) = take_scalars(&Amounts::of_task(app), &mut rest, rank);
    reasons.extend(short);
    let (executor, short) = take_scalars(&Amounts::of_executor(app, terms), &mut rest, rank);
    reasons.extend(short);
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let ports = take_ports(app, &mut rest, &mut resources, terms.port_seed, rank);
    let ports = ports.map_err(|_| BTreeSet::from([Reason::InsufficientPorts]))?;
    *left = rest;
    Ok(Place { resources, executor, ports })
}

/// What was taken, and what there was too little of.
fn take_scalars(
    amounts: &Amounts,
    left: &mut Resources,
    rank: impl Fn(&Resource) -> Option<u32> + Copy,
) -> (Resources, Vec<Reason>) {
    let (mut taken, mut short) = (Resources::new(), Vec::new());
    for ((name, reason), amount) in SCALARS.into_iter().zip(amounts.0) {
        let amount = Milli::round(amount);
        if amount.is_zero() {
            continue;
        }
        match left.take_scalar(&Arc::from(name), amount, rank) {
            Ok(part) => taken.add_all(&part),
            Err(_) => short.push(reason),
        }
    }
    (taken, short)
}

/// Reasons that hold however much of the offer is left.
fn refused_whatever_is_left(app: &App, offered: &Offered, terms: &Terms) -> BTreeSet<Reason> {
    let mut reasons = BTreeSet::new();
    if offered.role() != app.role {
        reasons.insert(Reason::UnfulfilledRole);
    }
    if is_remote(app, &offered.offer, terms) {
        reasons.insert(Reason::UnfulfilledConstraint);
    }
    if terms.draining_ms.is_some_and(|draining| in_maintenance(&offered.offer, terms.now_ms, draining)) {
        // Marathon names both.
        reasons.extend([Reason::UnfulfilledConstraint, Reason::AgentMaintenance]);
    }
    let kept = match app.labels.get(GPU_LABEL).map(String::as_str) {
        Some("unrestricted") => false,
        Some("restricted") => true,
        _ => terms.gpus_are_kept,
    };
    let has_gpus = || offered.offer.resources.iter().any(|resource| resource.name == "gpus");
    if kept && app.gpus == 0 && has_gpus() {
        reasons.insert(Reason::DeclinedScarceResources);
    }
    reasons
}

/// Whether the agent is in another region than the masters, and the app names neither region nor zone.
fn is_remote(app: &App, offer: &pb::Offer, terms: &Terms) -> bool {
    let Some(home) = &terms.home_region else { return false };
    let domain = offer.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
    let elsewhere = domain.is_some_and(|domain| domain.region.name != *home);
    let names = |field: &str| app.constraints.iter().any(|constraint| constraint.field == field);
    elsewhere && !names("@region") && !names("@zone")
}

/// Whether the agent is down for maintenance, or will be within `draining_ms`.
fn in_maintenance(offer: &pb::Offer, now_ms: u64, draining_ms: u64) -> bool {
    let Some(window) = &offer.unavailability else { return false };
    let ms = |nanoseconds: i64| u64::try_from(nanoseconds / 1_000_000).unwrap_or(0);
    let start = ms(window.start.nanoseconds);
    let begun = now_ms.saturating_add(draining_ms) >= start;
    begun
        && window.duration.as_ref().is_none_or(|length| now_ms < start.saturating_add(ms(length.nanoseconds)))
}

/// The ports after the place that the seed names; none when there are too few, or when preference decides.
fn from_seed(
    left: &Resources,
    count: u64,
    seed: u64,
    rank: impl Fn(&Resource) -> Option<u32>,
) -> Option<Ranges> {
    let mut offered = left.iter().filter(|entry| &*entry.name == "ports" && rank(entry).is_some());
    let ports = offered.next().filter(|_| seed != 0 && count > 0)?.as_ranges()?;
    if offered.next().is_some() {
        return None;
    }
    let (lowest, highest) = (ports.as_slice().first()?.begin, ports.as_slice().last()?.end);
    // A share of the whole range, so that launches of one round follow one another.
    let share = (seed & 0xffff) as f64 / 65_536.0;
    let start = lowest + ((highest - lowest) as f64 * share) as u64;
    let after = ports.intersection(&Ranges::of(start, highest)).first(count);
    (after.count() == count).then_some(after)
}

/// Takes the host ports: exactly the wanted ones where the app requires that, else whichever are free.
fn take_ports(
    app: &App,
    left: &mut Resources,
    taken: &mut Resources,
    seed: u64,
    rank: impl Fn(&Resource) -> Option<u32> + Copy,
) -> Result<Vec<u32>, Shortage> {
    let exact = app_ports(app).filter_map(|port| match port.host {
        HostPort::Exactly(number) => Some(u64::from(number)),
        HostPort::Any | HostPort::None => None,
    });
    let exact: Ranges = exact.collect();
    let any = app_ports(app).filter(|port| port.host == HostPort::Any).count();
    let wanted = Wanted { ports: exact, ..Wanted::default() };
    taken.add_all(&left.take(&wanted, rank)?);
    let dynamic = match from_seed(left, any as u64, seed, rank) {
        Some(ports) => left.take_ports(&ports, rank)?,
        None => left.take_any_ports(any as u64, rank)?,
    };
    let numbers: Vec<u32> = dynamic.ports().values().filter_map(|port| u32::try_from(port).ok()).collect();
    taken.add_all(&dynamic);
    let mut numbers = numbers.into_iter();
    let ports = app_ports(app).map(|port| match port.host {
        HostPort::Exactly(number) => number,
        HostPort::Any => numbers.next().unwrap_or_default(),
        HostPort::None => 0,
    });
    Ok(ports.collect())
}
