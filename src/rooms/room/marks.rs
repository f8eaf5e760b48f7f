//! Marks: a member says something that is said back once everything it said before is stored.
//!
//! A mark vouches for whatever the member has, so it waits also for the member's answer to the room's first question, and for what
//! could not be kept; and after something was refused no mark is said back until the member has been asked again.

use bytes::Bytes;

use super::{Effect, MemberId, Outgoing, Room, ServerMessage};
use crate::rooms::persistence::Ticket;

/// A mark that is to be said back.
#[derive(Debug)]
pub(in crate::rooms) struct Mark {
    payload: Bytes,
    /// What has to be stored first, once that is known.
    ticket: Option<Ticket>,
}

impl Room {
    /// A newer mark vouches for all that an older one would have vouched for, so only one waits.
    pub(super) fn mark(&mut self, member: MemberId, payload: Bytes) {
        if let Some(seat) = self.members.get_mut(&member) {
            seat.mark = Some(Mark {
                payload,
                ticket: None,
            });
            self.marked.insert(member);
        }
    }

    /// Says back the marks that hold now.
    pub(super) fn tell_marks(&mut self, effects: &mut Vec<Effect>) {
        let Self {
            marked,
            members,
            persistence,
            batch,
            ..
        } = self;
        marked.retain(|member| {
            let Some(seat) = members.get_mut(member) else {
                return false;
            };
            let is_whole = seat.has_resynced && !seat.has_refused && !seat.unkept;
            let Some(mark) = seat.mark.as_mut().filter(|_| is_whole) else {
                return true;
            };
            let ticket = *mark
                .ticket
                .get_or_insert_with(|| persistence.ticket(!batch.is_empty()));
            if !persistence.is_stored(ticket) {
                return true;
            }
            let message = ServerMessage::Mark(std::mem::take(&mut mark.payload));
            seat.mark = None;
            effects.push(Effect::Send {
                to: *member,
                message: Outgoing::new(message),
            });
            false
        });
    }
}
