//! Offer constraints: which agents a framework wants offers of (Mesos 2.10).

pub(crate) use meshos_types::offer_constraints::{Constraints, fault_domain};
