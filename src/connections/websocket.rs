//! Runs one session on a WebSocket: the handshake, and one loop that reads, writes and watches the clock.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use storage::PageId;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{
    self, Message, error::CapacityError, handshake::derive_accept_key, protocol::CloseFrame,
};

use super::{
    ConnectionPermit, Session, SessionConfig, Step,
    frames::{FrameSocket, Opcode},
};
use crate::{
    auth::{Access, Membership},
    protocols::{
        Dialect,
        close::{close_code, close_reason},
    },
    rooms::{ClientMessage, Departure, Next, Outbox, Refusal, RefusalCode, Registry, Seat, StoreWriter},
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
/// Longest message of a client that is refused anyway.
const MAX_REFUSED_BYTES: usize = 64 * 1024;
/// Frames read before what they say is handed over.
pub(super) const MAX_FRAMES_A_TURN: usize = 64;
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
    let parts = on_upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    let limit = match max_message_bytes {
        0 => usize::MAX,
        limit => limit,
    };
    Some(FrameSocket::new(
        parts.io.into_inner(),
        parts.read_buf.to_vec(),
        limit,
    ))
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
    around: Surroundings,
) {
    let Some(mut socket) = accepted(on_upgrade, around.max_message_bytes).await else {
        return;
    };
    let outbox = Outbox::new(around.max_outbox_bytes);
    let expires = membership.expires_in.map(|left| now() + left);
    let joining = around.access.join(&page, membership, &outbox);
    // A client that hears nothing for longer has gone.
    let joined = tokio::time::timeout(around.session.timeout, joining).await;
    let too_long = |_| Err(Refusal::unavailable("the page took too long to open"));
    let seat = match joined.unwrap_or_else(too_long) {
        Ok(seat) => seat,
        Err(refusal) => {
            around.metrics.refused(refusal.code.as_str(), 1);
            return say_goodbye(&mut socket, &refusal).await;
        }
    };
    drop(page);
    around.metrics.connections_open.increment(1.0);
    let keep_alive = D::max_silence().map_or(around.session.keep_alive, |max| {
        max.min(around.session.keep_alive)
    });
    let patience = SessionConfig {
        keep_alive,
        ..around.session
    };
    let session = Session::new(now(), patience, expires);
    let mut connection = Connection::<D> {
        socket,
        outbox,
        session,
        around,
        said: Vec::new(),
        dialect: Default::default(),
    };
    let mut waiting = Vec::new();
    let ended = connection.run(&seat, &mut waiting).await;
    // What was read counts, also when the peer said goodbye or nonsense right behind it.
    waiting.append(&mut connection.said);
    if !waiting.is_empty()
        && let Some(place) = seat.place(&waiting).await
    {
        place.say(waiting);
    }
    let departure = match &ended {
        Ended::Clean | Ended::Refused(_) => Departure::Clean,
        Ended::Lost => Departure::Lost,
    };
    seat.leave(departure).await;
    connection.around.metrics.connections_open.decrement(1.0);
    if let Ended::Refused(refusal) = ended {
        connection.around.metrics.refused(refusal.code.as_str(), 1);
        say_goodbye(&mut connection.socket, &refusal).await;
    }
    drop(permit);
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
    /// The peer said something; it waits in `said`.
    Said,
    /// Everything queued has left, and the member had fallen behind.
    CaughtUp,
    Ended(Ended),
}

struct Connection<D> {
    socket: FrameSocket,
    outbox: Arc<Outbox>,
    session: Session,
    around: Surroundings,
    said: Vec<ClientMessage>,
    dialect: std::marker::PhantomData<D>,
}

impl<D: Dialect> Connection<D> {
    /// Runs until the connection ends. `waiting` is what was read and has no place in the room's mailbox yet.
    async fn run(&mut self, seat: &Seat, waiting: &mut Vec<ClientMessage>) -> Ended {
        let alarm = tokio::time::sleep_until(self.session.next_deadline().into());
        tokio::pin!(alarm);
        let mut caught_up = false;
        loop {
            let pause = self.reading_pause();
            if let Some(until) = pause {
                alarm.as_mut().reset(until.into());
            }
            let may_read = waiting.is_empty() && pause.is_none();
            tokio::select! {
                biased;
                place = seat.place(waiting), if !waiting.is_empty() || caught_up => {
                    let Some(place) = place else { return self.orphaned().await };
                    if waiting.is_empty() {
                        caught_up = false;
                        place.caught_up();
                    } else {
                        place.say(std::mem::take(waiting));
                    }
                }
                turn = poll_fn(|context| self.poll_turn(context, may_read)) => match turn {
                    Turn::Said => {
                        let messages = std::mem::take(&mut self.said);
                        self.session.received(now(), messages.len());
                        *waiting = seat.try_say(messages).err().unwrap_or_default();
                    }
                    Turn::CaughtUp => caught_up = true,
                    Turn::Ended(ended) => return ended,
                },
                () = &mut alarm => {
                    if let Some(ended) = self.tick() {
                        return ended;
                    }
                    alarm.as_mut().reset(self.session.next_deadline().into());
                }
            }
        }
    }

