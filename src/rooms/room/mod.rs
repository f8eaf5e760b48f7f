//! The state machine of one live page: inputs and the time go in; messages for the members and effects come out.
//!
//! A room knows no sockets, no clock and no store. Whoever runs it ([`task`](super::task), or the simulation) follows one
//! rule: **hand over each [`Input`], then call [`Room::settle`] once, then carry out the effects in order.** Members are told
//! through their [`Outlet`]s at once. A flush happens in `settle`: everything admitted since the last one leaves as one delta.
//!
//! # The life of an acknowledgement
//!
//! ```text
//!  an update ── admitted ──► batch ── flush n ──► unsent ── a commit begins ──► under way ── it ends ──► flush n is durable
//!                              │        │
//!                              │        ├─► the other members, at once (`followers`)
//!                              │        └─► after a resync: everybody, when flush n is durable (`log`: deferred)
//!                              └─► a promise for flush n (`promises`): the echo, the outcome, the answer, the step 2, the barrier
//! ```
//!
//! At most one commit is under way, and everything that is flushed meanwhile leaves with the next ([`log`]). Whatever waits for
//! durability waits for the number of a flush, and is told in `settle` when that is durable ([`promises`]).

mod ack_replay;
mod authorship;
mod barriers;
mod batch;
mod claims;
mod compaction;
mod documents;
mod early;
mod followers;
mod life;
mod log;
mod member;
mod members;
mod position;
mod presence;
mod promises;
mod stateless;
mod status;
mod storing;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crdt::{Awareness, Document, EndedClients, StateVector};
use storage::{Generation, PageId, Seq};

pub use self::compaction::SnapshotPolicy;
use self::{
    ack_replay::AckReplay,
    claims::Claims,
    compaction::Compaction,
    early::Early,
    followers::Answers,
    life::{Life, Phase},
    log::Log,
    member::Member,
    position::Position,
    presence::Presence,
    promises::Promises,
};
use super::{
    Capabilities, ClientMessage, CompactRequest, Condition, Count, Departure, Effect, Input, MemberId,
    Outgoing, Outlet, Pushed, Refusal, RefusalCode, RequestId, Role, SERVER, ServerMessage, ShownStates,
    Sight,
};
use crate::telemetry::Traces;

/// What a room needs to know about its surroundings.
#[derive(Clone, Debug)]
pub struct RoomConfig {
    /// Limits of the gate.
    pub gate: crdt::Limits,
    /// When snapshots are written.
    pub snapshots: SnapshotPolicy,
    /// An empty room leaves memory after this time.
    pub idle: Duration,
    /// Longest time between two flushes of a crowded room.
    pub max_window: Duration,
    /// Largest page, in bytes of its encoded state; 0 for no limit.
    pub max_page_bytes: u64,
    /// Most members; 0 for no limit.
    pub max_members: usize,
    /// Limits of presence.
    pub awareness: crdt::AwarenessLimits,
    /// A quiet room keeps only the encoded state of its document after this time.
    pub sleep: Duration,
}

/// What a room is opened with.
#[derive(Debug)]
pub struct Loaded {
    /// The document, with everything stored in it.
    pub document: Document,
    /// The page's generation; `None` when it has never been stored.
    pub generation: Option<Generation>,
    /// Number of the last stored row.
    pub seq: Seq,
    /// Rows that no snapshot covers.
    pub log_rows: u64,
    /// Their size in bytes.
    pub log_bytes: u64,
    /// Since when the snapshot lags behind the log.
    pub dirty_since: Option<Instant>,
    /// The state vector of the snapshot, if the log goes beyond one: what is in the log was written lately.
    pub before: StateVector,
    /// The clients of former generations.
    pub ended: Arc<EndedClients>,
}

