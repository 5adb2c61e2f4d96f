//! `POST /api/v1/scheduler`: calls of frameworks, and their event streams.

mod calls;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use meshos_mesh::MAX_MESSAGE_BYTES;
use meshos_proto::{
    meshos::allocator::v1::{SubscribeRequest, SubscribeResponse, scheduler_client::SchedulerClient},
    mesos::v1::scheduler::{Call, Event, call::Type},
    recordio,
};
use prometheus::IntGauge;
use tonic::{Response, Streaming};
use tracing::{debug, info};

use super::{
    About, Mesos,
    call::{self, Encoding, refuse},
    refusal, validate,
};
use crate::{
    client::Repeat,
    http::{
        Reply, Request,
        stream::{ChunkSender, StreamEnd, chunks},
    },
};

pub(super) use calls::SchedulerCalls;

const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

impl Mesos {
    pub(super) async fn scheduler(&self, request: Request) -> Reply {
        match self.try_scheduler(&request).await {
            Ok(reply) => reply,
            Err(refused) => *refused,
        }
    }

    async fn try_scheduler(&self, request: &Request) -> Result<Reply, Box<Reply>> {
        let call: Call = call::read(request)?;
        let kind = validate::scheduler_call(&call)
            .map_err(|why| refuse(format!("Failed to validate scheduler::Call: {why}")))?;
        let stream_id = request.header(STREAM_ID.as_str());
        if kind == Type::Subscribe {
            let encoding = call::accept(request)?;
            if request.headers.contains_key(STREAM_ID) {
                let text = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
                return Err(refuse(text.to_owned()));
            }
            return self.subscribe(call, encoding).await;
        }
        // The allocator, which knows the framework, says what is wrong with an absent one.
        let stream_id = stream_id.unwrap_or_default();
        let encoded = call::encoded(request, &call);
        let called = self.calls.call(repeat(kind), stream_id, encoded).await;
        called.map_err(|error| Box::new(refusal(&error)))?;
        let status = if kind == Type::UpdateFramework { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok(Reply::empty(status))
    }

    async fn subscribe(&self, call: Call, encoding: Encoding) -> Result<Reply, Box<Reply>> {
        // A framework without an id would get a second one.
        let repeat = if call.framework_id.is_some() { Repeat::Safe } else { Repeat::Unsafe };
        let request = SubscribeRequest { call: Some(call) };
        let called = self.allocator.call(repeat, |channel| {
            let request = request.clone();
            async move {
                let mut client = SchedulerClient::new(channel)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES);
                client.subscribe(request).await
            }
        });
        let opened: Response<Streaming<SubscribeResponse>> =
            called.await.map_err(|error| Box::new(refusal(&error)))?;
        let stream_id = opened.metadata().get(STREAM_ID.as_str()).and_then(|id| id.to_str().ok());
        let stream_id = stream_id.unwrap_or_default().to_owned();
        let (sender, receiver) = chunks();
        let encoder = Encoder { encoding, about: self.about.clone() };
        let open = Open::new(&self.streams);
        self.env.tasks.spawn("scheduler-stream", async move {
            pump(opened.into_inner(), encoder, sender).await;
            drop(open);
        });
        Ok(Reply::stream(encoding.content_type(), receiver).set(STREAM_ID, &stream_id))
    }
}

/// Which calls may be sent twice: a second ACCEPT would meet offers that are gone and lose its tasks.
fn repeat(kind: Type) -> Repeat {
    match kind {
        Type::Decline
        | Type::Revive
        | Type::Suppress
        | Type::Kill
        | Type::Acknowledge
        | Type::Reconcile
        | Type::Request => Repeat::Safe,
        _ => Repeat::Unsafe,
    }
}

/// Carries events to the client until either side ends. The stream behind is always read: one slow client must
/// not hold back the others that share the connection.
async fn pump(mut events: Streaming<SubscribeResponse>, encoder: Encoder, client: ChunkSender) {
    loop {
        let batch = tokio::select! {
            biased;
            () = client.closed() => return debug!("framework closed its event stream"),
            batch = events.message() => batch,
        };
        let batch = match batch {
            Ok(Some(batch)) => batch,
            Ok(None) => return debug!("event stream ended"),
            Err(error) => return info!(%error, "event stream broke"),
        };
        match client.send(encoder.encode(batch.events)).await {
            Ok(()) => {}
            Err(StreamEnd::Closed) => return debug!("framework closed its event stream"),
            Err(StreamEnd::TooSlow) => {
                return info!("framework reads too slowly, its event stream is cut off");
            }
        }
    }
}

/// Counts a stream while it is open.
struct Open(IntGauge);

impl Open {
    fn new(streams: &IntGauge) -> Self {
        streams.inc();
        Self(streams.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Encoder {
    encoding: Encoding,
    about: About,
}

impl Encoder {
    /// Events as RecordIO.
    fn encode(&self, events: Vec<Event>) -> Bytes {
        let mut out = Vec::new();
        for mut event in events {
            if let Some(subscribed) = &mut event.subscribed
                && let Some(info) = &mut subscribed.master_info
            {
                *info = self.about.master(info);
            }
            recordio::encode_into(&self.encoding.encode(&event), &mut out);
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::mesos::v1::scheduler::event;

    #[test]
    fn mesos_c02_a_heartbeat_has_20_bytes() {
        let encoder = Encoder { encoding: Encoding::Json, about: About::test() };
        let heartbeat = Event { r#type: Some(event::Type::Heartbeat as i32), ..Default::default() };
        assert_eq!(encoder.encode(vec![heartbeat]), "20\n{\"type\":\"HEARTBEAT\"}");
    }

    #[test]
    fn the_first_event_is_that_of_a_real_master() {
        let golden = include_str!("../../tests/golden/scheduler_subscribed.json").trim_end();
        let value = serde_json::from_str(golden).unwrap();
        let mut event: Event = meshos_proto::json::from_json(&value).unwrap();
        let info = event.subscribed.as_mut().unwrap().master_info.as_mut().unwrap();
        // The leader's own address is not what clients use.
        (info.port, info.hostname, info.pid) = (1, Some("inside".to_owned()), None);
        let encoder = Encoder { encoding: Encoding::Json, about: About::test() };
        assert_eq!(encoder.encode(vec![event]), format!("{}\n{golden}", golden.len()));
    }
}
