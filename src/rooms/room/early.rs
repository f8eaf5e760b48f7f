//! Updates that come before what they build on: they are stored as they are, their authors are asked once for what is missing, and they
//! take effect when it is there.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{ClientId, Missing, Update};

use super::{
    Count, Effect, MemberId, Room, ServerMessage, Traces,
    batch::{Arrival, Author, AuthoredUpdate},
    status::Outcome,
};

/// Clients whose updates a member is asked for at once; beyond that it is not asked until some of what it sent fits.
const MAX_ASKED: usize = 16;

/// What members have brought that is not in the document, and have to be asked for again.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Whose updates a member has been asked for because what it sent builds on them; once is enough until some of it fits.
    asked: BTreeMap<MemberId, BTreeSet<ClientId>>,
    /// Something early that these members sent could not be kept: it waited for this.
    rejected: BTreeMap<MemberId, Missing>,
    /// How much waited when that happened last.
    waited: usize,
    /// These members have brought something new of another user who is here, which was left out.
    left_out: BTreeSet<MemberId>,
    /// Somebody has left of whom others may have brought something.
    has_departed: bool,
}

impl Early {
    /// Something of what a member sent fits: it may be asked again.
    pub(super) fn fits(&mut self, member: MemberId) {
        self.asked.remove(&member);
    }

    /// What a member brought of somebody else was left out.
    pub(super) fn leave_out(&mut self, member: MemberId) {
        self.left_out.insert(member);
    }

    /// A member says all that it has which the room lacks: what could not be kept before is in it.
    pub(super) fn begin_again(&mut self, member: MemberId) {
        self.rejected.remove(&member);
    }

    /// Whether something that a member sent could not be kept.
    pub(super) fn is_rejected(&self, member: MemberId) -> bool {
        self.rejected.contains_key(&member)
    }

    /// A member has left.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.asked.remove(&member);
        self.rejected.remove(&member);
        self.left_out.remove(&member);
        self.has_departed = true;
    }

    /// Whether a member is to be asked for what `missing` names. A client that lacks it too answers with what is early again:
    /// asked each time, it would answer for ever.
    fn may_ask(&mut self, member: MemberId, missing: Missing) -> bool {
        let asked = self.asked.entry(member).or_default();
        asked.len() < MAX_ASKED && asked.insert(missing.client)
    }
}

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
        let Some(seat) = self.members.get(&member) else {
            return Outcome::Refused;
        };
        if parked == Ok(true) {
            self.log.batch.push(AuthoredUpdate {
                author: Author::Member(member),
                arrival: Arrival::Edit,
                user: seat.user.clone(),
                update,
                is_parked: true,
                traces: self.log.traces.clone(),
            });
        } else if !kept {
            effects.push(Effect::Count(Count::Refused("parking_full"), 1));
            self.early.rejected.insert(member, missing);
            self.early.waited = self.document.pending_bytes();
        }
        if self.early.may_ask(member, missing) {
            self.ask(member);
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
                    self.log.batch.push(AuthoredUpdate {
                        // How it came is forgotten.
                        author: Author::Remote,
                        arrival: Arrival::Resync,
                        user: None,
                        update,
                        is_parked: false,
                        traces: Traces::default(),
                    });
                }
            }
            Err(error) => self.fail(&error, effects),
        }
    }

    /// Asks a member for what the room lacks.
    pub(super) fn ask(&self, to: MemberId) {
        if let Some(seat) = self.members.get(&to) {
            seat.send(ServerMessage::SyncStep1(self.document.state_vector().encode()));
        }
    }

    /// Asks again for what is not in the document and may be now: what was left out, when somebody has left; and what could not be
    /// kept, when there is room again, or when it need not be kept, because what it waited for has come. Its authors have it and would
    /// not send it by themselves.
    pub(super) fn ask_again(&mut self) {
        if std::mem::take(&mut self.early.has_departed) {
            let left_out = std::mem::take(&mut self.early.left_out);
            self.ask_for_everything(left_out);
        }
        // Where nothing has left, the same would not fit again, and its author would be asked for ever.
        let waits = self.document.pending_bytes();
        let has_room = waits < self.early.waited && waits <= self.config.gate.max_pending_bytes / 2;
        // They are told first what was missing, without which some programs do not count it as theirs to give.
        if !self.early.rejected.is_empty() && self.log.batch.is_empty() {
            let known = self.document.state_vector();
            let may_fit =
                |_: &MemberId, missing: &mut Missing| has_room || known.get(missing.client) >= missing.clock;
            let rejected = self.early.rejected.extract_if(.., may_fit);
            let rejected = rejected.map(|(member, _)| member).collect();
            self.ask_for_everything(rejected);
        }
    }

    /// Asks members for what the room lacks, as if they had never been asked.
    fn ask_for_everything(&mut self, members: BTreeSet<MemberId>) {
        for member in members {
            self.early.asked.remove(&member);
            if let Some(seat) = self.members.get_mut(&member) {
                seat.has_resynced = false;
            }
            self.ask(member);
        }
    }
}
