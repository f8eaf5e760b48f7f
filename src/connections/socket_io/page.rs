//! A place in the namespace of one page: the y-socket.io dialect over a seat in its room.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use socketioxide_core::Str;

use super::place;
use crate::{
    connections::{
        driver::now,
        protocol::{Protocol, Work},
        seat_io::{SeatEvent, SeatIo},
    },
    protocols::{
        Frame,
        socket_io::{SLOT, attachment},
        y_socketio::{Said, YSocketIo},
    },
    rooms::{Departure, Refusal},
};

/// How long a client may take to ask before it is asked. They ask as soon as they are there.
const PATIENCE: Duration = Duration::from_secs(1);

/// A client's place in the namespace of a page.
pub(super) struct PagePlace {
    seat: SeatIo,
    dialect: YSocketIo,
    /// When the client is asked what it has, although it has not asked itself.
    ask_at: Instant,
    /// It is time.
    is_time: bool,
}

impl PagePlace {
    pub(super) fn new(namespace: Str, seat: SeatIo) -> Self {
        Self {
            seat,
            dialect: YSocketIo::new(namespace),
            ask_at: now() + PATIENCE,
            is_time: false,
        }
    }
}

impl Protocol<place::Said> for PagePlace {
    fn on_frame(&mut self, _now: Instant, said: place::Said) -> Result<usize, Refusal> {
        let said = match said {
            place::Said::Goodbye => return Ok(1),
            place::Said::Event(event) => self.dialect.decode(event.arguments, event.ack)?,
            place::Said::Answer(id, arguments) => {
                self.dialect.decode_answer(id, arguments)?.map(Said::Message)
            }
        };
        match said {
            Some(Said::Message(message)) => self.seat.send(message),
            Some(Said::Post(update, ack)) => self.seat.post(update, ack),
            None => {}
        }
        Ok(1)
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        self.seat.poll_work(context);
    }

    fn may_receive(&self) -> bool {
        self.seat.may_send()
    }

    fn poll_outgoing(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        if std::mem::take(&mut self.is_time) {
            self.dialect.greet(frames);
            if !frames.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            match self.seat.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(SeatEvent::Posted(ack, stored)) => {
                    self.dialect.encode_stored(ack, &stored, frames);
                    return Poll::Ready(Ok(()));
                }
                // What it wants to be told of it posts.
                Poll::Ready(SeatEvent::Receipt { .. } | SeatEvent::TokenEnds) => {}
                Poll::Ready(SeatEvent::Close(refusal)) => return Poll::Ready(Err(refusal)),
                Poll::Ready(SeatEvent::Message(message)) => {
                    let bytes = message.wire(SLOT, attachment);
                    self.dialect.encode(message.message(), bytes, frames);
                    // Some messages are nothing in this dialect.
                    if !frames.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        (self.dialect.holds_question() && !self.is_time).then_some(self.ask_at)
    }

    fn tick(&mut self, now: Instant) -> Result<(), Refusal> {
        self.is_time |= now >= self.ask_at;
        Ok(())
    }

    fn end(self: Box<Self>, departure: Departure) -> Work<()> {
        Box::pin(self.seat.end(departure))
    }
}
