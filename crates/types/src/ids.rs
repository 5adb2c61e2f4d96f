//! A newtype for every id and counter, so that swapped arguments do not compile.
//!
//! Text ids share their text (`Arc<str>`): a clone costs a counter, not an allocation.

use std::fmt;

use meshos_proto::mesos::v1 as pb;

/// The longest id that can be the name of a directory (NAME_MAX).
const MAX_LENGTH: usize = 255;

/// Why a text cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{kind} must not be empty")]
    Empty { kind: &'static str },
    /// The text has more than 255 bytes.
    #[error("{kind} has {length} bytes, at most 255 are allowed")]
    TooLong { kind: &'static str, length: usize },
    /// The text is `.` or `..`.
    #[error("{kind} must not be '{text}'")]
    Dots { kind: &'static str, text: String },
    /// The text has a control character, `/` or `\`.
    #[error("{kind} '{text}' contains the invalid character {character:?}")]
    Character { kind: &'static str, text: String, character: char },
    /// The text does not have the form that this kind of id has.
    #[error("{kind} '{text}' is malformed: {expected}")]
    Malformed { kind: &'static str, text: String, expected: &'static str },
}

/// Checks the rule that task, executor, agent, framework and persistence ids obey (Mesos
/// `src/common/validation.cpp`): they become names of directories.
pub fn check_id(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > MAX_LENGTH {
        return Err(IdError::TooLong { kind, length: text.len() });
    }
    if text == "." || text == ".." {
        return Err(IdError::Dots { kind, text: text.to_owned() });
    }
    match text.chars().find(|c| c.is_ascii_control() || matches!(c, '/' | '\\')) {
        Some(character) => Err(IdError::Character { kind, text: text.to_owned(), character }),
        None => Ok(()),
    }
}

/// A newtype over shared text: construction, text access, ordering, hashing, printing.
macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Takes the text as it is, unchecked: for ids that this cluster itself made or has checked before.
            pub fn new(text: impl Into<std::sync::Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }
    };
}
pub(crate) use text_newtype;

/// A text id with the id rule and with the `XxxID {value}` message of its kind.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $message:ty) => {
        text_newtype! { $(#[$doc])* $name }

        impl $name {
            /// Takes the text if it obeys the id rule ([`check_id`]).
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id(stringify!($name), text)?;
                Ok(Self::new(text))
            }

            /// The wire message.
            pub fn to_proto(&self) -> $message {
                self.into()
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$message> for $name {
            /// Unchecked, as [`Self::new`]; use [`Self::parse`] on the value of a message from outside.
            fn from(message: $message) -> Self {
                Self::new(message.value)
            }
        }

        impl From<&$message> for $name {
            fn from(message: &$message) -> Self {
                Self::new(message.value.as_str())
            }
        }

        impl From<&$name> for $message {
            fn from(id: &$name) -> Self {
                Self { value: id.as_str().to_owned() }
            }
        }

        impl From<$name> for $message {
            fn from(id: $name) -> Self {
                (&id).into()
            }
        }
    };
}

text_id! {
    /// An agent's id, `<master id>-S<n>`; given at admission, kept by the agent over restarts.
    AgentId, pb::AgentId
}
text_id! {
    /// A framework's id, `<master id>-NNNN`; unique for ever.
    FrameworkId, pb::FrameworkId
}
text_id! {
    /// An offer's or inverse offer's id, `<master id>-O<n>`.
    OfferId, pb::OfferId
}
text_id! {
    /// A task's id, chosen by its framework; unique among the framework's non-terminal tasks.
    TaskId, pb::TaskId
}
text_id! {
    /// An executor's id, chosen by its framework; unique per agent and framework.
    ExecutorId, pb::ExecutorId
}
text_id! {
    /// The id of an offer operation, chosen by a framework that wants to hear about its outcome.
    OperationId, pb::OperationId
}
text_id! {
    /// The id of a resource provider on an agent.
    ResourceProviderId, pb::ResourceProviderId
}

/// A counter that only grows.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number after this one.
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

counter! {
    /// The store revision that made a leader leader. A receiver obeys only the newest epoch it has seen.
    Epoch
}
counter! {
    /// A revision of the store, or of a published view.
    Revision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_cannot_name_a_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", "a\u{7f}"] {
            assert!(TaskId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(TaskId::parse(&"x".repeat(256)).is_err());
        for good in ["a", "...", "a b", "ä", "a:b"] {
            assert_eq!(TaskId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        assert!(TaskId::parse(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn the_error_names_the_kind_and_the_character() {
        let error = AgentId::parse("a/b").unwrap_err();
        assert_eq!(error.to_string(), "AgentId 'a/b' contains the invalid character '/'");
    }

    #[test]
    fn ids_travel_as_messages() {
        let id = FrameworkId::new("f-0001");
        assert_eq!(FrameworkId::from(&id.to_proto()), id);
        assert_eq!(format!("{id:>8}"), "  f-0001");
    }
}
