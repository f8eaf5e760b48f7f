//! One server process: which rooms are open, and what carries out their effects, as the registry, the room's task and the store's
//! writer do it. This is the only interpreter of effects here; it follows `src/rooms/task.rs` line by line.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::{AwarenessLimits, ClientId, Document, Limits, StateVector};
use pageroom::rooms::{
    Capabilities, ClientMessage, Count, Departure, Effect, Input, Loaded, MemberId, Outbox, Outgoing, Outlet,
    Pushed, Refusal, RefusalCode, RequestId, Role, Room, RoomConfig, ServerMessage, SnapshotPolicy, Viewer,
    open_document,
};
use storage::{Committed, PageCommit, PageId, Seq, StoredPage};

use crate::{disk::Disk, plan::Settings, properties, trace::Trace};

/// Commands taken from a mailbox at once.
const MAX_BATCH: usize = 256;
/// Pages in one transaction.
const MAX_BATCH_PAGES: usize = 2;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// What a process needs of the world while it works.
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) disk: &'a mut Disk,
    pub(crate) trace: &'a mut Trace,
}

/// Something for a room's mailbox.
#[derive(Debug)]
pub(crate) enum Command {
    Join {
        member: MemberId,
        role: Role,
        user: Option<Arc<str>>,
        outbox: Arc<Outbox>,
        /// The client id of an honest client.
        own: Option<ClientId>,
    },
    Said {
        member: MemberId,
        messages: Vec<ClientMessage>,
    },
    Left {
        member: MemberId,
        departure: Departure,
    },
    ChangeRole {
        member: MemberId,
        role: Role,
    },
    Remove {
        member: MemberId,
        refusal: Refusal,
    },
    CaughtUp {
        member: MemberId,
    },
    Post {
        post: usize,
        update: Bytes,
    },
    Drain {
        abandon: bool,
    },
}

pub(crate) struct Slot {
    pub(crate) id: u64,
    mailbox: VecDeque<Command>,
    wake_at: Option<Instant>,
    live: Option<Box<Live>>,
}

/// Something that a member has posted.
struct Posted {
    member: MemberId,
    own: Option<ClientId>,
    update: Bytes,
}

struct Seat {
    outbox: Arc<Outbox>,
    own: Option<ClientId>,
    role: Role,
    user: Option<Arc<str>>,
}

/// What a member has been told.
#[derive(Debug)]
enum Told {
    Message(Arc<Outgoing>, Pushed),
    Closed(Refusal),
}

/// The way to a member, which notes what the member is told.
#[derive(Debug)]
struct Tapped {
    member: MemberId,
    outbox: Arc<Outbox>,
    told: Arc<Mutex<Vec<(MemberId, Told)>>>,
}

impl Tapped {
    fn note(&self, told: Told) {
        let mut all = self.told.lock().expect("nobody panics with the lock");
        all.push((self.member, told));
    }
}

impl Outlet for Tapped {
    fn capabilities(&self) -> Capabilities {
        self.outbox.capabilities()
    }

    fn push(&self, message: &Arc<Outgoing>) -> Pushed {
        let pushed = self.outbox.push(message);
        self.note(Told::Message(message.clone(), pushed));
        pushed
    }

    fn resume(&self) {
        self.outbox.resume();
    }

    fn close(&self, refusal: Refusal) {
        self.outbox.close(refusal.clone());
        self.note(Told::Closed(refusal));
    }
}

/// A room and what carries out its effects.
pub(crate) struct Live {
    page: PageId,
    pub(crate) room: Room,
    seats: BTreeMap<MemberId, Seat>,
    told: Arc<Mutex<Vec<(MemberId, Told)>>>,
    /// The last connection of each honest client, also when it is gone already.
    newest: BTreeMap<ClientId, MemberId>,
    answers: BTreeMap<RequestId, usize>,
    /// What members have posted, until it is answered.
    posted: BTreeMap<RequestId, Posted>,
    next_request: u64,
    /// Since when the store has been asked to keep something.
    append_since: Option<Instant>,
    stored: Option<Committed>,
    effects: Vec<Effect>,
    max_outbox_bytes: usize,
}

