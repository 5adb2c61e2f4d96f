//! The JSON form that Mesos gives its messages, which is not that of proto3: names in snake case, 64-bit
//! integers as numbers, explicit defaults printed, unknown enum names dropped.
//!
//! Works for every generated message. Writing goes from the encoded message straight to text, field by field
//! along precomputed tables, so a large state costs one encoding and one pass, without a tree in between.
//!
//! | | written | read |
//! | --- | --- | --- |
//! | names | as in the `.proto`, in its order | the same; unknown ones are ignored |
//! | absent | left out, or the explicit default unless deprecated | left out or `null` |
//! | integers | numbers | numbers and numeric strings; fractions are cut off; out of range is refused |
//! | doubles | shortest text that reads back the same, `1.0`; infinities as strings | numbers, numeric strings, `"Infinity"` |
//! | booleans | `true` | also `"true"` |
//! | enums | names; unknown numbers as if absent | names; an unknown one is dropped, refused where required |
//! | bytes | padded base64 | padded base64 |
//! | repeated | arrays, left out when empty | arrays, or one value alone |
//! | maps | objects | objects |

mod read;
pub(crate) mod text;
mod write;

#[cfg(test)]
mod tests;

use prost::{Message, Name};
use serde_json::Value;

/// Why JSON is not the wanted message. The texts are those of Mesos; a handler puts
/// `Failed to convert JSON into Call protobuf: ` before them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// A message must be a JSON object.
    #[error("Expecting a JSON object")]
    NotAnObject,
    /// The value is of another JSON type than the field takes.
    #[error("Not expecting a JSON {found} for field '{field}'")]
    UnexpectedType {
        /// The field's own name, without its path.
        field: String,
        /// `object`, `array`, `string`, `number` or `boolean`.
        found: &'static str,
    },
    /// A required enum field names a value that there is not.
    #[error("Failed to find enum for '{0}'")]
    UnknownEnum(String),
    /// A bytes field is not base64.
    #[error("Failed to base64 decode bytes field '{field}': {reason}")]
    Base64 {
        /// The field's own name.
        field: String,
        /// What the decoder says.
        reason: String,
    },
    /// A text that should stand for a number or boolean does not, or a number is out of the field's range.
    #[error("Failed to parse '{value}' as a JSON {wanted} for field '{field}': {reason}")]
    Literal {
        /// The field's own name.
        field: String,
        /// What was sent.
        value: String,
        /// `number` or `boolean`.
        wanted: &'static str,
        /// Why it was refused.
        reason: &'static str,
    },
    /// Required fields are absent; their dotted names.
    #[error("Missing required fields: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// See [`ProtobufError::TooMuch`](crate::ProtobufError::TooMuch).
    #[error("more messages than one body may hold")]
    TooMuch,
    /// The message is nested deeper than the decoder follows.
    #[error("{0}")]
    Protobuf(String),
}

/// A body that is not JSON. The text is that of Mesos; a handler puts `Failed to parse body into JSON: ` before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error at line {line} near: {near}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// The rest of that line.
    pub near: String,
}

/// Appends the message as JSON, without spaces.
pub fn write_json<M: Message + Name>(message: &M, out: &mut Vec<u8>) {
    write::message::<M>(&message.encode_to_vec(), out);
}

/// The message as JSON text, without spaces.
pub fn to_json_string<M: Message + Name>(message: &M) -> String {
    let mut out = Vec::new();
    write_json(message, &mut out);
    String::from_utf8(out).expect("strings of a message are UTF-8 and all else is ASCII")
}

/// The message as a JSON tree; prefer [`write_json`] for what goes out.
pub fn to_json<M: Message + Name>(message: &M) -> Value {
    let mut out = Vec::new();
    write_json(message, &mut out);
    serde_json::from_slice(&out).expect("the writer's text is JSON, less deep than the parser follows")
}

/// Reads a message from a JSON object.
pub fn from_json<M: Message + Name + Default>(value: &Value) -> Result<M, JsonError> {
    let bytes = read::message::<M>(value)?;
    M::decode(bytes.as_slice()).map_err(|e| JsonError::Protobuf(e.to_string()))
}

/// Parses a request body into a JSON tree, with the error text of Mesos.
pub fn parse(body: &[u8]) -> Result<Value, SyntaxError> {
    serde_json::from_slice(body).map_err(|e| {
        let line = body.split(|b| *b == b'\n').nth(e.line().saturating_sub(1)).unwrap_or_default();
        let near = line.get(e.column().min(line.len())..).unwrap_or_default();
        let near: Vec<u8> = near.iter().copied().filter(|b| *b >= b' ').collect();
        SyntaxError { line: e.line().max(1), near: String::from_utf8_lossy(&near).into_owned() }
    })
}
