//! What members, backends and other processes bring into a room's document.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use crdt::{Admission, ClientId, Update};
use storage::LoggedUpdate;

use super::{
    ClientMessage, Condition, Count, Effect, MemberId, Refusal, RefusalCode, RequestId, Room,
    batch::{Arrival, Author, AuthoredUpdate},
    status::Outcome,
};

impl Room {
    pub(super) fn said(
        &mut self,
        now: Instant,
        member: MemberId,
        messages: Vec<ClientMessage>,
        effects: &mut Vec<Effect>,
    ) {
        for message in messages {
            // A draining room takes in nothing more: under steady writing there would be no moment at which everything is stored. Edits
            // without an acknowledgement are sent again to the next room by their clients.
            if !self.life.is_open() || !self.members.contains_key(&member) {
                return;
            }
            match message {
                ClientMessage::SyncStep1(state_vector) => self.asked(now, member, &state_vector, effects),
                ClientMessage::SyncStep2(update) => self.wrote(now, member, update, Arrival::Resync, effects),
                ClientMessage::Update(update) => self.wrote(now, member, update, Arrival::Edit, effects),
                ClientMessage::Awareness(update) => self.awareness_said(now, member, &update, effects),
                ClientMessage::QueryAwareness => self.answers.owe_presence(member),
                ClientMessage::Stateless(payload) => self.announced(Some(member), payload, effects),
                ClientMessage::Mark(mark) => self.barrier(member, mark),
                ClientMessage::QueryStateVector => self.answers.owe_state_vector(member),
            }
        }
    }

    fn wrote(
        &mut self,
        now: Instant,
        member: MemberId,
        update: Bytes,
        arrival: Arrival,
        effects: &mut Vec<Effect>,
    ) {
        let taken_in = self.take_in(member, update, arrival, effects);
        let outcome = taken_in.as_ref().copied().unwrap_or(Outcome::Refused);
        let noted = self.note_outcome(member, outcome);
        if let Err(refusal) = taken_in.and(noted) {
            self.tell_outcomes();
            return self.close(now, member, refusal, effects);
        }
        if arrival == Arrival::Resync {
            self.resume_barrier(member);
        }
    }

    /// Lets the gate decide what becomes of a document message. An error ends the member.
    fn take_in(
        &mut self,
        member: MemberId,
        update: Bytes,
        arrival: Arrival,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let update = Update::parse(update, &self.config.gate)
            .map_err(|error| Refusal::malformed(format!("update: {error}")))?;
        if arrival == Arrival::Resync
            && let Some(seat) = self.members.get_mut(&member)
        {
            seat.has_resynced = true;
            seat.has_refused = false;
            self.early.begin_again(member);
        }
        if update.is_empty() {
            return Ok(self.nothing_new());
        }
        self.is_of_this_generation(&update)?;
        let Some(seat) = self.members.get(&member) else {
            return Ok(Outcome::Refused);
        };
        let user = seat.user.clone();
        if !seat.role.may_edit() {
            if arrival == Arrival::Resync && self.document.contains(&update).is_ok_and(|known| known) {
                return Ok(self.nothing_new());
            }
            self.note_refused(member, &update);
            self.refuse_edit(member, "read_only", Refusal::read_only(), effects);
            return Ok(Outcome::Refused);
        }
        if self.is_full() {
            // What is there already is no edit.
            if arrival == Arrival::Resync && self.document.contains(&update).is_ok_and(|known| known) {
                self.acknowledge(member, update);
                return Ok(self.nothing_new());
            }
            let full = Refusal::too_large(format!(
                "the page has reached its limit of {} bytes: it can be read and not changed",
                self.config.max_page_bytes
            ));
            self.note_refused(member, &update);
            self.refuse_edit(member, "page_full", full, effects);
            return Ok(Outcome::Refused);
        }
        let update = self.of_right_authors((Some(member), arrival), user.as_ref(), update, effects)?;
        self.admit((member, arrival), user, update, effects)
    }

    fn is_full(&self) -> bool {
        self.config.max_page_bytes != 0
            && self.document.encoded_size_estimate() as u64 > self.config.max_page_bytes
    }

    pub(super) fn posted(
        &mut self,
        request: RequestId,
        (member, user): (Option<MemberId>, Option<Arc<str>>),
        (update, condition): (Bytes, Condition),
        effects: &mut Vec<Effect>,
    ) {
        let result = if !self.life.is_open() {
            Err(Refusal::unavailable("the page is closing, try again"))
        } else if !self.meets(condition) {
            Err(Refusal::new(RefusalCode::Conflict, "this has been done already"))
        } else if self.is_full() {
            Err(Refusal::too_large("the page has reached its size limit"))
        } else {
            Update::parse(update, &self.config.gate)
                .map_err(|error| Refusal::malformed(format!("update: {error}")))
                .and_then(|update| {
                    self.is_of_this_generation(&update)?;
                    // A backend may post what it has from anybody.
                    let arrival = match member {
                        Some(member) => self.arrival_of_post(member, &update)?,
                        None => Arrival::Resync,
                    };
                    let update = self.of_right_authors((member, arrival), user.as_ref(), update, effects)?;
                    let author = member.map_or(Author::Backend, Author::Member);
                    self.admit_posted((author, arrival), user, update, effects)
                })
        };
        match result {
            // What is known already may still be on its way to the store.
            Ok(()) => self.answer_when_stored(request, effects),
            Err(refusal) => effects.push(Effect::Answer {
                request,
                result: Err(refusal),
            }),
        }
    }

