mod hostile;
mod random;
mod rules;

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::{Message as _, Name};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};
use serde_json::Value;

use super::*;
use crate::{decode, mesos::v1 as mesos, pool, schema::Schema};
use random::Random;

fn mesos_messages() -> impl Iterator<Item = MessageDescriptor> {
    pool().all_messages().filter(|m| m.full_name().starts_with("mesos.v1.") && !m.is_map_entry())
}

/// A random message, and the same with every default set that the writer prints.
fn sample(descriptor: &MessageDescriptor, seed: u64) -> (Vec<u8>, DynamicMessage) {
    let message = Random::new(seed).message(descriptor, 0);
    let bytes = message.encode_to_vec();
    let mut filled = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
    random::fill_defaults(&mut filled);
    (bytes, filled)
}

#[test]
fn every_message_survives_json() {
    let schema = Schema::get();
    let mut kinds = 0;
    for descriptor in mesos_messages() {
        let index = schema.message_index(descriptor.full_name()).unwrap();
        for seed in 0..12 {
            let (bytes, filled) = sample(&descriptor, seed);
            let tree = tree_of(&descriptor, &bytes);
            let back = read::read(schema, index, &tree).unwrap();
            let back = DynamicMessage::decode(descriptor.clone(), back.as_slice()).unwrap();
            // Not `assert_eq`: the debug form of a recursive message's descriptor has no end.
            assert!(back == filled, "{} seed {seed}: {tree:#}", descriptor.full_name());
        }
        kinds += 1;
    }
    assert!(kinds > 300, "only {kinds} kinds of messages were found");
}

/// The generated type of a message takes and gives the same bytes and the same JSON as its descriptor.
fn check_type<M: prost::Message + Name + Default + PartialEq + std::fmt::Debug>(
    reached: &mut BTreeSet<String>,
    seed: u64,
) {
    let descriptor = pool().get_message_by_name(&M::full_name()).unwrap();
    reach(&descriptor, reached);
    let (bytes, filled) = sample(&descriptor, seed);
    let typed: M = decode(&bytes).unwrap();
    assert_eq!(decode::<M>(&typed.encode_to_vec()).unwrap(), typed);
    // Compared as trees: prost leaves out a map's value of zero, which the descriptor's message has.
    let tree = to_json(&typed);
    assert_eq!(tree, tree_of(&descriptor, &bytes));
    let back: M = from_json(&tree).unwrap();
    assert_eq!(to_json(&back), tree);
    assert_eq!(tree_of(&descriptor, &filled.encode_to_vec()), tree);
}

fn tree_of(descriptor: &MessageDescriptor, bytes: &[u8]) -> Value {
    let mut text = Vec::new();
    let schema = Schema::get();
    write::write(schema, schema.message_index(descriptor.full_name()).unwrap(), bytes, &mut text);
    serde_json::from_slice(&text).unwrap()
}

fn reach(descriptor: &MessageDescriptor, reached: &mut BTreeSet<String>) {
    if reached.insert(descriptor.full_name().to_owned()) {
        for field in descriptor.fields() {
            if let Kind::Message(inner) = field.kind() {
                reach(&inner, reached);
            }
        }
    }
}

macro_rules! check_types {
    ($seed:expr, $($message:path),* $(,)?) => {{
        let mut reached = BTreeSet::new();
        $(check_type::<$message>(&mut reached, $seed);)*
        reached
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_generated_type_agrees_with_its_descriptor(seed: u64) {
        let reached = check_types!(
            seed,
            mesos::scheduler::Call, mesos::scheduler::Event, mesos::scheduler::Response,
            mesos::scheduler::ApiResult, mesos::executor::Call, mesos::executor::Event,
            mesos::master::Call, mesos::master::Response, mesos::master::Event,
            mesos::agent::Call, mesos::agent::Response, mesos::agent::ProcessIo,
            mesos::resource_provider::Call, mesos::resource_provider::Event,
            mesos::ResourceUsage, mesos::Credentials, mesos::RateLimits, mesos::MachineInfo,
            mesos::DeviceWhitelist, mesos::quota::QuotaRequest, mesos::Request, mesos::Value,
            mesos::cgroup_info::Blkio, mesos::cgroup_info::blkio::Cfq,
            mesos::cgroup_info::blkio::Throttling,
        );
        let all: BTreeSet<String> = mesos_messages().map(|m| m.full_name().to_owned()).collect();
        let left_out: Vec<_> = all.difference(&reached).collect();
        prop_assert!(left_out.is_empty(), "name a type that contains: {left_out:?}");
    }

    #[test]
    fn any_json_is_read_or_refused(seed: u64) {
        let tree = Random::new(seed).json(0);
        let _ = from_json::<mesos::scheduler::Call>(&tree);
        // With a message's own field names more of the reader is reached.
        let (bytes, _) = sample(&pool().get_message_by_name("mesos.v1.master.Call").unwrap(), seed);
        let mut tree = to_json(&mesos::master::Call::decode(bytes.as_slice()).unwrap());
        Random::new(seed).spoil(&mut tree);
        let _ = from_json::<mesos::master::Call>(&tree);
    }
}
