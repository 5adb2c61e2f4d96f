//! Offer constraints: which agents a framework wants offers of (Mesos 2.10).

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::mesos::v1::{
    self as pb,
    domain_info::FaultDomain,
    scheduler::{
        AttributeConstraint, OfferConstraints,
        attribute_constraint::{
            Predicate as PredicateMessage, Selector as SelectorMessage, predicate, selector,
            selector::PseudoattributeType,
        },
        offer_constraints::RoleConstraints,
    },
    value,
};
use regex::{Regex, RegexBuilder};

use crate::RoleName;

/// Size of one compiled expression, in bytes.
const REGEX_BYTES: usize = 1 << 20;
/// Longest expression.
const REGEX_LENGTH: usize = 4096;

/// What a framework asked for, ready to be evaluated. Nothing asked for: every agent will do.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    by_role: BTreeMap<RoleName, Vec<Vec<Constraint>>>,
}

#[derive(Clone, Debug)]
struct Constraint {
    selector: Selector,
    predicate: Predicate,
}

#[derive(Clone, Debug)]
enum Selector {
    Attribute(String),
    Hostname,
    Region,
    Zone,
}

#[derive(Clone, Debug)]
enum Predicate {
    Exists(bool),
    Equals(String, bool),
    Matches(Regex, bool),
}

/// What a selector finds.
enum Found<'a> {
    Nothing,
    Text(&'a str),
    /// An attribute that is not text: it satisfies every comparison.
    Other,
}

impl Constraints {
    /// Compiles the constraints of a framework that subscribes to `roles`.
    ///
    /// # Errors
    /// Mesos's text: a role that is not subscribed to, an empty list, an expression that cannot be used.
    pub fn compile(
        constraints: Option<&OfferConstraints>,
        roles: &BTreeSet<RoleName>,
    ) -> Result<Self, String> {
        let mut by_role = BTreeMap::new();
        for (role, of_role) in constraints.into_iter().flat_map(|constraints| &constraints.role_constraints) {
            if !roles.contains(role.as_str()) {
                return Err(format!(
                    "Offer constraints specify constraints for the role '{role}' to which the framework is not \
                     subscribed"
                ));
            }
            let groups = groups(of_role)
                .map_err(|fault| format!("Offer constraints for the role '{role}' are invalid: {fault}"))?;
            by_role.insert(RoleName::new(role.as_str()), groups);
        }
        Ok(Self { by_role })
    }

    /// Roles that have constraints.
    pub fn roles(&self) -> impl Iterator<Item = &RoleName> {
        self.by_role.keys()
    }

    /// Whether offers of the agent are wanted in the role.
    #[must_use]
    pub fn admit(&self, role: &RoleName, agent: &pb::AgentInfo) -> bool {
        if self.by_role.is_empty() {
            return true;
        }
        let holds = |constraint: &Constraint| constraint.holds(agent);
        self.by_role.get(role).is_none_or(|groups| groups.iter().any(|group| group.iter().all(holds)))
    }
}

fn groups(constraints: &RoleConstraints) -> Result<Vec<Vec<Constraint>>, String> {
    if constraints.groups.is_empty() {
        return Err("'groups' must not be empty".to_owned());
    }
    let mut groups = Vec::with_capacity(constraints.groups.len());
    for group in &constraints.groups {
        if group.attribute_constraints.is_empty() {
            return Err("'attribute_constraints' of a group must not be empty".to_owned());
        }
        let compiled = group.attribute_constraints.iter().map(constraint).collect::<Result<_, _>>()?;
        groups.push(compiled);
    }
    Ok(groups)
}

fn constraint(message: &AttributeConstraint) -> Result<Constraint, String> {
    let SelectorMessage { selector } = &message.selector;
    let selector = match selector {
        Some(selector::Selector::AttributeName(name)) => Selector::Attribute(name.clone()),
        Some(selector::Selector::PseudoattributeType(kind)) => match PseudoattributeType::try_from(*kind) {
            Ok(PseudoattributeType::Hostname) => Selector::Hostname,
            Ok(PseudoattributeType::Region) => Selector::Region,
            Ok(PseudoattributeType::Zone) => Selector::Zone,
            _ => return Err("the pseudoattribute of a selector is not known".to_owned()),
        },
        None => return Err("a selector must name an attribute or a pseudoattribute".to_owned()),
    };
    let PredicateMessage { predicate } = &message.predicate;
    let predicate = match predicate {
        Some(predicate::Predicate::Exists(_)) => Predicate::Exists(true),
        Some(predicate::Predicate::NotExists(_)) => Predicate::Exists(false),
        Some(predicate::Predicate::TextEquals(text)) => Predicate::Equals(text.value.clone(), true),
        Some(predicate::Predicate::TextNotEquals(text)) => Predicate::Equals(text.value.clone(), false),
        Some(predicate::Predicate::TextMatches(text)) => Predicate::Matches(full_match(&text.regex)?, true),
        Some(predicate::Predicate::TextNotMatches(text)) => {
            Predicate::Matches(full_match(&text.regex)?, false)
        }
        None => return Err("a predicate must be set".to_owned()),
    };
    Ok(Constraint { selector, predicate })
}

