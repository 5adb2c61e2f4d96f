//! What a disk resource is beside its size: its source and the persistent volume on it.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use meshos_proto::mesos::v1::resource::{DiskInfo, disk_info::source};
use prost::Message as _;

/// A disk's wire message, which can be compared, ordered and cloned at little cost.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: DiskInfo,
    /// The encoded message: equal messages have equal bytes, as it has no maps.
    key: Vec<u8>,
}

impl Disk {
    /// Keeps the message.
    pub fn new(info: DiskInfo) -> Self {
        let key = info.encode_to_vec();
        Self(Arc::new(Inner { info, key }))
    }

    /// The message.
    pub fn info(&self) -> &DiskInfo {
        &self.0.info
    }

    /// The id of the persistent volume, if there is one.
    pub fn persistence_id(&self) -> Option<&str> {
        self.info().persistence.as_ref().map(|p| p.id.as_str())
    }

    /// The kind of the source; none for a part of the root disk.
    pub fn source_type(&self) -> Option<source::Type> {
        self.info().source.as_ref().map(|s| s.r#type())
    }

    /// Whether equal disks may be added up and taken in parts: not a persistent volume, and not a source that is
    /// taken whole.
    pub fn is_divisible(&self) -> bool {
        if self.persistence_id().is_some() {
            return false;
        }
        match self.source_type() {
            None | Some(source::Type::Path | source::Type::Unknown) => true,
            Some(source::Type::Raw) => self.info().source.as_ref().is_some_and(|s| s.id.is_none()),
            Some(source::Type::Mount | source::Type::Block) => false,
        }
    }
}

impl From<DiskInfo> for Disk {
    fn from(info: DiskInfo) -> Self {
        Self::new(info)
    }
}

impl PartialEq for Disk {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Disk {}

impl PartialOrd for Disk {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Disk {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}
