//! Connections to the members of an etcd cluster: one is used until it fails, then the next.

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Request, Response, Status};

use super::EtcdOptions;
use crate::error::{Error, Result};
use crate::model::{LeaseId, MAX_TXN_BYTES};

/// Between two tries of a call; a new leader of etcd is elected within some of these.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection that does not answer a probe for this long is given up.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Link {
    members: Vec<Channel>,
    /// Index of the member in use.
    current: AtomicUsize,
    options: EtcdOptions,
}

/// What a call is and whether it may be sent twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    name: &'static str,
    repeatable: bool,
    lease: Option<LeaseId>,
}

impl Call {
    /// A call that changes nothing, or that does no harm when it is done twice.
    pub(super) fn read(name: &'static str) -> Self {
        Self { name, repeatable: true, lease: None }
    }

    /// A call that must not be done twice.
    pub(super) fn write(name: &'static str) -> Self {
        Self { name, repeatable: false, lease: None }
    }

    /// Names the lease that the call needs.
    pub(super) fn of_lease(mut self, lease: impl Into<Option<LeaseId>>) -> Self {
        self.lease = lease.into();
        self
    }
}

/// A request that a member refuses at once when it knows no leader, instead of letting it hang.
pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

impl Link {
    pub(super) fn new<S: AsRef<str>>(endpoints: &[S], options: EtcdOptions) -> Result<Self> {
        let members = endpoints
            .iter()
            .map(|endpoint| member(endpoint.as_ref(), &options))
            .collect::<Result<Vec<_>>>()?;
        if members.is_empty() {
            return Err(Error::BadUrl { url: String::new(), why: "it names no etcd member".to_owned() });
        }
        Ok(Self { members, current: AtomicUsize::new(0), options })
    }

    /// The longest that one call may take.
    pub(super) fn call_timeout(&self) -> Duration {
        self.options.call_timeout
    }

    /// The member in use, and its index for [`Link::leave`].
    pub(super) fn member(&self) -> (usize, Channel) {
        let at = self.current.load(Ordering::Relaxed) % self.members.len();
        (at, self.members[at].clone())
    }

    /// Goes on to the next member, unless somebody has already left this one.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Calls the member in use, and others when it is away and the call may be repeated, within the deadline.
    pub(super) async fn call<T, F, R>(&self, call: Call, send: F) -> Result<T>
    where
        F: Fn(Channel) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.call_timeout();
        loop {
            let (at, channel) = self.member();
            let status = match self.attempt(call, deadline, send(channel)).await {
                Some(Ok(response)) => return Ok(response.into_inner()),
                Some(Err(status)) => status,
                None => Status::deadline_exceeded(""),
            };
            if is_away(&status) {
                self.leave(at);
            }
            let again = is_away(&status) && (call.repeatable || not_sent(&status));
            if Instant::now() + PAUSE >= deadline && status.code() == Code::DeadlineExceeded {
                return Err(Error::DeadlineExceeded { call: call.name, after: self.call_timeout() });
            }
            if !again || Instant::now() + PAUSE >= deadline {
                return Err(classify(call, &status));
            }
            sleep(PAUSE).await;
        }
    }

    /// One try. A silent member takes only a part of the time when others could still answer.
    async fn attempt<T>(
        &self,
        call: Call,
        deadline: Instant,
        sent: impl Future<Output = Result<T, Status>>,
    ) -> Option<Result<T, Status>> {
        if call.repeatable && self.members.len() > 1 {
            let share = self.call_timeout() / 2;
            return timeout(share.min(deadline.saturating_duration_since(Instant::now())), sent).await.ok();
        }
        timeout_at(deadline, sent).await.ok()
    }
}

fn member(endpoint: &str, options: &EtcdOptions) -> Result<Channel> {
    let bad = |error: tonic::transport::Error| Error::BadUrl {
        url: endpoint.to_owned(),
        why: error.source().map_or_else(|| error.to_string(), |source| source.to_string()),
    };
    let endpoint = Endpoint::new(format!("http://{endpoint}"))
        .map_err(bad)?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(PROBE_LIMIT)
        .tcp_nodelay(true);
    Ok(endpoint.connect_lazy())
}

/// Whether another member, or this one a little later, may answer.
pub(super) fn is_away(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        // What tonic makes of a connection that breaks in the middle of a call.
        Code::Unknown | Code::Cancelled | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

/// Whether the call surely did nothing: no connection, or a member that knows no leader.
fn not_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    status.message() == "etcdserver: no leader"
}

/// The one place where etcd's answers become our errors.
pub(super) fn classify(call: Call, status: &Status) -> Error {
    let message = status.message();
    let why = describe(status);
    if message.contains("requested lease not found") {
        return Error::LeaseNotFound(call.lease.unwrap_or(LeaseId(0)));
    }
    if message.contains("required revision has been compacted") {
        return Error::Compacted { requested: 0, compacted: 0 };
    }
    if message.contains("required revision is a future revision") {
        return Error::FutureRevision { requested: 0, current: 0 };
    }
    if message.contains("request is too large") {
        return Error::TxnTooLarge { size: 0, limit: MAX_TXN_BYTES };
    }
    match status.code() {
        _ if is_away(status) => {
            let outcome_unknown = !call.repeatable && !not_sent(status);
            Error::Unavailable { call: call.name, why, outcome_unknown }
        }
        // No space, or too many requests.
        Code::ResourceExhausted => Error::Unavailable { call: call.name, why, outcome_unknown: false },
        _ => Error::Refused { call: call.name, why },
    }
}

/// The status with its innermost cause, which says more than "transport error".
pub(super) fn describe(status: &Status) -> String {
    let mut innermost = None;
    let mut cause = status.source();
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    match innermost {
        Some(cause) if cause != status.message() => format!("{}: {cause}", status.message()),
        _ => format!("{} ({:?})", status.message(), status.code()),
    }
}
