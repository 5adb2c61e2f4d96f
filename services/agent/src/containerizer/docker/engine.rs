//! The Docker Engine: where it listens, and calls that end.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};
use tokio::time::timeout;

/// What the client itself waits for an answer to begin, in seconds; callers wait less.
const CLIENT_TIMEOUT: u64 = 600;
/// For the engine to tell its version.
const GREETING: Duration = Duration::from_secs(5);
const SOCKET: &str = "/var/run/docker.sock";

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    /// It is not there, or does not answer.
    #[error("the Docker Engine at {address} {reason}")]
    Absent { address: String, reason: String },
    /// It answers that it does not do so.
    #[error("{message}")]
    Refused { status: u16, message: String },
}

impl EngineError {
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Another call is at it, or it is done already.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Unix(String),
    Tcp(String),
}

/// A connection that is made when it is first needed, and again after the engine was away.
#[derive(Debug)]
pub(super) struct Engine {
    address: Address,
    /// Speaks a version that the engine knows.
    docker: Mutex<Option<Docker>>,
}

impl Engine {
    /// `socket`: the flag; `host`: `DOCKER_HOST`.
    ///
    /// # Errors
    /// An address of a kind that is not supported.
    pub(super) fn at(socket: Option<&str>, host: Option<&str>) -> Result<Self, String> {
        let text = socket.or(host).filter(|text| !text.is_empty()).unwrap_or(SOCKET);
        let address = match text.split_once("://") {
            None | Some(("unix", _)) => Address::Unix(text.trim_start_matches("unix://").to_owned()),
            Some(("tcp" | "http", rest)) => Address::Tcp(rest.to_owned()),
            Some((other, _)) => {
                return Err(format!(
                    "the Docker Engine cannot be reached by {other}://: use unix:// or tcp://"
                ));
            }
        };
        Ok(Self { address, docker: Mutex::default() })
    }

    /// As users know it.
    pub(super) fn address(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix://{path}"),
            Address::Tcp(host) => format!("tcp://{host}"),
        }
    }

    fn absent(&self, reason: impl std::fmt::Display) -> EngineError {
        EngineError::Absent { address: self.address(), reason: reason.to_string() }
    }

    fn error(&self, error: Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                EngineError::Refused { status: status_code, message: message.trim().to_owned() }
            }
            Error::DockerStreamError { error } => EngineError::Refused { status: 500, message: error },
            Error::RequestTimeoutError => self.absent("does not answer"),
            Error::SocketNotFoundError(_) => self.absent("is not there: its socket does not exist"),
            other => self.absent(format_args!("cannot be reached: {}", causes(&other))),
        }
    }

    /// The next call asks for the engine's version again.
    pub(super) fn forget(&self) {
        self.docker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// A client that speaks the engine's version.
    pub(super) async fn docker(&self) -> Result<Docker, EngineError> {
        if let Some(docker) = self.docker.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(docker);
        }
        let fresh = match &self.address {
            Address::Unix(path) => Docker::connect_with_unix(path, CLIENT_TIMEOUT, API_DEFAULT_VERSION),
            Address::Tcp(host) => Docker::connect_with_http(host, CLIENT_TIMEOUT, API_DEFAULT_VERSION),
        };
        let fresh = fresh.map_err(|error| self.error(error))?;
        let greeted = timeout(GREETING, fresh.negotiate_version()).await;
        let docker = greeted
            .map_err(|_| self.absent(format_args!("does not answer within {} s", GREETING.as_secs())))?
            .map_err(|error| self.error(error))?;
        *self.docker.lock().unwrap_or_else(PoisonError::into_inner) = Some(docker.clone());
        Ok(docker)
    }

    /// Makes a call that ends within its time.
    pub(super) async fn call<T, F>(
        &self,
        limit: Duration,
        call: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let docker = self.docker().await?;
        match timeout(limit, call(docker)).await {
            Ok(done) => done.map_err(|error| self.error(error)),
            Err(_) => Err(self.absent(format_args!("does not answer within {} s", limit.as_secs()))),
        }
    }

    /// An item of one of its streams.
    pub(super) fn item<T>(&self, item: Result<T, Error>) -> Result<T, EngineError> {
        item.map_err(|error| self.error(error))
    }
}

/// An error and what led to it: clients say no more than `client error` themselves.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_variable() {
        let at = |socket, host| Engine::at(socket, host).map(|engine| engine.address());
        assert_eq!(at(Some("/a.sock"), Some("tcp://h:1")).unwrap(), "unix:///a.sock");
        assert_eq!(at(Some("unix:///b"), None).unwrap(), "unix:///b");
        assert_eq!(at(None, Some("tcp://h:1")).unwrap(), "tcp://h:1");
        assert_eq!(at(None, Some("")).unwrap(), "unix:///var/run/docker.sock");
        assert!(at(None, Some("ssh://h")).unwrap_err().contains("ssh://"));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named() {
        let engine = Engine::at(Some("/no/such/socket"), None).unwrap();
        let error = engine.docker().await.unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("unix:///no/such/socket"), "{error}");
    }
}
