//! What a fleet tells its parent, one line of JSON each time.

use serde_json::{Value, json};

/// Counts of some agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) registered: usize,
    /// Unix time in microseconds of the last registration.
    pub(crate) registered_at_us: u64,
    /// Newest leader that took an agent.
    pub(crate) epoch: u64,
    /// Agents that it has taken.
    pub(crate) linked: usize,
    /// Unix time in microseconds when it took the last one.
    pub(crate) linked_at_us: u64,
    /// Tasks that came in launches, and a sum over their ids that tells whether they are the right ones.
    pub(crate) launched: u64,
    pub(crate) launched_ids: u64,
    /// Launches of a task that was there already.
    pub(crate) repeated: u64,
    /// Tasks whose TASK_RUNNING was acknowledged and which have not ended.
    pub(crate) running: u64,
    /// Tasks whose end was acknowledged.
    pub(crate) ended: u64,
}

impl Report {
    /// Both together. Agents that an older leader took do not count.
    pub(crate) fn plus(self, other: &Self) -> Self {
        let linked = match self.epoch.cmp(&other.epoch) {
            std::cmp::Ordering::Less => (other.linked, other.linked_at_us),
            std::cmp::Ordering::Equal => {
                (self.linked + other.linked, self.linked_at_us.max(other.linked_at_us))
            }
            std::cmp::Ordering::Greater => (self.linked, self.linked_at_us),
        };
        Self {
            registered: self.registered + other.registered,
            registered_at_us: self.registered_at_us.max(other.registered_at_us),
            epoch: self.epoch.max(other.epoch),
            linked: linked.0,
            linked_at_us: linked.1,
            launched: self.launched + other.launched,
            launched_ids: self.launched_ids.wrapping_add(other.launched_ids),
            repeated: self.repeated + other.repeated,
            running: self.running + other.running,
            ended: self.ended + other.ended,
        }
    }

    pub(crate) fn line(&self) -> String {
        json!([
            self.registered,
            self.registered_at_us,
            self.epoch,
            self.linked,
            self.linked_at_us,
            self.launched,
            self.launched_ids,
            self.repeated,
            self.running,
            self.ended
        ])
        .to_string()
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |at: usize| value.get(at)?.as_u64();
        let size = |at: usize| usize::try_from(number(at)?).ok();
        Some(Self {
            registered: size(0)?,
            registered_at_us: number(1)?,
            epoch: number(2)?,
            linked: size(3)?,
            linked_at_us: number(4)?,
            launched: number(5)?,
            launched_ids: number(6)?,
            repeated: number(7)?,
            running: number(8)?,
            ended: number(9)?,
        })
    }
}

/// What a task adds to the sum over ids (FNV-1a).
pub(crate) fn id_sum(id: &str) -> u64 {
    id.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_of_an_older_leader_do_not_count() {
        let old = Report { epoch: 3, linked: 10, ended: 1, ..Report::default() };
        let new = Report { epoch: 5, linked: 2, linked_at_us: 7, ended: 2, ..Report::default() };
        let sum = old.plus(&new);
        assert_eq!((sum.epoch, sum.linked, sum.linked_at_us, sum.ended), (5, 2, 7, 3));
        assert_eq!(sum.plus(&new).linked, 4);
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let report = Report { registered: 5, launched_ids: u64::MAX, ended: 4, ..Report::default() };
        assert_eq!(Report::parse(&report.line()), Some(report));
    }
}
