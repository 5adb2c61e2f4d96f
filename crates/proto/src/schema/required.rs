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
}

/// Decodes a message and refuses one whose required fields are not all there.
///
/// Mesos itself answers both errors of an HTTP body alike: `Failed to parse body into … protobuf`.
pub fn decode<M: prost::Message + Name + Default>(bytes: &[u8]) -> Result<M, ProtobufError> {
    let message = M::decode(bytes)?;
    let missing = missing_required::<M>(bytes);
    if missing.is_empty() { Ok(message) } else { Err(ProtobufError::NotInitialized(missing)) }
}

/// The dotted names of the required fields that an encoded `M` lacks, such as `subscribe.framework_info.user`
/// or `accept.operations[0].launch.task_infos[2].agent_id`; of each message its own first, then its parts'.
///
/// Takes the bytes, since a decoded message cannot tell. They must decode as `M`.
pub fn missing_required<M: Name>(bytes: &[u8]) -> Vec<String> {
    let schema = Schema::get();
    missing_in(schema, schema.index_for::<M>(), bytes)
}

pub(crate) fn missing_in(schema: &Schema, message: usize, bytes: &[u8]) -> Vec<String> {
    let mut search = Search { schema, path: String::new(), missing: Vec::new() };
    search.message(message, bytes);
    search.missing
}

struct Search<'s> {
    schema: &'s Schema,
    path: String,
    missing: Vec<String>,
}

impl Search<'_> {
    fn message(&mut self, index: usize, bytes: &[u8]) {
        let message = &self.schema.messages[index];
        let mut parts: Vec<Vec<Raw<'_>>> = vec![Vec::new(); message.fields.len()];
        for (number, value) in Fields::new(bytes) {
            if let Some(field) = message.index_of(number) {
                parts[field].push(value);
            }
        }
        for (field, values) in message.fields.iter().zip(&parts) {
            if field.shape == Shape::Required && !values.iter().any(|v| self.counts(field.kind, v)) {
                self.missing.push(format!("{}{}", self.path, field.name));
            }
        }
        for (field, values) in message.fields.iter().zip(&parts) {
            if let Kind::Message(inner) = field.kind {
                let single = matches!(field.shape, Shape::Required | Shape::Optional);
                self.nested((inner, &field.name), single, values);
            }
        }
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

    fn nested(&mut self, (inner, name): (usize, &str), single: bool, values: &[Raw<'_>]) {
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
            self.message(inner, part);
            self.path.truncate(outer);
        }
    }
}
