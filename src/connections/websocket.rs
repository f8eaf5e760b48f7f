//! Runs what is spoken on one WebSocket: the handshake, and one loop that reads, writes and watches the clock.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use storage::PageId;
use tokio_tungstenite::tungstenite::{
    self, Message, error::CapacityError, handshake::derive_accept_key, protocol::CloseFrame,
};

use super::{
    ConnectionPermit, PatientStream, Session, SessionConfig, Step,
    frames::{FrameSocket, Opcode},
    one_page::OnePage,
};
use crate::{
    auth::{Access, Membership},
    protocols::{
        Dialect,
        close::{close_code, close_reason},
    },
    rooms::{Departure, Refusal, RefusalCode, Registry, StoreWriter},
    telemetry::Metrics,
};

/// What connections need of the server.
#[derive(Clone)]
pub struct Surroundings {
    /// Who may do what; the way into rooms.
    pub access: Access,
    /// The rooms.
    pub registry: Registry,
    /// The store's writer, which may ask connections to wait.
    pub writer: StoreWriter,
    /// The numbers.
    pub metrics: Metrics,
    /// How patient connections are.
    pub session: SessionConfig,
    /// Largest message, in bytes.
    pub max_message_bytes: usize,
    /// Bytes that may wait for one member.
    pub max_outbox_bytes: usize,
}

/// Messages are taken from the outbox while less than this waits for the socket.
pub(super) const MAX_QUEUED_BYTES: usize = 16 * 1024;
/// Longest message of a peer of whom it is not known yet who it is, where a protocol shows its token after connecting.
pub(super) const MAX_STRANGER_BYTES: usize = 1024 * 1024;
/// Longest message of a client that is refused anyway.
const MAX_REFUSED_BYTES: usize = 64 * 1024;
/// Frames read before what they say is handed over.
pub(super) const MAX_FRAMES_A_TURN: usize = 64;
/// Messages taken in before what they say is handed over, and before the budget of the connection is looked at.
pub(super) const MAX_MESSAGES_A_TURN: usize = 64;
/// How long a closing peer may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// How often a connection that must not be read looks whether it may be again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The request is no WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this address speaks WebSocket: connect with a WebSocket client")]
pub struct NotAHandshake;

/// Answers a WebSocket handshake: the response, and the connection once it has been sent. `protocol` is the subprotocol to
/// choose; a browser that offered some fails the connection unless one is chosen.
pub fn upgrade<B>(
    request: &mut Request<B>,
    protocol: Option<&str>,
) -> Result<(Response<()>, OnUpgrade), NotAHandshake> {
    let accept = accept_key(request.method(), request.version(), request.headers()).ok_or(NotAHandshake)?;
    let on_upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or(NotAHandshake)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(protocol).ok()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok((response, on_upgrade))
}

fn accept_key(method: &Method, version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|item| item.trim().eq_ignore_ascii_case(token))
            })
    };
    let is_handshake = method == Method::GET
        && version == Version::HTTP_11
        && lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, "websocket")
        && headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

/// The socket of an accepted handshake. `None` when the peer went away meanwhile.
pub(super) async fn accepted(on_upgrade: OnUpgrade, max_message_bytes: usize) -> Option<FrameSocket> {
    // The buffers of the HTTP connection end here; what it has read already is handed on.
    let parts = on_upgrade.await.ok()?.downcast::<TokioIo<PatientStream>>().ok()?;
    Some(FrameSocket::new(
        parts.io.into_inner().into_inner(),
        parts.read_buf.to_vec(),
        or_any(max_message_bytes),
    ))
}

/// A limit as a number that can be compared with.
pub(super) fn or_any(limit: usize) -> usize {
    match limit {
        0 => usize::MAX,
        limit => limit,
    }
}

/// Accepts a connection only to say why it is refused: a browser cannot see why a handshake failed.
pub async fn refuse(on_upgrade: OnUpgrade, refusal: Refusal) {
    if let Some(mut socket) = accepted(on_upgrade, MAX_REFUSED_BYTES).await {
        say_goodbye(&mut socket, &refusal).await;
    }
}

