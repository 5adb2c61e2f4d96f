//! Refusals of requests, and why the service cannot start.

use bytes::Bytes;
use meshos_proto::meshos::apps::v1::{ErrorDetail, ErrorKind, Violation};
use prost::Message;
use tonic::{Code, Status};

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the app-scheduler cannot listen")]
    Listen(#[from] meshos_mesh::TransportError),
}

/// Why a request was refused; the state is unchanged. The messages are Marathon's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("Object is not valid")]
    Invalid(Vec<Violation>),
    #[error("App '{0}' does not exist")]
    NoApp(String),
    #[error("App '{app_id}' does not exist in version {version}")]
    NoVersion { app_id: String, version: String },
    #[error("Group '{0}' does not exist")]
    NoGroup(String),
    #[error("Group '{group_id}' does not exist in version {version}")]
    NoGroupVersion { group_id: String, version: String },
    #[error("Group {0} is already created. Use PUT to change this group.")]
    GroupExists(String),
    #[error("An app with the path {0} already exists.")]
    AppAtPath(String),
    #[error("DeploymentPlan {0} does not exist")]
    NoDeployment(String),
    #[error("Application {0} not found in tasks queue.")]
    NotQueued(String),
    #[error("An app with id [{0}] already exists.")]
    Exists(String),
    #[error(
        "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'."
    )]
    Locked(Vec<String>),
    #[error("{0}")]
    IllegalArgument(String),
    #[error("{0}")]
    BadRequest(String),
    #[error(
        "Max number ({0}) of running deployments is achieved. Wait for existing deployments to complete or cancel one using force=true parameter. You can increase max deployment number by using --max_running_deployments parameter"
    )]
    TooManyDeployments(usize),
    #[error("All ports in the range [{min}-{max}) are already in use")]
    NoServicePort { min: u16, max: u16 },
}

impl Refusal {
    /// One violation of a rule.
    pub fn invalid(path: &str, error: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { path: path.to_owned(), errors: vec![error.into()] }])
    }

    /// The same with violations that lie below `path`.
    #[must_use]
    pub fn below(self, path: &str) -> Self {
        match self {
            Self::Invalid(violations) => Self::Invalid(
                violations
                    .into_iter()
                    .map(|violation| {
                        let tail = if violation.path == "/" { "" } else { &violation.path };
                        Violation { path: format!("{path}{tail}"), ..violation }
                    })
                    .collect(),
            ),
            other => other,
        }
    }

    /// The kind on the wire and the gRPC code.
    fn kind(&self) -> (ErrorKind, Code) {
        match self {
            Self::Invalid(_) => (ErrorKind::InvalidObject, Code::InvalidArgument),
            Self::NoApp(_)
            | Self::NoGroup(_)
            | Self::NoGroupVersion { .. }
            | Self::NoVersion { .. }
            | Self::NoDeployment(_)
            | Self::NotQueued(_) => (ErrorKind::NotFound, Code::NotFound),
            Self::Exists(_) | Self::GroupExists(_) | Self::AppAtPath(_) => {
                (ErrorKind::Conflict, Code::AlreadyExists)
            }
            Self::Locked(_) => (ErrorKind::Locked, Code::Aborted),
            Self::IllegalArgument(_) => (ErrorKind::IllegalArgument, Code::InvalidArgument),
            Self::BadRequest(_) => (ErrorKind::BadRequest, Code::InvalidArgument),
            Self::TooManyDeployments(_) => (ErrorKind::TooManyDeployments, Code::ResourceExhausted),
            Self::NoServicePort { .. } => (ErrorKind::Internal, Code::ResourceExhausted),
        }
    }

    /// The answer of a gRPC call: the detail stands in the status's details.
    pub fn to_status(&self) -> Status {
        let (kind, code) = self.kind();
        let mut detail = ErrorDetail { kind: kind.into(), message: self.to_string(), ..Default::default() };
        match self {
            Self::Invalid(violations) => detail.violations = violations.clone(),
            Self::Locked(deployments) => detail.deployment_ids = deployments.clone(),
            _ => {}
        }
        Status::with_details(code, self.to_string(), Bytes::from(detail.encode_to_vec()))
    }
}

/// An answer for the time in which this replica does not lead or cannot write.
pub fn unavailable(message: &str) -> Status {
    let detail = ErrorDetail {
        kind: ErrorKind::Unavailable.into(),
        message: message.to_owned(),
        ..Default::default()
    };
    Status::with_details(Code::Unavailable, message, Bytes::from(detail.encode_to_vec()))
}
