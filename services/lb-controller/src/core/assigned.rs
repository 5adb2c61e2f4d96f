//! Service ports for apps whose tasks have addresses of their own, and that name none. As marathon-lb assigns them: from
//! the list of apps alone, so that all load balancers come to the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use sha1::{Digest, Sha1};

use super::model::App;

/// Hashes are tried so often, then the next free port is taken.
const TRIES: u32 = 50;

/// App, and index of its port.
type Wish = (String, usize);

/// Who wants a port, and who has which.
#[derive(Clone, Debug, Default)]
pub struct Assigned {
    /// None: nothing is assigned.
    range: Option<RangeInclusive<u16>>,
    /// With the port that tasks listen on.
    wishes: BTreeMap<Wish, u16>,
    ports: BTreeMap<Wish, u16>,
}

impl Assigned {
    /// From the smallest port to the largest one; 0: none.
    #[must_use]
    pub fn new(smallest: u16, largest: u16) -> Self {
        let range = (smallest > 0 && smallest <= largest).then_some(smallest..=largest);
        Self { range, ..Self::default() }
    }

    /// Takes the wishes of an app in; apps that have other ports now.
    pub fn set(&mut self, id: &str, app: Option<&App>) -> BTreeSet<String> {
        let ports = app.map(|app| app.ports.as_slice()).unwrap_or_default();
        let wants = |(index, port): (usize, &super::model::Port)| {
            (port.number == 0 && port.own != 0 && !port.udp).then(|| ((id.to_owned(), index), port.own))
        };
        let new: BTreeMap<Wish, u16> = ports.iter().enumerate().filter_map(wants).collect();
        let first = (id.to_owned(), 0);
        let old: Vec<Wish> = self
            .wishes
            .range(first..)
            .take_while(|(wish, _)| wish.0 == id)
            .map(|(wish, _)| wish.clone())
            .collect();
        if old.iter().all(|wish| self.wishes.get(wish) == new.get(wish)) && old.len() == new.len() {
            return BTreeSet::new();
        }
        for wish in &old {
            self.wishes.remove(wish);
        }
        self.wishes.extend(new);
        let ports = self.range.as_ref().map(|range| assign(&self.wishes, range)).unwrap_or_default();
        let before = std::mem::replace(&mut self.ports, ports);
        let changed = before.iter().filter(|(wish, port)| self.ports.get(*wish) != Some(*port));
        let new = self.ports.iter().filter(|(wish, port)| before.get(*wish) != Some(*port));
        changed.chain(new).map(|((app, _), _)| app.clone()).collect()
    }

    /// The port that was assigned; none: it has one, or there was none left.
    #[must_use]
    pub fn port(&self, app: &str, index: usize) -> Option<u16> {
        self.ports.get(&(app.to_owned(), index)).copied()
    }

    /// Whether it wants one and got none.
    #[must_use]
    pub fn lacks(&self, app: &str, index: usize) -> bool {
        let wish = (app.to_owned(), index);
        self.wishes.contains_key(&wish) && !self.ports.contains_key(&wish)
    }
}

fn assign(wishes: &BTreeMap<Wish, u16>, range: &RangeInclusive<u16>) -> BTreeMap<Wish, u16> {
    let size = u32::from(*range.end() - *range.start()) + 1;
    let (mut ports, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (wish, own) in wishes {
        if taken.len() == size as usize {
            break;
        }
        let hashed = (0..TRIES).map(|attempt| {
            let hash = Sha1::digest(format!("{}-{own}-{attempt}", wish.0));
            let number = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
            range.start() + u16::try_from(number % size).unwrap_or(0)
        });
        let free = hashed.chain(range.clone()).find(|port| !taken.contains(port));
        if let Some(port) = free {
            taken.insert(port);
            ports.insert(wish.clone(), port);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::{super::model::Port, *};

    fn app(id: &str, own: &[u16]) -> App {
        let ports = own.iter().map(|own| Port { own: *own, ..Port::default() }).collect();
        App { id: id.to_owned(), ports, ..App::default() }
    }

    #[test]
    fn ports_follow_from_the_list_alone() {
        let apps: Vec<App> = (0..30).map(|number| app(&format!("/a{number}"), &[80, 443])).collect();
        let (mut one, mut other) = (Assigned::new(10_050, 10_100), Assigned::new(10_050, 10_100));
        apps.iter().for_each(|app| drop(one.set(&app.id, Some(app))));
        apps.iter().rev().for_each(|app| drop(other.set(&app.id, Some(app))));
        assert_eq!(one.ports, other.ports);
        // There are 51 for 60.
        let given: BTreeSet<u16> = one.ports.values().copied().collect();
        assert_eq!((given.len(), one.ports.len()), (51, 51));
        assert!(apps.iter().any(|app| one.lacks(&app.id, 0) || one.lacks(&app.id, 1)));
        for app in &apps {
            one.set(&app.id, None);
        }
        assert!(one.ports.is_empty() && one.wishes.is_empty());
    }

    #[test]
    fn marathon_lb_would_give_the_same() {
        let mut assigned = Assigned::new(10_050, 10_100);
        let web = app("/web", &[8080]);
        assert_eq!(assigned.set("/web", Some(&web)), BTreeSet::from(["/web".to_owned()]));
        assert_eq!(assigned.set("/web", Some(&web)), BTreeSet::new());
        // The first 32 bits of `echo -n /web-8080-0 | sha1sum`, modulo 51.
        assert_eq!(assigned.port("/web", 0), Some(10_068));
    }

    #[test]
    fn only_who_has_an_address_and_no_port_wants_one() {
        let mut assigned = Assigned::new(10_050, 10_100);
        let mut numbered = app("/n", &[80, 0]);
        numbered.ports[0].number = 10_000;
        assert!(assigned.set("/n", Some(&numbered)).is_empty());
        assert!(Assigned::new(0, 0).set("/web", Some(&app("/web", &[80]))).is_empty());
    }
}
