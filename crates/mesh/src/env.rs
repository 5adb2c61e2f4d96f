//! Everything a service takes from its surroundings.

use crate::{Clock, Metrics, Rng, SharedTransport, Tasks, transport};

/// Handed to every service; cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    pub clock: Clock,
    pub rng: Rng,
    pub transport: SharedTransport,
    pub tasks: Tasks,
    pub metrics: Metrics,
}

impl Env {
    /// The real machine: system clock and randomness, and this transport.
    #[must_use]
    pub fn real(transport: SharedTransport) -> Self {
        Self {
            clock: Clock::system(),
            rng: Rng::system(),
            transport,
            tasks: Tasks::new(),
            metrics: Metrics::new(),
        }
    }

    /// The real machine with services that find each other in this process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::real(transport::memory())
    }

    /// The same surroundings with an own set of tasks, which can be stopped alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { tasks: self.tasks.child(), ..self.clone() }
    }
}
