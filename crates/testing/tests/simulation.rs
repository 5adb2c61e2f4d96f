//! A simulated cluster under partitions, crashes and delays.

use std::time::Duration;

use meshos_testing::sim::{Report, Script, run};

/// Few, so that the test stays short in a debug build. More for a longer search, which wants a release build:
/// `MESHOS_TEST_SEEDS=1000 cargo test --release -p meshos-testing --test simulation`.
fn seeds() -> u64 {
    std::env::var("MESHOS_TEST_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(4)
}

fn check(seed: u64, report: &Report) {
    let mut running: Vec<String> = report.running.values().flatten().cloned().collect();
    running.sort();
    let context =
        || format!("seed {seed}\nfaults:\n{}\ntrace:\n{}", report.faults.join("\n"), report.trace.join("\n"));
    assert_eq!(running, report.shown, "what runs is not what is shown: lost or doubled tasks; {}", context());
    assert_eq!(running.len(), report.wanted as usize, "{}", context());
}

#[test]
fn no_task_is_lost_or_doubled_while_things_go_wrong() {
    for seed in 0..seeds() {
        let report = run(seed, &Script::default()).unwrap_or_else(|why| panic!("{why}"));
        assert!(!report.faults.is_empty());
        check(seed, &report);
    }
}

#[test]
fn leaders_that_die_during_deployments_lose_and_double_nothing() {
    for seed in 0..seeds() {
        let report = run(seed, &Script::of_leaders()).unwrap_or_else(|why| panic!("{why}"));
        assert!(report.faults.len() > 10);
        check(seed, &report);
    }
}

#[test]
fn a_run_replays_from_its_seed() {
    let script = Script { faults_until: Duration::from_secs(30), ..Script::default() };
    let first = run(7, &script).unwrap_or_else(|why| panic!("{why}"));
    let second = run(7, &script).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(first, second);
    let other = run(8, &script).unwrap_or_else(|why| panic!("{why}"));
    assert_ne!(first.trace, other.trace, "the seed changes the run");
}
