//! How a framework reaches the allocator: gRPC, or HTTP through the gateway.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use meshos_mesh::{Calls, Env, LeaderInfo, MAX_MESSAGE_BYTES};
use meshos_proto::{
    meshos::allocator::v1::{SubscribeRequest, scheduler_client::SchedulerClient},
    mesos::v1::scheduler::{Call, Event},
    recordio::Decoder,
};
use prost::Message as _;
use tokio::{
    net::TcpStream,
    sync::{Mutex, watch},
};

use super::Channels;

/// Batches of events; ends when the stream does.
pub(crate) type Events = BoxStream<'static, Vec<Event>>;

const PROTOBUF: &str = "application/x-protobuf";

/// A way to the allocator.
#[derive(Clone, Debug)]
pub(crate) enum Via {
    Grpc { env: Env, channels: Channels, group: usize, leader: watch::Receiver<Option<LeaderInfo>> },
    Http { env: Env, address: String },
}

/// Sends calls of one subscription.
#[derive(Debug)]
pub(crate) enum Caller {
    /// A stream of calls of its own, and the id of its event stream.
    Grpc(Calls, String),
    /// One connection, one call at a time, as clients of the HTTP API do.
    Http { sender: Mutex<http1::SendRequest<Full<Bytes>>>, stream: String },
}

impl Via {
    pub(crate) async fn subscribe(&self, call: Call) -> anyhow::Result<(Caller, Events)> {
        match self {
            Self::Grpc { env, channels, group, leader } => {
                let leader = leader.clone().wait_for(Option::is_some).await?.clone().context("a leader")?;
                let channel = channels.to(env, *group, &leader);
                let mut client =
                    SchedulerClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
                let opened = client.subscribe(SubscribeRequest { call: Some(call) }).await?;
                let id =
                    opened.metadata().get("mesos-stream-id").context("no stream id")?.to_str()?.to_owned();
                let events = opened.into_inner().take_while(|next| futures::future::ready(next.is_ok()));
                let events = events.filter_map(|next| async { next.ok().map(|response| response.events) });
                Ok((Caller::Grpc(Calls::open(env, channel), id), events.boxed()))
            }
            Self::Http { env, address } => {
                let answer = post(&mut open(env, address).await?, &call, None).await?;
                ensure!(answer.status() == 200, "SUBSCRIBE is answered {}", answer.status());
                let stream = answer.headers().get("mesos-stream-id").context("no stream id")?;
                let stream = stream.to_str()?.to_owned();
                let sender = Mutex::new(open(env, address).await?);
                Ok((Caller::Http { sender, stream }, records(answer.into_body())))
            }
        }
    }
}

impl Caller {
    pub(crate) async fn call(&self, call: Call) -> anyhow::Result<()> {
        match self {
            Self::Grpc(calls, stream) => {
                calls.call(stream, call.encode_to_vec().into(), String::new()).await?;
            }
            Self::Http { sender, stream } => {
                let mut sender = sender.lock().await;
                let answer = post(&mut sender, &call, Some(stream)).await?;
                let status = answer.status();
                let body = answer.into_body().collect().await?.to_bytes();
                ensure!(status == 202, "{status}: {}", String::from_utf8_lossy(&body));
            }
        }
        Ok(())
    }
}

async fn open(env: &Env, address: &str) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    env.tasks.spawn("http-connection", async move { drop(connection.await) });
    Ok(sender)
}

async fn post(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    call: &Call,
    stream: Option<&str>,
) -> anyhow::Result<http::Response<Incoming>> {
    sender.ready().await?;
    let mut request = http::Request::post("/api/v1/scheduler")
        .header("Host", "load")
        .header("Content-Type", PROTOBUF)
        .header("Accept", PROTOBUF);
    if let Some(stream) = stream {
        request = request.header("Mesos-Stream-Id", stream);
    }
    Ok(sender.send_request(request.body(Full::new(call.encode_to_vec().into()))?).await?)
}

/// The events of a RecordIO body. The connection lives as long as its body.
fn records(body: Incoming) -> Events {
    let state = (body, Decoder::new(MAX_MESSAGE_BYTES));
    stream::unfold(state, |(mut body, mut decoder)| async move {
        let piece = body.frame().await?.ok()?;
        decoder.push(piece.data_ref().map_or(&[][..], |data| data));
        let mut events = Vec::new();
        while let Some(record) = decoder.next().ok()? {
            events.push(Event::decode(record).ok()?);
        }
        Some((events, (body, decoder)))
    })
    .boxed()
}
