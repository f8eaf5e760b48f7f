//! The transport of one session: requests that poll, or a WebSocket, and the change from the one to the other.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use engineioxide_core::{Packet, ProtocolVersion, Str};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::Frame;
use crate::{
    connections::{
        frames::{FrameSocket, Opcode},
        websocket::{Ended, MAX_QUEUED_BYTES, broken, say_goodbye},
    },
    rooms::Refusal,
};

/// The answer to one poll holds about this much, plus one message.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Between two packets of a payload (Engine.IO 4, HTTP long-polling).
const SEPARATOR: char = '\x1e';

/// What a request wants of a polling session.
#[derive(Debug)]
pub(super) enum Request {
    /// A GET waits for something to take along.
    Poll(oneshot::Sender<String>),
    /// A POST has brought this, and is answered when it has been taken in.
    Post(Vec<Packet>, oneshot::Sender<()>),
    /// A WebSocket has knocked: nothing more is to leave over requests.
    Pause,
    /// The WebSocket has gone away again.
    Resume,
    /// The session goes on over this WebSocket.
    Upgrade(Box<FrameSocket>),
}

/// A session's transport.
#[derive(Debug)]
pub(super) enum Link {
    WebSocket(WebSocket),
    Polling(Polling),
}

#[derive(Debug)]
pub(super) struct WebSocket {
    socket: Box<FrameSocket>,
    /// Bytes that had been written when [`Link::has_moved`] was asked.
    seen_bytes: u64,
    /// Its messages are not kept small any more.
    is_trusted: bool,
}

#[derive(Debug)]
pub(super) struct Polling {
    queue: VecDeque<Frame>,
    queued_bytes: usize,
    requests: mpsc::Receiver<Request>,
    poll: Option<oneshot::Sender<String>>,
    post: Option<(std::vec::IntoIter<Packet>, oneshot::Sender<()>)>,
    paused: bool,
}

impl Link {
    pub(super) fn web_socket(socket: FrameSocket) -> Self {
        Self::WebSocket(WebSocket::new(Box::new(socket)))
    }

    pub(super) fn polling(requests: mpsc::Receiver<Request>) -> Self {
        Self::Polling(Polling {
            queue: VecDeque::new(),
            queued_bytes: 0,
            requests,
            poll: None,
            post: None,
            paused: false,
        })
    }

    /// Messages may be so long from the next one on.
    pub(super) fn limit_messages(&mut self, max_bytes: usize) {
        if let Self::WebSocket(socket) = self
            && !std::mem::replace(&mut socket.is_trusted, true)
        {
            socket.socket.limit_messages(max_bytes);
        }
    }

    /// Whether the session has not come to a WebSocket.
    pub(super) fn is_polling(&self) -> bool {
        matches!(self, Self::Polling(_))
    }

    /// Queues a frame. Ask [`Self::poll_ready`] first, except for the few bytes that keep a session alive.
    pub(super) fn feed(&mut self, frame: Frame) {
        match self {
            Self::WebSocket(socket) => socket.feed(frame),
            Self::Polling(polling) => {
                polling.queued_bytes += frame.size();
                polling.queue.push_back(frame);
            }
        }
    }

