//! Chance, where it decides who is served next (Mesos `--role_sorter=random`).

use std::cell::Cell;

/// A source of pauses between turns; the same for the same history.
#[derive(Clone, Debug)]
pub(crate) struct Luck(Cell<u64>);

impl Luck {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Cell::new(seed | 1))
    }

    /// The time until the next turn of a client: exponentially distributed, in the mean 1 through its weight.
    pub(super) fn pause(&self, weight: f64) -> f64 {
        // xorshift64*: good enough to be fair.
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let uniform = (bits as f64 + 1.0) / (1_u64 << 53) as f64;
        -uniform.ln() / weight
    }
}
