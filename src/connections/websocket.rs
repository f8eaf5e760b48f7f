//! A WebSocket as the link of a connection, and its goodbye.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use socketioxide_core::Str;
use tokio_tungstenite::tungstenite::{self, Message, error::CapacityError, protocol::CloseFrame};

use super::{
    frames::{FrameSocket, Incoming, Opcode},
    handshake::accepted,
    link::{Ended, Link, Received},
};
use crate::{
    protocols::{
        Frame,
        codes::{close_code, close_reason},
    },
    rooms::Refusal,
};

/// Messages are taken from a protocol while less than this waits for the socket.
const MAX_QUEUED_BYTES: usize = 16 * 1024;
/// Longest message of a peer of whom it is not known yet who it is, where a protocol shows its token after connecting.
pub(super) const MAX_STRANGER_BYTES: usize = 1024 * 1024;
/// Longest message of a client that is refused anyway.
const MAX_REFUSED_BYTES: usize = 64 * 1024;
/// How long a closing peer may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// A WebSocket that carries one connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    socket: FrameSocket,
    /// Bytes that had been written when [`Link::has_moved`] was asked, and read when [`Link::has_come`] was.
    seen_bytes: u64,
    heard_bytes: u64,
}

impl WebSocket {
    pub(super) fn new(socket: FrameSocket) -> Self {
        let seen_bytes = socket.written_bytes();
        Self {
            socket,
            seen_bytes,
            heard_bytes: 0,
        }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let drained: Poll<io::Result<()>> = self.socket.poll_drain(context);
        drained.map_err(|_| Ended::Lost)
    }
}

impl Link for WebSocket {
    fn trust(&mut self, max_message_bytes: usize) {
        self.socket.limit_messages(max_message_bytes);
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match self.socket.queued_bytes() < MAX_QUEUED_BYTES {
            true => Poll::Ready(Ok(())),
            false => self.poll_drain(context),
        }
    }

    fn push(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => self.socket.push(Opcode::Text, text.into()),
            Frame::SharedText(text) => self.socket.push(Opcode::Text, text),
            Frame::Binary(bytes) => self.socket.push(Opcode::Binary, bytes),
            Frame::Parts(first, rest) => self.socket.push_parts(first, rest),
        }
    }

    fn push_ping(&mut self, keep_alive: Option<Bytes>) {
        if self.socket.queued_bytes() == 0
            && let Some(frame) = keep_alive
        {
            self.socket.push(Opcode::Binary, frame);
        }
        self.socket.push(Opcode::Ping, Bytes::new());
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match self.socket.queued_bytes() {
            0 => Poll::Ready(Ok(())),
            _ => self.poll_drain(context),
        }
    }

    fn has_moved(&mut self) -> bool {
        let written = self.socket.written_bytes();
        std::mem::replace(&mut self.seen_bytes, written) != written
    }

    fn has_come(&mut self) -> bool {
        let read = self.socket.read_bytes();
        std::mem::replace(&mut self.heard_bytes, read) != read
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, Ended>> {
        Poll::Ready(match ready!(self.socket.poll_read(context)) {
            Ok(Incoming::Message(message)) => match message {
                Message::Binary(bytes) => Ok(Received::Frame(Frame::Binary(bytes))),
                Message::Text(text) => Ok(Received::Frame(Frame::Text(Str::copy_from_slice(&text)))),
                Message::Close(_) => Err(Ended::Clean),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(Received::Nothing),
            },
            Ok(Incoming::Overlong {
                beginning,
                size,
                limit,
            }) => Ok(Received::Overlong(beginning, too_long(size, limit))),
            Err(error) => Err(broken(&error)),
        })
    }

    async fn close(mut self, ended: &Ended) {
        match ended {
            Ended::Clean => {
                let answer = poll_fn(|context| self.socket.poll_answer_goodbye(context));
                let _ = tokio::time::timeout(GOODBYE, answer).await;
            }
            Ended::Refused(refusal) => say_goodbye(&mut self.socket, refusal).await,
            Ended::Lost => {}
        }
    }
}

/// Accepts a connection only to say why it is refused: a browser cannot see why a handshake failed.
pub async fn refuse(on_upgrade: OnUpgrade, refusal: Refusal) {
    if let Some(mut socket) = accepted(on_upgrade, MAX_REFUSED_BYTES).await {
        say_goodbye(&mut socket, &refusal).await;
    }
}

fn too_long(size: usize, limit: usize) -> Refusal {
    Refusal::too_large(format!("a message of {size} bytes is over the limit of {limit}"))
}

fn broken(error: &tungstenite::Error) -> Ended {
    use tungstenite::Error;
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ended::Clean,
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Ended::Refused(too_long(*size, *max_size))
        }
        Error::Capacity(_) => Ended::Refused(Refusal::too_large("a message is over the limit")),
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
            Ended::Lost
        }
        Error::Protocol(error) => Ended::Refused(Refusal::malformed(error.to_string())),
        Error::Utf8(_) => Ended::Refused(Refusal::malformed("text that is not UTF-8")),
        Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => Ended::Lost,
    }
}

/// Sends the reason, behind what waits already, and waits a moment for the peer's goodbye.
pub(super) async fn say_goodbye(socket: &mut FrameSocket, refusal: &Refusal) {
    socket.push_close(CloseFrame {
        code: close_code(refusal.code).into(),
        reason: close_reason(refusal).into(),
    });
    let goodbye = poll_fn(|context| {
        loop {
            let read = socket.poll_read(context);
            if let Poll::Ready(Err(_)) = socket.poll_drain(context) {
                return Poll::Ready(());
            }
            match read {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    // A peer that does not answer is left without it.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}