/// An expression that must match the whole text.
fn full_match(text: &str) -> Result<Regex, String> {
    if text.len() > REGEX_LENGTH {
        return Err(format!("a regular expression of {} bytes is too long", text.len()));
    }
    let compile = |text: &str| {
        let built = RegexBuilder::new(text).size_limit(REGEX_BYTES).build();
        built.map_err(|error| format!("'{text}' is not a regular expression that can be used: {error}"))
    };
    // By itself first: `a)(b` is no expression, although it would be one in parentheses.
    compile(text)?;
    compile(&format!(r"\A(?:{text})\z"))
}

impl Constraint {
    fn holds(&self, agent: &pb::AgentInfo) -> bool {
        let found = self.selector.find(agent);
        match (&self.predicate, found) {
            (Predicate::Exists(wanted), found) => *wanted != matches!(found, Found::Nothing),
            (Predicate::Equals(_, wanted) | Predicate::Matches(_, wanted), Found::Nothing) => !wanted,
            (Predicate::Equals(..) | Predicate::Matches(..), Found::Other) => true,
            (Predicate::Equals(text, wanted), Found::Text(found)) => (text == found) == *wanted,
            (Predicate::Matches(regex, wanted), Found::Text(found)) => regex.is_match(found) == *wanted,
        }
    }
}

impl Selector {
    fn find<'a>(&self, agent: &'a pb::AgentInfo) -> Found<'a> {
        let text = |text: Option<&'a str>| text.map_or(Found::Nothing, Found::Text);
        match self {
            Self::Hostname => Found::Text(&agent.hostname),
            Self::Region => text(fault_domain(agent.domain.as_ref()).map(|d| d.region.name.as_str())),
            Self::Zone => text(fault_domain(agent.domain.as_ref()).map(|d| d.zone.name.as_str())),
            Self::Attribute(name) => {
                let attribute = agent.attributes.iter().find(|attribute| attribute.name == *name);
                match attribute {
                    None => Found::Nothing,
                    Some(attribute) if attribute.r#type() == value::Type::Text => {
                        text(attribute.text.as_ref().map(|text| text.value.as_str()))
                    }
                    Some(_) => Found::Other,
                }
            }
        }
    }
}

/// Region and zone.
#[must_use]
pub fn fault_domain(domain: Option<&pb::DomainInfo>) -> Option<&FaultDomain> {
    domain?.fault_domain.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::json::from_json;
    use serde_json::json;

    fn compile(constraint: serde_json::Value) -> Result<Constraints, String> {
        let groups = json!([{"attribute_constraints": [constraint]}]);
        let message = from_json(&json!({"role_constraints": {"eng": {"groups": groups}}})).unwrap();
        Constraints::compile(Some(&message), &[RoleName::new("eng")].into())
    }

    fn admits(selector: serde_json::Value, predicate: serde_json::Value) -> bool {
        let agent: pb::AgentInfo = from_json(&json!({"hostname": "h1", "attributes": [
            {"name": "rack", "type": "TEXT", "text": {"value": "r1"}},
            {"name": "zone", "type": "SCALAR", "scalar": {"value": 1}},
        ]}))
        .unwrap();
        let constraints = compile(json!({"selector": selector, "predicate": predicate})).unwrap();
        assert!(constraints.admit(&RoleName::new("ops"), &agent), "other roles ask for nothing");
        assert_eq!(constraints.roles().count(), 1);
        constraints.admit(&RoleName::new("eng"), &agent)
    }

    #[test]
    fn an_agent_is_judged_by_its_attributes_and_its_place() {
        let rack = || json!({"attribute_name": "rack"});
        assert!(admits(rack(), json!({"exists": {}})));
        assert!(!admits(rack(), json!({"not_exists": {}})));
        assert!(admits(rack(), json!({"text_equals": {"value": "r1"}})));
        assert!(!admits(rack(), json!({"text_not_equals": {"value": "r1"}})));
        assert!(!admits(rack(), json!({"text_matches": {"regex": "r"}})), "the whole text");
        assert!(admits(rack(), json!({"text_matches": {"regex": "r[0-9]|x"}})));
        let number = || json!({"attribute_name": "zone"});
        assert!(admits(number(), json!({"text_equals": {"value": "other"}})), "what is no text passes");
        let none = || json!({"attribute_name": "none"});
        assert!(!admits(none(), json!({"text_equals": {"value": "x"}})));
        assert!(admits(none(), json!({"text_not_matches": {"regex": "x"}})));
        let host = json!({"pseudoattribute_type": "HOSTNAME"});
        assert!(admits(host, json!({"text_equals": {"value": "h1"}})));
        assert!(admits(json!({"pseudoattribute_type": "ZONE"}), json!({"not_exists": {}})));
    }

    #[test]
    fn senseless_constraints_are_refused() {
        let rack = json!({"attribute_name": "rack"});
        for wrong in ["a)(b", "(", &"x".repeat(5000)] {
            let predicate = json!({"text_matches": {"regex": wrong}});
            assert!(compile(json!({"selector": rack, "predicate": predicate})).is_err(), "{wrong}");
        }
        assert!(compile(json!({"selector": rack, "predicate": {}})).is_err());
        assert!(compile(json!({"selector": {}, "predicate": {"exists": {}}})).is_err());
    }
}
