//! Barriers: a member says something that is said back once everything it said before is stored.
//!
//! A barrier vouches for whatever the member has, so it waits also for the member's answer to the room's first question, and for what
//! could not be kept; and after something was refused none is said back until the member has been asked again.

use bytes::Bytes;

use super::{MemberId, Room, ServerMessage};

impl Room {
    /// Says this back when everything that the member has is stored. A newer barrier vouches for all that an older one would have
    /// vouched for, so at most one a commit waits.
    pub(super) fn barrier(&mut self, member: MemberId, payload: Bytes) {
        let flush = self.log.latest();
        if self.has_everything_of(member) {
            self.promises.barrier(flush, member, payload);
        } else if let Some(seat) = self.members.get_mut(&member) {
            seat.barrier = Some(payload);
        }
    }

    /// A member has answered the question for what the room lacks: the barrier that waited for that waits for the store now.
    pub(super) fn resume_barrier(&mut self, member: MemberId) {
        if self.has_everything_of(member)
            && let Some(payload) = self.members.get_mut(&member).and_then(|seat| seat.barrier.take())
        {
            self.barrier(member, payload);
        }
    }

    /// Says back a barrier whose commit has ended.
    pub(super) fn say_back(&mut self, member: MemberId, payload: Bytes) {
        let is_whole = self.has_everything_of(member);
        let Some(seat) = self.members.get_mut(&member) else {
            return;
        };
        if is_whole {
            seat.send(ServerMessage::Mark(payload));
        } else {
            // A newer one that waits vouches for more.
            seat.barrier.get_or_insert(payload);
        }
    }

    /// Whether the room has everything that a member has, as far as is known.
    fn has_everything_of(&self, member: MemberId) -> bool {
        !self.early.is_rejected(member)
            && self
                .members
                .get(&member)
                .is_some_and(|seat| seat.has_resynced && !seat.has_refused)
    }
}
