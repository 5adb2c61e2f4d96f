//! The agent's side of the supervisor's socket.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

use meshos_mesh::Tasks;
use meshos_proto::meshos::agent::v1::{
    Child, ListRequest, StopRequest, SupervisorRequest, SupervisorResponse,
    supervisor_request::Body as Request, supervisor_response::Body as Response,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::launcher::{self, SupervisorProgram};
use crate::{
    containerizer::ContainerizerError,
    supervisor::{MAX_FRAME, short_path},
};

/// A call is answered within this time or fails; it covers a restart of the supervisor.
const CALL: Duration = Duration::from_secs(15);
/// Between attempts to reach the supervisor.
const RETRY: Duration = Duration::from_millis(10);
/// Requests that wait for the connection.
const WAITING: usize = 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The supervisor says no.
    #[error("{0}")]
    Refused(String),
    /// The connection ended before the answer: the call may have been carried out.
    #[error("connection lost")]
    Broken,
    #[error("no answer within {} s", CALL.as_secs())]
    Timeout,
}

pub(super) type Answer = Result<Response, CallError>;
type Asked = (Request, oneshot::Sender<Answer>);

#[derive(Debug)]
pub(super) struct Client {
    dir: PathBuf,
    requests: mpsc::Sender<Asked>,
    readers: Readers,
    /// No supervisor is wanted any more.
    stopping: Arc<AtomicBool>,
    /// Process id of the supervisor; 0: not connected yet.
    supervisor: Arc<AtomicI32>,
    /// Something has been asked.
    used: AtomicBool,
    /// How long a call may take.
    pub(super) patience: Duration,
}

/// Who wants to hear of ended children. Not bounded: there is one event for each child, and each child takes
/// far more than its event.
type Readers = Arc<Mutex<Vec<mpsc::UnboundedSender<Child>>>>;

impl Client {
    pub(super) fn open(tasks: &Tasks, dir: PathBuf, program: SupervisorProgram) -> Self {
        let (requests, receiver) = mpsc::channel(WAITING);
        let readers = Readers::default();
        let (stopping, supervisor) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
        let connection = Connection {
            stopping: Arc::clone(&stopping),
            supervisor: Arc::clone(&supervisor),
            dir: dir.clone(),
            program,
            readers: Arc::clone(&readers),
            pending: Pending::default(),
        };
        tasks.spawn("supervisor-client", connection.run(receiver));
        Self { dir, requests, readers, stopping, supervisor, used: AtomicBool::new(false), patience: CALL }
    }

