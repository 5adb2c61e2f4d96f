//! Why frameworks get no offers: counted when it is decided.

use std::collections::BTreeMap;

use meshos_proto::meshos::allocator::v1::{Explanation, explain_request::Subject};
use meshos_types::{FrameworkId, RoleName};

use super::Core;

/// Why an agent was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Filter,
    QuotaLimit,
    QuotaHeadroom,
    Constraint,
    Capability,
    TooSmall,
    Region,
}

impl Refusal {
    const ALL: [(Self, &str); 7] = [
        (Self::Filter, "filter"),
        (Self::QuotaLimit, "quota_limit"),
        (Self::QuotaHeadroom, "quota_headroom"),
        (Self::Constraint, "constraint"),
        (Self::Capability, "capability"),
        (Self::TooSmall, "too_small"),
        (Self::Region, "region"),
    ];
}

/// What happened to a framework in one role since it subscribed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) offered: u64,
    refusals: [u64; Refusal::ALL.len()],
    before: Together,
}

/// How many agents a role was passed over for without a look at its frameworks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Together {
    /// Its limits left nothing.
    pub(crate) limit: u64,
    /// Everything was kept for guarantees.
    pub(crate) headroom: u64,
}

impl Tally {
    /// Counts from now on.
    pub(crate) fn since(before: Together) -> Self {
        Self { before, ..Self::default() }
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refusals[refusal as usize] += 1;
    }

    fn refusals(&self, now: Together) -> BTreeMap<String, u64> {
        let together = |refusal: Refusal| match refusal {
            Refusal::QuotaLimit => now.limit.saturating_sub(self.before.limit),
            Refusal::QuotaHeadroom => now.headroom.saturating_sub(self.before.headroom),
            _ => 0,
        };
        let count = |refusal: Refusal| self.refusals[refusal as usize] + together(refusal);
        let counts = Refusal::ALL.iter().map(|(refusal, name)| (*name, count(*refusal)));
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
    }
}

impl Core {
    /// What is known of one framework, or of all frameworks in one role; none if there is no such thing.
    #[must_use]
    pub fn explain(&self, subject: &Subject) -> Option<Vec<Explanation>> {
        match subject {
            Subject::FrameworkId(id) => {
                let id = FrameworkId::new(id.as_str());
                let framework = self.frameworks.get(&id)?;
                Some(framework.roles.iter().map(|role| self.explain_one(&id, framework, role)).collect())
            }
            Subject::Role(role) => {
                let role = RoleName::new(role.as_str());
                let of_role = self.frameworks.iter().filter(|(_, framework)| framework.roles.contains(&role));
                let explanations: Vec<_> =
                    of_role.map(|(id, framework)| self.explain_one(id, framework, &role)).collect();
                let known = self.shares.is_known(&role) || self.role_settings.contains_key(&role);
                (known || !explanations.is_empty()).then_some(explanations)
            }
        }
    }

    fn explain_one(&self, id: &FrameworkId, framework: &super::Framework, role: &RoleName) -> Explanation {
        let tally = framework.tallies.get(role).cloned().unwrap_or_default();
        Explanation {
            framework_id: id.to_string(),
            role: role.to_string(),
            suppressed: framework.suppressed.contains(role),
            offered: tally.offered,
            refusals: tally.refusals(self.quotas.together(role)),
            dominant_share: self.frameworks.key(id).map_or(0.0, |key| self.shares.framework_share(role, key)),
        }
    }
}
