//! What results of probes mean (Mesos 4.6): whether a task is healthy, whether it must end, what to tell the framework.

use std::time::Duration;

use meshos_proto::mesos::v1::{
    self as pb, CheckStatusInfo, TaskState, check_info::Type as CheckType, check_status_info,
};

use crate::containerizer::ProbeOutcome;

/// The two kinds of checks that a task may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Decides whether the task may live.
    Health,
    /// Only told.
    Check,
}

/// What a result of a health check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing that was not known.
    Nothing,
    Healthy,
    Unhealthy {
        /// Once too often.
        kill: bool,
    },
}

/// The health of one task.
#[derive(Debug)]
pub(super) struct Health {
    grace: Duration,
    /// So many failures in a row end the task.
    most_failures: u32,
    /// When the checks began; the grace period counts from there.
    since: Duration,
    /// No success yet.
    initializing: bool,
    failures: u32,
    /// As it was told last.
    reported: Option<bool>,
}

impl Health {
    fn new(check: &pb::HealthCheck) -> Self {
        Self {
            grace: seconds(check.grace_period_seconds()),
            most_failures: check.consecutive_failures(),
            since: Duration::ZERO,
            initializing: true,
            failures: 0,
            reported: None,
        }
    }

    /// Takes a result in.
    pub(super) fn observe(&mut self, success: bool, now: Duration) -> Verdict {
        if success {
            let news = self.initializing || self.failures > 0;
            self.initializing = false;
            self.failures = 0;
            if !news {
                return Verdict::Nothing;
            }
            self.reported = Some(true);
            return Verdict::Healthy;
        }
        let grace =
            self.initializing && !self.grace.is_zero() && now.saturating_sub(self.since) <= self.grace;
        if grace {
            return Verdict::Nothing;
        }
        self.failures += 1;
        self.reported = Some(false);
        Verdict::Unhealthy { kill: self.failures >= self.most_failures }
    }
}

/// The checks of one task, and what is known from them.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) health: Option<Health>,
    /// Of the check; without a value as long as there is none.
    pub(super) status: Option<CheckStatusInfo>,
    /// Failing health checks ended the task.
    pub(super) killed: bool,
}

