//! The user of a simulated cluster: makes an app, scales it again and again while things go wrong, and waits
//! until what runs is what was asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use meshos_mesh::{Env, LeaderInfo, MeshChannel, Rng, connect, follow_leader};
use meshos_proto::meshos::apps::v1::{
    AppUpdate, Condition, CreateAppRequest, Goal, Instance, Snapshot, UpdateAppsRequest, WatchRequest,
    app_scheduler_client::AppSchedulerClient, watch_response::Body,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::Code;
use turmoil::Sim;

use super::{USER, hosts::environment, store::Central};

const APP: &str = "/sim";

/// What the user does.
#[derive(Clone, Debug)]
pub struct Script {
    /// Faults come until then.
    pub faults_until: Duration,
    /// Instances are changed this often, up to `instances`.
    pub scale_every: Duration,
    pub instances: u32,
    /// Nothing goes wrong but that app-schedulers die, often, and every second change is one of the definition.
    pub only_schedulers: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            faults_until: Duration::from_secs(60),
            scale_every: Duration::from_secs(4),
            instances: 6,
            only_schedulers: false,
        }
    }
}

impl Script {
    /// Leaders die in the middle of deployments.
    #[must_use]
    pub fn of_leaders() -> Self {
        Self {
            faults_until: Duration::from_secs(20),
            scale_every: Duration::from_millis(700),
            only_schedulers: true,
            ..Self::default()
        }
    }
}

/// What the user saw at the end.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) shown: Vec<String>,
    pub(super) wanted: u32,
}

pub(super) fn add(
    sim: &mut Sim<'static>,
    central: &Central,
    script: &Script,
    outcome: &Arc<Mutex<Option<Outcome>>>,
    seed: u64,
) {
    let (central, script, outcome) = (central.clone(), script.clone(), Arc::clone(outcome));
    sim.client(USER, async move {
        let env = environment(Rng::seeded(seed));
        let store = central.seen_from(USER, env.rng.clone());
        let leader = follow_leader(&env, &store, "app-scheduler");
        let mut user = User { env, leader, script };
        let seen = user.run().await;
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(())
    });
}

type Client = AppSchedulerClient<MeshChannel>;

struct User {
    env: Env,
    leader: watch::Receiver<Option<LeaderInfo>>,
    script: Script,
}

impl User {
    async fn run(&mut self) -> Outcome {
        let mut wanted = 3;
        self.create(wanted).await;
        while turmoil::elapsed() < self.script.faults_until {
            sleep(self.script.scale_every).await;
            wanted = u32::try_from(self.env.rng.below(u64::from(self.script.instances) + 1)).unwrap_or(1);
            self.scale(wanted).await;
        }
        let shown = self.settled(wanted).await;
        Outcome { shown, wanted }
    }

    async fn client(&mut self) -> Client {
        loop {
            let leader = self.leader.borrow_and_update().clone();
            match leader {
                Some(leader) => return AppSchedulerClient::new(connect(&self.env, &leader.address)),
                None => drop(timeout(Duration::from_secs(1), self.leader.changed()).await),
            }
        }
    }

    /// An answer that was lost may stand for a change that was made: then the app exists.
    async fn create(&mut self, instances: u32) {
        let app = AppUpdate {
            id: Some(APP.to_owned()),
            cmd: Some("run for ever".to_owned()),
            cpus: Some(0.5),
            mem: Some(32.0),
            instances: Some(instances),
            ..AppUpdate::default()
        };
        loop {
            let request = CreateAppRequest { app: Some(app.clone()), force: false, limits: None };
            let mut client = self.client().await;
            match timeout(Duration::from_secs(3), client.create_app(request)).await {
                Ok(Ok(_)) => return,
                Ok(Err(status)) if status.code() == Code::AlreadyExists => return,
                Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn scale(&mut self, instances: u32) {
        let mut app =
            AppUpdate { id: Some(APP.to_owned()), instances: Some(instances), ..AppUpdate::default() };
        if self.script.only_schedulers && self.env.rng.below(2) == 0 {
            app.cmd = Some(format!("run for ever {}", self.env.rng.below(1000)));
        }
        loop {
            let request = UpdateAppsRequest {
                apps: vec![app.clone()],
                force: true,
                partial: true,
                create: false,
                limits: None,
            };
            let mut client = self.client().await;
            match timeout(Duration::from_secs(3), client.update_apps(request)).await {
                Ok(Ok(_)) => return,
                Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Waits until the app has exactly `wanted` running instances and no deployment for a while.
    async fn settled(&mut self, wanted: u32) -> Vec<String> {
        let mut calm = 0;
        loop {
            sleep(Duration::from_secs(1)).await;
            let shown = match timeout(Duration::from_secs(3), self.snapshot()).await {
                Ok(Some(snapshot)) => tasks(&snapshot, wanted),
                Ok(None) | Err(_) => None,
            };
            calm = if shown.is_some() { calm + 1 } else { 0 };
            if calm >= 15
                && let Some(shown) = shown
            {
                return shown;
            }
        }
    }

    async fn snapshot(&mut self) -> Option<Snapshot> {
        let mut changes = self.client().await.watch(WatchRequest {}).await.ok()?.into_inner();
        match changes.message().await.ok()??.body? {
            Body::Snapshot(snapshot) => Some(snapshot),
            Body::Delta(_) => None,
        }
    }
}

/// Task ids, if exactly `wanted` instances exist, all running, and nothing is under way.
fn tasks(snapshot: &Snapshot, wanted: u32) -> Option<Vec<String>> {
    let runs =
        |instance: &Instance| instance.condition() == Condition::Running && instance.goal() == Goal::Running;
    let settled = snapshot.deployments.is_empty()
        && snapshot.instances.len() == wanted as usize
        && snapshot.instances.iter().all(runs);
    let ids: BTreeMap<_, _> =
        snapshot.instances.iter().map(|instance| (instance.task_id.clone(), ())).collect();
    settled.then(|| ids.into_keys().collect())
}
