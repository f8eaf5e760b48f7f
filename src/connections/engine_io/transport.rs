//! The transport of one session: requests that poll, or a WebSocket, and the change from the one to the other.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use engineioxide_core::{Packet, ProtocolVersion, Str};
use tokio::sync::{mpsc, oneshot};

use crate::{
    connections::{
        frames::FrameSocket,
        link::{Ended, Link, Received},
        websocket::WebSocket,
    },
    protocols::Frame,
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
    Upgrade(Box<WebSocket>),
}

/// A session's transport.
#[derive(Debug)]
pub(super) struct Transport {
    carrier: Carrier,
    /// It is known who the peer is; those who take its posts look here.
    is_trusted: Arc<AtomicBool>,
    max_message_bytes: usize,
    /// The peer has come to take what there is.
    has_moved: bool,
}

#[derive(Debug)]
enum Carrier {
    WebSocket(Box<WebSocket>),
    Polling(Polling),
}

#[derive(Debug)]
struct Polling {
    queue: VecDeque<Frame>,
    queued_bytes: usize,
    requests: mpsc::Receiver<Request>,
    poll: Option<oneshot::Sender<String>>,
    post: Option<(std::vec::IntoIter<Packet>, oneshot::Sender<()>)>,
    paused: bool,
    /// The peer has come to take what there is.
    has_moved: bool,
}

impl Transport {
    pub(super) fn web_socket(socket: FrameSocket) -> Self {
        Self::new(Carrier::WebSocket(Box::new(WebSocket::new(socket))))
    }

    pub(super) fn polling(requests: mpsc::Receiver<Request>) -> Self {
        Self::new(Carrier::Polling(Polling {
            queue: VecDeque::new(),
            queued_bytes: 0,
            requests,
            poll: None,
            post: None,
            paused: false,
            has_moved: false,
        }))
    }

    fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            is_trusted: Arc::default(),
            max_message_bytes: 0,
            has_moved: false,
        }
    }

    /// Whether it is known who the peer is.
    pub(super) fn is_trusted(&self) -> Arc<AtomicBool> {
        self.is_trusted.clone()
    }

    /// The session goes on over a WebSocket.
    fn upgrade(&mut self, mut socket: Box<WebSocket>) {
        if self.is_trusted.load(Ordering::Relaxed) {
            socket.trust(self.max_message_bytes);
        }
        if let Carrier::Polling(polling) = &mut self.carrier {
            polling.answer_empty();
            for frame in polling.queue.drain(..) {
                socket.push(frame);
            }
        }
        self.carrier = Carrier::WebSocket(socket);
        self.has_moved = true;
    }
}

impl Link for Transport {
    fn poll_transport(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        let Carrier::Polling(polling) = &mut self.carrier else {
            return Ok(());
        };
        if let Some(socket) = polling.poll_requests(context)? {
            self.upgrade(socket);
        }
        Ok(())
    }

