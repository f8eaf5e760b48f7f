//! What is put into a room's mailbox.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use crdt::IdentityStamp;
use storage::Seq;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{ClientMessage, Condition, Departure, MemberId, Outbox, Refusal, Role, Room, Standing};
use crate::telemetry::Traces;

/// The answer to a request: the sequence number up to which the page is stored, or why it was refused.
pub(super) type Reply = oneshot::Sender<Result<Seq, Refusal>>;

/// Something for a room's mailbox. Kept small: a mailbox has room for many.
#[derive(Debug)]
pub(super) enum Command {
    Join(Box<Join>),
    Said {
        member: MemberId,
        messages: Vec<ClientMessage>,
        /// Of those of them that are sampled.
        traces: Traces,
        /// For a large message: its share of what may be under way to all rooms.
        large: Option<Box<OwnedSemaphorePermit>>,
    },
    Left {
        member: MemberId,
        departure: Departure,
    },
    CaughtUp {
        member: MemberId,
    },
    Post(Box<Post>),
    Announce(Box<Announce>),
    Await(Reply),
    /// For a reader that waits, until then, for the document to be what is stored.
    Read {
        reading: Reading,
        until: Option<Instant>,
    },
    Drain,
    Abandon,
}

/// A backend has something to say to the members; answered by how many there are to hear it.
#[derive(Debug)]
pub(super) struct Announce {
    pub(super) payload: Bytes,
    pub(super) reply: oneshot::Sender<usize>,
}

/// A connection wants a seat.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) role: Role,
    pub(super) user: Option<Arc<str>>,
    pub(super) stamp: Option<Arc<IdentityStamp>>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) standing: Arc<Standing>,
    /// Its number in the room, and up to where the page is stored.
    pub(super) reply: oneshot::Sender<Result<(MemberId, Seq), Refusal>>,
}

/// A backend or a member wants an update stored.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) member: Option<MemberId>,
    pub(super) user: Option<Arc<str>>,
    pub(super) update: Bytes,
    pub(super) condition: Condition,
    pub(super) traces: Traces,
    pub(super) reply: Reply,
}

/// Something that wants to look at a live room. It runs in the room's task and must be quick for its size.
pub(super) struct Reading(pub(super) Box<dyn FnOnce(&mut Room) + Send>);

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

impl Command {
    /// Says no to whoever waits for an answer.
    pub(super) fn refuse(self, refusal: &Refusal) {
        match self {
            Self::Join(join) => {
                let _ = join.reply.send(Err(refusal.clone()));
            }
            Self::Post(post) => {
                let _ = post.reply.send(Err(refusal.clone()));
            }
            Self::Said { .. }
            | Self::Left { .. }
            | Self::CaughtUp { .. }
            | Self::Announce(_)
            | Self::Await(_)
            | Self::Read { .. }
            | Self::Drain
            | Self::Abandon => {}
        }
    }
}
