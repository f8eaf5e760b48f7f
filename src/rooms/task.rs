//! Runs one room: mailbox in, effects carried out, results fed back as inputs. The only meeting of room, clock and store.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use crdt::Badge;
use futures_util::{FutureExt, future::BoxFuture};
use storage::{Committed, LoggedUpdate, PageId, Seq, SharedStore, StoreError, StoredPage};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    ClientMessage, Count, Departure, Effect, Input, Loaded, MemberId, Outbox, Refusal, RefusalCode,
    RequestId, Role, Room, Viewer, open_document,
    registry::{Shared, SlotId},
    standing::{Calls, Change, Standing},
};

/// Something for a room's mailbox. Kept small: a mailbox has room for many.
#[derive(Debug)]
pub(super) enum Command {
    Join(Box<Join>),
    Said {
        member: MemberId,
        messages: Vec<ClientMessage>,
        /// For a large message: its share of what may be under way to all rooms.
        large: Option<Box<OwnedSemaphorePermit>>,
    },
    Left {
        member: MemberId,
        departure: Departure,
    },
    CaughtUp {
        member: MemberId,
    },
    Post(Box<Post>),
    Announce(Box<Announce>),
    Await(oneshot::Sender<Result<Seq, Refusal>>),
    Read(Reading),
    Drain,
    Abandon,
}

/// A backend has something to say to the members; answered by how many there are to hear it.
#[derive(Debug)]
pub(super) struct Announce {
    pub(super) payload: bytes::Bytes,
    pub(super) reply: oneshot::Sender<usize>,
}

/// A connection wants a seat.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) role: Role,
    pub(super) viewer: Viewer,
    pub(super) badge: Option<Arc<Badge>>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) standing: Arc<Standing>,
    /// Its number in the room, and up to where the page is stored.
    pub(super) reply: oneshot::Sender<Result<(MemberId, Seq), Refusal>>,
}

/// A backend or a member wants an update stored.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) member: Option<MemberId>,
    pub(super) user: Option<Arc<str>>,
    pub(super) update: bytes::Bytes,
    pub(super) reply: oneshot::Sender<Result<Seq, Refusal>>,
}

/// Something that wants to look at a live room. It runs in the room's task and must be quick for its size.
pub(super) struct Reading(pub(super) Box<dyn FnOnce(&mut Room) + Send>);

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

/// Work on a document of this size or with messages of this many bytes may take long enough to get out of the way of other tasks.
const HEAVY_BYTES: u64 = 256 * 1024;
/// Commands taken from the mailbox at once.
const MAX_BATCH: usize = 256;
/// Rows of another process read at once.
const MAX_FOREIGN_ROWS: usize = 10_000;

/// A room and what carries out its effects.
struct RoomTask {
    page: PageId,
    slot: SlotId,
    shared: Arc<Shared>,
    room: Room,
    standings: BTreeMap<MemberId, Arc<Standing>>,
    answers: BTreeMap<RequestId, oneshot::Sender<Result<Seq, Refusal>>>,
    next_request: u64,
    append: Option<oneshot::Receiver<Committed>>,
    compaction: Option<(Seq, oneshot::Receiver<bool>)>,
    /// The rows of another process, when they are there.
    foreign: Option<BoxFuture<'static, Result<Vec<LoggedUpdate>, StoreError>>>,
    effects: Vec<Effect>,
    unstored_told: u64,
    members_told: usize,
    retired: bool,
}

/// Loads a page and runs its room until nothing holds it.
pub(super) async fn run(
    page: PageId,
    slot: SlotId,
    shared: Weak<Shared>,
    mut mailbox: mpsc::Receiver<Command>,
    calls: Arc<Calls>,
) {
    let Some(shared) = shared.upgrade() else { return };
    shared.metrics.rooms_open.increment(1.0);
    let ended = AssertUnwindSafe(live(&page, slot, &shared, &mut mailbox, &calls))
        .catch_unwind()
        .await;
    shared.metrics.rooms_open.decrement(1.0);
    if ended.is_err() {
        tracing::error!("a room panicked; its members are sent away and it is rebuilt from the store");
        shared.metrics.error("room_panic");
    }
    shared.remove(&page, slot);
    mailbox.close();
    // Whoever wrote between the last look into the mailbox and its end comes back to a new room.
    while let Some(command) = mailbox.recv().await {
        refuse(
            command,
            &Refusal::unavailable("the page is being opened again, connect again"),
        );
    }
}