/// Serves one connection to one page until it ends.
pub async fn serve<D: Dialect>(
    on_upgrade: OnUpgrade,
    page: PageId,
    membership: Membership,
    permit: ConnectionPermit,
    around: Arc<Surroundings>,
) {
    // Joining takes much memory for a moment; in a box it takes none while the connection lasts.
    if let Some(conversation) = Box::pin(join::<D>(on_upgrade, page, membership, around)).await {
        conversation.await;
    }
    drop(permit);
}

/// Takes the peer's seat; `None` when the peer has gone or was sent away.
async fn join<D: Dialect>(
    on_upgrade: OnUpgrade,
    page: PageId,
    membership: Membership,
    around: Arc<Surroundings>,
) -> Option<impl Future<Output = ()> + Send> {
    let mut socket = accepted(on_upgrade, around.max_message_bytes).await?;
    let expires = membership.expires_in.map(|left| now() + left);
    let beginning = OnePage::<D>::begin(&around, &page, membership);
    // A client that hears nothing for longer has gone.
    let begun = tokio::time::timeout(around.session.timeout, beginning).await;
    let too_long = |_| Err(Refusal::unavailable("the page took too long to open"));
    match begun.unwrap_or_else(too_long) {
        Ok(conversation) => Some(run(socket, conversation, expires, around)),
        Err(refusal) => {
            around.metrics.refused(refusal.code.as_str(), 1);
            say_goodbye(&mut socket, &refusal).await;
            None
        }
    }
}

/// What is spoken on one socket: frames of the peer in, frames to it out. It does nothing by itself; the socket's loop asks it.
pub(super) trait Conversation {
    /// Takes in a frame, or the first part of one with many messages; says of how many.
    fn hear(&mut self, frame: &Bytes) -> Result<usize, Refusal>;

    /// Whether there is more in the last frame.
    fn has_unread(&self) -> bool {
        false
    }

    /// Takes in the next part of it.
    fn hear_on(&mut self) -> Result<usize, Refusal> {
        Ok(0)
    }

    /// Whether it can take in another one now.
    fn may_hear(&self) -> bool;

