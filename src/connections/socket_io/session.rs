//! One Socket.IO session: packets, and its places in several namespaces.
//!
//! A namespace costs nothing by itself. Whoever connects to one gets a [`Place`] there, owned by the session and gone with
//! it; whoever is refused gets a sentence. Packets are taken in one after the other, in the order in which they came, and
//! while a place is being found the session is not read: so nothing overtakes anything, and nothing is lost.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use socketioxide_core::{
    Sid, Str, Value,
    packet::{Packet, PacketData},
    parser::{Parse, ParseConfig, ParseError, ParserState},
};
use socketioxide_parser_common::CommonParser;

use super::{
    config::{MAX_REPLY_BYTES, SocketIoConfig},
    namespaces::{ConnectError, Connected, Namespaces, NotConnected},
    place::{Event, Place, Said},
};
use crate::{
    connections::{
        context::or_any,
        driver::now,
        protocol::{Protocol, Work, poll_all_over},
        rotation::Rotation,
    },
    protocols::Frame,
    protocols::socket_io::{connect_error, encode, malformed, refusal_answer, refusal_event},
    rooms::{Departure, Refusal, RefusalCode},
};

/// What may be said before the first place is found.
const MAX_EARLY_MESSAGES: usize = 100;
const MAX_EARLY_BYTES: usize = 1024 * 1024;
/// How long a client may go on without a place after it was sent away from its last one.
const DISMISSED_TIMEOUT: Duration = Duration::from_millis(500);

/// One session.
pub struct SocketIo {
    namespaces: Box<dyn Namespaces>,
    places: BTreeMap<Arc<str>, Placed>,
    connecting: Option<Connecting>,
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
    /// Why the client is to reconnect: the connection ends once what is queued has been sent.
    retry: Option<Refusal>,
    replies: Vec<Frame>,
    reply_bytes: usize,
    rotation: Rotation<Arc<str>>,
}

struct Placed {
    name: Str,
    place: Place,
}

struct Connecting {
    name: Str,
    sid: Sid,
    work: Work<Result<Connected, NotConnected>>,
}

