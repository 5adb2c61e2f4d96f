//! Bodies that somebody else made: nearly valid, and as large or as deep as a body may be.

use proptest::prelude::*;
use prost::{Message as _, Name};

use super::{super::*, sample};
use crate::{ProtobufError, decode, mesos::v1 as mesos, pool};

/// One thing done to bytes: where, what, and with which byte.
type Spoil = (prop::sample::Index, u8, u8);

fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0u8..5, any::<u8>()), 0..6)
}

fn spoiled(mut bytes: Vec<u8>, spoils: &[Spoil]) -> Vec<u8> {
    for (place, kind, byte) in spoils {
        if bytes.is_empty() {
            return bytes;
        }
        let at = place.index(bytes.len());
        match kind {
            0 => bytes[at] ^= 1 << (byte & 7),
            1 => bytes.insert(at, *byte),
            2 => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => {
                let end = (at + usize::from(*byte)).min(bytes.len());
                let twice = bytes[at..end].to_vec();
                bytes.splice(at..at, twice);
            }
        }
    }
    bytes
}

fn any_call<M: Name>(seed: u64) -> Vec<u8> {
    sample(&pool().get_message_by_name(&M::full_name()).unwrap(), seed).0
}

/// What was read is read the same again, in either form.
fn steady<M: prost::Message + Name + Default + PartialEq + std::fmt::Debug>(message: &M) {
    assert_eq!(&M::decode(message.encode_to_vec().as_slice()).unwrap(), message);
    let shown = to_json(message);
    // Numbers of enums that have no name, and what is no number, are not written.
    if let Ok(again) = from_json::<M>(&shown) {
        assert_eq!(to_json(&again), shown);
    }
}

fn read_json<M: prost::Message + Name + Default + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let Ok(tree) = parse(body) else { return };
    if let Ok(message) = from_json::<M>(&tree) {
        steady(&message);
        assert!(from_json::<M>(&to_json(&message)).is_ok(), "what was read can be written and read");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_spoiled_json_call_is_refused_or_read_for_good(seed: u64, spoils in spoils()) {
        let call = mesos::scheduler::Call::decode(any_call::<mesos::scheduler::Call>(seed).as_slice()).unwrap();
        read_json::<mesos::scheduler::Call>(&spoiled(to_json_string(&call).into_bytes(), &spoils));
        let call = mesos::master::Call::decode(any_call::<mesos::master::Call>(seed).as_slice()).unwrap();
        read_json::<mesos::master::Call>(&spoiled(to_json_string(&call).into_bytes(), &spoils));
    }

    #[test]
    fn a_spoiled_protobuf_call_is_refused_or_read_for_good(seed: u64, spoils in spoils()) {
        let bytes = spoiled(any_call::<mesos::scheduler::Call>(seed), &spoils);
        if let Ok(call) = decode::<mesos::scheduler::Call>(&bytes) {
            steady(&call);
        }
        let bytes = spoiled(any_call::<mesos::executor::Call>(seed), &spoils);
        if let Ok(call) = decode::<mesos::executor::Call>(&bytes) {
            steady(&call);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(call) = decode::<mesos::agent::Call>(&bytes) {
            steady(&call);
        }
        read_json::<mesos::agent::Call>(&bytes);
    }
}

/// A container within a container within …
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = b"\x0a\x01x".to_vec();
    for _ in 0..depth {
        let mut outer = b"\x0a\x01x\x12".to_vec();
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend_from_slice(&bytes);
        bytes = outer;
    }
    bytes
}

#[test]
fn depth_is_bounded() {
    let deep = decode::<mesos::ContainerId>(&nested(90)).unwrap();
    steady(&deep);
    assert!(matches!(decode::<mesos::ContainerId>(&nested(5000)), Err(ProtobufError::TooMuch)));
    let tree =
        |depth: usize| format!("{}{}", r#"{"value":"x","parent":"#.repeat(depth), "1") + &"}".repeat(depth);
    assert!(parse(tree(100_000).as_bytes()).is_err(), "the parser does not follow");
    assert!(from_json::<mesos::ContainerId>(&parse(tree(100).as_bytes()).unwrap()).is_err());
}

#[test]
fn the_number_of_messages_is_bounded() {
    // 2 bytes each; a task takes more than 1000 in memory.
    let empty_operations = b"\x12\x00".repeat(3_000_000);
    let mut accept = b"\x10\x03\x22".to_vec();
    prost::encoding::encode_varint(empty_operations.len() as u64, &mut accept);
    accept.extend_from_slice(&empty_operations);
    assert!(matches!(decode::<mesos::scheduler::Call>(&accept), Err(ProtobufError::TooMuch)));
    // Absent fields are named up to a number.
    let task = b"\x0a\x00".repeat(10_000);
    let Err(ProtobufError::NotInitialized(missing)) = decode::<mesos::offer::operation::Launch>(&task) else {
        panic!("tasks without anything are refused");
    };
    assert_eq!(missing.len(), 100);
}
