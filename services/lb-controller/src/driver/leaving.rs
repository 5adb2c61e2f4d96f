//! Tasks that are about to be killed: HAProxy sends them nothing new, and the app-scheduler is told once their last
//! request has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshos_proto::meshos::apps::v1::ConfirmLeftRequest;
use tokio::time::Instant;

use super::Driver;
use crate::haproxy::socket;

/// Requests end soon; a connection that stays is looked after less often.
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);
/// A task that is still busy is forgotten: the app-scheduler does not wait longer.
const LIMIT: Duration = Duration::from_secs(600);

/// Backend and server.
type Place = (String, String);

/// Where a task of an instance was.
pub(super) type Places = BTreeMap<String, BTreeSet<Place>>;

/// One that is looked after.
#[derive(Debug)]
struct Departure {
    places: BTreeSet<Place>,
    since: Instant,
    /// Nothing was under way at the last look.
    idle: bool,
}

#[derive(Debug, Default)]
pub(super) struct Leaving {
    departures: BTreeMap<String, Departure>,
    next: Option<Instant>,
    pause: Duration,
}

impl Leaving {
    pub(super) fn add(&mut self, places: Places) {
        if places.is_empty() {
            return;
        }
        let now = Instant::now();
        for (id, places) in places {
            // Asked for again, it has no place any more where it still serves.
            let new = || Departure { places: BTreeSet::new(), since: now, idle: false };
            self.departures.entry(id).or_insert_with(new).places.extend(places);
        }
        (self.next, self.pause) = (Some(now), FIRST);
    }

    /// Takes out those that can be told of, because nothing is under way at their places. Until somebody `listens` they
    /// are kept: who waits is told once there is a stream again.
    fn look(&mut self, busy: &BTreeSet<Place>, listens: bool, now: Instant) -> Vec<String> {
        let mut free = Vec::new();
        self.departures.retain(|id, departure| {
            // HAProxy counts a request a moment after it has chosen a server for it: one look is not enough.
            let idle = departure.places.is_disjoint(busy);
            let done = listens && idle && (departure.idle || departure.places.is_empty());
            departure.idle = idle;
            if done {
                free.push(id.clone());
            }
            !done && now.duration_since(departure.since) < LIMIT
        });
        free
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }
}

impl Driver {
    /// Where these instances are, before they are taken out.
    pub(super) fn places_of(&self, ids: &[String], tasks: &BTreeSet<(String, String)>) -> Places {
        let mut places: Places = ids.iter().map(|id| (id.clone(), BTreeSet::new())).collect();
        for (app_id, id) in tasks.iter().filter(|(_, id)| ids.contains(id)) {
            for service in self.core.services(app_id) {
                let place = self.core.slots(&service.backend).and_then(|slots| slots.of_task(id));
                if let Some(index) = place {
                    let server = format!("s{}", index + 1);
                    places.entry(id.clone()).or_default().insert((service.backend.clone(), server));
                }
            }
        }
        places
    }

    /// Confirms those that have no requests under way any more.
    pub(super) async fn look_after_leaving(&mut self) {
        let backends: BTreeSet<String> = self
            .leaving
            .departures
            .values()
            .flat_map(|departure| &departure.places)
            .map(|(backend, _)| backend.clone())
            .collect();
        // During a reload it is not clear whom the sockets belong to.
        let busy = if self.phase.is_reloading() { None } else { self.busy(&backends).await };
        let Some(busy) = busy else {
            self.leaving.next = Some(Instant::now() + FIRST * 4);
            return;
        };
        let now = Instant::now();
        let listens = self.confirm.as_ref().is_some_and(|confirm| !confirm.is_closed());
        let free = self.leaving.look(&busy, listens, now);
        if !free.is_empty()
            && let Some(confirm) = &self.confirm
        {
            // A stream without room is broken; the app-scheduler waits no longer than its limit.
            let _ = confirm.try_send(ConfirmLeftRequest { instances: free });
        }
        self.leaving.next = (!self.leaving.departures.is_empty()).then(|| now + self.leaving.pause);
        self.leaving.pause = (self.leaving.pause * 2).clamp(FIRST, LONGEST);
    }

    /// Servers of these backends with requests or connections under way, in the worker and in older ones; none when
    /// that cannot be told now.
    async fn busy(&self, backends: &BTreeSet<String>) -> Option<BTreeSet<Place>> {
        let mut busy = BTreeSet::new();
        if backends.is_empty() {
            return Some(busy);
        }
        let mut take = |answer: &str| {
            let sessions = socket::sessions(answer);
            let count = sessions.len();
            busy.extend(sessions.into_iter().filter(|(_, count)| *count > 0).map(|(place, _)| place));
            count
        };
        for number in backends.iter().filter_map(|backend| self.running.numbers.get(backend)) {
            let command = format!("show stat {number} 4 -1");
            let answer = socket::ask(&self.files.stats_socket(), &command).await.ok()?;
            if take(&answer) == 0 {
                return None;
            }
        }
        for pid in self.process.processes().await.ok()?.old_workers {
            // Backends have other numbers there. A worker that has just ended has nothing.
            let command = format!("@!{pid} show stat -1 4 -1; quit");
            let answer = socket::ask(&self.files.master_socket(), &command).await.ok()?;
            take(&answer);
        }
        Some(busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_nothing_under_way_is_told_of_once_somebody_listens() {
        let place: Place = ("b".into(), "s1".into());
        let (busy, idle) = (BTreeSet::from([place.clone()]), BTreeSet::new());
        let mut leaving = Leaving::default();
        leaving.add([("i".to_owned(), busy.clone()), ("nowhere".to_owned(), BTreeSet::new())].into());
        let now = Instant::now();
        assert_eq!(leaving.look(&busy, false, now), [""; 0]);
        assert_eq!(leaving.look(&busy, true, now), ["nowhere"]);
        for _ in 0..3 {
            assert_eq!(leaving.look(&idle, false, now), [""; 0]);
        }
        assert_eq!(leaving.look(&idle, true, now), ["i"]);
        leaving.add([("i".to_owned(), busy.clone())].into());
        assert_eq!(leaving.look(&idle, true, now), [""; 0], "one look is not enough");
        leaving.look(&busy, false, now + LIMIT * 2);
        assert!(leaving.departures.is_empty());
    }
}
