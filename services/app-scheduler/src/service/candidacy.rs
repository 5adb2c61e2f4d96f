//! Takes part in the election, and stays out of it for a while after a leader that broke down.

use std::time::Duration;

use meshos_mesh::{Candidate, Env, Role};
use meshos_store::SharedStore;
use tokio::sync::{mpsc, watch};

/// Giving the lead up may take this long; after that the end of the lease does it.
const GIVE_UP: Duration = Duration::from_secs(2);
/// Pause after an election that ended by itself.
const PAUSE: Duration = Duration::from_secs(1);

/// This replica's part in the election, as its owner sees it.
pub(super) struct Candidacy {
    /// What this replica is at the moment.
    pub role: watch::Receiver<Role>,
    /// Gives the lead up, and stays out of the election for as long as is said: a standby takes over meanwhile.
    pub rests: mpsc::Sender<Duration>,
}

/// Campaigns until the environment's tasks stop. Then the lead is given up before they count as ended.
pub(super) fn start(candidate: Candidate, env: &Env, store: &SharedStore) -> Candidacy {
    let (role, receiver) = watch::channel(Role::Standby { leader: None });
    let (rests, rests_wanted) = mpsc::channel(1);
    let runner = Runner { candidate, env: env.clone(), store: store.clone(), role, rests: rests_wanted };
    env.tasks.spawn_graceful("app-scheduler-candidacy", runner.run());
    Candidacy { role: receiver, rests }
}

struct Runner {
    candidate: Candidate,
    env: Env,
    store: SharedStore,
    role: watch::Sender<Role>,
    rests: mpsc::Receiver<Duration>,
}

impl Runner {
    async fn run(mut self) {
        let stop = self.env.tasks.stopping();
        while !stop.is_cancelled() {
            // Tasks of its own, so that it can be ended alone.
            let term = self.env.child();
            let mut role = self.candidate.clone().run(&term, &self.store);
            let rest = tokio::select! {
                biased;
                () = stop.cancelled() => Duration::ZERO,
                rest = self.follow(&mut role) => rest,
            };
            term.tasks.shutdown(GIVE_UP).await;
            self.role.send_replace(Role::Standby { leader: None });
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Passes the role on until the lead is to be given up; returns for how long.
    async fn follow(&mut self, role: &mut watch::Receiver<Role>) -> Duration {
        loop {
            tokio::select! {
                biased;
                Some(rest) = self.rests.recv() => return rest,
                changed = role.changed() => match changed {
                    Ok(()) => {
                        let now = role.borrow_and_update().clone();
                        self.role.send_replace(now);
                    }
                    Err(_) => return PAUSE,
                },
            }
        }
    }
}
