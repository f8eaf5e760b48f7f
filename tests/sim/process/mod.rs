//! One server process: the server's own [`Slots`], [`Host`]s and [`Batching`], with simulated mailboxes, disk and members.

mod door;
mod turn;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crdt::{AwarenessLimits, Limits};
use pageroom::rooms::{
    BatchLimits, Batching, Capabilities, Change, Failure, MemberId, Outbox, Refusal, Room, RoomConfig,
    SlotId, Slots, SnapshotPolicy, Storing, load,
};
use storage::{Committed, PageCommit, PageId, Seq, StoredPage};

pub(crate) use self::door::Command;
use self::door::Door;
use crate::{
    access::{Access, Rights},
    disk::Disk,
    live::Live,
    plan::Settings,
    properties,
    trace::Trace,
};

/// Commands taken from a mailbox at once.
const MAX_BATCH: usize = 256;
/// Pages in one transaction.
const MAX_BATCH_PAGES: usize = 2;
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// What is stored alone is tried again after this long.
const ALONE_AGAIN: Duration = Duration::from_millis(50);

/// What a process needs of the world while it works.
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) disk: &'a mut Disk,
    pub(crate) trace: &'a mut Trace,
    pub(crate) rights: &'a Rights,
}

/// A request of a room to the store's writer.
pub(crate) struct Request {
    page: usize,
    slot: SlotId,
    commit: PageCommit,
}

impl Storing for Request {
    fn commit(&self) -> &PageCommit {
        &self.commit
    }
}

/// What became of a backend's update: where it is stored, or `None` when it has to be posted again.
pub(crate) type Answer = (usize, Option<Seq>);

pub(crate) struct Process {
    pages: Vec<PageId>,
    config: RoomConfig,
    max_outbox_bytes: usize,
    /// Raised by each crash and restart: what was under way for an older one is nobody's business any more.
    pub(crate) epoch: u64,
    pub(crate) up: bool,
    pub(crate) draining: bool,
    slots: Slots<Door>,
    next_member: u64,
    batching: Batching<Request>,
    /// What is stored alone, by the number of its lane.
    alone: BTreeMap<u64, Request>,
    last_lane: u64,
    /// Answers to backends, for the world to pick up.
    pub(crate) answered: Vec<Answer>,
    pub(crate) access: Access,
}

fn batching() -> Batching<Request> {
    Batching::new(BatchLimits {
        commit_interval: Duration::from_millis(1),
        max_backoff: MAX_BACKOFF,
        max_pages: MAX_BATCH_PAGES,
        max_bytes: 32 << 20,
    })
}

impl Process {
    pub(crate) fn new(settings: &Settings, pages: &[PageId]) -> Self {
        Self {
            pages: pages.to_vec(),
            config: room_config(settings),
            max_outbox_bytes: settings.max_outbox_bytes,
            epoch: 0,
            up: true,
            draining: false,
            slots: Slots::default(),
            next_member: 1,
            batching: batching(),
            alone: BTreeMap::new(),
            last_lane: 0,
            answered: Vec::new(),
            access: Access::default(),
        }
    }

    /// Everything in memory is gone.
    pub(crate) fn crash(&mut self) {
        let posts: Vec<usize> = self.slots.doors().flat_map(Door::waiting_posts).collect();
        self.answered.extend(posts.into_iter().map(|post| (post, None)));
        self.epoch += 1;
        self.up = false;
        self.draining = false;
        self.slots = Slots::default();
        self.access = Access::default();
        self.batching = batching();
        self.alone.clear();
    }

    pub(crate) fn member_count(&self) -> usize {
        let live = self.slots.doors().filter_map(|door| door.live.as_ref());
        live.map(|live| live.seats.len()).sum()
    }

    /// Whether no page is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The pages that are open.
    pub(crate) fn open_pages(&self) -> Vec<usize> {
        self.slots.doors().map(|door| door.page).collect()
    }

    fn door(&mut self, page: usize) -> Option<&mut Door> {
        Some(self.slots.find(&self.pages[page])?.1)
    }

    pub(crate) fn live(&mut self, page: usize) -> Option<&mut Live> {
        self.door(page)?.live.as_deref_mut()
    }

    pub(crate) fn new_member(&mut self, receipts: bool) -> (MemberId, Arc<Outbox>) {
        self.next_member += 1;
        let capabilities = Capabilities {
            receipts,
            ..Capabilities::default()
        };
        let outbox = Outbox::with_capabilities(self.max_outbox_bytes, capabilities);
        (MemberId(self.next_member), outbox)
    }

    /// Puts something into the mailbox of a page's room, opening it if it is not open. Gives the slot's number if the page
    /// has to be loaded for it.
    pub(crate) fn open(&mut self, now: Instant, page: usize, command: Command) -> Option<SlotId> {
        let mut opened = None;
        let id = self.pages[page].clone();
        let is_leased = command.is_leased();
        let (slot, door) = self.slots.lease(&id, |slot| {
            opened = Some(slot);
            Door {
                page,
                slot,
                mailbox: VecDeque::new(),
                wake_at: None,
                live: None,
            }
        });
        door.put(now, command);
        if !is_leased {
            self.slots.release(&id, slot);
        }
        opened
    }

