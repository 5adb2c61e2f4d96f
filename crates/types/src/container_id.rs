//! Container ids: a text, and the id of the container that this one is nested in.

use std::{fmt, sync::Arc};

use meshos_proto::mesos::v1 as pb;

use crate::ids::{IdError, check_id};

/// How deep containers may be nested in a message from outside; deeper is refused.
const MAX_DEPTH: usize = 16;

/// A container's id; a nested container's id has its parent's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    parent: Option<Arc<ContainerId>>,
    value: Arc<str>,
}

impl ContainerId {
    /// A container that is not nested.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self { parent: None, value: value.into() }
    }

    /// A container nested in this one.
    pub fn child(&self, value: impl Into<Arc<str>>) -> Self {
        Self { parent: Some(Arc::new(self.clone())), value: value.into() }
    }

    /// The last part of the id: without its parents.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The container that this one is nested in.
    pub fn parent(&self) -> Option<&ContainerId> {
        self.parent.as_deref()
    }

    /// The outermost container.
    pub fn root(&self) -> &ContainerId {
        let mut id = self;
        while let Some(parent) = id.parent() {
            id = parent;
        }
        id
    }

    /// Whether this container is nested, at any depth, in `other`.
    pub fn is_below(&self, other: &ContainerId) -> bool {
        std::iter::successors(self.parent(), |id| id.parent()).any(|id| id == other)
    }

    /// The wire message, with all parents.
    pub fn to_proto(&self) -> pb::ContainerId {
        pb::ContainerId {
            value: self.value.to_string(),
            parent: self.parent().map(|parent| Box::new(parent.to_proto())),
        }
    }

    /// Takes a message from outside: each part must obey the id rule, at most 16 of them.
    pub fn parse(message: &pb::ContainerId) -> Result<Self, IdError> {
        let mut parts = Vec::new();
        let mut next = Some(message);
        while let Some(part) = next {
            check_id("ContainerId", &part.value)?;
            if parts.len() == MAX_DEPTH {
                return Err(IdError::Malformed {
                    kind: "ContainerId",
                    text: message.value.clone(),
                    expected: "containers may be nested at most 16 deep",
                });
            }
            parts.push(part.value.as_str());
            next = part.parent.as_deref();
        }
        Ok(Self::from_parts(parts))
    }

    /// From the innermost part to the outermost.
    fn from_parts(parts: Vec<&str>) -> Self {
        let mut id: Option<ContainerId> = None;
        for part in parts.into_iter().rev() {
            id = Some(match id {
                Some(parent) => parent.child(part),
                None => ContainerId::new(part),
            });
        }
        id.unwrap_or_else(|| ContainerId::new(""))
    }
}

impl fmt::Display for ContainerId {
    /// All parts, outermost first, with dots between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent() {
            write!(f, "{parent}.")?;
        }
        f.write_str(&self.value)
    }
}

impl From<&ContainerId> for pb::ContainerId {
    fn from(id: &ContainerId) -> Self {
        id.to_proto()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_ids_keep_their_parents() {
        let id = ContainerId::new("a").child("b").child("c");
        assert_eq!(id.to_string(), "a.b.c");
        assert_eq!(id.root().value(), "a");
        assert!(id.is_below(&ContainerId::new("a")) && !id.is_below(&id));
        assert_eq!(ContainerId::parse(&id.to_proto()), Ok(id));
    }

    #[test]
    fn too_deep_nesting_is_refused() {
        let mut id = ContainerId::new("a");
        for _ in 1..MAX_DEPTH {
            id = id.child("a");
        }
        assert!(ContainerId::parse(&id.to_proto()).is_ok());
        assert!(ContainerId::parse(&id.child("a").to_proto()).is_err());
    }
}
