//! Pure parts of a deployment: which steps it has, how a rolling restart goes on, which instances go first.

pub mod kill_selection;
pub mod plan;
pub mod upgrade;