impl SocketIo {
    /// A session that begins now.
    pub fn new(now: Instant, namespaces: Box<dyn Namespaces>, config: &SocketIoConfig) -> Self {
        Self {
            namespaces,
            places: BTreeMap::new(),
            connecting: None,
            leaving: None,
            parser: ParserState::default(),
            limits: ParseConfig {
                max_incoming_binary_buf_size: or_any(config.max_message_bytes),
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
            retry: None,
            replies: Vec::new(),
            reply_bytes: 0,
            rotation: Rotation::default(),
        }
    }

    fn take(&mut self, now: Instant, frame: Frame) -> Result<(), Refusal> {
        if self.homeless_until.is_some() {
            self.early_messages += 1;
            self.early_bytes += frame.size();
            if self.early_messages > MAX_EARLY_MESSAGES || self.early_bytes > MAX_EARLY_BYTES {
                return Err(Refusal::new(
                    RefusalCode::Unauthenticated,
                    "too much was said before connecting to a namespace",
                ));
            }
        }
        let packet = match frame {
            Frame::Binary(_) if self.skipping > 0 => {
                self.skipping -= 1;
                return Ok(());
            }
            Frame::Text(_) if self.skipping > 0 => Err(ParseError::UnexpectedStringPacket),
            Frame::Text(text) => CommonParser.decode_str(&self.limits, &self.parser, text),
            Frame::Binary(bytes) => CommonParser.decode_bin(&self.limits, &self.parser, bytes),
            Frame::SharedText(_) | Frame::Parts(..) => {
                return Err(Refusal::malformed("no frame of a client"));
            }
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

    fn packet(&mut self, now: Instant, packet: Packet) -> Result<(), Refusal> {
        let Packet { inner, ns } = packet;
        let place = self.places.get_mut(ns.as_str());
        match (inner, place) {
            (PacketData::Connect(auth), None) => {
                self.connect(ns, auth.as_ref());
                Ok(())
            }
            (
                PacketData::Event(arguments, ack) | PacketData::BinaryEvent(arguments, ack),
                Some(Placed { place, .. }),
            ) => place
                .on_frame(now, Said::Event(Event { arguments, ack }))
                .map(drop),
            (
                PacketData::EventAck(arguments, id) | PacketData::BinaryAck(arguments, id),
                Some(Placed { place, .. }),
            ) => place.on_frame(now, Said::Answer(id, arguments)).map(drop),
            (PacketData::Disconnect, Some(Placed { place, .. })) => {
                let said = place.on_frame(now, Said::Goodbye).map(drop);
                self.give_up(now, &ns, Departure::Clean);
                said
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
        if !self.places.contains_key(ns.as_str()) {
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
            return self.refuse(&name, &full.to_string().as_str().into());
        }
        let sid = Sid::new();
        let work = self.namespaces.connect(&name, sid, auth);
        self.connecting = Some(Connecting { name, sid, work });
    }

    fn connected(&mut self, name: Str, sid: Sid, connected: Result<Connected, NotConnected>) {
        match connected {
            Ok(connected) => {
                let (place, secret) = (connected.place, connected.secret);
                let sid = connected.name.unwrap_or_else(|| sid.to_string().into());
                let hello = match secret {
                    Some(secret) => json!({ "sid": sid, "pid": secret }).to_string(),
                    None => json!({ "sid": sid }).to_string(),
                };
                self.reply(Packet::connect(
                    name.clone(),
                    Some(Value::Str(hello.into(), None)),
                ));
                self.places.insert(name.as_str().into(), Placed { name, place });
                self.homeless_until = None;
                (self.early_messages, self.early_bytes) = (0, 0);
                self.is_known = true;
            }
            Err(NotConnected::Refused(error)) => self.refuse(&name, &error),
            Err(NotConnected::Retry(refusal)) => self.retry = Some(refusal),
        }
    }

    /// Tells a client that it is not let in to a namespace. The parser's own packet has no place for data.
    fn refuse(&mut self, name: &Str, error: &ConnectError) {
        self.replying(|frames| connect_error(name, error, frames));
    }

    /// Gives up the place in a namespace.
    fn give_up(&mut self, now: Instant, name: &Str, departure: Departure) {
        let Some(Placed { place, .. }) = self.places.remove(name.as_str()) else {
            return;
        };
        let left = place.end(departure);
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

    /// Tells a client why its place in a namespace has ended, and gives that up. A client that loses its last place closes the connection by
    /// itself; one that reads nothing does not know.
    fn dismiss(&mut self, now: Instant, name: &Str, refusal: &Refusal) {
        let mut last = Vec::new();
        if let Some(placed) = self.places.get_mut(name.as_str()) {
            placed.place.farewell(refusal, &mut last);
        }
        refusal_event(name, refusal, &mut last);
        self.replying(|frames| frames.append(&mut last));
        self.reply(Packet::disconnect(name.clone()));
        self.give_up(now, name, Departure::Clean);
        if self.places.is_empty() {
            self.homeless_until = Some(now + self.connect_timeout.min(DISMISSED_TIMEOUT));
        }
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

impl Protocol for SocketIo {
    fn on_frame(&mut self, now: Instant, frame: Frame) -> Result<usize, Refusal> {
        self.take(now, frame).map(|()| 1)
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        if let Some(leaving) = &mut self.leaving
            && leaving.as_mut().poll(context).is_ready()
        {
            self.leaving = None;
        }
        if let Some(connecting) = &mut self.connecting
            && let Poll::Ready(connected) = connecting.work.as_mut().poll(context)
            && let Some(Connecting { name, sid, .. }) = self.connecting.take()
        {
            self.connected(name, sid, connected);
        }
        for placed in self.places.values_mut() {
            placed.place.poll_work(context);
        }
    }

    fn may_receive(&self) -> bool {
        self.connecting.is_none()
            && self.leaving.is_none()
            && self.reply_bytes < MAX_REPLY_BYTES
            && self.places.values().all(|placed| placed.place.may_receive())
    }

    fn on_ping(&mut self, number: u64) {
        for placed in self.places.values_mut() {
            placed.place.on_ping(number);
        }
    }

    fn on_pong(&mut self, number: u64) {
        for placed in self.places.values_mut() {
            placed.place.on_pong(number);
        }
    }

    fn is_known(&self) -> bool {
        self.is_known
    }

    fn poll_outgoing(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        if !self.replies.is_empty() {
            self.reply_bytes = 0;
            frames.append(&mut self.replies);
            return Poll::Ready(Ok(()));
        }
        if let Some(refusal) = self.retry.take() {
            return Poll::Ready(Err(refusal));
        }
        let said = self.rotation.poll(&mut self.places, |placed| {
            let said = placed.place.poll_outgoing(context, frames);
            said.map_err(|refusal| (placed.name.clone(), refusal))
        });
        match ready!(said).1 {
            Ok(()) => {}
            // Clients come back by themselves when their connection ends, and not when only a namespace does.
            Err((_, refusal)) if refusal.code.needs_new_connection() => return Poll::Ready(Err(refusal)),
            Err((name, refusal)) => {
                self.dismiss(now(), &name, &refusal);
                self.poll_work(context);
                self.reply_bytes = 0;
                frames.append(&mut self.replies);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        poll_all_over(
            self.places
                .values_mut()
                .map(|placed| placed.place.poll_over(context)),
        )
    }

    fn next_deadline(&self) -> Option<Instant> {
        let places = self.places.values();
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
            .values_mut()
            .filter(|placed| placed.place.next_deadline().is_some_and(|at| now >= at))
            .filter_map(|placed| Some((placed.name.clone(), placed.place.tick(now).err()?)))
            .collect();
        for (name, refusal) in ended {
            self.dismiss(now, &name, &refusal);
        }
        Ok(())
    }

    fn farewell(&mut self, refusal: &Refusal, frames: &mut Vec<Frame>) {
        frames.append(&mut self.replies);
        for placed in self.places.values_mut() {
            placed.place.farewell(refusal, frames);
            refusal_event(&placed.name, refusal, frames);
        }
    }

    fn end(self: Box<Self>, departure: Departure) -> Work<()> {
        // A place that is still being looked for is given back when it is found.
        drop(self.connecting);
        let (leaving, places) = (self.leaving, self.places);
        Box::pin(async move {
            if let Some(leaving) = leaving {
                leaving.await;
            }
            join_all(places.into_values().map(|placed| placed.place.end(departure))).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A place that has something to tell, and ends before it was asked for it.
    struct Ending(Instant);

    impl Protocol<Said> for Ending {
        fn on_frame(&mut self, _now: Instant, _said: Said) -> Result<usize, Refusal> {
            Ok(1)
        }

        fn may_receive(&self) -> bool {
            true
        }

        fn poll_work(&mut self, _context: &mut Context<'_>) {}

        fn poll_outgoing(
            &mut self,
            _context: &mut Context<'_>,
            _frames: &mut Vec<Frame>,
        ) -> Poll<Result<(), Refusal>> {
            Poll::Pending
        }

        fn next_deadline(&self) -> Option<Instant> {
            Some(self.0)
        }

        fn tick(&mut self, _now: Instant) -> Result<(), Refusal> {
            Err(Refusal::new(RefusalCode::Forbidden, "blocked"))
        }

        fn farewell(&mut self, _refusal: &Refusal, frames: &mut Vec<Frame>) {
            frames.push(Frame::Text("42[\"last\"]".into()));
        }

        fn end(self: Box<Self>, _departure: Departure) -> Work<()> {
            Box::pin(std::future::ready(()))
        }
    }

    impl Namespaces for Instant {
        fn connect(
            &self,
            _name: &Str,
            _sid: Sid,
            _auth: Option<&Value>,
        ) -> Work<Result<Connected, NotConnected>> {
            let place: Place = Box::new(Ending(*self));
            Box::pin(std::future::ready(Ok(place.into())))
        }
    }

    #[test]
    fn what_waits_for_a_client_goes_before_the_end_of_its_place() {
        let config = SocketIoConfig {
            connect_timeout: Duration::from_secs(5),
            max_message_bytes: 1000,
            max_attachments: 1,
            max_pages: 1,
            events_per_second: 0,
            events_burst: 0,
        };
        let at = now() + Duration::from_secs(1);
        let mut session = SocketIo::new(now(), Box::new(at), &config);
        let mut context = Context::from_waker(Waker::noop());
        session
            .on_frame(now(), Frame::Text("0".into()))
            .expect("a packet that connects");
        session.poll_work(&mut context);
        let mut frames = Vec::new();
        assert!(session.poll_outgoing(&mut context, &mut frames).is_ready());
        assert_eq!(std::mem::take(&mut frames).len(), 1, "it has a place");
        session.tick(at).expect("a session that goes on without a place");
        assert!(session.poll_outgoing(&mut context, &mut frames).is_ready());
        let texts = frames.iter().map(|frame| match frame {
            Frame::Text(text) => &text[..],
            Frame::SharedText(_) | Frame::Binary(_) | Frame::Parts(..) => "",
        });
        let [last, error, disconnect] = texts.collect::<Vec<_>>()[..] else {
            panic!("{frames:?}");
        };
        assert_eq!(last, "42[\"last\"]");
        assert!(
            error.starts_with("42[\"error\"") && error.contains("forbidden"),
            "{error}"
        );
        assert_eq!(disconnect, "41");
    }
}
