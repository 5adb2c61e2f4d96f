//! Answers of a real Mesos 1.12, read into our messages and written again. `tests/golden/` holds them one a
//! line: events in the exact bytes of the stream, responses with the spaces taken out.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use meshos_proto::{
    decode, json,
    mesos::v1::{agent, master, scheduler},
    recordio::Decoder,
};
use prost::{Message, Name};

fn rewrite<M: Message + Name + Default>(line: &str) -> String {
    let tree = json::parse(line.as_bytes()).unwrap();
    json::to_json_string(&json::from_json::<M>(&tree).unwrap())
}

#[test]
fn scheduler_events_are_written_byte_for_byte() {
    for line in include_str!("golden/scheduler_events.jsonl").lines() {
        assert_eq!(rewrite::<scheduler::Event>(line), line);
    }
}

/// As trees: the order of a map's keys is chance in Mesos.
fn same<M: Message + Name + Default>(lines: &str) {
    for line in lines.lines() {
        let ours: serde_json::Value = serde_json::from_str(&rewrite::<M>(line)).unwrap();
        assert_eq!(ours, serde_json::from_str::<serde_json::Value>(line).unwrap());
    }
}

#[test]
fn operator_answers_keep_keys_and_values() {
    same::<master::Response>(include_str!("golden/master_responses.jsonl"));
    same::<agent::Response>(include_str!("golden/agent_responses.jsonl"));
}

#[test]
fn a_protobuf_stream_decodes_to_the_same_events() {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(include_bytes!("golden/scheduler_protobuf.recordio"));
    let mut events = Vec::new();
    while let Some(record) = decoder.next().unwrap() {
        let event: scheduler::Event = decode(&record).unwrap();
        assert_eq!(event.encode_to_vec(), record, "another implementation's bytes are ours");
        events.push(json::to_json(&event));
    }
    assert!(decoder.is_at_boundary());
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["SUBSCRIBED", "OFFERS", "HEARTBEAT"]);
    assert_eq!(events[0]["subscribed"]["heartbeat_interval_seconds"], 15.0);
    assert_eq!(events[1]["offers"]["offers"][0]["url"]["address"]["port"], 5051);
}