    fn meets(&self, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::First => self.position.seq() == 0 && self.is_stored(),
            Condition::Without(client) => {
                self.document.state_vector().get(client) == 0 && !self.position.ended.contains(client)
            }
        }
    }

    /// Refuses what was written into a former document of the page.
    fn is_of_this_generation(&self, update: &Update) -> Result<(), Refusal> {
        match self.position.ended.are_named_in(update) {
            true => Err(Refusal::rebuilt()),
            false => Ok(()),
        }
    }

    fn admit_posted(
        &mut self,
        (author, arrival): (Author, Arrival),
        user: Option<Arc<str>>,
        update: Update,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (new, early) = match self.take_in_update(update, effects)? {
            Admission::Known => (None, None),
            Admission::New(update) => (Some(update), None),
            Admission::Early { update, .. } => (None, Some(update)),
            Admission::Partly { new, early, .. } => (Some(new), Some(early)),
        };
        let parked = early.map_or(Ok(false), |early| {
            let is_new = self.document.park(early.clone())?;
            if is_new {
                self.log.batch.push(AuthoredUpdate {
                    author,
                    arrival: Arrival::Edit,
                    user: user.clone(),
                    update: early,
                    is_parked: true,
                    traces: self.log.traces.clone(),
                });
            }
            Ok::<_, crdt::PendingFull>(is_new)
        });
        // What is complete of it stays, also when the rest is refused: posted again, it is known.
        if let Some(new) = new {
            self.took_in((author, arrival), user, new, effects);
        }
        parked.map(drop).map_err(|_| too_early())
    }

    /// Rows that another process stored: they are applied and told, and not stored again. They go in together, because what two
    /// people wrote in answer to each other may stand in two rows that need each other.
    pub(super) fn foreign(&mut self, now: Instant, rows: Vec<LoggedUpdate>, effects: &mut Vec<Effect>) {
        let Some(last) = rows.last().map(|row| row.seq) else {
            return;
        };
        match self.admit_foreign(rows, effects) {
            Ok(()) => {
                if self.position.read_up_to(now, last) {
                    self.compaction.note_change(now);
                }
            }
            Err(refusal) => self.fail(&refusal, effects),
        }
    }

    fn admit_foreign(&mut self, rows: Vec<LoggedUpdate>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let updates = rows
            .into_iter()
            .map(|row| Update::parse(row.data, &self.config.gate.for_stored()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Refusal::malformed(error.to_string()))?;
        let update = crdt::merge(&updates);
        let (new, early) = match self.take_in_update(update, effects)? {
            Admission::New(update) => (Some(update), None),
            Admission::Known => (None, None),
            Admission::Early { update, .. } => (None, Some(update)),
            Admission::Partly { new, early, .. } => (Some(new), Some(early)),
        };
        if let Some(early) = early {
            self.document.park(early).map_err(|_| too_early())?;
        }
        if let Some(new) = new {
            // It is stored.
            self.took_in((Author::Remote, Arrival::Edit), None, new, effects);
        }
        Ok(())
    }

    /// An update has become part of the document.
    fn took_in(
        &mut self,
        (author, arrival): (Author, Arrival),
        user: Option<Arc<str>>,
        update: Update,
        effects: &mut Vec<Effect>,
    ) {
        let clients: Vec<ClientId> = update.ranges().map(|range| range.client).collect();
        self.log.batch.push(AuthoredUpdate {
            author,
            arrival,
            user,
            update,
            is_parked: false,
            traces: self.log.traces.clone(),
        });
        self.admit_parked(clients.into_iter(), effects);
    }

    /// Takes an update in if it is new, parks it and asks for what is missing if it is early.
    fn admit(
        &mut self,
        (member, arrival): (MemberId, Arrival),
        user: Option<Arc<str>>,
        update: Update,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let received = update.clone();
        Ok(match self.take_in_update(update, effects)? {
            Admission::New(update) => {
                let trimmed = update.bytes().len() != received.bytes().len();
                self.took_in((Author::Member(member), arrival), user, update, effects);
                if trimmed {
                    self.acknowledge(member, received);
                }
                self.early.fits(member);
                self.nothing_new()
            }
            Admission::Known => {
                self.acknowledge(member, received);
                self.nothing_new()
            }
            Admission::Early { update, missing } => self.park(member, update, missing, effects),
            Admission::Partly { new, early, missing } => {
                // What is new may be what the rest waits for together with something that has waited longer.
                let outcome = self.park(member, early, missing, effects);
                self.took_in((Author::Member(member), arrival), user, new, effects);
                match outcome {
                    Outcome::DurableWith(_) => self.nothing_new(),
                    Outcome::Refused => Outcome::Refused,
                }
            }
        })
    }

    /// Lets the document take in what fits of an update. A document that cannot is no fault of the update's author.
    fn take_in_update(&mut self, update: Update, effects: &mut Vec<Effect>) -> Result<Admission, Refusal> {
        let refusal = match self.document.admit(update) {
            Ok(admission) => return Ok(admission),
            Err(refusal) => refusal,
        };
        if let crdt::Refusal::Unusable(error) = &refusal {
            self.fail(error, effects);
            return Err(Refusal::unavailable("the page is being rebuilt, connect again"));
        }
        Err(Refusal::malformed(format!("update: {refusal}")))
    }

    /// The document is not what is stored. What was admitted is stored, and everybody is sent away to come back to a room that is
    /// rebuilt from the store.
    pub(super) fn fail(&mut self, error: &dyn std::fmt::Display, effects: &mut Vec<Effect>) {
        if self.life.fail() {
            tracing::error!(
                %error,
                members = self.members.len(),
                "the document failed; the room is rebuilt from the store"
            );
            effects.push(Effect::Count(Count::Failures, 1));
        }
    }
}

fn too_early() -> Refusal {
    Refusal::new(
        RefusalCode::Conflict,
        "the update builds on others that this page does not have, and too much waits for such already: post those first, or all as one",
    )
}
