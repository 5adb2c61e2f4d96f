//! Plain counters under Mesos's metric names (9.1). Counting is an addition in an array or to a name that stands in
//! the program; names are put together when somebody asks.

mod cluster;
mod figures;
mod names;
mod show;

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::{
    self as pb, OperationState, TaskState,
    offer::operation,
    scheduler::{call, event},
};
use meshos_types::{FrameworkId, task_state::is_terminal};

pub(crate) use figures::Figures;

use super::Core;

/// One more than the highest number of each kind.
const STATES: usize = 14;
const CALLS: usize = 18;
const EVENTS: usize = 12;
const OPERATIONS: usize = 15;
const OPERATION_STATES: usize = 10;

/// Counts by the number of an enum's value.
#[derive(Clone, Debug)]
pub(crate) struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Counts<N> {
    fn slot(&mut self, number: impl Into<i32>) -> Option<&mut u64> {
        self.0.get_mut(usize::try_from(number.into()).ok()?)
    }

    pub(crate) fn up(&mut self, number: impl Into<i32>) {
        if let Some(count) = self.slot(number) {
            *count += 1;
        }
    }

    fn down(&mut self, number: impl Into<i32>) {
        if let Some(count) = self.slot(number) {
            *count = count.saturating_sub(1);
        }
    }

    pub(crate) fn get(&self, number: impl Into<i32>) -> u64 {
        let slot = usize::try_from(number.into()).ok().and_then(|number| self.0.get(number));
        slot.copied().unwrap_or_default()
    }

    /// Number and count of each.
    fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        (0..).zip(self.0.iter().copied())
    }

    fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Tasks in a state, and everything that is only counted up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    named: BTreeMap<&'static str, u64>,
    live: Counts<STATES>,
    ended: Counts<STATES>,
    /// By state, source and reason.
    causes: BTreeMap<(i32, i32, i32), u64>,
    calls: Counts<CALLS>,
    operations: Counts<OPERATIONS>,
    /// How operations ended, by kind.
    operation_ends: BTreeMap<i32, Counts<OPERATION_STATES>>,
}

impl Counters {
    pub(crate) fn add(&mut self, name: &'static str, count: u64) {
        *self.named.entry(name).or_default() += count;
    }

    /// A task is live from now on, or in another state.
    pub(crate) fn task_entered(&mut self, figures: &mut Figures, state: TaskState) {
        self.live.up(state);
        figures.active.up(state);
    }

    /// A task is no longer live, or no longer in this state.
    pub(crate) fn task_left(&mut self, figures: &mut Figures, state: TaskState) {
        self.live.down(state);
        figures.active.down(state);
    }

    /// A status seen for the first time: how tasks ended, and why.
    fn status(&mut self, status: &pb::TaskStatus) {
        if is_terminal(status.state()) {
            self.ended.up(status.state);
        }
        if let (Some(source), Some(reason)) = (status.source, status.reason) {
            *self.causes.entry((status.state, source, reason)).or_default() += 1;
        }
    }

    /// An operation is asked for.
    pub(crate) fn operation(&mut self, kind: operation::Type) {
        self.operations.up(kind);
    }

    /// An operation has ended.
    pub(crate) fn operation_state(&mut self, kind: operation::Type, state: OperationState) {
        self.operation_ends.entry(kind.into()).or_default().up(state);
    }
}

impl Core {
    /// A status of a task of this framework, seen for the first time.
    pub(super) fn count_status(&mut self, framework: &FrameworkId, status: &pb::TaskStatus) {
        self.counters.status(status);
        if is_terminal(status.state()) {
            self.figures(framework, |figures| figures.terminal.up(status.state));
        }
    }

    pub(super) fn count_call(&mut self, framework: &FrameworkId, kind: call::Type) {
        self.counters.calls.up(kind);
        self.figures(framework, |figures| figures.calls.up(kind));
    }

    pub(super) fn count_event(&mut self, framework: &FrameworkId, kind: event::Type) {
        self.figures(framework, |figures| figures.events.up(kind));
    }

    pub(super) fn count_operation(&mut self, framework: &FrameworkId, kind: operation::Type) {
        self.counters.operation(kind);
        self.figures(framework, |figures| figures.operations.up(kind));
    }

    fn figures(&mut self, framework: &FrameworkId, count: impl FnOnce(&mut Figures)) {
        if let Some(framework) = self.frameworks.get_mut(framework) {
            count(&mut framework.figures);
        }
    }
}
