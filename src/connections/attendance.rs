//! One seat in a room for connections that have several: it says what waits in turns, and never makes the others wait.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use storage::PageId;

use crate::{
    auth::{Access, LiveSeat, Membership},
    rooms::{ClientMessage, Departure, Next, Outbox, Outgoing, Refusal, Seat},
};

/// A boxed piece of work that a connection goes on with between other things.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What may be given to a room at once: messages, and their payload in bytes (one larger message alone passes).
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// A seat in a room, and what is on its way there and back.
pub(crate) struct Attendance {
    seat: Arc<LiveSeat>,
    outbox: Arc<Outbox>,
    /// What was said and has not been given to the room.
    waiting: Vec<ClientMessage>,
    waiting_bytes: usize,
    caught_up: bool,
    /// Waits for place in the room's mailbox. Gives whether the room is still there.
    speaking: Option<Work<bool>>,
    orphaned: bool,
}

/// What an attended room wants done.
pub(crate) enum Attended {
    /// Send this.
    Message(Arc<Outgoing>),
    /// The room has sent the member away.
    Close(Refusal),
}

impl Attendance {
    /// Takes a seat, opening the page if it is not open.
    pub(crate) async fn begin(
        access: &Access,
        page: &PageId,
        membership: Membership,
        max_outbox_bytes: usize,
    ) -> Result<Self, Refusal> {
        let outbox = Outbox::new(max_outbox_bytes);
        let seat = access.join(page, membership, &outbox).await?;
        Ok(Self {
            seat: Arc::new(seat),
            outbox,
            waiting: Vec::new(),
            waiting_bytes: 0,
            caught_up: false,
            speaking: None,
            orphaned: false,
        })
    }

    /// Says something to the room, now or as soon as it can take it.
    pub(crate) fn say(&mut self, message: ClientMessage) {
        self.waiting_bytes += message.payload_bytes();
        self.waiting.push(message);
    }

    /// Whether more may be said: the room takes what is said, and what waits to be given to it is little.
    pub(crate) fn may_say(&self) -> bool {
        self.speaking.is_none() && self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Gives the room what waits for it.
    pub(crate) fn poll_work(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some(speaking) = &mut self.speaking {
                let Poll::Ready(is_there) = speaking.as_mut().poll(context) else {
                    return;
                };
                self.speaking = None;
                self.orphaned |= !is_there;
            } else if !self.waiting.is_empty() {
                self.waiting_bytes = 0;
                let Err(messages) = self.seat.try_say(std::mem::take(&mut self.waiting)) else {
                    continue;
                };
                let seat = self.seat.clone();
                self.speaking = Some(Box::pin(async move { say(&seat, messages).await }));
            } else if self.caught_up {
                self.caught_up = false;
                let seat = self.seat.clone();
                self.speaking = Some(Box::pin(async move {
                    let place = seat.place(&[]).await;
                    place.map(|place| place.caught_up()).is_some()
                }));
            } else {
                return;
            }
        }
    }

    /// The next thing that the room wants done.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Attended> {
        loop {
            match self.outbox.poll_next(context) {
                Poll::Ready(Next::Message(message)) => return Poll::Ready(Attended::Message(message)),
                Poll::Ready(Next::Close(refusal)) => return Poll::Ready(Attended::Close(refusal)),
                Poll::Ready(Next::CaughtUp) => {
                    self.caught_up = true;
                    self.poll_work(context);
                }
                Poll::Pending if self.orphaned => {
                    let refusal = Refusal::unavailable("the page is being rebuilt, connect again");
                    return Poll::Ready(Attended::Close(refusal));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Says what waits and gives the seat back.
    pub(crate) async fn end(mut self, departure: Departure) {
        if let Some(speaking) = self.speaking.take() {
            speaking.await;
        }
        if !self.waiting.is_empty() {
            say(&self.seat, std::mem::take(&mut self.waiting)).await;
        }
        // Nothing else holds it now; if something did, the seat would be given back when that ends.
        if let Ok(seat) = Arc::try_unwrap(self.seat) {
            seat.leave(departure).await;
        }
    }
}

async fn say(seat: &Seat, messages: Vec<ClientMessage>) -> bool {
    match seat.place(&messages).await {
        Some(place) => {
            place.say(messages);
            true
        }
        None => false,
    }
}
