//! When to probe a task, and what follows.

use std::{collections::BTreeMap, time::Duration};

use meshos_proto::mesos::v1::{
    self as pb, TaskState,
    check_info::Type as CheckType,
    health_check::Type as HealthType,
    network_info::Protocol,
    task_status::{Reason, Source},
};

use super::{
    Core, Effect, Now, Phase, TaskKey, Timer,
    checks::{Verdict, Which, cause, is_success, seconds},
    environment,
    kill::grace,
    launch::command_line,
    status::News,
    task::Task,
};
use crate::containerizer::{ContainerSpec, Probe, ProbeKind, ProbeOutcome};

/// After a restart of the agent all tasks are due at once: they spread over at most this time.
const SPREAD: Duration = Duration::from_secs(10);

/// Nothing is checked more often than this.
const SHORTEST: Duration = Duration::from_millis(10);

/// When a check is made.
#[derive(Clone, Copy, Debug)]
struct Times {
    delay: Duration,
    interval: Duration,
    /// None: for ever.
    timeout: Option<Duration>,
}

fn times(info: &pb::TaskInfo, which: Which) -> Option<Times> {
    let (delay, interval, timeout) = match which {
        Which::Health => {
            let check = info.health_check.as_ref()?;
            (check.delay_seconds(), check.interval_seconds(), check.timeout_seconds())
        }
        Which::Check => {
            let check = info.check.as_ref()?;
            (check.delay_seconds(), check.interval_seconds(), check.timeout_seconds())
        }
    };
    let timeout = Some(seconds(timeout)).filter(|timeout| !timeout.is_zero());
    Some(Times { delay: seconds(delay), interval: seconds(interval), timeout })
}

impl Core {
    /// A task runs: its checks begin.
    pub(super) fn begin_checks(&mut self, key: &TaskKey, now: Now) {
        let Some(task) = self.task_mut(key) else { return };
        task.checks.begin(now.elapsed);
        for which in [Which::Health, Which::Check] {
            if let Some(times) = self.task(key).and_then(|task| times(&task.info, which)) {
                self.set_timer(now.elapsed + times.delay, Timer::Probe(which), key);
            }
        }
    }

    /// A task runs on after a restart of the agent.
    pub(super) fn resume_checks(&mut self, key: &TaskKey, now: Now) {
        let Some(task) = self.task_mut(key).filter(|task| is_checked(task)) else { return };
        let statuses = std::mem::take(&mut task.statuses);
        task.checks.restore(&statuses);
        task.statuses = statuses;
        task.checks.begin(now.elapsed);
        for which in [Which::Health, Which::Check] {
            if let Some(times) = self.task(key).and_then(|task| times(&task.info, which)) {
                let most = times.interval.min(SPREAD).as_millis();
                let spread = self.rng.below(u64::try_from(most).unwrap_or(u64::MAX).max(1));
                self.set_timer(now.elapsed + Duration::from_millis(spread), Timer::Probe(which), key);
            }
        }
    }

    /// A probe is due.
    pub(super) fn probe(&mut self, key: &TaskKey, which: Which, now: Now) {
        let Some(task) = self.task(key).filter(|task| is_checked(task)) else { return };
        let Some(times) = times(&task.info, which) else { return };
        match self.probe_kind(key, task, which) {
            Ok(kind) => {
                let container_id = task.container_id.clone();
                let probe = Probe { container_id, kind, timeout: times.timeout };
                self.effects.push(Effect::Probe { which, probe: Box::new(probe) });
            }
            Err(reason) => {
                let container_id = task.container_id.clone();
                self.probed(&container_id, which, &ProbeOutcome::Failed(reason), now);
            }
        }
    }

