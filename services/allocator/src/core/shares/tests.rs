//! Order of service.

use meshos_types::Milli;

use super::*;

fn quantities(cpus: i64, mem: i64) -> Quantities {
    [("cpus", Milli::whole(cpus)), ("mem", Milli::whole(mem))].into_iter().collect()
}

fn first(shares: &Shares, role: &RoleName) -> String {
    shares.next_framework(role, None).unwrap().2.to_string()
}

#[test]
fn mesos_c22_the_lower_dominant_share_is_served_first() {
    let (role, a, b) = (RoleName::star(), FrameworkId::new("a"), FrameworkId::new("b"));
    let mut shares = Shares::new(BTreeSet::new());
    shares.add_total(&quantities(10, 1000));
    shares.set_active(&role, &a, true);
    shares.set_active(&role, &b, true);
    shares.refresh();
    assert_eq!(first(&shares, &role), "a");
    shares.add(&role, &a, &quantities(1, 500), true);
    shares.add(&role, &b, &quantities(3, 0), true);
    assert_eq!(first(&shares, &role), "b", "0.5 of the memory is more than 0.3 of the cpus");
    shares.remove(&role, &a, &quantities(1, 500));
    assert_eq!(first(&shares, &role), "a");
}

#[test]
fn a_change_of_the_total_changes_the_order() {
    let (role, a, b) = (RoleName::star(), FrameworkId::new("a"), FrameworkId::new("b"));
    let mut shares = Shares::new(BTreeSet::new());
    shares.add_total(&quantities(10, 1000));
    shares.set_active(&role, &a, true);
    shares.set_active(&role, &b, true);
    shares.add(&role, &a, &quantities(2, 0), true);
    shares.add(&role, &b, &quantities(0, 300), true);
    shares.refresh();
    assert_eq!(first(&shares, &role), "a");
    shares.add_total(&quantities(0, 9000));
    shares.refresh();
    assert_eq!(first(&shares, &role), "b");
}

#[test]
fn an_excluded_resource_does_not_count() {
    let (role, a, b) = (RoleName::star(), FrameworkId::new("a"), FrameworkId::new("b"));
    let mut shares = Shares::new(BTreeSet::from(["cpus".to_owned()]));
    shares.add_total(&quantities(10, 1000));
    shares.set_active(&role, &a, true);
    shares.set_active(&role, &b, true);
    shares.add(&role, &a, &quantities(9, 1), true);
    shares.add(&role, &b, &quantities(1, 2), true);
    assert_eq!(first(&shares, &role), "a");
}

fn order(shares: &Shares) -> Vec<String> {
    let mut cursor = RoleCursor::default();
    std::iter::from_fn(|| shares.next_role(&mut cursor)).map(|role| role.to_string()).collect()
}

fn tree(held: &[(&str, i64)]) -> Shares {
    let mut shares = Shares::new(BTreeSet::new());
    shares.add_total(&quantities(100, 1000));
    for (role, cpus) in held {
        let (role, framework) = (RoleName::new(*role), FrameworkId::new(*role));
        shares.set_active(&role, &framework, true);
        shares.add(&role, &framework, &quantities(*cpus, 0), true);
    }
    shares.refresh();
    shares
}

#[test]
fn a_role_counts_with_everything_below_it() {
    let shares = tree(&[("a/x", 10), ("a/y", 1), ("b", 8)]);
    assert_eq!(order(&shares), ["b", "a/y", "a/x"]);
}

#[test]
fn a_roles_own_frameworks_compete_with_its_children() {
    let shares = tree(&[("a", 5), ("a/x", 3), ("a/y", 7)]);
    assert_eq!(order(&shares), ["a/x", "a", "a/y"]);
}

#[test]
fn a_share_is_divided_by_the_weight_of_its_level() {
    let mut shares = tree(&[("a/x", 10), ("a/y", 1), ("b", 8)]);
    shares.set_weight(&RoleName::new("a"), 2.0);
    assert_eq!(order(&shares), ["a/y", "a/x", "b"]);
    shares.set_weight(&RoleName::new("a/x"), 20.0);
    assert_eq!(order(&shares), ["a/x", "a/y", "b"]);
    shares.set_weight(&RoleName::new("a"), 1.0);
    assert_eq!(order(&shares), ["b", "a/x", "a/y"]);
}

#[test]
fn a_role_that_nobody_uses_is_forgotten() {
    let mut shares = tree(&[("a/x/z", 10)]);
    let (role, framework) = (RoleName::new("a/x/z"), FrameworkId::new("a/x/z"));
    assert!(shares.is_known(&RoleName::new("a")) && shares.is_active(&RoleName::new("a/x")));
    shares.set_active(&role, &framework, false);
    assert!(order(&shares).is_empty() && shares.is_known(&RoleName::new("a")));
    shares.remove(&role, &framework, &quantities(10, 0));
    assert!(!shares.is_known(&RoleName::new("a")) && !shares.is_known(&role));
}