async fn live(
    page: &PageId,
    slot: SlotId,
    shared: &Arc<Shared>,
    mailbox: &mut mpsc::Receiver<Command>,
    calls: &Calls,
) {
    let started = now();
    let stored = shared.store.load(page).await;
    let opened = RoomTask::open(page, slot, shared, stored);
    shared.metrics.room_opened(started.elapsed(), opened.is_ok());
    let mut task = match opened {
        Ok(task) => task,
        Err(refusal) => {
            tracing::warn!(%refusal, "a page could not be loaded; its joiners are asked to come back");
            shared.remove(page, slot);
            mailbox.close();
            while let Some(command) = mailbox.recv().await {
                refuse(command, &refusal);
            }
            return;
        }
    };
    let ended = AssertUnwindSafe(task.run(mailbox, calls)).catch_unwind().await;
    task.shared.writer.unstored_changed(task.unstored_told, 0);
    task.tell_members(0);
    task.room
        .hang_up(&Refusal::unavailable("the page is being rebuilt, connect again"));
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Makes a document of what is stored.
fn build(shared: &Shared, stored: Option<StoredPage>) -> Result<Loaded, Refusal> {
    let gate = shared.config.room.gate;
    let Some(stored) = stored else {
        let document = crdt::Document::new(gate);
        return Ok(Loaded {
            document,
            generation: None,
            seq: 0,
            log_rows: 0,
            log_bytes: 0,
            dirty_since: None,
            before: crdt::StateVector::new(),
        });
    };
    if stored.record.deleted_at.is_some() {
        return Err(Refusal::new(RefusalCode::PageDeleted, "the page was deleted"));
    }
    let log_rows = stored.log.len() as u64;
    let log_bytes: u64 = stored.log.iter().map(|row| row.data.len() as u64).sum();
    // What the log has beyond the snapshot was written lately; without such a log nothing is known about when.
    let covered = stored.snapshot.as_ref().filter(|_| log_rows > 0);
    let before = covered
        .and_then(|snapshot| crdt::StateVector::decode(&snapshot.state_vector, &gate).ok())
        .unwrap_or_default();
    let document = open_document(gate, stored.snapshot, stored.log).map_err(|error| {
        tracing::error!(%error, seq = stored.record.seq, "what is stored of a page does not fit together; it is not opened and not written");
        Refusal::unavailable("the page cannot be loaded")
    })?;
    Ok(Loaded {
        document,
        generation: Some(stored.record.generation),
        seq: stored.record.seq,
        log_rows,
        log_bytes,
        dirty_since: (log_rows > 0).then(now),
        before,
    })
}

fn refused(error: &StoreError) -> Refusal {
    tracing::error!(%error, "the store could not load a page");
    Refusal::unavailable("the page cannot be loaded now, connect again")
}

fn refuse(command: Command, refusal: &Refusal) {
    match command {
        Command::Join(join) => {
            let _ = join.reply.send(Err(refusal.clone()));
        }
        Command::Post(post) => {
            let _ = post.reply.send(Err(refusal.clone()));
        }
        Command::Said { .. }
        | Command::Left { .. }
        | Command::CaughtUp { .. }
        | Command::Announce(_)
        | Command::Await(_)
        | Command::Read(_)
        | Command::Drain
        | Command::Abandon => {}
    }
}

impl RoomTask {
    /// Makes a room of what the store answered. In a box, because a future has place for everything that it ever holds.
    fn open(
        page: &PageId,
        slot: SlotId,
        shared: &Arc<Shared>,
        stored: Result<Option<StoredPage>, StoreError>,
    ) -> Result<Box<Self>, Refusal> {
        let loaded = build(shared, stored.map_err(|error| refused(&error))?)?;
        Ok(Box::new(Self {
            page: page.clone(),
            slot,
            shared: shared.clone(),
            room: Room::new(now(), page.clone(), shared.config.room.clone(), loaded),
            standings: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_request: 0,
            append: None,
            compaction: None,
            foreign: None,
            effects: Vec::new(),
            unstored_told: 0,
            members_told: 0,
            retired: false,
        }))
    }

    async fn run(&mut self, mailbox: &mut mpsc::Receiver<Command>, calls: &Calls) {
        let mut commands = Vec::new();
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        // Deadlines mostly move away: an alarm that rings too early is set again, which is cheaper than moving it each time.
        let mut alarm_at: Option<Instant> = None;
        while !self.retired {
            if let Some(deadline) = self.room.next_deadline()
                && alarm_at.is_none_or(|at| deadline < at)
            {
                alarm.as_mut().reset(deadline.into());
                alarm_at = Some(deadline);
            }
            tokio::select! {
                biased;
                () = calls.called() => self.look_at(calls),
                committed = answered(&mut self.append) => self.stored(committed),
                (seq, taken) = compacted(&mut self.compaction) => {
                    self.compaction = None;
                    self.handle(Input::Compacted { seq, taken });
                }
                rows = read(&mut self.foreign) => self.read_foreign(rows),
                taken = mailbox.recv_many(&mut commands, MAX_BATCH) => {
                    if taken == 0 {
                        // The registry is gone, and with it the process.
                        return;
                    }
                }
                () = &mut alarm, if alarm_at.is_some() => alarm_at = None,
            }
            for command in commands.drain(..) {
                // Whoever may do less now does not wait for what others have said.
                self.look_at(calls);
                self.obey(command);
            }
            self.settle();
        }
    }

    fn stored(&mut self, committed: Option<Committed>) {
        self.append = None;
        match committed {
            Some(committed) => self.handle(Input::Stored { committed }),
            // The writer is gone: the process is ending, and what is unstored has not been acknowledged.
            None => self.retired = true,
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join(join) => self.join(*join),
            Command::Said {
                member,
                messages,
                large,
            } => {
                self.look(member);
                let bytes: usize = messages.iter().map(ClientMessage::payload_bytes).sum();
                self.shared.metrics.received(messages.len(), bytes);
                heavily(bytes as u64 > HEAVY_BYTES, || {
                    self.handle(Input::Said { member, messages })
                });
                drop(large);
            }
            Command::Left { member, departure } => {
                self.standings.remove(&member);
                self.handle(Input::Left { member, departure });
            }
            Command::CaughtUp { member } => self.handle(Input::Drained { member }),
            Command::Post(post) => self.post(*post),
            Command::Announce(announce) => {
                let Announce { payload, reply } = *announce;
                let hearers = self.room.stateless_hearers().count();
                self.handle(Input::Announced { payload });
                let _ = reply.send(hearers);
            }
            Command::Await(reply) => {
                let request = self.request(reply);
                self.handle(Input::Awaited { request });
            }
            Command::Read(reading) => {
                let heavy = self.room.document().encoded_size_estimate() as u64 > HEAVY_BYTES;
                heavily(heavy, || (reading.0)(&mut self.room));
            }
            Command::Drain => self.handle(Input::Draining { abandon: false }),
            Command::Abandon => self.handle(Input::Draining { abandon: true }),
        }
    }

    /// Tells the room what has become of those whose standing has changed.
    fn look_at(&mut self, calls: &Calls) {
        for member in calls.take() {
            self.look(member);
        }
    }

    /// Tells the room what has become of a member, if it has not heard.
    fn look(&mut self, member: MemberId) {
        match self.standings.get(&member).and_then(|standing| standing.take()) {
            Some(Change::Role(role)) => self.handle(Input::RoleChanged { member, role }),
            Some(Change::Removed(refusal)) => self.handle(Input::Removed { member, refusal }),
            None => {}
        }
    }

    fn join(&mut self, join: Join) {
        let Join {
            role,
            viewer,
            badge,
            outbox,
            standing,
            reply,
        } = join;
        let member = self.shared.next_member();
        self.standings.insert(member, standing);
        self.handle(Input::Joined {
            member,
            role,
            viewer,
            badge,
            outlet: outbox,
        });
        if reply.send(Ok((member, self.room.seq()))).is_err() {
            // The connection was cut short while the page was loading.
            self.standings.remove(&member);
            self.handle(Input::Left {
                member,
                departure: Departure::Clean,
            });
        }
    }

    fn post(&mut self, post: Post) {
        let request = self.request(post.reply);
        let heavy = post.update.len() as u64 > HEAVY_BYTES;
        heavily(heavy, || {
            self.handle(Input::Posted {
                request,
                member: post.member,
                user: post.user,
                update: post.update,
            })
        });
    }

    fn request(&mut self, reply: oneshot::Sender<Result<Seq, Refusal>>) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.answers.insert(request, reply);
        request
    }

    fn handle(&mut self, input: Input) {
        self.room.handle(now(), input, &mut self.effects);
    }

    /// Lets the room settle and carries out what it asks for.
    fn settle(&mut self) {
        let now = now();
        let heavy =
            self.room.snapshot_due(now) && self.room.document().encoded_size_estimate() as u64 > HEAVY_BYTES;
        heavily(heavy, || self.room.settle(now, &mut self.effects));
        for effect in std::mem::take(&mut self.effects) {
            self.carry_out(effect);
        }
        if self.room.may_retire(now) {
            if self.shared.retire(&self.page, self.slot) {
                self.retired = true;
            } else {
                self.room.stay(now);
            }
        }
        let unstored = self.room.unstored_bytes();
        if unstored != self.unstored_told {
            self.shared.writer.unstored_changed(self.unstored_told, unstored);
            self.unstored_told = unstored;
        }
        self.tell_members(self.room.member_count());
    }

    fn tell_members(&mut self, count: usize) {
        let members = &self.shared.members;
        members.fetch_add(count, Ordering::Relaxed);
        members.fetch_sub(
            std::mem::replace(&mut self.members_told, count),
            Ordering::Relaxed,
        );
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Append(commit) => self.append = Some(self.shared.writer.commit(commit)),
            Effect::Compact(compact) => {
                self.compaction = Some((compact.seq, self.shared.compactor.compact(compact)));
            }
            Effect::ReadForeign { after, before } => {
                // The room asks again for what the read that is under way does not bring.
                if self.foreign.is_none() {
                    let (store, page) = (self.shared.store.clone(), self.page.clone());
                    self.foreign = Some(Box::pin(foreign_rows(store, page, after, before)));
                }
            }
            Effect::Answer { request, result } => {
                if let Some(answer) = self.answers.remove(&request) {
                    let _ = answer.send(result);
                }
            }
            Effect::Count(count, times) => self.count(count, times as u64),
        }
    }

    fn count(&self, count: Count, times: u64) {
        let metrics = &self.shared.metrics;
        match count {
            Count::Refused(kind) => metrics.refused(kind, times),
            Count::Deltas => metrics.deltas_out.increment(times),
            Count::Resyncs => metrics.resyncs.increment(times),
            Count::Failures => metrics.error("document_failed"),
        }
    }

    /// Gives the rows of another process to the room. While the store fails, it asks again.
    fn read_foreign(&mut self, rows: Result<Vec<LoggedUpdate>, StoreError>) {
        self.foreign = None;
        match rows {
            Ok(rows) => {
                let bytes: usize = rows.iter().map(|row| row.data.len()).sum();
                heavily(bytes as u64 > HEAVY_BYTES, || {
                    self.handle(Input::Foreign { rows })
                });
            }
            Err(error) => tracing::warn!(%error, "rows of another process could not be read yet"),
        }
    }
}

