//! Runs one room in a task of its own: mailbox in, effects carried out, results fed back. The only meeting of room, clock and store.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use storage::{Committed, Generation, LoggedUpdate, PageCommit, PageId, Seq, StoreError, StoredPage};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    ClientMessage, CompactRequest, Count, Departure, Host, Input, Newcomer, Onlooker, Refusal, Room, Sight,
    SlotId, Surroundings,
    clock::{now, run_blocking_if},
    loading::{foreign_rows, load},
    mailbox::{Announce, Command, Join, Post, Reading, Reply},
    opening::stored,
    readings::Readings,
    registry::Shared,
    sight::Wanted,
    standing::Calls,
};
use crate::telemetry::{Fault, Traces};

/// Work on a document of this size or with messages of this many bytes may take long enough to get out of the way of other tasks.
const HEAVY_BYTES: u64 = 256 * 1024;
/// Commands taken from the mailbox at once.
const MAX_BATCH: usize = 256;

/// What a room has asked for and not heard of yet, and where it asks.
struct Requests {
    page: PageId,
    slot: SlotId,
    shared: Arc<Shared>,
    append: Option<oneshot::Receiver<Committed>>,
    compaction: Option<(Seq, oneshot::Receiver<bool>)>,
    /// Who looks at the room from outside.
    onlooker: Option<Arc<dyn Onlooker>>,
    /// The rows of another process, when they are there.
    foreign: Option<BoxFuture<'static, Result<Vec<LoggedUpdate>, StoreError>>>,
}

/// A room and its requests.
struct RoomTask {
    host: Host<Reply>,
    requests: Requests,
    unstored_told: u64,
    members_told: usize,
    /// Nothing more is stored: the writer is gone with the process, or the page is another one now. What is unstored has not been
    /// acknowledged.
    is_cut_off: bool,
    readings: Readings,
}

/// Loads a page and runs its room until nothing holds it.
pub(super) async fn run(
    page: PageId,
    (slot, closed): (SlotId, Option<CancellationToken>),
    shared: Weak<Shared>,
    mut mailbox: mpsc::Receiver<Command>,
    calls: Arc<Calls>,
) {
    if let Some(over) = closed {
        over.cancelled_owned().await;
    }
    let Some(shared) = shared.upgrade() else { return };
    shared.metrics.rooms_open.increment(1.0);
    let ended = AssertUnwindSafe(live(&page, slot, &shared, &mut mailbox, &calls))
        .catch_unwind()
        .await;
    shared.metrics.rooms_open.decrement(1.0);
    if ended.is_err() {
        tracing::error!("a room panicked; its members are sent away and it is rebuilt from the store");
        shared.metrics.error(Fault::RoomPanic);
    }
    // Whoever wrote between the last look into the mailbox and its end comes back to a new room.
    let refusal = Refusal::unavailable("the page is being opened again, connect again");
    close(&page, slot, &shared, &mut mailbox, &refusal).await;
}

