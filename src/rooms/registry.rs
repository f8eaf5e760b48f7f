//! The rooms of a process, and the way into them: a page's room is found or opened, and spoken to through its mailbox.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::IdentityStamp;
use storage::{PageId, Seq, SharedStore};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Compactor, Condition, FirstContent, MemberId, Onlooker, Outbox, Refusal, Role, Room, RoomConfig, Seat,
    SeatHandle, ShownStates, SlotId, Slots, StoreWriter,
    clock::now,
    mailbox::{Announce, Command, Join, Post, Reading},
    seat::MAX_LARGE_KIB,
    standing::{Calls, Standing},
    task,
};
use crate::telemetry::{Correlation, Metrics, Traces};

/// What all rooms share.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// What each room is told.
    pub room: Arc<RoomConfig>,
    /// Commands that wait in a room's mailbox; whoever finds it full waits.
    pub mailbox: usize,
}

/// The way to an open room.
#[derive(Clone, Debug)]
pub(super) struct Door {
    mailbox: mpsc::Sender<Command>,
    calls: Arc<Calls>,
}

pub(super) struct Shared {
    pub(super) config: RegistryConfig,
    pub(super) store: SharedStore,
    pub(super) writer: StoreWriter,
    pub(super) compactor: Compactor,
    pub(super) metrics: Metrics,
    slots: Mutex<Slots<Door>>,
    /// Pages that are closed for a while: no room of them is opened until the token is cancelled. Locked after `slots`.
    closed: Mutex<BTreeMap<PageId, CancellationToken>>,
    /// Asked of pages that have never been stored.
    pub(super) first_content: Option<Arc<dyn FirstContent>>,
    next_member: AtomicU64,
    /// KiB of large messages that may still be brought to rooms.
    large: Arc<Semaphore>,
    /// Members of all rooms.
    pub(super) members: AtomicUsize,
    /// Is told when somebody is at a page.
    pub(super) attendance: OnceLock<Arc<dyn AttendanceListener>>,
}

/// Is told when somebody comes to a page where nobody was, and when the last one leaves it. It is called by the page's room, so it must
/// not take long.
pub trait AttendanceListener: Send + Sync {
    /// Whether anybody is at a page now.
    fn attended(&self, page: &PageId, is_attended: bool);
}

/// The rooms of this process. Cheap to clone.
#[derive(Clone)]
pub struct Registry(pub(super) Arc<Shared>);

/// Keeps a room from retiring while somebody is about to talk to it.
struct Lease {
    shared: Arc<Shared>,
    page: PageId,
    slot: SlotId,
    door: Door,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.slots().release(&self.page, self.slot);
    }
}

/// A page of which no room is opened until this is dropped; newcomers wait.
pub(super) struct ClosedPage {
    shared: Arc<Shared>,
    page: PageId,
}

impl Drop for ClosedPage {
    fn drop(&mut self) {
        if let Some(over) = self.shared.closed().remove(&self.page) {
            over.cancel();
        }
    }
}

