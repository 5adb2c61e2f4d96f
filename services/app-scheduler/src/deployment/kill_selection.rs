//! Which instances go when an app shrinks (Marathon's order).

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{Condition, Instance, KillSelection};

/// How the instances of an app are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Instances that a request named; they go first.
    pub named: &'a BTreeSet<String>,
    pub selection: KillSelection,
    /// Fields of GROUP_BY constraints: then the fullest groups lose instances first.
    pub group_by: &'a [String],
}

/// The `count` instances to end first, in order.
pub fn select(instances: &[&Instance], count: usize, rule: Rule<'_>) -> Vec<String> {
    let mut left: Vec<&Instance> = instances.to_vec();
    left.sort_by(|a, b| order(a, rule).cmp(&order(b, rule)).then_with(|| a.id.cmp(&b.id)));
    if rule.group_by.is_empty() {
        return left.into_iter().take(count).map(|instance| instance.id.clone()).collect();
    }
    let mut chosen = Vec::new();
    while chosen.len() < count && !left.is_empty() {
        let at = next_of_fullest(&left, rule);
        chosen.push(left.remove(at).id.clone());
    }
    chosen
}

/// Sorts what goes first to the front: named, then by condition, then by age.
fn order(instance: &Instance, rule: Rule<'_>) -> (bool, u8, i128) {
    let since = instance.started_at_ms.max(instance.staged_at_ms).max(instance.scheduled_at_ms);
    let age = match rule.selection {
        KillSelection::OldestFirst => i128::from(since),
        KillSelection::YoungestFirst | KillSelection::Unspecified => -i128::from(since),
    };
    (!rule.named.contains(&instance.id), rank(instance.condition()), age)
}

/// What never ran goes before what waits for its agent, that before what starts, and what runs last.
fn rank(condition: Condition) -> u8 {
    match condition {
        Condition::Scheduled => 0,
        Condition::Unreachable | Condition::UnreachableInactive => 1,
        Condition::Provisioned | Condition::Staging => 2,
        Condition::Starting => 3,
        Condition::Running => 4,
        _ => 5,
    }
}

/// Of the sorted instances, the first named one, else the first one of the group with most members.
fn next_of_fullest(left: &[&Instance], rule: Rule<'_>) -> usize {
    if left.first().is_some_and(|first| rule.named.contains(&first.id)) {
        return 0;
    }
    let group = |instance: &Instance| -> Vec<Option<String>> {
        let value = |field: &String| match field.as_str() {
            "hostname" | "@hostname" => Some(instance.host.clone()),
            field => instance.attributes.get(field).cloned(),
        };
        rule.group_by.iter().map(value).collect()
    };
    let mut sizes: BTreeMap<Vec<Option<String>>, usize> = BTreeMap::new();
    for instance in left {
        *sizes.entry(group(instance)).or_default() += 1;
    }
    let most = sizes.values().copied().max().unwrap_or(0);
    left.iter().position(|instance| sizes.get(&group(instance)) == Some(&most)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, condition: Condition, started: u64, host: &str) -> Instance {
        Instance {
            id: id.into(),
            condition: condition.into(),
            started_at_ms: started,
            host: host.into(),
            ..Default::default()
        }
    }

    fn chosen(instances: &[Instance], count: usize, rule: Rule<'_>) -> Vec<String> {
        select(&instances.iter().collect::<Vec<_>>(), count, rule)
    }

    fn rule<'a>(named: &'a BTreeSet<String>, group_by: &'a [String]) -> Rule<'a> {
        Rule { named, selection: KillSelection::YoungestFirst, group_by }
    }

    #[test]
    fn marathon_c64_youngest_or_oldest_go_first() {
        let all: Vec<_> =
            (0..5).map(|i| instance(&format!("i{i}"), Condition::Running, 100 + i, "h")).collect();
        let none = BTreeSet::new();
        assert_eq!(chosen(&all, 2, rule(&none, &[])), ["i4", "i3"]);
        let oldest = Rule { selection: KillSelection::OldestFirst, ..rule(&none, &[]) };
        assert_eq!(chosen(&all, 2, oldest), ["i0", "i1"]);
    }

    #[test]
    fn named_ones_then_the_least_useful_go_first() {
        let all = [
            instance("run", Condition::Running, 1, "h"),
            instance("old", Condition::Running, 0, "h"),
            instance("stage", Condition::Staging, 9, "h"),
            instance("lost", Condition::Unreachable, 0, "h"),
            instance("start", Condition::Starting, 9, "h"),
        ];
        let named = BTreeSet::from(["old".to_owned()]);
        assert_eq!(chosen(&all, 5, rule(&named, &[])), ["old", "lost", "stage", "start", "run"]);
    }

    #[test]
    fn group_by_takes_from_the_fullest_group() {
        let all: Vec<_> = [("a", "h1"), ("b", "h1"), ("c", "h1"), ("d", "h2"), ("e", "h3")]
            .iter()
            .enumerate()
            .map(|(i, (id, host))| instance(id, Condition::Running, 100 - i as u64, host))
            .collect();
        let (none, fields) = (BTreeSet::new(), vec!["hostname".to_owned()]);
        assert_eq!(chosen(&all, 2, rule(&none, &fields)), ["a", "b"]);
    }
}