/// Takes a room out of the registry and says no to everybody in its mailbox.
async fn close(
    page: &PageId,
    slot: SlotId,
    shared: &Shared,
    mailbox: &mut mpsc::Receiver<Command>,
    refusal: &Refusal,
) {
    shared.slots().remove(page, slot);
    mailbox.close();
    while let Some(command) = mailbox.recv().await {
        command.refuse(refusal);
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
    let stored = stored(page, shared).await;
    let opened = stored.and_then(|stored| RoomTask::open(page, slot, shared, stored));
    shared.metrics.room_opened(started.elapsed(), opened.is_ok());
    let mut task = match opened {
        Ok(task) => task,
        Err(refusal) => {
            tracing::warn!(%refusal, "a page could not be loaded; its joiners are asked to come back");
            return close(page, slot, shared, mailbox, &refusal).await;
        }
    };
    let ended = AssertUnwindSafe(task.run(mailbox, calls)).catch_unwind().await;
    task.requests
        .shared
        .writer
        .unstored_changed(task.unstored_told, 0);
    task.tell_members(0);
    task.host
        .room()
        .hang_up(&Refusal::unavailable("the page is being rebuilt, connect again"));
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

impl RoomTask {
    /// Makes a room of what the store answered. In a box, because a future has place for everything that it ever holds.
    fn open(
        page: &PageId,
        slot: SlotId,
        shared: &Arc<Shared>,
        stored: Option<StoredPage>,
    ) -> Result<Box<Self>, Refusal> {
        let loaded = load(&shared.config.room, stored, now())?;
        let room = Room::new(now(), page.clone(), shared.config.room.clone(), loaded);
        Ok(Box::new(Self {
            host: Host::new(room),
            requests: Requests {
                page: page.clone(),
                slot,
                shared: shared.clone(),
                append: None,
                compaction: None,
                onlooker: None,
                foreign: None,
            },
            unstored_told: 0,
            members_told: 0,
            is_cut_off: false,
            readings: Readings::default(),
        }))
    }

    async fn run(&mut self, mailbox: &mut mpsc::Receiver<Command>, calls: &Calls) {
        let mut commands = Vec::new();
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        // Deadlines mostly move away: an alarm that rings too early is set again, which is cheaper than moving it each time.
        let mut alarm_at: Option<Instant> = None;
        while !self.host.has_ended() && !self.is_cut_off {
            let deadlines = [self.host.room().next_deadline(), self.readings.next_deadline()];
            if let Some(deadline) = deadlines.into_iter().flatten().min()
                && alarm_at.is_none_or(|at| deadline < at)
            {
                alarm.as_mut().reset(deadline.into());
                alarm_at = Some(deadline);
            }
            tokio::select! {
                biased;
                () = calls.called() => {
                    self.host.look(now(), calls.take());
                    self.give(calls.take_wanted());
                }
                committed = answered(&mut self.requests.append) => self.stored(committed.ok()),
                (seq, taken) = compacted(&mut self.requests.compaction) => {
                    self.requests.compaction = None;
                    self.host.handle(now(), Input::Compacted { seq, taken });
                }
                rows = answered(&mut self.requests.foreign) => self.read_foreign(rows),
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
                self.host.look(now(), calls.take());
                self.handle_command(command);
            }
            self.settle();
            self.let_read();
        }
    }

    /// Does what is wanted by who looks at the room from outside.
    fn give(&mut self, wanted: Wanted) {
        let Wanted {
            is_over,
            onlooker,
            shown,
        } = wanted;
        if is_over {
            self.requests.onlooker = None;
            self.host.handle(now(), Input::Watched { is_watched: false });
        }
        if onlooker.is_some() {
            self.requests.onlooker = onlooker;
            self.host.handle(now(), Input::Watched { is_watched: true });
        }
        if !shown.is_empty() {
            self.host.handle(now(), Input::Shown { states: shown });
        }
    }

    fn stored(&mut self, committed: Option<Committed>) {
        self.requests.append = None;
        match committed {
            Some(committed) if committed.is_nothing() => {
                tracing::info!("a page was purged, renamed or rebuilt elsewhere; its room ends");
                self.is_cut_off = true;
            }
            Some(committed) => self.host.handle(now(), Input::Stored { committed }),
            None => self.is_cut_off = true,
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Join(join) => self.join(*join),
            Command::Said {
                member,
                messages,
                traces,
                large,
            } => {
                let bytes: usize = messages.iter().map(ClientMessage::payload_bytes).sum();
                self.requests.shared.metrics.received(messages.len(), bytes);
                run_blocking_if(bytes as u64 > HEAVY_BYTES, || {
                    self.host.traced(traces, |host| {
                        host.handle(now(), Input::Said { member, messages })
                    });
                });
                drop(large);
            }
            Command::Left { member, departure } => {
                self.host.handle(now(), Input::Left { member, departure });
            }
            Command::CaughtUp { member } => self.host.handle(now(), Input::Drained { member }),
            Command::Post(post) => {
                let Post {
                    member,
                    user,
                    update,
                    condition,
                    traces,
                    reply,
                } = *post;
                run_blocking_if(update.len() as u64 > HEAVY_BYTES, || {
                    self.host.traced(traces, |host| {
                        host.post(now(), (member, user), (update, condition), reply);
                    });
                });
            }
            Command::Announce(announce) => {
                let Announce { payload, reply } = *announce;
                let hearers = self.host.room().stateless_hearers().count();
                self.host.handle(now(), Input::Announced { payload });
                let _ = reply.send(hearers);
            }
            Command::Await(reply) => self.host.wait(now(), reply),
            Command::Read { reading, until } => {
                let reading = match until {
                    Some(until) => self.readings.wait(until, reading),
                    None => Some(reading),
                };
                if let Some(reading) = reading {
                    self.read(reading);
                }
            }
            Command::Drain => self.host.handle(now(), Input::Draining { abandon: false }),
            Command::Abandon => self.host.handle(now(), Input::Draining { abandon: true }),
        }
    }

    fn read(&mut self, reading: Reading) {
        let room = self.host.room();
        let heavy = room.document().encoded_size_estimate() as u64 > HEAVY_BYTES;
        run_blocking_if(heavy, || (reading.0)(room));
    }

    /// Lets those read who have waited for this moment, or for too long.
    fn let_read(&mut self) {
        let is_stored = self.host.room().is_stored();
        for reading in self.readings.due(now(), is_stored) {
            self.read(reading);
        }
    }

    fn join(&mut self, join: Join) {
        let Join {
            role,
            user,
            stamp,
            outbox,
            standing,
            reply,
        } = join;
        let member = self.requests.shared.next_member();
        let newcomer = Newcomer {
            member,
            role,
            user,
            stamp,
            outlet: outbox,
            standing,
        };
        self.host.join(now(), newcomer);
        let seq = self.host.room().seq();
        if reply.send(Ok((member, seq))).is_err() {
            // The connection was cut short while the page was loading.
            let departure = Departure::Clean;
            self.host.handle(now(), Input::Left { member, departure });
        }
    }

    /// Lets the room settle and carries out what it asks for.
    fn settle(&mut self) {
        let now = now();
        let room = self.host.room();
        let heavy = room.snapshot_due(now) && room.document().encoded_size_estimate() as u64 > HEAVY_BYTES;
        run_blocking_if(heavy, || self.host.settle(now, &mut self.requests));
        let unstored = self.host.room().unstored_bytes();
        if unstored != self.unstored_told {
            let writer = &self.requests.shared.writer;
            writer.unstored_changed(self.unstored_told, unstored);
            self.unstored_told = unstored;
        }
        let members = self.host.room().member_count();
        self.tell_members(members);
    }

    fn tell_members(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.members_told, count);
        let Requests { page, shared, .. } = &self.requests;
        shared.members_changed(page, before, count);
    }

    /// Gives the rows of another process to the room. While the store fails, it asks again.
    fn read_foreign(&mut self, rows: Result<Vec<LoggedUpdate>, StoreError>) {
        self.requests.foreign = None;
        match rows {
            Ok(rows) => {
                let bytes: usize = rows.iter().map(|row| row.data.len()).sum();
                run_blocking_if(bytes as u64 > HEAVY_BYTES, || {
                    self.host.handle(now(), Input::Remote { rows })
                });
            }
            Err(error) => tracing::warn!(%error, "rows of another process could not be read yet"),
        }
    }
}

impl Surroundings for Requests {
    type Reply = Reply;

    fn answer(&mut self, reply: Reply, result: Result<Seq, Refusal>) {
        // Whoever asked may have gone.
        let _ = reply.send(result);
    }

    fn append(&mut self, commit: PageCommit, traces: Traces) {
        self.append = Some(self.shared.writer.commit(commit, traces));
    }

    fn compact(&mut self, request: CompactRequest) {
        self.compaction = Some((request.seq, self.shared.compactor.compact(request)));
    }

    fn read_foreign(&mut self, generation: Option<Generation>, between: (Seq, Seq)) {
        // The room asks again for what the read that is under way does not bring.
        if self.foreign.is_none() {
            let store = self.shared.store.clone();
            let page = (self.page.clone(), generation);
            self.foreign = Some(Box::pin(foreign_rows(store, page, between)));
        }
    }

    fn seen(&mut self, sight: Sight) {
        if let Some(onlooker) = &self.onlooker {
            onlooker.saw(&self.page, sight);
        }
    }

    fn count(&mut self, count: Count, times: usize) {
        let metrics = &self.shared.metrics;
        match count {
            Count::Refused(kind) => metrics.refused(kind, times as u64),
            Count::Deltas => metrics.deltas_out.increment(times as u64),
            Count::Resyncs => metrics.resyncs.increment(times as u64),
            Count::Failures => metrics.error(Fault::DocumentFailed),
        }
    }

    fn retire(&mut self) -> bool {
        self.shared.slots().retire(&self.page, self.slot)
    }
}

async fn compacted(compaction: &mut Option<(Seq, oneshot::Receiver<bool>)>) -> (Seq, bool) {
    match compaction {
        // A request that found no place, and one whose compactor is gone, has not been taken.
        Some((seq, receiver)) => (*seq, receiver.await.unwrap_or(false)),
        None => std::future::pending().await,
    }
}

async fn answered<F: Future + Unpin>(asked: &mut Option<F>) -> F::Output {
    match asked {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}
