//! Updates that come before what they build on: they are stored as they are, their authors are asked once for what is missing, and they
//! take effect when it is there.

use crdt::{ClientId, Missing, Update};

use super::{Arrival, Author, Effect, Member, MemberId, Outgoing, Room, ServerMessage};
use crate::rooms::receipts::Outcome;

/// Clients whose updates a member is asked for at once; beyond that it is not asked until some of what it sent fits.
const MAX_ASKED: usize = 16;

impl Room {
    /// Keeps an early update until what it builds on is there. It is stored like any other, so its author may count on it.
    pub(super) fn park(
        &mut self,
        member: MemberId,
        update: Update,
        missing: Missing,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let parked = self.document.park(update.clone());
        let kept = parked.is_ok();
        let Some(seat) = self.members.get_mut(&member) else {
            return Outcome::Refused;
        };
        if parked == Ok(true) {
            self.batch
                .park(Author::Member(member), seat.user.clone(), update.clone());
        } else if !kept {
            effects.push(Effect::Refused {
                kind: "parking_full",
                count: 1,
            });
            seat.unkept = true;
            self.has_unkept = true;
        }
        // A client that lacks it too answers with what is early again: asked each time, it would answer for ever.
        if seat.asked.len() < MAX_ASKED && seat.asked.insert(missing.client) {
            self.ask(member, effects);
        }
        match kept {
            true => self.nothing_new(),
            false => Outcome::Refused,
        }
    }

    /// Takes in what was parked and waited for something of these clients. It is stored already, or is about to be.
    pub(super) fn admit_parked(
        &mut self,
        clients: impl Iterator<Item = ClientId>,
        effects: &mut Vec<Effect>,
    ) {
        match self.document.take_ready(clients) {
            Ok(ready) => {
                for update in ready {
                    // How it came is forgotten.
                    self.batch.push(Author::Foreign, Arrival::Resync, None, update);
                }
            }
            Err(error) => self.fail(&error, effects),
        }
    }

    /// Somebody has left: whoever has brought something of it is asked for it again, and may bring it now.
    pub(super) fn ask_for_what_was_withheld(&mut self, effects: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.has_departed) {
            return;
        }
        self.ask_for_everything(|seat| std::mem::take(&mut seat.withheld), effects);
    }

    pub(super) fn ask(&self, to: MemberId, effects: &mut Vec<Effect>) {
        let step1 = ServerMessage::SyncStep1(self.document.state_vector().encode());
        effects.push(Effect::Send {
            to,
            message: Outgoing::new(step1),
        });
    }

    /// Once there is room again, asks for what could not be kept: its authors have it and would not send it by themselves. They are
    /// told first what was missing, without which some programs do not count it as theirs to give.
    pub(super) fn ask_again(&mut self, effects: &mut Vec<Effect>) {
        let has_room = self.document.pending_bytes() <= self.config.gate.max_pending_bytes / 2;
        if !self.has_unkept || !has_room || !self.batch.is_empty() {
            return;
        }
        self.has_unkept = false;
        self.ask_for_everything(|seat| std::mem::take(&mut seat.unkept), effects);
    }

    /// Asks the members of whom this is so for what the room lacks, as if they had never been asked.
    fn ask_for_everything(&mut self, is_so: impl Fn(&mut Member) -> bool, effects: &mut Vec<Effect>) {
        let mut asked = Vec::new();
        for (member, seat) in &mut self.members {
            if is_so(seat) {
                seat.asked.clear();
                seat.has_resynced = false;
                asked.push(*member);
            }
        }
        for member in asked {
            self.ask(member, effects);
        }
    }
}
