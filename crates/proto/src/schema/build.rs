//! Descriptors to tables.

use std::collections::HashMap;

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind as Declared, MessageDescriptor, Value,
};

use super::{Enum, Field, Kind, Message, Schema, Shape};
use crate::json::text;

/// Messages whose empty lists Mesos prints, unlike those of all others.
const LISTS: [&str; 7] = [
    "mesos.v1.agent.Response.GetTasks",
    "mesos.v1.agent.Response.GetExecutors",
    "mesos.v1.agent.Response.GetFrameworks",
    "mesos.v1.master.Response.GetTasks",
    "mesos.v1.master.Response.GetExecutors",
    "mesos.v1.master.Response.GetFrameworks",
    "mesos.v1.master.Response.GetAgents",
];

/// Full name to index, for messages and enums.
struct Names {
    messages: HashMap<String, usize>,
    enums: HashMap<String, usize>,
}

pub(super) fn build(pool: &DescriptorPool) -> Schema {
    let number = |name: &str, index| (name.to_owned(), index);
    let names = Names {
        messages: pool.all_messages().enumerate().map(|(i, m)| number(m.full_name(), i)).collect(),
        enums: pool.all_enums().enumerate().map(|(i, e)| number(e.full_name(), i)).collect(),
    };
    Schema {
        messages: pool.all_messages().map(|m| message(&m, &names)).collect(),
        enums: pool.all_enums().map(|e| enumeration(&e)).collect(),
        by_full_name: names.messages,
    }
}

fn message(descriptor: &MessageDescriptor, names: &Names) -> Message {
    // The descriptor's own iterator goes by number; the output goes by declaration.
    let declared = &descriptor.descriptor_proto().field;
    let fields: Vec<Field> = declared
        .iter()
        .filter_map(|proto| descriptor.get_field_by_name(proto.name()))
        .map(|f| field(&f, names))
        .collect();
    let by_name = fields.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect();
    let mut by_number: Vec<_> = fields.iter().enumerate().map(|(i, f)| (f.number, i)).collect();
    by_number.sort_unstable();
    Message { fields, by_name, by_number }
}

fn field(descriptor: &FieldDescriptor, names: &Names) -> Field {
    let proto = descriptor.field_descriptor_proto();
    let mut key = Vec::new();
    text::string(&mut key, descriptor.name());
    key.push(b':');
    let mut absent = Vec::new();
    if !descriptor.is_list() && !descriptor.is_map() {
        scalar(&mut absent, &descriptor.default_value(), &descriptor.kind());
    }
    let deprecated = proto.options.as_ref().is_some_and(|o| o.deprecated());
    let printed = proto.default_value.is_some() && !deprecated;
    let listed =
        descriptor.is_list() && !deprecated && LISTS.contains(&descriptor.parent_message().full_name());
    Field {
        name: descriptor.name().to_owned(),
        key,
        number: descriptor.number(),
        kind: kind(&descriptor.kind(), names),
        narrow: matches!(descriptor.kind(), Declared::Int32 | Declared::Uint32 | Declared::Sint32),
        shape: shape(descriptor),
        printed_default: match (printed, listed) {
            (true, _) => Some(absent.clone()),
            (_, true) => Some(b"[]".to_vec()),
            _ => None,
        },
        absent,
    }
}

fn shape(descriptor: &FieldDescriptor) -> Shape {
    match descriptor.cardinality() {
        _ if descriptor.is_map() => Shape::Map,
        Cardinality::Optional => Shape::Optional,
        Cardinality::Required => Shape::Required,
        Cardinality::Repeated => Shape::Repeated,
    }
}

fn kind(declared: &Declared, names: &Names) -> Kind {
    match declared {
        Declared::Double => Kind::Double,
        Declared::Float => Kind::Float,
        Declared::Int32 | Declared::Int64 => Kind::Int,
        Declared::Uint32 | Declared::Uint64 => Kind::Uint,
        Declared::Sint32 | Declared::Sint64 => Kind::Sint,
        Declared::Fixed32 => Kind::Fixed32,
        Declared::Fixed64 => Kind::Fixed64,
        Declared::Sfixed32 => Kind::Sfixed32,
        Declared::Sfixed64 => Kind::Sfixed64,
        Declared::Bool => Kind::Bool,
        Declared::String => Kind::String,
        Declared::Bytes => Kind::Bytes,
        Declared::Message(m) => Kind::Message(names.messages[m.full_name()]),
        Declared::Enum(e) => Kind::Enum(names.enums[e.full_name()]),
    }
}

/// Writes the value as JSON; nothing for messages.
fn scalar(out: &mut Vec<u8>, value: &Value, declared: &Declared) {
    match value {
        Value::Bool(v) => text::boolean(out, *v),
        Value::I32(v) => text::integer(out, *v),
        Value::I64(v) => text::integer(out, *v),
        Value::U32(v) => text::integer(out, *v),
        Value::U64(v) => text::integer(out, *v),
        Value::F32(v) => text::double(out, f64::from(*v)),
        Value::F64(v) => text::double(out, *v),
        Value::String(v) => text::string(out, v),
        Value::Bytes(v) => text::bytes(out, v),
        Value::EnumNumber(v) => {
            let name = declared.as_enum().and_then(|e| e.get_value(*v));
            text::string(out, name.as_ref().map_or("", |n| n.name()));
        }
        Value::Message(_) | Value::List(_) | Value::Map(_) => {}
    }
}

fn enumeration(descriptor: &EnumDescriptor) -> Enum {
    let by_name = descriptor.values().map(|v| (v.name().to_owned(), v.number())).collect();
    let mut names: Vec<(i32, Vec<u8>)> = Vec::new();
    for value in descriptor.values() {
        let mut quoted = Vec::new();
        text::string(&mut quoted, value.name());
        names.push((value.number(), quoted));
    }
    // Stable: of two names for one number the first declared is printed.
    names.sort_by_key(|entry| entry.0);
    names.dedup_by_key(|entry| entry.0);
    Enum { by_name, names }
}
