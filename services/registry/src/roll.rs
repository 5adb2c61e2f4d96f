//! The writes: every change of an agent's record is a compare-and-swap.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use meshos_mesh::Env;
use meshos_proto::meshos::registry::v1::{Agent, Register};
use meshos_store::{Compare, SharedStore, Txn, TxnOutcome};
use tracing::info;

use crate::{
    config::Config,
    error::Error,
    membership::{self, End, Refusal},
    store::{agent_key, encode, read_agent},
};

/// A record may change under a writer this often before it gives up.
const ATTEMPTS: u32 = 8;

/// The roll of agents in the store, as one replica writes it.
#[derive(Clone, Debug)]
pub(crate) struct Roll {
    store: SharedStore,
    env: Env,
    config: Arc<Config>,
    /// Ids look as Mesos's do: a UUID of whoever gave it, `-S`, and a count.
    id_prefix: String,
    next_id: Arc<AtomicU64>,
}

impl Roll {
    pub(crate) fn new(env: &Env, store: &SharedStore, config: &Arc<Config>) -> Self {
        Self {
            store: Arc::clone(store),
            env: env.clone(),
            config: Arc::clone(config),
            id_prefix: format!("{}-S", env.rng.uuid()),
            next_id: Arc::default(),
        }
    }

    /// Admits an agent or takes it back. The record is durable when this returns; after [`Error::Unsure`] it may be.
    pub(crate) async fn admit(&self, register: &Register) -> Result<Result<Agent, Refusal>, Error> {
        let id = match membership::check(register)? {
            Some(id) => id,
            None => format!("{}{}", self.id_prefix, self.next_id.fetch_add(1, Ordering::Relaxed)),
        };
        let key = agent_key(&id);
        for _ in 0..ATTEMPTS {
            let record = self.store.get(&key).await?;
            let known = record.as_ref().and_then(read_agent);
            let now = self.env.clock.unix_ms();
            let agent = match membership::admit(known.as_ref(), register, &id, &self.config.instance, now) {
                Ok(agent) => agent,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let unchanged = match &record {
                Some(record) => Compare::ModRevision(key.clone(), record.mod_revision),
                None => Compare::Absent(key.clone()),
            };
            let txn = Txn::new().when(unchanged).put(key.clone(), encode(&agent));
            match self.store.txn(txn).await {
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
        for _ in 0..ATTEMPTS {
            let Some(record) = self.store.get(&key).await? else { return Ok(false) };
            let Some(known) = read_agent(&record) else { return Ok(false) };
            let Some(agent) = membership::end(&known, session, end, self.env.clock.unix_ms()) else {
                return Ok(false);
            };
            let unchanged = Compare::ModRevision(key.clone(), record.mod_revision);
            let txn = Txn::new().when(unchanged).put(key.clone(), encode(&agent));
            if let TxnOutcome::Committed(_) = self.store.txn(txn).await? {
                info!(agent_id = id, session, ?end, "agent session ended");
                return Ok(true);
            }
        }
        Err(Error::Contended { agent_id: id.to_owned(), attempts: ATTEMPTS })
    }
}