/// A stored page as one list of rows.
fn whole(page: StoredPage) -> Vec<LoggedUpdate> {
    let snapshot = page.snapshot.map(|snapshot| LoggedUpdate {
        seq: snapshot.seq,
        data: snapshot.state,
        user: None,
    });
    snapshot.into_iter().chain(page.log).collect()
}

/// Reads what another process stored between two of our rows.
async fn foreign_rows(
    store: SharedStore,
    page: PageId,
    after: Seq,
    before: Seq,
) -> Result<Vec<LoggedUpdate>, StoreError> {
    match store.log(&page, after, MAX_FOREIGN_ROWS).await? {
        Some(rows) => Ok(rows.into_iter().filter(|row| row.seq < before).collect()),
        // A snapshot has swallowed them: what it holds is all of them and more.
        None => Ok(store.load(&page).await?.map(whole).unwrap_or_default()),
    }
}

async fn compacted(compaction: &mut Option<(Seq, oneshot::Receiver<bool>)>) -> (Seq, bool) {
    match compaction {
        // A request that found no place, and one whose compactor is gone, has not been taken.
        Some((seq, receiver)) => (*seq, receiver.await.unwrap_or(false)),
        None => std::future::pending().await,
    }
}

async fn read<T>(reading: &mut Option<BoxFuture<'static, T>>) -> T {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

async fn answered(append: &mut Option<oneshot::Receiver<Committed>>) -> Option<Committed> {
    match append {
        Some(receiver) => receiver.await.ok(),
        None => std::future::pending().await,
    }
}

/// Runs `work`, out of the way of other tasks if it is heavy.
pub(crate) fn heavily<T>(heavy: bool, work: impl FnOnce() -> T) -> T {
    let can_move = tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if heavy && can_move {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task is where the room meets the clock"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
