//! Attributes of an agent: named values that offers carry and that constraints look at.

use std::fmt;

use meshos_proto::mesos::v1::{self as pb, value};

use crate::{
    ranges::Ranges,
    set::TextSet,
    wire::{Fault, ResourceError, fault, ranges_from_proto, ranges_to_proto, set_from_proto, set_to_proto},
};

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// Any finite number; unlike a resource not rounded, and possibly negative.
    Scalar(f64),
    Ranges(Ranges),
    Set(TextSet),
    Text(String),
}

impl fmt::Display for AttributeValue {
    /// As in the text form of `--attributes`; whole numbers without a point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::Ranges(ranges) => ranges.fmt(f),
            Self::Set(set) => set.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    pub name: String,
    pub value: AttributeValue,
}

/// Attributes in the order they were given; a name may stand more than once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(pub Vec<Attribute>);

impl Attributes {
    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0.iter().find(|attribute| attribute.name == name).map(|attribute| &attribute.value)
    }

    /// The attributes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Attribute> {
        self.0.iter()
    }

    /// Reads the messages.
    pub fn from_proto(messages: &[pb::Attribute]) -> Result<Self, ResourceError> {
        Ok(Self(messages.iter().map(Attribute::try_from).collect::<Result<_, _>>()?))
    }

    /// The messages.
    pub fn to_proto(&self) -> Vec<pb::Attribute> {
        self.0.iter().map(pb::Attribute::from).collect()
    }
}

impl TryFrom<&pb::Attribute> for Attribute {
    type Error = ResourceError;

    fn try_from(message: &pb::Attribute) -> Result<Self, ResourceError> {
        let value = read(message).map_err(|(field, problem)| ResourceError {
            resource: message.name.clone(),
            field,
            problem,
        })?;
        Ok(Self { name: message.name.clone(), value })
    }
}

fn read(message: &pb::Attribute) -> Result<AttributeValue, Fault> {
    if message.name.is_empty() {
        return fault("name", "must not be empty");
    }
    let kind = value::Type::try_from(message.r#type)
        .map_err(|_| ("type", format!("has the unknown number {}", message.r#type)))?;
    let missing = |field| (field, format!("must be set for type {}", kind.as_str_name()));
    match kind {
        value::Type::Scalar => {
            let scalar = message.scalar.as_ref().ok_or_else(|| missing("scalar"))?.value;
            if scalar.is_finite() {
                Ok(AttributeValue::Scalar(scalar))
            } else {
                fault("scalar", "is not finite")
            }
        }
        value::Type::Ranges => {
            let ranges = message.ranges.as_ref().ok_or_else(|| missing("ranges"))?;
            ranges_from_proto(ranges).map(AttributeValue::Ranges)
        }
        value::Type::Set => {
            let set = message.set.as_ref().ok_or_else(|| missing("set"))?;
            set_from_proto(set).map(AttributeValue::Set)
        }
        value::Type::Text => {
            let text = message.text.as_ref().ok_or_else(|| missing("text"))?;
            Ok(AttributeValue::Text(text.value.clone()))
        }
    }
}

impl From<&Attribute> for pb::Attribute {
    fn from(attribute: &Attribute) -> Self {
        let mut message = pb::Attribute { name: attribute.name.clone(), ..Default::default() };
        let kind = match &attribute.value {
            AttributeValue::Scalar(scalar) => {
                message.scalar = Some(value::Scalar { value: *scalar });
                value::Type::Scalar
            }
            AttributeValue::Ranges(ranges) => {
                message.ranges = Some(ranges_to_proto(ranges));
                value::Type::Ranges
            }
            AttributeValue::Set(set) => {
                message.set = Some(set_to_proto(set));
                value::Type::Set
            }
            AttributeValue::Text(text) => {
                message.text = Some(value::Text { value: text.clone() });
                value::Type::Text
            }
        };
        message.r#type = kind.into();
        message
    }
}
