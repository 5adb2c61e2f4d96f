//! What is asked of resources again and again, worked out once for each contents.

use crate::{quantities::Quantities, resource::Resource};

/// Sums of resources, and what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    /// The sums of all scalars by name; a shared one counts once.
    pub scalars: Quantities,
    /// The sums of those scalars that are neither reserved nor revocable.
    pub open: Quantities,
    /// Whether all are alike for every role and framework: none is reserved, revocable or shared.
    pub plain: bool,
    /// Whether any is shared.
    pub shared: bool,
}

impl Digest {
    pub(super) const fn none() -> Self {
        Self { scalars: Quantities::new(), open: Quantities::new(), plain: true, shared: false }
    }

    pub(super) fn of(entries: &[Resource]) -> Self {
        let mut digest = Self::none();
        for (index, resource) in entries.iter().enumerate() {
            let open = resource.is_unreserved() && !resource.revocable;
            digest.plain &= open && !resource.shared;
            digest.shared |= resource.shared;
            let Some(amount) = resource.amount() else { continue };
            let copy = resource.shared && index > 0 && entries[index - 1] == *resource;
            if !copy {
                digest.scalars.add_one(&resource.name, amount);
            }
            if open {
                digest.open.add_one(&resource.name, amount);
            }
        }
        digest
    }
}
