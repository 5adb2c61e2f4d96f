//! One way through requests and offers.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    ops::Bound,
};

use meshos_types::Resources;

use super::{
    Launch, Offered, Reason, Refusals, Request, Terms,
    constraints::Spread,
    fit::{Amounts, Place, fit},
    ports::container_ports,
};

/// Which request, and which offer, comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The hardest request; the offer with fewest instances of it, then the emptiest.
    Spread,
    /// The hardest request; the offer of which least is left over, counted more where more is wanted.
    Pack,
    /// As they stand.
    First,
}

/// What became of everything.
#[derive(Debug)]
pub(super) struct Attempt {
    /// By offer.
    left: Vec<Resources>,
    amounts: Vec<Amounts>,
    /// The offers in the order in which a request without constraints asks them, where that is the same for all.
    ranked: BTreeSet<Candidate>,
    launches: Vec<Vec<Launch>>,
    /// By request.
    refusals: Vec<Refusals>,
    placed: Vec<usize>,
}

/// What an order looks at, besides an offer itself.
#[derive(Debug)]
struct Scale {
    order: Order,
    /// The largest of each amount in one offer.
    largest: Amounts,
    /// How much of the whole supply is wanted.
    scarcity: Amounts,
}

/// An offer that a request may still use; the smallest is used first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    instances: usize,
    score: f64,
    offer: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = || self.score.total_cmp(&other.score);
        self.instances.cmp(&other.instances).then_with(by_score).then(self.offer.cmp(&other.offer))
    }
}

