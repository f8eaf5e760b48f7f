//! Socket.IO 5 over an Engine.IO session: packets, and several namespaces on one session.
//!
//! A namespace costs nothing by itself. Whoever connects to one gets a [`Place`] there, owned by the session and gone with
//! it; whoever is refused gets a sentence. Packets are taken in one after the other, in the order in which they came, and
//! while a place is being found the session is not read: so nothing overtakes anything, and nothing is lost.
//!
//! Packets are read and written by `socketioxide-core` and `socketioxide-parser-common`.

mod events;
mod open_page;
mod page;
mod server;
mod settings;

use std::{
    sync::{PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use socketioxide_core::{
    Sid, Str, Value,
    packet::{Packet, PacketData},
    parser::{Parse, ParseConfig, ParseError, ParserState},
};
use socketioxide_parser_common::CommonParser;

pub use self::{
    server::{Pages, SocketIoServer},
    settings::SocketIoSettings,
};
use super::{
    attendance::Work,
    engine_io::{Application, Frame, Received, Sent},
};
use crate::{
    protocols::socket_io::{encode, malformed, refusal_answer, refusal_event},
    rooms::{Departure, Refusal, RefusalCode},
};

/// Limits of one session.
#[derive(Clone, Copy, Debug)]
pub struct SocketIoConfig {
    /// A session without a place in any namespace is ended after this time.
    pub connect_timeout: Duration,
    /// Largest sum of the attachments of one packet, in bytes; 0 for no limit.
    pub max_message_bytes: usize,
    /// Most attachments of one packet.
    pub max_attachments: usize,
    /// Most pages of one session; a page's namespace counts as one.
    pub max_pages: usize,
    /// Sustained rate of events that are no edits; zero for no limit.
    pub events_per_second: u32,
    /// How many of them may come at once.
    pub events_burst: u32,
}

/// What may be said before the first place is found.
const MAX_EARLY_MESSAGES: usize = 100;
const MAX_EARLY_BYTES: usize = 1024 * 1024;
/// Bytes of own answers that may wait before the peer is not read any more.
const MAX_REPLY_BYTES: usize = 256 * 1024;

/// What a client says in a namespace.
#[derive(Debug)]
pub struct Event {
    /// Its arguments, the name first.
    pub arguments: Value,
    /// The number under which the client waits for an answer.
    pub ack: Option<i64>,
}

impl Event {
    /// The event's name.
    pub fn name(&self) -> Result<&str, Refusal> {
        CommonParser.read_event(&self.arguments).map_err(malformed)
    }
}

/// A client's place in a namespace. Like an application it is asked in turns and never waits by itself.
pub trait Place: Send + 'static {
    /// Takes in an event. A refusal ends the session.
    fn event(&mut self, now: Instant, event: Event) -> Result<(), Refusal>;

    /// Takes in the answer to an event of ours. A refusal ends the session.
    fn answer(&mut self, id: i64, arguments: Value) -> Result<(), Refusal>;

    /// Goes on with what it has begun.
    fn poll_work(&mut self, context: &mut Context<'_>);

    /// Whether it may be given another event now.
    fn is_idle(&self) -> bool;

    /// The next frames to send, or why this place ends.
    fn poll_send(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent>;

    /// When [`Self::tick`] wants to be called, if ever.
    fn next_deadline(&self) -> Option<Instant>;

    /// The time has come. A refusal ends the place.
    fn tick(&mut self, now: Instant) -> Result<(), Refusal>;

    /// Gives the place up.
    fn leave(self, departure: Departure) -> Work<()>;
}

/// The namespaces of a server, as one session sees them.
pub trait Namespaces: Send + 'static {
    /// A place in one.
    type Place: Place;

    /// Looks for a place in a namespace for the client `sid`; `auth` is the JSON it sent along. The error is the sentence for
    /// the client.
    fn connect(&mut self, name: &Str, sid: Sid, auth: Option<&Value>) -> Work<Result<Self::Place, String>>;

    /// Whether nobody may be read for the moment.
    fn is_pressed(&self) -> bool;
}

/// One session.
pub struct SocketIo<N: Namespaces> {
    namespaces: N,
    places: Vec<Placed<N::Place>>,
    connecting: Option<Connecting<N::Place>>,
    /// Places that were given up.
    leaving: Option<Work<()>>,
    parser: ParserState,
    limits: ParseConfig,
    /// Attachments that are still to come of a packet that was too large.
    skipping: usize,
    max_namespaces: usize,
    connect_timeout: Duration,
    /// When it ends unless a place is found.
    homeless_until: Option<Instant>,
    /// It had a place once.
    is_known: bool,
    early_messages: usize,
    early_bytes: usize,
    replies: Vec<Frame>,
    reply_bytes: usize,
    /// Whose turn to send it is.
    turn: usize,
}

struct Placed<P> {
    name: Str,
    place: P,
}

struct Connecting<P> {
    name: Str,
    sid: Sid,
    work: Work<Result<P, String>>,
}

impl<N: Namespaces> SocketIo<N> {
    /// A session that begins now.
    pub fn new(now: Instant, namespaces: N, config: &SocketIoConfig) -> Self {
        let limit = match config.max_message_bytes {
            0 => usize::MAX,
            bytes => bytes,
        };
        Self {
            namespaces,
            places: Vec::new(),
            connecting: None,
            leaving: None,
            parser: ParserState::default(),
            limits: ParseConfig {
                max_incoming_binary_buf_size: limit,
                max_incoming_binaries: config.max_attachments,
                packet_completion_timeout: config.connect_timeout,
            },
            skipping: 0,
            max_namespaces: config.max_pages,
            connect_timeout: config.connect_timeout,
            homeless_until: Some(now + config.connect_timeout),
            is_known: false,
            early_messages: 0,
            early_bytes: 0,
            replies: Vec::new(),
            reply_bytes: 0,
            turn: 0,
        }
    }

    fn packet(&mut self, now: Instant, packet: Packet) -> Result<(), Refusal> {
        let Packet { inner, ns } = packet;
        let place = self.places.iter_mut().find(|placed| placed.name == ns);
        match (inner, place) {
            (PacketData::Connect(auth), None) => {
                self.connect(ns, auth.as_ref());
                Ok(())
            }
            (
                PacketData::Event(arguments, ack) | PacketData::BinaryEvent(arguments, ack),
                Some(Placed { place, .. }),
            ) => place.event(now, Event { arguments, ack }),
            (
                PacketData::EventAck(arguments, id) | PacketData::BinaryAck(arguments, id),
                Some(Placed { place, .. }),
            ) => place.answer(id, arguments),
            (PacketData::Disconnect, Some(_)) => {
                self.give_up(now, &ns, Departure::Clean);
                Ok(())
            }
            _ => Err(Refusal::malformed(
                "a packet that does not fit the state of its namespace",
            )),
        }
    }

    /// Refuses a packet with too many bytes of attachments as its answer, and skips the rest of it. One without an answer ends the
    /// session: the client would never hear of it.
    fn too_heavy(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        let partial = self
            .parser
            .partial_bin_packet
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Packet {
            inner: PacketData::BinaryEvent(Value::Str(_, attachments), Some(ack)),
            ns,
        }) = partial.map(|partial| partial.packet)
        else {
            return Err(refusal);
        };
        if !self.places.iter().any(|placed| placed.name == ns) {
            return Err(refusal);
        }
        // The one that was too much has come as well.
        let come = attachments.map_or(0, |attachments| attachments.len()) + 1;
        let announced = self.parser.incoming_binary_cnt.load(Ordering::Relaxed);
        self.skipping = announced.saturating_sub(come);
        self.replying(|frames| refusal_answer(&ns, ack, &refusal, frames));
        Ok(())
    }

    fn connect(&mut self, name: Str, auth: Option<&Value>) {
        if self.places.len() >= self.max_namespaces {
            let full = Refusal::new(RefusalCode::RateLimited, "too many namespaces on one connection");
            return self.reply(Packet::connect_error(name, full.to_string()));
        }
        let sid = Sid::new();
        let work = self.namespaces.connect(&name, sid, auth);
        self.connecting = Some(Connecting { name, sid, work });
    }

    fn connected(&mut self, name: Str, sid: Sid, place: Result<N::Place, String>) {
        match place {
            Ok(place) => {
                let hello = format!("{{\"sid\":\"{sid}\"}}");
                self.reply(Packet::connect(
                    name.clone(),
                    Some(Value::Str(hello.into(), None)),
                ));
                self.places.push(Placed { name, place });
                self.homeless_until = None;
                self.is_known = true;
            }
            Err(message) => self.reply(Packet::connect_error(name, message)),
        }
    }

    /// Gives up the place in a namespace.
    fn give_up(&mut self, now: Instant, name: &Str, departure: Departure) {
        let Some(index) = self.places.iter().position(|placed| placed.name == *name) else {
            return;
        };
        let left = self.places.swap_remove(index).place.leave(departure);
        self.leaving = Some(match self.leaving.take() {
            None => left,
            Some(earlier) => Box::pin(async move {
                earlier.await;
                left.await;
            }),
        });
        if self.places.is_empty() {
            self.homeless_until = Some(now + self.connect_timeout);
        }
    }

    /// Tells a client why its place in a namespace has ended.
    fn dismiss(&mut self, name: &Str, refusal: &Refusal) {
        refusal_event(name, refusal, &mut self.replies);
        self.reply(Packet::disconnect(name.clone()));
    }

    fn reply(&mut self, packet: Packet) {
        self.replying(|frames| encode(packet, frames));
    }

    fn replying(&mut self, write: impl FnOnce(&mut Vec<Frame>)) {
        let before = self.replies.len();
        write(&mut self.replies);
        let added: usize = self.replies.iter().skip(before).map(Frame::size).sum();
        self.reply_bytes += added;
    }
}

impl<N: Namespaces> Application for SocketIo<N> {
    fn receive(&mut self, now: Instant, message: Received) -> Result<(), Refusal> {
        if self.homeless_until.is_some() {
            self.early_messages += 1;
            self.early_bytes += match &message {
                Received::Text(text) => text.len(),
                Received::Binary(bytes) => bytes.len(),
            };
            if self.early_messages > MAX_EARLY_MESSAGES || self.early_bytes > MAX_EARLY_BYTES {
                return Err(Refusal::new(
                    RefusalCode::Unauthenticated,
                    "too much was said before connecting to a namespace",
                ));
            }
        }
        let packet = match message {
            Received::Binary(_) if self.skipping > 0 => {
                self.skipping -= 1;
                return Ok(());
            }
            Received::Text(_) if self.skipping > 0 => Err(ParseError::UnexpectedStringPacket),
            Received::Text(text) => CommonParser.decode_str(&self.limits, &self.parser, text),
            Received::Binary(bytes) => CommonParser.decode_bin(&self.limits, &self.parser, bytes),
        };
        match packet {
            Ok(packet) => self.packet(now, packet),
            Err(ParseError::NeedsMoreBinaryData) => Ok(()),
            Err(error @ ParseError::AttachmentsTooHeavy { .. }) => {
                self.too_heavy(Refusal::too_large(error.to_string()))
            }
            Err(error @ ParseError::TooManyAttachments { .. }) => Err(Refusal::too_large(error.to_string())),
            Err(error) => Err(malformed(error)),
        }
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        if let Some(leaving) = &mut self.leaving
            && leaving.as_mut().poll(context).is_ready()
        {
            self.leaving = None;
        }
        if let Some(connecting) = &mut self.connecting
            && let Poll::Ready(place) = connecting.work.as_mut().poll(context)
            && let Some(Connecting { name, sid, .. }) = self.connecting.take()
        {
            self.connected(name, sid, place);
        }
        for placed in &mut self.places {
            placed.place.poll_work(context);
        }
    }

    fn may_receive(&self) -> bool {
        self.connecting.is_none()
            && self.leaving.is_none()
            && self.reply_bytes < MAX_REPLY_BYTES
            && self.places.iter().all(|placed| placed.place.is_idle())
    }

    fn is_known(&self) -> bool {
        self.is_known
    }

    fn is_pressed(&self) -> bool {
        self.namespaces.is_pressed()
    }

    fn poll_send(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent> {
        if !self.replies.is_empty() {
            self.reply_bytes = 0;
            frames.append(&mut self.replies);
            return Poll::Ready(Sent::Frames);
        }
        for _ in 0..self.places.len() {
            self.turn = (self.turn + 1) % self.places.len();
            let Some(placed) = self.places.get_mut(self.turn) else {
                continue;
            };
            match placed.place.poll_send(context, frames) {
                Poll::Pending => {}
                Poll::Ready(Sent::Frames) => return Poll::Ready(Sent::Frames),
                // Clients come back by themselves when their connection ends, and not when only a namespace does.
                Poll::Ready(Sent::Close(refusal)) if refusal.code.is_retryable() => {
                    return Poll::Ready(Sent::Close(refusal));
                }
                Poll::Ready(Sent::Close(refusal)) => {
                    let name = placed.name.clone();
                    self.dismiss(&name, &refusal);
                    self.give_up(super::websocket::now(), &name, Departure::Clean);
                    self.poll_work(context);
                    self.reply_bytes = 0;
                    frames.append(&mut self.replies);
                    return Poll::Ready(Sent::Frames);
                }
            }
        }
        Poll::Pending
    }

    fn next_deadline(&self) -> Option<Instant> {
        let places = self.places.iter();
        let deadlines = places.filter_map(|placed| placed.place.next_deadline());
        let homeless = self.homeless_until.filter(|_| self.connecting.is_none());
        deadlines.chain(homeless).min()
    }

    fn tick(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.connecting.is_none() && self.homeless_until.is_some_and(|until| now >= until) {
            return Err(Refusal::new(
                RefusalCode::Unauthenticated,
                "no namespace was connected to in time",
            ));
        }
        let ended: Vec<(Str, Refusal)> = self
            .places
            .iter_mut()
            .filter(|placed| placed.place.next_deadline().is_some_and(|at| now >= at))
            .filter_map(|placed| Some((placed.name.clone(), placed.place.tick(now).err()?)))
            .collect();
        for (name, refusal) in ended {
            self.dismiss(&name, &refusal);
            self.give_up(now, &name, Departure::Clean);
        }
        Ok(())
    }

    fn farewell(&mut self, refusal: &Refusal, frames: &mut Vec<Frame>) {
        frames.append(&mut self.replies);
        for placed in &self.places {
            refusal_event(&placed.name, refusal, frames);
        }
    }

    async fn ended(self, departure: Departure) {
        // A place that is still being looked for is given back when it is found.
        drop(self.connecting);
        if let Some(leaving) = self.leaving {
            leaving.await;
        }
        for placed in self.places {
            placed.place.leave(departure).await;
        }
    }
}
