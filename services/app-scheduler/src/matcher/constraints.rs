//! Placement constraints (Marathon's operators).

use std::{collections::BTreeMap, sync::Arc};

use meshos_proto::{
    meshos::apps::v1::{App, Constraint, Instance},
    mesos::v1::{self as pb, value},
};

use regex::Regex;

use crate::validate::full_match;

/// Compiled patterns that are kept; each may take some hundred KiB.
const PATTERNS_KEPT: usize = 256;

/// Compiled patterns of LIKE and UNLIKE by their text, kept because compiling costs far more than matching.
#[derive(Debug, Default)]
pub struct Patterns(BTreeMap<String, Option<Arc<Regex>>>);

impl Patterns {
    /// For each constraint of `app`; none where there is none, and for one that is not valid, which then matches
    /// nothing.
    pub fn of(&mut self, app: &App) -> Vec<Option<Arc<Regex>>> {
        app.constraints.iter().map(|constraint| self.get(constraint)).collect()
    }

    fn get(&mut self, constraint: &Constraint) -> Option<Arc<Regex>> {
        if !matches!(constraint.operator.as_str(), "LIKE" | "UNLIKE") {
            return None;
        }
        let text = constraint.value.as_deref()?;
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= PATTERNS_KEPT {
            self.0.clear();
        }
        let pattern = full_match(text).ok().map(Arc::new);
        self.0.insert(text.to_owned(), pattern.clone());
        pattern
    }
}

/// Text values by field of the agent that an instance is on.
pub type Placed = BTreeMap<String, String>;

/// The text form of a field of the offering agent; none when it has no such field.
pub fn field_value(offer: &pb::Offer, field: &str) -> Option<String> {
    let domain = || offer.domain.as_ref()?.fault_domain.as_ref();
    match field {
        "hostname" | "@hostname" => Some(offer.hostname.clone()),
        "@region" => domain().map(|domain| domain.region.name.clone()),
        "@zone" => domain().map(|domain| domain.zone.name.clone()),
        name => offer.attributes.iter().find(|attribute| attribute.name == name).and_then(text),
    }
}

/// What the constraints of `app` look at, read from an offer.
pub fn fields(app: &App, offer: &pb::Offer) -> Placed {
    let fields = app.constraints.iter().map(|constraint| &constraint.field);
    fields.filter_map(|field| Some((field.clone(), field_value(offer, field)?))).collect()
}

/// As [`fields`], of an instance that was placed before.
pub fn placed(app: &App, instance: &Instance) -> Placed {
    let value = |field: &String| match field.as_str() {
        "hostname" | "@hostname" => Some(instance.host.clone()),
        field => instance.attributes.get(field).cloned(),
    };
    let fields = app.constraints.iter().map(|constraint| &constraint.field);
    fields.filter_map(|field| Some((field.clone(), value(field)?))).collect()
}

/// Marathon's text form of an attribute.
fn text(attribute: &pb::Attribute) -> Option<String> {
    match attribute.r#type() {
        value::Type::Scalar => attribute.scalar.as_ref().map(|scalar| number(scalar.value)),
        value::Type::Text => attribute.text.as_ref().map(|text| text.value.clone()),
        value::Type::Set => {
            let mut items = attribute.set.as_ref()?.item.clone();
            items.sort();
            Some(format!("{{{}}}", items.join(",")))
        }
        value::Type::Ranges => {
            let ranges = attribute.ranges.as_ref()?;
            let mut pairs: Vec<_> = ranges.range.iter().map(|range| (range.begin, range.end)).collect();
            pairs.sort_unstable();
            let pairs: Vec<_> = pairs.into_iter().map(|(begin, end)| format!("{begin}-{end}")).collect();
            Some(format!("[{}]", pairs.join(",")))
        }
    }
}

/// At most three decimals, half to even, without trailing zeros.
fn number(value: f64) -> String {
    let rounded = (value * 1000.0).round_ties_even() / 1000.0;
    format!("{rounded}")
}

/// An app's constraints and where its instances are.
#[derive(Debug)]
pub struct Spread<'a> {
    app: &'a App,
    /// For each constraint: instances by value.
    counts: Vec<BTreeMap<String, usize>>,
    /// For each constraint: the value of the first instance that was placed.
    first: Vec<Option<String>>,
    /// From [`Patterns::of`].
    patterns: &'a [Option<Arc<Regex>>],
    /// For each GROUP_BY without a number: how many offers each value has that may still be used.
    open: Vec<BTreeMap<String, usize>>,
    /// Groups without room are not waited for.
    relaxed: bool,
}

impl<'a> Spread<'a> {
    /// `placed` in the order in which they were placed.
    pub fn new(app: &'a App, placed: &[Placed], patterns: &'a [Option<Arc<Regex>>]) -> Self {
        let len = app.constraints.len();
        let mut spread = Self {
            app,
            counts: vec![BTreeMap::new(); len],
            first: vec![None; len],
            patterns,
            open: vec![BTreeMap::new(); len],
            relaxed: false,
        };
        for values in placed {
            spread.count(|field| values.get(field).cloned());
        }
        spread
    }

