use std::time::Duration;

use super::{commit, keys, within};
use crate::election::{Campaign, Fence, campaign, depose, leader_key, wait_change};
use crate::error::Result;
use crate::model::{LeaseId, Txn, TxnOutcome};
use crate::{SharedStore, Store};

const TTL: Duration = Duration::from_secs(60);

async fn won(store: &dyn Store, key: &str, who: &'static str, lease: LeaseId) -> Result<Fence> {
    match campaign(store, key, who, lease).await? {
        Campaign::Won { epoch } => Ok(Fence::new(key, epoch)),
        Campaign::Lost { current } => panic!("{who} lost against {current:?}"),
    }
}

/// One leads at a time; a later leader has a larger epoch; what an old one writes under its fence is refused.
pub async fn election_and_fencing(store: SharedStore) -> Result<()> {
    let key = leader_key("allocator");
    let (first, second) = (store.grant(TTL).await?, store.grant(TTL).await?);
    let old = won(&*store, &key, "one", first).await?;
    assert_eq!(won(&*store, &key, "one", first).await?, old, "asked again, it leads with the same epoch");
    let Campaign::Lost { current } = campaign(&*store, &key, "two", second).await? else {
        panic!("two leaders at once");
    };
    assert_eq!(
        (&current.value[..], current.lease, current.create_revision),
        (&b"one"[..], Some(first), old.epoch)
    );
    commit(&*store, old.guard(Txn::new().put("state", "of one"))).await?;
    assert!(old.holds(&*store).await?);

    store.revoke(first).await?;
    assert_eq!(store.txn(old.guard(Txn::new().put("state", "too late"))).await?, TxnOutcome::Refused);
    let new = won(&*store, &key, "two", second).await?;
    assert!(new.epoch > old.epoch);
    assert_eq!(store.txn(old.guard(Txn::new().put("state", "too late"))).await?, TxnOutcome::Refused);
    assert!(!old.holds(&*store).await?);
    commit(&*store, new.guard(Txn::new().put("state", "of two"))).await?;
    Ok(())
}

/// A standby ends the leader that it knows, and never one that has come since.
pub async fn deposing_needs_the_same_leader(store: SharedStore) -> Result<()> {
    let key = leader_key("registry");
    let (first, second) = (store.grant(TTL).await?, store.grant(TTL).await?);
    won(&*store, &key, "one", first).await?;
    commit(&*store, Txn::new().put_leased("services/registry/one", "", first)).await?;
    let leader = store.get(&key).await?.expect("one leads");
    assert!(depose(&*store, &leader).await?);
    assert_eq!(keys(&*store, "").await?, Vec::<String>::new(), "its lease is gone, with all keys");

    let fence = won(&*store, &key, "two", second).await?;
    assert!(!depose(&*store, &leader).await?, "that leader is gone already");
    assert!(fence.holds(&*store).await?);
    Ok(())
}

/// A standby learns of a change that it has missed at once, and of the next one when it happens.
pub async fn waiting_for_a_change(store: SharedStore) -> Result<()> {
    let key = leader_key("app");
    let lease = store.grant(TTL).await?;
    let fence = won(&*store, &key, "one", lease).await?;
    let seen = within("a change that was missed", wait_change(&*store, &key, 0)).await?;
    assert_eq!(seen.map(|kv| kv.create_revision), Some(fence.epoch));
    let next = within("the end of the leader", wait_change(&*store, &key, fence.epoch));
    let end = async {
        // A key whose name only starts like the leader's does not count.
        commit(&*store, Txn::new().put(format!("{key}-beside"), "")).await?;
        store.revoke(lease).await
    };
    let (gone, ()) = futures::try_join!(next, end)?;
    assert_eq!(gone, None);
    Ok(())
}
