//! The keys that the registry owns.

use bytes::Bytes;
use meshos_proto::meshos::registry::v1::{Agent, Framework, Role};
use meshos_store::KeyValue;
use prost::Message;
use tracing::error;

/// Prefix of all admitted agents.
pub const AGENTS: &str = "registry/agents/";
/// Prefix of framework records.
pub const FRAMEWORKS: &str = "registry/frameworks/";

/// Prefix of what operators have set for roles.
pub const ROLES: &str = "registry/roles/";

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

/// Key of a role: `/` and `%` in its name are escaped as in URLs, so that a role is one segment of the key.
#[must_use]
pub fn role_key(name: &str) -> String {
    format!("{ROLES}{}", name.replace('%', "%25").replace('/', "%2F"))
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

/// Reads a role's record, as [`read_agent`].
#[must_use]
pub fn read_role(record: &KeyValue) -> Option<Role> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_keys_of_their_own() {
        let keys = ["*", "a", "a/b", "a%2Fb", "a%b"].map(role_key);
        assert_eq!(keys[2], "registry/roles/a%2Fb");
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert!(keys.iter().all(|key| key.matches('/').count() == 2));
    }
}
