//! A place in the namespace of one page: the y-socket.io dialect over a seat in its room.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use socketioxide_core::{Str, Value};

use super::{Event, Place};
use crate::{
    connections::{
        attendance::{Attendance, Attended, Work},
        engine_io::{Frame, Sent},
        websocket::now,
    },
    protocols::{
        socket_io::{SLOT, attachment},
        y_socketio::{Said, YSocketIo},
    },
    rooms::{Departure, Refusal, RefusalCode},
};

/// The token has come to its end.
pub(super) fn expired() -> Refusal {
    Refusal::new(RefusalCode::TokenExpired, "the token has expired")
}

/// How long a client may take to ask before it is asked. They ask as soon as they are there.
const PATIENCE: Duration = Duration::from_secs(1);

/// A client's place in the namespace of a page.
pub struct PagePlace {
    attendance: Attendance,
    dialect: YSocketIo,
    expires: Option<Instant>,
    /// When the client is asked what it has, although it has not asked itself.
    ask_at: Instant,
    /// It is time.
    is_time: bool,
}

impl PagePlace {
    pub(super) fn new(namespace: Str, attendance: Attendance, expires: Option<Instant>) -> Self {
        Self {
            attendance,
            dialect: YSocketIo::new(namespace),
            expires,
            ask_at: now() + PATIENCE,
            is_time: false,
        }
    }
}

impl Place for PagePlace {
    fn event(&mut self, _now: Instant, event: Event) -> Result<(), Refusal> {
        match self.dialect.decode(event.arguments, event.ack)? {
            Some(Said::Message(message)) => self.attendance.say(message),
            Some(Said::Post(update, ack)) => self.attendance.post(update, ack),
            None => {}
        }
        Ok(())
    }

    fn answer(&mut self, id: i64, arguments: Value) -> Result<(), Refusal> {
        if let Some(message) = self.dialect.decode_answer(id, arguments)? {
            self.attendance.say(message);
        }
        Ok(())
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        self.attendance.poll_work(context);
    }

    fn is_idle(&self) -> bool {
        self.attendance.may_say()
    }

    fn poll_send(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent> {
        if std::mem::take(&mut self.is_time) {
            self.dialect.greet(frames);
            if !frames.is_empty() {
                return Poll::Ready(Sent::Frames);
            }
        }
        loop {
            match self.attendance.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Attended::Posted(ack, stored)) => {
                    self.dialect.encode_stored(ack, &stored, frames);
                    return Poll::Ready(Sent::Frames);
                }
                // What it wants to be told of it posts.
                Poll::Ready(Attended::Receipt { .. }) => {}
                Poll::Ready(Attended::Close(refusal)) => return Poll::Ready(Sent::Close(refusal)),
                Poll::Ready(Attended::Message(message)) => {
                    let bytes = message.wire(SLOT, attachment);
                    self.dialect.encode(message.message(), bytes, frames);
                    // Some messages are nothing in this dialect.
                    if !frames.is_empty() {
                        return Poll::Ready(Sent::Frames);
                    }
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let asks = self.dialect.holds_question().then_some(self.ask_at);
        self.expires
            .into_iter()
            .chain(asks.filter(|_| !self.is_time))
            .min()
    }

    fn tick(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.expires.is_some_and(|at| now >= at) {
            return Err(expired());
        }
        self.is_time |= now >= self.ask_at;
        Ok(())
    }

    fn leave(self, departure: Departure) -> Work<()> {
        Box::pin(self.attendance.end(departure))
    }
}
