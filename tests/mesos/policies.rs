//! Settings of the leading allocator: who is served next, which hosts are offered, which fault domains are let in.

use std::{collections::BTreeMap, fs, time::Duration};

use meshos_allocator::{AllocatorArgs, config::Sorter};
use meshos_testing::{Cluster, ClusterOptions, Http};
use serde_json::{Value, json};

use crate::support::{Framework, QUIET, eventually, info};

const AGENT: &str = "cpus:1;mem:1024;disk:1024;ports:[31000-31099]";
const DOMAIN: &str = r#"{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}"#;

/// So many agents `h1`, `h2` and so on, without Marathon.
fn options(agents: usize, allocator: AllocatorArgs) -> ClusterOptions {
    let agents = vec![AGENT.to_owned(); agents];
    ClusterOptions { agents, app_scheduler: false, own_hosts: true, allocator, ..ClusterOptions::default() }
}

/// Runs what blocks beside the cluster, which lives in this process, and stops it.
async fn with(options: ClusterOptions, work: impl FnOnce(&Http) + Send + 'static) {
    let cluster = Cluster::start(&options).await;
    let mesos = cluster.gateways[0].mesos.clone();
    tokio::task::spawn_blocking(move || work(&mesos)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_hosts_on_the_whitelist_are_offered_and_the_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("hosts");
    fs::write(&list, "h2\n").unwrap();
    let whitelist = Some(list.display().to_string());
    with(options(2, AllocatorArgs { whitelist, ..AllocatorArgs::default() }), move |mesos| {
        let mut framework = Framework::subscribe(mesos, &info(json!({})));
        assert_eq!(framework.offer()["hostname"], "h2");
        framework.none("OFFERS", QUIET);
        fs::write(&list, "h1\nh2\n").unwrap();
        let mut offer = framework.offer();
        assert_eq!(offer["hostname"], "h1");
        // Offers that are out stay, and later ones are of listed hosts: what is given back comes until the list is read.
        fs::write(&list, "").unwrap();
        loop {
            framework.decline(&offer, json!({"refuse_seconds": 0}));
            match framework.next_within("OFFERS", QUIET) {
                Some(event) => offer = event["offers"]["offers"][0].clone(),
                None => break,
            }
        }
        framework.none("RESCIND", QUIET);
    })
    .await;
}

/// Who is offered which agent when all become free at once: places in `roles`, each of a framework in that role, in the
/// order in which they are served.
fn served(mesos: &Http, roles: &[&str], agents: usize) -> Vec<usize> {
    let mut holder = Framework::subscribe(mesos, &info(json!({"roles": ["holder"]})));
    for _ in 0..agents {
        holder.offer();
    }
    let subscribe = |role: &&str| Framework::subscribe(mesos, &info(json!({"roles": [role]})));
    let mut frameworks: Vec<Framework> = roles.iter().map(subscribe).collect();
    holder.tell("TEARDOWN", json!({}));
    let mut served = BTreeMap::new();
    while served.len() < agents {
        for (place, framework) in frameworks.iter_mut().enumerate() {
            let Some(event) = framework.next_within("OFFERS", Duration::from_millis(20)) else { continue };
            for offer in event["offers"]["offers"].as_array().unwrap() {
                let (_, number) = offer["id"]["value"].as_str().unwrap().rsplit_once("-O").unwrap();
                served.insert(number.parse::<u64>().unwrap(), place);
            }
        }
    }
    served.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_random_sorters_chance_decides_who_is_served() {
    // Chance serves all three in each group of three once in 10^13 times, and leaves one out once in 10^10.
    const AGENTS: usize = 60;
    let by_role = AllocatorArgs { role_sorter: Sorter::Random, ..AllocatorArgs::default() };
    let by_framework = AllocatorArgs { framework_sorter: Sorter::Random, ..AllocatorArgs::default() };
    let fair = AllocatorArgs::default();
    let (apart, together) = (["a", "b", "c"], ["a", "a", "a"]);
    let cases = [
        (by_role, apart, false),
        (by_framework, together, false),
        (fair.clone(), apart, true),
        (fair, together, true),
    ];
    for (args, roles, by_turns) in cases {
        with(options(AGENTS, args), move |mesos| {
            let served = served(mesos, &roles, AGENTS);
            assert!((0..3).all(|place| served.contains(&place)), "{served:?}");
            let all = |three: &[usize]| (0..3).all(|place| three.contains(&place));
            assert_eq!(served.chunks(3).all(all), by_turns, "{served:?}");
        })
        .await;
    }
}

/// What `/slaves` and `/state` show of the one agent, which registered with a registry that lets it in.
fn shown(mesos: &Http) -> (usize, usize) {
    let slaves: Value = mesos.get("/slaves").unwrap().json();
    let count = |key: &str| slaves[key].as_array().map_or(0, Vec::len);
    (count("slaves"), count("recovered_slaves"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_whose_fault_domain_does_not_fit_are_never_offered() {
    let here = || Some(DOMAIN.to_owned());
    let required = |domain| AllocatorArgs { require_agent_domain: true, domain, ..AllocatorArgs::default() };
    // The first agent has a domain, the second has none.
    for (args, offered) in [(required(here()), "h1"), (AllocatorArgs::default(), "h2")] {
        let domains = vec![here(), None];
        let options = ClusterOptions { domains, waits_for_agents: false, ..options(2, args) };
        with(options, move |mesos| {
            let mut framework = Framework::subscribe(mesos, &info(json!({})));
            assert_eq!(framework.offer()["hostname"], offered);
            eventually("the other one waits outside", || {
                let shown = shown(mesos);
                if shown == (1, 1) { Ok(()) } else { Err(shown) }
            });
            framework.none("OFFERS", QUIET);
            assert_eq!(shown(mesos), (1, 1));
        })
        .await;
    }
}
