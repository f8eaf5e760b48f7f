//! The state machine of one live page: inputs and the time go in, effects come out.
//!
//! A room knows no sockets, no clock and no store. Whoever runs it ([`task`](super::task), or the simulation) follows one
//! rule: **hand over each [`Input`], then call [`Room::settle`] once, then carry out the effects in order.** A flush happens
//! in `settle`: everything admitted since the last one is applied in one transaction and leaves as one delta. Before
//! [`Input::CaughtUp`] all effects are carried out, because what does not find place in an outbox is part of what a member
//! has to catch up with.

mod ahead;
mod authorship;
mod documents;
mod early;
mod marks;
mod presence;
mod receipts;
mod recent;
#[cfg(test)]
mod tests;
mod viewers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::{Awareness, AwarenessChange, ClientId, Document, StateVector, Update};
use storage::{Generation, PageId, Seq};

pub(super) use self::marks::Mark;
use self::{ahead::Ahead, recent::Recent, viewers::Viewers};
use super::{
    Capabilities, Departure, Effect, Input, MemberId, Outgoing, Refusal, RefusalCode, RequestId, Role,
    ServerMessage, SnapshotPolicy, Viewer,
    batch::{Arrival, Author, Batch, lowered},
    member::Member,
    persistence::{Held, News, Persistence, Released, State},
};

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
}

/// One live page.
#[derive(Debug)]
pub struct Room {
    config: Arc<RoomConfig>,
    document: Document,
    /// Some member's early update could not be kept.
    has_unkept: bool,
    /// Somebody has left of whom others may have brought something.
    has_departed: bool,
    awareness: Awareness<MemberId>,
    awareness_changes: BTreeMap<ClientId, AwarenessChange>,
    /// In boxes, because a tree has place for eleven and most rooms have one or two.
    members: BTreeMap<MemberId, Box<Member>>,
    /// Who has not yet asked for what it lacks, and is told nothing of the document until then.
    newcomers: BTreeSet<MemberId>,
    ahead: Ahead,
    /// Members that have not been told what all of their document messages came to.
    unreceipted: BTreeSet<MemberId>,
    viewers: Viewers,
    /// Members whose marks are to be said back.
    marked: BTreeSet<MemberId>,
    /// Which members have written with which client ids; each is its user's, and the newest member's who is here.
    client_owners: BTreeSet<(ClientId, MemberId)>,
    batch: Batch,
    /// The whole document as last sent, shared by everybody who has nothing yet for as long as it waits for one of them.
    whole: Weak<Outgoing>,
    persistence: Persistence,
    recent: Recent,
    last_flush: Option<Instant>,
    last_edit: Instant,
    empty_since: Option<Instant>,
    draining: bool,
    abandoned: bool,
    failed: bool,
    retired: bool,
}

/// Up to this many members a room never holds a flush back.
const NEVER_WAITS: usize = 8;
/// Each further member adds this to the window between two flushes.
const WINDOW_PER_MEMBER: Duration = Duration::from_micros(500);

