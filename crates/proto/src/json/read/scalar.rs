//! Scalars from JSON, with the leniency of Mesos: numbers and booleans may be strings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Number, Value};

use super::{JsonError, unexpected};
use crate::{
    schema::{Field, Kind, Schema, Shape},
    wire,
};

/// Appends one scalar field; nothing for an enum name that is unknown and not required.
pub(super) fn put(schema: &Schema, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    match (field.kind, value) {
        (Kind::String, Value::String(text)) => wire::put_bytes(out, field.number, text.as_bytes()),
        (Kind::Bytes, Value::String(text)) => {
            let bytes = STANDARD
                .decode(text)
                .map_err(|e| JsonError::Base64 { field: field.name.clone(), reason: e.to_string() })?;
            wire::put_bytes(out, field.number, &bytes);
        }
        (Kind::Enum(index), Value::String(name)) => match schema.enums[index].by_name.get(name) {
            Some(number) => put_varint(out, field, i64::from(*number) as u64),
            None if field.shape == Shape::Required => return Err(JsonError::UnknownEnum(name.clone())),
            None => {}
        },
        (Kind::Bool, Value::Bool(flag)) => put_varint(out, field, u64::from(*flag)),
        (Kind::Bool, Value::String(text)) => match text.trim() {
            "true" => put_varint(out, field, 1),
            "false" => put_varint(out, field, 0),
            _ => return Err(literal(field, text, "boolean", "expecting true or false")),
        },
        (Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Bool | Kind::Message(_), _) => {
            return Err(unexpected(field, value));
        }
        (_, Value::Number(number)) => put_number(out, field, number)?,
        (Kind::Double | Kind::Float, Value::String(text)) if text == "Infinity" => {
            put_double(out, field, f64::INFINITY);
        }
        (Kind::Double | Kind::Float, Value::String(text)) if text == "-Infinity" => {
            put_double(out, field, f64::NEG_INFINITY);
        }
        (_, Value::String(text)) => {
            let number = serde_json::from_str::<Number>(text)
                .map_err(|_| literal(field, text, "number", "not a number"))?;
            put_number(out, field, &number)?;
        }
        _ => return Err(unexpected(field, value)),
    }
    Ok(())
}

fn literal(field: &Field, value: &str, wanted: &'static str, reason: &'static str) -> JsonError {
    JsonError::Literal { field: field.name.clone(), value: value.to_owned(), wanted, reason }
}

fn put_varint(out: &mut Vec<u8>, field: &Field, value: u64) {
    wire::put_tag(out, field.number, wire::VARINT);
    wire::put_varint(out, value);
}

fn put_double(out: &mut Vec<u8>, field: &Field, value: f64) {
    if field.kind == Kind::Float {
        wire::put_tag(out, field.number, wire::FIXED32);
        out.extend((value as f32).to_le_bytes());
    } else {
        wire::put_tag(out, field.number, wire::FIXED64);
        out.extend(value.to_le_bytes());
    }
}

fn put_number(out: &mut Vec<u8>, field: &Field, number: &Number) -> Result<(), JsonError> {
    if matches!(field.kind, Kind::Double | Kind::Float) {
        put_double(out, field, number.as_f64().unwrap_or_default());
        return Ok(());
    }
    let integer = whole(number).filter(|n| range(field).contains(n));
    let integer = integer.ok_or_else(|| literal(field, &number.to_string(), "number", "out of range"))?;
    match field.kind {
        Kind::Sint => {
            let signed = integer as i64;
            put_varint(out, field, (signed << 1 ^ signed >> 63) as u64);
        }
        Kind::Fixed32 | Kind::Sfixed32 => {
            wire::put_tag(out, field.number, wire::FIXED32);
            out.extend((integer as u32).to_le_bytes());
        }
        Kind::Fixed64 | Kind::Sfixed64 => {
            wire::put_tag(out, field.number, wire::FIXED64);
            out.extend((integer as u64).to_le_bytes());
        }
        // Of a negative number all 64 bits go out, also for 32-bit fields: so the wire format wants it.
        _ => put_varint(out, field, integer as u64),
    }
    Ok(())
}

/// The number without its fraction.
fn whole(number: &Number) -> Option<i128> {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    integer.or_else(|| number.as_f64().filter(|f| f.is_finite()).map(|f| f.trunc() as i128))
}

fn range(field: &Field) -> std::ops::RangeInclusive<i128> {
    match (field.kind, field.narrow) {
        (Kind::Uint, true) | (Kind::Fixed32, _) => 0..=u32::MAX.into(),
        (Kind::Uint, false) | (Kind::Fixed64, _) => 0..=u64::MAX.into(),
        (Kind::Int | Kind::Sint, true) | (Kind::Sfixed32, _) => i32::MIN.into()..=i32::MAX.into(),
        _ => i64::MIN.into()..=i64::MAX.into(),
    }
}
