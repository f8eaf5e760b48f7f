//! Everything a room can ask for.

use storage::{Generation, PageCommit, Seq};

use super::{CompactRequest, Refusal, RequestId, Sight};

/// Something a room wants done. Effects are carried out in the order in which they are given.
#[derive(Debug)]
pub enum Effect {
    /// Store this; there is at most one such request under way a room.
    Append(PageCommit),
    /// Write a snapshot, apart from edits; there is at most one such request under way a room. It is answered with
    /// [`Input::Compacted`](super::Input::Compacted).
    Compact(CompactRequest),
    /// Read the rows after `after` and before `before` that another process wrote, and give them to the room as
    /// [`Input::Remote`](super::Input::Remote) when they are there. The room asks again for what could not be read.
    ReadForeign {
        /// The generation that the page has to have.
        generation: Option<Generation>,
        /// The last row known before the gap.
        after: Seq,
        /// The first row known behind the gap.
        before: Seq,
    },
    /// Answer the request of a backend.
    Answer {
        /// The request.
        request: RequestId,
        /// The sequence number up to which the page is stored, or why it was refused.
        result: Result<Seq, Refusal>,
    },
    /// Tell who looks at the room what is to be seen.
    Seen(Sight),
    /// Count something.
    Count(Count, usize),
}

/// What a room counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Something was refused, by its kind.
    Refused(&'static str),
    /// A delta was queued for a member.
    Deltas,
    /// A member that had fallen behind was brought up to date.
    Resyncs,
    /// The document failed.
    Failures,
}
