use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    parse::parse_resources,
    quantities::Quantities,
    ranges::Ranges,
    reservation::Reservation,
    resource::ResourceValue,
    role::RoleName,
    scalar::Milli,
    testing::{resource, several},
};

fn resources(text: &str) -> Resources {
    parse_resources(text, &RoleName::star()).unwrap().resources
}

/// The slow, obvious form: amounts and items by identity, and a list of what is taken whole.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    amounts: BTreeMap<String, i64>,
    items: BTreeMap<String, BTreeSet<String>>,
    whole: Vec<String>,
}

impl Model {
    fn of<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Self {
        let mut model = Self::default();
        for resource in resources.into_iter().filter(|r| !r.value.is_empty()) {
            if !resource.is_divisible() {
                model.whole.push(format!("{resource:?}"));
                continue;
            }
            let key = |empty| format!("{:?}", resource.with_value(empty));
            match &resource.value {
                ResourceValue::Scalar(amount) => {
                    *model.amounts.entry(key(ResourceValue::Scalar(Milli::ZERO))).or_default() += amount.0;
                }
                ResourceValue::Ranges(ranges) => {
                    let items = model.items.entry(key(ResourceValue::Ranges(Ranges::default()))).or_default();
                    items.extend(ranges.values().map(|value| value.to_string()));
                }
                ResourceValue::Set(set) => {
                    let items = model.items.entry(key(ResourceValue::Set(Default::default()))).or_default();
                    items.extend(set.iter().map(str::to_owned));
                }
            }
        }
        model.whole.sort();
        model
    }

    fn subtract(mut self, other: &Model) -> Self {
        for (key, amount) in &other.amounts {
            self.amounts.entry(key.clone()).and_modify(|have| *have -= amount);
        }
        for (key, items) in &other.items {
            self.items.entry(key.clone()).and_modify(|have| *have = &*have - items);
        }
        for whole in &other.whole {
            if let Some(at) = self.whole.iter().position(|have| have == whole) {
                self.whole.remove(at);
            }
        }
        self.amounts.retain(|_, amount| *amount > 0);
        self.items.retain(|_, items| !items.is_empty());
        self
    }

    fn contains(&self, other: &Model) -> bool {
        let count = |list: &[String], item: &String| list.iter().filter(|i| *i == item).count();
        other.amounts.iter().all(|(key, amount)| self.amounts.get(key).is_some_and(|have| have >= amount))
            && other
                .items
                .iter()
                .all(|(key, items)| self.items.get(key).is_some_and(|have| have.is_superset(items)))
            && other.whole.iter().all(|item| count(&self.whole, item) >= count(&other.whole, item))
    }

    fn entries(&self) -> usize {
        self.amounts.len() + self.items.len() + self.whole.len()
    }
}

proptest! {
    #[test]
    fn addition_subtraction_and_inclusion_are_those_of_the_model(a in several(), b in several()) {
        let (left, right): (Resources, Resources) = (a.iter().cloned().collect(), b.iter().cloned().collect());
        let (model_a, model_b) = (Model::of(&a), Model::of(&b));
        prop_assert_eq!(&Model::of(&left), &model_a);
        prop_assert_eq!(left.len(), model_a.entries());

        let mut sum = left.clone();
        sum += &right;
        let both = Model::of(a.iter().chain(&b));
        prop_assert_eq!(&Model::of(&sum), &both);
        prop_assert_eq!(sum.len(), both.entries());
        prop_assert_eq!(&sum, &b.iter().chain(&a).cloned().collect::<Resources>());

        let mut difference = left.clone();
        difference -= &right;
        prop_assert_eq!(&Model::of(&difference), &model_a.clone().subtract(&model_b));
        prop_assert_eq!(left.contains(&right), model_a.contains(&model_b));
        prop_assert_eq!(left.checked_sub(&right), left.contains(&right).then_some(difference));
        prop_assert!(sum.contains(&left) && sum.contains(&right) && left.contains(&left));
        prop_assert_eq!(left == right, model_a == model_b);
    }

    #[test]
    fn one_resource_is_contained_as_a_set_of_one(a in several(), b in resource()) {
        let all: Resources = a.into_iter().collect();
        prop_assert_eq!(all.contains_one(&b), all.contains(&Resources::from(b)));
    }

    #[test]
    fn sums_do_not_depend_on_reservations(a in several()) {
        let all: Resources = a.iter().filter(|resource| !resource.shared).cloned().collect();
        let sum: i64 = a.iter().filter(|r| &*r.name == "cpus").filter_map(Resource::amount).map(|m| m.0).sum();
        prop_assert_eq!(all.cpus(), Milli(sum));
        prop_assert_eq!(all.to_unreserved().scalars(), all.scalars());
        prop_assert_eq!(all.scalars().get("cpus"), all.cpus());
        let ports: BTreeSet<u64> = a.iter().filter_map(Resource::as_ranges).flat_map(Ranges::values).collect();
        prop_assert_eq!(all.ports().values().collect::<BTreeSet<_>>(), ports);
    }

    #[test]
    fn allocating_and_reserving_can_be_undone(a in several()) {
        let role = RoleName::new("eng");
        let free = a.into_iter().collect::<Resources>().unallocated();
        let given = free.allocate(&role);
        prop_assert!(given.iter().all(|resource| resource.allocation.as_ref() == Some(&role)));
        prop_assert_eq!(&given.unallocated(), &free);
        let reserved = free.push_reservation(&Reservation::dynamic(RoleName::new("eng/web/x"), None));
        prop_assert_eq!(reserved.pop_reservation(), free);
    }

    #[test]
    fn every_entry_falls_into_one_group(a in several()) {
        let all: Resources = a.into_iter().collect();
        let mut sum = all.unreserved();
        for (role, reserved) in all.reservations() {
            prop_assert_eq!(&all.reserved_to(role.as_str()), &reserved);
            sum += &reserved;
        }
        prop_assert_eq!(&sum, &all);
        let mut parts = all.revocable();
        parts += &all.non_revocable();
        prop_assert_eq!(parts, all);
    }

    #[test]
    fn taking_moves_what_is_wanted_or_nothing(a in several(), cpus in 0i64..6, count in 0u64..12, port in 0u64..14) {
        let all: Resources = a.into_iter().collect();
        let role = RoleName::new("eng");
        let rank = rank_for_role(&role);
        let usable = all.filter(|resource| rank(resource).is_some());
        let wanted = Wanted {
            scalars: Quantities::from_iter([("cpus", Milli(cpus * 500))]),
            ports: Ranges::of(port, port),
            any_ports: count,
        };
        // Entries of several identities may hold the same port, and each can give it: they count one by one.
        let have_ports: u64 = usable.iter().filter_map(Resource::as_ranges).map(Ranges::count).sum();
        let possible = usable.cpus() >= Milli(cpus * 500) && usable.ports().contains(port) && have_ports > count;
        let mut rest = all.clone();
        match rest.take(&wanted, &rank) {
            Ok(taken) => {
                prop_assert!(possible);
                prop_assert_eq!(taken.cpus(), Milli(cpus * 500));
                prop_assert!(taken.ports().contains(port));
                let ports: u64 = taken.iter().filter_map(Resource::as_ranges).map(Ranges::count).sum();
                prop_assert_eq!(ports, count + 1);
                rest += &taken;
                prop_assert_eq!(rest, all);
            }
            Err(_) => {
                prop_assert!(!possible);
                prop_assert_eq!(rest, all);
            }
        }
    }
}

