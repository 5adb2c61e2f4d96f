//! The `--resources` and `--attributes` flags.

// `Resource.role` is how the JSON form of the flag names a static reservation.
#![allow(deprecated)]

use std::collections::BTreeSet;

use meshos_proto::{json::from_json, mesos::v1 as pb};

use crate::{
    attributes::{Attribute, AttributeValue, Attributes},
    resource::{Resource, ResourceValue},
    resources::Resources,
    role::RoleName,
    scalar::parse_number,
    wire::ResourceError,
};

/// Why a flag cannot be read. Each names the item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A text item of resources without its form.
    #[error("resource item '{0}' is malformed; write it as name:value or name(role):value")]
    ResourceItem(String),
    /// A text item of attributes without its form.
    #[error("attribute item '{0}' is malformed; write it as name:value")]
    AttributeItem(String),
    /// A value of a kind that cannot be read.
    #[error("item '{item}' has a bad value: {problem}")]
    Value { item: String, problem: String },
    /// The role of an item is none.
    #[error("item '{item}' has a bad role: {problem}")]
    Role { item: String, problem: String },
    /// The JSON form is no JSON array of objects.
    #[error("the JSON form of resources is invalid: {0}")]
    Json(String),
    /// An object of the JSON form is no resource.
    #[error(transparent)]
    Resource(#[from] ResourceError),
}

/// What a `--resources` flag says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParsedResources {
    /// What there is; quantities of nothing are left out.
    pub resources: Resources,
    /// All names that were given, also with a quantity of nothing: those are not detected automatically.
    pub names: BTreeSet<String>,
}

/// Reads `--resources`: `name(role):value;…` or, when it starts with `[`, a JSON array of `Resource` objects. An item
/// without a role gets `default_role`. For `file:///path` the caller reads the file and passes its content.
pub fn parse_resources(text: &str, default_role: &RoleName) -> Result<ParsedResources, ParseError> {
    let text = text.trim();
    if text.starts_with('[') {
        let objects: Vec<serde_json::Value> =
            serde_json::from_str(text).map_err(|error| ParseError::Json(error.to_string()))?;
        let read = |(index, object)| {
            from_json::<pb::Resource>(object)
                .map_err(|error| ParseError::Json(format!("object {index}: {error}")))
        };
        let messages = objects.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        return Ok(resources_from_messages(messages, default_role)?);
    }
    let mut parsed = ParsedResources::default();
    for item in items(text, &[';', '\n']) {
        let resource = parse_item(item, default_role)?;
        parsed.names.insert(resource.name.to_string());
        parsed.resources.add(resource);
    }
    Ok(parsed)
}

/// As [`parse_resources`], for the objects of the JSON form.
pub fn resources_from_messages(
    messages: Vec<pb::Resource>,
    default_role: &RoleName,
) -> Result<ParsedResources, ResourceError> {
    let mut parsed = ParsedResources::default();
    for mut message in messages {
        if message.role.is_none() && message.reservations.is_empty() {
            message.role = Some(default_role.to_string());
        }
        parsed.resources.add(Resource::try_from(&message)?);
        parsed.names.insert(message.name);
    }
    Ok(parsed)
}

/// Reads `--attributes`: `name:value;…`; the value is a scalar if it is a number, ranges if it starts with `[`, a set
/// if with `{`, else a text.
pub fn parse_attributes(text: &str) -> Result<Attributes, ParseError> {
    let mut attributes = Vec::new();
    for item in items(text, &[';', '\n']) {
        let malformed = || ParseError::AttributeItem(item.to_owned());
        let (name, value) = item.split_once(':').ok_or_else(malformed)?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(malformed());
        }
        attributes.push(Attribute { name: name.to_owned(), value: attribute_value(item, value)? });
    }
    Ok(Attributes(attributes))
}

/// The items between the separators, trimmed, without empty ones.
fn items<'a>(text: &'a str, separators: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.split(separators).map(str::trim).filter(|item| !item.is_empty())
}

fn parse_item(item: &str, default_role: &RoleName) -> Result<Resource, ParseError> {
    let malformed = || ParseError::ResourceItem(item.to_owned());
    let (head, value) = item.split_once(':').ok_or_else(malformed)?;
    if value.contains(':') {
        return Err(malformed());
    }
    let (name, role) = split_role(head.trim()).ok_or_else(malformed)?;
    let role = match role {
        None => default_role.clone(),
        Some(role) => RoleName::parse(role)
            .map_err(|error| ParseError::Role { item: item.to_owned(), problem: error.to_string() })?,
    };
    let resource = Resource::new(name, resource_value(item, value.trim())?).reserved_for(&role);
    match resource.amount() {
        Some(gpus) if name == "gpus" && !gpus.is_whole() => {
            Err(bad_value(item, "the number of gpus must be a whole number"))
        }
        _ => Ok(resource),
    }
}

/// `name` or `name(role)`.
fn split_role(head: &str) -> Option<(&str, Option<&str>)> {
    let (name, role) = match head.split_once('(') {
        None => (head, None),
        Some((name, rest)) => (name.trim(), Some(rest.strip_suffix(')')?.trim())),
    };
    let well_formed =
        !name.is_empty() && !name.contains(')') && !role.is_some_and(|r| r.contains(['(', ')']));
    well_formed.then_some((name, role))
}

fn resource_value(item: &str, value: &str) -> Result<ResourceValue, ParseError> {
    match value.as_bytes().first() {
        Some(b'[') => Ok(ResourceValue::Ranges(value.parse().map_err(|error| bad_value(item, error))?)),
        Some(b'{') => Ok(ResourceValue::Set(value.parse().map_err(|error| bad_value(item, error))?)),
        _ => Ok(ResourceValue::Scalar(value.parse().map_err(|error| bad_value(item, error))?)),
    }
}

fn attribute_value(item: &str, value: &str) -> Result<AttributeValue, ParseError> {
    match value.as_bytes().first() {
        Some(b'[') => Ok(AttributeValue::Ranges(value.parse().map_err(|error| bad_value(item, error))?)),
        Some(b'{') => Ok(AttributeValue::Set(value.parse().map_err(|error| bad_value(item, error))?)),
        _ => Ok(match parse_number(value).filter(|number| number.is_finite()) {
            Some(number) => AttributeValue::Scalar(number),
            None => AttributeValue::Text(value.to_owned()),
        }),
    }
}

fn bad_value(item: &str, problem: impl std::fmt::Display) -> ParseError {
    ParseError::Value { item: item.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests;
