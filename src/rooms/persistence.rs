//! When a room stores what, and who waits for it (pure policy; time is an argument).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::{ClientId, StateVector};
use storage::{Committed, Generation, NewUpdate, PageCommit, PageId, Seq};

use super::{
    CompactRequest, MemberId, Outgoing, RequestId,
    batch::{Author, Contribution, lowered},
};

/// The order in which a room's flushes become durable: ticket n is stored when everything flushed up to the n-th flush is.
pub(super) type Ticket = u64;

/// How often a page is rewritten as a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPolicy {
    /// A snapshot is at most this far behind the last edit.
    pub interval: Duration,
    /// A log of this many rows asks for a snapshot at once.
    pub max_log_rows: u64,
    /// A log of this many bytes asks for a snapshot at once.
    pub max_log_bytes: u64,
}

/// After a store has not answered for this long, joiners are served from memory.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// A snapshot that was not taken is tried again after this long, and then after twice as long each time.
const FIRST_COMPACT_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_COMPACT_PAUSE: Duration = Duration::from_secs(60);

/// A room that is empty stays for this long for its snapshot to be taken.
const CLOSING_PATIENCE: Duration = Duration::from_secs(8);

/// Rows of another process that could not be read are asked for again after this long.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Contributions are merged by author when more than this many wait, so that a store that is away costs no more than the page.
const MAX_UNSENT: usize = 256;

/// Something held back until what it contains is durable.
#[derive(Debug)]
pub(super) enum Held {
    /// What a member lacks that has what the state vector says.
    Reply(MemberId, StateVector, Arc<Outgoing>),
    /// An acknowledgement to a member.
    Echo(MemberId, Arc<Outgoing>),
    /// The answer to a backend whose update added nothing new.
    Answer(RequestId),
    /// The answer to a reader, who does not wait for a store that is late.
    Reader(RequestId),
}

/// What one flush wrote that the members have not been told, when some of it was brought by somebody who need not have written it, or when it may build on such.
#[derive(Debug)]
pub(super) struct News {
    pub(super) contributions: Vec<Contribution>,
    /// Who wrote, or may have written, which of them.
    pub(super) writers: BTreeMap<MemberId, Vec<usize>>,
    /// When all of it is durable.
    pub(super) durable_with: Ticket,
}

impl Held {
    /// Whether it is let go when the store is late.
    fn is_impatient(&self) -> bool {
        match self {
            Self::Reply(..) | Self::Reader(_) => true,
            Self::Echo(..) | Self::Answer(_) => false,
        }
    }
}

#[derive(Debug)]
struct InFlight {
    through: Ticket,
    since: Instant,
    contributions: Vec<Contribution>,
    rows: u64,
    bytes: u64,
    /// The document with exactly these rows and all before them, of which a snapshot is to be made when they are stored.
    state: Option<State>,
}

/// An encoded document and its state vector.
#[derive(Debug)]
pub(super) struct State {
    pub(super) state: Bytes,
    pub(super) state_vector: Bytes,
}

/// A snapshot that is being written.
#[derive(Debug)]
struct Compacting {
    seq: Seq,
    /// Since when; what is stored later is not covered.
    since: Instant,
    /// The size of the log that it covers.
    rows: u64,
    bytes: u64,
}

/// What became durable.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// What each author wrote, to be echoed or answered.
    pub(super) contributions: Vec<Contribution>,
    /// What was held back until now.
    pub(super) held: Vec<Held>,
    /// What the members may be told now.
    pub(super) news: Vec<News>,
    /// A snapshot that can be written now.
    pub(super) compact: Option<CompactRequest>,
}

/// Rows of another process that lie before rows of ours and are not in the document.
#[derive(Clone, Copy, Debug)]
struct Hole {
    /// The last row of ours.
    until: Seq,
    /// When to ask for them (again).
    read_at: Instant,
}

