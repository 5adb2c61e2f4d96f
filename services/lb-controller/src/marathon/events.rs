//! Marathon's stream of events: what is to be read again.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::Instant;

/// The events that may change what is served.
pub(super) const PATH: &str = "/v2/events?plan-format=light&event_type=api_post_event&event_type=app_terminated_event\
    &event_type=group_change_success&event_type=deployment_success&event_type=deployment_failed\
    &event_type=status_update_event&event_type=health_status_changed_event&event_type=instance_health_changed_event";

/// Longest silence of a server that says now and then that it is there, and of one that does not.
const MISSED: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(300);
/// Longest event.
const LONGEST: usize = 16 * 1024 * 1024;

/// What has to be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) all: bool,
    pub(super) apps: BTreeSet<String>,
}

impl Pending {
    /// Nothing has to.
    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.apps.is_empty()
    }

    /// Takes an event in.
    pub(super) fn note(&mut self, data: &str) {
        // Some servers put several into one event.
        for event in serde_json::Deserializer::from_str(data).into_iter().map_while(Result::ok) {
            self.note_one(&event);
        }
    }

    fn note_one(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // It becomes a part of a URL.
        let plain =
            |id: &String| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-.".contains(&byte));
        let app = text(&event["appId"]).or_else(|| text(&event["runSpecId"])).filter(plain);
        match (event["eventType"].as_str().unwrap_or_default(), app) {
            (
                "status_update_event"
                | "health_status_changed_event"
                | "instance_health_changed_event"
                | "app_terminated_event",
                Some(app),
            ) => {
                self.apps.insert(app);
            }
            // What a deployment or a group changed is not said in full.
            ("api_post_event" | "group_change_success" | "deployment_success" | "deployment_failed", _) => {
                self.all = true;
            }
            _ => {}
        }
    }
}

/// Reads events off a body.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    buffer: Lines,
    heard: Instant,
}

/// Bytes into the data of events.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    data: String,
    /// The server says now and then that it is there.
    beats: bool,
}

impl Events {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: Lines::default(), heard: Instant::now() }
    }

    /// When the stream is taken for dead.
    pub(super) fn dead(&self) -> Instant {
        self.heard + if self.buffer.beats { MISSED } else { SILENCE }
    }

    /// The data of the events that came next; none at the end.
    pub(super) async fn next(&mut self) -> Option<Vec<String>> {
        loop {
            let frame = self.body.frame().await?.ok()?;
            self.heard = Instant::now();
            let Ok(bytes) = frame.into_data() else { continue };
            return self.buffer.take(&bytes);
        }
    }
}

impl Lines {
    /// Events that are complete now; none: one is too long.
    fn take(&mut self, bytes: &Bytes) -> Option<Vec<String>> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut from = 0;
        while let Some(length) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[from..from + length]);
            let line = line.trim_end_matches('\r');
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.trim_start());
            } else if line.starts_with('{') {
                // A line break inside of an event's data.
                self.data.push_str(line);
            } else if line.starts_with(':') {
                self.beats = true;
            } else if line.is_empty() && !self.data.is_empty() {
                events.push(std::mem::take(&mut self.data));
            }
            from += length + 1;
        }
        self.rest.drain(..from);
        (self.rest.len() + self.data.len() < LONGEST).then_some(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream =
            "event: status_update_event\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n\r\nevent: x\ndata: two\n\n";
        for size in 1..stream.len() {
            let mut lines = Lines::default();
            let parts = stream.as_bytes().chunks(size);
            let events: Vec<String> =
                parts.flat_map(|part| lines.take(&Bytes::copy_from_slice(part)).unwrap()).collect();
            assert_eq!(events, ["{\"a\":1}", "two"], "{size}");
        }
        assert_eq!(Lines::default().take(&Bytes::from(vec![b'x'; LONGEST])), None);
        let mut lines = Lines::default();
        assert_eq!(lines.take(&Bytes::from_static(b"data: {}\r\n{}\r\n\r\n:\n\n")).unwrap(), ["{}{}"]);
        assert!(lines.beats);
    }

    #[test]
    fn an_event_says_what_is_to_be_read_again() {
        let mut pending = Pending::default();
        pending.note(r#"{"eventType":"status_update_event","appId":"/a","taskStatus":"TASK_RUNNING"}"#);
        pending.note(r#"{"eventType":"instance_health_changed_event","runSpecId":"/b"}"#);
        pending.note(r#"{"eventType":"app_terminated_event","appId":"/a?force=true HTTP/1.1"}"#);
        pending.note("no JSON");
        let two = r#"{"eventType":"status_update_event","appId":"/c"}"#;
        pending.note(&format!("{two}{}", two.replace("/c", "/d")));
        pending.note(r#"{"eventType":"event_stream_attached"}"#);
        assert_eq!((pending.all, pending.apps.len()), (false, 4));
        pending.note(r#"{"eventType":"group_change_success","groupId":"/"}"#);
        assert!(pending.all);
    }
}