/// A request of a room to the store's writer.
struct Request {
    page: usize,
    slot: u64,
    commit: PageCommit,
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
    pub(crate) slots: BTreeMap<usize, Slot>,
    next_member: u64,
    next_slot: u64,
    requests: VecDeque<Request>,
    /// The transaction that is under way.
    committing: Vec<Request>,
    backoff: Duration,
    /// Answers to backends, for the world to pick up.
    pub(crate) answered: Vec<Answer>,
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
            slots: BTreeMap::new(),
            next_member: 1,
            next_slot: 1,
            requests: VecDeque::new(),
            committing: Vec::new(),
            backoff: FIRST_BACKOFF,
            answered: Vec::new(),
        }
    }

    /// Everything in memory is gone.
    pub(crate) fn crash(&mut self) {
        let posts: Vec<usize> = self.slots.values().flat_map(Slot::waiting_posts).collect();
        self.answered.extend(posts.into_iter().map(|post| (post, None)));
        self.epoch += 1;
        self.up = false;
        self.draining = false;
        self.slots.clear();
        self.requests.clear();
        self.committing.clear();
        self.backoff = FIRST_BACKOFF;
    }

    pub(crate) fn member_count(&self) -> usize {
        let live = self.slots.values().filter_map(|slot| slot.live.as_ref());
        live.map(|live| live.room.member_count()).sum()
    }

    pub(crate) fn live(&mut self, page: usize) -> Option<&mut Live> {
        self.slots.get_mut(&page)?.live.as_deref_mut()
    }

    pub(crate) fn new_member(&mut self, posts: bool) -> (MemberId, Arc<Outbox>) {
        self.next_member += 1;
        let capabilities = Capabilities {
            receipts: posts,
            ..Capabilities::default()
        };
        let outbox = Outbox::with_capabilities(self.max_outbox_bytes, capabilities);
        (MemberId(self.next_member), outbox)
    }

    /// Puts something into the mailbox of a page's room, opening it if it is not open. Gives the slot's number if the page
    /// has to be loaded for it.
    pub(crate) fn open(&mut self, now: Instant, page: usize, command: Command) -> Option<u64> {
        let mut opened = None;
        let next_slot = &mut self.next_slot;
        let slot = self.slots.entry(page).or_insert_with(|| {
            *next_slot += 1;
            opened = Some(*next_slot);
            Slot {
                id: *next_slot,
                mailbox: VecDeque::new(),
                wake_at: None,
                live: None,
            }
        });
        slot.put(now, command);
        opened
    }

    /// Puts something into the mailbox of a room that is open; a room that is gone needs to be told nothing.
    pub(crate) fn tell(&mut self, now: Instant, page: usize, command: Command) {
        if let Some(slot) = self.slots.get_mut(&page) {
            slot.put(now, command);
        }
    }

    /// Changes what a member may do, past what waits in its room's mailbox, or behind its arrival there.
    pub(crate) fn change_role(&mut self, now: Instant, page: usize, member: MemberId, role: Role) {
        match self.live(page) {
            Some(live) if live.has_seat(member) => live.change_role(now, member, role),
            _ => self.tell(now, page, Command::ChangeRole { member, role }),
        }
    }

    /// Sends a member away, in the same way.
    pub(crate) fn remove_member(&mut self, now: Instant, page: usize, member: MemberId, refusal: Refusal) {
        match self.live(page) {
            Some(live) if live.has_seat(member) => live.handle(now, Input::Removed { member, refusal }),
            _ => self.tell(now, page, Command::Remove { member, refusal }),
        }
    }

    pub(crate) fn tell_all(&mut self, now: Instant, abandon: bool) {
        for slot in self.slots.values_mut() {
            slot.put(now, Command::Drain { abandon });
        }
    }

    /// A page was read, or could not be.
    pub(crate) fn loaded(
        &mut self,
        around: &mut Around<'_>,
        page: usize,
        slot: u64,
        stored: Result<Option<StoredPage>, ()>,
    ) {
        if self.slots.get(&page).is_none_or(|open| open.id != slot) {
            return;
        }
        let Ok(stored) = stored else {
            self.remove(page);
            return;
        };
        let id = self.pages[page].clone();
        let mut loaded = build(around.now, stored);
        properties::everything_kept_is_loaded(around.disk, &id, &mut loaded.document);
        let live = Live {
            room: Room::new(around.now, id.clone(), self.config.clone(), loaded),
            page: id,
            seats: BTreeMap::new(),
            told: Arc::default(),
            newest: BTreeMap::new(),
            answers: BTreeMap::new(),
            posted: BTreeMap::new(),
            next_request: 0,
            append_since: None,
            stored: None,
            effects: Vec::new(),
            max_outbox_bytes: self.max_outbox_bytes,
        };
        if let Some(slot) = self.slots.get_mut(&page) {
            slot.live = Some(Box::new(live));
            slot.wake_at = Some(around.now);
        }
    }

    /// When a room wants to be looked after next, and which.
    pub(crate) fn next_room(&self) -> Option<(Instant, usize)> {
        self.slots
            .iter()
            .filter_map(|(page, slot)| Some((slot.due()?, *page)))
            .min()
    }

    /// One turn of a room's task.
    pub(crate) fn run_room(&mut self, around: &mut Around<'_>, page: usize) {
        let Some(slot) = self.slots.get_mut(&page) else {
            return;
        };
        let Some(live) = slot.live.as_deref_mut() else {
            return;
        };
        slot.wake_at = None;
        let count = slot.mailbox.len().min(MAX_BATCH);
        if let Some(committed) = live.stored.take() {
            live.append_since = None;
            live.handle(around.now, Input::Stored { committed });
        }
        for command in slot.mailbox.drain(..count).collect::<Vec<_>>() {
            live.obey(around.now, command);
            live.look(around);
        }
        if !slot.mailbox.is_empty() {
            slot.wake_at = Some(around.now);
        }
        // Whoever is about to enter holds a lease.
        let leased = slot
            .mailbox
            .iter()
            .any(|command| matches!(command, Command::Join { .. } | Command::Post { .. }));
        loop {
            live.room.settle(around.now, &mut live.effects);
            live.look(around);
            if live.effects.is_empty() {
                break;
            }
            for effect in std::mem::take(&mut live.effects) {
                match effect {
                    Effect::Append(commit) => {
                        assert!(live.append_since.is_none(), "two requests to the store at once");
                        live.append_since = Some(around.now);
                        self.requests.push_back(Request {
                            page,
                            slot: slot.id,
                            commit,
                        });
                    }
                    Effect::Answer { request, result } => match live.answers.remove(&request) {
                        Some(post) => self.answered.push((post, result.ok())),
                        None => live.answer(around, request, result),
                    },
                    effect => live.carry_out(around, effect),
                }
            }
        }
        if live.room.may_retire(around.now) {
            if leased {
                live.room.stay(around.now);
            } else {
                self.remove(page);
            }
        }
    }

    /// A room has ended, or was never opened.
    fn remove(&mut self, page: usize) {
        let Some(slot) = self.slots.remove(&page) else {
            return;
        };
        self.answered
            .extend(slot.waiting_posts().map(|post| (post, None)));
        let refusal = Refusal::unavailable("the page is being opened again, connect again");
        let seats = slot.live.into_iter().flat_map(|live| live.seats.into_values());
        for outbox in seats.map(|seat| seat.outbox) {
            outbox.close(refusal.clone());
        }
        for command in slot.mailbox {
            if let Command::Join { outbox, .. } = command {
                outbox.close(refusal.clone());
            }
        }
    }

    /// Begins a transaction if there is something to store and none is under way.
    pub(crate) fn begin_commit(&mut self) -> bool {
        if !self.committing.is_empty() || self.requests.is_empty() {
            return false;
        }
        let count = self.requests.len().min(MAX_BATCH_PAGES);
        self.committing.extend(self.requests.drain(..count));
        true
    }

    /// What is under way.
    pub(crate) fn batch(&self) -> Vec<PageCommit> {
        self.committing
            .iter()
            .map(|request| request.commit.clone())
            .collect()
    }

    /// How long to wait before the transaction is tried again.
    pub(crate) fn back_off(&mut self) -> Duration {
        let pause = self.backoff;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        pause
    }

    /// The transaction was committed, and its answer is here.
    pub(crate) fn committed(&mut self, now: Instant, committed: Vec<Committed>) {
        self.backoff = FIRST_BACKOFF;
        for (request, committed) in std::mem::take(&mut self.committing).into_iter().zip(committed) {
            let slot = self
                .slots
                .get_mut(&request.page)
                .filter(|slot| slot.id == request.slot);
            if let Some(slot) = slot
                && let Some(live) = slot.live.as_deref_mut()
            {
                live.stored = Some(committed);
                slot.wake_at = Some(now);
            }
        }
    }

    /// Whether nothing is open and nothing waits to be stored.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.requests.is_empty() && self.committing.is_empty()
    }
}

