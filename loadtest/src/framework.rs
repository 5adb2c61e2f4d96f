//! Simulated frameworks: subscribe, take offers, launch, acknowledge, and keep account of every task.

mod ledger;
mod run;
mod via;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use meshos_mesh::{Env, LeaderInfo, MeshChannel, connect};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

pub(crate) use ledger::Account;

use crate::{arguments::Arguments, cluster::Cluster};
use via::Via;

/// Frameworks that share a connection.
const SHARED: usize = 25;

/// How tasks are launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) tasks: u64,
    /// In one ACCEPT.
    pub(crate) each: usize,
    /// Not running yet, at most.
    pub(crate) window: usize,
    /// Between two ACCEPTs, from the first one at `from`; none: as fast as they go.
    pub(crate) pace: Option<Duration>,
    pub(crate) from: Instant,
    /// With none of the offers that were there at `from`: whoever made them is gone.
    pub(crate) fresh: bool,
}

/// What a framework is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Launch, and answer when all of it has settled.
    Launch(Plan, oneshot::Sender<()>),
    /// Suppress and decline, answered when the calls are; or revive, answered once there are enough offers.
    Want(bool, oneshot::Sender<()>),
    /// Reconcile all tasks; answers with the time until the last answer came.
    Reconcile(oneshot::Sender<Duration>),
    /// What it knows; samples begin anew.
    Account(oneshot::Sender<Account>),
}

/// When something was first possible again after a change of leader.
#[derive(Debug, Default)]
pub(crate) struct Firsts {
    pub(crate) accepted: watch::Sender<Option<Instant>>,
    pub(crate) running: watch::Sender<Option<Instant>>,
}

impl Firsts {
    pub(crate) fn reset(&self) {
        self.accepted.send_replace(None);
        self.running.send_replace(None);
    }

    fn note(first: &watch::Sender<Option<Instant>>) {
        if first.borrow().is_none() {
            first.send_if_modified(|at| at.is_none().then(|| *at = Some(Instant::now())).is_some());
        }
    }
}

/// What all frameworks share.
#[derive(Debug)]
struct Shared {
    firsts: Firsts,
    /// Offers that one keeps; more are declined.
    hoard: usize,
    /// Offers that one begins to launch with.
    enough: usize,
    subscribed: watch::Sender<usize>,
}

/// All frameworks of a test.
#[derive(Debug)]
pub(crate) struct Frameworks {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    shared: Arc<Shared>,
}

impl Frameworks {
    /// Subscribes all; none keeps more than `hoard` offers.
    pub(crate) async fn start(
        cluster: &Cluster,
        arguments: &Arguments,
        hoard: usize,
    ) -> anyhow::Result<Self> {
        let (count, http) = (arguments.frameworks, arguments.http);
        let enough = if hoard == usize::MAX { 1 } else { (hoard / 2).max(1) };
        let shared = Shared { firsts: Firsts::default(), hoard, enough, subscribed: watch::Sender::new(0) };
        let shared = Arc::new(shared);
        let channels = Channels::default();
        let mut orders = Vec::new();
        for number in 0..count {
            let via = if number < http {
                Via::Http { env: cluster.env.clone(), address: cluster.gateway.address.clone() }
            } else {
                let (channels, env) = (channels.clone(), cluster.env.clone());
                Via::Grpc { env, channels, group: number / SHARED, leader: cluster.leader.clone() }
            };
            let (order, received) = mpsc::unbounded_channel();
            orders.push(order);
            let framework = run::Framework::new(number, via, Arc::clone(&shared));
            cluster.env.tasks.spawn("framework", framework.run(received));
        }
        let frameworks = Self { orders, shared };
        frameworks.all_subscribed().await?;
        Ok(frameworks)
    }

    pub(crate) fn firsts(&self) -> &Firsts {
        &self.shared.firsts
    }

    pub(crate) fn len(&self) -> usize {
        self.orders.len()
    }

    /// Waits until each has a stream.
    pub(crate) async fn all_subscribed(&self) -> anyhow::Result<()> {
        let mut subscribed = self.shared.subscribed.subscribe();
        let all = subscribed.wait_for(|subscribed| *subscribed == self.orders.len());
        let patience = Duration::from_secs(120);
        tokio::time::timeout(patience, all).await.context("not all frameworks are subscribed")??;
        Ok(())
    }