impl Room {
    /// Opens a room on what was loaded.
    pub fn new(now: Instant, page: PageId, config: impl Into<Arc<RoomConfig>>, loaded: Loaded) -> Self {
        let config = config.into();
        let persistence = Persistence::new(page, config.snapshots, &loaded);
        Self {
            has_unkept: false,
            has_departed: false,
            awareness: Awareness::new(config.awareness),
            config,
            document: loaded.document,
            awareness_changes: BTreeMap::new(),
            members: BTreeMap::new(),
            newcomers: BTreeSet::new(),
            ahead: Ahead::default(),
            unreceipted: BTreeSet::new(),
            viewers: Viewers::default(),
            marked: BTreeSet::new(),
            client_owners: BTreeSet::new(),
            batch: Batch::default(),
            whole: Weak::new(),
            persistence,
            recent: Recent::new(now, loaded.before),
            last_flush: None,
            last_edit: now,
            empty_since: Some(now),
            draining: false,
            abandoned: false,
            failed: false,
            retired: false,
        }
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The sequence number up to which the page is stored.
    pub fn seq(&self) -> Seq {
        self.persistence.seq()
    }

    /// The page's generation, once it has one.
    pub fn generation(&self) -> Option<&Generation> {
        self.persistence.generation()
    }

    /// The document, for reading; everything admitted so far counts.
    pub fn document(&mut self) -> &mut Document {
        &mut self.document
    }

    /// Who is here, in the order of client ids.
    pub fn awareness(&self) -> &Awareness<MemberId> {
        &self.awareness
    }

    /// Whether everything that was admitted is stored.
    pub fn is_settled(&self) -> bool {
        self.batch.is_empty() && self.persistence.is_settled()
    }

    /// Takes in something that happened.
    pub fn handle(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Joined {
                member,
                role,
                viewer,
                badge,
                capabilities,
            } => {
                self.joined(now, member, role, viewer, capabilities, effects);
                if let Some(badge) = badge.filter(|_| self.members.contains_key(&member)) {
                    self.awareness.wear(now, member, badge);
                }
            }
            Input::Said { member, messages } => self.said(now, member, messages, effects),
            Input::Left { member, departure } => self.left(now, member, departure),
            Input::RoleChanged { member, role } => self.role_changed(member, role, effects),
            Input::Removed { member, refusal } => self.close(now, member, refusal, effects),
            Input::FellBehind { member } => self.fell_behind(member),
            Input::LateDropped { member, update } => self.late_dropped(member, update),
            Input::CaughtUp { member } => self.caught_up(now, member, effects),
            Input::Posted {
                request,
                member,
                user,
                update,
            } => self.posted(request, (member, user), update, effects),
            Input::Announced { payload } => self.announced(None, payload, effects),
            Input::Awaited { request } => self.awaited(now, request, effects),
            Input::Stored { committed } => {
                let released = self.persistence.stored(now, committed);
                self.release(released, effects);
            }
            Input::Compacted { seq, taken } => self.persistence.compacted(now, seq, taken),
            Input::Foreign { rows } => self.foreign(now, rows, effects),
            Input::Draining { abandon } => {
                self.draining = true;
                self.abandoned |= abandon;
            }
        }
    }

