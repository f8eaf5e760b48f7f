//! A connection's seat in a room: how it talks to the room, and how others change what it may do.

use std::sync::Arc;

use bytes::Bytes;
use storage::Seq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    ClientMessage, Condition, Departure, MemberId, Outbox, Refusal, Role,
    mailbox::{Command, Post},
    standing::{Calls, Change, Standing},
};
use crate::telemetry::Traces;

/// What a member says at once is large from this many bytes on.
const LARGE_BYTES: usize = 64 * 1024;
/// Of large messages, this much may be under way to all rooms; whoever brings more waits, and is not read meanwhile.
pub(super) const MAX_LARGE_KIB: usize = 64 * 1024;

/// What a member says at once.
#[derive(Debug, Default)]
pub struct Speech {
    /// In this order.
    pub messages: Vec<ClientMessage>,
    /// The spans of the edits in it that are sampled.
    pub traces: Traces,
}

impl From<Vec<ClientMessage>> for Speech {
    fn from(messages: Vec<ClientMessage>) -> Self {
        let traces = Traces::default();
        Self { messages, traces }
    }
}

/// A connection's seat: how it talks to its room.
#[derive(Debug)]
pub struct Seat {
    pub(super) member: MemberId,
    pub(super) mailbox: mpsc::Sender<Command>,
    pub(super) large: Arc<Semaphore>,
    pub(super) handle: SeatHandle,
    pub(super) seq: Seq,
    pub(super) left: bool,
}

/// Changes what a member may do, from outside.
#[derive(Clone, Debug)]
pub struct SeatHandle {
    pub(super) member: MemberId,
    pub(super) calls: Arc<Calls>,
    pub(super) standing: Arc<Standing>,
    pub(super) outbox: Arc<Outbox>,
}

/// Place in a room's mailbox, kept for one message.
pub struct Permit<'a> {
    place: mpsc::Permit<'a, Command>,
    member: MemberId,
    large: Option<OwnedSemaphorePermit>,
}

impl SeatHandle {
    /// The seat's number.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Gives the member another role. Nothing that it said before and that its room has not taken in yet is judged by the old one.
    pub fn change_role(&self, role: Role) {
        self.standing.set(Change::Role(role));
        self.calls.call(self.member);
    }

    /// Sends the member away: nothing more of it is taken in, what is queued for it is dropped, and its presence ends.
    pub fn remove(&self, refusal: Refusal) {
        self.standing.set(Change::Removed(refusal.clone()));
        self.outbox.expel(refusal);
        // A room that is gone has sent its members away itself.
        self.calls.call(self.member);
    }
}

impl Seat {
    /// For whoever decides what the member may do.
    pub fn handle(&self) -> SeatHandle {
        self.handle.clone()
    }

    /// The sequence number up to which the page was stored when the seat was taken.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The seat's number.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Says something to the room if that needs no waiting, and gives it back otherwise.
    pub fn try_say(&self, speech: Speech) -> Result<(), Speech> {
        if payload_bytes(&speech.messages) >= LARGE_BYTES {
            return Err(speech);
        }
        let Speech { messages, traces } = speech;
        match self.mailbox.try_send(Command::Said {
            member: self.member,
            messages,
            traces,
            large: None,
        }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(Command::Said { messages, traces, .. })) => {
                Err(Speech { messages, traces })
            }
            // A room that is gone hangs up on its members itself.
            Err(_) => Ok(()),
        }
    }

    /// Waits for place in the mailbox for these messages. `None` when the room is gone.
    pub async fn place(&self, messages: &[ClientMessage]) -> Option<Permit<'_>> {
        let bytes = payload_bytes(messages);
        let large = if bytes >= LARGE_BYTES {
            let share = u32::try_from((bytes / 1024).min(MAX_LARGE_KIB)).unwrap_or(u32::MAX);
            Some(self.large.clone().acquire_many_owned(share).await.ok()?)
        } else {
            None
        };
        let place = self.mailbox.reserve().await.ok()?;
        Some(Permit {
            place,
            member: self.member,
            large,
        })
    }

    /// Posts an update that is answered when it is stored. The future is ready as soon as the room has it in its mailbox, behind
    /// all that was said before; `None` when the room is gone.
    pub async fn post(
        &self,
        user: Option<Arc<str>>,
        update: Bytes,
        traces: Traces,
    ) -> Option<oneshot::Receiver<Result<Seq, Refusal>>> {
        let (reply, answer) = oneshot::channel();
        let post = Post {
            member: Some(self.member),
            user,
            update,
            condition: Condition::Always,
            traces,
            reply,
        };
        self.mailbox.send(Command::Post(Box::new(post))).await.ok()?;
        Some(answer)
    }

    /// Gives the seat back.
    pub async fn leave(mut self, departure: Departure) {
        // A room that is gone needs to be told nothing.
        let _ = self
            .mailbox
            .send(Command::Left {
                member: self.member,
                departure,
            })
            .await;
        self.left = true;
    }
}

impl Drop for Seat {
    /// A seat that was not given back belongs to a connection that was cut short.
    fn drop(&mut self) {
        if !self.left {
            let (mailbox, member) = (self.mailbox.clone(), self.member);
            tokio::spawn(async move {
                let _ = mailbox
                    .send(Command::Left {
                        member,
                        departure: Departure::Lost,
                    })
                    .await;
            });
        }
    }
}

impl Permit<'_> {
    /// Says something to the room.
    pub fn say(self, speech: Speech) {
        let Self { place, member, large } = self;
        let Speech { messages, traces } = speech;
        place.send(Command::Said {
            member,
            messages,
            traces,
            large: large.map(Box::new),
        });
    }

    /// Tells the room that everything queued for this member has left.
    pub fn caught_up(self) {
        self.place.send(Command::CaughtUp { member: self.member });
    }
}

fn payload_bytes(messages: &[ClientMessage]) -> usize {
    messages.iter().map(ClientMessage::payload_bytes).sum()
}
