//! Resources as agents report them, their own and those of tasks: most are alike, and share theirs. It takes less memory,
//! and what is decided on next lies in the processor's caches however many agents there are.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use meshos_proto::mesos::v1 as pb;
use meshos_types::{ResourceError, Resources, RoleName};
use prost::Message;

/// Kept at a time; with more, it begins anew.
const MOST: usize = 4096;

/// What a task has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Not allocated to a role.
    pub(crate) resources: Resources,
    /// The role that they are allocated to, if they say so.
    pub(crate) role: Option<RoleName>,
}

/// What an agent has.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// As it was told.
    pub(crate) messages: Arc<[pb::Resource]>,
    /// Not allocated to a role. None where a message is not valid, and why.
    pub(crate) resources: Result<Resources, String>,
}

/// By their encoded form.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    known: HashMap<Vec<u8>, Held, FixedState>,
    lists: HashMap<Vec<u8>, Listed, FixedState>,
    key: Vec<u8>,
}

impl Interned {
    /// What these messages `mesos.v1.Resource` say.
    ///
    /// # Errors
    /// Text that names the fault.
    pub(crate) fn read(&mut self, encoded: &[&[u8]]) -> Result<Held, String> {
        self.key.clear();
        for resource in encoded {
            self.key.extend_from_slice(&resource.len().to_le_bytes());
            self.key.extend_from_slice(resource);
        }
        if let Some(held) = self.known.get(&self.key) {
            return Ok(held.clone());
        }
        let held = read(encoded)?;
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(self.key.clone(), held.clone());
        Ok(held)
    }

    /// What an agent says that it has.
    pub(crate) fn list(&mut self, messages: Vec<pb::Resource>) -> Listed {
        self.key.clear();
        for message in &messages {
            // A Vec grows as far as it has to.
            let _ = message.encode_length_delimited(&mut self.key);
        }
        if let Some(listed) = self.lists.get(&self.key) {
            return listed.clone();
        }
        let resources = Resources::from_proto(&messages);
        let resources = resources.map(|all| all.unallocated()).map_err(|error| error.to_string());
        let listed = Listed { messages: messages.into(), resources };
        if self.lists.len() >= MOST {
            self.lists.clear();
        }
        self.lists.insert(self.key.clone(), listed.clone());
        listed
    }
}

fn read(encoded: &[&[u8]]) -> Result<Held, String> {
    let decoded: Result<Vec<_>, _> = encoded.iter().map(|resource| pb::Resource::decode(*resource)).collect();
    let decoded = decoded.map_err(|error| error.to_string())?;
    let resources = Resources::from_proto(&decoded).map_err(|error: ResourceError| error.to_string())?;
    let role = resources.iter().find_map(|resource| resource.allocation.clone());
    Ok(Held { resources: resources.unallocated(), role })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::harness::resources;

    #[test]
    fn the_same_bytes_share_their_resources_and_others_do_not() {
        let encoded = |text: &str| resources(text).iter().map(Message::encode_to_vec).collect::<Vec<_>>();
        let (one, other) = (encoded("cpus:1;mem:2"), encoded("cpus:1;mem:3"));
        let slices = |from: &'static str| -> Vec<Vec<u8>> { encoded(from) };
        let mut interned = Interned::default();
        let mut held = |of: &[Vec<u8>]| {
            interned.read(&of.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap().resources
        };
        assert_eq!(held(&one), held(&slices("cpus:1;mem:2")));
        assert_ne!(held(&one), held(&other));
        assert!(held(&[]).is_empty());
        for number in 0..=MOST {
            held(&encoded(&format!("cpus:{}", number + 1)));
        }
        assert!(interned.known.len() <= MOST);
        assert!(interned.read(&[b"\x0a\xff"]).is_err());
    }

    #[test]
    fn agents_that_are_alike_share_what_they_have() {
        let mut interned = Interned::default();
        let mut list = |text: &str| interned.list(resources(text));
        let (one, same, other) = (list("cpus:4;mem:64"), list("cpus:4;mem:64"), list("cpus:4;mem:65"));
        assert!(Arc::ptr_eq(&one.messages, &same.messages));
        assert_eq!((&one.resources, &*one.messages), (&same.resources, &*resources("cpus:4;mem:64")));
        assert_ne!(one.resources, other.resources);
        let scalar = pb::Resource { name: "cpus".to_owned(), ..pb::Resource::default() };
        assert!(interned.list(vec![scalar]).resources.is_err());
        for number in 0..=MOST {
            interned.list(resources(&format!("cpus:{}", number + 1)));
        }
        assert!(interned.lists.len() <= MOST);
    }
}
