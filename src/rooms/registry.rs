//! Page id to room: each page is open in at most one room of the process, opened once and retired without losing a joiner.
//!
//! A slot's lease count says how many callers are about to talk to its room. A room may retire only when the registry, under
//! its lock, sees no lease; so a joiner either finds a room that stays, or makes a new slot.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crdt::Badge;
use storage::{PageId, Seq, SharedStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    ClientMessage, Compactor, Departure, MemberId, Outbox, Refusal, Role, Room, RoomConfig, StoreWriter,
    Viewer,
    standing::{Calls, Change, Standing},
    task::{self, Announce, Command, Join, Post, Reading},
};
use crate::telemetry::Metrics;

/// What all rooms share.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// What each room is told.
    pub room: Arc<RoomConfig>,
    /// Commands that wait in a room's mailbox; whoever finds it full waits.
    pub mailbox: usize,
}

pub(super) type SlotId = u64;

#[derive(Debug)]
struct Slot {
    id: SlotId,
    mailbox: mpsc::Sender<Command>,
    calls: Arc<Calls>,
    leases: usize,
}

pub(super) struct Shared {
    pub(super) config: RegistryConfig,
    pub(super) store: SharedStore,
    pub(super) writer: StoreWriter,
    pub(super) compactor: Compactor,
    pub(super) metrics: Metrics,
    slots: Mutex<HashMap<PageId, Slot>>,
    next_slot: AtomicU64,
    next_member: AtomicU64,
    /// KiB of large messages that may still be brought to rooms.
    large: Arc<Semaphore>,
    /// Members of all rooms.
    pub(super) members: AtomicUsize,
}

/// The rooms of this process. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

/// A connection's seat: how it talks to its room.
#[derive(Debug)]
pub struct Seat {
    member: MemberId,
    mailbox: mpsc::Sender<Command>,
    large: Arc<Semaphore>,
    handle: SeatHandle,
    seq: Seq,
    left: bool,
}

/// Changes what a member may do, from outside.
#[derive(Clone, Debug)]
pub struct SeatHandle {
    member: MemberId,
    calls: Arc<Calls>,
    standing: Arc<Standing>,
    outbox: Arc<Outbox>,
}

/// Place in a room's mailbox, kept for one message.
pub struct Permit<'a> {
    place: mpsc::Permit<'a, Command>,
    member: MemberId,
    large: Option<OwnedSemaphorePermit>,
}

/// What a member says at once is large from this many bytes on.
const LARGE_BYTES: usize = 64 * 1024;
/// Of large messages, this much may be under way to all rooms; whoever brings more waits, and is not read meanwhile.
const MAX_LARGE_KIB: usize = 64 * 1024;

impl SeatHandle {
    /// Gives the member another role. Nothing that it said before and that its room has not taken in yet is judged by the old one.
    pub fn change_role(&self, role: Role) {
        self.standing.set(Change::Role(role));
        self.calls.call(self.member);
    }

    /// Sends the member away: nothing more of it is taken in, what is queued for it is dropped, and its presence ends.
    pub fn remove(&self, refusal: Refusal) {
        self.standing.set(Change::Removed(refusal.clone()));
        self.outbox.expel(refusal);
        // A room that is gone has sent its members away itself.
        self.calls.call(self.member);
    }
}

impl Seat {
    /// For whoever decides what the member may do.
    pub fn handle(&self) -> SeatHandle {
        self.handle.clone()
    }

