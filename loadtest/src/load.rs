//! Scenarios on a large cluster.

pub(crate) mod cluster;
pub(crate) mod failover;
pub(crate) mod reads;
pub(crate) mod reconcile;

use std::{future::Future, time::Duration};

use anyhow::ensure;
use tokio::time::Instant;

use crate::{
    arguments::Arguments,
    cluster::{Cluster, Sample},
    fleet::Fleets,
    framework::{Account, Frameworks},
    show, statistics,
};

/// Runs a scenario to its end.
pub(crate) fn blocking(scenario: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(scenario)
}

/// A cluster with its agents and frameworks.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) fleets: Fleets,
    pub(crate) frameworks: Frameworks,
    pub(crate) arguments: Arguments,
    /// Tasks that frameworks have been told to launch.
    expected: u64,
}

impl Scene {
    /// As [`Scene::start`] with frameworks of about the same needs.
    pub(crate) async fn fair(arguments: &Arguments) -> anyhow::Result<Self> {
        // With more, some could keep so much that nothing is left for others.
        Self::start(arguments, arguments.agents.div_ceil(arguments.frameworks.max(1)).max(1)).await
    }

    /// Starts everything; no framework keeps more than `hoard` offers. The time in which all agents registered is shown.
    pub(crate) async fn start(arguments: &Arguments, hoard: usize) -> anyhow::Result<Self> {
        let cluster = Cluster::start(&arguments.binary, arguments.keep.as_deref()).await?;
        // First, so that agents are offered to all of them.
        let frameworks = Frameworks::start(&cluster, arguments, hoard).await?;
        let mut fleets = Fleets::start(arguments, &cluster.registry)?;
        let before = cluster.usage().with(fleets.usage());
        let began_us = u64::try_from(cluster.env.clock.since_epoch().as_micros())?;
        fleets.go()?;
        let linked_us = fleets.linked_after(0).await?;
        let report = fleets.report();
        let seconds = |at_us: u64| Duration::from_micros(at_us.saturating_sub(began_us)).as_secs_f64();
        show(&format!(
            "| {} agents registered; offered (link taken) | {:.2} s; {:.2} s |",
            arguments.agents,
            seconds(report.registered_at_us),
            seconds(linked_us)
        ));
        let after = cluster.usage().with(fleets.usage());
        show(&format!("| … CPU and memory | {} |", after.since(&before)));
        let each = |name: &str| after.grown_since(&before, name) / arguments.agents.max(1) as u64;
        show(&format!(
            "| S6 … memory per agent, with an offer of it each | allocator {} B, registry {} B, gateway {} B |",
            each("allocator"),
            each("registry"),
            each("gateway")
        ));
        cluster.until_metric("master/slaves_active", arguments.agents as u64).await?;
        Ok(Self { cluster, fleets, frameworks, arguments: arguments.clone(), expected: 0 })
    }

    pub(crate) fn usage(&self) -> Sample {
        let me = Sample::of(std::iter::once(("frameworks", std::process::id())));
        self.cluster.usage().with(self.fleets.usage()).with(me)
    }

    /// Launches as fast as it goes, and shows how fast that was.
    pub(crate) async fn flood(&mut self, tasks: u64, each: usize) -> anyhow::Result<()> {
        let count = self.frameworks.len() as u64;
        let tasks = (tasks / count).max(1) * count;
        self.frameworks.wake().await?;
        let before = self.usage();
        let took = self.frameworks.launch(tasks, each, self.arguments.window.max(each)).await?;
        self.expected += tasks;
        let after = self.usage();
        #[allow(clippy::cast_precision_loss)]
        let (rate, number) = (tasks as f64 / took.as_secs_f64(), tasks as f64);
        let mut account = self.frameworks.account().await?;
        show(&format!("| {tasks} launches, {each} in an ACCEPT | {rate:.0} per second |"));
        show(&statistics::row("… submit to RUNNING under that load", &mut account.latencies));
        let micros = |name: &str| after.cpu_since(&before, name) * 1e6 / number;
        show(&format!(
            "| … CPU per launch | allocator {:.0} µs, gateway {:.0} µs, agents {:.0} µs, frameworks {:.0} µs |",
            micros("allocator"),
            micros("gateway"),
            micros("fleet"),
            micros("frameworks")
        ));
        self.audit(&account).await
    }

    /// Launches at a steady rate, and shows how long each took.
    pub(crate) async fn steady(&mut self, name: &str, rate: u64, seconds: u64) -> anyhow::Result<()> {
        let count = self.frameworks.len() as u64;
        self.frameworks.wake().await?;
        let before = self.usage();
        self.frameworks.paced(0..self.frameworks.len(), rate, seconds).await?;
        self.expected += (rate * seconds / count).max(1) * count;
        let mut account = self.frameworks.account().await?;
        show(&statistics::row(name, &mut account.latencies));
        show(&format!("| … CPU and memory | {} |", self.usage().since(&before)));
        self.audit(&account).await
    }

    /// Nobody does anything for a while.
    pub(crate) async fn idle(&self, name: &str) -> anyhow::Result<()> {
        let (before, from) = (self.usage(), Instant::now());
        tokio::time::sleep(Duration::from_secs(self.arguments.seconds)).await;
        let seconds = from.elapsed().as_secs_f64();
        show(&format!("| {name}, {seconds:.0} s: CPU and memory | {} |", self.usage().since(&before)));
        Ok(())
    }

    /// Every task is accounted for exactly once, by frameworks, agents and the leader.
    pub(crate) async fn audit(&self, account: &Account) -> anyhow::Result<()> {
        let settled = |report: &crate::fleet::Report| report.running + report.ended == account.ran;
        let report = self.fleets.until("not all acknowledgements have come", settled).await?;
        ensure!(account.submitted == self.expected, "{} submitted of {}", account.submitted, self.expected);
        ensure!(account.ran + account.dropped == account.submitted, "unaccounted tasks: {account:?}");
        ensure!(account.lost == 0, "{} tasks were lost", account.lost);
        ensure!(report.launched == account.ran, "{} launched, {} ran", report.launched, account.ran);
        ensure!(report.launched_ids == account.ran_ids, "other tasks ran than were launched");
        ensure!(report.repeated == 0, "{} tasks were launched twice", report.repeated);
        let running = account.ran - account.finished;
        self.cluster.until_metric("master/tasks_running", running).await?;
        show(&format!(
            "| … audit | exact: {} submitted, {} ran, {} refused, {running} run by the leader's count; \
             {} updates came twice, {} calls failed |",
            account.submitted, account.ran, account.dropped, account.repeated, account.failed_calls
        ));
        Ok(())
    }

    /// All tasks end; the frameworks know.
    pub(crate) async fn finish_tasks(&mut self) -> anyhow::Result<()> {
        self.fleets.finish_tasks()?;
        self.fleets.until("not all tasks have ended", |report| report.running == 0).await?;
        self.cluster.until_metric("master/tasks_running", 0).await?;
        Ok(())
    }

    pub(crate) fn expect_more(&mut self, tasks: u64) {
        self.expected += tasks;
    }
}