impl Attempt {
    pub(super) fn run(requests: &[Request<'_>], offers: &[Offered], terms: &Terms, order: Order) -> Self {
        let scale = Scale::of(requests, offers, terms, order);
        let amounts: Vec<Amounts> = offers.iter().map(|offered| Amounts::of(&offered.left)).collect();
        let first = |(at, left): (usize, &Amounts)| scale.candidate(at, left, &Amounts::default(), 0);
        let mut attempt = Self {
            ranked: amounts.iter().enumerate().map(first).collect(),
            amounts,
            left: offers.iter().map(|offered| offered.left.clone()).collect(),
            launches: vec![Vec::new(); offers.len()],
            refusals: vec![Refusals::default(); requests.len()],
            placed: vec![0; requests.len()],
        };
        for at in scale.requests(requests, terms) {
            let mut turn = Turn::new(&requests[at], offers, terms, &scale);
            match (requests[at].app.constraints.is_empty(), order) {
                (true, Order::Pack) => turn.pack(&mut attempt),
                (true, _) => turn.free(&mut attempt),
                (false, _) => turn.bound(&mut attempt),
            }
            attempt.rank_again(&turn, &scale);
            attempt.placed[at] = turn.next;
            attempt.refusals[at] = turn.refusals();
        }
        attempt
    }

    /// After the request used some offers.
    fn rank_again(&mut self, turn: &Turn<'_>, scale: &Scale) {
        for offer in turn.used.keys().copied() {
            let rank = |left: &Amounts| scale.candidate(offer, left, &Amounts::default(), 0);
            self.ranked.remove(&rank(&self.amounts[offer]));
            self.amounts[offer] = Amounts::of(&self.left[offer]);
            self.ranked.insert(rank(&self.amounts[offer]));
        }
    }

    pub(super) fn refusals(&self) -> &[Refusals] {
        &self.refusals
    }

    /// How much of the whole supply was given out: of each instance its largest share.
    pub(super) fn placed_share(&self, requests: &[Request<'_>], total: &Amounts, terms: &Terms) -> f64 {
        let share = |request: &Request<'_>| Amounts::wanted(request.app, terms).share_of(total);
        let shares = requests.iter().zip(&self.placed).filter(|(_, placed)| **placed > 0);
        shares.map(|(request, placed)| share(request) * *placed as f64).sum()
    }

    /// Holds from now on.
    pub(super) fn finish(self, offers: &mut [Offered]) -> Vec<Refusals> {
        for ((offered, left), launches) in offers.iter_mut().zip(self.left).zip(self.launches) {
            offered.left = left;
            offered.launches.extend(launches);
        }
        self.refusals
    }
}

impl Scale {
    fn of(requests: &[Request<'_>], offers: &[Offered], terms: &Terms, order: Order) -> Self {
        let amounts: Vec<Amounts> = offers.iter().map(|offered| Amounts::of(&offered.left)).collect();
        let largest = amounts.iter().fold(Amounts::default(), |largest, one| largest.max(one));
        let supply = amounts.iter().fold(Amounts::default(), |sum, one| sum.plus(one));
        let all =
            |request: &Request<'_>| Amounts::wanted(request.app, terms).times(request.waiting.len() as f64);
        let wanted = requests.iter().map(all).fold(Amounts::default(), |sum, one| sum.plus(&one));
        Self { order, largest, scarcity: wanted.per(&supply) }
    }

    /// Places of the requests, in turn.
    fn requests(&self, requests: &[Request<'_>], terms: &Terms) -> Vec<usize> {
        let mut places: Vec<usize> = (0..requests.len()).collect();
        if self.order != Order::First {
            let hardness = |at: usize| {
                let app = requests[at].app;
                (!app.constraints.is_empty(), Amounts::wanted(app, terms).share_of(&self.largest))
            };
            places.sort_by(|a, b| {
                let ((a_bound, a_share), (b_bound, b_share)) = (hardness(*a), hardness(*b));
                b_bound.cmp(&a_bound).then(b_share.total_cmp(&a_share)).then(a.cmp(b))
            });
        }
        places
    }

    fn candidate(&self, offer: usize, left: &Amounts, need: &Amounts, instances: usize) -> Candidate {
        match self.order {
            Order::Spread => Candidate { instances, score: -left.cpus(), offer },
            Order::Pack => {
                let score = left.minus(need).spare(&self.largest, &self.scarcity);
                Candidate { instances: 0, score, offer }
            }
            Order::First => Candidate { instances: 0, score: 0.0, offer },
        }
    }
}

/// One request's turn.
struct Turn<'a> {
    request: &'a Request<'a>,
    offers: &'a [Offered],
    terms: &'a Terms,
    scale: &'a Scale,
    need: Amounts,
    spread: Spread<'a>,
    /// The first instance that has no place yet.
    next: usize,
    used: BTreeMap<usize, usize>,
    refused: BTreeMap<usize, BTreeSet<Reason>>,
}

impl<'a> Turn<'a> {
    fn new(request: &'a Request<'a>, offers: &'a [Offered], terms: &'a Terms, scale: &'a Scale) -> Self {
        let mut spread = Spread::new(request.app, &request.placed, &request.patterns);
        spread.meet(offers.iter().map(|offered| &*offered.offer), request.relaxed);
        let need = Amounts::wanted(request.app, terms);
        let (used, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { request, offers, terms, scale, need, spread, next: 0, used, refused }
    }

    fn is_done(&self) -> bool {
        self.next >= self.request.waiting.len()
    }

    fn candidates(&self, attempt: &Attempt) -> BinaryHeap<Reverse<Candidate>> {
        let one = |(at, left): (usize, &Amounts)| Reverse(self.scale.candidate(at, left, &self.need, 0));
        attempt.amounts.iter().enumerate().map(one).collect()
    }

    /// The offer as it stands after another instance went there.
    fn again(&self, attempt: &Attempt, offer: usize) -> Candidate {
        let instances = self.used.get(&offer).copied().unwrap_or(0);
        self.scale.candidate(offer, &Amounts::of(&attempt.left[offer]), &self.need, instances)
    }

    /// Without constraints an offer that refused once refuses all that follow. Only as many offers are looked at as
    /// are needed: first those that no instance of this request is on, then the others.
    fn free(&mut self, attempt: &mut Attempt) {
        let mut last = None;
        let mut again: BinaryHeap<Reverse<Candidate>> = BinaryHeap::new();
        while !self.is_done() {
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            let fresh = attempt.ranked.range((from, Bound::Unbounded)).next().copied();
            let offer = match (fresh, again.peek()) {
                (None, None) => return,
                (Some(fresh), None) => fresh.offer,
                (None, Some(Reverse(known))) => known.offer,
                (Some(fresh), Some(Reverse(known))) => fresh.min(*known).offer,
            };
            match fresh.filter(|fresh| fresh.offer == offer) {
                Some(fresh) => last = Some(fresh),
                None => drop(again.pop()),
            }
            if self.takes(attempt, offer) {
                again.push(Reverse(self.again(attempt, offer)));
            }
        }
    }

    /// As [`Self::free`], in an order that depends on what the request needs.
    fn pack(&mut self, attempt: &mut Attempt) {
        let mut heap = self.candidates(attempt);
        while !self.is_done() {
            let Some(Reverse(Candidate { offer, .. })) = heap.pop() else { return };
            if self.takes(attempt, offer) {
                heap.push(Reverse(self.again(attempt, offer)));
            }
        }
    }

    /// Tries the next instance on the offer.
    fn takes(&mut self, attempt: &mut Attempt, offer: usize) -> bool {
        if self.is_full(attempt, offer) {
            return false;
        }
        match self.try_offer(attempt, offer) {
            Ok(()) => true,
            Err(reasons) => {
                self.refused.insert(offer, reasons);
                false
            }
        }
    }

    /// With constraints each instance changes what is allowed for the next one.
    fn bound(&mut self, attempt: &mut Attempt) {
        let mut open: Vec<Candidate> =
            self.candidates(attempt).into_iter().map(|Reverse(candidate)| candidate).collect();
        open.sort();
        loop {
            let mut moved = false;
            let mut at = 0;
            while at < open.len() && !self.is_done() {
                let Candidate { offer, .. } = open[at];
                let result = if self.is_full(attempt, offer) {
                    Err(BTreeSet::new())
                } else {
                    self.try_offer(attempt, offer)
                };
                match result {
                    Ok(()) => {
                        moved = true;
                        let again = self.again(attempt, offer);
                        open.remove(at);
                        let place = open.partition_point(|other| *other < again);
                        open.insert(place, again);
                        // What was passed over may be allowed now.
                        at = if self.spread.may_change() { 0 } else { at };
                    }
                    Err(reasons) => {
                        let only_bound =
                            reasons.iter().all(|reason| *reason == Reason::UnfulfilledConstraint)
                                && !reasons.is_empty();
                        if !reasons.is_empty() {
                            self.refused.insert(offer, reasons);
                        }
                        if only_bound && self.spread.may_change() {
                            at += 1;
                        } else {
                            open.remove(at);
                            moved |= self.spread.close(&self.offers[offer].offer);
                        }
                    }
                }
            }
            if !moved || self.is_done() || open.is_empty() {
                return;
            }
        }
    }

    fn is_full(&self, attempt: &Attempt, offer: usize) -> bool {
        self.offers[offer].launches.len() + attempt.launches[offer].len() >= self.terms.per_offer
    }

    fn try_offer(&mut self, attempt: &mut Attempt, offer: usize) -> Result<(), BTreeSet<Reason>> {
        let offered = &self.offers[offer];
        let Place { resources, executor, ports } =
            fit(self.request, offered, &mut attempt.left[offer], &self.spread, self.terms)?;
        let Some(instance_id) = self.request.waiting.get(self.next).cloned() else { return Ok(()) };
        self.next += 1;
        self.spread.add(&offered.offer);
        let container_ports = container_ports(self.request.app, &ports, &instance_id);
        attempt.launches[offer].push(Launch { instance_id, resources, executor, ports, container_ports });
        *self.used.entry(offer).or_default() += 1;
        self.refused.remove(&offer);
        Ok(())
    }

    fn refusals(self) -> Refusals {
        let mut refusals = Refusals {
            looked_at: self.refused.len(),
            used: self.used.len(),
            unused: self.refused.keys().filter(|offer| !self.used.contains_key(offer)).count(),
            left_over: self.request.waiting.len() - self.next,
            ..Refusals::default()
        };
        for (offer, reasons) in self.refused {
            if let Some(first) = reasons.first() {
                *refusals.by_reason.entry(*first).or_default() += 1;
            }
            let agent = self.offers[offer].offer.agent_id.value.clone();
            refusals.by_offer.push((offer, agent, reasons));
        }
        refusals
    }
}