    /// Takes in what requests want. `Err` when the session has ended by that.
    pub(super) fn poll_requests(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let Self::Polling(polling) = self else {
                return Ok(());
            };
            if polling
                .poll
                .as_mut()
                .is_some_and(|poll| poll.poll_closed(context).is_ready())
            {
                // What would have been its answer is lost, and the peer does not know.
                return Err(Ended::Lost);
            }
            match polling.requests.poll_recv(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(Ended::Lost),
                Poll::Ready(Some(Request::Poll(reply))) if polling.paused => {
                    let _ = reply.send(Packet::Noop.into());
                }
                Poll::Ready(Some(Request::Poll(reply))) => {
                    if polling.poll.is_some() {
                        return Err(Ended::Refused(Refusal::malformed("two polls at the same time")));
                    }
                    polling.poll = Some(reply);
                }
                Poll::Ready(Some(Request::Post(packets, reply))) => {
                    if polling.post.is_some() {
                        return Err(Ended::Refused(Refusal::malformed("two posts at the same time")));
                    }
                    polling.post = Some((packets.into_iter(), reply));
                }
                Poll::Ready(Some(Request::Pause)) => {
                    polling.paused = true;
                    if let Some(poll) = polling.poll.take() {
                        let _ = poll.send(Packet::Noop.into());
                    }
                }
                Poll::Ready(Some(Request::Resume)) => polling.paused = false,
                Poll::Ready(Some(Request::Upgrade(socket))) => {
                    if let Some(poll) = polling.poll.take() {
                        let _ = poll.send(Packet::Noop.into());
                    }
                    let mut socket = WebSocket::new(socket);
                    for frame in polling.queue.drain(..) {
                        socket.feed(frame);
                    }
                    *self = Self::WebSocket(socket);
                }
            }
        }
    }

    /// Waits until another message may be queued, sending what is queued already as far as that is needed.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match self {
            Self::WebSocket(socket) => {
                if socket.socket.queued_bytes() >= MAX_QUEUED_BYTES {
                    ready!(socket.poll_drain(context))?;
                }
            }
            Self::Polling(polling) => {
                if polling.queued_bytes >= MAX_ANSWER_BYTES {
                    polling.answer();
                }
                if polling.poll.is_none() || polling.paused {
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is queued. Ready with whether anything has left.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Ended>> {
        match self {
            Self::WebSocket(socket) => {
                if socket.socket.queued_bytes() == 0 {
                    return Poll::Ready(Ok(false));
                }
                ready!(socket.poll_drain(context))?;
                Poll::Ready(Ok(true))
            }
            Self::Polling(polling) => {
                if polling.queue.is_empty() {
                    return Poll::Ready(Ok(false));
                }
                match polling.answer() {
                    true => Poll::Ready(Ok(true)),
                    false => Poll::Pending,
                }
            }
        }
    }

    /// Whether the peer has taken something since this was asked the last time.
    pub(super) fn has_moved(&mut self) -> bool {
        match self {
            Self::WebSocket(socket) => {
                let written = socket.socket.written_bytes();
                std::mem::replace(&mut socket.seen_bytes, written) != written
            }
            Self::Polling(_) => false,
        }
    }

    /// The next packet of the peer; `Ok(None)` for a sign of life that says nothing.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Packet>, Ended>> {
        match self {
            Self::WebSocket(socket) => socket.poll_next(context),
            Self::Polling(polling) => {
                if let Some((packets, _)) = &mut polling.post {
                    if let Some(packet) = packets.next() {
                        return Poll::Ready(Ok(Some(packet)));
                    }
                    // Everything in it has been taken in.
                    if let Some((_, reply)) = polling.post.take() {
                        let _ = reply.send(());
                    }
                }
                Poll::Pending
            }
        }
    }

    /// Tells the peer that the session has ended.
    pub(super) async fn close(self, ended: &Ended) {
        match self {
            Self::Polling(mut polling) => {
                // A client that said goodbye is answered that nothing is left.
                let last = match ended {
                    Ended::Clean => Packet::Noop,
                    Ended::Lost | Ended::Refused(_) => Packet::Close,
                };
                if let (Ended::Clean, Some((_, reply))) = (ended, polling.post.take()) {
                    let _ = reply.send(());
                }
                if let Some(poll) = polling.poll.take() {
                    polling.queue.push_back(Frame::Text(String::from(last).into()));
                    let _ = poll.send(payload(&mut polling.queue, &mut 0, usize::MAX));
                }
            }
            Self::WebSocket(mut socket) => {
                if let Ended::Refused(refusal) = ended {
                    say_goodbye(&mut socket.socket, refusal).await;
                }
            }
        }
    }
}

impl Polling {
    /// Answers the poll that waits, if one does and there is something to take along.
    fn answer(&mut self) -> bool {
        if self.queue.is_empty() || self.paused {
            return false;
        }
        let Some(poll) = self.poll.take() else {
            return false;
        };
        let answer = payload(&mut self.queue, &mut self.queued_bytes, MAX_ANSWER_BYTES);
        // A request that has gone away is noticed as such.
        let _ = poll.send(answer);
        true
    }
}

/// The payload of queued frames, up to about `max_bytes`.
fn payload(queue: &mut VecDeque<Frame>, queued_bytes: &mut usize, max_bytes: usize) -> String {
    let mut payload = String::new();
    while let Some(frame) = queue.pop_front() {
        *queued_bytes = queued_bytes.saturating_sub(frame.size());
        if !payload.is_empty() {
            payload.push(SEPARATOR);
        }
        match frame {
            Frame::Text(text) => payload.push_str(&text),
            Frame::SharedText(text) => payload.push_str(&String::from_utf8_lossy(&text)),
            Frame::Binary(bytes) => payload.push_str(&String::from(Packet::Binary(bytes))),
        }
        if payload.len() >= max_bytes {
            break;
        }
    }
    payload
}

impl WebSocket {
    fn new(socket: Box<FrameSocket>) -> Self {
        let seen_bytes = socket.written_bytes();
        Self {
            socket,
            seen_bytes,
            is_trusted: false,
        }
    }

    fn feed(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => self.socket.push(Opcode::Text, text.into()),
            Frame::SharedText(text) => self.socket.push(Opcode::Text, text),
            Frame::Binary(bytes) => self.socket.push(Opcode::Binary, bytes),
        }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.socket.poll_drain(context).map_err(|_| Ended::Lost)
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Packet>, Ended>> {
        Poll::Ready(match ready!(self.socket.poll_read(context)) {
            Ok(Message::Text(text)) => packet(&text).map(Some),
            Ok(Message::Binary(bytes)) => Ok(Some(Packet::Binary(bytes))),
            Ok(Message::Close(_)) => Err(Ended::Clean),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(None),
            Err(error) => Err(broken(&error)),
        })
    }
}

/// Reads a packet from a text frame.
pub(super) fn packet(text: &Utf8Bytes) -> Result<Packet, Ended> {
    Packet::parse(ProtocolVersion::V4, Str::copy_from_slice(text))
        .map_err(|error| Ended::Refused(Refusal::malformed(error.to_string())))
}