    pub(super) fn events(&self) -> mpsc::UnboundedReceiver<Child> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.readers).push(sender);
        // Whoever wants to hear of ends needs a connection; what ended before is told with the list.
        self.used.store(true, Ordering::Relaxed);
        let _ = self.requests.try_send((Request::List(ListRequest {}), oneshot::channel().0));
        receiver
    }

    /// Asks, and asks again when the connection broke: for what may be done twice.
    pub(super) async fn call_until_answered(&self, request: Request) -> Answer {
        loop {
            match self.call(request.clone()).await {
                Err(CallError::Broken) if !self.requests.is_closed() => {}
                answer => return answer,
            }
        }
    }

    /// Ends the supervisor; none is started again. Refused while it has children.
    pub(super) async fn stop(&self) -> Result<(), CallError> {
        if !self.used.load(Ordering::Relaxed) {
            // There is none, or it is somebody else's.
            return Ok(());
        }
        self.stopping.store(true, Ordering::Relaxed);
        let stopped = self.call(Request::Stop(StopRequest {})).await;
        if let Err(CallError::Refused(_)) = stopped {
            self.stopping.store(false, Ordering::Relaxed);
        }
        stopped.map(drop)
    }

    /// Asks once.
    pub(super) async fn call(&self, request: Request) -> Answer {
        timeout(self.patience, self.ask(request)).await.unwrap_or(Err(CallError::Timeout))
    }

    /// Asks once, and waits for the answer for as long as it takes.
    pub(super) async fn ask(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.used.store(true, Ordering::Relaxed);
        self.requests.send((request, reply)).await.map_err(|_| CallError::Broken)?;
        match answer.await.unwrap_or(Err(CallError::Broken))? {
            Response::Failed(failed) => Err(CallError::Refused(failed.message)),
            response => Ok(response),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Child>, CallError> {
        match self.call_until_answered(Request::List(ListRequest {})).await? {
            Response::Listed(listed) => Ok(listed.children),
            _ => Err(CallError::Refused("answer does not fit the request".to_owned())),
        }
    }

    /// Process id of the supervisor that answered last.
    pub(super) fn supervisor(&self) -> i32 {
        self.supervisor.load(Ordering::Relaxed)
    }

    pub(super) fn error(&self, error: &CallError) -> ContainerizerError {
        ContainerizerError::Supervisor { dir: self.dir.display().to_string(), reason: error.to_string() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls that wait for their answers, by number.
#[derive(Debug, Default)]
struct Pending {
    calls: Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>,
    last: AtomicU64,
}

struct Connection {
    stopping: Arc<AtomicBool>,
    supervisor: Arc<AtomicI32>,
    dir: PathBuf,
    program: SupervisorProgram,
    readers: Readers,
    pending: Pending,
}

impl Connection {
    async fn run(self, mut requests: mpsc::Receiver<Asked>) {
        // An agent that cannot start needs no supervisor.
        let mut first = requests.recv().await;
        if first.is_none() {
            return;
        }
        loop {
            let (read, write) = self.connect().await.into_split();
            let ended = tokio::select! {
                biased;
                ended = self.read(BufReader::new(read)) => ended,
                ended = self.write(write, &mut first, &mut requests) => match ended {
                    // All clients are gone.
                    Ok(()) => return,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = ended {
                warn!(dir = %self.dir.display(), %error, "connection to the supervisor lost");
            }
            for (_, reply) in std::mem::take(&mut *lock(&self.pending.calls)) {
                let _ = reply.send(Err(CallError::Broken));
            }
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// Connects, and starts a supervisor when none answers.
    async fn connect(&self) -> UnixStream {
        let mut attempts: u64 = 0;
        loop {
            match self.try_connect() {
                Ok(stream) => return stream,
                // Started a moment ago: give it time. Started long ago: it must have ended again.
                Err(_) if attempts.is_multiple_of(500) => self.start_supervisor().await,
                Err(_) => {}
            }
            attempts += 1;
            sleep(RETRY).await;
        }
    }

    fn try_connect(&self) -> io::Result<UnixStream> {
        let stream = short_path(&self.dir, |path| std::os::unix::net::UnixStream::connect(path))?;
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default();
        self.supervisor.store(pid, Ordering::Relaxed);
        Ok(stream)
    }

    async fn start_supervisor(&self) {
        let (dir, program) = (self.dir.clone(), self.program.clone());
        info!(dir = %dir.display(), "starting a supervisor");
        let started = tokio::task::spawn_blocking(move || launcher::start(&dir, &program)).await;
        if let Err(error) = started.unwrap_or_else(|failure| Err(io::Error::other(failure))) {
            warn!(dir = %self.dir.display(), program = %self.program.program.display(), %error, "supervisor cannot be started");
        }
    }

    async fn read(&self, mut stream: BufReader<OwnedReadHalf>) -> io::Result<()> {
        loop {
            let length = stream.read_u32().await? as usize;
            if length > MAX_FRAME * 4 {
                return Err(io::Error::other(format!("message of {length} bytes")));
            }
            let mut frame = vec![0; length];
            stream.read_exact(&mut frame).await?;
            let response = SupervisorResponse::decode(frame.as_slice()).map_err(io::Error::other)?;
            match response.body {
                Some(Response::Exited(child)) if response.id == 0 => self.publish(&child),
                Some(body) => self.deliver(response.id, body),
                None => self.deliver(response.id, Response::Failed(Default::default())),
            }
        }
    }

    fn deliver(&self, id: u64, body: Response) {
        let reply = lock(&self.pending.calls).remove(&id);
        match (reply, body) {
            // Nobody waits any more.
            (Some(reply), body) => drop(reply.send(Ok(body))),
            // The list that was asked for at the start: what ended while nobody was connected.
            (None, Response::Listed(listed)) => {
                listed
                    .children
                    .iter()
                    .filter(|child| child.wait_status.is_some())
                    .for_each(|child| self.publish(child));
            }
            (None, _) => {}
        }
    }

    fn publish(&self, child: &Child) {
        lock(&self.readers).retain(|reader| reader.send(child.clone()).is_ok());
    }

    async fn write(
        &self,
        mut stream: OwnedWriteHalf,
        first: &mut Option<Asked>,
        requests: &mut mpsc::Receiver<Asked>,
    ) -> io::Result<()> {
        stream.write_all(&frame(self.next_id(), Request::List(ListRequest {}))).await?;
        loop {
            let next = match first.take() {
                Some(first) => Some(first),
                None => requests.recv().await,
            };
            let Some((request, reply)) = next else { return Ok(()) };
            // Whoever asked for a start has given it up: it must not happen any more.
            if reply.is_closed() && matches!(request, Request::Spawn(_)) {
                continue;
            }
            let id = self.next_id();
            lock(&self.pending.calls).insert(id, reply);
            stream.write_all(&frame(id, request)).await?;
        }
    }

    fn next_id(&self) -> u64 {
        self.pending.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn frame(id: u64, request: Request) -> Vec<u8> {
    let message = SupervisorRequest { id, body: Some(request) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &message].concat()
}
