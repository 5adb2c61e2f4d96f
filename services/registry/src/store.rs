//! The keys that the registry owns.

use bytes::Bytes;
use meshos_proto::meshos::registry::v1::{Agent, Framework};
use meshos_store::KeyValue;
use prost::Message;
use tracing::error;

/// Prefix of all admitted agents.
pub const AGENTS: &str = "registry/agents/";
/// Prefix of framework records.
pub const FRAMEWORKS: &str = "registry/frameworks/";

/// Version of the stored records.
pub const FORMAT: u32 = 1;

/// Key of an agent.
#[must_use]
pub fn agent_key(id: &str) -> String {
    format!("{AGENTS}{id}")
}

/// Key of a framework.
#[must_use]
pub fn framework_key(id: &str) -> String {
    format!("{FRAMEWORKS}{id}")
}

/// Reads an agent's record. One that cannot be read is logged and left alone.
#[must_use]
pub fn read_agent(record: &KeyValue) -> Option<Agent> {
    decode(record)
}

/// Reads a framework's record, as [`read_agent`].
#[must_use]
pub fn read_framework(record: &KeyValue) -> Option<Framework> {
    decode(record)
}

fn decode<M: Message + Default>(record: &KeyValue) -> Option<M> {
    M::decode(record.value.clone())
        .inspect_err(|error| error!(key = record.key, %error, "record cannot be read"))
        .ok()
}

/// A record as it is stored.
#[must_use]
pub fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}
