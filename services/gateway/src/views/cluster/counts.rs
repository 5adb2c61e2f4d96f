//! How many tasks there are of each state: in all, by framework and agent, by agent and framework.

use meshos_proto::mesos::v1::TaskState;

use super::Map;

/// States have the numbers 0 to 13.
const STATES: usize = 14;

/// How many tasks there are of each state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    of: [u32; STATES],
    all: u32,
}

impl Counts {
    /// Tasks of one state.
    pub(crate) fn get(&self, state: TaskState) -> u32 {
        slot(state as i32).map_or(0, |slot| self.of[slot])
    }

    /// A state that nobody knows counts among all tasks only.
    fn step(&mut self, state: i32, more: bool) {
        let step = |count: u32| if more { count.saturating_add(1) } else { count.saturating_sub(1) };
        self.all = step(self.all);
        if let Some(slot) = slot(state) {
            self.of[slot] = step(self.of[slot]);
        }
    }
}

fn slot(state: i32) -> Option<usize> {
    usize::try_from(state).ok().filter(|slot| *slot < STATES)
}

/// Counts under two keys; what is empty is forgotten.
pub(crate) type Groups = Map<Map<Counts>>;

/// All counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    pub(super) whole: Counts,
    /// By framework id.
    pub(super) of_framework: Map<Counts>,
    /// By framework id, then agent id.
    pub(super) by_framework: Groups,
    /// The same, by agent id, then framework id.
    pub(super) by_agent: Groups,
}

impl Counted {
    /// Counts one task more, or less.
    pub(super) fn step(&mut self, framework: &str, agent: &str, state: i32, more: bool) {
        self.whole.step(state, more);
        self.step_framework(framework, state, more);
        step(&mut self.by_framework, (framework, agent), state, more);
        step(&mut self.by_agent, (agent, framework), state, more);
    }

    fn step_framework(&mut self, framework: &str, state: i32, more: bool) {
        if let Some(counts) = self.of_framework.get_mut(framework) {
            counts.step(state, more);
            if counts.all == 0 {
                self.of_framework.remove(framework);
            }
        } else if more {
            self.of_framework.entry_mut(framework).step(state, more);
        }
    }
}

fn step(groups: &mut Groups, (outer, inner): (&str, &str), state: i32, more: bool) {
    // Mostly both are there, and no key needs to be made.
    if let Some(counts) = groups.get_mut(outer).and_then(|group| group.get_mut(inner)) {
        counts.step(state, more);
        if counts.all == 0 {
            forget(groups, outer, inner);
        }
    } else if more {
        groups.entry_mut(outer).entry_mut(inner).step(state, more);
    }
}

fn forget(groups: &mut Groups, outer: &str, inner: &str) {
    let Some(group) = groups.get_mut(outer) else { return };
    group.remove(inner);
    if group.is_empty() {
        groups.remove(outer);
    }
}
