//! Resources of tasks as agents report them: most tasks are alike, and share theirs.

use std::collections::HashMap;

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

/// By their encoded form.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    known: HashMap<Vec<u8>, Held, FixedState>,
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
}