/// One live page.
#[derive(Debug)]
pub struct Room {
    config: Arc<RoomConfig>,
    document: Document,
    /// In boxes, because a tree has place for eleven and most rooms have one or two.
    members: BTreeMap<MemberId, Box<Member>>,
    presence: Presence,
    claims: Claims,
    early: Early,
    answers: Answers,
    log: Log,
    promises: Promises,
    position: Position,
    compaction: Compaction,
    life: Life,
}

impl Room {
    /// Opens a room on what was loaded.
    pub fn new(now: Instant, page: PageId, config: impl Into<Arc<RoomConfig>>, loaded: Loaded) -> Self {
        let config = config.into();
        Self {
            members: BTreeMap::new(),
            presence: Presence::new(config.awareness),
            claims: Claims::default(),
            early: Early::default(),
            log: Log::default(),
            promises: Promises::default(),
            compaction: Compaction::new(config.snapshots, &loaded),
            position: Position::new(page, loaded.generation, loaded.ended, loaded.seq),
            answers: Answers::new(AckReplay::new(now, loaded.before)),
            life: Life::new(now),
            document: loaded.document,
            config,
        }
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Members in ascending order.
    pub fn members(&self) -> BTreeSet<MemberId> {
        self.members.keys().copied().collect()
    }

    /// The sequence number up to which the page is stored.
    pub fn seq(&self) -> Seq {
        self.position.seq()
    }

    /// The page's generation, once it has one.
    pub fn generation(&self) -> Option<&Generation> {
        self.position.generation()
    }

    /// The document, for reading; everything admitted so far counts.
    pub fn document(&mut self) -> &mut Document {
        &mut self.document
    }

    /// The clients of former generations of the page.
    pub fn ended_clients(&self) -> &Arc<EndedClients> {
        &self.position.ended
    }

    /// Who is here, in the order of client ids.
    pub fn awareness(&self) -> &Awareness<MemberId> {
        &self.presence.awareness
    }

    /// Bytes that the store has not confirmed, about.
    pub fn unstored_bytes(&self) -> u64 {
        self.log.unstored_bytes()
    }

    /// Whether the document is exactly what the rows up to [`Self::seq`] make of it.
    pub fn is_stored(&self) -> bool {
        self.log.batch.is_empty() && self.log.is_written() && !self.position.has_gap()
    }

    /// Whether everything that was admitted is stored, everything stored is in the document, and nothing waits to be told.
    pub fn is_settled(&self) -> bool {
        self.is_stored() && !self.log.has_deferred() && self.promises.is_empty() && !self.answers.are_owed()
    }

    /// The spans that go with what is handed over from now on.
    pub(super) fn trace(&mut self, traces: Traces) {
        self.log.traces = traces;
    }

    /// The spans that go with the commit that is under way.
    pub(super) fn committing(&self) -> Traces {
        self.log.committing()
    }

    /// Takes in something that happened.
    pub fn handle(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Joined {
                member,
                role,
                user,
                stamp,
                outlet,
            } => self.joined(now, member, role, (user, stamp), outlet, effects),
            Input::Said { member, messages } => self.said(now, member, messages, effects),
            Input::Left { member, departure } => self.left(now, member, departure),
            Input::RoleChanged { member, role } => self.role_changed(member, role),
            Input::Removed { member, refusal } => self.close(now, member, refusal, effects),
            Input::Drained { member } => self.drained(member),
            Input::Posted {
                request,
                member,
                user,
                update,
                condition,
            } => self.posted(request, (member, user), (update, condition), effects),
            Input::Announced { payload } => self.announced(None, payload, effects),
            Input::Awaited { request } => self.awaited(now, request, effects),
            Input::Stored { committed } => self.stored(now, committed, effects),
            Input::Compacted { seq, taken } => {
                self.compaction.ended(now, seq, self.position.seq(), taken);
            }
            Input::Remote { rows } => self.foreign(now, rows, effects),
            Input::Watched { is_watched } => self.watched(now, is_watched, effects),
            Input::Shown { states } => self.show(now, &states),
            Input::Draining { abandon } => self.life.drain(abandon),
        }
    }

