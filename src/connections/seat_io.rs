//! One seat in a room as a connection has it: what is on its way to the room and back.
//!
//! While a room has no place for more, up to a bound is kept for it, so that the other seats of the connection go on. Beyond that the
//! connection is not read.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use storage::Seq;
use tokio::sync::oneshot;

use super::protocol::Work;
use crate::{
    access::{Access, LiveSeat, Membership},
    rooms::{ClientMessage, Departure, Next, Outbox, Outgoing, Refusal, Seat, ServerMessage, Speech},
    telemetry::{Correlation, TraceContext, Traces},
};

/// What may be given to a room at once: messages, and their payload in bytes (one larger message alone passes).
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// An update that says nothing, as most answers to step 1 are, is no longer than this.
const EMPTY_UPDATE_BYTES: usize = 2;
/// Posts that may wait for their answers; a connection with more is not read.
pub(crate) const MAX_POSTED: usize = 1000;

/// A seat in a room, and what is on its way there and back.
pub(crate) struct SeatIo {
    seat: Arc<LiveSeat>,
    outbox: Arc<Outbox>,
    user: Option<Arc<str>>,
    /// What was said and has not been given to the room.
    waiting: Speech,
    /// What was posted behind that.
    posting: Option<(Bytes, i64, Traces)>,
    /// Posts that are to be answered, in their order.
    posted: VecDeque<(i64, Answer)>,
    waiting_bytes: usize,
    /// The room has been asked what the client lacks, or will be with what waits, and has not answered.
    asked: bool,
    /// Whether the client is asked back whenever it asks. When it comes it is asked by the room.
    asks_back: bool,
    has_asked: bool,
    /// What the client has that asked again meanwhile. One answer serves all questions up to the last.
    question: Option<Bytes>,
    caught_up: bool,
    /// Waits for place in the room's mailbox. Gives whether the room is still there.
    speaking: Option<Work<Spoken>>,
    orphaned: bool,
    /// The client is asked for a fresh token before the one it has shown ends.
    asks_for_token: bool,
    /// Where the spans of edits begin.
    trace: Option<TraceContext>,
}

/// An answer that is to come.
pub(crate) type Answer = oneshot::Receiver<Result<Seq, Refusal>>;

/// What has become of something said.
enum Spoken {
    Heard,
    Posted(i64, Answer),
    /// The room is gone.
    Unheard,
}

/// What an attended room wants done.
pub(crate) enum SeatEvent {
    /// Tell the client what has become of what it posted under a number.
    Posted(i64, Result<Seq, Refusal>),
    /// Send this.
    Message(Arc<Outgoing>),
    /// Tell that the oldest document message without a receipt is durable, or was refused.
    Receipt {
        /// Durable, or refused.
        accepted: bool,
    },
    /// Ask for a fresh token: the one that was shown ends soon.
    TokenEnds,
    /// The room has sent the member away.
    Close(Refusal),
}

impl SeatIo {
    /// Takes a seat, opening the page if it is not open, for which it may take so long.
    pub(crate) async fn begin(
        access: &Access,
        membership: Membership,
        outbox: Arc<Outbox>,
        patience: Duration,
    ) -> Result<Self, Refusal> {
        let user = membership.user.clone();
        let seat = in_time(patience, access.join(membership, &outbox)).await?;
        Ok(Self {
            seat: Arc::new(seat),
            outbox,
            user,
            waiting: Speech::default(),
            posting: None,
            posted: VecDeque::new(),
            waiting_bytes: 0,
            asked: false,
            asks_back: false,
            has_asked: false,
            question: None,
            caught_up: false,
            speaking: None,
            orphaned: false,
            asks_for_token: false,
            trace: Correlation::current().and_then(|current| current.trace().cloned()),
        })
    }

    /// Asks the client what it has whenever it asks, as its protocol wants.
    pub(crate) fn ask_back(&mut self) {
        self.asks_back = true;
    }

    /// Asks the client for a fresh token so long before the one it has shown ends.
    pub(crate) fn ask_ahead(&mut self, ahead: Duration) {
        self.asks_for_token = true;
        self.seat.ask_ahead(ahead);
    }