impl Slot {
    fn put(&mut self, now: Instant, command: Command) {
        self.mailbox.push_back(command);
        self.wake_at.get_or_insert(now + Duration::from_micros(500));
    }

    fn due(&self) -> Option<Instant> {
        let live = self.live.as_ref()?;
        [self.wake_at, live.room.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Backends that wait for an answer.
    fn waiting_posts(&self) -> impl Iterator<Item = usize> {
        let mailbox = self.mailbox.iter().filter_map(|command| match command {
            Command::Post { post, .. } => Some(*post),
            _ => None,
        });
        let live = self.live.iter().flat_map(|live| live.answers.values().copied());
        mailbox.chain(live)
    }
}

impl Seat {
    fn posts(&self) -> bool {
        self.outbox.capabilities().receipts
    }
}

impl Live {
    /// Whether a connection has its seat here and nothing of it waits.
    pub(crate) fn has_seat(&self, member: MemberId) -> bool {
        self.seats.contains_key(&member)
    }

    fn handle(&mut self, now: Instant, input: Input) {
        self.room.handle(now, input, &mut self.effects);
    }

    fn change_role(&mut self, now: Instant, member: MemberId, role: Role) {
        if let Some(seat) = self.seats.get_mut(&member) {
            seat.role = role;
        }
        self.handle(now, Input::RoleChanged { member, role });
    }

    /// What has been admitted: the structs, and the bytes, which deletions add to as well.
    fn admitted(&mut self, asks: bool) -> (StateVector, usize) {
        let document = self.room.document();
        let bytes = if asks { 0 } else { document.encoded_size_estimate() };
        (document.state_vector().clone(), bytes)
    }

    fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Join {
                member,
                role,
                user,
                outbox,
                own,
            } => {
                let outlet = Arc::new(Tapped {
                    member,
                    outbox: outbox.clone(),
                    told: self.told.clone(),
                });
                let seat = Seat {
                    outbox,
                    own,
                    role,
                    user: user.clone(),
                };
                self.seats.insert(member, seat);
                if let Some(own) = own {
                    self.newest.insert(own, member);
                }
                let joined = Input::Joined {
                    member,
                    role,
                    viewer: Viewer {
                        user,
                        ..Viewer::default()
                    },
                    badge: None,
                    outlet,
                };
                self.handle(now, joined);
            }
            Command::Said { member, messages } => {
                let may_write = self.seats.get(&member).is_some_and(|seat| seat.role.may_edit());
                // To answer a question the document is encoded, and its size is known better then.
                let asks = messages
                    .iter()
                    .any(|message| matches!(message, ClientMessage::SyncStep1(_)));
                let before = (!may_write).then(|| self.admitted(asks));
                match self.seats.get(&member).filter(|seat| seat.posts()) {
                    Some(seat) => self.say_and_post(now, member, (seat.own, seat.user.clone()), messages),
                    None => self.handle(now, Input::Said { member, messages }),
                }
                if let Some(before) = before {
                    properties::who_may_not_write_changes_nothing(&before, &self.admitted(asks));
                }
            }
            Command::ChangeRole { member, role } => self.change_role(now, member, role),
            Command::Remove { member, refusal } => self.handle(now, Input::Removed { member, refusal }),
            Command::Left { member, departure } => {
                self.seats.remove(&member);
                self.handle(now, Input::Left { member, departure });
            }
            Command::CaughtUp { member } => self.handle(now, Input::Drained { member }),
            Command::Post { post, update } => {
                let request = self.next_request();
                self.answers.insert(request, post);
                self.handle(
                    now,
                    Input::Posted {
                        request,
                        member: None,
                        user: None,
                        update,
                    },
                );
            }
            Command::Drain { abandon } => self.handle(now, Input::Draining { abandon }),
        }
    }

