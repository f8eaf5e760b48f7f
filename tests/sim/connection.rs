//! One connection: both ends of a socket with latency and little room, which keeps the order of what it carries.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::testing::Random;
use pageroom::{
    access::HolderId,
    connections::{Session, SessionConfig},
    protocols::{Dialect, y_websocket::YWebsocket},
    rooms::{MemberId, Next, Outbox, Refusal, ServerMessage},
};

/// Something on its way to the server.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Frame(Bytes),
    /// A message that other protocols have: to be said back when everything is stored.
    Mark(Bytes),
    Pong,
    Goodbye,
    /// The connection broke.
    Reset,
}

/// Something on its way to the client.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    Frame(Bytes),
    Ping,
    Close(Refusal),
    Reset,
}

/// Where a connection ends at the server.
#[derive(Clone, Debug)]
pub(crate) struct ServerSide {
    pub(crate) member: MemberId,
    pub(crate) outbox: Arc<Outbox>,
}

pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) process: usize,
    pub(crate) epoch: u64,
    pub(crate) page: usize,
    pub(crate) session: Session,
    /// When it was opened, and when the token ends that was shown then.
    pub(crate) opened: Instant,
    pub(crate) token_ends: Option<Instant>,
    /// Its number among those whose rights are watched.
    pub(crate) holder: Option<HolderId>,
    /// `None` before the handshake has arrived and after the server has hung up.
    pub(crate) server: Option<ServerSide>,
    /// The client reads.
    pub(crate) reads: bool,
    /// Nothing gets through, and nobody notices.
    pub(crate) silent: bool,
    /// What the client has not read yet.
    pub(crate) unread: VecDeque<Down>,
    in_flight: usize,
    socket_bytes: usize,
    latency: Duration,
    random: Random,
    up_at: Instant,
    down_at: Instant,
}

/// What a connection wants of the world after it has written what it could.
#[derive(Debug)]
pub(crate) enum Wants {
    /// Its queue has drained after the member had fallen behind.
    CaughtUp,
    /// The room hangs up.
    HangUp(Refusal),
}

pub(crate) struct Route {
    pub(crate) client: usize,
    pub(crate) process: usize,
    pub(crate) epoch: u64,
    pub(crate) page: usize,
}

impl Connection {
    pub(crate) fn new(now: Instant, route: Route, socket_bytes: usize, latency_ms: u64, seed: u64) -> Self {
        let Route {
            client,
            process,
            epoch,
            page,
        } = route;
        let mut random = Random::new(seed);
        // Connections differ, so that what two tabs send arrives in either order.
        let latency = Duration::from_micros(latency_ms * 1000 * u64::from(1 + random.below(4)));
        Self {
            client,
            process,
            epoch,
            page,
            session: Session::new(now, session_config()),
            opened: now,
            token_ends: None,
            holder: None,
            server: None,
            reads: true,
            silent: false,
            unread: VecDeque::new(),
            in_flight: 0,
            socket_bytes,
            latency,
            random,
            up_at: now,
            down_at: now,
        }
    }

    fn delay(&mut self) -> Duration {
        self.latency + Duration::from_micros(u64::from(self.random.below(1_000)))
    }

    /// When something sent now arrives at the server.
    pub(crate) fn arrives_up(&mut self, now: Instant) -> Instant {
        self.up_at = self.up_at.max(now + self.delay());
        self.up_at
    }

    /// When something sent now arrives at the client.
    pub(crate) fn arrives_down(&mut self, now: Instant) -> Instant {
        self.down_at = self.down_at.max(now + self.delay());
        self.down_at
    }

    /// Writes what fits into the socket, and says what the connection wants of the world then.
    pub(crate) fn write(&mut self, now: Instant, frames: &mut Vec<Bytes>) -> Option<Wants> {
        let outbox = self.server.as_ref()?.outbox.clone();
        while self.in_flight < self.socket_bytes {
            match outbox.next()? {
                // The room's promise is looked at where it is made; these clients have no word for it.
                Next::Message(message) if matches!(message.message(), ServerMessage::Mark(_)) => {}
                Next::Message(message) => {
                    let frame = message.wire(YWebsocket::SLOT, YWebsocket::encode);
                    self.in_flight += frame.len();
                    self.session.sent(now);
                    frames.push(frame);
                }
                // These clients take the echo for an acknowledgement.
                Next::Receipt { .. } => {}
                Next::CaughtUp => return Some(Wants::CaughtUp),
                Next::Close(refusal) => return Some(Wants::HangUp(refusal)),
            }
        }
        self.session.blocked(now);
        None
    }

    /// The client has taken a frame out of the socket.
    pub(crate) fn taken(&mut self, now: Instant, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if self.server.is_some() {
            self.session.sent(now);
        }
    }
}

fn session_config() -> SessionConfig {
    SessionConfig {
        keep_alive: Duration::from_secs(15),
        timeout: Duration::from_secs(40),
        max_stall: Duration::from_secs(20),
        messages_per_second: 0,
        burst: 0,
    }
}