/// The persistence of one room.
#[derive(Debug)]
pub(super) struct Persistence {
    page: PageId,
    policy: SnapshotPolicy,
    generation: Option<Generation>,
    /// Every row up to this one is in the document.
    seq: Seq,
    /// What is unknown of the rows after `seq`.
    hole: Option<Hole>,
    flushed: Ticket,
    stored: Ticket,
    unsent: Vec<Contribution>,
    in_flight: Option<InFlight>,
    held: VecDeque<(Ticket, Held)>,
    /// In the order of the tickets that they wait for.
    news: VecDeque<(Ticket, News)>,
    log_rows: u64,
    log_bytes: u64,
    dirty_since: Option<Instant>,
    compacting: Option<Compacting>,
    /// After a snapshot was not taken: how long to wait, and when to try again.
    compact_again: Option<(Duration, Instant)>,
    /// Since when the room would be gone if its snapshot did not lag behind.
    closing_since: Option<Instant>,
}

impl Persistence {
    pub(super) fn new(page: PageId, policy: SnapshotPolicy, loaded: &super::Loaded) -> Self {
        Self {
            page,
            policy,
            generation: loaded.generation.clone(),
            seq: loaded.seq,
            hole: None,
            flushed: 0,
            stored: 0,
            unsent: Vec::new(),
            in_flight: None,
            held: VecDeque::new(),
            news: VecDeque::new(),
            log_rows: loaded.log_rows,
            log_bytes: loaded.log_bytes,
            dirty_since: loaded.dirty_since,
            compacting: None,
            compact_again: None,
            closing_since: None,
        }
    }

    pub(super) fn seq(&self) -> Seq {
        self.hole.map_or(self.seq, |hole| hole.until)
    }

    pub(super) fn generation(&self) -> Option<&Generation> {
        self.generation.as_ref()
    }

    /// Takes what a flush wrote. What another process stored waits for nothing of ours.
    pub(super) fn flushed(&mut self, contributions: &[Contribution]) {
        self.flushed += 1;
        let new = contributions
            .iter()
            .filter(|contribution| contribution.author != Author::Foreign);
        self.unsent.extend(new.cloned());
        if self.unsent.len() > MAX_UNSENT {
            self.unsent = merge_by_author(std::mem::take(&mut self.unsent));
        }
        if self.is_written() {
            self.stored = self.flushed;
        }
    }

    /// The ticket of everything flushed so far, or of the next flush.
    pub(super) fn ticket(&self, batch_pending: bool) -> Ticket {
        self.flushed + u64::from(batch_pending)
    }

    /// Whether two tickets, as far as is known, are stored by the same commit.
    pub(super) fn are_stored_together(&self, one: Ticket, other: Ticket) -> bool {
        let through = self
            .in_flight
            .as_ref()
            .map_or(self.stored, |in_flight| in_flight.through);
        let stage = |ticket: Ticket| (ticket > through, ticket > self.flushed);
        stage(one) == stage(other)
    }

    /// The ticket of the last flush.
    pub(super) fn flushed_ticket(&self) -> Ticket {
        self.flushed
    }

    /// Bytes that the store has not confirmed, about.
    pub(super) fn unstored_bytes(&self) -> u64 {
        let unsent: usize = self
            .unsent
            .iter()
            .map(|contribution| contribution.update.bytes().len())
            .sum();
        unsent as u64 + self.in_flight.as_ref().map_or(0, |in_flight| in_flight.bytes)
    }

    /// Whether everything up to `ticket` is durable.
    pub(super) fn is_stored(&self, ticket: Ticket) -> bool {
        self.stored >= ticket
    }

