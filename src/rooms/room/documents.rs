//! What members and backends do with a room's document: sync, edits, and the flush that makes edits known.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use crdt::{Admission, ClientId, StateVector, Update};
use storage::LoggedUpdate;

use super::{
    Arrival, Author, Effect, Held, MemberId, News, Outgoing, Refusal, RefusalCode, Room, ServerMessage,
};
use crate::rooms::{
    ClientMessage, RequestId,
    batch::{Contribution, lowered},
    receipts::Outcome,
};

/// Most that is told again to somebody who comes back, in bytes.
const MAX_RECENT_BYTES: usize = 64 * 1024;

impl Room {
    pub(super) fn said(
        &mut self,
        now: Instant,
        member: MemberId,
        messages: Vec<ClientMessage>,
        effects: &mut Vec<Effect>,
    ) {
        for message in messages {
            if self.failed || !self.members.contains_key(&member) {
                return;
            }
            match message {
                ClientMessage::SyncStep1(state_vector) => self.step1(now, member, &state_vector, effects),
                ClientMessage::SyncStep2(update) => self.wrote(now, member, update, Arrival::Resync, effects),
                ClientMessage::Update(update) => self.wrote(now, member, update, Arrival::Edit, effects),
                ClientMessage::Awareness(update) => self.awareness_said(now, member, &update, effects),
                ClientMessage::QueryAwareness => self.send_awareness(now, member, effects),
                ClientMessage::Stateless(payload) => self.announced(Some(member), payload, effects),
                ClientMessage::Mark(mark) => self.mark(member, mark),
                ClientMessage::QueryStateVector => self.ask(member, effects),
            }
        }
    }

    fn step1(&mut self, now: Instant, member: MemberId, state_vector: &Bytes, effects: &mut Vec<Effect>) {
        if self.newcomers.contains(&member) {
            // What was written before is part of the answer. Told now, it could be taken for the acknowledgement of what still comes
            // through an older connection.
            if !self.batch.is_empty() {
                self.flush(now, effects);
            }
            self.newcomers.remove(&member);
        }
        match StateVector::decode(state_vector, &self.config.gate) {
            Ok(has) => match self
                .members
                .get_mut(&member)
                .and_then(|seat| seat.behind.as_mut())
            {
                // It is answered when its queue has left, together with what it missed.
                Some(behind) => *behind = common(behind, &has),
                None => {
                    self.ahead.note(member, &has, self.document.state_vector());
                    self.persistence.take_back_reply(member);
                    if self.persistence.answered(member) {
                        // What comes later builds on what it will have only with the answer.
                        effects.push(Effect::Resume { member });
                    }
                    self.bring_up_to_date(now, member, has.clone(), effects);
                    self.tell_recent(member, &has, effects);
                }
            },
            Err(error) => self.close(
                now,
                member,
                Refusal::malformed(format!("state vector: {error}")),
                effects,
            ),
        }
    }

    /// Whoever comes back may not have heard that its last edits were stored, and a client that keeps count of that would wait for
    /// ever. So what was written lately is told again to those who have it, as long as that is little.
    fn tell_recent(&mut self, to: MemberId, has: &StateVector, effects: &mut Vec<Effect>) {
        if !self.wants_echo(to) {
            return;
        }
        let Some(before) = self.recent.before(has) else {
            return;
        };
        let Ok(recent) = self.document.diff(&before) else {
            return;
        };
        if recent.len() <= MAX_RECENT_BYTES {
            self.acknowledge(to, recent, effects);
        }
    }

    pub(super) fn caught_up(&mut self, now: Instant, member: MemberId, effects: &mut Vec<Effect>) {
        if let Some(behind) = self
            .members
            .get_mut(&member)
            .and_then(|member| member.behind.take())
        {
            effects.push(Effect::Resume { member });
            let has = match self.persistence.take_back_reply(member) {
                Some(waits_for) => common(&behind, &waits_for),
                None => behind,
            };
            self.bring_up_to_date(now, member, has, effects);
        }
    }

    /// Sends a member what it lacks, as soon as that is durable; what is written meanwhile reaches it as deltas.
    fn bring_up_to_date(&mut self, now: Instant, to: MemberId, has: StateVector, effects: &mut Vec<Effect>) {
        let message = match self.lacking(&has) {
            Ok(message) => message,
            Err(error) => return self.fail(&error, effects),
        };
        let ticket = self.persistence.ticket(!self.batch.is_empty());
        if self.persistence.is_stored(ticket) || self.persistence.store_is_late(now) {
            effects.push(Effect::Send { to, message });
        } else {
            self.persistence.hold(ticket, Held::Reply(to, has, message));
        }
    }