    /// The seat, for whoever wants to know its role, or has a fresh token for it. Must be let go before the attendance ends.
    pub(crate) fn seat(&self) -> &Arc<LiveSeat> {
        &self.seat
    }

    /// Says something to the room, now or as soon as it can take it.
    pub(crate) fn send(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::SyncStep1(state_vector) => return self.ask(state_vector),
            // One answer serves all.
            ClientMessage::QueryAwareness => self
                .waiting
                .messages
                .retain(|waiting| *waiting != ClientMessage::QueryAwareness),
            ClientMessage::SyncStep2(ref update) if update.len() > EMPTY_UPDATE_BYTES => {
                self.trace_waiting("sync_step_2", update.len());
            }
            ClientMessage::Update(ref update) => self.trace_waiting("update", update.len()),
            ClientMessage::SyncStep2(_)
            | ClientMessage::Awareness(_)
            | ClientMessage::Stateless(_)
            | ClientMessage::Mark(_)
            | ClientMessage::QueryStateVector => {}
        }
        self.waiting_bytes += message.payload_bytes();
        self.waiting.messages.push(message);
    }

    /// Begins the span of an edit that the peer has sent, if it is sampled.
    pub(crate) fn trace(&self, message: &'static str, bytes: usize) -> Traces {
        let trace = self.trace.as_ref();
        trace.map_or_else(Traces::default, |trace| {
            trace.edit(message, self.seat.page(), bytes)
        })
    }

    fn trace_waiting(&mut self, message: &'static str, bytes: usize) {
        let traces = self.trace(message, bytes);
        if !traces.is_empty() {
            self.waiting.traces = Traces::merged([&self.waiting.traces, &traces]);
        }
    }

    /// Asks what the client lacks, now or when the room has answered the question before.
    fn ask(&mut self, state_vector: Bytes) {
        if self.asked {
            self.question = Some(state_vector);
        } else {
            self.asked = true;
            if std::mem::replace(&mut self.has_asked, true) && self.asks_back {
                self.waiting.messages.push(ClientMessage::QueryStateVector);
            }
            self.waiting_bytes += state_vector.len();
            self.waiting.messages.push(ClientMessage::SyncStep1(state_vector));
        }
    }

    /// Posts an update behind all that was said, to be answered under a number when it is stored. Ask [`Self::may_send`] before
    /// anything else is said.
    pub(crate) fn post(&mut self, update: Bytes, ack: i64) {
        let traces = self.trace("post", update.len());
        self.posting = Some((update, ack, traces));
    }

    /// Whether more may be said: what waits to be given to the room is little.
    pub(crate) fn may_send(&self) -> bool {
        self.posting.is_none()
            && self.posted.len() < MAX_POSTED
            && self.waiting.messages.len() < MAX_WAITING
            && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Gives the room what waits for it.
    pub(crate) fn poll_work(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some(speaking) = &mut self.speaking {
                let Poll::Ready(spoken) = speaking.as_mut().poll(context) else {
                    return;
                };
                self.speaking = None;
                match spoken {
                    Spoken::Heard => {}
                    Spoken::Posted(ack, answer) => self.posted.push_back((ack, answer)),
                    Spoken::Unheard => self.orphaned = true,
                }
            } else if !self.waiting.messages.is_empty() {
                self.waiting_bytes = 0;
                let Err(speech) = self.seat.try_say(std::mem::take(&mut self.waiting)) else {
                    continue;
                };
                let seat = self.seat.clone();
                self.speaking = Some(Box::pin(async move { say(&seat, speech).await }));
            } else if let Some((update, ack, traces)) = self.posting.take() {
                let (seat, user) = (self.seat.clone(), self.user.clone());
                self.speaking = Some(Box::pin(async move {
                    match seat.post(user, update, traces).await {
                        Some(answer) => Spoken::Posted(ack, answer),
                        None => Spoken::Unheard,
                    }
                }));
            } else if self.caught_up {
                self.caught_up = false;
                let seat = self.seat.clone();
                self.speaking = Some(Box::pin(async move {
                    let place = seat.place(&[]).await;
                    heard(place.map(|place| place.caught_up()))
                }));
            } else {
                return;
            }
        }
    }

    /// The next thing that the room wants done.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<SeatEvent> {
        if let Some((ack, answer)) = self.posted.front_mut()
            && let Poll::Ready(stored) = poll_answer(answer, context)
        {
            let ack = *ack;
            self.posted.pop_front();
            return Poll::Ready(SeatEvent::Posted(ack, stored));
        }
        if self.asks_for_token && self.seat.poll_ask(context).is_ready() {
            return Poll::Ready(SeatEvent::TokenEnds);
        }
        loop {
            match self.outbox.poll_next(context) {
                Poll::Ready(Next::Message(message)) => {
                    if matches!(message.message(), ServerMessage::SyncStep2(_)) {
                        self.asked = false;
                        if let Some(state_vector) = self.question.take() {
                            self.ask(state_vector);
                            self.poll_work(context);
                        }
                    }
                    message.traces().delivered();
                    return Poll::Ready(SeatEvent::Message(message));
                }
                Poll::Ready(Next::Receipt { accepted }) => {
                    return Poll::Ready(SeatEvent::Receipt { accepted });
                }
                Poll::Ready(Next::Close(refusal)) => return Poll::Ready(SeatEvent::Close(refusal)),
                Poll::Ready(Next::CaughtUp) => {
                    self.caught_up = true;
                    self.poll_work(context);
                }
                Poll::Pending if self.orphaned => {
                    let refusal = Refusal::unavailable("the page is being rebuilt, connect again");
                    return Poll::Ready(SeatEvent::Close(refusal));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Why the member was sent away, if it was and may hear nothing more.
    pub(crate) fn poll_expelled(&self, context: &mut Context<'_>) -> Poll<Refusal> {
        self.outbox.poll_expelled(context)
    }

    /// How many answers are to come to what the room has been given.
    pub(crate) fn answers(&self) -> usize {
        self.posted.len()
    }

    /// Takes the answers that are to come to what the room has been given, for whoever goes on waiting for them.
    pub(crate) fn take_answers(&mut self) -> impl Iterator<Item = Answer> {
        std::mem::take(&mut self.posted)
            .into_iter()
            .map(|(_, answer)| answer)
    }

    /// Says what waits and gives the seat back.
    pub(crate) async fn end(mut self, departure: Departure) {
        if let Some(speaking) = self.speaking.take() {
            speaking.await;
        }
        if !self.waiting.messages.is_empty() {
            say(&self.seat, std::mem::take(&mut self.waiting)).await;
        }
        if let Some((update, _, traces)) = self.posting.take() {
            // It counts, although nobody is there any more to be told.
            let _ = self.seat.post(self.user.clone(), update, traces).await;
        }
        // Nothing else holds it now; if something did, the seat would be given back when that ends.
        if let Ok(seat) = Arc::try_unwrap(self.seat) {
            seat.leave(departure).await;
        }
    }
}

/// Opens a page, or says that this takes too long.
pub(crate) async fn in_time<T>(
    patience: Duration,
    opening: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let too_long = |_| Err(Refusal::unavailable("the page took too long to open"));
    tokio::time::timeout(patience, opening)
        .await
        .unwrap_or_else(too_long)
}

/// What has become of an update that was posted.
pub(crate) fn poll_answer(answer: &mut Answer, context: &mut Context<'_>) -> Poll<Result<Seq, Refusal>> {
    let gone = |_| Err(Refusal::unavailable("the page is being rebuilt, send it again"));
    Pin::new(answer)
        .poll(context)
        .map(|stored| stored.unwrap_or_else(gone))
}

async fn say(seat: &Seat, speech: Speech) -> Spoken {
    let place = seat.place(&speech.messages).await;
    heard(place.map(|place| place.say(speech)))
}

fn heard(said: Option<()>) -> Spoken {
    said.map_or(Spoken::Unheard, |()| Spoken::Heard)
}
