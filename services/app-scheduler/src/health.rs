//! What the results of one health check mean (Marathon's rules). Pure.

use meshos_proto::meshos::apps::v1::{HealthCheck, HealthProtocol, HealthResult};

/// Whether the agent makes the check.
#[must_use]
pub fn is_agent_run(check: &HealthCheck) -> bool {
    use HealthProtocol::{Command, MesosHttp, MesosHttps, MesosTcp};
    matches!(check.protocol(), Command | MesosHttp | MesosHttps | MesosTcp)
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Alive,
    Failed(String),
    /// Says nothing either way.
    Ignored,
}

/// What is known of one check of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckState {
    known: bool,
    alive: bool,
    consecutive_failures: u32,
    first_success_ms: u64,
    last_success_ms: u64,
    last_failure_ms: u64,
    last_failure_cause: String,
}

/// What follows from a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The state changed in a way that is shown.
    pub changed: bool,
    /// Alive or not, where that is other than before.
    pub flipped: Option<bool>,
    pub failed: bool,
    /// Too many failures in a row.
    pub kill: bool,
}

impl CheckState {
    /// Takes a result in; the task has been running since `started_ms`.
    pub fn take(&mut self, check: &HealthCheck, outcome: &Outcome, started_ms: u64, now_ms: u64) -> Verdict {
        let before = self.alive;
        let mut verdict = Verdict { changed: true, ..Verdict::default() };
        match outcome {
            Outcome::Ignored => return Verdict::default(),
            Outcome::Alive => {
                self.alive = true;
                self.consecutive_failures = 0;
                self.last_success_ms = now_ms;
                if self.first_success_ms == 0 {
                    self.first_success_ms = now_ms;
                }
            }
            Outcome::Failed(cause) => {
                let grace_ends = started_ms.saturating_add(check.grace_period_s.saturating_mul(1000));
                if self.first_success_ms == 0 && now_ms < grace_ends {
                    return Verdict::default();
                }
                let most = check.max_consecutive_failures;
                // Counted before this failure: the kill comes with failure number `most` + 1.
                verdict.kill = most > 0 && self.consecutive_failures >= most;
                verdict.failed = true;
                self.alive = false;
                self.consecutive_failures = self.consecutive_failures.saturating_add(1);
                self.last_failure_ms = now_ms;
                self.last_failure_cause.clone_from(cause);
            }
        }
        self.known = true;
        verdict.flipped = (before != self.alive).then_some(self.alive);
        verdict
    }

    /// As it is shown; none before the first result that counts.
    #[must_use]
    pub fn result(&self) -> Option<HealthResult> {
        self.known.then(|| HealthResult {
            alive: self.alive,
            consecutive_failures: self.consecutive_failures,
            first_success_ms: self.first_success_ms,
            last_success_ms: self.last_success_ms,
            last_failure_ms: self.last_failure_ms,
            last_failure_cause: self.last_failure_cause.clone(),
        })
    }
}

/// True: all alive. False: all known and one is not alive. None: something is not known.
#[must_use]
pub fn aggregate(checks: &[CheckState]) -> Option<bool> {
    let all = checks.iter().all(|check| check.known);
    all.then(|| checks.iter().all(|check| check.alive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(most: u32) -> HealthCheck {
        HealthCheck { grace_period_s: 300, max_consecutive_failures: most, ..Default::default() }
    }

    fn bad() -> Outcome {
        Outcome::Failed("503".into())
    }

    #[test]
    fn marathon_c79_the_fourth_failure_in_a_row_kills() {
        let (mut state, check) = (CheckState::default(), check(3));
        assert_eq!(state.take(&check, &Outcome::Alive, 0, 1).flipped, Some(true));
        let kills: Vec<bool> = (2..6).map(|now| state.take(&check, &bad(), 0, now).kill).collect();
        assert_eq!(kills, [false, false, false, true]);
        state.take(&check, &Outcome::Alive, 0, 9);
        assert!(!state.take(&check, &bad(), 0, 10).kill, "a success begins anew");
    }

    #[test]
    fn marathon_c80_failures_within_the_grace_period_do_not_count() {
        let (mut state, check) = (CheckState::default(), check(1));
        for now in [1, 299_999] {
            assert_eq!(state.take(&check, &bad(), 0, now), Verdict::default());
        }
        assert_eq!((state.result(), aggregate(&[state.clone()])), (None, None));
        assert!(state.take(&check, &bad(), 0, 300_000).failed);
        assert_eq!(aggregate(&[state]), Some(false));
    }

    #[test]
    fn marathon_c81_without_a_limit_nothing_is_killed() {
        let (mut state, check) = (CheckState::default(), check(0));
        state.take(&check, &Outcome::Alive, 0, 1);
        assert!((2..100).all(|now| !state.take(&check, &bad(), 0, now).kill));
    }

    #[test]
    fn all_must_be_known_and_alive() {
        let (mut one, other) = (CheckState::default(), CheckState::default());
        one.take(&check(3), &Outcome::Alive, 0, 1);
        assert_eq!(aggregate(&[one.clone(), other]), None);
        assert_eq!(aggregate(&[one.clone(), one.clone()]), Some(true));
        assert_eq!(one.take(&check(3), &Outcome::Ignored, 0, 2), Verdict::default());
    }
}
