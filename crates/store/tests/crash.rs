//! kill -9 at any moment loses nothing that was acknowledged and tears no transaction apart.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use meshos_store::{Embedded, Store, Txn, TxnOutcome};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const DIR: &str = "MESHOS_STORE_CRASH_DIR";
const WRITERS: usize = 8;
const ROUNDS: usize = 30;

/// The victim: started by the test below, otherwise does nothing.
#[tokio::test]
async fn crash_writer() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = Embedded::open(dir).expect("the store opens after a crash");
    futures::future::join_all((0..WRITERS).map(|writer| write_for_ever(&store, writer))).await;
}

async fn write_for_ever(store: &Embedded, writer: usize) {
    let counter = format!("counter/{writer}");
    let last = store.get(&counter).await.expect("read").map_or(0, |kv| number(&kv.value));
    for n in last + 1.. {
        let txn = Txn::new().put(format!("log/{writer}/{n:08}"), n.to_string()).put(&counter, n.to_string());
        if let TxnOutcome::Committed(revision) = store.txn(txn).await.expect("written") {
            writeln!(std::io::stdout(), "ack {writer} {n} {revision}").expect("the parent reads");
        }
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("text").parse().expect("a number")
}

/// Kills the victim whatever happens to the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the victim until it has acknowledged `acks` writes, kills it, and returns all that it has acknowledged:
/// revision by key.
fn run_and_kill(dir: &Path, acks: usize) -> BTreeMap<String, u64> {
    let child = Command::new(std::env::current_exe().expect("this test's own file"))
        .args(["--exact", "crash_writer", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the victim starts");
    let mut victim = Victim(child);
    let output = BufReader::new(victim.0.stdout.take().expect("piped"));
    let mut acknowledged = BTreeMap::new();
    for line in output.lines().map_while(Result::ok) {
        // A line that the kill cut off acknowledges nothing.
        let words: Vec<&str> = line.split(' ').collect();
        if let ["ack", writer, n, revision] = words[..]
            && let (Ok(n), Ok(revision)) = (n.parse::<u64>(), revision.parse::<u64>())
        {
            acknowledged.insert(format!("log/{writer}/{n:08}"), revision);
            if acknowledged.len() == acks {
                victim.0.kill().expect("killed");
            }
        }
    }
    assert!(acknowledged.len() >= acks, "the victim ended by itself");
    acknowledged
}

#[tokio::test]
async fn kill_minus_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut rng = SmallRng::seed_from_u64(9);
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        acknowledged.extend(run_and_kill(dir.path(), rng.random_range(1..120)));
        let store = Embedded::open(dir.path()).expect("the store opens after a crash");
        let listing = store.list("log/").await.expect("listed");
        let stored: BTreeMap<_, _> = listing.items.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect();
        for (key, revision) in &acknowledged {
            // The last line can be cut within its revision, so a shorter number may have been read.
            let found = stored.get(key).unwrap_or_else(|| panic!("round {round}: {key} is lost"));
            assert!(found.to_string().starts_with(&revision.to_string()), "round {round}: {key} has {found}");
        }
        assert!(stored.values().all(|revision| *revision <= listing.revision));
        for writer in 0..WRITERS {
            let prefix = format!("log/{writer}/");
            let written = stored.keys().filter(|key| key.starts_with(&prefix)).count() as u64;
            let counter = store.get(&format!("counter/{writer}")).await.expect("read");
            assert_eq!(counter.map_or(0, |kv| number(&kv.value)), written, "a transaction was torn apart");
        }
    }
}
