//! How much of the demand finds a place, beside first fit.

use meshos_mesh::Rng;
use meshos_proto::mesos::v1::value;
use proptest::prelude::*;

use super::*;

/// One cluster: cpus and mem of offers, and of instances.
#[derive(Clone, Debug, Default)]
struct Case {
    offers: Vec<(u32, u32)>,
    wanted: Vec<(u32, u32, usize)>,
}

fn scalar(name: &str, value: u32) -> pb::Resource {
    pb::Resource {
        name: name.into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: f64::from(value) }),
        ..Default::default()
    }
}

/// The share of the whole supply that is given out.
fn share(case: &Case, placed: impl Iterator<Item = (u32, u32)>) -> f64 {
    let sum = |of: fn(&(u32, u32)) -> u32| f64::from(case.offers.iter().map(of).sum::<u32>()).max(1.0);
    let (cpus, mem) = (sum(|offer| offer.0), sum(|offer| offer.1));
    placed.map(|(c, m)| (f64::from(c) / cpus).max(f64::from(m) / mem)).sum()
}

fn placed(case: &Case) -> f64 {
    let offer = |(at, (cpus, mem)): (usize, &(u32, u32))| {
        Offered::new(pb::Offer {
            id: pb::OfferId { value: format!("o{at}") },
            hostname: format!("h{at}"),
            resources: vec![scalar("cpus", *cpus), scalar("mem", *mem)],
            ..Default::default()
        })
    };
    let mut offers: Vec<_> = case.offers.iter().enumerate().map(offer).collect();
    let app = |(at, (cpus, mem, _)): (usize, &(u32, u32, usize))| App {
        id: format!("/{at}"),
        cpus: f64::from(*cpus),
        mem: f64::from(*mem),
        role: "*".into(),
        ..Default::default()
    };
    let apps: Vec<App> = case.wanted.iter().enumerate().map(app).collect();
    let requests: Vec<_> = apps
        .iter()
        .zip(&case.wanted)
        .map(|(app, (.., count))| Request {
            app,
            waiting: (0..*count).map(|at| format!("{}-{at}", app.id)).collect(),
            placed: Vec::new(),
            accepted_roles: vec!["*".into()],
            patterns: Vec::new(),
            relaxed: false,
        })
        .collect();
    let terms = Terms { per_offer: usize::MAX, ..Terms::default() };
    let refusals = place(&requests, &mut offers, &terms);
    let launches: usize = offers.iter().map(|offered| offered.launches.len()).sum();
    let left: usize = refusals.iter().map(|one| one.left_over).sum();
    assert_eq!(launches + left, case.wanted.iter().map(|one| one.2).sum::<usize>());
    for (offered, (cpus, mem)) in offers.iter().zip(&case.offers) {
        let sum =
            |of: fn(&Resources) -> f64| offered.launches.iter().map(|one| of(&one.resources)).sum::<f64>();
        assert!(sum(|one| one.cpus().to_f64()) <= f64::from(*cpus) + 1e-6, "overbooked");
        assert!(sum(|one| one.mem().to_f64()) <= f64::from(*mem) + 1e-6, "overbooked");
    }
    let counts =
        case.wanted.iter().zip(&refusals).map(|(one, refusals)| (one.0, one.1, one.2 - refusals.left_over));
    share(case, counts.flat_map(|(cpus, mem, count)| std::iter::repeat_n((cpus, mem), count)))
}

/// The obvious way.
fn first_fit(case: &Case) -> f64 {
    let mut left = case.offers.clone();
    let mut done = Vec::new();
    for (cpus, mem, count) in &case.wanted {
        for _ in 0..*count {
            if let Some(offer) = left.iter_mut().find(|offer| offer.0 >= *cpus && offer.1 >= *mem) {
                *offer = (offer.0 - cpus, offer.1 - mem);
                done.push((*cpus, *mem));
            }
        }
    }
    share(case, done.into_iter())
}

proptest! {
    #[test]
    fn never_less_is_placed_than_by_first_fit(
        offers in prop::collection::vec((1u32..32, 1u32..32), 1..12),
        wanted in prop::collection::vec((1u32..16, 1u32..16, 1usize..6), 1..12),
    ) {
        let case = Case { offers, wanted };
        let (ours, theirs) = (placed(&case), first_fit(&case));
        prop_assert!(ours + 1e-6 >= theirs, "{} {}", ours, theirs);
    }
}

/// A cluster for which as much is wanted as there is.
fn full(rng: &Rng, agents: u64) -> Case {
    let mut case = Case::default();
    let below = |most: u64| rng.below(most) as u32;
    for _ in 0..agents {
        // What other frameworks left over of machines with 32 cpus and 128 GiB.
        case.offers.push((4 + below(29), 4096 * (1 + below(32))));
    }
    let supply = case.offers.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let mut wanted = (0, 0);
    while wanted.0 < supply.0 && wanted.1 < supply.1 {
        // Some need much of one thing, some of the other.
        let (cpus, mem) = match rng.below(3) {
            0 => (1 + below(12), 512 * (1 + below(8))),
            1 => (1 + below(3), 2048 * (1 + below(16))),
            _ => (1 + below(8), 1024 * (1 + below(24))),
        };
        let count = 1 + rng.below(5) as usize;
        wanted = (wanted.0 + cpus * count as u32, wanted.1 + mem * count as u32);
        case.wanted.push((cpus, mem, count));
    }
    case
}

#[test]
#[ignore = "a figure: cargo test --release -p meshos-app-scheduler --lib quality -- --ignored --nocapture"]
fn figure_share_of_demand_placed_on_full_clusters() {
    for agents in [10, 50, 200] {
        let (mut ours, mut theirs, mut demand) = (0.0, 0.0, 0.0);
        let rng = Rng::seeded(agents);
        for _ in 0..50 {
            let case = full(&rng, agents);
            ours += placed(&case);
            theirs += first_fit(&case);
            let all = case.wanted.iter().flat_map(|one| std::iter::repeat_n((one.0, one.1), one.2));
            demand += share(&case, all);
        }
        println!(
            "{agents} agents: placed {:.4} of the demand, first fit {:.4}",
            ours / demand,
            theirs / demand
        );
    }
}