/// The room of a page that stays open until this is dropped.
pub struct HeldRoom(#[expect(dead_code, reason = "it is given up when it is dropped")] Lease);

/// A room can end between the moment it is found and the moment it is spoken to only by failing; then one more is tried.
const TRIES: usize = 3;

/// How often it is looked whether rooms have ended that were told to.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a reader waits for a moment at which all that a room holds is stored, which the number of a row then stands for exactly. While
/// many write there may be none.
const READ_PATIENCE: Duration = Duration::from_millis(250);

impl Registry {
    /// A registry without rooms. What pages hold that have never been stored, the application may know.
    pub fn new(
        config: RegistryConfig,
        (store, first_content): (SharedStore, Option<Arc<dyn FirstContent>>),
        (writer, compactor): (StoreWriter, Compactor),
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            store,
            writer,
            compactor,
            metrics,
            first_content,
            slots: Mutex::default(),
            closed: Mutex::default(),
            next_member: AtomicU64::new(1),
            large: Arc::new(Semaphore::new(MAX_LARGE_KIB)),
            members: AtomicUsize::new(0),
            attendance: OnceLock::new(),
        }))
    }

    /// Says who is told when somebody is at a page. The first one stays.
    pub fn tell_attendance(&self, listener: Arc<dyn AttendanceListener>) {
        let _ = self.0.attendance.set(listener);
    }

    /// Takes a seat in the room of `page`, opening it if it is not open, for a user or a guest.
    pub async fn join(
        &self,
        page: &PageId,
        role: Role,
        user: Option<Arc<str>>,
        stamp: Option<Arc<IdentityStamp>>,
        outbox: &Arc<Outbox>,
    ) -> Result<Seat, Refusal> {
        for _ in 0..TRIES {
            let lease = self.lease(page);
            let (reply, answer) = oneshot::channel();
            let standing = Arc::new(Standing::default());
            let join = Join {
                role,
                user: user.clone(),
                stamp: stamp.clone(),
                outbox: outbox.clone(),
                standing: standing.clone(),
                reply,
            };
            if lease
                .door
                .mailbox
                .send(Command::Join(Box::new(join)))
                .await
                .is_ok()
                && let Ok(joined) = answer.await
            {
                return joined.map(|(member, seq)| Seat {
                    member,
                    mailbox: lease.door.mailbox.clone(),
                    large: self.0.large.clone(),
                    handle: SeatHandle {
                        member,
                        calls: lease.door.calls.clone(),
                        standing,
                        outbox: outbox.clone(),
                    },
                    seq,
                    left: false,
                });
            }
        }
        Err(Refusal::unavailable(
            "the page cannot be opened now, connect again",
        ))
    }

    /// Adds an update to a page, opening its room if it is not open, and waits until it is stored.
    pub async fn post(&self, page: &PageId, user: Option<Arc<str>>, update: Bytes) -> Result<Seq, Refusal> {
        self.post_if(page, user, update, Condition::Always).await
    }

    /// The same if it is still wanted when it would be taken in.
    ///
    /// # Errors
    /// With [`RefusalCode::Conflict`](super::RefusalCode::Conflict) if it is not.
    pub async fn post_if(
        &self,
        page: &PageId,
        user: Option<Arc<str>>,
        update: Bytes,
        condition: Condition,
    ) -> Result<Seq, Refusal> {
        let current = Correlation::current();
        let trace = current.as_ref().and_then(Correlation::trace);
        let traces = trace.map_or_else(Traces::default, |trace| {
            trace.edit("post", Some(page), update.len())
        });
        for _ in 0..TRIES {
            let lease = self.lease(page);
            let (reply, answer) = oneshot::channel();
            let post = Post {
                member: None,
                user: user.clone(),
                update: update.clone(),
                condition,
                traces: traces.clone(),
                reply,
            };
            if lease
                .door
                .mailbox
                .send(Command::Post(Box::new(post)))
                .await
                .is_ok()
                && let Ok(posted) = answer.await
            {
                return posted;
            }
        }
        Err(Refusal::unavailable("the page cannot be opened now, try again"))
    }

    /// Opens the room of a page, if it is not open, and holds it. Gives it when all that it holds is stored.
    ///
    /// # Errors
    /// When the page was deleted, or cannot be opened now.
    pub async fn hold(&self, page: &PageId) -> Result<HeldRoom, Refusal> {
        for _ in 0..TRIES {
            let lease = self.lease(page);
            let (reply, stored) = oneshot::channel();
            if lease.door.mailbox.send(Command::Await(reply)).await.is_ok()
                && let Ok(stored) = stored.await
            {
                return stored.map(|_| HeldRoom(lease));
            }
        }
        Err(Refusal::unavailable("the page cannot be opened now, try again"))
    }

    /// Says something to the members of a page that is no part of the document; returns how many there are to hear it. A page that is
    /// not open has none.
    pub async fn announce(&self, page: &PageId, payload: Bytes) -> usize {
        let Some(lease) = self.lease_if_open(page) else {
            return 0;
        };
        let (reply, answer) = oneshot::channel();
        let announce = Command::Announce(Box::new(Announce { payload, reply }));
        if lease.door.mailbox.send(announce).await.is_err() {
            return 0;
        }
        answer.await.unwrap_or(0)
    }

    /// Looks at the room of a page if it is open, without opening it, as soon as what it holds now is stored (or the store has been
    /// failing for a while), and at a moment when all that it holds is, if there is one within 250 ms (`READ_PATIENCE`).
    pub async fn read<T: Send + 'static>(
        &self,
        page: &PageId,
        read: impl FnOnce(&mut Room) -> T + Send + 'static,
    ) -> Option<T> {
        let lease = self.lease_if_open(page)?;
        let (reply, stored) = oneshot::channel();
        lease.door.mailbox.send(Command::Await(reply)).await.ok()?;
        stored.await.ok()?.ok()?;
        self.look_until(page, Some(now() + READ_PATIENCE), read).await
    }

    /// The same at once, whether or not what it holds is stored.
    pub async fn look<T: Send + 'static>(
        &self,
        page: &PageId,
        read: impl FnOnce(&mut Room) -> T + Send + 'static,
    ) -> Option<T> {
        self.look_until(page, None, read).await
    }

    async fn look_until<T: Send + 'static>(
        &self,
        page: &PageId,
        until: Option<Instant>,
        read: impl FnOnce(&mut Room) -> T + Send + 'static,
    ) -> Option<T> {
        let lease = self.lease_if_open(page)?;
        let (reply, answer) = oneshot::channel();
        let reading = Reading(Box::new(move |room| {
            let _ = reply.send(read(room));
        }));
        let read = Command::Read { reading, until };
        lease.door.mailbox.send(read).await.ok()?;
        answer.await.ok()
    }

    /// Says who looks at the room of a page from now on, or that nobody does. Of a page that is not open, nothing is to be seen.
    pub fn watch(&self, page: &PageId, onlooker: Option<Arc<dyn Onlooker>>) {
        if let Some(lease) = self.lease_if_open(page) {
            lease.door.calls.watch(onlooker);
        }
    }

    /// Shows states in the room of a page, if it is open and somebody looks at it.
    pub fn show(&self, page: &PageId, states: ShownStates) {
        if let Some(lease) = self.lease_if_open(page) {
            lease.door.calls.show(states);
        }
    }

    /// What rooms take in.
    pub fn gate(&self) -> &crdt::Limits {
        &self.0.config.room.gate
    }

    /// Whether the room of a page is open, or being opened.
    pub fn is_open(&self, page: &PageId) -> bool {
        self.0.slots().is_open(page)
    }

    /// Pages whose rooms are open, in the order of their ids: those that begin like this behind `after`, at most so many.
    pub fn open_pages(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<PageId> {
        self.0.slots().pages(prefix, after, limit)
    }

    /// Members of all rooms: seats, whoever has them.
    pub fn members(&self) -> usize {
        self.0.members.load(Ordering::Relaxed)
    }

    /// How many rooms are open.
    pub fn len(&self) -> usize {
        self.0.slots().len()
    }

    /// Whether no room is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the room of a page, if it is open: what it holds is stored first, and its members are sent away. Returns when it has ended; while
    /// the store fails it does not.
    pub async fn end(&self, page: &PageId) {
        let slot = self.0.slots().find(page).map(|(slot, _)| slot);
        self.end_slot(page, slot).await;
    }

    /// Ends the room of a page, and keeps the page closed until the result is dropped. `None` if it is closed already.
    ///
    /// Cancel safe: a cancelled call opens the page again.
    pub(super) async fn close(&self, page: &PageId) -> Option<ClosedPage> {
        let (closed, slot) = {
            // Under one lock: a room opened after this waits for the page to open, so waiting for its end would never return.
            let mut slots = self.0.slots();
            let slot = slots.find(page).map(|(slot, _)| slot);
            let mut pages = self.0.closed();
            if pages.contains_key(page) {
                return None;
            }
            pages.insert(page.clone(), CancellationToken::new());
            let closed = ClosedPage {
                shared: self.0.clone(),
                page: page.clone(),
            };
            (closed, slot)
        };
        self.end_slot(page, slot).await;
        Some(closed)
    }

    async fn end_slot(&self, page: &PageId, slot: Option<SlotId>) {
        let door = || {
            let mut slots = self.0.slots();
            let found = slots.find(page).filter(|(found, _)| Some(*found) == slot);
            found.map(|(_, door)| door.mailbox.clone())
        };
        while let Some(mailbox) = door() {
            // A full mailbox is asked again in the next round.
            let _ = mailbox.try_send(Command::Drain);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells all rooms to store what they hold, to send their members away and to end. Returns when all have ended.
    pub async fn drain(&self) {
        self.tell_all(|| Command::Drain, |shared| shared.slots().is_empty())
            .await;
    }

    /// Tells all rooms to send their members away although something is unstored. Returns when no member is left.
    pub async fn abandon(&self) {
        self.tell_all(
            || Command::Abandon,
            |shared| shared.members.load(Ordering::Relaxed) == 0,
        )
        .await;
    }

    async fn tell_all(&self, command: impl Fn() -> Command, done: impl Fn(&Shared) -> bool) {
        while !done(&self.0) {
            let mailboxes: Vec<_> = self.0.slots().doors().map(|door| door.mailbox.clone()).collect();
            for mailbox in mailboxes {
                // A full mailbox is asked again in the next round.
                let _ = mailbox.try_send(command());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn lease(&self, page: &PageId) -> Lease {
        let mut slots = self.0.slots();
        let (slot, door) = slots.lease(page, |slot| {
            let (mailbox, commands) = mpsc::channel(self.0.config.mailbox);
            let calls = Arc::<Calls>::default();
            let shared = Arc::downgrade(&self.0);
            let closed = self.0.closed().get(page).cloned();
            tokio::spawn(task::run(
                page.clone(),
                (slot, closed),
                shared,
                commands,
                calls.clone(),
            ));
            Door { mailbox, calls }
        });
        self.leased(page, slot, door.clone())
    }

    fn lease_if_open(&self, page: &PageId) -> Option<Lease> {
        let mut slots = self.0.slots();
        let (slot, door) = slots.lease_if_open(page)?;
        Some(self.leased(page, slot, door.clone()))
    }

    fn leased(&self, page: &PageId, slot: SlotId, door: Door) -> Lease {
        Lease {
            shared: self.0.clone(),
            page: page.clone(),
            slot,
            door,
        }
    }
}

impl Shared {
    /// The number of a member that joins now. Only its room's task draws it, so that within a room numbers grow in the order of joining.
    pub(super) fn next_member(&self) -> MemberId {
        MemberId(self.next_member.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells how many members a room has now.
    pub(super) fn members_changed(&self, page: &PageId, before: usize, now: usize) {
        self.members.fetch_add(now, Ordering::Relaxed);
        self.members.fetch_sub(before, Ordering::Relaxed);
        if (before == 0) != (now == 0)
            && let Some(listener) = self.attendance.get()
        {
            listener.attended(page, now > 0);
        }
    }

    fn closed(&self) -> MutexGuard<'_, BTreeMap<PageId, CancellationToken>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, Slots<Door>> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
