//! Updates that come before what they build on: parked within limits, asked for once, taken in when it is there.

use std::time::Instant;

use crdt::{Admission, Missing, Update};

use super::{
    Arrival, Author, Effect, Member, MemberId, Outgoing, Refusal, Room, ServerMessage, documents::refused,
};
use crate::rooms::{member::HeldBack, receipts::Outcome};

/// Members whose updates are tried together.
const MAX_TOGETHER: usize = 16;
/// Clients whose updates a member is asked for at once; beyond that it is not asked until some of what it sent fits.
const MAX_ASKED: usize = 16;

impl Room {
    /// Keeps an early update until what it builds on is there.
    pub(super) fn early(
        &mut self,
        now: Instant,
        member: MemberId,
        update: Update,
        missing: Missing,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        if !self.is_withheld(member) {
            return self.park(now, member, update, missing, effects);
        }
        let outcome = self.hold(member, update, missing, 1, effects);
        if let Outcome::Stored(_) = outcome {
            // It may be what others were waiting for.
            self.admit_parked(now, effects);
        }
        outcome
    }

    /// Parks an early update and asks its author for what is missing.
    fn park(
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

    /// Whether something of others is left out of what a member brings.
    fn is_withheld(&self, member: MemberId) -> bool {
        self.members.get(&member).is_some_and(|seat| seat.withheld)
    }

    /// Keeps what a member brings of its own until others have brought what it builds on. What people wrote in answer to each other,
    /// and the server has forgotten, fits only at once: each of them brings its own part.
    fn hold(
        &mut self,
        member: MemberId,
        update: Update,
        missing: Missing,
        messages: usize,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let held = self.members.values().filter_map(|seat| seat.held.as_deref());
        let bytes: usize = held.map(|held| held.update.len()).sum();
        let Some(seat) = self.members.get_mut(&member) else {
            return Outcome::Refused;
        };
        if bytes + update.len() > self.config.parking.max_bytes {
            seat.unkept = true;
            self.has_unkept = true;
            return Outcome::Refused;
        }
        let (update, before) = match seat.held.take() {
            Some(held) => (crdt::merge([&held.update, &update]), held.messages),
            None => (update.unpinned(), 0),
        };
        seat.held = Some(Box::new(HeldBack {
            update,
            missing,
            messages: before,
        }));
        self.admit_together(member, missing, effects);
        match self.members.get_mut(&member).and_then(|seat| seat.held.as_mut()) {
            Some(held) => {
                held.messages += messages;
                Outcome::Parked
            }
            None => self.nothing_new(),
        }
    }

    fn admit_together(&mut self, member: MemberId, missing: Missing, effects: &mut Vec<Effect>) {
        let (mut together, mut missing) = (vec![member], missing);
        // Each round finds somebody who brings what the ones before lack.
        loop {
            let others = self
                .members
                .iter()
                .filter(|(member, _)| !together.contains(member));
            let mut held = others.filter_map(|(member, seat)| Some((*member, seat.held.as_ref()?)));
            let brings =
                held.find(|(_, held)| held.update.ranges().any(|range| range.client == missing.client));
            let Some((found, _)) = brings else { return };
            together.push(found);
            let seats = together.iter().filter_map(|member| self.members.get(member));
            let held = seats.filter_map(|seat| seat.held.as_ref().map(|held| &held.update));
            let merged = crdt::merge(held);
            if together.len() > MAX_TOGETHER || self.try_out(None, &merged, effects).is_err() {
                return;
            }
            match self.document.admit(merged) {
                Ok(Admission::Early { missing: next, .. }) => missing = next,
                Ok(Admission::New(_) | Admission::Known) => break,
                // Whose mistake it is shows when each is judged alone.
                Err(_) => return,
            }
        }
        let ticket = self.persistence.ticket(true);
        for member in together {
            if let Some(seat) = self.members.get_mut(&member)
                && let Some(held) = seat.held.take()
            {
                let author = Author::Member(member);
                self.batch
                    .push(author, Arrival::Resync, seat.user.clone(), held.update);
                seat.receipts.unparked(held.messages, Some(ticket));
            }
        }
    }

    /// Takes out what is held and no longer known to miss anything: whose it is, and of how many messages.
    fn take_held(&mut self) -> Vec<(Author, Update, usize)> {
        let known = self.document.state_vector();
        let mut ready = Vec::new();
        for (member, seat) in &mut self.members {
            let is_ready = |held: &mut Box<HeldBack>| known.get(held.missing.client) >= held.missing.clock;
            if let Some(held) = seat.held.take_if(is_ready) {
                ready.push((Author::Member(*member), held.update, held.messages));
            }
        }
        ready
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

    /// Takes in what was parked and builds on nothing missing any more.
    pub(super) fn admit_parked(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        loop {
            let parked = self.parking.take_ready(self.document.state_vector()).into_iter();
            let mut ready: Vec<_> = parked.map(|(author, update)| (author, update, 1)).collect();
            ready.extend(self.take_held());
            if ready.is_empty() {
                return;
            }
            for (author, update, messages) in ready {
                // Whoever brought what was missing has no part in what is wrong with the update.
                if let Err(refusal) = self.admit_late(now, author, update, messages, effects)
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
        messages: usize,
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
        let received = update.bytes().clone();
        match self.document.admit(update).map_err(|refusal| refused(&refusal))? {
            Admission::New(update) => {
                let trimmed = update.bytes().len() != received.len();
                // How it came is forgotten.
                self.batch.push(author, Arrival::Resync, user, update);
                if trimmed {
                    self.acknowledge(member, received, effects);
                }
            }
            Admission::Known => self.acknowledge(member, received, effects),
            Admission::Early { update, missing } => {
                let outcome = if self.is_withheld(member) {
                    self.hold(member, update, missing, messages, effects)
                } else {
                    // There was room for it a moment ago.
                    let kept = self.parking.park(now, author, update, missing);
                    kept.map_or(Outcome::Refused, |()| Outcome::Parked)
                };
                match outcome {
                    Outcome::Parked => return Ok(()),
                    Outcome::Refused => {
                        self.lose_parked(member, messages);
                        return Ok(());
                    }
                    Outcome::Stored(_) => {}
                }
            }
        }
        let ticket = self.persistence.ticket(!self.batch.is_empty());
        if let Some(seat) = self.members.get_mut(&member) {
            seat.asked.clear();
            seat.receipts.unparked(messages, Some(ticket));
        }
        Ok(())
    }

    /// Drops what has been parked too long; its authors are asked for it again.
    pub(super) fn expire_parked(&mut self, now: Instant) {
        for (author, _) in self.parking.expire(now) {
            if let Author::Member(member) = author {
                self.lose_parked(member, 1);
            }
        }
    }

    fn lose_parked(&mut self, member: MemberId, messages: usize) {
        if let Some(seat) = self.members.get_mut(&member) {
            seat.receipts.unparked(messages, None);
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
