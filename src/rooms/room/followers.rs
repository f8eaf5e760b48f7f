//! What each member is sent of the document: flushes in order, and one step 2 with what it lacks when it asks or was too slow.
//!
//! An acknowledgement is what comes back to a member of its own writing. So nothing is sent to a member that it may have written
//! before that is durable: not its own authored_updates to a flush, not what others bring of it, and no step 2.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Instant,
};

use bytes::Bytes;
use crdt::{ClientRange, StateVector, Update};

use super::{
    Count, Effect, MemberId, Outgoing, Pushed, Refusal, Room, ServerMessage,
    ack_replay::AckReplay,
    batch::{Arrival, AuthoredUpdate, before, common, merged, traces_of},
    member::Follower,
};

/// Most that is told again to somebody who comes back, in bytes.
const MAX_RECENT_BYTES: usize = 64 * 1024;

/// The answers that are owed. Each is given once when the room settles, however often it was asked for.
#[derive(Debug)]
pub(super) struct Answers {
    /// Members that want to know who is here.
    presence: BTreeSet<MemberId>,
    /// Members that want to know what the room has.
    state_vectors: BTreeSet<MemberId>,
    /// Members that have asked, or have fallen behind and drained their outboxes, and what they have.
    owed: BTreeMap<MemberId, StateVector>,
    /// The whole document as last sent, shared by everybody who has nothing yet for as long as it waits for one of them.
    whole: Weak<Outgoing>,
    ack_replay: AckReplay,
}

impl Answers {
    pub(super) fn new(ack_replay: AckReplay) -> Self {
        Self {
            presence: BTreeSet::new(),
            state_vectors: BTreeSet::new(),
            owed: BTreeMap::new(),
            whole: Weak::new(),
            ack_replay,
        }
    }

    /// Whether somebody waits for a step 2 at the next [`Room::settle`].
    pub(super) fn are_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    /// A member asks who is here.
    pub(super) fn owe_presence(&mut self, member: MemberId) {
        self.presence.insert(member);
    }

    /// A member asks what the room has.
    pub(super) fn owe_state_vector(&mut self, member: MemberId) {
        self.state_vectors.insert(member);
    }

    /// A member has left.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.owed.remove(&member);
        self.presence.remove(&member);
        self.state_vectors.remove(&member);
    }
}

impl Room {
    /// A member asks for what it lacks. It is answered once when the room settles, however often it asks.
    pub(super) fn asked(
        &mut self,
        now: Instant,
        member: MemberId,
        state_vector: &Bytes,
        effects: &mut Vec<Effect>,
    ) {
        let has = match StateVector::decode(state_vector, &self.config.gate) {
            Ok(has) => has,
            Err(error) => {
                let refusal = Refusal::malformed(format!("state vector: {error}"));
                return self.close(now, member, refusal, effects);
            }
        };
        if self.position.ended.knows_any_of(&has) {
            return self.close(now, member, Refusal::rebuilt(), effects);
        }
        match self.members.get_mut(&member).map(|seat| &mut seat.follower) {
            // It is answered when its queue has left, together with what it missed.
            Some(Follower::Behind(behind)) => *behind = common(behind, &has),
            Some(Follower::Asking | Follower::Following) => {
                self.answers.owed.insert(member, has);
            }
            None => {}
        }
    }

    /// A member's outbox has drained after the member had fallen behind.
    pub(super) fn drained(&mut self, member: MemberId) {
        if let Some(seat) = self.members.get(&member)
            && let Follower::Behind(has) = &seat.follower
        {
            self.answers.owed.insert(member, has.clone());
        }
    }

    /// Answers everybody who is owed an answer.
    pub(super) fn answer_owed(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for member in std::mem::take(&mut self.answers.presence) {
            self.send_awareness(now, member);
        }
        for member in std::mem::take(&mut self.answers.state_vectors) {
            self.ask(member);
        }
        for (member, has) in std::mem::take(&mut self.answers.owed) {
            if let Err(error) = self.bring_up_to_date(now, member, has, effects) {
                return self.fail(&error, effects);
            }
        }
    }

