//! Which backend answers for a virtual host and a path: the rules of all services, ordered as marathon-lb orders
//! them, brought into maps that HAProxy looks a request up in once, however many there are.
//!
//! Rules are looked at by weight, the greatest first; of equal ones the longer path comes first, then the app's id. A
//! rule that an earlier one covers never answers. Once those are left out, the longest prefix that fits is the first
//! rule that fits.

use std::collections::{BTreeMap, BTreeSet};

/// One host and path of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// In lower case; `*.example.com` for any subdomain.
    pub host: String,
    pub path: String,
    pub ignore_case: bool,
    pub weight: i64,
    /// App or deployment group.
    pub unit: String,
    pub index: usize,
    pub backend: String,
}

impl Rule {
    fn covers(&self, other: &Self) -> bool {
        match (self.ignore_case, other.ignore_case) {
            (false, false) => other.path.starts_with(&self.path),
            (true, _) => other.path.to_ascii_lowercase().starts_with(&self.path.to_ascii_lowercase()),
            (false, true) => self.path == "/",
        }
    }
}

/// A map of HAProxy, or rather its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Map {
    /// `host/path` to backend, longest prefix.
    Paths,
    /// The same in lower case, for paths whose case does not matter.
    PathsIgnoreCase,
    /// `.example.com` to backend, by suffix.
    Wildcards,
    /// Backends whose hosts are to be asked for over HTTPS.
    Redirects,
    /// App id to backend.
    Apps,
}

impl Map {
    pub const ALL: [Self; 5] =
        [Self::Paths, Self::PathsIgnoreCase, Self::Wildcards, Self::Redirects, Self::Apps];

    /// Name of the file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Paths => "paths.map",
            Self::PathsIgnoreCase => "paths_ignore_case.map",
            Self::Wildcards => "wildcards.map",
            Self::Redirects => "redirects.map",
            Self::Apps => "apps.map",
        }
    }
}

/// The rules of all services, by host.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    by_host: BTreeMap<String, BTreeSet<Rule>>,
    by_unit: BTreeMap<String, Vec<Rule>>,
}

/// A rule that never answers, and the unit that answers instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    pub rule: Rule,
    pub by: String,
}

impl Rules {
    /// Replaces the rules of a unit. Returns the hosts to look at again.
    pub fn set(&mut self, unit: &str, rules: Vec<Rule>) -> BTreeSet<String> {
        let old = self.by_unit.remove(unit).unwrap_or_default();
        if old == rules {
            self.keep(unit, rules);
            return BTreeSet::new();
        }
        let mut hosts = BTreeSet::new();
        for rule in &old {
            if let Some(of_host) = self.by_host.get_mut(&rule.host) {
                of_host.remove(rule);
                if of_host.is_empty() {
                    self.by_host.remove(&rule.host);
                }
            }
            hosts.insert(rule.host.clone());
        }
        for rule in &rules {
            self.by_host.entry(rule.host.clone()).or_default().insert(rule.clone());
            hosts.insert(rule.host.clone());
        }
        self.keep(unit, rules);
        hosts
    }

    fn keep(&mut self, unit: &str, rules: Vec<Rule>) {
        if !rules.is_empty() {
            self.by_unit.insert(unit.to_owned(), rules);
        }
    }

    /// The entries of a host, and the rules that never answer.
    pub fn host(&self, host: &str) -> (Vec<(Map, String, String)>, Vec<Covered>) {
        let mut rules: Vec<&Rule> = self.by_host.get(host).into_iter().flatten().collect();
        rules.sort_by(|a, b| {
            let first = (b.weight, b.path.len()).cmp(&(a.weight, a.path.len()));
            first.then_with(|| (&a.unit, a.index).cmp(&(&b.unit, b.index)))
        });
        let (mut taken, mut covered): (Vec<&Rule>, Vec<Covered>) = (Vec::new(), Vec::new());
        for rule in rules {
            match taken.iter().find(|earlier| earlier.covers(rule)) {
                Some(earlier) if earlier.unit == rule.unit && earlier.index == rule.index => {}
                Some(earlier) => covered.push(Covered { rule: rule.clone(), by: earlier.unit.clone() }),
                None => taken.push(rule),
            }
        }
        (taken.into_iter().map(entry).collect(), covered)
    }
}

fn entry(rule: &Rule) -> (Map, String, String) {
    let (map, key) = match rule.host.strip_prefix('*') {
        Some(suffix) => (Map::Wildcards, suffix.to_owned()),
        None if rule.ignore_case => {
            (Map::PathsIgnoreCase, format!("{}{}", rule.host, rule.path.to_ascii_lowercase()))
        }
        None => (Map::Paths, format!("{}{}", rule.host, rule.path)),
    };
    (map, key, rule.backend.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(unit: &str, path: &str, weight: i64) -> Rule {
        Rule {
            host: "h".into(),
            path: path.into(),
            ignore_case: false,
            weight,
            unit: unit.into(),
            index: 0,
            backend: unit.into(),
        }
    }

    fn answers(rules: &Rules, path: &str) -> Option<String> {
        let (entries, _) = rules.host("h");
        let request = format!("h{path}");
        let fits = entries.into_iter().filter(|(_, key, _)| request.starts_with(key.as_str()));
        fits.max_by_key(|(_, key, _)| key.len()).map(|(.., backend)| backend)
    }

    /// As marathon-lb does it: one rule after the other.
    fn slowly(all: &[Rule], path: &str) -> Option<String> {
        let mut all: Vec<&Rule> = all.iter().collect();
        all.sort_by_key(|rule| (-rule.weight, std::cmp::Reverse(rule.path.len()), rule.unit.clone()));
        all.into_iter().find(|rule| path.starts_with(&rule.path)).map(|rule| rule.backend.clone())
    }

    #[test]
    fn the_heavier_then_the_longer_then_the_first_wins() {
        let mut rules = Rules::default();
        rules.set("root", vec![rule("root", "/", 0)]);
        rules.set("api", vec![rule("api", "/api", 1)]);
        rules.set("v2", vec![rule("v2", "/api/v2", 1)]);
        for (path, backend) in [("/x", "root"), ("/api/1", "api"), ("/api/v2/z", "v2")] {
            assert_eq!(answers(&rules, path).as_deref(), Some(backend));
        }
        rules.set("all", vec![rule("all", "/", 5)]);
        assert_eq!(answers(&rules, "/api/1").as_deref(), Some("all"));
        assert_eq!(rules.host("h").1.len(), 3);
        assert_eq!(rules.set("all", Vec::new()), BTreeSet::from(["h".to_owned()]));
        assert_eq!(answers(&rules, "/api/1").as_deref(), Some("api"));
    }

    proptest! {
        #[test]
        fn the_longest_prefix_is_the_first_rule_that_fits(
            given in prop::collection::vec((0usize..6, -1i64..3), 1..8), request in "(/a|/b|/ab){0,4}"
        ) {
            let paths = ["/", "/a", "/a/b", "/ab", "/b", "/b/a/b"];
            let all: Vec<Rule> = given.iter().enumerate()
                .map(|(i, (path, weight))| rule(&format!("u{i}"), paths[*path], *weight)).collect();
            let mut rules = Rules::default();
            for rule in &all {
                rules.set(&rule.unit, vec![rule.clone()]);
            }
            let request = format!("{request}/");
            prop_assert_eq!(answers(&rules, &request), slowly(&all, &request));
        }
    }
}
