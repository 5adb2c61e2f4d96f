//! JSON trees to encoded messages.

mod scalar;

use prost::Name;
use serde_json::{Map, Value};

use super::JsonError;
use crate::{
    schema::{Field, Kind, Schema, Shape, missing_in},
    wire,
};

pub(super) fn message<M: Name>(value: &Value) -> Result<Vec<u8>, JsonError> {
    let schema = Schema::get();
    read(schema, schema.index_for::<M>(), value)
}

/// A wrong type is reported before a missing field, as Mesos does.
pub(super) fn read(schema: &Schema, message: usize, value: &Value) -> Result<Vec<u8>, JsonError> {
    let Value::Object(object) = value else { return Err(JsonError::NotAnObject) };
    let mut bytes = Vec::new();
    Reader { schema }.message(message, object, &mut bytes)?;
    let missing = missing_in(schema, message, &bytes).ok_or(JsonError::TooMuch)?;
    if missing.is_empty() { Ok(bytes) } else { Err(JsonError::Missing(missing)) }
}

struct Reader<'s> {
    schema: &'s Schema,
}

impl Reader<'_> {
    fn message(&self, index: usize, object: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let message = &self.schema.messages[index];
        for (name, value) in object {
            if let Some(place) = message.by_name.get(name) {
                self.field(&message.fields[*place], value, out)?;
            }
        }
        Ok(())
    }

    fn field(&self, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        match value {
            Value::Null => Ok(()),
            Value::Array(items) => match field.shape {
                // An array of objects is not a map, and an array of arrays is nothing we know.
                Shape::Repeated => items.iter().try_for_each(|item| match item {
                    Value::Array(_) => Err(unexpected(field, item)),
                    item => self.field(field, item, out),
                }),
                _ => Err(unexpected(field, value)),
            },
            Value::Object(object) => match (field.shape, field.kind) {
                (Shape::Map, Kind::Message(entry)) => self.map(entry, field.number, object, out),
                (_, Kind::Message(index)) => {
                    let mut inner = Vec::new();
                    self.message(index, object, &mut inner)?;
                    wire::put_bytes(out, field.number, &inner);
                    Ok(())
                }
                _ => Err(unexpected(field, value)),
            },
            _ if matches!(field.kind, Kind::Message(_)) => Err(unexpected(field, value)),
            _ => scalar::put(self.schema, field, value, out),
        }
    }

    fn map(
        &self,
        entry: usize,
        number: u32,
        object: &Map<String, Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        let [key, value_field] = self.schema.messages[entry].fields.as_slice() else { return Ok(()) };
        for (name, value) in object {
            if value.is_null() {
                continue;
            }
            let mut inner = Vec::new();
            scalar::put(self.schema, key, &Value::String(name.clone()), &mut inner)?;
            self.field(value_field, value, &mut inner)?;
            wire::put_bytes(out, number, &inner);
        }
        Ok(())
    }
}

fn unexpected(field: &Field, value: &Value) -> JsonError {
    let found = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
    };
    JsonError::UnexpectedType { field: field.name.clone(), found }
}
