//! Encoded messages to JSON text.

use prost::Name;

use super::text;
use crate::{
    schema::{Field, Kind, Schema, Shape},
    wire::{Fields, Raw},
};

pub(super) fn message<M: Name>(bytes: &[u8], out: &mut Vec<u8>) {
    let schema = Schema::get();
    write(schema, schema.index_for::<M>(), bytes, out);
}

pub(super) fn write(schema: &Schema, message: usize, bytes: &[u8], out: &mut Vec<u8>) {
    Writer { schema, out, spans: Vec::new() }.message(message, bytes);
}

/// Where in its message's bytes the values of a field stand, from the first to the last.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

const ABSENT: Span = Span { start: usize::MAX, end: 0 };

impl Span {
    fn is_absent(self) -> bool {
        self.end == 0
    }
}

struct Writer<'a> {
    schema: &'a Schema,
    out: &'a mut Vec<u8>,
    /// One stretch for each message that is being written, the innermost last.
    spans: Vec<Span>,
}

impl<'a> Writer<'a> {
    fn message(&mut self, index: usize, bytes: &[u8]) {
        let schema = self.schema;
        let base = self.spans.len();
        self.scan(index, bytes);
        self.out.push(b'{');
        for (place, field) in schema.messages[index].fields.iter().enumerate() {
            let span = self.spans[base + place];
            if span.is_absent() && field.printed_default.is_none() && field.shape != Shape::Required {
                continue;
            }
            let before = self.out.len();
            if self.out.last() != Some(&b'{') {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&field.key);
            let values = Values { fields: Fields::new(&bytes[..span.end]), number: field.number };
            if !self.field(field, span, values.from(span)) {
                self.out.truncate(before);
            }
        }
        self.out.push(b'}');
        self.spans.truncate(base);
    }

    fn scan(&mut self, index: usize, bytes: &[u8]) {
        let message = &self.schema.messages[index];
        let base = self.spans.len();
        self.spans.resize(base + message.fields.len(), ABSENT);
        let mut fields = Fields::new(bytes);
        let mut start = 0;
        while let Some((number, _)) = fields.next() {
            if let Some(place) = message.index_of(number) {
                let span = &mut self.spans[base + place];
                *span = Span { start: span.start.min(start), end: fields.position };
            }
            start = fields.position;
        }
    }

    /// Writes the values of a field; false if there is nothing to print.
    fn field(&mut self, field: &Field, span: Span, values: Values<'_>) -> bool {
        match field.shape {
            _ if span.is_absent() => self.absent(field),
            Shape::Optional | Shape::Required => {
                values.last().is_some_and(|value| self.value(field.kind, value)) || self.absent(field)
            }
            Shape::Repeated => {
                self.repeated(field.kind, values);
                true
            }
            Shape::Map => {
                self.map(field.kind, values);
                true
            }
        }
    }

    fn absent(&mut self, field: &Field) -> bool {
        if let Some(default) = &field.printed_default {
            self.out.extend_from_slice(default);
        } else if field.shape == Shape::Required {
            self.empty(field);
        } else {
            return false;
        }
        true
    }

    /// The value that prost left out since it is the default: in map entries only.
    fn empty(&mut self, field: &Field) {
        match field.kind {
            Kind::Message(inner) => self.message(inner, &[]),
            _ => self.out.extend_from_slice(&field.absent),
        }
    }

    fn repeated(&mut self, kind: Kind, values: Values<'_>) {
        self.out.push(b'[');
        for value in values {
            match value {
                Raw::Len(packed) if is_numeric(kind) => {
                    let mut fields = Fields::new(packed);
                    while let Some(value) = unpack(kind, &mut fields) {
                        self.element(kind, value);
                    }
                }
                value => self.element(kind, value),
            }
        }
        self.out.push(b']');
    }

    fn element(&mut self, kind: Kind, value: Raw<'_>) {
        let before = self.out.len();
        if self.out.last() != Some(&b'[') {
            self.out.push(b',');
        }
        if !self.value(kind, value) {
            self.out.truncate(before);
        }
    }

    fn map(&mut self, kind: Kind, values: Values<'_>) {
        let Kind::Message(entry) = kind else { return };
        let [key, value] = self.schema.messages[entry].fields.as_slice() else { return };
        self.out.push(b'{');
        for raw in values {
            let Raw::Len(bytes) = raw else { continue };
            if self.out.last() != Some(&b'{') {
                self.out.push(b',');
            }
            self.map_key(key, last_of(bytes, key.number));
            self.out.push(b':');
            let written = last_of(bytes, value.number).is_some_and(|raw| self.value(value.kind, raw));
            if !written {
                self.empty(value);
            }
        }
        self.out.push(b'}');
    }

    /// A key is a string, also where it is a number or a boolean.
    fn map_key(&mut self, field: &Field, raw: Option<Raw<'_>>) {
        let quote = field.kind != Kind::String;
        if quote {
            self.out.push(b'"');
        }
        if !raw.is_some_and(|raw| self.value(field.kind, raw)) {
            self.out.extend_from_slice(&field.absent);
        }
        if quote {
            self.out.push(b'"');
        }
    }

    /// Writes one value; false, and nothing written, if it is an enum value without a name.
    fn value(&mut self, kind: Kind, raw: Raw<'_>) -> bool {
        let out = &mut *self.out;
        match (kind, raw) {
            (Kind::Message(index), Raw::Len(bytes)) => self.message(index, bytes),
            (Kind::String, Raw::Len(bytes)) => text::quoted(out, bytes),
            (Kind::Bytes, Raw::Len(bytes)) => text::bytes(out, bytes),
            (Kind::Double, Raw::Fixed64(bits)) => text::double(out, f64::from_bits(bits)),
            (Kind::Float, Raw::Fixed32(bits)) => text::double(out, f64::from(f32::from_bits(bits))),
            (Kind::Int, Raw::Varint(number)) => text::integer(out, number as i64),
            (Kind::Uint, Raw::Varint(number)) => text::integer(out, number),
            (Kind::Sint, Raw::Varint(n)) => text::integer(out, (n >> 1) as i64 ^ -((n & 1) as i64)),
            (Kind::Fixed32, Raw::Fixed32(number)) => text::integer(out, number),
            (Kind::Fixed64, Raw::Fixed64(number)) => text::integer(out, number),
            (Kind::Sfixed32, Raw::Fixed32(number)) => text::integer(out, number as i32),
            (Kind::Sfixed64, Raw::Fixed64(number)) => text::integer(out, number as i64),
            (Kind::Bool, Raw::Varint(number)) => text::boolean(out, number != 0),
            (Kind::Enum(index), Raw::Varint(number)) => {
                match self.schema.enums[index].quoted(number as i32) {
                    Some(quoted) => out.extend_from_slice(quoted),
                    None => return false,
                }
            }
            _ => return false,
        }
        true
    }
}

/// The values of one field.
struct Values<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl Values<'_> {
    fn from(mut self, span: Span) -> Self {
        self.fields.position = span.start.min(span.end);
        self
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.fields.by_ref().find(|(number, _)| *number == self.number).map(|(_, raw)| raw)
    }
}

fn last_of(bytes: &[u8], number: u32) -> Option<Raw<'_>> {
    Fields::new(bytes).filter(|(found, _)| *found == number).last().map(|(_, raw)| raw)
}

fn is_numeric(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

fn unpack<'a>(kind: Kind, fields: &mut Fields<'a>) -> Option<Raw<'a>> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => fields.fixed64().map(Raw::Fixed64),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => fields.fixed32().map(Raw::Fixed32),
        _ => fields.varint().map(Raw::Varint),
    }
}
