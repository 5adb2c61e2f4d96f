//! proto2's required fields. prost fills an absent one with its default and says nothing, so they are looked
//! for in the encoded bytes.

use std::borrow::Cow;

use prost::Name;

use super::{Kind, Schema, Shape};
use crate::wire::{Fields, Raw};

/// Why a protobuf body was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    /// Not the wire format, or a field of another type.
    #[error("malformed protobuf: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Required fields are absent; their dotted names.
    #[error("Not initialized: {}", .0.join(", "))]
    NotInitialized(Vec<String>),
    /// More than a body may hold: decoded it could take a thousand times its own size.
    #[error("more than {MESSAGES} messages in one, or messages more than {DEPTH} deep in each other")]
    TooMuch,
}

/// Messages within one body. A task takes about ten.
const MESSAGES: usize = 1_000_000;
/// How deep messages may lie in each other; as prost has it.
const DEPTH: usize = 100;
/// Absent fields that a refusal names.
const NAMED: usize = 100;

/// Decodes a message and refuses one whose required fields are not all there.
///
/// Mesos itself answers both errors of an HTTP body alike: `Failed to parse body into … protobuf`.
pub fn decode<M: prost::Message + Name + Default>(bytes: &[u8]) -> Result<M, ProtobufError> {
    let schema = Schema::get();
    // First, since it takes little memory whatever the bytes are.
    let missing = missing_in(schema, schema.index_for::<M>(), bytes);
    let missing = missing.ok_or(ProtobufError::TooMuch)?;
    let message = M::decode(bytes)?;
    if missing.is_empty() { Ok(message) } else { Err(ProtobufError::NotInitialized(missing)) }
}

/// The dotted names of the required fields that an encoded `M` lacks, such as `subscribe.framework_info.user`
/// or `accept.operations[0].launch.task_infos[2].agent_id`; of each message its own first, then its parts'.
///
/// Takes the bytes, since a decoded message cannot tell. They must decode as `M`. Names the first ones only when there
/// are many.
pub fn missing_required<M: Name>(bytes: &[u8]) -> Vec<String> {
    let schema = Schema::get();
    missing_in(schema, schema.index_for::<M>(), bytes).unwrap_or_default()
}

/// None when there are too many messages in it, or they are too deep.
pub(crate) fn missing_in(schema: &Schema, message: usize, bytes: &[u8]) -> Option<Vec<String>> {
    let mut search = Search { schema, path: String::new(), missing: Vec::new(), left: MESSAGES, depth: 0 };
    search.message(message, bytes)?;
    Some(search.missing)
}

struct Search<'s> {
    schema: &'s Schema,
    path: String,
    missing: Vec<String>,
    /// Messages that may still come.
    left: usize,
    depth: usize,
}

impl Search<'_> {
    fn message(&mut self, index: usize, bytes: &[u8]) -> Option<()> {
        if self.depth > DEPTH {
            return None;
        }
        let message = &self.schema.messages[index];
        let mut parts: Vec<Vec<Raw<'_>>> = vec![Vec::new(); message.fields.len()];
        for (number, value) in Fields::new(bytes) {
            let Some(place) = message.index_of(number) else { continue };
            let field = &message.fields[place];
            if matches!(field.kind, Kind::Message(_)) {
                self.left = self.left.checked_sub(1)?;
            } else if field.shape != Shape::Required {
                continue;
            }
            parts[place].push(value);
        }
        for (field, values) in message.fields.iter().zip(&parts) {
            let required = field.shape == Shape::Required && self.missing.len() < NAMED;
            if required && !values.iter().any(|v| self.counts(field.kind, v)) {
                self.missing.push(format!("{}{}", self.path, field.name));
            }
        }
        for (field, values) in message.fields.iter().zip(&parts) {
            if let Kind::Message(inner) = field.kind {
                let single = matches!(field.shape, Shape::Required | Shape::Optional);
                self.nested((inner, &field.name), single, values)?;
            }
        }
        Some(())
    }

    /// Whether the value sets its field: an enum value that we do not know does not.
    fn counts(&self, kind: Kind, value: &Raw<'_>) -> bool {
        match (kind, value) {
            (Kind::Enum(index), Raw::Varint(number)) => {
                self.schema.enums[index].quoted(*number as i32).is_some()
            }
            _ => true,
        }
    }

    fn nested(&mut self, (inner, name): (usize, &str), single: bool, values: &[Raw<'_>]) -> Option<()> {
        let parts = values.iter().filter_map(|v| if let Raw::Len(b) = v { Some(*b) } else { None });
        let parts: Vec<Cow<'_, [u8]>> = match parts.collect::<Vec<_>>() {
            // The wire format allows a message in pieces: joined they are the message.
            pieces if single && pieces.len() > 1 => vec![pieces.concat().into()],
            pieces => pieces.into_iter().map(Cow::Borrowed).collect(),
        };
        let outer = self.path.len();
        for (place, part) in parts.iter().enumerate() {
            let name = if single { format!("{name}.") } else { format!("{name}[{place}].") };
            self.path.push_str(&name);
            self.depth += 1;
            self.message(inner, part)?;
            self.depth -= 1;
            self.path.truncate(outer);
        }
        Some(())
    }
}