    fn next_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// What a client says that has each of its edits answered by itself.
    fn say_and_post(
        &mut self,
        now: Instant,
        member: MemberId,
        (own, user): (Option<ClientId>, Option<Arc<str>>),
        messages: Vec<ClientMessage>,
    ) {
        for message in messages {
            match message {
                ClientMessage::Update(update) | ClientMessage::SyncStep2(update) => {
                    let request = self.next_request();
                    let posted = Posted {
                        member,
                        own,
                        update: update.clone(),
                    };
                    self.posted.insert(request, posted);
                    let posted = Input::Posted {
                        request,
                        member: Some(member),
                        user: user.clone(),
                        update,
                    };
                    self.handle(now, posted);
                }
                message => {
                    let messages = vec![message];
                    self.handle(now, Input::Said { member, messages });
                }
            }
        }
    }

    /// What has become of something that a member posted. Who is refused comes again with everything that it has.
    fn answer(&mut self, around: &mut Around<'_>, request: RequestId, result: Result<Seq, Refusal>) {
        let Some(Posted { member, own, update }) = self.posted.remove(&request) else {
            return;
        };
        match result {
            Ok(_) => properties::what_is_answered_is_durable(around.disk, &self.page, own, &update),
            Err(refusal) if refusal.code == RefusalCode::ReadOnly => {}
            Err(refusal) => {
                if let Some(seat) = self.seats.get(&member) {
                    seat.outbox.close(refusal);
                }
            }
        }
    }