    /// Gives the same order to some, and waits for all answers.
    pub(crate) async fn each<T>(
        &self,
        numbers: std::ops::Range<usize>,
        order: impl Fn(oneshot::Sender<T>) -> Order,
    ) -> anyhow::Result<Vec<T>> {
        let mut answers = Vec::new();
        for framework in &self.orders[numbers] {
            let (sender, answer) = oneshot::channel();
            framework.send(order(sender)).map_err(|_| anyhow::anyhow!("a framework has ended"))?;
            answers.push(answer);
        }
        let mut all = Vec::new();
        for answer in answers {
            all.push(answer.await.context("a framework has ended")?);
        }
        Ok(all)
    }

    /// All want offers again, and have them.
    pub(crate) async fn wake(&self) -> anyhow::Result<()> {
        self.wake_some(0..self.len()).await
    }

    /// Some want offers again, and have them.
    pub(crate) async fn wake_some(&self, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let woken = self.each(numbers, |done| Order::Want(true, done));
        tokio::time::timeout(PATIENCE, woken).await.context("not all frameworks get offers")??;
        Ok(())
    }

    /// Launches as fast as it goes; how long it took.
    pub(crate) async fn launch(&self, tasks: u64, each: usize, window: usize) -> anyhow::Result<Duration> {
        self.launch_on(0..self.len(), tasks, each, window).await
    }

    /// One task of each, on an offer that is still to come.
    pub(crate) async fn launch_fresh(&self) -> anyhow::Result<()> {
        let plan = Plan { tasks: 1, each: 1, window: 1, pace: None, from: Instant::now(), fresh: true };
        self.each(0..self.len(), |done| Order::Launch(plan, done)).await?;
        Ok(())
    }

    /// As [`Frameworks::launch`], by some of them.
    pub(crate) async fn launch_on(
        &self,
        numbers: std::ops::Range<usize>,
        tasks: u64,
        each: usize,
        window: usize,
    ) -> anyhow::Result<Duration> {
        let (from, count) = (Instant::now(), numbers.len() as u64);
        let tasks = (tasks / count).max(1);
        let plan = Plan { tasks, each, window, pace: None, from, fresh: false };
        self.each(numbers, |done| Order::Launch(plan, done)).await?;
        Ok(from.elapsed())
    }

    /// Launches `rate` tasks per second, one by one, spread over some frameworks.
    pub(crate) async fn paced(
        &self,
        numbers: std::ops::Range<usize>,
        rate: u64,
        seconds: u64,
    ) -> anyhow::Result<()> {
        let count = numbers.len() as u64;
        #[allow(clippy::cast_precision_loss)]
        let pace = Duration::from_secs_f64(count as f64 / rate.max(1) as f64);
        let tasks = (rate * seconds / count).max(1);
        let step = pace / u32::try_from(count).unwrap_or(1);
        let from = std::sync::Mutex::new(Instant::now() + Duration::from_millis(20));
        self.each(numbers.clone(), |done| {
            let mut from = from.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *from += step;
            let (from, pace) = (*from, Some(pace));
            Order::Launch(Plan { tasks, each: 1, window: usize::MAX, pace, from, fresh: false }, done)
        })
        .await?;
        self.each(numbers, |done| Order::Want(false, done)).await?;
        Ok(())
    }

    /// What all know together.
    pub(crate) async fn account(&self) -> anyhow::Result<Account> {
        self.account_of(0..self.len()).await
    }

    pub(crate) async fn account_of(&self, numbers: std::ops::Range<usize>) -> anyhow::Result<Account> {
        Ok(self.each(numbers, Order::Account).await?.into_iter().fold(Account::default(), Account::plus))
    }
}

/// Connections to the leader, by group of frameworks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channels(Arc<std::sync::Mutex<std::collections::BTreeMap<(usize, String), MeshChannel>>>);

impl Channels {
    fn to(&self, env: &Env, group: usize, leader: &LeaderInfo) -> MeshChannel {
        let mut channels = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (group, leader.address.clone());
        channels.entry(key).or_insert_with(|| connect(env, &leader.address)).clone()
    }
}
