//! Values from and to their messages.

use meshos_proto::mesos::v1::{self as pb, value};

use super::{Fault, fault};
use crate::{
    ranges::{Range, Ranges},
    resource::ResourceValue,
    scalar::Milli,
    set::TextSet,
};

/// The value of a resource; exactly the field that its type names must be set.
pub(super) fn read(message: &pb::Resource) -> Result<ResourceValue, Fault> {
    let kind = value::Type::try_from(message.r#type);
    match kind {
        Ok(value::Type::Scalar | value::Type::Ranges | value::Type::Set) => {}
        Ok(value::Type::Text) => return fault("type", "must not be TEXT: only attributes have texts"),
        Err(_) => return fault("type", format!("has the unknown number {}", message.r#type)),
    }
    let fields = [
        (value::Type::Scalar, "scalar", message.scalar.is_some()),
        (value::Type::Ranges, "ranges", message.ranges.is_some()),
        (value::Type::Set, "set", message.set.is_some()),
    ];
    for (of, field, is_set) in fields {
        match (kind == Ok(of), is_set) {
            (true, false) => return fault(field, format!("must be set for type {}", of.as_str_name())),
            (false, true) => return fault(field, "must not be set beside a value of another type"),
            _ => {}
        }
    }
    if let Some(scalar) = &message.scalar {
        let amount = Milli::from_f64(scalar.value).map_err(|error| ("scalar", format!("value {error}")))?;
        return Ok(ResourceValue::Scalar(amount));
    }
    if let Some(ranges) = &message.ranges {
        return Ok(ResourceValue::Ranges(ranges_from_proto(ranges)?));
    }
    Ok(ResourceValue::Set(message.set.as_ref().map_or(Ok(TextSet::default()), set_from_proto)?))
}

/// Ranges of a message: none inverted, none overlapping.
pub(crate) fn ranges_from_proto(message: &value::Ranges) -> Result<Ranges, Fault> {
    let mut ranges: Vec<Range> = message.range.iter().map(|r| Range { begin: r.begin, end: r.end }).collect();
    if let Some(range) = ranges.iter().find(|r| r.begin > r.end) {
        return fault("ranges", format!("has {}-{}, whose begin is beyond its end", range.begin, range.end));
    }
    ranges.sort_unstable();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[1].begin <= pair[0].end) {
        let [a, b] = [pair[0], pair[1]];
        return fault(
            "ranges",
            format!("has {}-{} and {}-{}, which overlap", a.begin, a.end, b.begin, b.end),
        );
    }
    Ok(ranges.into_iter().collect())
}

/// A set of a message: no item twice.
pub(crate) fn set_from_proto(message: &value::Set) -> Result<TextSet, Fault> {
    let set: TextSet = message.item.iter().cloned().collect();
    if set.len() == message.item.len() { Ok(set) } else { fault("set", "has an item twice") }
}

pub(super) fn write(value: &ResourceValue, message: &mut pb::Resource) {
    let kind = match value {
        ResourceValue::Scalar(amount) => {
            message.scalar = Some(value::Scalar { value: amount.to_f64() });
            value::Type::Scalar
        }
        ResourceValue::Ranges(ranges) => {
            message.ranges = Some(ranges_to_proto(ranges));
            value::Type::Ranges
        }
        ResourceValue::Set(set) => {
            message.set = Some(set_to_proto(set));
            value::Type::Set
        }
    };
    message.r#type = kind.into();
}

pub(crate) fn ranges_to_proto(ranges: &Ranges) -> value::Ranges {
    let range = |range: &Range| value::Range { begin: range.begin, end: range.end };
    value::Ranges { range: ranges.as_slice().iter().map(range).collect() }
}

pub(crate) fn set_to_proto(set: &TextSet) -> value::Set {
    value::Set { item: set.iter().map(str::to_owned).collect() }
}