    /// The step 2 for somebody who has `has`; the one for somebody who has nothing is shared.
    fn lacking(&mut self, has: &StateVector) -> Result<Arc<Outgoing>, crdt::ApplyError> {
        if !has.is_empty() {
            return Ok(Outgoing::new(ServerMessage::SyncStep2(self.document.diff(has)?)));
        }
        let state = self.document.encode()?;
        // The document caches its encoding until it changes, so the same allocation means the same state.
        if let Some(message) = self.whole.upgrade()
            && let ServerMessage::SyncStep2(bytes) = message.message()
            && bytes.as_ptr() == state.as_ptr()
            && bytes.len() == state.len()
        {
            return Ok(message);
        }
        let message = Outgoing::new(ServerMessage::SyncStep2(state));
        self.whole = Arc::downgrade(&message);
        Ok(message)
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
        let noted = self.note_receipt(member, outcome);
        if let Err(refusal) = taken_in.and(noted) {
            self.tell_receipts(effects);
            self.close(now, member, refusal, effects);
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
        }
        if update.is_empty() {
            return Ok(self.nothing_new());
        }
        let Some(seat) = self.members.get(&member) else {
            return Ok(Outcome::Refused);
        };
        let user = seat.user.clone();
        if !seat.role.may_edit() {
            if arrival == Arrival::Resync && self.document.contains(&update).is_ok_and(|known| known) {
                return Ok(self.nothing_new());
            }
            self.refuse_edit(member, "read_only", Refusal::read_only(), effects);
            return Ok(Outcome::Refused);
        }
        if self.is_full() {
            let full = Refusal::too_large(format!(
                "the page has reached its limit of {} bytes: it can be read and not changed",
                self.config.max_page_bytes
            ));
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
        update: Bytes,
        effects: &mut Vec<Effect>,
    ) {
        let result = if self.failed || self.draining {
            Err(Refusal::unavailable("the page is closing, try again"))
        } else if self.is_full() {
            Err(Refusal::too_large("the page has reached its size limit"))
        } else {
            Update::parse(update, &self.config.gate)
                .map_err(|error| Refusal::malformed(format!("update: {error}")))
                .and_then(|update| {
                    // A backend may post what it has from anybody.
                    let arrival = match member {
                        Some(member) => self.arrival_of_post(member, &update)?,
                        None => Arrival::Resync,
                    };
                    let update = self.of_right_authors((member, arrival), user.as_ref(), update, effects)?;
                    let author = Author::Request(request, member);
                    self.admit_posted((request, author, arrival), user, update, effects)
                })
        };
        if let Err(refusal) = result {
            effects.push(Effect::Answer {
                request,
                result: Err(refusal),
            });
        }
    }

    fn admit_posted(
        &mut self,
        (request, author, arrival): (RequestId, Author, Arrival),
        user: Option<Arc<str>>,
        update: Update,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        match self.document.admit(update).map_err(|refusal| refused(&refusal))? {
            Admission::New(update) => {
                self.took_in((author, arrival), user, update, effects);
                Ok(())
            }
            Admission::Partly { new, early, .. } => {
                if self.document.park(early.clone()).is_err() {
                    // What is complete of it stays: posted again, it is known.
                    self.took_in((Author::Foreign, arrival), user, new, effects);
                    return Err(too_early());
                }
                self.batch.park(author, user.clone(), early);
                self.took_in((author, arrival), user, new, effects);
                Ok(())
            }
            Admission::Early { update, .. } => {
                if self.document.park(update.clone()).map_err(|_| too_early())? {
                    self.batch.park(author, user, update);
                } else {
                    self.answer_when_stored(request, effects);
                }
                Ok(())
            }
            Admission::Known => {
                self.answer_when_stored(request, effects);
                Ok(())
            }
        }
    }

    /// Answers a post that brought nothing new when what is there now is stored.
    fn answer_when_stored(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let ticket = self.persistence.ticket(!self.batch.is_empty());
        if self.persistence.is_stored(ticket) {
            effects.push(Effect::Answer {
                request,
                result: Ok(self.persistence.seq()),
            });
        } else {
            self.persistence.hold(ticket, Held::Answer(request));
        }
    }

    /// Rows that another process stored: they are applied and told, and not stored again. They go in together, because what two
    /// people wrote in answer to each other may stand in two rows that need each other.
    pub(super) fn foreign(&mut self, now: Instant, rows: Vec<LoggedUpdate>, effects: &mut Vec<Effect>) {
        let Some(last) = rows.last().map(|row| row.seq) else {
            return;
        };
        match self.admit_foreign(rows, effects) {
            Ok(()) => self.persistence.read_up_to(now, last),
            Err(refusal) => {
                self.failed = true;
                tracing::error!(seq = last, %refusal, "rows that another process stored do not fit; the room is rebuilt");
            }
        }
    }

    fn admit_foreign(&mut self, rows: Vec<LoggedUpdate>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let updates = rows
            .into_iter()
            .map(|row| Update::parse(row.data, &self.config.gate.for_stored()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Refusal::malformed(error.to_string()))?;
        let update = crdt::merge(&updates);
        let (new, early) = match self.document.admit(update).map_err(|refusal| refused(&refusal))? {
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
            self.took_in((Author::Foreign, Arrival::Edit), None, new, effects);
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
        self.batch.push(author, arrival, user, update);
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
        let received = update.bytes().clone();
        Ok(
            match self.document.admit(update).map_err(|refusal| refused(&refusal))? {
                Admission::New(update) => {
                    let trimmed = update.bytes().len() != received.len();
                    self.took_in((Author::Member(member), arrival), user, update, effects);
                    if trimmed {
                        self.acknowledge(member, received, effects);
                    }
                    self.fits(member);
                    self.nothing_new()
                }
                Admission::Known => {
                    self.acknowledge(member, received, effects);
                    self.nothing_new()
                }
                Admission::Early { update, missing } => self.park(member, update, missing, effects),
                Admission::Partly { new, early, missing } => {
                    // What is new may be what the rest waits for together with something that has waited longer.
                    let outcome = self.park(member, early, missing, effects);
                    self.took_in((Author::Member(member), arrival), user, new, effects);
                    match outcome {
                        Outcome::Stored(_) => self.nothing_new(),
                        Outcome::Refused => Outcome::Refused,
                    }
                }
            },
        )
    }

    /// Echoes what a member sent although (part of) it was known already, once all of it is durable: it may have come from a
    /// connection that broke before the first echo.
    pub(super) fn acknowledge(&mut self, to: MemberId, received: Bytes, effects: &mut Vec<Effect>) {
        if !self.wants_echo(to) {
            return;
        }
        let echo = Outgoing::new(ServerMessage::Stored(received));
        let ticket = self.persistence.ticket(!self.batch.is_empty());
        if self.persistence.is_stored(ticket) {
            effects.push(Effect::Send { to, message: echo });
        } else {
            self.persistence.hold(ticket, Held::Echo(to, echo));
        }
    }

    /// Something of what a member sent fits: it may be asked again.
    fn fits(&mut self, member: MemberId) {
        if let Some(seat) = self.members.get_mut(&member) {
            seat.asked.clear();
        }
    }

    /// Applies everything admitted in one transaction and tells each member what others wrote.
    pub(super) fn flush(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.last_flush = Some(now);
        self.flush_awareness(effects);
        if self.batch.is_empty() {
            return;
        }
        if let Err(error) = self.document.apply() {
            return self.fail(&error, effects);
        }
        self.last_edit = now;
        let mut contributions = self.batch.take();
        self.persistence.flushed(&contributions);
        contributions.retain(|contribution| !contribution.is_parked);
        if contributions.is_empty() {
            return;
        }
        let writers = self.writers_in(&contributions);
        let has_resync = contributions
            .iter()
            .any(|contribution| contribution.arrival == Arrival::Resync);
        let durable_with = self.persistence.ticket(false);
        let waits_for = match has_resync {
            true => Some(durable_with),
            // Told in another order, it would be early for everybody if the server were killed in between.
            false => self.persistence.news_waits_for(),
        };
        match waits_for.filter(|ticket| !self.persistence.is_stored(*ticket)) {
            Some(ticket) => {
                let news = News {
                    contributions,
                    writers,
                    durable_with,
                };
                self.persistence.hold_news(ticket, news);
            }
            None => self.tell(&contributions, writers, ServerMessage::Delta, effects),
        }
        self.ahead.caught_up(self.document.state_vector());
        self.recent.edited(now, self.document.state_vector());
    }

    /// Everybody gets one delta with everything; who wrote gets what the others wrote, because its own edits come back to it only as
    /// an acknowledgement. So does whoever wrote something that somebody else brings, such as another member who heard of it
    /// before the server was killed.
    pub(super) fn tell(
        &mut self,
        contributions: &[Contribution],
        mut writers: BTreeMap<MemberId, Vec<usize>>,
        message: fn(Bytes) -> ServerMessage,
        effects: &mut Vec<Effect>,
    ) {
        writers.retain(|member, _| self.members.contains_key(member));
        self.tell_except(contributions, &writers, message, effects);
        for (to, own) in writers {
            let brought = own.iter().filter_map(|index| contributions.get(*index));
            let brought: Vec<_> = brought
                .filter(|contribution| contribution.author.member() != Some(to))
                .collect();
            if !brought.is_empty() {
                let brought = merged(brought.into_iter()).bytes().clone();
                self.acknowledge(to, brought, effects);
            }
        }
    }

    /// Everybody gets what is durable, except who brought it.
    pub(super) fn announce(&mut self, contributions: &[Contribution], effects: &mut Vec<Effect>) {
        let mut authors: BTreeMap<MemberId, Vec<usize>> = BTreeMap::new();
        for (index, contribution) in contributions.iter().enumerate() {
            if let Some(member) = contribution.author.member()
                && self.members.contains_key(&member)
            {
                authors.entry(member).or_default().push(index);
            }
        }
        self.tell_except(contributions, &authors, ServerMessage::Brought, effects);
    }

    /// Tells `contributions` to all but the newcomers, and to each of `writers` without those that are named there.
    fn tell_except(
        &self,
        contributions: &[Contribution],
        writers: &BTreeMap<MemberId, Vec<usize>>,
        message: fn(Bytes) -> ServerMessage,
        effects: &mut Vec<Effect>,
    ) {
        let outgoing = |update: &Update| Outgoing::new(message(update.bytes().clone()));
        let mut except: Vec<MemberId> = writers.keys().copied().collect();
        if !self.newcomers.is_empty() {
            except.extend(&self.newcomers);
            except.sort_unstable();
            except.dedup();
        }
        if !contributions.is_empty() && self.members.len() > except.len() {
            let message = match contributions {
                [only] => outgoing(&only.update),
                _ => outgoing(&merged(contributions.iter())),
            };
            effects.push(Effect::Broadcast { except, message });
        }
        for (&to, own) in writers {
            if own.len() < contributions.len() && !self.newcomers.contains(&to) {
                let others = contributions
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| !own.contains(index));
                let message = outgoing(&merged(others.map(|(_, contribution)| contribution)));
                effects.push(Effect::Send { to, message });
            }
        }
    }

    /// The members who wrote something of `contributions`, each with the indices of those that hold something of it.
    fn writers_in(&self, contributions: &[Contribution]) -> BTreeMap<MemberId, Vec<usize>> {
        let mut writers: BTreeMap<MemberId, Vec<usize>> = BTreeMap::new();
        for (index, contribution) in contributions.iter().enumerate() {
            let author = contribution
                .author
                .member()
                .filter(|member| self.members.contains_key(member));
            let owners = contribution
                .update
                .ranges()
                .flat_map(|range| self.owner(range.client).into_iter().chain(self.ahead.of(range)))
                // To whoever counts, only what it sent itself is no news.
                .filter(|owner| self.wants_echo(*owner));
            for member in author.into_iter().chain(owners) {
                let own = writers.entry(member).or_default();
                if own.last() != Some(&index) {
                    own.push(index);
                }
            }
        }
        writers
    }

    /// The member who writes with a client id, as far as is known.
    fn owner(&self, client: ClientId) -> Option<MemberId> {
        let member = self.writer(client).or_else(|| self.awareness.owner(client));
        member.filter(|member| self.members.contains_key(member))
    }

    /// The document is unusable: nothing of the last batch was told, stored or acknowledged. Everybody is sent away to come
    /// back to a room that is rebuilt from the store.
    pub(super) fn fail(&mut self, error: &crdt::ApplyError, effects: &mut Vec<Effect>) {
        tracing::error!(%error, members = self.members.len(), "the document failed; the room is rebuilt from the store");
        self.failed = true;
        let _ = self.batch.take();
        self.persistence.give_up_unflushed();
        self.give_up_receipts();
        effects.push(Effect::Failed);
    }
}

fn too_early() -> Refusal {
    Refusal::new(
        RefusalCode::Conflict,
        "the update builds on others that this page does not have, and too much waits for such already: post those first, or all as one",
    )
}

/// What two replicas both have.
fn common(one: &StateVector, other: &StateVector) -> StateVector {
    lowered(one, |client| Some(other.get(client)))
}

pub(super) fn refused(refusal: &crdt::Refusal) -> Refusal {
    Refusal::malformed(format!("update: {refusal}"))
}

fn merged<'a>(contributions: impl Iterator<Item = &'a Contribution>) -> Update {
    crdt::merge(contributions.map(|contribution| &contribution.update))
}
