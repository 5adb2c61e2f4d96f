//! The servers of one backend. HAProxy cannot take servers in or out safely while it runs, but it can change the
//! address and the state of those it has: a backend has more servers than tasks, and tasks are given places.

use std::{collections::BTreeMap, net::IpAddr};

/// Where a task is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    /// Where HAProxy's checks go, when not there.
    pub check_port: Option<u16>,
}

/// What a task shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub endpoint: Endpoint,
    /// Gets nothing new.
    pub draining: bool,
}

/// One server of HAProxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The last one that it had.
    pub endpoint: Option<Endpoint>,
    pub task: Option<String>,
    /// Gets requests.
    pub ready: bool,
    /// When it became free, as a running number.
    freed: u64,
}

/// All servers of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    slots: Vec<Slot>,
    waiting: Vec<String>,
    clock: u64,
}

impl Slots {
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Tasks for which there is no place.
    pub fn waiting(&self) -> &[String] {
        &self.waiting
    }

    /// The place of a task.
    pub fn of_task(&self, task: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.task.as_deref() == Some(task))
    }

    /// Makes room; there is never less.
    pub fn grow(&mut self, count: usize) {
        if self.slots.len() < count {
            self.slots.resize(count, Slot::default());
        }
    }

    /// A place as HAProxy was found to have it, whose task is not known yet.
    pub fn adopt(&mut self, index: usize, endpoint: Endpoint, ready: bool) {
        self.grow(index + 1);
        self.slots[index] = Slot { endpoint: Some(endpoint), task: None, ready, freed: 0 };
    }

    /// Gives every task a place: the one that it has, the one that has its address, or the one that is free longest.
    pub fn set(&mut self, wanted: &BTreeMap<String, Wanted>) {
        self.clock += 1;
        for slot in &mut self.slots {
            let gone = slot.task.as_ref().is_some_and(|task| !wanted.contains_key(task));
            if gone {
                (slot.task, slot.ready, slot.freed) = (None, false, self.clock);
            }
        }
        self.waiting.clear();
        let known: BTreeMap<String, usize> = self.places();
        let mut homeless = Vec::new();
        for (task, wish) in wanted {
            match known.get(task) {
                Some(index) => self.place(*index, task, *wish),
                None => homeless.push((task, *wish)),
            }
        }
        self.house(homeless);
        for slot in &mut self.slots {
            // Adopted, and nobody's.
            slot.ready &= slot.task.is_some();
        }
    }

    fn places(&self) -> BTreeMap<String, usize> {
        let places = self.slots.iter().enumerate();
        places.filter_map(|(index, slot)| Some((slot.task.clone()?, index))).collect()
    }

    fn house(&mut self, homeless: Vec<(&String, Wanted)>) {
        if homeless.is_empty() {
            return;
        }
        let mut free: Vec<usize> =
            (0..self.slots.len()).filter(|index| self.slots[*index].task.is_none()).collect();
        free.sort_by_key(|index| (self.slots[*index].freed, *index));
        let mut rest = Vec::new();
        for (task, wish) in homeless {
            let same = free.iter().position(|index| self.slots[*index].endpoint == Some(wish.endpoint));
            match same {
                Some(at) => self.place(free.remove(at), task, wish),
                None => rest.push((task, wish)),
            }
        }
        let mut free = free.into_iter();
        for (task, wish) in rest {
            match free.next() {
                Some(index) => self.place(index, task, wish),
                None => self.waiting.push(task.clone()),
            }
        }
    }

    fn place(&mut self, index: usize, task: &str, wish: Wanted) {
        let slot = &mut self.slots[index];
        slot.endpoint = Some(wish.endpoint);
        slot.task = Some(task.to_owned());
        slot.ready = !wish.draining;
    }
}

/// What HAProxy holds of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub endpoint: Option<Endpoint>,
    pub ready: bool,
}

