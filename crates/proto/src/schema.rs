//! The descriptors, laid out for speed: what the JSON writer and reader look up for every field stands in
//! flat tables that are built once per process.

mod build;
mod required;

use std::{collections::HashMap, sync::OnceLock};

use prost_reflect::DescriptorPool;

pub(crate) use required::missing_in;
pub use required::{ProtobufError, decode, missing_required};

/// How a field's values stand on the wire and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int,
    Uint,
    Sint,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(usize),
    Message(usize),
}

/// How many values a field has. A map's kind is its entry message, with the fields `key` and `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Optional,
    Required,
    Repeated,
    Map,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// `"name":`, as the writer puts it.
    pub(crate) key: Vec<u8>,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    /// Whether an integer has 32 bits only.
    pub(crate) narrow: bool,
    pub(crate) shape: Shape,
    /// What Mesos prints for an unset field: the JSON text of an explicit default, or an empty list.
    pub(crate) printed_default: Option<Vec<u8>>,
    /// The JSON text of the value that an absent scalar stands for.
    pub(crate) absent: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Message {
    /// In the order of the `.proto` file, which is the order of the output.
    pub(crate) fields: Vec<Field>,
    pub(crate) by_name: HashMap<String, usize>,
    /// Field number to index in `fields`, sorted by number.
    by_number: Vec<(u32, usize)>,
}

impl Message {
    /// The index of a field in `fields`.
    pub(crate) fn index_of(&self, number: u32) -> Option<usize> {
        // Numbers mostly start at 1 and have no gaps, so the place is guessed first.
        let guess = number.wrapping_sub(1) as usize;
        match self.by_number.get(guess) {
            Some((found, index)) if *found == number => Some(*index),
            _ => {
                let place = self.by_number.binary_search_by_key(&number, |entry| entry.0).ok()?;
                Some(self.by_number[place].1)
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Enum {
    pub(crate) by_name: HashMap<String, i32>,
    /// Number to quoted name, sorted by number.
    names: Vec<(i32, Vec<u8>)>,
}

impl Enum {
    /// The quoted name of a value, if the enum has it.
    pub(crate) fn quoted(&self, number: i32) -> Option<&[u8]> {
        let place = self.names.binary_search_by_key(&number, |entry| entry.0).ok()?;
        Some(&self.names[place].1)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Schema {
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    by_full_name: HashMap<String, usize>,
}

impl Schema {
    pub(crate) fn get() -> &'static Self {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| build::build(pool()))
    }

    /// The index of a message by its full name, such as `mesos.v1.scheduler.Call`.
    pub(crate) fn message_index(&self, full_name: &str) -> Option<usize> {
        self.by_full_name.get(full_name).copied()
    }

    /// The index of a message type that this crate generated.
    pub(crate) fn index_for<M: prost::Name>(&self) -> usize {
        self.message_index(&M::full_name()).expect("types and descriptors come from the same build")
    }
}

/// The descriptors of all messages and services, for reflection.
pub fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(crate::DESCRIPTORS).expect("the build script compiled them"))
}
