//! Messages and JSON trees from a seed.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
    prost::bytes::Bytes,
};
use serde_json::json;

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn message(&mut self, descriptor: &MessageDescriptor, depth: u64) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if field.is_required() || self.below(2 + depth * 2) == 0 && depth < 8 {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u64) -> Value {
        let count = self.below(4);
        if field.is_map() {
            let kind = field.kind();
            let value = kind.as_message().unwrap().map_entry_value_field().kind();
            let entries = (0..count).map(|_| (MapKey::String(self.string()), self.value(&value, depth)));
            Value::Map(entries.collect())
        } else if field.is_list() {
            Value::List((0..count).map(|_| self.value(&field.kind(), depth)).collect())
        } else {
            self.value(&field.kind(), depth)
        }
    }

    fn value(&mut self, kind: &Kind, depth: u64) -> Value {
        // Extremes one time in four.
        let bits = [0, u64::MAX, 1 << 63, self.next(), self.next(), self.below(100)][self.below(6) as usize];
        match kind {
            Kind::Double => Value::F64(self.double()),
            Kind::Float => Value::F32(self.below(1000) as f32 / 8.0),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(bits as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(bits as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(bits as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(bits),
            Kind::Bool => Value::Bool(bits & 1 == 1),
            Kind::String => Value::String(self.string()),
            Kind::Bytes => {
                let len = self.below(6);
                Value::Bytes(Bytes::from((0..len).map(|_| self.next() as u8).collect::<Vec<_>>()))
            }
            Kind::Message(inner) => Value::Message(self.message(inner, depth + 1)),
            Kind::Enum(inner) => {
                let values: Vec<_> = inner.values().collect();
                Value::EnumNumber(values[self.below(values.len() as u64) as usize].number())
            }
        }
    }

    /// Of at most 15 digits, so that any reader of decimals gets the same bits.
    fn double(&mut self) -> f64 {
        match self.below(8) {
            0 => 0.0,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => self.below(1000) as f64,
            _ => (self.below(2_000_000_000) as f64 - 1e9) / 1000.0 + 0.0,
        }
    }

    fn string(&mut self) -> String {
        const CHARS: [char; 12] =
            ['a', 'Z', '0', '"', '\\', '/', '\n', '\u{1}', '\u{7f}', 'é', '\u{2028}', '𝄞'];
        (0..self.below(7)).map(|_| CHARS[self.below(12) as usize]).collect()
    }

    pub(super) fn json(&mut self, depth: u64) -> serde_json::Value {
        const NAMES: [&str; 6] = ["type", "subscribe", "framework_info", "user", "accept", "operations"];
        match self.below(if depth > 4 { 6 } else { 9 }) {
            0 => serde_json::Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.next() as i64),
            3 => json!(self.double()),
            4 => json!(self.string()),
            5 => json!("SUBSCRIBE"),
            6 => (0..self.below(4)).map(|_| self.json(depth + 1)).collect(),
            _ => {
                let fields =
                    (0..self.below(5)).map(|_| (NAMES[self.below(6) as usize], self.json(depth + 1)));
                fields.map(|(name, value)| (name.to_owned(), value)).collect()
            }
        }
    }

    /// Replaces some parts of the tree by others.
    pub(super) fn spoil(&mut self, tree: &mut serde_json::Value) {
        if self.below(8) == 0 {
            *tree = self.json(3);
            return;
        }
        match tree {
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.spoil(item)),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(|item| self.spoil(item)),
            _ => {}
        }
    }
}

/// Sets what the JSON form prints although it is not set.
pub(super) fn fill_defaults(message: &mut DynamicMessage) {
    for field in message.descriptor().fields() {
        let proto = field.field_descriptor_proto();
        let deprecated = proto.options.as_ref().is_some_and(|o| o.deprecated());
        if !message.has_field(&field) {
            if proto.default_value.is_some() && !deprecated {
                message.set_field(&field, field.default_value());
            }
            continue;
        }
        match message.get_field_mut(&field) {
            Value::Message(inner) => fill_defaults(inner),
            Value::List(items) => items.iter_mut().filter_map(Value::as_message_mut).for_each(fill_defaults),
            Value::Map(items) => items.values_mut().filter_map(Value::as_message_mut).for_each(fill_defaults),
            _ => {}
        }
    }
}
