//! The loop that owns the core and HAProxy: what happens goes into the core, and HAProxy is brought to what comes
//! out of it.

mod asking;
mod certificates;
mod checking;
mod dry;
mod flapping;
mod hosts;
mod identity;
mod leaving;
mod publish;
mod reconcile;
mod reload;
mod revive;
mod service_ports;
mod start;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use meshos_mesh::{Env, Feed, Serving};
use meshos_proto::meshos::{
    apps::v1::{ConfirmLeftRequest, WatchResponse},
    lb::v1::WatchResponse as Report,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use crate::{
    config::Config,
    core::{Core, model::Problem, render::Identity, rules::Map, slots::Applied},
    error::Error,
    follower::Event,
    grpc::Command,
    haproxy::{files::Files, process::Process},
    metrics::LbMetrics,
    source::Source,
};
use checking::Checked;
pub use dry::dry;
use hosts::Hosts;
use leaving::Leaving;
use reload::Phase;
pub(crate) use status::json as status_json;

/// Changes that a reader of `Watch` may be behind.
const FEED: usize = 1024;
/// How often each server of HAProxy is compared with the table.
const RECONCILE: Duration = Duration::from_secs(30);
/// How often ports that others hold are tried again, and what was refused by chance.
const RETRY: Duration = Duration::from_secs(2);
/// How long a snapshot without most apps is not believed.
const DISBELIEF: Duration = Duration::from_secs(5);
/// How often certificates are looked at.
const CERTIFICATES: Duration = Duration::from_millis(250);

/// What the running worker has.
#[derive(Debug, Default)]
struct Running {
    worker: u32,
    /// Digest of the head, and of the structure of each unit's text.
    head: u64,
    structures: BTreeMap<String, u64>,
    applied: BTreeMap<String, Vec<Applied>>,
    /// Numbers of backends: their names may be those of frontends as well.
    numbers: BTreeMap<String, u32>,
    maps: BTreeMap<Map, BTreeMap<String, String>>,
    /// Ports that it listens on.
    ports: BTreeSet<u16>,
}

/// What is due at a time.
#[derive(Debug)]
struct Due {
    reconcile: Instant,
    retry: Instant,
    certificates: Instant,
}

/// Most apps were gone in a snapshot.
#[derive(Clone, Copy, Debug)]
struct Disbelief {
    /// When another one is asked for.
    until: Instant,
    asked: bool,
}

pub(crate) struct Driver {
    env: Env,
    config: Config,
    files: Files,
    serving: Serving,
    commands: mpsc::Receiver<Command>,
    metrics: LbMetrics,
    feed: Feed<Report>,
    source: Source,
    core: Core,
    process: Process,
    running: Running,
    phase: Phase,
    /// Units whose text is to be looked at, or has to be loaded; when the first and the last one came.
    stale: BTreeSet<String>,
    stale_since: Option<(Instant, Instant)>,
    last_reload: Option<Instant>,
    /// Something about the head changed.
    stale_head: bool,
    /// Units whose file waits for the end of a reload.
    unwritten: BTreeSet<String>,
    /// Entries of maps that wait for their backend.
    pending: BTreeMap<(Map, String), Option<String>>,
    checked: (mpsc::Sender<Checked>, mpsc::Receiver<Checked>),
    asking: asking::Asking,
    leaving: Leaving,
    statuses: status::Statuses,
    hosts: Hosts,
    flapping: flapping::Flapping,
    confirm: Option<mpsc::Sender<ConfirmLeftRequest>>,
    /// The first snapshot was taken in.
    synced: bool,
    /// And everything in it was looked at.
    settled: bool,
    following: bool,
    stale_since_ms: u64,
    disbelief: Option<Disbelief>,
    /// Problems that are nobody's: of certificates, of ports.
    own_problems: BTreeMap<String, Problem>,
    known_problems: BTreeSet<Problem>,
    certificates: certificates::State,
    /// Whom HAProxy's workers become.
    identity: Option<Identity>,
    failed_reloads: u64,
    repairs: u64,
    due: Due,
    comparison: reconcile::Comparison,
    again: Arc<Notify>,
}

impl Driver {
    /// Takes over a HAProxy that runs, or starts one.
    ///
    /// # Errors
    /// When the directory cannot be used, or the head of the configuration is not valid.
    pub(crate) async fn new(
        env: &Env,
        config: Config,
        serving: Serving,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, Error> {
        let dir = config.dir();
        let files = Files::open(&dir).map_err(|source| Error::Directory { dir, source })?;
        let process = Process::new(&config.args.haproxy_binary, config.args.haproxy, &files);
        let core = Core::new(start::settings(&config));
        let now = Instant::now();
        let (identity, problem) = match identity::of(&config.args, files.dir()) {
            Ok(identity) => (identity, None),
            Err(why) => {
                (None, Some(Problem::new("", "", format!("HAProxy's workers keep root's rights: {why}"))))
            }
        };
        let mut driver = Self {
            env: env.clone(),
            metrics: LbMetrics::new(&env.metrics),
            certificates: certificates::State::default(),
            identity,
            config,
            files,
            serving,
            commands,
            feed: Feed::new(FEED),
            source: Source::default(),
            core,
            process,
            running: Running::default(),
            phase: Phase::Idle,
            stale: BTreeSet::new(),
            stale_since: None,
            last_reload: None,
            stale_head: false,
            unwritten: BTreeSet::new(),
            pending: BTreeMap::new(),
            checked: mpsc::channel(4),
            asking: asking::Asking::default(),
            leaving: Leaving::default(),
            statuses: status::Statuses::default(),
            hosts: Hosts::new(env),
            flapping: flapping::Flapping::default(),
            confirm: None,
            synced: false,
            settled: false,
            following: false,
            stale_since_ms: env.clock.unix_ms(),
            disbelief: None,
            own_problems: problem.into_iter().map(|problem| ("user".to_owned(), problem)).collect(),
            known_problems: BTreeSet::new(),
            failed_reloads: 0,
            repairs: 0,
            due: Due { reconcile: now + RECONCILE, retry: now + RETRY, certificates: now + CERTIFICATES },
            comparison: reconcile::Comparison::default(),
            again: Arc::new(Notify::new()),
        };
        driver.load_certificates()?;
        driver.take_over_or_start().await?;
        Ok(driver)
    }

    /// Who HAProxy's workers are, where they are others than the controller.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Runs until the tasks stop.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>, again: Arc<Notify>) {
        self.again = again;
        let stop = self.env.tasks.stopping();
        loop {
            let next = self.next_deadline();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.process.died() => self.revive().await,
                event = events.recv() => match event {
                    Some(event) => self.event(event).await,
                    None => break,
                },
                Some(checked) = self.checked.1.recv() => self.take_checked(checked).await,
                Some(answer) = self.asking.answer() => self.take_answer(answer),
                Some(found) = self.statuses.found() => self.answer_status(found),
                Some(found) = self.hosts.found() => self.host_found(found).await,
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                () = sleep_until(next) => self.tick().await,
            }
        }
        if !self.config.keep_haproxy {
            self.process.stop().await;
        }
    }

    fn next_deadline(&self) -> Instant {
        let own = [Some(self.due.reconcile), Some(self.due.retry), Some(self.due.certificates)];
        let disbelief = self.disbelief.map(|disbelief| disbelief.until);
        let others = [self.reload_due(), self.leaving.due(), disbelief];
        own.into_iter().chain(others).flatten().min().unwrap_or(self.due.retry)
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        if self.reload_due().is_some_and(|due| due <= now) {
            self.advance_reload().await;
        }
        if self.leaving.due().is_some_and(|due| due <= now) {
            self.look_after_leaving();
        }
        if self.disbelief.is_some_and(|disbelief| disbelief.until <= now) {
            // The next snapshot is believed.
            self.again.notify_one();
            self.disbelief = Some(Disbelief { until: now + DISBELIEF, asked: true });
        }
        if self.due.certificates <= now {
            self.due.certificates = now + CERTIFICATES;
            self.renew_certificates().await;
        }
        if self.due.retry <= now {
            self.due.retry = now + RETRY;
            self.retry().await;
        }
        if self.due.reconcile <= now {
            self.reconcile().await;
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Following(confirm) => {
                self.confirm = Some(confirm);
                self.following = true;
                self.stale_since_ms = 0;
                self.metrics.following.set(1);
            }
            Event::Broken => {
                if self.following {
                    warn!("the app-scheduler cannot be followed, the last table stays");
                    self.stale_since_ms = self.env.clock.unix_ms();
                }
                (self.confirm, self.following) = (None, false);
                self.metrics.following.set(0);
            }
            Event::Change(response) => self.change(*response).await,
        }
    }

    async fn change(&mut self, response: WatchResponse) {
        let begun = Instant::now();
        let suspicious = self.source.is_suspicious(&response);
        match self.disbelief {
            // Changes of what is not believed.
            Some(_) if response_is_delta(&response) => return,
            Some(Disbelief { asked: false, .. }) if suspicious => return,
            Some(_) if suspicious => warn!("most apps are gone, again: they are taken out"),
            None if suspicious => {
                warn!("most apps are gone all at once: keeping them until that is confirmed");
                self.disbelief = Some(Disbelief { until: begun + DISBELIEF, asked: false });
                return;
            }
            _ => {}
        }
        self.disbelief = None;
        let touched = self.source.apply(response);
        let leaving = self.places_of(&touched.leaving, &touched.tasks);
        for id in &touched.apps {
            match self.source.app(id) {
                Some(app) if !self.is_own(&app.id) => self.core.put_app(app),
                Some(_) => {}
                None => self.core.remove_app(id),
            }
        }
        for (app_id, id) in &touched.tasks {
            self.put_task(app_id, id);
        }
        // One that is left out may be the last one now.
        let apps: BTreeSet<&String> = touched.tasks.iter().map(|(app_id, _)| app_id).collect();
        for app_id in apps {
            for id in self.flapping.held_of(app_id) {
                self.put_task(app_id, &id);
            }
        }
        let changes = if self.synced { self.core.settle() } else { self.core.settle_first() };
        let first = !std::mem::replace(&mut self.synced, true);
        if first {
            self.stale.extend(self.running.structures.keys().cloned());
            self.touch_stale();
        }
        self.publish(changes).await;
        if !touched.tasks.is_empty() {
            self.metrics.change_seconds.observe(begun.elapsed().as_secs_f64());
            debug!(tasks = touched.tasks.len(), us = begun.elapsed().as_micros(), "HAProxy has the change");
        }
        self.leaving.add(leaving);
        if self.leaving.due().is_some() {
            self.look_after_leaving();
        }
        self.report().await;
    }

    /// The controller is a task of this app.
    fn is_own(&self, id: &str) -> bool {
        self.config.own_app.as_deref() == Some(id.trim_start_matches('/'))
    }

    /// Brings the core's picture of an instance up to date.
    fn put_task(&mut self, app_id: &str, id: &str) {
        let hosts = &mut self.hosts;
        match self.source.task(id, |host| hosts.resolve(host, id, app_id)) {
            Some(mut task) => {
                let alive = task.alive == Some(true);
                let held = self.flapping.note(id, app_id, alive, Instant::now());
                // The last one is better than none.
                if held && alive && self.core.has_others_alive(app_id, id) {
                    task.alive = Some(false);
                }
                self.core.put_task(task);
            }
            None => {
                self.flapping.forget(id);
                self.core.remove_task(app_id, id);
            }
        }
    }

    async fn host_found(&mut self, found: hosts::Found) {
        for (id, app_id) in self.hosts.take(found) {
            self.put_task(&app_id, &id);
        }
        let changes = self.core.settle();
        self.publish(changes).await;
    }

    async fn command(&mut self, command: Command) {
        // Callers that have gone need no answer.
        match command {
            Command::Watch(answer) => {
                let _ = answer.send(self.feed.subscribe(self.seen()));
            }
            Command::Status(app_id, answer) => {
                self.ask_for_status(app_id, answer);
            }
            Command::Resync(answer) => {
                self.again.notify_one();
                let _ = answer.send(());
            }
            Command::Reload(answer) => {
                self.stale_head = true;
                self.running.head = 0;
                self.touch_stale();
                let _ = answer.send(());
            }
        }
    }
}

fn response_is_delta(response: &WatchResponse) -> bool {
    matches!(response.body, Some(meshos_proto::meshos::apps::v1::watch_response::Body::Delta(_)))
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
