//! What is written to a container's input and read from its output by those who are attached to it: named pipes, or a
//! terminal. It lives in the agent: a container whose input and output it has ends with the agent.

mod terminal;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use meshos_mesh::Tasks;
use meshos_proto::mesos::v1 as pb;
use nix::{sys::stat::Mode, unistd::mkfifo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::{broadcast, mpsc},
};
use tracing::debug;

use crate::containerizer::Stdio;
use terminal::Terminal;

/// Pieces of output that an attached reader may be behind before it loses some.
const BEHIND: usize = 1024;
/// Pieces of input on their way.
const INPUT: usize = 16;
/// Ends the input of a terminal.
const END: u8 = 4;
const PIECE: usize = 16 * 1024;

/// Where a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// What is written to a container.
#[derive(Debug)]
pub(crate) enum Input {
    Data(Bytes),
    /// Rows and columns.
    Size(u16, u16),
}

/// The input and output of one container.
#[derive(Debug)]
pub(crate) struct Console {
    /// Taken by whoever is attached to the input.
    input: Mutex<Option<mpsc::Sender<Input>>>,
    output: Mutex<Option<broadcast::Sender<(Source, Bytes)>>>,
    /// Kept open until the container has them open.
    own_ends: Mutex<Vec<std::os::fd::OwnedFd>>,
    /// Of the pipes.
    directory: Option<PathBuf>,
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Console {
    /// Makes what a container shall be given, and reads and writes it from now on. `window`: it is a terminal of this
    /// size.
    pub(crate) fn open(
        tasks: &Tasks,
        directory: &Path,
        tty: Option<&pb::TtyInfo>,
    ) -> io::Result<(Arc<Self>, Stdio)> {
        match tty {
            Some(tty) => Self::terminal(tasks, tty),
            None => Self::pipes(tasks, directory),
        }
    }

    fn new(
        input: mpsc::Sender<Input>,
        output: broadcast::Sender<(Source, Bytes)>,
        own_ends: Vec<std::os::fd::OwnedFd>,
        directory: Option<PathBuf>,
    ) -> Arc<Self> {
        Arc::new(Self {
            input: Mutex::new(Some(input)),
            output: Mutex::new(Some(output)),
            own_ends: Mutex::new(own_ends),
            directory,
        })
    }

    fn terminal(tasks: &Tasks, tty: &pb::TtyInfo) -> io::Result<(Arc<Self>, Stdio)> {
        let (terminal, slave, path) = Terminal::open()?;
        if let Some(size) = &tty.window_size {
            terminal.resize(short(size.rows), short(size.columns))?;
        }
        let terminal = Arc::new(terminal);
        let (input, mut inputs) = mpsc::channel(INPUT);
        let (output, _) = broadcast::channel(BEHIND);
        let console = Self::new(input, output, vec![slave], None);
        let (reader, reading) = (Arc::clone(&terminal), Arc::clone(&console));
        let writing = Arc::clone(&console);
        tasks.spawn("console-output", async move {
            // It reads as broken when the last process has closed it.
            while let Ok(piece) = reader.read(PIECE).await {
                reading.publish(Source::Stdout, piece);
            }
            reading.close();
        });
        tasks.spawn("console-input", async move {
            let write = async move {
                while let Some(input) = inputs.recv().await {
                    let written = match input {
                        // The end of input, as one types it.
                        Input::Data(data) if data.is_empty() => terminal.write(&[END]).await,
                        Input::Data(data) => terminal.write(&data).await,
                        Input::Size(rows, columns) => terminal.resize(rows, columns),
                    };
                    if let Err(error) = written {
                        return debug!(%error, "terminal closed");
                    }
                }
            };
            // What the container did not read nobody will.
            tokio::select! { biased; () = writing.ended() => {}, () = write => {} }
        });
        let stdio = Stdio { stdin: path.clone(), stdout: path.clone(), stderr: path, terminal: true };
        Ok((console, stdio))
    }

    fn pipes(tasks: &Tasks, directory: &Path) -> io::Result<(Arc<Self>, Stdio)> {
        std::fs::create_dir_all(directory)?;
        let [stdin, stdout, stderr] = ["stdin", "stdout", "stderr"].map(|name| directory.join(name));
        for path in [&stdin, &stdout, &stderr] {
            mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        // Ours, so that neither side finds the other missing before the container has opened them.
        let options = |read: bool| {
            let mut options = pipe::OpenOptions::new();
            options.read_write(read);
            options
        };
        let mut to_stdin = options(true).open_sender(&stdin)?;
        let from = [(Source::Stdout, &stdout), (Source::Stderr, &stderr)]
            .map(|(source, path)| options(false).open_receiver(path).map(|receiver| (source, receiver)));
        let writers = [&stdout, &stderr].map(|path| options(false).open_sender(path)?.into_nonblocking_fd());
        let (input, mut inputs) = mpsc::channel(INPUT);
        let (output, _) = broadcast::channel(BEHIND);
        let own_ends = writers.into_iter().collect::<io::Result<Vec<_>>>()?;
        let console = Self::new(input, output, own_ends, Some(directory.to_owned()));
        let from = from.into_iter().collect::<io::Result<Vec<_>>>()?;
        let reading = Arc::clone(&console);
        tasks.spawn("console-output", async move {
            let copies = from.into_iter().map(|(source, pipe)| copy(&reading, source, pipe));
            futures::future::join_all(copies).await;
            reading.close();
        });
        let writing = Arc::clone(&console);
        tasks.spawn("console-input", async move {
            let write = async move {
                while let Some(input) = inputs.recv().await {
                    if let Input::Data(data) = &input
                        && data.is_empty()
                    {
                        return;
                    }
                    if let Input::Data(data) = input
                        && let Err(error) = to_stdin.write_all(&data).await
                    {
                        return debug!(%error, "input closed");
                    }
                }
            };
            // What the container did not read nobody will.
            tokio::select! { biased; () = writing.ended() => {}, () = write => {} }
        });
        Ok((console, Stdio { stdin, stdout, stderr, terminal: false }))
    }

    fn publish(&self, source: Source, piece: Bytes) {
        if let Some(output) = &*lock(&self.output) {
            // Nobody listens: nobody misses it.
            let _ = output.send((source, piece));
        }
    }

    fn close(&self) {
        lock(&self.output).take();
        lock(&self.input).take();
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }

    /// The container has opened its ends, or never will: from now on the output ends with it.
    pub(crate) fn handed_over(&self) {
        lock(&self.own_ends).clear();
    }

    /// Output from now on; none after its end.
    pub(crate) fn output(&self) -> Option<broadcast::Receiver<(Source, Bytes)>> {
        lock(&self.output).as_ref().map(broadcast::Sender::subscribe)
    }

    /// Waits until nothing more will be read from it.
    pub(crate) async fn ended(&self) {
        let Some(mut output) = self.output() else { return };
        while !matches!(output.recv().await, Err(broadcast::error::RecvError::Closed)) {}
    }

    /// The input, for one at a time; give it back with [`Console::release`].
    pub(crate) fn take_input(&self) -> Option<mpsc::Sender<Input>> {
        lock(&self.input).take()
    }

    pub(crate) fn release(&self, input: mpsc::Sender<Input>) {
        if lock(&self.output).is_some() {
            *lock(&self.input) = Some(input);
        }
    }
}

async fn copy(console: &Console, source: Source, mut from: impl AsyncRead + Unpin) {
    loop {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        match from.read_buf(&mut piece).await {
            Ok(count) if count > 0 => console.publish(source, piece.freeze()),
            _ => return,
        }
    }
}

/// A window's side; larger ones do not exist.
pub(crate) fn short(side: u32) -> u16 {
    u16::try_from(side).unwrap_or(u16::MAX)
}

/// The consoles that there are, by container path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consoles(Arc<Mutex<BTreeMap<String, Arc<Console>>>>);

impl Consoles {
    pub(crate) fn insert(&self, path: &str, console: Arc<Console>) {
        lock(&self.0).insert(path.to_owned(), console);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Arc<Console>> {
        lock(&self.0).get(path).cloned()
    }

    pub(crate) fn remove(&self, path: &str) {
        lock(&self.0).remove(path);
    }
}