/// Commands that bring places nearer to what they shall be. First come those that add, so that there is always
/// somebody to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    pub adding: Vec<String>,
    pub removing: Vec<String>,
}

/// The commands for one backend, of which HAProxy has `applied`. Brings `applied` up to date.
pub fn commands(backend: &str, slots: &Slots, applied: &mut [Applied]) -> Commands {
    let mut commands = Commands::default();
    for ((number, slot), applied) in (1..).zip(slots.iter()).zip(applied) {
        let name = format!("{backend}/s{number}");
        if slot.ready
            && let Some(endpoint) = slot.endpoint
        {
            if applied.endpoint != Some(endpoint) {
                let Endpoint { ip, port, check_port } = endpoint;
                commands.adding.push(format!("set server {name} addr {ip} port {port}"));
                if let Some(check_port) = check_port {
                    commands.adding.push(format!("set server {name} check-port {check_port}"));
                }
            }
            if !applied.ready {
                commands.adding.push(format!("set server {name} state ready"));
            }
            *applied = Applied { endpoint: Some(endpoint), ready: true };
        } else if applied.ready {
            commands.removing.push(format!("set server {name} state maint"));
            applied.ready = false;
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(port: u16) -> Wanted {
        let endpoint = Endpoint { ip: [127, 0, 0, 1].into(), port, check_port: None };
        Wanted { endpoint, draining: false }
    }

    fn tasks(ports: &[u16]) -> BTreeMap<String, Wanted> {
        ports.iter().map(|port| (format!("t{port}"), wish(*port))).collect()
    }

    #[test]
    fn the_place_that_is_free_longest_is_next() {
        let mut slots = Slots::default();
        slots.grow(3);
        slots.set(&tasks(&[1, 2]));
        slots.set(&tasks(&[2]));
        slots.set(&tasks(&[2, 3]));
        assert_eq!(slots.of_task("t3"), Some(2), "the first one was in use a moment ago");
        slots.set(&tasks(&[2, 3, 4, 5]));
        assert_eq!((slots.of_task("t4"), slots.waiting()), (Some(0), &["t5".to_owned()][..]));
        slots.grow(4);
        slots.set(&tasks(&[2, 3, 4, 5]));
        assert_eq!(slots.of_task("t5"), Some(3));
    }

    #[test]
    fn an_adopted_place_is_taken_by_its_address() {
        let mut slots = Slots::default();
        slots.grow(2);
        slots.adopt(1, wish(7).endpoint, true);
        slots.set(&tasks(&[6, 7]));
        assert_eq!((slots.of_task("t7"), slots.of_task("t6")), (Some(1), Some(0)));
    }

    proptest! {
        /// However tasks come and go, HAProxy's places end up as wanted, and a command is sent only for a change.
        #[test]
        fn commands_lead_to_what_is_wanted(rounds in prop::collection::vec(prop::collection::btree_set(1u16..9, 0..6), 1..12)) {
            let mut slots = Slots::default();
            slots.grow(6);
            let mut applied = vec![Applied { endpoint: None, ready: false }; 6];
            let mut haproxy: BTreeMap<String, (String, bool)> = BTreeMap::new();
            for ports in rounds {
                let wanted = tasks(&ports.iter().copied().collect::<Vec<_>>());
                slots.set(&wanted);
                let Commands { adding, removing } = commands("b", &slots, &mut applied);
                for command in adding.iter().chain(&removing) {
                    let words: Vec<&str> = command.split(' ').collect();
                    let server = haproxy.entry(words[2].to_owned()).or_default();
                    match words[3] {
                        "addr" => server.0 = words[6].to_owned(),
                        _ => server.1 = words[4] == "ready",
                    }
                }
                let mut serving: Vec<u16> =
                    haproxy.values().filter(|(_, ready)| *ready).map(|(port, _)| port.parse().unwrap()).collect();
                serving.sort_unstable();
                prop_assert_eq!(serving, ports.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(commands("b", &slots, &mut applied), Commands::default());
            }
        }
    }
}
