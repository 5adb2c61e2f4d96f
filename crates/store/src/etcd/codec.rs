//! Between our types and etcd's messages.

use bytes::Bytes;
use meshos_proto::etcdserverpb as pb;
use meshos_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use meshos_proto::etcdserverpb::request_op::Request;
use meshos_proto::mvccpb;
use meshos_proto::mvccpb::event::EventType;

use crate::error::{Error, Result};
use crate::model::{Compare, Event, KeyValue, LeaseId, Op, Revision};

/// Where the range of all keys with a prefix starts; etcd writes "from the first key" as one zero byte.
pub(super) fn range_start(prefix: &str) -> Bytes {
    if prefix.is_empty() { Bytes::from_static(b"\0") } else { prefix.to_owned().into() }
}

/// Where the range of all keys with a prefix ends; etcd writes "to the last key" as one zero byte.
pub(super) fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no byte 0xff, so that the last byte can always be raised.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end.into()
}

pub(super) fn revision(header: Option<&pb::ResponseHeader>) -> Revision {
    header.map_or(0, |header| unsigned(header.revision))
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn key_value(kv: mvccpb::KeyValue) -> Result<KeyValue> {
    Ok(KeyValue {
        key: text(kv.key)?,
        value: kv.value,
        create_revision: unsigned(kv.create_revision),
        mod_revision: unsigned(kv.mod_revision),
        version: unsigned(kv.version),
        lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
    })
}

pub(super) fn event(event: mvccpb::Event) -> Result<Event> {
    let kind = event.r#type();
    let kv = event.kv.unwrap_or_default();
    match kind {
        EventType::Put => key_value(kv).map(Event::Put),
        EventType::Delete => {
            Ok(Event::Delete { key: text(kv.key)?, mod_revision: unsigned(kv.mod_revision) })
        }
    }
}

fn text(key: Bytes) -> Result<String> {
    String::from_utf8(key.into()).map_err(|error| Error::Corrupt {
        place: "etcd".to_owned(),
        why: format!(
            "the key {:?} is not UTF-8; another program writes under our prefixes",
            error.as_bytes()
        ),
    })
}

pub(super) fn compare(compare: &Compare) -> pb::Compare {
    let created = |result, revision: Revision| {
        (result, CompareTarget::Create, TargetUnion::CreateRevision(revision as i64))
    };
    let (result, target, union) = match compare {
        Compare::Absent(_) => created(CompareResult::Equal, 0),
        Compare::Present(_) => created(CompareResult::Greater, 0),
        // Revision 0 would mean "absent" to etcd; no key has it, and none is below it.
        Compare::CreateRevision(_, 0) | Compare::ModRevision(_, 0) => created(CompareResult::Less, 0),
        Compare::CreateRevision(_, revision) => created(CompareResult::Equal, *revision),
        Compare::ModRevision(_, revision) => {
            (CompareResult::Equal, CompareTarget::Mod, TargetUnion::ModRevision(*revision as i64))
        }
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: compare.key().to_owned().into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// Holds when no key with the prefix was written after `revision`.
pub(super) fn unchanged_since(prefix: &str, revision: Revision) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Less.into(),
        target: CompareTarget::Mod.into(),
        key: range_start(prefix),
        range_end: prefix_end(prefix),
        target_union: Some(TargetUnion::ModRevision(revision as i64 + 1)),
    }
}

pub(super) fn operation(op: Op) -> pb::RequestOp {
    let request = match op {
        Op::Put { key, value, lease } => Request::RequestPut(pb::PutRequest {
            key: key.into(),
            value,
            lease: lease.map_or(0, |id| id.0),
            ..Default::default()
        }),
        Op::Delete { key } => {
            Request::RequestDeleteRange(pb::DeleteRangeRequest { key: key.into(), ..Default::default() })
        }
        Op::DeletePrefix { prefix } => Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: range_start(&prefix),
            range_end: prefix_end(&prefix),
            ..Default::default()
        }),
    };
    pb::RequestOp { request: Some(request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_range_covers_exactly_the_prefix() {
        assert_eq!(range_start("a/"), "a/");
        assert_eq!(prefix_end("a/"), "a0");
        assert_eq!((range_start(""), prefix_end("")), (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")));
        assert!(prefix_end("ä").as_ref() > "ä\u{10ffff}".as_bytes());
    }
}