    fn probe_kind(&self, key: &TaskKey, task: &Task, which: Which) -> Result<ProbeKind, String> {
        let port = |port: u32| u16::try_from(port).map_err(|_| format!("{port} is no port"));
        if which == Which::Check {
            let check = task.info.check.as_ref().ok_or("there is no check")?;
            return match check.r#type() {
                CheckType::Command => {
                    let command = check.command.as_ref().ok_or("the check has no command")?;
                    self.command_probe(key, task, &command.command)
                }
                CheckType::Http => {
                    let http = check.http.as_ref().ok_or("the check has no http")?;
                    let path = http.path.clone().unwrap_or_default();
                    Ok(ProbeKind::Http { tls: false, v6: false, port: port(http.port)?, path })
                }
                CheckType::Tcp => {
                    let tcp = check.tcp.as_ref().ok_or("the check has no tcp")?;
                    Ok(ProbeKind::Tcp { v6: false, port: port(tcp.port)? })
                }
                CheckType::Unknown => Err("the check has no type that is known".to_owned()),
            };
        }
        let check = task.info.health_check.as_ref().ok_or("there is no health check")?;
        match health_type(check) {
            HealthType::Command => self.command_probe(
                key,
                task,
                check.command.as_ref().ok_or("the health check has no command")?,
            ),
            HealthType::Http => {
                let http = check.http.as_ref().ok_or("the health check has no http")?;
                Ok(ProbeKind::Http {
                    tls: http.scheme.as_deref() == Some("https"),
                    v6: http.protocol() == Protocol::IPv6,
                    port: port(http.port)?,
                    path: http.path.clone().unwrap_or_default(),
                })
            }
            HealthType::Tcp => {
                let tcp = check.tcp.as_ref().ok_or("the health check has no tcp")?;
                Ok(ProbeKind::Tcp { v6: tcp.protocol() == Protocol::IPv6, port: port(tcp.port)? })
            }
            HealthType::Unknown => Err("the health check has no type that is known".to_owned()),
        }
    }

    fn command_probe(
        &self,
        key: &TaskKey,
        task: &Task,
        command: &pb::CommandInfo,
    ) -> Result<ProbeKind, String> {
        let framework = self.frameworks.get(&key.framework_id).ok_or("its framework is not known")?;
        let (program, argument_zero, arguments) = command_line(command)?;
        let runtime = self.runtime_of(&key.framework_id, task);
        // What runs in a container has that one's variables.
        let variables = match runtime {
            None => environment::of_task(&self.settings, &framework.info, task)?,
            Some(_) => BTreeMap::new(),
        };
        let own = task.info.command.as_ref().and_then(|command| command.user.clone());
        let user = command.user.clone().or(own).unwrap_or_else(|| framework.info.user.clone());
        Ok(ProbeKind::Command(Box::new(ContainerSpec {
            container_id: format!("{}.{}", task.container_id, self.rng.uuid()),
            program,
            argument_zero,
            arguments,
            environment: environment::with_own(variables, Some(command))?,
            inside: runtime.map(|_| task.container_id.clone()),
            sandbox: task.directory.clone(),
            user: Some(user),
            ..ContainerSpec::default()
        })))
    }

    /// A probe was made.
    pub(super) fn probed(&mut self, container_id: &str, which: Which, outcome: &ProbeOutcome, now: Now) {
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        let Some(task) = self.task_mut(&key).filter(|task| is_checked(task)) else { return };
        let Some(times) = times(&task.info, which) else { return };
        let mut kill = false;
        match which {
            Which::Health => {
                let success = is_success(outcome);
                let health = task.checks.health.as_mut();
                match health.map_or(Verdict::Nothing, |health| health.observe(success, now.elapsed)) {
                    Verdict::Nothing => {}
                    Verdict::Healthy => self.tell_health(&key, None, now),
                    Verdict::Unhealthy { kill: too_often } => {
                        kill = too_often;
                        self.tell_health(&key, Some(cause(outcome)), now);
                    }
                }
            }
            Which::Check => {
                if task.checks.observe(outcome) {
                    self.report(&key, running(Reason::TaskCheckStatusUpdated, None), now);
                }
            }
        }
        if kill {
            return self.kill_unhealthy(&key, now);
        }
        self.set_timer(now.elapsed + times.interval.max(SHORTEST), Timer::Probe(which), &key);
    }

    fn tell_health(&mut self, key: &TaskKey, message: Option<String>, now: Now) {
        self.report(key, running(Reason::TaskHealthCheckStatusUpdated, message), now);
    }

    fn kill_unhealthy(&mut self, key: &TaskKey, now: Now) {
        let Some(task) = self.task_mut(key) else { return };
        task.checks.killed = true;
        let Some(task) = self.task(key) else { return };
        let own = task.info.kill_policy.as_ref().and_then(grace);
        let grace = own.unwrap_or_else(|| self.default_grace(task));
        self.end(key, grace, now);
    }
}

/// Frameworks older than the field leave it out: what is given says what is meant.
fn health_type(check: &pb::HealthCheck) -> HealthType {
    match (check.r#type(), &check.command, &check.http) {
        (HealthType::Unknown, Some(_), _) => HealthType::Command,
        (HealthType::Unknown, None, Some(_)) => HealthType::Http,
        (given, ..) => given,
    }
}

fn is_checked(task: &Task) -> bool {
    task.phase == Phase::Running && task.kill.is_none() && task.home.has_container()
}

fn running(reason: Reason, message: Option<String>) -> News {
    News { source: Source::Executor, reason: Some(reason), message, ..News::executor(TaskState::TaskRunning) }
}