impl Checks {
    pub(super) fn new(info: &pb::TaskInfo) -> Self {
        Self {
            health: info.health_check.as_ref().map(Health::new),
            status: info.check.as_ref().map(|check| empty(check.r#type())),
            killed: false,
        }
    }

    /// The checks begin now.
    pub(super) fn begin(&mut self, now: Duration) {
        if let Some(health) = &mut self.health {
            health.since = now;
        }
    }

    /// What was told before the agent's restart holds on.
    pub(super) fn restore(&mut self, statuses: &[pb::TaskStatus]) {
        let Some(last) = statuses.iter().rfind(|status| status.state() == TaskState::TaskRunning) else {
            return;
        };
        if let (Some(health), Some(healthy)) = (&mut self.health, last.healthy) {
            health.reported = Some(healthy);
            health.initializing = false;
            // So that a recovery is told.
            health.failures = u32::from(!healthy);
        }
        if let (Some(status), Some(known)) = (&mut self.status, &last.check_status) {
            status.clone_from(known);
        }
    }

    /// What a status of this state says of health and check.
    pub(super) fn told(&self, state: TaskState) -> (Option<bool>, Option<CheckStatusInfo>) {
        if state == TaskState::TaskRunning {
            return (self.health.as_ref().and_then(|health| health.reported), self.status);
        }
        let status = self.status.as_ref().map(|status| empty(status.r#type()));
        (self.killed.then_some(false), status)
    }

    /// Takes a result of the check in; whether it differs from the last one.
    pub(super) fn observe(&mut self, outcome: &ProbeOutcome) -> bool {
        let Some(status) = &mut self.status else { return false };
        let mut new = empty(status.r#type());
        match outcome {
            ProbeOutcome::Exited(code) => {
                new.command = Some(check_status_info::Command { exit_code: Some(*code) })
            }
            ProbeOutcome::Status(code) => {
                new.http = Some(check_status_info::Http { status_code: Some(u32::from(*code)) });
            }
            ProbeOutcome::Connected(succeeded) => {
                new.tcp = Some(check_status_info::Tcp { succeeded: Some(*succeeded) });
            }
            ProbeOutcome::Failed(_) => {}
        }
        let differs = *status != new;
        *status = new;
        differs
    }
}

/// Whether a probe's outcome is a success of a health check.
pub(super) fn is_success(outcome: &ProbeOutcome) -> bool {
    match outcome {
        ProbeOutcome::Exited(code) => *code == 0,
        ProbeOutcome::Status(code) => (200..400).contains(code),
        ProbeOutcome::Connected(succeeded) => *succeeded,
        ProbeOutcome::Failed(_) => false,
    }
}

/// Why a health check failed.
pub(super) fn cause(outcome: &ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Exited(code) => format!("Health check failed: the command exited with status {code}"),
        ProbeOutcome::Status(code) => format!("Health check failed: HTTP status {code}"),
        ProbeOutcome::Connected(_) => "Health check failed: no connection".to_owned(),
        ProbeOutcome::Failed(reason) => format!("Health check failed: {reason}"),
    }
}

/// A check of this kind without a result.
fn empty(kind: CheckType) -> CheckStatusInfo {
    let mut status = CheckStatusInfo { r#type: Some(kind as i32), ..CheckStatusInfo::default() };
    match kind {
        CheckType::Command => status.command = Some(check_status_info::Command::default()),
        CheckType::Http => status.http = Some(check_status_info::Http::default()),
        CheckType::Tcp => status.tcp = Some(check_status_info::Tcp::default()),
        CheckType::Unknown => {}
    }
    status
}

/// Longer than any agent lives; what is beyond would overflow its clock.
const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;

/// Seconds as the checks give them; anything senseless is none.
pub(super) fn seconds(seconds: f64) -> Duration {
    // Not `min`, which would make a time of what is no number.
    let seconds = if seconds > LONGEST { LONGEST } else { seconds };
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn health(grace: f64, failures: u32) -> Health {
        Health::new(&pb::HealthCheck {
            grace_period_seconds: Some(grace),
            consecutive_failures: Some(failures),
            ..pb::HealthCheck::default()
        })
    }

    /// The same, slowly: from all results so far.
    fn model(grace: u64, most: u32, results: &[(u64, bool)]) -> Verdict {
        let counts = |index: usize| {
            let (at, success) = results[index];
            let seen_success = results[..index].iter().any(|(_, success)| *success);
            success || seen_success || grace == 0 || at > grace
        };
        let counted: Vec<bool> = (0..results.len()).filter(|i| counts(*i)).map(|i| results[i].1).collect();
        if results.is_empty() || !counts(results.len() - 1) {
            return Verdict::Nothing;
        }
        let (last, before) = counted.split_last().unwrap();
        if *last {
            let first = !before.contains(&true);
            let recovered = before.last() == Some(&false);
            return if first || recovered { Verdict::Healthy } else { Verdict::Nothing };
        }
        let row = counted.iter().rev().take_while(|success| !**success).count();
        Verdict::Unhealthy { kill: row >= most as usize }
    }

    proptest! {
        #[test]
        fn health_follows_the_model(
            grace in 0_u64..40,
            most in 1_u32..5,
            results in prop::collection::vec((1_u64..10, any::<bool>()), 1..30),
        ) {
            #[allow(clippy::cast_precision_loss, reason = "small")]
            let mut health = health(grace as f64, most);
            let mut at = 0;
            let mut seen = Vec::new();
            for (pause, success) in results {
                at += pause;
                seen.push((at, success));
                let verdict = health.observe(success, Duration::from_secs(at));
                prop_assert_eq!(verdict, model(grace, most, &seen));
            }
        }
    }

    #[test]
    fn outcomes() {
        assert!(is_success(&ProbeOutcome::Status(302)) && !is_success(&ProbeOutcome::Status(404)));
        assert!(is_success(&ProbeOutcome::Exited(0)) && !is_success(&ProbeOutcome::Exited(1)));
        assert!(!is_success(&ProbeOutcome::Failed(String::new())));
        assert_eq!(
            (seconds(-1.0), seconds(f64::NAN), seconds(0.5)),
            (Duration::ZERO, Duration::ZERO, Duration::from_millis(500))
        );
        assert!(seconds(1e19) < Duration::from_secs(1 << 30) && seconds(f64::INFINITY) > Duration::ZERO);
    }

    #[test]
    fn a_check_tells_only_what_changes() {
        let check = pb::CheckInfo { r#type: Some(CheckType::Http as i32), ..pb::CheckInfo::default() };
        let mut checks = Checks::new(&pb::TaskInfo { check: Some(check), ..pb::TaskInfo::default() });
        let first = checks.told(TaskState::TaskStarting).1.unwrap();
        assert_eq!((first.http.unwrap().status_code, first.tcp), (None, None));
        let outcomes = [
            (ProbeOutcome::Status(200), true),
            (ProbeOutcome::Status(200), false),
            (ProbeOutcome::Failed("no answer".to_owned()), true),
            (ProbeOutcome::Failed("refused".to_owned()), false),
            (ProbeOutcome::Status(500), true),
        ];
        for (outcome, differs) in outcomes {
            assert_eq!(checks.observe(&outcome), differs, "{outcome:?}");
        }
        assert_eq!(checks.told(TaskState::TaskRunning).1.unwrap().http.unwrap().status_code, Some(500));
        assert_eq!(checks.told(TaskState::TaskFinished).1.unwrap().http.unwrap().status_code, None);
    }
}