    /// Puts something into the mailbox of a room that is open; a room that is gone needs to be told nothing.
    pub(crate) fn tell(&mut self, now: Instant, page: usize, command: Command) {
        let id = &self.pages[page];
        let is_leased = command.is_leased();
        let found = match is_leased {
            true => self.slots.lease_if_open(id),
            false => self.slots.find(id),
        };
        if let Some((_, door)) = found {
            door.put(now, command);
        }
    }

    /// Changes what a member may do, past what waits in its room's mailbox, or behind its arrival there.
    pub(crate) fn change(&mut self, now: Instant, page: usize, member: MemberId, change: Change) {
        match self.live(page) {
            Some(live) if live.has_seat(member) => live.change(now, member, change),
            _ => {
                if let Some((_, door)) = self.slots.find(&self.pages[page]) {
                    door.put_behind_arrival(now, member, change);
                }
            }
        }
    }

    pub(crate) fn tell_all(&mut self, now: Instant, abandon: bool) {
        for door in self.slots.doors_mut() {
            door.put(now, Command::Drain { abandon });
        }
    }

    /// A page was read, or could not be.
    pub(crate) fn loaded(
        &mut self,
        around: &mut Around<'_>,
        page: usize,
        slot: SlotId,
        stored: Result<Option<StoredPage>, ()>,
    ) {
        let id = self.pages[page].clone();
        let Some((_, door)) = self.slots.find(&id).filter(|(open, _)| *open == slot) else {
            return;
        };
        let Ok(stored) = stored else {
            return self.remove(page, slot);
        };
        let loaded = load(&self.config, stored, around.now);
        let mut loaded = loaded.expect("what is stored of a page can be opened");
        properties::everything_kept_is_loaded(around.disk, &id, &mut loaded.document);
        let room = Room::new(around.now, id.clone(), self.config.clone(), loaded);
        door.live = Some(Box::new(Live::new(id, room, self.max_outbox_bytes)));
        door.wake_at = Some(around.now);
    }

    /// When a room wants to be looked after next, and which.
    pub(crate) fn next_room(&mut self) -> Option<(Instant, usize)> {
        self.slots
            .doors_mut()
            .filter_map(|door| Some((door.due()?, door.page)))
            .min()
    }

    /// A room could not be opened.
    fn remove(&mut self, page: usize, slot: SlotId) {
        let Some(door) = self.slots.remove(&self.pages[page], slot) else {
            return;
        };
        self.answered
            .extend(door.waiting_posts().map(|post| (post, None)));
        let refusal = Refusal::unavailable("the page is being opened again, connect again");
        for command in door.mailbox {
            if let Command::Join { outbox, .. } = command {
                outbox.close(refusal.clone());
            }
        }
    }

    /// Begins a transaction if there is something to store and none is under way.
    pub(crate) fn begin_commit(&mut self, now: Instant) -> bool {
        self.batching.begin(now)
    }

    /// When the next transaction can begin.
    pub(crate) fn commit_begins_at(&self) -> Option<Instant> {
        self.batching.begins_at()
    }

    /// Begins to store something alone, in a lane of its own.
    pub(crate) fn begin_alone(&mut self) -> Option<u64> {
        let request = self.batching.next_alone()?;
        self.last_lane += 1;
        self.alone.insert(self.last_lane, request);
        Some(self.last_lane)
    }

    /// What is under way, in a lane or as a batch.
    pub(crate) fn batch(&self, lane: Option<u64>) -> Vec<PageCommit> {
        match lane {
            Some(lane) => self
                .alone
                .get(&lane)
                .map(|request| request.commit.clone())
                .into_iter()
                .collect(),
            None => self.batching.batch(),
        }
    }

    /// What was under way has failed. Gives the time at which a lane tries again.
    pub(crate) fn commit_failed(
        &mut self,
        now: Instant,
        lane: Option<u64>,
        failure: Failure,
    ) -> Option<Instant> {
        match lane {
            Some(_) => Some(now + ALONE_AGAIN),
            None => {
                self.batching.failed(now, failure);
                None
            }
        }
    }

    /// The transaction was committed, and its answer is here.
    pub(crate) fn committed(&mut self, now: Instant, lane: Option<u64>, committed: Vec<Committed>) {
        let requests = match lane {
            Some(lane) => self.alone.remove(&lane).into_iter().collect(),
            None => self.batching.committed(),
        };
        for (request, committed) in requests.into_iter().zip(committed) {
            let door = self.door(request.page).filter(|door| door.slot == request.slot);
            if let Some(door) = door
                && let Some(live) = door.live.as_deref_mut()
            {
                live.stored = Some(committed);
                door.wake_at = Some(now);
            }
        }
    }

    /// Whether nothing is open and nothing waits to be stored.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.batching.is_idle() && self.alone.is_empty()
    }
}

fn room_config(settings: &Settings) -> RoomConfig {
    RoomConfig {
        gate: Limits {
            max_pending_bytes: settings.parked_updates * 200,
            ..Limits::default()
        },
        snapshots: SnapshotPolicy {
            interval: Duration::from_millis(settings.snapshot_interval_ms),
            max_log_rows: settings.snapshot_rows,
            max_log_bytes: 1 << 20,
        },
        idle: Duration::from_millis(settings.idle_ms),
        max_window: Duration::from_micros(16_667),
        max_page_bytes: 0,
        max_members: 0,
        awareness: AwarenessLimits::default(),
        sleep: Duration::from_millis(settings.sleep_ms),
    }
}
