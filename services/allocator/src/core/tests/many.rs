//! A framework with very many tasks.

use super::harness::{Harness, info};
use crate::core::Input;

#[test]
fn many_questions_are_answered_a_part_at_a_time_and_hold_up_nobody() {
    const TASKS: usize = 5000;
    let mut cluster = Harness::new();
    let (many, other) = (cluster.subscribe(info("a")), cluster.subscribe(info("b")));
    cluster.take(&many.1);
    let names: Vec<String> = (0..TASKS).map(|number| format!("t{number}")).collect();
    let asked: Vec<(&str, Option<&str>)> = names.iter().map(|name| (name.as_str(), None)).collect();
    cluster.reconcile(&many, &asked);
    let mut answered = cluster.take_statuses(&many.1);
    assert!(!answered.is_empty() && answered.len() < TASKS, "{} answers at once", answered.len());
    cluster.reconcile(&other, &[("x", None)]);
    while cluster.take_statuses(&other.1).is_empty() {
        assert!(cluster.core.next_deadline().is_some_and(|due| due <= cluster.now), "there is more to say");
        cluster.input(Input::Tick);
    }
    answered.extend(cluster.take_statuses(&many.1));
    let ids: Vec<&str> = answered.iter().map(|status| status.task_id.value.as_str()).collect();
    assert_eq!(ids, names, "each once, in order");
}
