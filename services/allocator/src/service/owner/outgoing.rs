//! Events that came together go out together.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::scheduler::Event;

use crate::core::StreamId;

/// What one message holds at most: events, and offers in them, which are what is large.
const MOST: usize = 500;

/// Events of one turn, by stream.
#[derive(Debug, Default)]
pub(super) struct Outgoing(BTreeMap<StreamId, Vec<Event>>);

impl Outgoing {
    pub(super) fn add(&mut self, stream: StreamId, mut events: Vec<Event>) {
        self.0.entry(stream).or_default().append(&mut events);
    }

    /// Those of one stream, in messages.
    pub(super) fn take(&mut self, stream: &StreamId) -> Vec<Vec<Event>> {
        self.0.remove(stream).map(messages).unwrap_or_default()
    }

    /// All streams that have some.
    pub(super) fn streams(&self) -> Vec<StreamId> {
        self.0.keys().cloned().collect()
    }
}

fn messages(events: Vec<Event>) -> Vec<Vec<Event>> {
    let (mut messages, mut size) = (Vec::new(), MOST);
    for event in events {
        let weight = event.offers.as_ref().map_or(1, |offers| offers.offers.len());
        if size + weight > MOST || messages.is_empty() {
            messages.push(Vec::new());
            size = 0;
        }
        size += weight;
        if let Some(last) = messages.last_mut() {
            last.push(event);
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use meshos_proto::mesos::v1::{self as pb, scheduler::event};

    use super::*;

    #[test]
    fn events_keep_their_order_and_large_ones_go_alone() {
        let event = |offers: usize| Event {
            offers: Some(event::Offers { offers: vec![pb::Offer::default(); offers] }),
            ..Event::default()
        };
        let mut outgoing = Outgoing::default();
        for offers in [1, 2, MOST, 3, MOST * 2] {
            outgoing.add("s".to_owned(), vec![event(offers)]);
        }
        let sizes: Vec<Vec<usize>> = outgoing
            .take(&"s".to_owned())
            .iter()
            .map(|message| message.iter().map(|event| event.offers.as_ref().unwrap().offers.len()).collect())
            .collect();
        assert_eq!(sizes, [vec![1, 2], vec![MOST], vec![3], vec![MOST * 2]]);
        assert!(outgoing.streams().is_empty());
    }
}
