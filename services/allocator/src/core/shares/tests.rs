//! Order of service.

use meshos_types::Milli;

use super::*;
use crate::core::table::Table;

fn quantities(cpus: i64, mem: i64) -> Quantities {
    [("cpus", Milli::whole(cpus)), ("mem", Milli::whole(mem))].into_iter().collect()
}

/// Shares with frameworks that go by their names.
struct Fixture {
    shares: Shares,
    frameworks: Table<FrameworkId, ()>,
}

impl Fixture {
    fn new(cpus: i64, mem: i64) -> Self {
        Self::without(cpus, mem, &[])
    }

    fn without(cpus: i64, mem: i64, excluded: &[&str]) -> Self {
        let mut shares = Shares::new(excluded.iter().map(|name| (*name).to_owned()).collect());
        shares.change_total(&Quantities::new(), &quantities(cpus, mem));
        Self { shares, frameworks: Table::default() }
    }

    fn key(&mut self, framework: &str) -> (FrameworkKey, FrameworkId) {
        let id = FrameworkId::new(framework);
        let key = self.frameworks.key(&id);
        (key.unwrap_or_else(|| self.frameworks.insert(id.clone(), ())), id)
    }

    fn activate(&mut self, role: &str, framework: &str, active: bool) {
        let (key, id) = self.key(framework);
        self.shares.set_active(&RoleName::new(role), (key, &id), active, false);
    }

    fn add(&mut self, role: &str, framework: &str, cpus: i64, mem: i64) {
        let (key, id) = self.key(framework);
        let role = self.shares.enter(&RoleName::new(role));
        self.shares.add(role, (key, &id), &quantities(cpus, mem), true);
    }

    fn remove(&mut self, role: &str, framework: &str, cpus: i64, mem: i64) {
        let (key, _) = self.key(framework);
        let role = self.shares.enter(&RoleName::new(role));
        self.shares.remove(role, key, &quantities(cpus, mem));
    }

    /// The frameworks of a role in order.
    fn frameworks(&mut self, role: &str) -> Vec<String> {
        self.shares.refresh();
        let role = self.shares.enter(&RoleName::new(role));
        let mut rank = None;
        let ranks = std::iter::from_fn(|| {
            rank = self.shares.next_framework(role, rank.as_ref());
            rank
        });
        ranks.map(|rank| self.frameworks.id_at(rank.key).unwrap().to_string()).collect()
    }

    /// The roles in order.
    fn roles(&mut self, walk: Walk) -> Vec<String> {
        self.shares.refresh();
        let mut cursor = RoleCursor::default();
        self.shares.begin(&mut cursor, walk);
        let roles = std::iter::from_fn(|| self.shares.next_role(&mut cursor));
        roles.map(|role| self.shares.name(role).unwrap().to_string()).collect()
    }
}

#[test]
fn mesos_c22_the_lower_dominant_share_is_served_first() {
    let mut shares = Fixture::new(10, 1000);
    shares.activate("*", "b", true);
    shares.activate("*", "a", true);
    assert_eq!(shares.frameworks("*"), ["a", "b"], "by name where all else is equal");
    shares.add("*", "a", 1, 500);
    shares.add("*", "b", 3, 0);
    assert_eq!(shares.frameworks("*"), ["b", "a"], "0.5 of the memory is more than 0.3 of the cpus");
    shares.remove("*", "a", 1, 500);
    assert_eq!(shares.frameworks("*"), ["a", "b"]);
}

#[test]
fn a_change_of_the_total_changes_the_order() {
    let mut shares = Fixture::new(10, 1000);
    shares.activate("*", "a", true);
    shares.activate("*", "b", true);
    shares.add("*", "a", 2, 0);
    shares.add("*", "b", 0, 300);
    assert_eq!(shares.frameworks("*"), ["a", "b"]);
    shares.shares.change_total(&Quantities::new(), &quantities(0, 9000));
    assert_eq!(shares.frameworks("*"), ["b", "a"]);
}

#[test]
fn an_excluded_resource_does_not_count() {
    let mut shares = Fixture::without(10, 1000, &["cpus"]);
    shares.activate("*", "a", true);
    shares.activate("*", "b", true);
    shares.add("*", "a", 9, 1);
    shares.add("*", "b", 1, 2);
    assert_eq!(shares.frameworks("*"), ["a", "b"]);
}

#[test]
fn names_keep_their_order_when_there_is_no_number_between_two() {
    let mut shares = Fixture::new(10, 1000);
    shares.activate("*", "a", true);
    let mut names: Vec<_> = (0..70).map(|n| format!("b{}", 99 - n)).collect();
    for name in &names {
        shares.activate("*", name, true);
        shares.activate(name, "x", true);
    }
    names.reverse();
    assert_eq!(shares.roles(Walk::All)[1..], names);
    names.insert(0, "a".to_owned());
    assert_eq!(shares.frameworks("*"), names);
}

fn tree(held: &[(&str, i64)]) -> Fixture {
    let mut shares = Fixture::new(100, 1000);
    for (role, cpus) in held {
        shares.activate(role, role, true);
        shares.add(role, role, *cpus, 0);
    }
    shares
}

#[test]
fn a_role_counts_with_everything_below_it() {
    let mut shares = tree(&[("a/x", 10), ("a/y", 1), ("b", 8)]);
    assert_eq!(shares.roles(Walk::All), ["b", "a/y", "a/x"]);
}

