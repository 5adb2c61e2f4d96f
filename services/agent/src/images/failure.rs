//! Why something about an image failed, before it is known which image it was for.

use std::{io, path::Path};

use super::{ErrorKind, ImageError};

/// An [`ImageError`] without the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// A file of this node that cannot be read, made or written.
    pub(super) fn store(path: &Path, error: &io::Error) -> Self {
        Self::new(ErrorKind::Store, format!("{}: {error}", path.display()))
    }

    pub(super) fn of(self, image: &str) -> ImageError {
        ImageError { image: super::digest::short(image), kind: self.kind, reason: self.reason }
    }
}
