//! Everything a room can ask for.

use std::sync::Arc;

use storage::{NewUpdate, PageCommit, Seq};

use super::{CompactRequest, MemberId, Outgoing, Refusal, RequestId};

/// Something a room wants done. Effects are carried out in the order in which they are given.
#[derive(Debug)]
pub enum Effect {
    /// Give a message to one member.
    Send {
        /// The member.
        to: MemberId,
        /// The message.
        message: Arc<Outgoing>,
    },
    /// Give a message to all members who take part in the document or see who is here.
    Broadcast {
        /// Who does not get it, in ascending order.
        except: Vec<MemberId>,
        /// The message.
        message: Arc<Outgoing>,
    },
    /// What a member has not been told of the document it gets with the step 2 that follows: let document messages into its outbox, also
    /// if it had fallen behind, and out of it behind that.
    Resume {
        /// The member.
        member: MemberId,
    },
    /// Hang up on a member. It has left the room already.
    Close {
        /// The member.
        member: MemberId,
        /// Why.
        refusal: Refusal,
    },
    /// Store this; there is at most one such request under way a room.
    Append(PageCommit),
    /// Write a snapshot, apart from edits; there is at most one such request under way a room. It is answered with
    /// [`Input::Compacted`](super::Input::Compacted).
    Compact(CompactRequest),
    /// Read the rows after `after` and before `before` that another process wrote, and give them to the room as
    /// [`Input::Foreign`](super::Input::Foreign) when they are there. The room asks again for what could not be read.
    ReadForeign {
        /// The last row known before the hole.
        after: Seq,
        /// The first row known behind the hole.
        before: Seq,
    },
    /// Answer the request of a backend.
    Answer {
        /// The request.
        request: RequestId,
        /// The sequence number up to which the page is stored, or why it was refused.
        result: Result<Seq, Refusal>,
    },
    /// Keep an update that the document could not survive, for the operator.
    Quarantine {
        /// The update.
        update: NewUpdate,
        /// What it did.
        reason: String,
    },
    /// Count something that was refused.
    Refused {
        /// What kind of thing.
        kind: &'static str,
        /// How many.
        count: usize,
    },
    /// The document failed: whoever opens the page next should try each update on a copy.
    Failed,
    /// Nothing holds the room in memory any more.
    Retire,
}