    /// Goes on with what it does between hearing and saying.
    fn poll_work(&mut self, context: &mut Context<'_>);

    /// What is to be said next.
    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<Say>;

    /// A frame that changes nothing, for clients that hang up on a silent server.
    fn keep_alive(&self) -> Option<Bytes>;

    /// The longest silence that clients bear, where it is shorter than what is configured.
    fn max_silence(&self) -> Option<Duration> {
        None
    }

    /// Does what is due by now.
    fn tick(&mut self, _now: Instant) {}

    /// When it wants to be looked at again.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether it is known who the peer is. Until then its frames are small.
    fn is_known(&self) -> bool {
        true
    }

    /// Gives back what it holds. What was heard counts, also when the peer said goodbye or nonsense right behind it.
    fn end(self, departure: Departure) -> impl Future<Output = ()> + Send;
}

/// Something to say.
pub(super) enum Say {
    /// A frame.
    Frame(Bytes),
    /// A frame in two parts, of which the second is shared with others.
    Parts(Bytes, Bytes),
    /// The last word.
    Close(Refusal),
}

/// Runs what is spoken on a socket until one side hangs up. A token that let the peer in is good until `expires`.
pub(super) fn run<C: Conversation + Send>(
    socket: FrameSocket,
    conversation: C,
    expires: Option<Instant>,
    around: Arc<Surroundings>,
) -> impl Future<Output = ()> + Send {
    let keep_alive = conversation
        .max_silence()
        .map_or(around.session.keep_alive, |max| {
            max.min(around.session.keep_alive)
        });
    let patience = SessionConfig {
        keep_alive,
        ..around.session
    };
    // In a box, because a future has place for what is given to it and for each place that it is moved to.
    let mut connection = Box::new(Connection {
        is_stranger: !conversation.is_known(),
        socket,
        conversation,
        session: Session::new(now(), patience, expires),
        around,
    });
    async move {
        connection.around.metrics.connections_open.increment(1.0);
        let ended = connection.run().await;
        Box::pin(connection.end(ended)).await;
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The peer said goodbye.
    Clean,
    /// The peer vanished.
    Lost,
    /// We hang up.
    Refused(Refusal),
}

/// What a turn of reading and writing came to.
enum Turn {
    /// The peer said this many messages.
    Heard(usize),
    Ended(Ended),
}

struct Connection<C> {
    socket: FrameSocket,
    conversation: C,
    session: Session,
    around: Arc<Surroundings>,
    /// Its frames are kept small, because it was not known who it is.
    is_stranger: bool,
}

impl<C: Conversation> Connection<C> {
    /// Gives back what the connection holds, and says goodbye.
    async fn end(self: Box<Self>, ended: Ended) {
        let Self {
            mut socket,
            conversation,
            around,
            ..
        } = *self;
        let departure = match &ended {
            Ended::Clean | Ended::Refused(_) => Departure::Clean,
            Ended::Lost => Departure::Lost,
        };
        if matches!(ended, Ended::Clean) {
            // First of all, because what the peer has said may take a while to be taken in.
            let answer = poll_fn(|context| socket.poll_answer_goodbye(context));
            let _ = tokio::time::timeout(GOODBYE, answer).await;
        }
        let goodbye = async {
            if let Ended::Refused(refusal) = ended {
                around.metrics.refused(refusal.code.as_str(), 1);
                say_goodbye(&mut socket, &refusal).await;
            }
            // Whoever waits for its seat to be given back keeps no socket meanwhile.
            drop(socket);
        };
        around.metrics.connections_open.decrement(1.0);
        tokio::join!(goodbye, conversation.end(departure));
    }

    /// Runs until the connection ends.
    async fn run(&mut self) -> Ended {
        let alarm = tokio::time::sleep_until(self.next_deadline().into());
        tokio::pin!(alarm);
        let mut alarm_at = alarm.deadline();
        loop {
            let pause = self.reading_pause();
            if pause.is_some() {
                // Whoever is not listened to cannot be blamed for silence.
                self.session.heard(now());
            }
            // Deadlines mostly move away: an alarm that rings too early is set again, which is cheaper than moving it each time.
            let deadline = pause.map_or(self.next_deadline(), |until| until.min(self.next_deadline()));
            if alarm_at > deadline.into() {
                alarm_at = deadline.into();
                alarm.as_mut().reset(alarm_at);
            }
            tokio::select! {
                biased;
                turn = poll_fn(|context| match self.poll_turn(context, pause.is_none()) {
                    // Something has become due earlier.
                    Poll::Pending if self.next_deadline() < alarm_at.into_std() => Poll::Ready(Turn::Heard(0)),
                    turn @ (Poll::Ready(_) | Poll::Pending) => turn,
                }) => match turn {
                    Turn::Heard(messages) => self.session.received(now(), messages),
                    Turn::Ended(ended) => return ended,
                },
                () = &mut alarm => {
                    if let Some(ended) = self.tick() {
                        return ended;
                    }
                    alarm_at = self.next_deadline().into();
                    alarm.as_mut().reset(alarm_at);
                }
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let session = self.session.next_deadline();
        self.conversation
            .next_deadline()
            .map_or(session, |deadline| session.min(deadline))
    }

    /// Until when the peer must not be read: it is too fast, or too much waits for the store.
    fn reading_pause(&self) -> Option<Instant> {
        let now = now();
        if self.around.writer.is_full() {
            return Some(now + PAUSE);
        }
        self.session.may_read_at().filter(|from| *from > now)
    }

    fn tick(&mut self) -> Option<Ended> {
        self.conversation.tick(now());
        match self.session.step(now())? {
            Step::Lost => Some(Ended::Lost),
            Step::Expired => Some(Ended::Refused(Refusal::new(
                RefusalCode::TokenExpired,
                "the token has expired",
            ))),
            Step::Stalled => Some(Ended::Refused(Refusal::unavailable(
                "the client reads too slowly",
            ))),
            Step::KeepAlive => {
                if self.socket.queued_bytes() == 0
                    && let Some(frame) = self.conversation.keep_alive()
                {
                    self.socket.push(Opcode::Binary, frame);
                }
                self.socket.push(Opcode::Ping, Bytes::new());
                self.session.pinged(now());
                None
            }
        }
    }

    /// Writes what can be written and reads what can be read.
    fn poll_turn(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Turn> {
        self.conversation.poll_work(context);
        if self.is_stranger && self.conversation.is_known() {
            self.is_stranger = false;
            self.socket.limit_messages(or_any(self.around.max_message_bytes));
        }
        if let Some(ended) = self.poll_write(context) {
            return Poll::Ready(Turn::Ended(ended));
        }
        let mut messages = 0;
        for _ in 0..MAX_FRAMES_A_TURN {
            if !may_read || !self.conversation.may_hear() || messages >= MAX_MESSAGES_A_TURN {
                break;
            }
            if self.conversation.has_unread() {
                match self.conversation.hear_on() {
                    Ok(heard) => messages += heard,
                    Err(refusal) => return Poll::Ready(Turn::Ended(Ended::Refused(refusal))),
                }
                continue;
            }
            let frame = match self.socket.poll_read(context) {
                Poll::Ready(Ok(frame)) => frame,
                Poll::Ready(Err(error)) => return Poll::Ready(Turn::Ended(broken(&error))),
                Poll::Pending => {
                    // Reading may have queued a reply.
                    if let Some(ended) = self.drain(context) {
                        return Poll::Ready(Turn::Ended(ended));
                    }
                    return match messages {
                        0 => Poll::Pending,
                        messages => Poll::Ready(Turn::Heard(messages)),
                    };
                }
            };
            self.session.heard(now());
            match frame {
                Message::Binary(frame) => match self.conversation.hear(&frame) {
                    Ok(heard) => messages += heard,
                    Err(refusal) => return Poll::Ready(Turn::Ended(Ended::Refused(refusal))),
                },
                Message::Close(_) => return Poll::Ready(Turn::Ended(Ended::Clean)),
                Message::Text(_) => {
                    let refusal = Refusal::malformed("this protocol has no text frames");
                    return Poll::Ready(Turn::Ended(Ended::Refused(refusal)));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        match (messages, may_read && self.conversation.may_hear()) {
            (0, false) => Poll::Pending,
            // After control frames alone there may be more.
            (messages, _) => Poll::Ready(Turn::Heard(messages)),
        }
    }

    /// Writes what waits, as much at once as the socket takes.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Option<Ended> {
        loop {
            let mut more = true;
            while more && self.socket.queued_bytes() < MAX_QUEUED_BYTES {
                match self.conversation.poll_say(context) {
                    Poll::Ready(Say::Frame(frame)) => {
                        self.count(frame.len());
                        self.socket.push(Opcode::Binary, frame);
                    }
                    Poll::Ready(Say::Parts(first, rest)) => {
                        self.count(first.len() + rest.len());
                        self.socket.push_parts(first, rest);
                    }
                    Poll::Ready(Say::Close(refusal)) => return Some(Ended::Refused(refusal)),
                    Poll::Pending => more = false,
                }
            }
            if let Some(ended) = self.drain(context) {
                return Some(ended);
            }
            if !more || self.socket.queued_bytes() > 0 {
                return None;
            }
        }
    }

    fn count(&self, bytes: usize) {
        self.around.metrics.frames_out.increment(1);
        self.around.metrics.bytes_out.increment(bytes as u64);
    }

    /// Hands what waits to the socket, as far as it takes it.
    fn drain(&mut self, context: &mut Context<'_>) -> Option<Ended> {
        if self.socket.queued_bytes() == 0 {
            return None;
        }
        let before = self.socket.written_bytes();
        let drained = self.socket.poll_drain(context);
        if self.socket.written_bytes() > before {
            // A part of a large message counts: the peer reads.
            self.session.sent(now());
        }
        match drained {
            Poll::Ready(Ok(())) => None,
            Poll::Ready(Err(_)) => Some(Ended::Lost),
            Poll::Pending => {
                self.session.blocked(now());
                None
            }
        }
    }
}

pub(super) fn broken(error: &tungstenite::Error) -> Ended {
    use tungstenite::Error;
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ended::Clean,
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Ended::Refused(Refusal::too_large(format!(
                "a message of {size} bytes is over the limit of {max_size}"
            )))
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

#[expect(
    clippy::disallowed_methods,
    reason = "the driver is where a session meets the clock"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
