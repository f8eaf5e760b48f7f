//! A socket with one page, as y-websocket has it: frames of a dialect on one side, a seat in the page's room on the other.

use std::{
    marker::PhantomData,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use storage::PageId;

use super::{
    attendance::{Attendance, Attended},
    websocket::{Conversation, MAX_MESSAGES_A_TURN, Say, Surroundings},
};
use crate::{
    auth::Membership,
    protocols::{Dialect, Unread},
    rooms::{Departure, Outbox, Refusal},
};

/// What is spoken on a socket with one page.
pub(super) struct OnePage<D> {
    attendance: Attendance,
    /// What has not been taken in of the last frame.
    unread: Unread,
    dialect: PhantomData<fn() -> D>,
}

impl<D: Dialect> OnePage<D> {
    /// Takes a seat in the room of `page`.
    pub(super) async fn begin(
        around: &Surroundings,
        page: &PageId,
        membership: Membership,
    ) -> Result<Self, Refusal> {
        let attendance = Attendance::begin(
            &around.access,
            page,
            membership,
            Outbox::new(around.max_outbox_bytes),
        );
        Ok(Self {
            attendance: attendance.await?,
            unread: Unread::default(),
            dialect: PhantomData,
        })
    }
}

impl<D: Dialect> Conversation for OnePage<D> {
    fn hear(&mut self, frame: &Bytes) -> Result<usize, Refusal> {
        self.unread = Unread::new(frame.clone());
        self.hear_on()
    }

    fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    fn hear_on(&mut self) -> Result<usize, Refusal> {
        let mut count = 0;
        // What came before the nonsense counts.
        while count < MAX_MESSAGES_A_TURN
            && self.attendance.may_say()
            && let Some(message) = D::next(&mut self.unread)
        {
            let message = message.map_err(|error| Refusal::malformed(error.to_string()))?;
            if let Some(message) = message {
                self.attendance.say(message);
            }
            count += 1;
        }
        Ok(count)
    }

    fn may_hear(&self) -> bool {
        self.attendance.may_say()
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        self.attendance.poll_work(context);
    }

    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<Say> {
        loop {
            match self.attendance.poll_next(context) {
                Poll::Ready(Attended::Message(message)) => {
                    let frame = message.wire(D::SLOT, D::encode);
                    // Some messages are nothing in this dialect.
                    if !frame.is_empty() {
                        return Poll::Ready(Say::Frame(frame));
                    }
                }
                // It takes the echo of its edits for the acknowledgement.
                Poll::Ready(Attended::Receipt { .. } | Attended::Posted(..)) => {}
                Poll::Ready(Attended::Close(refusal)) => return Poll::Ready(Say::Close(refusal)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn keep_alive(&self) -> Option<Bytes> {
        Some(D::keep_alive())
    }

    fn max_silence(&self) -> Option<Duration> {
        D::max_silence()
    }

    async fn end(self, departure: Departure) {
        self.attendance.end(departure).await;
    }
}
