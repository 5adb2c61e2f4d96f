//! Marathon's error bodies.

use http::StatusCode;
use meshos_proto::meshos::apps::v1::{ErrorDetail, ErrorKind};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    client::CallError,
    http::{BodyError, Reply},
};

/// A refusal: status and JSON body.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl ApiError {
    /// `{"message":…}`
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, body: json!({"message": message.into()}) }
    }

    pub(super) fn unprocessable(body: Value) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body }
    }

    pub(super) fn illegal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn no_app(id: &str) -> Self {
        Self::not_found(format!("App '{id}' does not exist"))
    }

    pub(super) fn no_task(id: &str) -> Self {
        Self::not_found(format!("Task '{id}' does not exist"))
    }

    /// Nothing is known yet of the app-scheduler.
    pub(super) fn not_synced() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "No app-scheduler has been heard of yet; try again")
    }

    /// A body that did not come, or not whole.
    pub(super) fn body(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "The body is over the limit of {limit} bytes; raise --marathon-body-limit or send less"
                ),
            ),
            BodyError::Timeout => Self::new(StatusCode::REQUEST_TIMEOUT, "The body did not come in time"),
            BodyError::Broken => Self::bad_request("The body broke off"),
        }
    }

    pub(super) fn reply(&self) -> Reply {
        Reply::json_with(self.status, &self.body)
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(status) => refused(&status),
            CallError::NoLeader { .. } | CallError::Silent { .. } | CallError::Broken { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}

fn refused(status: &Status) -> ApiError {
    let detail = ErrorDetail::decode(status.details()).unwrap_or_default();
    let message = if detail.message.is_empty() { status.message() } else { &detail.message };
    match detail.kind() {
        ErrorKind::Unspecified => ApiError::new(status_of(status.code()), message),
        ErrorKind::InvalidObject => {
            let violation =
                |v: &meshos_proto::meshos::apps::v1::Violation| json!({"path": v.path, "errors": v.errors});
            let details: Value = detail.violations.iter().map(violation).collect();
            ApiError::unprocessable(json!({"message": message, "details": details}))
        }
        ErrorKind::Locked => {
            let ids: Value = detail.deployment_ids.iter().map(|id| json!({"id": id})).collect();
            ApiError { status: StatusCode::CONFLICT, body: json!({"message": message, "deployments": ids}) }
        }
        ErrorKind::NotFound => ApiError::not_found(message),
        ErrorKind::Conflict => ApiError::new(StatusCode::CONFLICT, message),
        ErrorKind::IllegalArgument => ApiError::illegal(message),
        ErrorKind::TooManyDeployments => ApiError::new(StatusCode::FORBIDDEN, message),
        ErrorKind::BadRequest => ApiError::bad_request(message),
        ErrorKind::Unavailable => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message),
        ErrorKind::Internal => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message),
    }
}

/// For refusals without a detail.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::UNPROCESSABLE_ENTITY,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Internal | Code::Unknown | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::meshos::apps::v1::Violation;

    fn refuse(detail: ErrorDetail) -> ApiError {
        refused(&Status::with_details(Code::Unknown, "outside", detail.encode_to_vec().into()))
    }

    #[test]
    fn each_kind_has_its_status_and_body() {
        let kind =
            |kind: ErrorKind| ErrorDetail { kind: kind.into(), message: "m".into(), ..Default::default() };
        for (error, status) in [
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::IllegalArgument, 422),
            (ErrorKind::TooManyDeployments, 403),
            (ErrorKind::BadRequest, 400),
            (ErrorKind::Unavailable, 503),
        ] {
            let error = refuse(kind(error));
            assert_eq!((error.status.as_u16(), error.body), (status, json!({"message": "m"})));
        }
        let violations = vec![Violation { path: "/id".into(), errors: vec!["bad".into()] }];
        let invalid = refuse(ErrorDetail { violations, ..kind(ErrorKind::InvalidObject) });
        assert_eq!(invalid.body, json!({"message": "m", "details": [{"path": "/id", "errors": ["bad"]}]}));
        let locked = refuse(ErrorDetail { deployment_ids: vec!["d".into()], ..kind(ErrorKind::Locked) });
        assert_eq!((locked.status.as_u16(), &locked.body["deployments"]), (409, &json!([{"id": "d"}])));
    }

    #[test]
    fn a_refusal_without_a_detail_keeps_its_message() {
        let error = refused(&Status::unavailable("gone"));
        assert_eq!((error.status.as_u16(), error.body), (503, json!({"message": "gone"})));
    }
}