    /// Learns which groups there are from the offers at hand.
    pub fn meet<'o>(&mut self, offers: impl Iterator<Item = &'o pb::Offer>, relaxed: bool) {
        self.relaxed = relaxed;
        if !self.app.constraints.iter().any(is_open_group_by) {
            return;
        }
        for offer in offers {
            for (index, constraint) in self.app.constraints.iter().enumerate() {
                if is_open_group_by(constraint)
                    && let Some(value) = field_value(offer, &constraint.field)
                {
                    *self.open[index].entry(value).or_default() += 1;
                }
            }
        }
    }

    /// The offer has no room. True: others may be allowed now.
    pub fn close(&mut self, offer: &pb::Offer) -> bool {
        let mut changed = false;
        for (index, constraint) in self.app.constraints.iter().enumerate() {
            if is_open_group_by(constraint)
                && let Some(value) = field_value(offer, &constraint.field)
                && let Some(count) = self.open[index].get_mut(&value)
            {
                *count = count.saturating_sub(1);
                changed |= *count == 0 && self.relaxed;
            }
        }
        changed
    }

    /// One more instance on that agent.
    pub fn add(&mut self, offer: &pb::Offer) {
        self.count(|field| field_value(offer, field));
    }

    fn count(&mut self, value: impl Fn(&str) -> Option<String>) {
        for (index, constraint) in self.app.constraints.iter().enumerate() {
            if let Some(value) = value(&constraint.field) {
                self.first[index].get_or_insert_with(|| value.clone());
                *self.counts[index].entry(value).or_default() += 1;
            }
        }
    }

    /// Whether an offer that is not allowed now may be once others are used.
    pub fn may_change(&self) -> bool {
        self.app.constraints.iter().any(|constraint| constraint.operator == "GROUP_BY")
    }

    /// Whether one more instance may go there.
    pub fn allows(&self, offer: &pb::Offer) -> bool {
        (0..self.app.constraints.len()).all(|index| self.allows_by(index, offer))
    }

    fn allows_by(&self, index: usize, offer: &pb::Offer) -> bool {
        let constraint = &self.app.constraints[index];
        let wanted = constraint.value.as_deref();
        let Some(value) = field_value(offer, &constraint.field) else {
            return constraint.operator == "UNLIKE";
        };
        let count = self.counts[index].get(&value).copied().unwrap_or(0);
        match constraint.operator.as_str() {
            "UNIQUE" => count == 0,
            "CLUSTER" => match wanted.filter(|text| !text.is_empty()) {
                Some(wanted) => value == wanted,
                None => self.first[index].as_ref().is_none_or(|first| *first == value),
            },
            "GROUP_BY" => self.group_by(index, &value, wanted.and_then(|text| text.parse().ok())),
            "LIKE" => self.pattern(index).is_some_and(|pattern| pattern.is_match(&value)),
            "UNLIKE" => self.pattern(index).is_some_and(|pattern| !pattern.is_match(&value)),
            "MAX_PER" => wanted.and_then(|text| text.parse::<usize>().ok()).is_some_and(|most| count < most),
            "IS" => wanted.is_some_and(|wanted| is(&value, wanted)),
            _ => false,
        }
    }

    fn pattern(&self, index: usize) -> Option<&Regex> {
        self.patterns.get(index)?.as_deref()
    }

    /// With a number of groups each has its quota, the remainder spread one each, and no further group begins.
    /// Without one the groups that have fewest come first: of all that have instances or an offer at hand, and when
    /// waiting for the others has taken too long, of those that have room.
    fn group_by(&self, index: usize, value: &str, groups: Option<usize>) -> bool {
        let counts = &self.counts[index];
        let count = counts.get(value).copied().unwrap_or(0);
        let Some(groups) = groups.filter(|groups| *groups > 0) else {
            let met = self.open[index].iter().filter(|(_, offers)| **offers > 0 || !self.relaxed);
            let met = met.map(|(value, _)| counts.get(value).copied().unwrap_or(0));
            let used = counts.values().copied().filter(|_| !self.relaxed);
            return met.chain(used).min().is_none_or(|fewest| count <= fewest);
        };
        if count == 0 {
            return counts.len() < groups;
        }
        let instances = self.app.instances as usize;
        let (quota, larger) = (instances / groups, instances % groups);
        let at_larger = counts.values().filter(|count| **count > quota).count();
        count < quota || (count == quota && at_larger < larger)
    }
}

/// GROUP_BY without a number of groups.
pub fn is_open_group_by(constraint: &Constraint) -> bool {
    let number = constraint.value.as_deref().and_then(|text| text.parse::<usize>().ok());
    constraint.operator == "GROUP_BY" && number.is_none_or(|groups| groups == 0)
}

/// Equal as text, or as numbers in normal form.
fn is(value: &str, wanted: &str) -> bool {
    match (value.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(value), Ok(wanted)) => number(value) == number(wanted),
        _ => value == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(patterns: impl Iterator<Item = String>) -> App {
        let like = |text| Constraint { field: "f".into(), operator: "LIKE".into(), value: Some(text) };
        App { constraints: patterns.map(like).collect(), ..Default::default() }
    }

    #[test]
    fn patterns_are_compiled_once_and_only_so_many_are_kept() {
        let mut patterns = Patterns::default();
        let one = app(["a|b".to_owned(), "(".to_owned()].into_iter());
        let first = patterns.of(&one);
        let again = patterns.of(&one);
        assert!(Arc::ptr_eq(first[0].as_ref().unwrap(), again[0].as_ref().unwrap()));
        assert!(first[0].as_ref().unwrap().is_match("b") && first[1].is_none());
        let many = patterns.of(&app((0..PATTERNS_KEPT * 2).map(|i| i.to_string())));
        assert!(many.iter().all(Option::is_some) && patterns.0.len() <= PATTERNS_KEPT);
    }
}
