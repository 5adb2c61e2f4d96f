//! Messages with arbitrary content, by reflection: every field of every message is met without being named here.

use meshos_proto::DESCRIPTORS;
use prost::{Message, Name};
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

/// Deeper messages are left empty.
const DEPTH: usize = 7;

/// Names that mean something in the cluster under test, and names that should not.
const TEXTS: [&str; 32] = [
    "s1",
    "s2",
    "s9",
    "t1",
    "t2",
    "t3",
    "m-0000",
    "m-0001",
    "m-O0",
    "m-O1",
    "m-O2",
    "m-O3",
    "m-O4",
    "*",
    "eng",
    "eng/web",
    "ops",
    "cpus",
    "mem",
    "disk",
    "ports",
    "gpus",
    "v1",
    "e",
    "nobody",
    "root",
    "",
    "..",
    "a/b",
    "\0",
    "-x",
    "\u{202e}\u{1f4a5}",
];
const REALS: [f64; 13] =
    [0.0, 0.1, 1.0, 2.0, 32.0, 100.0, -1.0, 0.0004, 1e18, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
const NUMBERS: [i64; 10] = [0, 1, 2, 3, 31_000, 31_001, -1, i64::MAX, i64::MIN, 4_294_967_296];

/// A source of messages; the same seed makes the same ones.
pub(super) struct Arbitrary {
    pool: DescriptorPool,
    rng: SmallRng,
}

impl Arbitrary {
    pub(super) fn new(seed: u64) -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        Self { pool, rng: SmallRng::seed_from_u64(seed) }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    /// Any message of this type.
    pub(super) fn any<M: Message + Name + Default>(&mut self) -> M {
        let message = self.message(&self.descriptor::<M>(), 0);
        M::decode(message.encode_to_vec().as_slice()).unwrap()
    }

    /// A message like this one, with some of its fields changed.
    pub(super) fn spoilt<M: Message + Name + Default>(&mut self, message: &M) -> M {
        let bytes = message.encode_to_vec();
        let mut message = DynamicMessage::decode(self.descriptor::<M>(), bytes.as_slice()).unwrap();
        self.spoil(&mut message, 0);
        M::decode(message.encode_to_vec().as_slice()).unwrap()
    }

    fn descriptor<M: Name>(&self) -> MessageDescriptor {
        self.pool.get_message_by_name(&M::full_name()).unwrap()
    }

    fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            let wanted = field.cardinality() == Cardinality::Required || self.chance(40);
            if wanted && depth < DEPTH {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { panic!("a map is of entries") };
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let one = |this: &mut Self| {
                let key = match this.single(&key, depth) {
                    Value::String(text) => MapKey::String(text),
                    other => panic!("{other:?}"),
                };
                (key, this.single(&value, depth))
            };
            return Value::Map((0..self.below(3)).map(|_| one(self)).collect());
        }
        if field.is_list() {
            return Value::List((0..self.below(4)).map(|_| self.single(field, depth)).collect());
        }
        self.single(field, depth)
    }

    fn single(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let rng = &mut self.rng;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any number will do")]
        match field.kind() {
            Kind::Double => Value::F64(*REALS.choose(rng).unwrap()),
            Kind::Float => Value::F32(*REALS.choose(rng).unwrap() as f32),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(*NUMBERS.choose(rng).unwrap() as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(*NUMBERS.choose(rng).unwrap()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(*NUMBERS.choose(rng).unwrap() as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(*NUMBERS.choose(rng).unwrap() as u64),
            Kind::Bool => Value::Bool(rng.random()),
            Kind::String => match rng.random_ratio(1, 50) {
                true => Value::String("x".repeat(300)),
                false => Value::String((*TEXTS.choose(rng).unwrap()).to_owned()),
            },
            Kind::Bytes => {
                let (length, byte) =
                    (*[0, 1, 15, 16, 16, 17].choose(rng).unwrap(), rng.random_range(0..3_u8));
                Value::Bytes(vec![byte; length].into())
            }
            Kind::Enum(kind) => {
                let known: Vec<i32> = kind.values().map(|value| value.number()).collect();
                let unknown = rng.random_ratio(1, 20);
                Value::EnumNumber(if unknown { 9_999 } else { *known.choose(rng).unwrap() })
            }
            Kind::Message(descriptor) => Value::Message(self.message(&descriptor, depth + 1)),
        }
    }

    /// Changes a field here and there.
    fn spoil(&mut self, message: &mut DynamicMessage, depth: usize) {
        for field in message.descriptor().fields().collect::<Vec<_>>() {
            if self.chance(2) {
                let value = self.field(&field, depth.max(3));
                message.set_field(&field, value);
            } else if message.has_field(&field) && self.chance(2) {
                message.clear_field(&field);
            } else if message.has_field(&field) {
                self.spoil_value(message.get_field_mut(&field), depth);
            }
        }
    }

    fn spoil_value(&mut self, value: &mut Value, depth: usize) {
        match value {
            Value::Message(inner) => self.spoil(inner, depth + 1),
            Value::List(list) => {
                list.iter_mut().for_each(|item| self.spoil_value(item, depth + 1));
                if let Some(first) = list.first().cloned()
                    && self.chance(6)
                {
                    list.push(first);
                }
            }
            _ => {}
        }
    }
}
