//! The shell: serves gRPC, takes part in the election, and runs a core while this replica leads.

mod candidacy;
mod farewells;
mod leading;
mod link;
mod probe;
mod secrets;
mod spans;
mod writer;

use std::{any::Any, panic::AssertUnwindSafe, sync::atomic::AtomicU64, time::Duration};

use futures::FutureExt;
use meshos_mesh::{Backoff, Candidate, Env, Leadership, MAX_MESSAGE_BYTES, Role, serve};
use meshos_proto::meshos::apps::v1::app_scheduler_server::AppSchedulerServer;
use meshos_store::SharedStore;
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tracing::{error, info, warn};

use crate::{
    config::Config,
    error::Error,
    grpc::{Command, Grpc},
    metrics::Metrics,
};
use candidacy::Candidacy;
use leading::{End, Leading};

/// The name under which its leader is found.
pub const SERVICE: &str = "app-scheduler";
/// Calls that wait for the loop.
const COMMANDS: usize = 1024;
/// After a breakdown another replica is to lead. What broke this one may break it again, so each pause is longer.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A leader that held for so long was sound: the pauses begin anew.
const SOUND: Duration = Duration::from_secs(300);

/// A running replica. It stops with the environment's tasks.
#[derive(Clone, Debug)]
pub struct Handle {
    address: String,
    role: watch::Receiver<Role>,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it leads at the moment.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        matches!(*self.role.borrow(), Role::Leader(_))
    }
}

/// Starts a replica. It answers calls while it leads, and `not leading` otherwise.
///
/// # Errors
/// When it cannot listen on the configured address.
pub async fn start(env: &Env, store: SharedStore, config: Config) -> Result<Handle, Error> {
    let listener = env.transport.bind(&config.listen).await?;
    let address = config.advertise.clone().unwrap_or_else(|| listener.address.clone());
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let server = AppSchedulerServer::new(Grpc { commands, controllers: AtomicU64::new(0) })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let serving = serve(env, "app-scheduler-grpc", listener, Routes::new(server)).await;
    let candidate = Candidate {
        service: SERVICE,
        instance: config.instance.clone(),
        address: address.clone(),
        ttl: config.lease_ttl,
    };
    let candidacy = candidacy::start(candidate, env, &store);
    let handle = Handle { address: serving.address.clone(), role: candidacy.role.clone() };
    let replica = Replica {
        env: env.clone(),
        store,
        config,
        address,
        commands: receiver,
        candidacy,
        rest: Backoff::new(&env.rng, FIRST_REST, LONGEST_REST),
        metrics: Metrics::new(&env.metrics),
    };
    serving.ready().await;
    env.tasks.spawn("app-scheduler", replica.run());
    Ok(handle)
}

struct Replica {
    env: Env,
    store: SharedStore,
    config: Config,
    /// Where others reach it.
    address: String,
    commands: mpsc::Receiver<Command>,
    candidacy: Candidacy,
    /// How long to stay out of the election after the next breakdown.
    rest: Backoff,
    metrics: Metrics,
}

impl Replica {
    async fn run(mut self) {
        let mut ended = 0;
        loop {
            let role = self.candidacy.role.borrow_and_update().clone();
            match role {
                Role::Leader(leadership) if leadership.epoch != ended => {
                    ended = leadership.epoch;
                    self.lead(leadership).await;
                }
                _ => {
                    if !self.stand_by().await {
                        return;
                    }
                }
            }
        }
    }

    /// Refuses calls until the role changes; false at the end.
    async fn stand_by(&mut self) -> bool {
        loop {
            tokio::select! {
                biased;
                changed = self.candidacy.role.changed() => return changed.is_ok(),
                command = self.commands.recv() => match command {
                    Some(command) => command.refuse("not leading"),
                    None => return false,
                },
            }
        }
    }

    async fn lead(&mut self, leadership: Leadership) {
        let lost = leadership.lost.clone();
        let epoch = leadership.epoch;
        let scope = self.env.child();
        let since = tokio::time::Instant::now();
        // Nothing of the core outlives a panic: the next leader begins with what is stored.
        let led = AssertUnwindSafe(Box::pin(self.lead_until_end(&scope, &leadership))).catch_unwind();
        let end = tokio::select! {
            biased;
            () = lost.cancelled() => Ok(End::Lost),
            end = led => end,
        };
        scope.tasks.stop();
        match end {
            Ok(End::Lost) => {
                info!(epoch, "lead lost");
                return;
            }
            Ok(End::Failed(error)) => warn!(epoch, %error, "records cannot be written, giving the lead up"),
            Ok(End::Abdicated) => info!(epoch, "asked to give the lead up"),
            Ok(End::Broken(what)) => return self.break_down(epoch, since, what).await,
            Err(panic) => return self.break_down(epoch, since, panic_text(&*panic)).await,
        }
        tokio::select! {
            biased;
            () = lost.cancelled() => {}
            () = self.resign(&leadership) => {}
        }
    }

    /// Gives the lead up and leaves it to others for a while.
    async fn break_down(&mut self, epoch: u64, since: tokio::time::Instant, cause: &str) {
        if since.elapsed() >= SOUND {
            self.rest.reset();
        }
        let rest = self.rest.delay();
        error!(epoch, cause, rest_ms = rest.as_millis(), "leader broke down, giving the lead up");
        // The receiver is gone only when everything stops.
        let _ = self.candidacy.rests.send(rest).await;
    }

    async fn lead_until_end(&mut self, scope: &Env, leadership: &Leadership) -> End {
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(20), Duration::from_secs(1));
        let store = self.store.clone();
        let read = async {
            loop {
                match store.list(crate::store::PREFIX).await {
                    Ok(listing) => return listing,
                    Err(error) => warn!(%error, "records cannot be read, trying again"),
                }
                backoff.wait().await;
            }
        };
        tokio::pin!(read);
        let listing = loop {
            tokio::select! {
                biased;
                listing = &mut read => break listing,
                command = self.commands.recv() => match command {
                    Some(command) => command.refuse("the new leader is reading its records"),
                    None => return End::Lost,
                },
            }
        };
        info!(epoch = leadership.epoch, records = listing.items.len(), "records read");
        Leading::new(self, scope, leadership, listing).run(self).await
    }

    /// Gives the lead up after a write whose outcome is not known: what is in memory may differ from what is stored.
    /// A new epoch fences the old write off and begins with what is stored.
    async fn resign(&self, leadership: &Leadership) {
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(50), Duration::from_secs(2));
        loop {
            match self.store.get(&leadership.fence.key).await {
                Ok(Some(leader)) if leader.create_revision == leadership.epoch => {
                    match meshos_store::depose(&*self.store, &leader).await {
                        Ok(_) => return,
                        Err(error) => warn!(%error, "the lead cannot be given up yet"),
                    }
                }
                Ok(_) => return,
                Err(error) => warn!(%error, "the lead cannot be given up yet"),
            }
            backoff.wait().await;
        }
    }
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic without a message")
}
