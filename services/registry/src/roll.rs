//! The writes: every change of an agent's record is a compare-and-swap. Those that come together share a
//! transaction.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use meshos_mesh::Env;
use meshos_proto::meshos::registry::v1::{Agent, Register};
use meshos_store::{BatchWriter, Compare, Revision, SharedStore, Txn, TxnOutcome, batch_writer};
use tracing::{error, info};

use crate::{
    config::Config,
    error::Error,
    membership::{self, End, Refusal},
    store::{agent_key, encode, read_agent},
    view::View,
};

/// A record may change under a writer this often before it gives up.
const ATTEMPTS: u32 = 8;
/// Writes that may wait for the one under way; further sessions wait for room.
const QUEUE: usize = 1024;

/// The roll of agents in the store, as one replica writes it.
#[derive(Clone, Debug)]
pub(crate) struct Roll {
    store: SharedStore,
    writer: BatchWriter,
    /// What was seen last; the store has the last word.
    view: View,
    env: Env,
    config: Arc<Config>,
    /// Ids look as Mesos's do: a UUID of whoever gave it, `-S`, and a count.
    id_prefix: String,
    next_id: Arc<AtomicU64>,
}

impl Roll {
    pub(crate) fn new(env: &Env, store: &SharedStore, config: &Arc<Config>, view: &View) -> Self {
        let (writer, runner) = batch_writer(Arc::clone(store), None, QUEUE);
        env.tasks.spawn("roll-writer", async move {
            if let Err(error) = runner.run().await {
                error!(%error, "agents' records can no longer be written");
            }
        });
        Self {
            store: Arc::clone(store),
            writer,
            view: view.clone(),
            env: env.clone(),
            config: Arc::clone(config),
            id_prefix: format!("{}-S", env.rng.uuid()),
            next_id: Arc::default(),
        }
    }

    /// Admits an agent or takes it back. The record is durable when this returns; after [`Error::Unsure`] it may be.
    pub(crate) async fn admit(&self, register: &Register) -> Result<Result<Agent, Refusal>, Error> {
        let given = membership::check(register)?;
        let new = given.is_none();
        let id = given
            .unwrap_or_else(|| format!("{}{}", self.id_prefix, self.next_id.fetch_add(1, Ordering::Relaxed)));
        let key = agent_key(&id);
        for attempt in 0..ATTEMPTS {
            let record = match attempt {
                0 if new => Record::default(),
                0 => self.view.get(&id).map_or_else(Record::default, Record::from),
                _ => self.read(&key).await?,
            };
            let now = self.env.clock.unix_ms();
            let instance = &self.config.instance;
            let agent = match membership::admit(record.agent.as_ref(), register, &id, instance, now) {
                Ok(agent) => agent,
                // What was seen last may be out of date.
                Err(_) if attempt == 0 => continue,
                Err(refusal) => return Ok(Err(refusal)),
            };
            match self.swap(&key, &record, &agent).await {
                Ok(TxnOutcome::Committed(_)) => {
                    info!(agent_id = id, session = agent.session, "agent admitted");
                    return Ok(Ok(agent));
                }
                Ok(TxnOutcome::Refused) => {}
                Err(source) if source.outcome_unknown() => {
                    return Err(Error::Unsure { agent_id: id, session: agent.session, source });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { agent_id: id, attempts: ATTEMPTS })
    }

    /// Records the end of a session. Returns whether that changed the agent's state.
    pub(crate) async fn end(&self, id: &str, session: u64, end: End) -> Result<bool, Error> {
        let key = agent_key(id);
        for attempt in 0..ATTEMPTS {
            // A session that began a moment ago may not have been seen yet.
            let seen = (attempt == 0).then(|| self.view.get(id)).flatten();
            let record = match seen.filter(|(agent, _)| agent.session >= session) {
                Some(seen) => Record::from(seen),
                None => self.read(&key).await?,
            };
            let Some(known) = &record.agent else { return Ok(false) };
            let Some(agent) = membership::end(known, session, end, self.env.clock.unix_ms()) else {
                return Ok(false);
            };
            if let TxnOutcome::Committed(_) = self.swap(&key, &record, &agent).await? {
                info!(agent_id = id, session, ?end, "agent session ended");
                return Ok(true);
            }
        }
        Err(Error::Contended { agent_id: id.to_owned(), attempts: ATTEMPTS })
    }

    /// Declares an agent gone for ever. The record is durable when this returns.
    pub(crate) async fn mark_gone(&self, id: &str) -> Result<(), Error> {
        let unknown = || Error::UnknownAgent { agent_id: id.to_owned() };
        // Before it becomes part of a key.
        meshos_types::AgentId::parse(id).map_err(|_| unknown())?;
        let key = agent_key(id);
        for _ in 0..ATTEMPTS {
            let record = self.read(&key).await?;
            let gone = membership::gone(record.agent.as_ref(), self.env.clock.unix_ms());
            let Some(agent) = gone.map_err(|membership::Unknown| unknown())? else { return Ok(()) };
            if let TxnOutcome::Committed(_) = self.swap(&key, &record, &agent).await? {
                info!(agent_id = id, "agent marked gone");
                return Ok(());
            }
        }
        Err(Error::Contended { agent_id: id.to_owned(), attempts: ATTEMPTS })
    }

    /// Deletes the record of an agent that is no part of the cluster any more. Returns whether it did: one that came
    /// back meanwhile stays.
    pub(crate) async fn forget(&self, id: &str) -> Result<bool, Error> {
        let Some((_, revision)) = self.view.get(id).filter(|(agent, _)| membership::is_past(agent)) else {
            return Ok(false);
        };
        let key = agent_key(id);
        let txn = Txn::new().when(Compare::ModRevision(key.clone(), revision)).delete(key);
        Ok(matches!(self.writer.submit_txn(txn).await?, TxnOutcome::Committed(_)))
    }

    async fn read(&self, key: &str) -> Result<Record, Error> {
        let found = self.store.get(key).await?;
        Ok(found.map_or_else(Record::default, |found| Record {
            agent: read_agent(&found),
            revision: Some(found.mod_revision),
        }))
    }

    async fn swap(&self, key: &str, record: &Record, agent: &Agent) -> meshos_store::Result<TxnOutcome> {
        let unchanged = match record.revision {
            Some(revision) => Compare::ModRevision(key.to_owned(), revision),
            None => Compare::Absent(key.to_owned()),
        };
        self.writer.submit_txn(Txn::new().when(unchanged).put(key, encode(agent))).await
    }
}

/// What stands under an agent's key.
#[derive(Debug, Default)]
struct Record {
    /// None: nothing, or nothing that can be read.
    agent: Option<Agent>,
    /// None: nothing.
    revision: Option<Revision>,
}

impl From<(Agent, Revision)> for Record {
    fn from((agent, revision): (Agent, Revision)) -> Self {
        Self { agent: Some(agent), revision: Some(revision) }
    }
}
