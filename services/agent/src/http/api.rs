//! `POST /api/v1`: calls of operators and of executors that run containers. Order of the checks and texts are those of
//! Mesos.

mod containers;
mod files;
mod media;
mod reads;
mod streams;
mod validate;

use std::time::Duration;

use meshos_proto::{
    call::Encoding,
    mesos::v1::agent::{Call, Response, call::Type},
};
use warp::http::StatusCode;

use super::{Api, reply::Reply, request::Request};
use media::Media;

/// Answers a call.
pub(super) async fn handle(api: &Api, mut request: Request) -> Reply {
    match Box::pin(answer(api, &mut request)).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn answer(api: &Api, request: &mut Request) -> Result<Reply, Reply> {
    request.post_only()?;
    let media = Media::of(&request.headers)?;
    let (call, records) = match media.records_in {
        Some(encoding) => {
            let body = std::mem::replace(&mut request.body, Box::pin(futures::stream::empty()));
            let mut records = streams::Records::new(body, encoding);
            let first = records.next().await?;
            (
                first.ok_or_else(|| Reply::bad_request("Received EOF while reading request body"))?,
                Some(records),
            )
        }
        None => (media.content.decode(&request.body().await?).map_err(super::executor::refused)?, None),
    };
    let kind = validate::call(&call)
        .map_err(|why| Reply::bad_request(format!("Failed to validate agent::Call: {why}")))?;
    media.fits(kind)?;
    match kind {
        Type::LaunchNestedContainerSession => Box::pin(streams::session(api, call, media)).await,
        Type::AttachContainerOutput => streams::attach_output(api, call, media),
        Type::AttachContainerInput => match records {
            Some(records) => Box::pin(streams::attach_input(api, call, records)).await,
            None => Err(Reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, media::INPUT)),
        },
        _ => Box::pin(unary(api, kind, call, media.accept)).await,
    }
}

/// A call with one answer.
async fn unary(api: &Api, kind: Type, call: Call, encoding: Encoding) -> Result<Reply, Reply> {
    let response = match kind {
        Type::ListFiles => files::list(&api.sandboxes, &call.list_files.unwrap_or_default().path).await?,
        Type::ReadFile => files::read(&api.sandboxes, call.read_file.unwrap_or_default()).await?,
        Type::SetLoggingLevel => {
            let set = call.set_logging_level.unwrap_or_default();
            let nanoseconds = u64::try_from(set.duration.nanoseconds).unwrap_or_default();
            api.logging.set(set.level, Duration::from_nanos(nanoseconds));
            return Ok(Reply::empty());
        }
        Type::PruneImages => {
            let images = call.prune_images.unwrap_or_default().excluded_images.into_iter();
            let excluded: Vec<_> = images.filter_map(|image| Some(image.docker?.name)).collect();
            api.containerizer.prune_images(&excluded).await;
            return Ok(Reply::empty());
        }
        Type::Unknown => return Err(Reply::text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented.")),
        _ => match containers::act(api, kind, &call).await {
            Some(done) => match done? {
                containers::Done::Status(status) => return Ok(Reply::status(status)),
                containers::Done::Response(response) => *response,
            },
            None => reads::read(api, kind, &call).await?,
        },
    };
    Ok(reply(encoding, &response))
}

fn reply(encoding: Encoding, response: &Response) -> Reply {
    Reply::bytes(encoding.content_type(), encoding.encode(response))
}

fn unavailable() -> Reply {
    Reply::unavailable("Agent has not finished recovery")
}

/// A response of this kind, yet without its content.
fn of(kind: meshos_proto::mesos::v1::agent::response::Type) -> Response {
    Response { r#type: Some(kind as i32), ..Response::default() }
}