    /// Flushes what is due, stores what can be stored, and looks at the clock.
    pub fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.expire(now);
        self.ask_for_what_was_withheld(effects);
        // A snapshot holds nothing that is in no row, so what is admitted goes into the log with it.
        if self.flush_due(now) || (self.has_pending() && self.snapshot_due(now)) {
            self.flush(now, effects);
            let released = self.persistence.let_stored_go();
            self.release(released, effects);
        }
        self.tell_viewers(now, effects);
        self.ask_again(effects);
        for held in self.persistence.release_late(now) {
            self.let_go(held, effects);
        }
        for news in self.persistence.late_news(now) {
            self.tell(&news.contributions, news.writers, ServerMessage::Brought, effects);
        }
        if !self.failed
            && let Some((after, before)) = self.persistence.hole_to_read(now)
        {
            effects.push(Effect::ReadForeign { after, before });
        }
        self.store(now, effects);
        self.tell_receipts(effects);
        self.tell_marks(effects);
        self.rest(now, effects);
        self.batch.delivered();
    }

    /// When [`Self::settle`] wants to be called again even if nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let flush = self.has_pending().then(|| self.window_end()).flatten();
        let idle = self
            .empty_since
            .filter(|_| self.persistence.is_settled() && !self.persistence.is_closing() && !self.retired)
            .map(|since| since + self.config.idle);
        let sleep = (self.document.can_sleep() && self.is_settled() && !self.failed)
            .then(|| self.last_edit + self.config.sleep);
        [
            flush,
            idle,
            sleep,
            self.persistence.next_deadline(self.failed),
            self.awareness.next_deadline(),
            self.viewers.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn joined(
        &mut self,
        now: Instant,
        member: MemberId,
        role: Role,
        viewer: Viewer,
        capabilities: Capabilities,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = if self.draining {
            Some(Refusal::draining())
        } else if self.failed {
            Some(Refusal::unavailable("the page is being rebuilt, connect again"))
        } else if self.config.max_members != 0 && self.members.len() >= self.config.max_members {
            Some(Refusal::new(
                RefusalCode::RoomFull,
                format!("the page has {} members, which is the limit", self.members.len()),
            ))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            effects.push(Effect::Close { member, refusal });
            return;
        }
        // What is still to be told was said before it came. Its id is the highest.
        for effect in effects.iter_mut() {
            if let Effect::Broadcast { except, .. } = effect {
                except.push(member);
            }
        }
        let user = viewer.user.clone();
        self.members
            .insert(member, Box::new(Member::new(role, user, capabilities)));
        self.viewers.came(member, viewer, capabilities.viewers);
        self.newcomers.insert(member);
        self.empty_since = None;
        let step1 = ServerMessage::SyncStep1(self.document.state_vector().encode());
        effects.push(Effect::Send {
            to: member,
            message: Outgoing::new(step1),
        });
        self.send_awareness(now, member, effects);
    }

    fn left(&mut self, now: Instant, member: MemberId, departure: Departure) {
        if self.members.remove(&member).is_none() {
            return;
        }
        self.newcomers.remove(&member);
        self.ahead.forget(member);
        self.viewers.went(member);
        self.persistence.forget(member);
        self.unreceipted.remove(&member);
        self.client_owners.retain(|(_, owner)| *owner != member);
        self.has_departed = true;
        self.withdraw(now, member, departure);
        if self.members.is_empty() {
            self.empty_since = Some(now);
        }
    }

    /// Whoever may no longer edit is told so, and nothing of it that waits for something is taken in later; whoever may edit now is
    /// asked for what it wrote while it might not.
    fn role_changed(&mut self, member: MemberId, role: Role, effects: &mut Vec<Effect>) {
        let Some(seat) = self.members.get_mut(&member) else {
            return;
        };
        let before = std::mem::replace(&mut seat.role, role);
        if before.may_edit() == role.may_edit() {
            return;
        }
        seat.told_read_only = !role.may_edit();
        let message = if role.may_edit() {
            ServerMessage::SyncStep1(self.document.state_vector().encode())
        } else {
            ServerMessage::Refused(Refusal::read_only())
        };
        effects.push(Effect::Send {
            to: member,
            message: Outgoing::new(message),
        });
    }

    fn fell_behind(&mut self, member: MemberId) {
        let before = self.batch.state_vector_before(self.document.state_vector());
        // What is kept back has not been told to anybody either.
        let before = self.persistence.told(&before);
        if let Some(member) = self.members.get_mut(&member) {
            member.behind.get_or_insert(before);
        }
    }

    fn awaited(&mut self, now: Instant, request: RequestId, effects: &mut Vec<Effect>) {
        let ticket = self.persistence.ticket(!self.batch.is_empty());
        if self.persistence.is_stored(ticket) || self.persistence.store_is_late(now) {
            self.let_go(Held::Reader(request), effects);
        } else {
            self.persistence.hold(ticket, Held::Reader(request));
        }
    }

    fn late_dropped(&mut self, member: MemberId, update: Bytes) {
        self.fell_behind(member);
        let behind = self
            .members
            .get_mut(&member)
            .and_then(|member| member.behind.as_mut());
        if let (Some(behind), Ok(update)) = (behind, Update::parse(update, &self.config.gate)) {
            let start = |client| {
                update
                    .ranges()
                    .filter(|range| range.client == client)
                    .map(|range| range.start)
                    .min()
            };
            *behind = lowered(behind, start);
        }
    }

    /// Bytes that the store has not confirmed, about.
    pub fn unstored_bytes(&self) -> u64 {
        self.persistence.unstored_bytes()
    }

    /// Whether the next [`Self::settle`] will merge the page into a snapshot, which takes time in proportion to its size.
    pub fn snapshot_due(&self, now: Instant) -> bool {
        self.persistence.snapshot_due(now)
    }

    /// Sends a member away: it leaves the room, cleanly, and is hung up on.
    fn close(&mut self, now: Instant, member: MemberId, refusal: Refusal, effects: &mut Vec<Effect>) {
        if self.members.contains_key(&member) {
            self.left(now, member, Departure::Clean);
            effects.push(Effect::Close { member, refusal });
        }
    }

    fn has_pending(&self) -> bool {
        !self.batch.is_empty() || !self.awareness_changes.is_empty()
    }

    /// When the window of the last flush ends; `None` when flushes need not wait.
    fn window_end(&self) -> Option<Instant> {
        let crowd = self.members.len().saturating_sub(NEVER_WAITS);
        let window = WINDOW_PER_MEMBER
            .saturating_mul(u32::try_from(crowd).unwrap_or(u32::MAX))
            .min(self.config.max_window);
        self.last_flush.filter(|_| crowd > 0).map(|last| last + window)
    }

    fn flush_due(&self, now: Instant) -> bool {
        self.has_pending() && (self.draining || self.window_end().is_none_or(|end| now >= end))
    }

    /// Asks the store to keep what it can be asked now: at most one request of each kind at a time.
    fn store(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let may_go = self.members.is_empty() && self.wants_to_go(now) && !self.failed;
        let closing = self.persistence.note_closing(now, may_go);
        let snapshot_due = !self.failed && self.batch.is_empty() && (closing || self.snapshot_due(now));
        let state = if snapshot_due { self.state() } else { None };
        if self.persistence.can_append() {
            let size = self.document.encoded_size_estimate() as u64;
            effects.push(Effect::Append(self.persistence.append(now, state, size)));
        } else if let Some(state) = state {
            effects.push(Effect::Compact(self.persistence.compact(now, state)));
        }
    }

    /// The document as it is, with what waits in it for something missing.
    fn state(&mut self) -> Option<State> {
        match self.document.snapshot() {
            Ok(crdt::Snapshot { state, state_vector }) => Some(State { state, state_vector }),
            Err(error) => {
                self.failed = true;
                tracing::error!(%error, "the page could not be merged into a snapshot; its log is kept and the room is rebuilt");
                None
            }
        }
    }

    fn wants_to_go(&self, now: Instant) -> bool {
        self.draining
            || self.failed
            || self
                .empty_since
                .is_some_and(|since| now >= since + self.config.idle)
    }

    /// Ends the room when nothing holds it, or lets its document sleep.
    fn rest(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        // A room that has failed is rebuilt from the store, so it has no use for what it does not know.
        let is_settled = match self.failed {
            true => self.persistence.is_written(),
            false => self.is_settled(),
        };
        let may_part = is_settled || self.abandoned;
        if (self.draining || self.failed) && may_part && !self.members.is_empty() {
            let refusal = match self.draining {
                true => Refusal::draining(),
                false => Refusal::unavailable("the page is being rebuilt, connect again"),
            };
            for member in self.members.keys().copied().collect::<Vec<_>>() {
                self.close(now, member, refusal.clone(), effects);
            }
        }
        let snapshot_lags = self.persistence.keeps_room(now) && !self.failed;
        if self.members.is_empty() && is_settled && self.wants_to_go(now) && !snapshot_lags && !self.retired {
            self.retired = true;
            effects.push(Effect::Retire);
        } else if self.document.can_sleep()
            && is_settled
            && !self.failed
            && now >= self.last_edit + self.config.sleep
        {
            self.doze();
        }
    }

    fn doze(&mut self) {
        if let Err(error) = self.document.sleep() {
            self.failed = true;
            tracing::error!(%error, "the document could not be put to sleep; the room is rebuilt");
        }
    }

    /// Someone took a lease just when the room wanted to go: it stays.
    pub fn stay(&mut self, now: Instant) {
        self.retired = false;
        self.empty_since = self.empty_since.map(|_| now);
    }

    fn release(&mut self, released: Released, effects: &mut Vec<Effect>) {
        let seq = self.persistence.seq();
        for contribution in super::persistence::merge_by_author(released.contributions) {
            match contribution.author {
                Author::Member(to) => {
                    let echo = ServerMessage::Stored(contribution.update.bytes().clone());
                    // What waits for something missing comes back to its author when it takes effect.
                    if self.wants_echo(to) && !contribution.is_parked {
                        effects.push(Effect::Send {
                            to,
                            message: Outgoing::new(echo),
                        });
                    }
                }
                Author::Request(request, _) => effects.push(Effect::Answer {
                    request,
                    result: Ok(seq),
                }),
                Author::Foreign => {}
            }
        }
        for held in released.held {
            self.let_go(held, effects);
        }
        // What is stored by one commit is one message.
        let mut stored = Vec::new();
        for news in released.news {
            if self.persistence.is_durable(&news) {
                stored.extend(news.contributions);
            } else {
                self.announce(&std::mem::take(&mut stored), effects);
                self.tell(&news.contributions, news.writers, ServerMessage::Brought, effects);
            }
        }
        self.announce(&stored, effects);
        effects.extend(released.compact.map(Effect::Compact));
    }

    fn let_go(&mut self, held: Held, effects: &mut Vec<Effect>) {
        match held {
            Held::Reply(to, _, message) | Held::Echo(to, message) => {
                effects.push(Effect::Send { to, message })
            }
            Held::Answer(request) | Held::Reader(request) => {
                effects.push(Effect::Answer {
                    request,
                    result: Ok(self.persistence.seq()),
                });
            }
        }
    }

    /// Members in ascending order.
    pub fn members(&self) -> BTreeSet<MemberId> {
        self.members.keys().copied().collect()
    }
}
