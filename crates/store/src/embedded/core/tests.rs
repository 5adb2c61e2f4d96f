use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::Compare;

/// Few keys and leases, so that commands meet each other.
fn key() -> impl Strategy<Value = String> {
    (0..3_u8, 0..3_u8).prop_map(|(dir, name)| format!("{dir}/{name}"))
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (1..5_i64).prop_map(LeaseId)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), proptest::option::of(lease())).prop_map(|(key, lease)| Op::Put { key, value: Bytes::new(), lease }),
        2 => key().prop_map(|key| Op::Delete { key }),
        1 => (0..3_u8).prop_map(|dir| Op::DeletePrefix { prefix: format!("{dir}/") }),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        key().prop_map(Compare::Absent),
        key().prop_map(Compare::Present),
        (key(), 1..12_u64).prop_map(|(key, revision)| Compare::ModRevision(key, revision)),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let txn = (vec(compare(), 0..2), vec(op(), 1..4)).prop_map(|(compares, ops)| Txn { compares, ops });
    prop_oneof![
        8 => txn.prop_filter("what no backend takes", |txn| txn.validate().is_ok()).prop_map(Command::Txn),
        1 => Just(Command::Grant(Duration::from_secs(1))),
        1 => lease().prop_map(Command::Revoke),
    ]
}

fn run(core: &mut Core, group: &[Command]) -> (Vec<String>, Vec<WatchBatch>) {
    let mut stage = Stage::new(core);
    let replies = group.iter().map(|command| format!("{:?}", stage.run(command))).collect();
    let effects = stage.finish();
    (replies, core.apply(effects))
}

proptest! {
    /// Commands that share a commit have the same effects as one after the other.
    #[test]
    fn group_is_the_same_as_one_by_one(commands in vec(command(), 1..40), size in 1..8_usize) {
        let (mut grouped, mut single) = (Core::new(), Core::new());
        for group in commands.chunks(size) {
            let (replies, batches) = run(&mut grouped, group);
            let mut one_by_one = (Vec::new(), Vec::new());
            for command in group {
                let (reply, batch) = run(&mut single, std::slice::from_ref(command));
                one_by_one.0.extend(reply);
                one_by_one.1.extend(batch);
            }
            prop_assert_eq!((replies, batches), one_by_one);
            prop_assert_eq!(format!("{grouped:?}"), format!("{single:?}"));
        }
    }

    /// Whoever follows the changes ends with the same keys; revisions grow by one; no key outlives its lease.
    #[test]
    fn changes_lead_to_the_state(commands in vec(command(), 1..40)) {
        let mut core = Core::new();
        let mut view: BTreeMap<String, KeyValue> = BTreeMap::new();
        let mut revision = core.revision;
        for command in &commands {
            for batch in run(&mut core, std::slice::from_ref(command)).1 {
                prop_assert_eq!(batch.revision, revision + 1);
                revision = batch.revision;
                for event in batch.events {
                    prop_assert_eq!(event.mod_revision(), revision);
                    match event {
                        Event::Put(kv) => {
                            let before = view.insert(kv.key.clone(), kv.clone());
                            let created = before.as_ref().map_or(revision, |kv| kv.create_revision);
                            prop_assert_eq!(kv.create_revision, created);
                            prop_assert_eq!(kv.version, before.map_or(1, |kv| kv.version + 1));
                        }
                        Event::Delete { key, .. } => prop_assert!(view.remove(&key).is_some(), "{} was not there", key),
                    }
                }
            }
            prop_assert_eq!(core.revision, revision);
            prop_assert_eq!(core.range("").cloned().collect::<Vec<_>>(), view.values().cloned().collect::<Vec<_>>());
            let leases: Vec<LeaseId> = core.leases().map(|(id, _)| id).collect();
            prop_assert!(view.values().filter_map(|kv| kv.lease).all(|id| leases.contains(&id)));
        }
    }
}