    fn trust(&mut self, max_message_bytes: usize) {
        self.max_message_bytes = max_message_bytes;
        self.is_trusted.store(true, Ordering::Relaxed);
        if let Carrier::WebSocket(socket) = &mut self.carrier {
            socket.trust(max_message_bytes);
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match &mut self.carrier {
            Carrier::WebSocket(socket) => socket.poll_ready(context),
            Carrier::Polling(polling) => {
                if polling.queued_bytes >= MAX_ANSWER_BYTES {
                    polling.answer();
                }
                match polling.poll.is_none() || polling.paused {
                    true => Poll::Pending,
                    false => Poll::Ready(Ok(())),
                }
            }
        }
    }

    fn push(&mut self, frame: Frame) {
        match &mut self.carrier {
            Carrier::WebSocket(socket) => socket.push(frame),
            Carrier::Polling(polling) => {
                polling.queued_bytes += frame.size();
                polling.queue.push_back(frame);
            }
        }
    }

    /// The few bytes of a ping are queued whether or not anybody takes them.
    fn push_ping(&mut self, _keep_alive: Option<Bytes>) {
        self.push(Frame::Text(String::from(Packet::Ping).into()));
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match &mut self.carrier {
            Carrier::WebSocket(socket) => socket.poll_flush(context),
            Carrier::Polling(polling) => match polling.queue.is_empty() || polling.answer() {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            },
        }
    }

    fn has_come(&mut self) -> bool {
        match &mut self.carrier {
            Carrier::WebSocket(socket) => socket.has_come(),
            // A post is handed over whole, and has a time limit of its own.
            Carrier::Polling(_) => false,
        }
    }

    fn has_moved(&mut self) -> bool {
        let has_moved = match &mut self.carrier {
            Carrier::WebSocket(socket) => socket.has_moved(),
            Carrier::Polling(polling) => std::mem::take(&mut polling.has_moved),
        };
        has_moved | std::mem::take(&mut self.has_moved)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, Ended>> {
        let packet = match &mut self.carrier {
            Carrier::WebSocket(socket) => match ready!(socket.poll_read(context))? {
                Received::Frame(Frame::Text(text)) => packet(text)?,
                received @ (Received::Frame(_)
                | Received::Overlong(..)
                | Received::Pong
                | Received::Nothing) => {
                    return Poll::Ready(Ok(received));
                }
            },
            Carrier::Polling(polling) => ready!(polling.poll_packet()),
        };
        Poll::Ready(match packet {
            Packet::Message(text) => Ok(Received::Frame(Frame::Text(text))),
            Packet::Binary(bytes) => Ok(Received::Frame(Frame::Binary(bytes))),
            Packet::Pong => Ok(Received::Pong),
            Packet::Close => Err(Ended::Clean),
            Packet::Open(_)
            | Packet::Ping
            | Packet::PingUpgrade
            | Packet::PongUpgrade
            | Packet::Upgrade
            | Packet::Noop
            | Packet::BinaryV3(_) => Err(Ended::Refused(Refusal::malformed(
                "a packet that clients do not send",
            ))),
        })
    }

    /// Clients whose poll has failed say goodbye to the session before they begin the next one.
    fn means_goodbyes(&self) -> bool {
        matches!(self.carrier, Carrier::WebSocket(_))
    }

    async fn close(self, ended: &Ended) {
        match self.carrier {
            Carrier::Polling(polling) => polling.close(ended),
            Carrier::WebSocket(socket) => socket.close(ended).await,
        }
    }
}

impl Polling {
    /// Takes in what requests want. Gives the WebSocket on which the session goes on, if one has come; `Err` when the session has ended.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Result<Option<Box<WebSocket>>, Ended> {
        loop {
            if let Some(poll) = &mut self.poll
                && poll.poll_closed(context).is_ready()
            {
                // What would have been its answer is lost, and the peer does not know.
                return Err(Ended::Lost);
            }
            match self.requests.poll_recv(context) {
                Poll::Pending => return Ok(None),
                Poll::Ready(None) => return Err(Ended::Lost),
                Poll::Ready(Some(Request::Poll(reply))) if self.paused => {
                    let _ = reply.send(Packet::Noop.into());
                }
                Poll::Ready(Some(Request::Poll(reply))) => {
                    if self.poll.is_some() {
                        return Err(Ended::Refused(Refusal::malformed("two polls at the same time")));
                    }
                    self.poll = Some(reply);
                    self.has_moved = true;
                }
                Poll::Ready(Some(Request::Post(packets, reply))) => {
                    if self.post.is_some() {
                        return Err(Ended::Refused(Refusal::malformed("two posts at the same time")));
                    }
                    self.post = Some((packets.into_iter(), reply));
                }
                Poll::Ready(Some(Request::Pause)) => {
                    self.paused = true;
                    self.answer_empty();
                }
                Poll::Ready(Some(Request::Resume)) => self.paused = false,
                Poll::Ready(Some(Request::Upgrade(socket))) => return Ok(Some(socket)),
            }
        }
    }

    /// The next packet of a post, which is answered when all of them have been taken in.
    fn poll_packet(&mut self) -> Poll<Packet> {
        if let Some((packets, _)) = &mut self.post {
            if let Some(packet) = packets.next() {
                return Poll::Ready(packet);
            }
            if let Some((_, reply)) = self.post.take() {
                let _ = reply.send(());
            }
        }
        Poll::Pending
    }

    /// Answers the poll that waits with nothing.
    fn answer_empty(&mut self) {
        if let Some(poll) = self.poll.take() {
            let _ = poll.send(Packet::Noop.into());
        }
    }

    /// Tells the peer that the session has ended.
    fn close(mut self, ended: &Ended) {
        // A client that said goodbye is answered that nothing is left.
        let last = match ended {
            Ended::Clean => Packet::Noop,
            Ended::Lost | Ended::Refused(_) => Packet::Close,
        };
        if let (Ended::Clean, Some((_, reply))) = (ended, self.post.take()) {
            let _ = reply.send(());
        }
        if let Some(poll) = self.poll.take() {
            self.queue.push_back(Frame::Text(String::from(last).into()));
            let _ = poll.send(payload(&mut self.queue, &mut 0, usize::MAX));
        }
    }

    /// Answers the poll that waits, if one does and there is something to take along.
    fn answer(&mut self) -> bool {
        if self.queue.is_empty() || self.paused {
            return false;
        }
        let Some(poll) = self.poll.take() else {
            return false;
        };
        let answer = payload(&mut self.queue, &mut self.queued_bytes, MAX_ANSWER_BYTES);
        self.has_moved = true;
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
            Frame::Parts(first, rest) => {
                let bytes = [first, rest].concat();
                payload.push_str(&String::from(Packet::Binary(bytes.into())));
            }
        }
        if payload.len() >= max_bytes {
            break;
        }
    }
    payload
}

/// Reads a packet from a text frame.
pub(super) fn packet(text: Str) -> Result<Packet, Ended> {
    Packet::parse(ProtocolVersion::V4, text)
        .map_err(|error| Ended::Refused(Refusal::malformed(error.to_string())))
}