    fn carry_out(&mut self, around: &mut Around<'_>, effect: Effect) {
        match effect {
            Effect::Compact(request) => {
                let seq = request.seq;
                let taken = around.disk.compact(request);
                self.handle(around.now, Input::Compacted { seq, taken });
            }
            Effect::ReadForeign { after, before } => {
                if let Ok(rows) = around.disk.foreign(&self.page, after, before) {
                    self.handle(around.now, Input::Foreign { rows });
                }
            }
            Effect::Count(Count::Refused(kind), count) => {
                around
                    .trace
                    .note(|| format!("{} refuses {count} {kind}", self.page));
            }
            Effect::Count(Count::Deltas | Count::Resyncs | Count::Failures, _) => {}
            Effect::Append(_) | Effect::Answer { .. } => {
                unreachable!("the process carries these out")
            }
        }
    }

    /// Looks at everything that members have been told since the last look.
    fn look(&mut self, around: &mut Around<'_>) {
        let told = std::mem::take(&mut *self.told.lock().expect("nobody panics with the lock"));
        for (to, told) in told {
            match told {
                Told::Message(message, pushed) => self.look_at(around, to, &message, pushed),
                Told::Closed(refusal) => {
                    around
                        .trace
                        .note(|| format!("{} sends {to:?} away: {refusal}", self.page));
                    self.seats.remove(&to);
                }
            }
        }
    }

    fn look_at(&mut self, around: &mut Around<'_>, to: MemberId, message: &Outgoing, pushed: Pushed) {
        let Some(seat) = self.seats.get(&to) else { return };
        let said = message.message();
        let is_late = self
            .append_since
            .is_some_and(|since| around.now >= since + Duration::from_secs(2));
        // A client that has come back does not hear what its older connection is told.
        let is_newest = |own: &ClientId| self.newest.get(own) == Some(&to);
        let own = seat.own.filter(|own| is_newest(own) && !seat.posts());
        properties::only_what_is_durable_is_acknowledged(around.disk, &self.page, own, said, is_late);
        properties::only_what_is_admitted_is_told(self.room.document().state_vector(), said);
        assert!(
            !seat.posts() || !matches!(said, ServerMessage::Stored(_)),
            "an echo goes to a client that has no word for it"
        );
        let queued = seat.outbox.queued_bytes();
        properties::the_outbox_is_bounded(queued, self.max_outbox_bytes, self.room.document());
        if pushed == Pushed::FellBehind {
            around
                .trace
                .note(|| format!("{to:?} falls behind on {}", self.page));
        }
    }
}

fn build(now: Instant, stored: Option<StoredPage>) -> Loaded {
    let Some(stored) = stored else {
        return Loaded {
            document: Document::new(Limits::default()),
            generation: None,
            seq: 0,
            log_rows: 0,
            log_bytes: 0,
            dirty_since: None,
            before: StateVector::new(),
        };
    };
    let log_rows = stored.log.len() as u64;
    let log_bytes = stored.log.iter().map(|row| row.data.len() as u64).sum();
    let covered = stored.snapshot.as_ref().filter(|_| log_rows > 0);
    let before = covered.map(|snapshot| StateVector::decode(&snapshot.state_vector, &Limits::default()));
    let document = open_document(Limits::default(), stored.snapshot, stored.log);
    Loaded {
        document: document.expect("what is stored of a page can be opened"),
        generation: Some(stored.record.generation),
        seq: stored.record.seq,
        log_rows,
        log_bytes,
        dirty_since: (log_rows > 0).then_some(now),
        before: before
            .transpose()
            .expect("the state vector of a snapshot")
            .unwrap_or_default(),
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