#[test]
fn tenths_add_up() {
    let mut sum = Resources::new();
    for _ in 0..10 {
        sum += &resources("cpus:0.1");
    }
    assert_eq!(sum, resources("cpus:1"));
    sum -= &resources("cpus:1");
    assert!(sum.is_empty());
}

#[test]
fn a_mounted_disk_is_taken_whole() {
    let text = r#"[{"name":"disk","type":"SCALAR","scalar":{"value":2048},"disk":{"source":{"type":"MOUNT","mount":{"root":"/m"}}}}]"#;
    let mount = resources(text);
    let half =
        mount.iter().map(|r| r.with_value(ResourceValue::Scalar(Milli::whole(1024)))).collect::<Resources>();
    assert!(mount.contains(&mount) && !mount.contains(&half));
    let mut two = mount.clone();
    two += &mount;
    assert_eq!((two.len(), two.disk()), (2, Milli::whole(4096)));
    assert!(resources("disk:9999").checked_sub(&mount).is_none());
}

#[test]
fn a_shared_volume_counts_once() {
    let text = r#"[{"name":"disk","type":"SCALAR","scalar":{"value":10},"shared":{},"reservations":[{"type":"DYNAMIC","role":"eng"}],
        "disk":{"persistence":{"id":"v"},"volume":{"container_path":"p","mode":"RW"}}}]"#;
    let volume = resources(text);
    let mut two = volume.clone();
    two += &volume;
    assert_eq!((two.len(), two.disk(), two.scalars().get("disk")), (2, Milli::whole(10), Milli::whole(10)));
    assert_eq!(two.distinct(), volume);
    assert!(two.contains(&two) && !volume.contains(&two));
    assert_eq!(two.persistent_volumes(), two);
}

#[test]
fn reservations_are_visible_downwards_only() {
    let all = resources("cpus:1;cpus(eng):2;cpus(eng/web):4;cpus(ops):8");
    for (role, cpus) in
        [("eng", 3), ("eng/web", 7), ("eng/web/x", 7), ("ops", 9), ("other", 1), ("engine", 1)]
    {
        assert_eq!(all.allocatable_to(role).cpus(), Milli::whole(cpus), "{role}");
    }
}

#[test]
fn reserved_resources_are_used_first() {
    let mut offer = resources("cpus:4;cpus(eng):1;cpus(eng/web):1;cpus(ops):8;ports:[1-2];ports(eng):[9-9]");
    let role = RoleName::new("eng/web");
    let wanted = Wanted {
        scalars: Quantities::from_iter([("cpus", Milli(2500))]),
        any_ports: 2,
        ..Default::default()
    };
    let taken = offer.take(&wanted, rank_for_role(&role)).unwrap();
    assert_eq!(taken, resources("cpus:0.5;cpus(eng):1;cpus(eng/web):1;ports:[1-1];ports(eng):[9-9]"));
    assert_eq!(offer, resources("cpus:3.5;cpus(ops):8;ports:[2-2]"));

    let too_much =
        Wanted { scalars: Quantities::from_iter([("cpus", Milli::whole(4))]), ..Default::default() };
    let shortage = offer.take(&too_much, rank_for_role(&role)).unwrap_err();
    assert_eq!(shortage.to_string(), "4 cpus wanted, 3.5 available");
}

#[test]
fn converting_needs_all_that_is_consumed() {
    let mut all = resources("cpus:4");
    let reserved = resources("cpus(eng):3");
    assert!(!all.convert(&resources("cpus:5"), &reserved));
    assert_eq!(all, resources("cpus:4"));
    assert!(all.convert(&resources("cpus:3"), &reserved));
    assert_eq!(all.to_string(), "cpus:1; cpus(static: eng):3");
}
