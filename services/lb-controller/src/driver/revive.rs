//! HAProxy died: it is started again on its files, which are up to date.

use std::{io, time::Duration};

use tracing::{error, info, warn};

use super::{Driver, publish::structure_of, reload::Reloading};
use crate::{
    config::Ownership,
    core::{render::RuleTexts, rules::Map},
    haproxy::{
        files::{digest, replace},
        ports, socket,
    },
};

/// Pause between two tries to start HAProxy.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After so many failures what cannot be bound is left out, and after so many everything.
const WITHOUT_TAKEN: u32 = 2;
const WITHOUT_ANY: u32 = 4;

impl Driver {
    pub(super) async fn revive(&mut self) {
        let stop = self.env.tasks.stopping();
        // The files are complete; the structures are known once it runs.
        let mut cut = self.cut_reload();
        // Sockets of the dead: nobody answers there.
        for socket in [self.files.master_socket(), self.files.stats_socket()] {
            let _ = std::fs::remove_file(socket);
        }
        let (mut pause, mut failures) = (PAUSE, 0);
        loop {
            self.metrics.restarts.inc();
            match self.process.start().await {
                Ok(found) => {
                    self.running.worker = found.worker;
                    break;
                }
                Err(error) => {
                    error!(%error, "HAProxy does not start");
                    // A program that cannot be run says nothing about the files.
                    if error.kind() == io::ErrorKind::Other {
                        failures += 1;
                        self.mend_files(failures, cut.take());
                    }
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.await_socket().await;
        self.after_revival().await;
        info!(worker = self.running.worker, "HAProxy is back");
    }

    /// The files may be why HAProxy does not start: first what a reload had changed is taken back, then what cannot be
    /// bound is left out, at last everything. All of it is loaded again once HAProxy runs.
    fn mend_files(&mut self, failures: u32, cut: Option<Reloading>) {
        if let Some(cut) = cut {
            self.take_back(cut);
        } else if failures >= WITHOUT_TAKEN && self.config.args.haproxy == Ownership::Child {
            self.leave_out(failures >= WITHOUT_ANY);
        } else {
            return;
        }
        self.stale.extend(self.core.units().map(str::to_owned));
        self.stale_head = true;
        // Before the first snapshot nobody knows what is to be loaded.
        if self.synced {
            self.touch_stale();
        }
    }

    /// Takes units out of the files whose ports others hold, or all; nobody of ours listens now.
    fn leave_out(&mut self, all: bool) {
        let units = self.files.read_units().unwrap_or_default();
        let taken = |text: &str| ports::binds(text).any(|(address, port)| !ports::is_free(address, port));
        let left_out: Vec<&String> =
            units.iter().filter(|(_, text)| all || taken(text)).map(|(unit, _)| unit).collect();
        if !left_out.is_empty() {
            warn!(count = left_out.len(), "starting HAProxy without some of the apps");
        }
        self.write_units(left_out.into_iter().map(|unit| (unit.as_str(), "")));
        self.running.ports.clear();
        let listeners = self.own_listeners();
        self.name_listeners(listeners);
        self.running.ports.extend(listeners.into_iter().flatten());
        // Rules that are texts name backends, which may be among those left out.
        let written = match self.head_with(listeners, &RuleTexts::default()) {
            Ok(head) => replace(&self.files.head(), head.as_bytes()),
            Err(problem) => Err(io::Error::other(problem.message)),
        };
        if let Err(error) = written {
            error!(%error, "the head of the configuration cannot be written");
        }
    }

    async fn await_socket(&self) {
        for _ in 0..1000 {
            if socket::ask(&self.files.stats_socket(), "show info").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The files were its configuration.
    async fn after_revival(&mut self) {
        let units = self.files.read_units().unwrap_or_default();
        let head = std::fs::read_to_string(self.files.head()).unwrap_or_default();
        self.running.head = digest(head.as_bytes());
        self.running.structures =
            units.iter().filter_map(|(unit, text)| Some((unit.clone(), structure_of(text)?))).collect();
        let bound = ports::of_texts(std::iter::once(&head).chain(units.values()));
        let own = &self.core.settings().own_ports;
        self.running.ports = self.running.ports.intersection(own).copied().chain(bound).collect();
        for map in Map::ALL {
            let entries = self.files.read_map(map).unwrap_or_default();
            self.running.maps.insert(map, entries);
            let wanted = self.core.map(map).iter();
            self.pending.extend(wanted.map(|(key, value)| ((map, key.clone()), Some(value.clone()))));
        }
        self.running.applied.clear();
        self.resync_servers().await;
        self.write_unwritten();
        self.publish_entries().await;
        self.tell_untold();
        self.mark_applied();
    }
}
