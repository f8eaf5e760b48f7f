//! Updates that come before what they build on: parked within limits, asked for once, taken in when it is there.

use std::time::Instant;

use crdt::{Admission, Missing, Update};

use super::{Arrival, Author, Effect, MemberId, Outgoing, Refusal, Room, ServerMessage, documents::refused};
use crate::rooms::receipts::Outcome;

/// Clients whose updates a member is asked for at once; beyond that it is not asked until some of what it sent fits.
const MAX_ASKED: usize = 16;

impl Room {
    /// Parks an early update and asks its author for what is missing.
    pub(super) fn park(
        &mut self,
        now: Instant,
        member: MemberId,
        update: Update,
        missing: Missing,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let author = Author::Member(member);
        let kept = self.parking.park(now, author, update, missing).is_ok();
        if !kept {
            effects.push(Effect::Refused {
                kind: "parking_full",
                count: 1,
            });
        }
        let outcome = match kept {
            true => Outcome::Parked,
            false => Outcome::Refused,
        };
        let Some(seat) = self.members.get_mut(&member) else {
            return outcome;
        };
        seat.unkept |= !kept;
        self.has_unkept |= !kept;
        // A client that lacks it too answers with what is early again: asked each time, it would answer for ever.
        if seat.asked.len() < MAX_ASKED && seat.asked.insert(missing.client) {
            self.ask(member, effects);
        }
        outcome
    }

    pub(super) fn ask(&self, to: MemberId, effects: &mut Vec<Effect>) {
        let step1 = ServerMessage::SyncStep1(self.document.state_vector().encode());
        effects.push(Effect::Send {
            to,
            message: Outgoing::new(step1),
        });
    }

    /// Takes in what was parked and builds on nothing missing any more.
    pub(super) fn admit_parked(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        loop {
            let ready = self.parking.take_ready(self.document.state_vector());
            if ready.is_empty() {
                return;
            }
            for (author, update) in ready {
                // Whoever brought what was missing has no part in what is wrong with the update.
                if let Err(refusal) = self.admit_late(now, author, update, effects)
                    && let Author::Member(member) = author
                {
                    self.close(now, member, refusal, effects);
                }
            }
        }
    }

    fn admit_late(
        &mut self,
        now: Instant,
        author: Author,
        update: Update,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        // Only what members send is parked; one that has just been sent away has taken its edits with it.
        let Author::Member(member) = author else {
            return Ok(());
        };
        let Some(user) = self.members.get(&member).map(|seat| seat.user.clone()) else {
            return Ok(());
        };
        self.try_out(user.as_ref(), &update, effects)?;
        match self.document.admit(update).map_err(|refusal| refused(&refusal))? {
            // How it came is forgotten.
            Admission::New(update) => self.batch.push(author, Arrival::Resync, user, update),
            Admission::Known => {}
            Admission::Early { update, missing } => {
                // There was room for it a moment ago.
                if self.parking.park(now, author, update, missing).is_err() {
                    self.lose_parked(member);
                }
                return Ok(());
            }
        }
        let ticket = self.persistence.ticket(!self.batch.is_empty());
        if let Some(seat) = self.members.get_mut(&member) {
            seat.asked.clear();
            seat.receipts.unparked(Some(ticket));
        }
        Ok(())
    }

    /// Drops what has been parked too long; its authors are asked for it again.
    pub(super) fn expire_parked(&mut self, now: Instant) {
        for (author, _) in self.parking.expire(now) {
            if let Author::Member(member) = author {
                self.lose_parked(member);
            }
        }
    }

    fn lose_parked(&mut self, member: MemberId) {
        if let Some(seat) = self.members.get_mut(&member) {
            seat.receipts.unparked(None);
            seat.unkept = true;
            self.has_unkept = true;
        }
    }

    /// Once there is room again, asks for what could not be kept: its authors have it and would not send it by themselves. They are
    /// told first what was missing, without which some programs do not count it as theirs to give.
    pub(super) fn ask_again(&mut self, effects: &mut Vec<Effect>) {
        if !self.has_unkept || !self.parking.is_empty() || !self.batch.is_empty() {
            return;
        }
        self.has_unkept = false;
        let mut unkept = Vec::new();
        for (member, seat) in &mut self.members {
            if std::mem::take(&mut seat.unkept) {
                seat.asked.clear();
                seat.has_resynced = false;
                unkept.push(*member);
            }
        }
        for member in unkept {
            self.ask(member, effects);
        }
    }
}