    /// Sends a member what it lacks, as soon as that is durable. What is flushed meanwhile leaves behind it.
    fn bring_up_to_date(
        &mut self,
        now: Instant,
        to: MemberId,
        has: StateVector,
        effects: &mut Vec<Effect>,
    ) -> Result<(), crdt::ApplyError> {
        let Some(seat) = self.members.get_mut(&to) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut seat.follower, Follower::Following);
        let has = match &before {
            Follower::Behind(behind) => common(&has, behind),
            Follower::Asking | Follower::Following => has,
        };
        let message = self.lacking(to, &has)?;
        let Some(seat) = self.members.get(&to) else {
            return Ok(());
        };
        if !matches!(before, Follower::Following) || self.log.has_deferred() {
            // What comes later builds on what it will have only with the answer.
            seat.outlet.resume();
        }
        self.log.answered(to);
        let flush = self.log.latest();
        if self.log.is_stored(flush) || self.log.is_late(now) {
            self.promises.take_back_reply(to);
            seat.outlet.push(&message);
        } else {
            self.promises.reply(flush, to, has.clone(), message);
        }
        if matches!(before, Follower::Behind(_)) {
            effects.push(Effect::Count(Count::Resyncs, 1));
            return Ok(());
        }
        self.claims.note_state(to, &has, self.document.state_vector());
        self.replay_acknowledgements(to, &has)
    }

    /// The step 2 for somebody who has `has`; the one for somebody who has nothing is shared.
    fn lacking(&mut self, to: MemberId, has: &StateVector) -> Result<Arc<Outgoing>, crdt::ApplyError> {
        if self.may_have_parked(to, has) {
            let admitted = self.document.admitted_since(has)?;
            return Ok(Outgoing::new(ServerMessage::SyncStep2(admitted)));
        }
        if !has.is_empty() {
            return Ok(Outgoing::new(ServerMessage::SyncStep2(self.document.diff(has)?)));
        }
        let state = self.document.encode()?;
        // The document caches its encoding until it changes, so the same allocation means the same state.
        if let Some(message) = self.answers.whole.upgrade()
            && let ServerMessage::SyncStep2(bytes) = message.message()
            && bytes.as_ptr() == state.as_ptr()
            && bytes.len() == state.len()
        {
            return Ok(message);
        }
        let message = Outgoing::new(ServerMessage::SyncStep2(state));
        self.answers.whole = Arc::downgrade(&message);
        Ok(message)
    }

    /// Whether a member may have written something that is parked. Hearing it, it would take that for the acknowledgement, and it has
    /// no effect yet.
    fn may_have_parked(&self, member: MemberId, has: &StateVector) -> bool {
        let known = self.document.state_vector();
        let may_be_its =
            |client| has.get(client) > known.get(client) || self.claims.writer(client) == Some(member);
        self.document.parked_clients().any(may_be_its)
    }

    /// Whoever comes back may not have heard that its last edits were stored, and a client that keeps count of that would wait for
    /// ever. So what was written lately is told again to those who have it, as long as that is little.
    fn replay_acknowledgements(&mut self, to: MemberId, has: &StateVector) -> Result<(), crdt::ApplyError> {
        let Some(before) = self
            .answers
            .ack_replay
            .before(has)
            .filter(|_| self.wants_echo(to))
        else {
            return Ok(());
        };
        let recent = self.document.admitted_since(&before)?;
        if recent.len() <= MAX_RECENT_BYTES
            && let Ok(recent) = Update::parse(recent, &self.config.gate.for_stored())
        {
            self.acknowledge(to, recent);
        }
        Ok(())
    }

    /// Flushes everything that was admitted: it leaves as one delta, at once or when the commit has ended that it has to wait for.
    pub(super) fn flush(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.life.flushed(now);
        self.flush_awareness(!self.log.batch.is_empty(), effects);
        if self.log.batch.is_empty() {
            return;
        }
        self.life.edited(now);
        let mut authored_updates = self.log.flush();
        authored_updates.retain(|authored_update| !authored_update.is_parked);
        if authored_updates.is_empty() {
            return;
        }
        let writers = self.writers_in(&authored_updates);
        let has_resync = authored_updates
            .iter()
            .any(|authored_update| authored_update.arrival == Arrival::Resync);
        let waits_for = match has_resync {
            true => Some(self.log.latest()),
            // Told in another order, it would be early for everybody if the server were killed in between.
            false => self.log.deferred_until(),
        };
        match waits_for.filter(|flush| !self.log.is_stored(*flush)) {
            Some(flush) => self.log.defer(flush, authored_updates, writers),
            None => self.tell(&authored_updates, writers, effects),
        }
        self.claims.caught_up(self.document.state_vector());
        self.answers.ack_replay.edited(now, self.document.state_vector());
    }

    /// Tells the members the flushes that have been deferred for long enough.
    pub(super) fn tell_deferred(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        // What is stored by one commit is one message.
        let mut durable = Vec::new();
        while let Some(deferred) = self.log.next_deferred(now) {
            if self.log.is_stored(deferred.durable_with) {
                durable.extend(deferred.authored_updates);
            } else {
                self.announce(&std::mem::take(&mut durable), effects);
                self.tell(&deferred.authored_updates, deferred.writers, effects);
            }
        }
        self.announce(&durable, effects);
    }

    /// Everybody gets one delta with everything; who wrote gets what the others wrote, because its own edits come back to it only as
    /// an acknowledgement. So does whoever wrote something that somebody else brings, such as another member who heard of it
    /// before the server was killed.
    fn tell(
        &mut self,
        flush: &[AuthoredUpdate],
        mut writers: BTreeMap<MemberId, Vec<usize>>,
        effects: &mut Vec<Effect>,
    ) {
        writers.retain(|member, _| self.members.contains_key(member));
        self.send_flush(flush, &writers, effects);
        for (to, own) in writers {
            let brought = own.iter().filter_map(|index| flush.get(*index));
            let mut brought = brought
                .filter(|authored_update| authored_update.author.member() != Some(to))
                .map(|authored_update| &authored_update.update)
                .peekable();
            if brought.peek().is_some() {
                self.acknowledge(to, merged(brought));
            }
        }
    }

    /// Everybody gets what is durable, except who brought it.
    fn announce(&mut self, flush: &[AuthoredUpdate], effects: &mut Vec<Effect>) {
        let mut authors: BTreeMap<MemberId, Vec<usize>> = BTreeMap::new();
        for (index, authored_update) in flush.iter().enumerate() {
            if let Some(member) = authored_update.author.member() {
                authors.entry(member).or_default().push(index);
            }
        }
        self.send_flush(flush, &authors, effects);
    }

    /// Sends a flush to the members that follow, to each without its own authored_updates.
    fn send_flush(
        &mut self,
        flush: &[AuthoredUpdate],
        own: &BTreeMap<MemberId, Vec<usize>>,
        effects: &mut Vec<Effect>,
    ) {
        if flush.is_empty() {
            return;
        }
        let (mut everything, mut sent, mut dropped) = (None, 0, Vec::new());
        for (member, seat) in &self.members {
            if matches!(seat.follower, Follower::Asking) {
                continue;
            }
            let message = match own.get(member) {
                None => everything.get_or_insert_with(|| delta(flush.iter())).clone(),
                Some(own) if own.len() == flush.len() => continue,
                Some(own) => {
                    let others = flush.iter().enumerate();
                    let others = others.filter(|(index, _)| !own.contains(index));
                    delta(others.map(|(_, authored_update)| authored_update))
                }
            };
            match seat.outlet.push(&message) {
                Pushed::Queued => sent += 1,
                Pushed::FellBehind | Pushed::Behind => dropped.push(*member),
            }
        }
        if sent > 0 {
            effects.push(Effect::Count(Count::Deltas, sent));
        }
        if dropped.is_empty() {
            return;
        }
        let ranges = || {
            flush
                .iter()
                .flat_map(|authored_update| authored_update.update.ranges())
        };
        let sent = self.log.sent(self.document.state_vector());
        let sent = before(&sent, ranges());
        for member in dropped {
            self.fell_behind(member, &sent, ranges());
        }
    }

    /// Gives a member an acknowledgement of something that is durable.
    pub(super) fn echo(&mut self, to: MemberId, update: &Update) {
        let Some(seat) = self.members.get(&to) else {
            return;
        };
        let message = Outgoing::new(ServerMessage::Stored(update.bytes().clone()));
        match seat.outlet.push(&message) {
            Pushed::Queued => {}
            Pushed::FellBehind | Pushed::Behind => {
                let sent = self.log.sent(self.document.state_vector());
                let sent = before(&sent, update.ranges());
                self.fell_behind(to, &sent, update.ranges());
            }
        }
    }

    /// Something with these ranges did not fit into a member's outbox. Otherwise it has been sent what `sent` says.
    fn fell_behind(
        &mut self,
        member: MemberId,
        sent: &StateVector,
        ranges: impl Iterator<Item = ClientRange>,
    ) {
        let Some(seat) = self.members.get_mut(&member) else {
            return;
        };
        let lacks_from = match &seat.follower {
            Follower::Behind(has) => before(has, ranges),
            // It has not said what it has.
            Follower::Asking => StateVector::new(),
            Follower::Following => match self.promises.take_back_reply(member) {
                Some(has) => common(sent, &has),
                None => sent.clone(),
            },
        };
        seat.follower = Follower::Behind(lacks_from);
    }

    /// The members who wrote something of a flush, each with the indices of the authored_updates that hold something of it.
    fn writers_in(&self, flush: &[AuthoredUpdate]) -> BTreeMap<MemberId, Vec<usize>> {
        let mut writers: BTreeMap<MemberId, Vec<usize>> = BTreeMap::new();
        for (index, authored_update) in flush.iter().enumerate() {
            let author = authored_update
                .author
                .member()
                .filter(|member| self.members.contains_key(member));
            let owners = authored_update
                .update
                .ranges()
                .flat_map(|range| {
                    self.owner(range.client)
                        .into_iter()
                        .chain(self.claims.beyond(range))
                })
                // To a member that counts, only what it sent itself is no news.
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
}

fn delta<'a>(authored_updates: impl Iterator<Item = &'a AuthoredUpdate> + Clone) -> Arc<Outgoing> {
    let traces = traces_of(authored_updates.clone());
    let update = merged(authored_updates.map(|authored_update| &authored_update.update));
    Outgoing::traced(ServerMessage::Delta(update.bytes().clone()), traces)
}
