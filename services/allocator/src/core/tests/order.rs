//! Who is served first, against a slow, obvious model: shares are added up again for every single offer.

#![allow(deprecated, reason = "single-role frameworks use the field `role`")]

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::{self as pb, WeightInfo};
use meshos_types::{Quantities, Resources, RoleName, parse_resources};
use proptest::prelude::*;

use super::{super::*, harness::*};

const ROLES: [&str; 5] = ["a", "a/x", "a/y", "b", "*"];
const TOTALS: [&str; 4] = [
    "cpus:4;mem:1000",
    "cpus:1;mem:3000;disk:10",
    "cpus:2;mem:500;cpus(a):2;mem(a):200",
    "cpus:8;mem:200;ports:[1-9]",
];

#[derive(Clone, Debug)]
enum Step {
    Agent(usize),
    /// Under a name of its own, so that names do not come in order.
    Framework {
        name: u8,
        role: usize,
    },
    /// For an hour.
    Decline(usize),
    Weight {
        role: usize,
        weight: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..TOTALS.len()).prop_map(Step::Agent),
        3 => (0..100_u8, 0..ROLES.len()).prop_map(|(name, role)| Step::Framework { name, role }),
        4 => (0..50_usize).prop_map(Step::Decline),
        1 => (0..ROLES.len(), 1..5_u8).prop_map(|(role, weight)| Step::Weight { role, weight }),
    ]
}

struct Client {
    stream: StreamId,
    role: RoleName,
    held: BTreeMap<u64, pb::Offer>,
    /// Offers that it ever got.
    count: u64,
    refused: Vec<(String, Resources)>,
}

/// A place in the order of one level.
type Rank = (f64, u64, String);

#[derive(Default)]
struct Model {
    clients: BTreeMap<FrameworkId, Client>,
    agents: BTreeMap<String, Resources>,
    weights: BTreeMap<RoleName, f64>,
}

fn read(offer: &pb::Offer) -> Resources {
    Resources::from_proto(&offer.resources).unwrap().unallocated()
}

fn number(offer: &pb::Offer) -> u64 {
    offer.id.value.strip_prefix("m-O").unwrap().parse().unwrap()
}

impl Model {
    /// Share, number of offers and name of those clients for which `of` holds, as one competitor.
    fn rank(&self, name: &str, of: impl Fn(&FrameworkId, &Client) -> bool) -> Rank {
        let mut total = Quantities::new();
        self.agents.values().for_each(|agent| total.add(&agent.scalars()));
        let (mut held, mut count) = (Quantities::new(), 0);
        for (_, client) in self.clients.iter().filter(|(id, client)| of(id, client)) {
            client.held.values().for_each(|offer| held.add(&read(offer).scalars()));
            count += client.count;
        }
        let parts = held.iter().filter(|(name, _)| total.get(name).0 > 0);
        let parts = parts.map(|(name, amount)| amount.0 as f64 / total.get(name).0 as f64);
        (parts.fold(0.0, f64::max), count, name.to_owned())
    }

    /// The places of a client from the top of the tree down.
    fn path(&self, id: &FrameworkId) -> Vec<Rank> {
        let role = &self.clients[id].role;
        let mut above: Vec<_> = role.ancestors().collect();
        above.reverse();
        above.push(role.as_str());
        let whole = |name: &str| {
            let (share, count, _) = self.rank(name, |_, client| client.role.is_at_or_below(name));
            (share / self.weights.get(name).copied().unwrap_or(1.0), count, name.to_owned())
        };
        let mut path: Vec<Rank> = above.into_iter().map(whole).collect();
        path.push(self.rank(role.as_str(), |_, client| client.role == *role));
        path.push(self.rank(id.as_str(), |of, _| of == id));
        path
    }

    fn free(&self, agent: &str) -> Resources {
        let mut free = self.agents[agent].clone();
        let offers = self.clients.values().flat_map(|client| client.held.values());
        offers
            .filter(|offer| offer.agent_id.value == agent)
            .for_each(|offer| free.subtract_all(&read(offer)));
        free
    }

    /// What a client would be offered of it.
    fn suits(&self, id: &FrameworkId, agent: &str, free: &Resources) -> Option<Resources> {
        let client = &self.clients[id];
        let part = free.allocatable_to(client.role.as_str());
        let enough = config().min_allocatable.iter().any(|least| part.scalars().contains(least));
        let refused = client.refused.iter().any(|(of, refused)| of == agent && refused.contains(&part));
        (enough && !refused).then_some(part)
    }

    /// The client that is served first with what an agent has free.
    fn first(&self, agent: &str) -> Option<(FrameworkId, Resources)> {
        let free = self.free(agent);
        let suited =
            self.clients.keys().filter_map(|id| Some((self.path(id), id, self.suits(id, agent, &free)?)));
        let first = suited.min_by(|one, other| one.0.partial_cmp(&other.0).unwrap());
        first.map(|(_, id, part)| (id.clone(), part))
    }

