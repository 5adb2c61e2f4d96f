//! Tasks that are about to be killed: HAProxy sends them nothing new, and the app-scheduler is told once their last
//! request has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshos_proto::meshos::apps::v1::ConfirmLeftRequest;
use tokio::time::Instant;

use super::Driver;

/// Requests end soon; a connection that stays is looked after less often.
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);
/// A task that is still busy is forgotten: the app-scheduler does not wait longer.
const LIMIT: Duration = Duration::from_secs(600);

/// Backend and server.
pub(super) type Place = (String, String);

/// Where a task of an instance was.
pub(super) type Places = BTreeMap<String, BTreeSet<Place>>;

/// One that is looked after.
#[derive(Debug)]
struct Departure {
    places: BTreeSet<Place>,
    since: Instant,
    /// Its places are among those that are looked at now.
    asked: bool,
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
            let new = || Departure { places: BTreeSet::new(), since: now, asked: false, idle: false };
            let departure = self.departures.entry(id).or_insert_with(new);
            departure.places.extend(places);
            (departure.asked, departure.idle) = (false, false);
        }
        (self.next, self.pause) = (Some(now), FIRST);
    }

    /// A look begins: backends that it has to be at.
    pub(super) fn begin(&mut self) -> BTreeSet<String> {
        let mut backends = BTreeSet::new();
        for departure in self.departures.values_mut() {
            departure.asked = true;
            backends.extend(departure.places.iter().map(|(backend, _)| backend.clone()));
        }
        backends
    }

    /// Takes out those that can be told of, because nothing is under way at their places. Until somebody `listens` they
    /// are kept: who waits is told once there is a stream again.
    fn look(&mut self, busy: &BTreeSet<Place>, listens: bool, now: Instant) -> Vec<String> {
        let mut free = Vec::new();
        self.departures.retain(|id, departure| {
            if !departure.asked {
                return true;
            }
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

    /// Looks at those that leave, beside the loop.
    pub(super) fn look_after_leaving(&mut self) {
        // What is under way asks again at its end.
        self.leaving.next = None;
        if self.phase.is_reloading() {
            self.leaving.next = Some(Instant::now() + FIRST * 4);
        } else {
            self.ask();
        }
    }

    /// Confirms those that have no requests under way any more. None: that cannot be told now.
    pub(super) fn conclude(&mut self, busy: Option<BTreeSet<Place>>) {
        if self.leaving.departures.is_empty() {
            self.leaving.next = None;
            return;
        }
        let now = Instant::now();
        let Some(busy) = busy else {
            self.leaving.next = Some(now + FIRST * 4);
            return;
        };
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
        assert_eq!(leaving.look(&idle, true, now), [""; 0], "nobody has looked there yet");
        assert_eq!(leaving.begin(), ["b".to_owned()].into());
        assert_eq!(leaving.look(&busy, false, now), [""; 0]);
        assert_eq!(leaving.look(&busy, true, now), ["nowhere"]);
        for _ in 0..3 {
            assert_eq!(leaving.look(&idle, false, now), [""; 0]);
        }
        assert_eq!(leaving.look(&idle, true, now), ["i"]);
        leaving.add([("i".to_owned(), busy.clone())].into());
        leaving.begin();
        assert_eq!(leaving.look(&idle, true, now), [""; 0], "one look is not enough");
        leaving.look(&busy, false, now + LIMIT * 2);
        assert!(leaving.departures.is_empty());
    }
}