    /// The sequence number up to which the page was stored when the seat was taken.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The seat's number.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Says something to the room if that needs no waiting, and gives it back otherwise.
    pub fn try_say(&self, messages: Vec<ClientMessage>) -> Result<(), Vec<ClientMessage>> {
        if payload_bytes(&messages) >= LARGE_BYTES {
            return Err(messages);
        }
        match self.mailbox.try_send(Command::Said {
            member: self.member,
            messages,
            large: None,
        }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(Command::Said { messages, .. })) => Err(messages),
            // A room that is gone hangs up on its members itself.
            Err(_) => Ok(()),
        }
    }

    /// Waits for place in the mailbox for these messages. `None` when the room is gone.
    pub async fn place(&self, messages: &[ClientMessage]) -> Option<Permit<'_>> {
        let bytes = payload_bytes(messages);
        let large = if bytes >= LARGE_BYTES {
            let share = u32::try_from((bytes / 1024).min(MAX_LARGE_KIB)).unwrap_or(u32::MAX);
            Some(self.large.clone().acquire_many_owned(share).await.ok()?)
        } else {
            None
        };
        let place = self.mailbox.reserve().await.ok()?;
        Some(Permit {
            place,
            member: self.member,
            large,
        })
    }

    /// Posts an update that is answered when it is stored. The future is ready as soon as the room has it in its mailbox, behind
    /// all that was said before; `None` when the room is gone.
    pub async fn post(
        &self,
        user: Option<Arc<str>>,
        update: Bytes,
    ) -> Option<oneshot::Receiver<Result<Seq, Refusal>>> {
        let (reply, answer) = oneshot::channel();
        let post = Post {
            member: Some(self.member),
            user,
            update,
            reply,
        };
        self.mailbox.send(Command::Post(Box::new(post))).await.ok()?;
        Some(answer)
    }

    /// Gives the seat back.
    pub async fn leave(mut self, departure: Departure) {
        // A room that is gone needs to be told nothing.
        let _ = self
            .mailbox
            .send(Command::Left {
                member: self.member,
                departure,
            })
            .await;
        self.left = true;
    }
}

impl Drop for Seat {
    /// A seat that was not given back belongs to a connection that was cut short.
    fn drop(&mut self) {
        if !self.left {
            let (mailbox, member) = (self.mailbox.clone(), self.member);
            tokio::spawn(async move {
                let _ = mailbox
                    .send(Command::Left {
                        member,
                        departure: Departure::Lost,
                    })
                    .await;
            });
        }
    }
}

impl Permit<'_> {
    /// Says something to the room.
    pub fn say(self, messages: Vec<ClientMessage>) {
        let Self { place, member, large } = self;
        place.send(Command::Said {
            member,
            messages,
            large: large.map(Box::new),
        });
    }

    /// Tells the room that everything queued for this member has left.
    pub fn caught_up(self) {
        self.place.send(Command::CaughtUp { member: self.member });
    }
}

fn payload_bytes(messages: &[ClientMessage]) -> usize {
    messages.iter().map(ClientMessage::payload_bytes).sum()
}

/// Keeps a room from retiring while somebody is about to talk to it.
struct Lease<'a> {
    shared: &'a Shared,
    page: PageId,
    slot: SlotId,
    mailbox: mpsc::Sender<Command>,
    calls: Arc<Calls>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self
            .shared
            .slots()
            .get_mut(&self.page)
            .filter(|slot| slot.id == self.slot)
        {
            slot.leases -= 1;
        }
    }
}

/// A room can end between the moment it is found and the moment it is spoken to only by failing; then one more is tried.
const TRIES: usize = 3;