    /// Tells what may be told, flushes what is due, stores what can be stored, and looks at the clock.
    pub fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.expire(now);
        self.keep_promises(now, effects);
        self.tell_deferred(now, effects);
        self.ask_again();
        // A snapshot holds nothing that is in no row, so what is admitted goes into the log with it. And what was written before
        // somebody asked is part of the answer: told later, it could be taken for the acknowledgement of what still comes through an
        // older connection.
        if self.flush_due(now)
            || (!self.log.batch.is_empty() && self.answers.are_owed())
            || (self.has_pending() && self.snapshot_due(now))
        {
            self.flush(now, effects);
        }
        self.answer_owed(now, effects);
        self.tell_outcomes();
        self.part(now, effects);
        if !self.life.has_failed()
            && let Some((after, before)) = self.position.gap_to_read(now)
        {
            effects.push(Effect::ReadForeign {
                generation: self.position.generation().cloned(),
                after,
                before,
            });
        }
        self.store(now, effects);
    }

    /// When [`Self::settle`] wants to be called again even if nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let flush = self
            .has_pending()
            .then(|| self.life.window_end(self.members.len(), &self.config))
            .flatten();
        let idle = self
            .life
            .idle_at(&self.config)
            .filter(|_| self.is_complete() && !self.compaction.is_closing());
        let is_read = !self.life.has_failed();
        let sleep = (self.life.is_open() && self.document.can_sleep() && self.is_settled())
            .then(|| self.life.sleep_at(&self.config));
        let gap = self.position.next_deadline().filter(|_| is_read);
        let snapshot = self
            .compaction
            .next_deadline()
            .filter(|_| is_read && self.can_compact());
        let late = self
            .log
            .late_at()
            .filter(|_| self.log.has_deferred() || self.promises.is_impatient());
        [
            flush,
            idle,
            sleep,
            gap,
            snapshot,
            late,
            self.presence.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn has_pending(&self) -> bool {
        !self.log.batch.is_empty() || self.presence.has_changed()
    }

    fn flush_due(&self, now: Instant) -> bool {
        let window_end = self.life.window_end(self.members.len(), &self.config);
        self.has_pending() && window_end.is_none_or(|end| now >= end)
    }

    /// Whether nothing is lost when the room ends. A room that has failed is rebuilt from the store, so it has no use for what it does
    /// not know.
    fn is_complete(&self) -> bool {
        match self.life.has_failed() {
            true => self.log.batch.is_empty() && self.log.is_written(),
            false => self.is_settled(),
        }
    }

    /// Sends everybody away when the room is about to end, or lets its document sleep.
    fn part(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let refusal = match self.life.phase() {
            Phase::Open => None,
            Phase::Draining => self.is_complete().then(Refusal::draining),
            Phase::Abandoned => Some(Refusal::draining()),
            Phase::Failed => self
                .is_complete()
                .then(|| Refusal::unavailable("the page is being rebuilt, connect again")),
        };
        if let Some(refusal) = refusal {
            for member in self.members() {
                self.close(now, member, refusal.clone(), effects);
            }
        } else if self.document.can_sleep()
            && self.is_settled()
            && now >= self.life.sleep_at(&self.config)
            && let Err(error) = self.document.sleep()
        {
            self.fail(&error, effects);
        }
    }

    /// Whether nothing holds the room in memory any more. Whoever runs it ends it, or calls [`Self::stay`].
    pub fn may_retire(&self, now: Instant) -> bool {
        let waits_for_snapshot = !self.life.has_failed()
            && (self.compaction.is_dirty() || !self.log.is_written())
            && self.compaction.keeps_room(now);
        self.members.is_empty()
            && self.is_complete()
            && self.life.wants_to_go(now, &self.config)
            && !waits_for_snapshot
    }

    /// Someone took a lease just when the room wanted to go: it stays.
    pub fn stay(&mut self, now: Instant) {
        self.life.stay(now);
    }
}