    /// Whether the store has kept us waiting for too long to make joiners wait as well.
    pub(super) fn store_is_late(&self, now: Instant) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|in_flight| now >= in_flight.since + STORE_PATIENCE)
    }

    /// Holds something back until `ticket` is stored.
    pub(super) fn hold(&mut self, ticket: Ticket, held: Held) {
        self.held.push_back((ticket, held));
    }

    /// Forgets what a member waited for.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.held
            .retain(|(_, held)| !matches!(held, Held::Reply(to, ..) | Held::Echo(to, _) if *to == member));
    }

    /// Keeps from the members what a flush wrote until `ticket` is stored, which is no earlier than what other news waits for.
    pub(super) fn hold_news(&mut self, ticket: Ticket, news: News) {
        self.news.push_back((ticket, news));
    }

    /// What the last news waits for, if there is any.
    pub(super) fn news_waits_for(&self) -> Option<Ticket> {
        self.news.back().map(|(ticket, _)| *ticket)
    }

    /// What of `known` the members have been told, as far as it was not news for them.
    pub(super) fn told(&self, known: &StateVector) -> StateVector {
        let contributions = self.news.iter().flat_map(|(_, news)| &news.contributions);
        let mut starts: BTreeMap<ClientId, u32> = BTreeMap::new();
        for range in contributions.flat_map(|contribution| contribution.update.ranges()) {
            let start = starts.entry(range.client).or_insert(range.start);
            *start = range.start.min(*start);
        }
        lowered(known, |client| starts.get(&client).copied())
    }

    /// Whether news is stored by now.
    pub(super) fn is_durable(&self, news: &News) -> bool {
        self.is_stored(news.durable_with)
    }

    /// News that is kept back no longer because the store is late.
    pub(super) fn late_news(&mut self, now: Instant) -> Vec<News> {
        match self.store_is_late(now) {
            true => self.news.drain(..).map(|(_, news)| news).collect(),
            false => Vec::new(),
        }
    }

    /// A member gets an answer with all there is, so what is held as news is none for it: it may have written it. Whether there is
    /// such news, which the answer has to come before.
    pub(super) fn answered(&mut self, member: MemberId) -> bool {
        for (_, news) in &mut self.news {
            news.writers
                .insert(member, (0..news.contributions.len()).collect());
        }
        !self.news.is_empty()
    }

    /// Takes back the reply that is held for a member, and says what it was made for. A newer one takes its place, so that at
    /// most one is held for each member, however often it asks.
    pub(super) fn take_back_reply(&mut self, member: MemberId) -> Option<StateVector> {
        let is_reply = |(_, held): &(Ticket, Held)| matches!(held, Held::Reply(to, ..) if *to == member);
        let (_, reply) = self.held.remove(self.held.iter().position(is_reply)?)?;
        match reply {
            Held::Reply(_, has, _) => Some(has),
            Held::Echo(..) | Held::Answer(_) | Held::Reader(_) => None,
        }
    }

    /// What was admitted and not flushed never will be: nothing may wait for it.
    pub(super) fn give_up_unflushed(&mut self) {
        self.held.retain(|(ticket, _)| *ticket <= self.flushed);
    }

    /// Replies that need not wait any longer because the store is late.
    pub(super) fn release_late(&mut self, now: Instant) -> Vec<Held> {
        if !self.store_is_late(now) {
            return Vec::new();
        }
        let (late, kept) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(_, held)| held.is_impatient());
        self.held = kept;
        let late: VecDeque<(Ticket, Held)> = late;
        late.into_iter().map(|(_, held)| held).collect()
    }

    /// Whether a snapshot should be written now.
    pub(super) fn snapshot_due(&self, now: Instant) -> bool {
        self.may_snapshot(now)
            && (self
                .dirty_since
                .is_some_and(|since| now >= since + self.policy.interval)
                || self.log_rows >= self.policy.max_log_rows
                || self.log_bytes >= self.policy.max_log_bytes)
    }

    /// Whether the room has to stay because the page's snapshot lags behind its log. Its log is kept, so it stays for a while only.
    pub(super) fn keeps_room(&self, now: Instant) -> bool {
        let is_dirty = self.dirty_since.is_some() || !self.is_written();
        is_dirty
            && self
                .closing_since
                .is_none_or(|since| now < since + CLOSING_PATIENCE)
    }

    /// Whether the room would be gone if the page's snapshot did not lag behind.
    pub(super) fn is_closing(&self) -> bool {
        self.closing_since.is_some()
    }

    /// Notes whether only the page's snapshot keeps the room; if so, it is due.
    pub(super) fn note_closing(&mut self, now: Instant, wants_to_go: bool) -> bool {
        let closing = wants_to_go && self.lags();
        self.closing_since = closing.then(|| self.closing_since.unwrap_or(now));
        closing && self.may_snapshot(now)
    }

    /// Whether there are stored rows that no snapshot covers, and none of them is unknown.
    fn lags(&self) -> bool {
        self.in_flight.is_none() && self.hole.is_none() && self.dirty_since.is_some() && self.seq > 0
    }

    /// Whether a snapshot could be written now.
    fn may_snapshot(&self, now: Instant) -> bool {
        self.lags() && self.compacting.is_none() && self.compact_again.is_none_or(|(_, at)| now >= at)
    }

    /// Whether something waits for a request to the store that can be made now.
    pub(super) fn can_append(&self) -> bool {
        self.in_flight.is_none() && !self.unsent.is_empty()
    }

    /// Whether everything that was flushed is stored.
    pub(super) fn is_written(&self) -> bool {
        self.in_flight.is_none() && self.unsent.is_empty()
    }

    /// Whether everything is stored, and everything stored is known.
    pub(super) fn is_settled(&self) -> bool {
        self.is_written() && self.held.is_empty() && self.news.is_empty() && self.hole.is_none()
    }

    /// Makes the next request to the store, with everything that waits. With `state`, the document as it is with all that waits, a
    /// snapshot is written when that is stored.
    pub(super) fn append(&mut self, now: Instant, state: Option<State>, size_bytes: u64) -> PageCommit {
        debug_assert!(self.in_flight.is_none(), "one request at a time");
        let contributions = std::mem::take(&mut self.unsent);
        let updates = rows(&contributions);
        self.in_flight = Some(InFlight {
            through: self.flushed,
            since: now,
            rows: updates.len() as u64,
            bytes: updates.iter().map(|row| row.data.len() as u64).sum(),
            state,
            contributions,
        });
        PageCommit {
            page: self.page.clone(),
            updates,
            size_bytes: Some(size_bytes),
        }
    }

    /// The store has kept what the last [`Self::append`] asked for.
    pub(super) fn stored(&mut self, now: Instant, committed: Committed) -> Released {
        let Some(in_flight) = self.in_flight.take() else {
            return Released::default();
        };
        self.stored = in_flight.through;
        self.generation = Some(committed.generation);
        if in_flight.rows > 0 {
            self.log_rows += in_flight.rows;
            self.log_bytes += in_flight.bytes;
            self.dirty_since.get_or_insert(now);
        }
        if let Some(hole) = &mut self.hole {
            hole.until = committed.last_seq;
        } else if committed.first_seq > self.seq + 1 {
            self.hole = Some(Hole {
                until: committed.last_seq,
                read_at: now,
            });
        } else {
            self.seq = committed.last_seq;
        }
        let mut released = self.let_stored_go();
        released.contributions = in_flight.contributions;
        if let Some(state) = in_flight.state.filter(|_| self.may_snapshot(now)) {
            released.compact = Some(self.compact(now, state));
        }
        released
    }

    /// Takes out what waited for something that is stored by now.
    pub(super) fn let_stored_go(&mut self) -> Released {
        if self.is_written() {
            self.stored = self.flushed;
        }
        let mut held = Vec::new();
        while self
            .held
            .front()
            .is_some_and(|(ticket, _)| *ticket <= self.stored)
        {
            held.extend(self.held.pop_front().map(|(_, held)| held));
        }
        let mut news = Vec::new();
        while self
            .news
            .front()
            .is_some_and(|(ticket, _)| *ticket <= self.stored)
        {
            news.extend(self.news.pop_front().map(|(_, news)| news));
        }
        Released {
            held,
            news,
            ..Released::default()
        }
    }

    /// Makes a request for a snapshot of everything that is stored.
    pub(super) fn compact(&mut self, now: Instant, State { state, state_vector }: State) -> CompactRequest {
        self.compacting = Some(Compacting {
            seq: self.seq,
            since: now,
            rows: self.log_rows,
            bytes: self.log_bytes,
        });
        CompactRequest {
            page: self.page.clone(),
            seq: self.seq,
            state,
            state_vector,
        }
    }

    /// The last [`Self::compact`] has been carried out, or not.
    pub(super) fn compacted(&mut self, now: Instant, seq: Seq, taken: bool) {
        let Some(compacting) = self.compacting.take_if(|compacting| compacting.seq == seq) else {
            return;
        };
        if taken {
            self.log_rows = self.log_rows.saturating_sub(compacting.rows);
            self.log_bytes = self.log_bytes.saturating_sub(compacting.bytes);
            self.dirty_since = (self.seq() > seq).then_some(compacting.since);
            self.compact_again = None;
        } else {
            let pause = match self.compact_again {
                Some((pause, _)) => (pause * 2).min(LONGEST_COMPACT_PAUSE),
                None => FIRST_COMPACT_PAUSE,
            };
            self.compact_again = Some((pause, now + pause));
        }
    }

    /// The rows to read now because another process wrote some of them: those between the two numbers, both exclusive. Asked
    /// for again after a while, because reading can fail.
    pub(super) fn hole_to_read(&mut self, now: Instant) -> Option<(Seq, Seq)> {
        let hole = self.hole.as_mut().filter(|hole| now >= hole.read_at)?;
        hole.read_at = now + READ_AGAIN;
        Some((self.seq, hole.until + 1))
    }

    /// All rows up to `seq` are in the document.
    pub(super) fn read_up_to(&mut self, now: Instant, seq: Seq) {
        self.seq = self.seq.max(seq);
        if let Some(hole) = &mut self.hole {
            hole.read_at = now;
            if self.seq >= hole.until {
                self.hole = None;
            }
            self.dirty_since.get_or_insert(now);
        }
    }

    /// When the policy wants to be asked again; a room that has failed writes no snapshots.
    pub(super) fn next_deadline(&self, failed: bool) -> Option<Instant> {
        let hole = self.hole.filter(|_| !failed).map(|hole| hole.read_at);
        let snapshot = self
            .dirty_since
            .filter(|_| !failed && self.lags() && self.compacting.is_none())
            .map(|since| {
                let again = self.compact_again.map(|(_, at)| at);
                let due = match self.closing_since {
                    Some(since) => since,
                    None => since + self.policy.interval,
                };
                again.map_or(due, |again| again.max(due))
            });
        let closing = self
            .closing_since
            .filter(|_| !failed && self.lags())
            .map(|since| since + CLOSING_PATIENCE);
        let late = self
            .in_flight
            .as_ref()
            .filter(|_| !self.news.is_empty() || self.held.iter().any(|(_, held)| held.is_impatient()))
            .map(|in_flight| in_flight.since + STORE_PATIENCE);
        [hole, snapshot, closing, late].into_iter().flatten().min()
    }
}

/// The log rows for some contributions: one for each run of the same user.
fn rows(contributions: &[Contribution]) -> Vec<NewUpdate> {
    contributions
        .chunk_by(|a, b| a.user == b.user)
        .filter_map(|run| {
            let first = run.first()?;
            let data = match run {
                [only] => only.update.bytes().clone(),
                _ => crdt::merge(run.iter().map(|contribution| &contribution.update))
                    .bytes()
                    .clone(),
            };
            Some(NewUpdate {
                data,
                user: first.user.clone(),
            })
        })
        .collect()
}

/// Merges contributions so that each author has one; the order between authors is given up.
pub(super) fn merge_by_author(contributions: Vec<Contribution>) -> Vec<Contribution> {
    let mut by_author: BTreeMap<(Author, bool), Vec<Contribution>> = BTreeMap::new();
    for contribution in contributions {
        by_author
            .entry((contribution.author, contribution.is_parked))
            .or_default()
            .push(contribution);
    }
    by_author
        .into_values()
        .filter_map(|mut own| match own.len() {
            1 => own.pop(),
            _ => {
                let update = crdt::merge(own.iter().map(|contribution| &contribution.update));
                own.pop().map(|last| Contribution { update, ..last })
            }
        })
        .collect()
}