impl Registry {
    /// A registry without rooms.
    pub fn new(
        config: RegistryConfig,
        store: SharedStore,
        (writer, compactor): (StoreWriter, Compactor),
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            store,
            writer,
            compactor,
            metrics,
            slots: Mutex::default(),
            next_slot: AtomicU64::new(1),
            next_member: AtomicU64::new(1),
            large: Arc::new(Semaphore::new(MAX_LARGE_KIB)),
            members: AtomicUsize::new(0),
        }))
    }

    /// Takes a seat in the room of `page`, opening it if it is not open, for somebody whom others see as `viewer`.
    pub async fn join(
        &self,
        page: &PageId,
        role: Role,
        viewer: Viewer,
        badge: Option<Arc<Badge>>,
        outbox: &Arc<Outbox>,
    ) -> Result<Seat, Refusal> {
        for _ in 0..TRIES {
            let lease = self.lease(page);
            let (reply, answer) = oneshot::channel();
            let standing = Arc::new(Standing::default());
            let join = Join {
                role,
                viewer: viewer.clone(),
                badge: badge.clone(),
                outbox: outbox.clone(),
                standing: standing.clone(),
                reply,
            };
            if lease.mailbox.send(Command::Join(Box::new(join))).await.is_ok()
                && let Ok(joined) = answer.await
            {
                return joined.map(|(member, seq)| Seat {
                    member,
                    mailbox: lease.mailbox.clone(),
                    large: self.0.large.clone(),
                    handle: SeatHandle {
                        member,
                        calls: lease.calls.clone(),
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
        for _ in 0..TRIES {
            let lease = self.lease(page);
            let (reply, answer) = oneshot::channel();
            let post = Post {
                member: None,
                user: user.clone(),
                update: update.clone(),
                reply,
            };
            if lease.mailbox.send(Command::Post(Box::new(post))).await.is_ok()
                && let Ok(posted) = answer.await
            {
                return posted;
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
        if lease.mailbox.send(announce).await.is_err() {
            return 0;
        }
        answer.await.unwrap_or(0)
    }

    /// Looks at the room of a page if it is open, without opening it, as soon as what it holds now is stored (or the store has been
    /// failing for a while).
    pub async fn read<T: Send + 'static>(
        &self,
        page: &PageId,
        read: impl FnOnce(&mut Room) -> T + Send + 'static,
    ) -> Option<T> {
        let lease = self.lease_if_open(page)?;
        let (reply, stored) = oneshot::channel();
        lease.mailbox.send(Command::Await(reply)).await.ok()?;
        stored.await.ok()?.ok()?;
        let (reply, answer) = oneshot::channel();
        let reading = Reading(Box::new(move |room| {
            let _ = reply.send(read(room));
        }));
        lease.mailbox.send(Command::Read(reading)).await.ok()?;
        answer.await.ok()
    }

    /// What rooms take in.
    pub fn gate(&self) -> &crdt::Limits {
        &self.0.config.room.gate
    }

    /// Whether the room of a page is open, or being opened.
    pub fn is_open(&self, page: &PageId) -> bool {
        self.0.slots().contains_key(page)
    }

    /// How many rooms are open.
    pub fn len(&self) -> usize {
        self.0.slots().len()
    }

    /// Whether no room is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        const PAUSE: Duration = Duration::from_millis(10);
        while !done(&self.0) {
            let mailboxes: Vec<_> = self.0.slots().values().map(|slot| slot.mailbox.clone()).collect();
            for mailbox in mailboxes {
                // A full mailbox is asked again in the next round.
                let _ = mailbox.try_send(command());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn lease(&self, page: &PageId) -> Lease<'_> {
        let mut slots = self.0.slots();
        let slot = match slots.entry(page.clone()) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(vacant) => {
                let id = self.0.next_slot.fetch_add(1, Ordering::Relaxed);
                let (mailbox, commands) = mpsc::channel(self.0.config.mailbox);
                let calls = Arc::<Calls>::default();
                let shared = Arc::downgrade(&self.0);
                tokio::spawn(task::run(page.clone(), id, shared, commands, calls.clone()));
                vacant.insert(Slot {
                    id,
                    mailbox,
                    calls,
                    leases: 0,
                })
            }
        };
        slot.leases += 1;
        Lease {
            shared: &self.0,
            page: page.clone(),
            slot: slot.id,
            mailbox: slot.mailbox.clone(),
            calls: slot.calls.clone(),
        }
    }

    fn lease_if_open(&self, page: &PageId) -> Option<Lease<'_>> {
        let mut slots = self.0.slots();
        let slot = slots.get_mut(page)?;
        slot.leases += 1;
        Some(Lease {
            shared: &self.0,
            page: page.clone(),
            slot: slot.id,
            mailbox: slot.mailbox.clone(),
            calls: slot.calls.clone(),
        })
    }
}

impl Shared {
    /// The number of a member that joins now. Only its room's task draws it, so that within a room numbers grow in the order of joining.
    pub(super) fn next_member(&self) -> MemberId {
        MemberId(self.next_member.fetch_add(1, Ordering::Relaxed))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<PageId, Slot>> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a room out of the registry if nobody is about to talk to it.
    pub(super) fn retire(&self, page: &PageId, id: SlotId) -> bool {
        let mut slots = self.slots();
        match slots.get(page) {
            Some(slot) if slot.id == id && slot.leases > 0 => false,
            Some(slot) if slot.id == id => {
                slots.remove(page);
                true
            }
            Some(_) | None => true,
        }
    }

    /// Takes a room out of the registry that has ended for another reason.
    pub(super) fn remove(&self, page: &PageId, id: SlotId) {
        let mut slots = self.slots();
        if slots.get(page).is_some_and(|slot| slot.id == id) {
            slots.remove(page);
        }
    }
}
