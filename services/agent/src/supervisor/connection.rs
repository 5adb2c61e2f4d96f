//! One connection of an agent: frames in, frames out, never blocking.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

use meshos_proto::meshos::agent::v1::{SupervisorRequest, SupervisorResponse, supervisor_response::Body};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use prost::Message;

use super::MAX_FRAME;

/// A reader that leaves more than this unread is cut off; it asks for the list when it comes back.
const MAX_UNSENT: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    pub(super) closed: bool,
}

impl Connection {
    /// Takes an accepted stream if its peer is this user or root.
    pub(super) fn accept(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let peer = getsockopt(&stream, PeerCredentials)?.uid();
        if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::other(format!("user {peer} may not give orders")));
        }
        Ok(Self { stream, received: Vec::new(), unsent: Vec::new(), closed: false })
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads what there is; whole requests.
    pub(super) fn receive(&mut self) -> Vec<SupervisorRequest> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.closed = true;
                    break;
                }
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.closed |= error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.split()
    }

    fn split(&mut self) -> Vec<SupervisorRequest> {
        let mut requests = Vec::new();
        let mut at = 0;
        while let Some(header) = self.received.get(at..at + 4) {
            let length = header.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            if length > MAX_FRAME {
                self.closed = true;
                break;
            }
            let Some(frame) = self.received.get(at + 4..at + 4 + length) else { break };
            match SupervisorRequest::decode(frame) {
                Ok(request) => requests.push(request),
                Err(_) => self.closed = true,
            }
            at += 4 + length;
        }
        self.received.drain(..at);
        requests
    }

    /// Queues an answer (or an event, with id 0) and sends what can be sent.
    pub(super) fn send(&mut self, id: u64, body: Body) {
        let message = SupervisorResponse { id, body: Some(body) }.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        self.unsent.extend_from_slice(&length.to_be_bytes());
        self.unsent.extend_from_slice(&message);
        self.closed |= self.unsent.len() > MAX_UNSENT;
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.closed |= error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }
}