#[test]
fn a_roles_own_frameworks_compete_with_its_children() {
    let mut shares = tree(&[("a", 5), ("a/x", 3), ("a/y", 7)]);
    assert_eq!(shares.roles(Walk::All), ["a/x", "a", "a/y"]);
    let place = |shares: &mut Fixture, role: &str| {
        let (key, _) = shares.key(role);
        (shares.shares.enter(&RoleName::new(role)), key)
    };
    let (own, x, y) = (place(&mut shares, "a"), place(&mut shares, "a/x"), place(&mut shares, "a/y"));
    assert!(shares.shares.compare(x, own).is_lt() && shares.shares.compare(own, y).is_lt());
}

#[test]
fn a_share_is_divided_by_the_weight_of_its_level() {
    let mut shares = tree(&[("a/x", 10), ("a/y", 1), ("b", 8)]);
    shares.shares.set_weight(&RoleName::new("a"), 2.0);
    assert_eq!(shares.roles(Walk::All), ["a/y", "a/x", "b"]);
    shares.shares.set_weight(&RoleName::new("a/x"), 20.0);
    assert_eq!(shares.roles(Walk::All), ["a/x", "a/y", "b"]);
    shares.shares.set_weight(&RoleName::new("a"), 1.0);
    assert_eq!(shares.roles(Walk::All), ["b", "a/x", "a/y"]);
}

#[test]
fn quota_tells_which_roles_a_walk_meets() {
    let mut shares = tree(&[("a/x", 10), ("a/y", 1), ("b", 8), ("c", 1)]);
    let (closed, needy) = (Standing { closed: true, needy: false }, Standing { closed: false, needy: true });
    shares.shares.set_standing(&RoleName::new("a"), closed);
    shares.shares.set_standing(&RoleName::new("b"), needy);
    assert_eq!(shares.roles(Walk::All), ["c", "b", "a/y", "a/x"]);
    assert_eq!(shares.roles(Walk::Open), ["c", "b"]);
    assert_eq!(shares.roles(Walk::Needy), ["b"]);
    shares.add("c", "c", 20, 0);
    shares.remove("a/x", "a/x", 10, 0);
    shares.shares.set_standing(&RoleName::new("a"), needy);
    assert_eq!(shares.roles(Walk::Open), ["a/x", "a/y", "b", "c"]);
    assert_eq!(shares.roles(Walk::Needy), ["a/x", "a/y", "b"]);
    // A role that comes later finds its standing.
    shares.shares.set_standing(&RoleName::new("d"), closed);
    shares.activate("d/e", "d", true);
    assert_eq!(shares.roles(Walk::Open).len(), 4);
    assert_eq!(shares.roles(Walk::All).len(), 5);
}

#[test]
fn a_role_that_nobody_uses_is_forgotten() {
    let mut shares = tree(&[("a/x/z", 10)]);
    let is_known = |shares: &Fixture, role: &str| shares.shares.is_known(&RoleName::new(role));
    assert!(is_known(&shares, "a") && shares.shares.is_active(&RoleName::new("a/x")));
    shares.activate("a/x/z", "a/x/z", false);
    assert!(shares.roles(Walk::All).is_empty() && is_known(&shares, "a"));
    shares.remove("a/x/z", "a/x/z", 10, 0);
    assert!(!is_known(&shares, "a") && !is_known(&shares, "a/x/z"));
}

/// Who was served, with everybody hungry.
fn served(roles: &[(&str, f64)], frameworks: &[(&str, &str)], turns: usize) -> Vec<(String, String)> {
    let mut fixture = Fixture::new(1_000_000, 1_000_000);
    let shares = std::mem::take(&mut fixture.shares);
    fixture.shares = shares.by_chance(Some(Luck::new(7)), Some(Luck::new(8)));
    for (role, weight) in roles {
        fixture.shares.set_weight(&RoleName::new(*role), *weight);
    }
    for (role, framework) in frameworks {
        fixture.activate(role, framework, true);
    }
    let serve = |_| {
        fixture.shares.refresh();
        let mut cursor = RoleCursor::default();
        fixture.shares.begin(&mut cursor, Walk::All);
        let role = fixture.shares.next_role(&mut cursor).unwrap();
        let first = fixture.shares.next_framework(role, None).unwrap();
        let role = fixture.shares.name(role).unwrap().to_string();
        let framework = fixture.frameworks.id_at(first.key).unwrap().to_string();
        fixture.add(&role, &framework, 1, 1);
        (role, framework)
    };
    (0..turns).map(serve).collect()
}

#[test]
fn chance_serves_roles_by_their_weights_whoever_was_served_before() {
    const TURNS: usize = 6000;
    let roles = [("a", 2.0), ("b", 1.0), ("b/c", 3.0)];
    let served = served(&roles, &[("a", "f"), ("a", "g"), ("b", "h"), ("b/c", "i")], TURNS);
    let part = |is: &dyn Fn(&(String, String)) -> bool| {
        f64::from(u32::try_from(served.iter().filter(|turn| is(turn)).count()).unwrap()) / 6000.0
    };
    let near = |part: f64, wanted: f64| assert!((part - wanted).abs() < 0.03, "{part} for {wanted}");
    near(part(&|(role, _)| role == "a"), 2.0 / 3.0);
    near(part(&|(_, framework)| framework == "f"), 1.0 / 3.0);
    near(part(&|(_, framework)| framework == "g"), 1.0 / 3.0);
    // The frameworks of `b` itself compete with weight 1 with the role below it.
    near(part(&|(_, framework)| framework == "h"), 1.0 / 3.0 / 4.0);
    near(part(&|(_, framework)| framework == "i"), 1.0 / 3.0 * 3.0 / 4.0);
    let again = served.windows(2).filter(|turns| turns[0].0 == "a" && turns[1].0 == "a").count();
    near(f64::from(u32::try_from(again).unwrap()) / 6000.0, 4.0 / 9.0);
}