    /// Until when the peer must not be read: it is too fast, or too much waits for the store.
    fn reading_pause(&self) -> Option<Instant> {
        let now = now();
        if self.around.writer.is_full() {
            return Some(now + PAUSE);
        }
        self.session.may_read_at().filter(|from| *from > now)
    }

    /// The room is gone: it has put a reason into the outbox, which leaves as it always does.
    async fn orphaned(&mut self) -> Ended {
        match tokio::time::timeout(GOODBYE, poll_fn(|context| self.outbox.poll_next(context))).await {
            Ok(Next::Close(refusal)) => Ended::Refused(refusal),
            Ok(Next::Message(_) | Next::CaughtUp) | Err(_) => {
                Ended::Refused(Refusal::unavailable("the page is being rebuilt, connect again"))
            }
        }
    }

    fn tick(&mut self) -> Option<Ended> {
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
                if self.socket.queued_bytes() == 0 {
                    self.socket.push(Opcode::Binary, D::keep_alive());
                    self.socket.push(Opcode::Ping, Bytes::new());
                }
                self.session.sent(now());
                None
            }
        }
    }

    /// Writes what can be written and reads what can be read.
    fn poll_turn(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Turn> {
        if let Some(turn) = self.poll_write(context) {
            return Poll::Ready(turn);
        }
        if !may_read {
            return Poll::Pending;
        }
        for _ in 0..MAX_FRAMES_A_TURN {
            let frame = match self.socket.poll_read(context) {
                Poll::Ready(Ok(frame)) => frame,
                Poll::Ready(Err(error)) => return Poll::Ready(Turn::Ended(broken(&error))),
                Poll::Pending => {
                    // Reading may have queued a reply.
                    if let Some(ended) = self.drain(context) {
                        return Poll::Ready(Turn::Ended(ended));
                    }
                    return match self.said.is_empty() {
                        true => Poll::Pending,
                        false => Poll::Ready(Turn::Said),
                    };
                }
            };
            self.session.heard(now());
            match frame {
                Message::Binary(frame) => {
                    if let Err(error) = D::decode(&frame, &mut self.said) {
                        return Poll::Ready(Turn::Ended(Ended::Refused(Refusal::malformed(
                            error.to_string(),
                        ))));
                    }
                }
                Message::Close(_) => return Poll::Ready(Turn::Ended(Ended::Clean)),
                Message::Text(_) => {
                    let refusal = Refusal::malformed("this protocol has no text frames");
                    return Poll::Ready(Turn::Ended(Ended::Refused(refusal)));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        if self.said.is_empty() {
            // Only control frames came; there may be more.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Turn::Said)
    }

    /// Writes what waits, as much at once as the socket takes.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Option<Turn> {
        loop {
            let mut more = true;
            while more && self.socket.queued_bytes() < MAX_QUEUED_BYTES {
                match self.outbox.poll_next(context) {
                    Poll::Ready(Next::Message(message)) => {
                        let frame = message.wire(D::SLOT, D::encode);
                        self.around.metrics.frames_out.increment(1);
                        self.around.metrics.bytes_out.increment(frame.len() as u64);
                        self.socket.push(Opcode::Binary, frame);
                    }
                    Poll::Ready(Next::CaughtUp) => return Some(Turn::CaughtUp),
                    Poll::Ready(Next::Close(refusal)) => return Some(Turn::Ended(Ended::Refused(refusal))),
                    Poll::Pending => more = false,
                }
            }
            if let Some(ended) = self.drain(context) {
                return Some(Turn::Ended(ended));
            }
            if !more || self.socket.queued_bytes() > 0 {
                return None;
            }
        }
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