    /// Takes note of new offers, each of which must be what the model would have done.
    fn hear(&mut self, cluster: &mut Harness) {
        let mut made = BTreeMap::new();
        for (id, client) in &mut self.clients {
            for event in cluster.take(&client.stream) {
                if let Some(rescind) = event.rescind {
                    client.held.retain(|_, offer| offer.id != rescind.offer_id);
                }
                let offers = event.offers.into_iter().flat_map(|offers| offers.offers);
                made.extend(offers.map(|offer| (number(&offer), (id.clone(), offer))));
            }
        }
        let mut last = String::new();
        for (number, (id, offer)) in made {
            let agent = offer.agent_id.value.clone();
            // With a rest of the same agent the walk goes on: it does not begin anew.
            if agent == last {
                let part = self.suits(&id, &agent, &self.free(&agent));
                assert_eq!(part, Some(read(&offer)), "the rest of {agent}");
            } else {
                assert_eq!(self.first(&agent), Some((id.clone(), read(&offer))), "{agent}");
            }
            last = agent;
            let client = self.clients.get_mut(&id).unwrap();
            client.count += 1;
            client.held.insert(number, offer);
        }
        for agent in self.agents.keys() {
            assert_eq!(self.first(agent), None, "{agent} has something left");
        }
    }

    fn run(&mut self, cluster: &mut Harness, step: Step) {
        match step {
            Step::Agent(total) => {
                let name = format!("s{}", self.agents.len());
                let total = TOTALS[total];
                self.agents
                    .insert(name.clone(), parse_resources(total, &RoleName::star()).unwrap().resources);
                cluster.agent(&name, total);
            }
            Step::Framework { name, role } => {
                let id = FrameworkId::new(format!("f{name}"));
                self.clients.entry(id.clone()).or_insert_with(|| {
                    let info = pb::FrameworkInfo {
                        id: Some(id.to_proto()),
                        role: Some(ROLES[role].to_owned()),
                        ..info(id.as_str())
                    };
                    let stream = cluster.subscribe_any(info);
                    let (role, held, refused) = (RoleName::new(ROLES[role]), BTreeMap::new(), Vec::new());
                    Client { stream, role, held, count: 0, refused }
                });
            }
            Step::Decline(at) => {
                let offers =
                    self.clients.iter().flat_map(|(id, client)| client.held.keys().map(move |n| (id, n)));
                let offers: Vec<_> = offers.map(|(id, number)| (id.clone(), *number)).collect();
                let Some((id, number)) = offers.get(at % offers.len().max(1)).cloned() else { return };
                let client = self.clients.get_mut(&id).unwrap();
                let offer = client.held.remove(&number).unwrap();
                client.refused.push((offer.agent_id.value.clone(), read(&offer)));
                cluster.decline(&(id, client.stream.clone()), &offer, Some(3600.0));
            }
            Step::Weight { role, weight } => {
                let weight = f64::from(weight);
                self.weights.insert(RoleName::new(ROLES[role]), weight);
                let info = WeightInfo { weight, role: Some(ROLES[role].to_owned()) };
                cluster.input(Input::UpdateWeights(vec![info]));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn mesos_c22_every_offer_goes_to_whom_the_model_serves_first(steps in prop::collection::vec(step(), 1..40)) {
        let (mut cluster, mut model) = (Harness::new(), Model::default());
        for step in steps {
            model.run(&mut cluster, step);
            model.hear(&mut cluster);
        }
    }

    #[test]
    fn mesos_c23_hungry_roles_end_with_exactly_their_weights(
        weights in prop::collection::vec(1..6_u32, 2..6),
        times in 1..4_u32,
    ) {
        let mut cluster = Harness::new();
        let info = |(role, weight): (usize, &u32)| {
            WeightInfo { weight: f64::from(*weight), role: Some(format!("r{role}")) }
        };
        cluster.input(Input::UpdateWeights(weights.iter().enumerate().map(info).collect()));
        let hungry = |role: usize| pb::FrameworkInfo { role: Some(format!("r{role}")), ..super::harness::info("f") };
        let frameworks: Vec<_> = (0..weights.len()).map(|role| cluster.subscribe(hungry(role))).collect();
        for agent in 0..weights.iter().sum::<u32>() * times {
            cluster.agent(&format!("s{agent}"), "cpus:2;mem:128");
        }
        for ((_, stream), weight) in frameworks.iter().zip(&weights) {
            prop_assert_eq!(cluster.take_offers(stream).len(), (*weight * times) as usize);
        }
    }
}
