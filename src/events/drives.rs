//! Who of the drives and workspaces is there, idle or away, and when those who are away were last there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use storage::{LastSeen, SharedStore, StoreError};

use super::{
    Alarm, EventRooms, Letters, SocketId, Timed,
    statuses::{MAX_KNOWN, Statuses},
    ticker::now,
};
use crate::{
    auth,
    rooms::{Departure, RoomKind, RoomName},
};

/// A connection of which no event has come for so long is idle.
pub const IDLE_AFTER: Duration = Duration::from_secs(300);
/// Times that wait to be stored, at most.
const MAX_UNSTORED: usize = 10_000;

/// Who is there in all drives and workspaces.
pub struct Drives {
    rooms: EventRooms,
    alarm: Alarm,
    store: SharedStore,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    drives: BTreeMap<RoomName, Drive>,
    sockets: BTreeMap<SocketId, Activity>,
    /// When sockets become idle.
    idle_at: BTreeSet<(Instant, SocketId)>,
    due: BTreeSet<(Instant, RoomName)>,
    /// Times that are to be stored, by room and user; `None` for users that are to be forgotten.
    unstored: BTreeMap<(RoomName, Arc<str>), Option<SystemTime>>,
    is_storing: bool,
}

#[derive(Default)]
struct Drive {
    statuses: Statuses,
    deadline: Option<Instant>,
}

/// What a socket does.
#[derive(Default)]
struct Activity {
    rooms: BTreeSet<RoomName>,
    /// Its program has said that nobody looks.
    is_away: bool,
    /// When it becomes idle; `None` when it is.
    idle_at: Option<Instant>,
}

impl Activity {
    fn is_idle(&self) -> bool {
        self.is_away || self.idle_at.is_none()
    }
}

impl Drives {
    /// Nobody yet. Times are stored here.
    pub fn new(rooms: EventRooms, alarm: Alarm, store: SharedStore) -> Self {
        Self {
            rooms,
            alarm,
            store,
            state: Arc::default(),
        }
    }

    /// Whether a room shows who of its members is there.
    pub fn shows(room: &RoomName) -> bool {
        matches!(room.kind(), RoomKind::Drive | RoomKind::Workspace)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user has entered a room over a socket, and hears who is there. Where nobody was there before, the store is asked for the members;
    /// what it cannot say is left out.
    pub async fn enter(&self, room: &RoomName, socket: SocketId, user: &Arc<str>) {
        let is_known = self.state().drives.contains_key(room);
        let known = match is_known {
            true => Vec::new(),
            false => self
                .store
                .seen(room.as_str(), MAX_KNOWN)
                .await
                .unwrap_or_else(|error| {
                    tracing::warn!(%error, "members that are away are not shown");
                    Vec::new()
                }),
        };
        let (mut state, time) = (self.state(), (now(), auth::now()));
        let drive = state.drives.entry(room.clone()).or_default();
        let known = known.into_iter().map(|seen| (seen.user.into(), seen.at));
        drive.statuses.known(known);
        let activity = state.sockets.entry(socket).or_default();
        let is_new = activity.rooms.is_empty();
        activity.rooms.insert(room.clone());
        if is_new {
            activity.idle_at = Some(time.0 + IDLE_AFTER);
            state.idle_at.insert((time.0 + IDLE_AFTER, socket));
        }
        let is_idle = state.sockets.get(&socket).is_some_and(Activity::is_idle);
        if let Some(drive) = state.drives.get_mut(room) {
            drive.statuses.came(time, socket, user, is_idle);
        }
        self.settle(&mut state, time, room);
        self.store_times(&mut state);
        self.alarm.set_off();
    }

    /// A socket has left a room.
    pub fn leave(&self, room: &RoomName, socket: SocketId, departure: Departure) {
        let (mut state, time) = (self.state(), (now(), auth::now()));
        if let Some(activity) = state.sockets.get_mut(&socket)
            && activity.rooms.remove(room)
        {
            if activity.rooms.is_empty() {
                let idle_at = activity.idle_at;
                state.sockets.remove(&socket);
                if let Some(idle_at) = idle_at {
                    state.idle_at.remove(&(idle_at, socket));
                }
            }
            if let Some(drive) = state.drives.get_mut(room) {
                drive.statuses.went(time, socket, departure);
            }
            self.settle(&mut state, time, room);
            self.store_times(&mut state);
        }
    }

    /// A user whose sockets have been sent out of a room is no member any more.
    pub fn expel(&self, room: &RoomName, user: &Arc<str>) {
        let (mut state, time) = (self.state(), (now(), auth::now()));
        let drive = state.drives.get_mut(room);
        if drive.is_none_or(|drive| drive.statuses.forget(user)) {
            state.unstored.insert((room.clone(), user.clone()), None);
            self.settle(&mut state, time, room);
            self.store_times(&mut state);
        }
    }

    /// A socket has gone.
    pub fn disconnect(&self, socket: SocketId, departure: Departure) {
        let state = self.state();
        let rooms = state.sockets.get(&socket).map(|activity| activity.rooms.clone());
        drop(state);
        for room in rooms.into_iter().flatten() {
            self.leave(&room, socket, departure);
        }
    }

    /// An event has come over a socket.
    pub fn touch(&self, socket: SocketId) {
        self.act(socket, None);
    }

    /// Whether a socket is idle. One that is in no drive and no workspace is not known to be.
    pub fn is_idle(&self, socket: SocketId) -> bool {
        self.state().sockets.get(&socket).is_some_and(Activity::is_idle)
    }

    /// A program says that its user looks away, or back.
    pub fn set_away(&self, socket: SocketId, is_away: bool) {
        self.act(socket, Some(is_away));
    }

    fn act(&self, socket: SocketId, is_away: Option<bool>) {
        let (mut state, time) = (self.state(), (now(), auth::now()));
        let Some(activity) = state.sockets.get_mut(&socket) else {
            return;
        };
        let was_idle = activity.is_idle();
        activity.is_away = is_away.unwrap_or(activity.is_away);
        let before = activity.idle_at.replace(time.0 + IDLE_AFTER);
        let is_idle = activity.is_idle();
        let rooms = (was_idle != is_idle).then(|| activity.rooms.clone());
        if let Some(before) = before {
            state.idle_at.remove(&(before, socket));
        }
        state.idle_at.insert((time.0 + IDLE_AFTER, socket));
        self.set_idle(&mut state, time, socket, is_idle, rooms);
    }

    fn set_idle(
        &self,
        state: &mut State,
        time: (Instant, SystemTime),
        socket: SocketId,
        is_idle: bool,
        rooms: Option<BTreeSet<RoomName>>,
    ) {
        for room in rooms.into_iter().flatten() {
            if let Some(drive) = state.drives.get_mut(&room) {
                drive.statuses.set_idle(time.1, socket, is_idle);
            }
            self.settle(state, time, &room);
        }
    }

    /// Tells what is due in a room, and notes when more will be.
    fn settle(&self, state: &mut State, (now, at): (Instant, SystemTime), room: &RoomName) {
        let Some(drive) = state.drives.get_mut(room) else {
            return;
        };
        let mut told = Letters::new();
        drive.statuses.tell(now, room, &mut told);
        // Under the lock, so that what is told in a room comes in its order.
        self.rooms.tell_each(&told);
        for (user, at) in drive.statuses.take_writes(now, at) {
            if state.unstored.len() < MAX_UNSTORED {
                state.unstored.insert((room.clone(), user), Some(at));
            }
        }
        let is_idle = drive.statuses.is_idle();
        let deadline = drive.statuses.next_deadline().filter(|_| !is_idle);
        let before = std::mem::replace(&mut drive.deadline, deadline);
        if is_idle {
            state.drives.remove(room);
        }
        if let Some(before) = before {
            state.due.remove(&(before, room.clone()));
        }
        if let Some(deadline) = deadline {
            state.due.insert((deadline, room.clone()));
            if before.is_none_or(|before| deadline < before) {
                self.alarm.set_off();
            }
        }
    }

    /// Stores the times that wait, all at once and nothing beside that.
    fn store_times(&self, state: &mut State) {
        if state.unstored.is_empty() || std::mem::replace(&mut state.is_storing, true) {
            return;
        }
        let (store, shared) = (self.store.clone(), self.state.clone());
        tokio::spawn(async move {
            loop {
                let unstored = {
                    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let unstored = std::mem::take(&mut state.unstored);
                    state.is_storing = !unstored.is_empty();
                    unstored
                };
                if unstored.is_empty() {
                    return;
                }
                if let Err(error) = store_all(&store, &unstored).await {
                    tracing::warn!(%error, count = unstored.len(), "when members were last there cannot be stored now");
                    // With what changes next, which is newer.
                    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    for (of, at) in unstored {
                        if state.unstored.len() < MAX_UNSTORED {
                            state.unstored.entry(of).or_insert(at);
                        }
                    }
                    state.is_storing = false;
                    return;
                }
            }
        });
    }
}

async fn store_all(
    store: &SharedStore,
    unstored: &BTreeMap<(RoomName, Arc<str>), Option<SystemTime>>,
) -> Result<(), StoreError> {
    let seen = unstored.iter().filter_map(|((room, user), at)| {
        Some(LastSeen {
            room: room.as_str().to_owned(),
            user: user.as_ref().to_owned(),
            at: (*at)?,
        })
    });
    let seen: Vec<_> = seen.collect();
    if !seen.is_empty() {
        store.see(&seen).await?;
    }
    for ((room, user), _) in unstored.iter().filter(|(_, at)| at.is_none()) {
        store.forget_seen(room.as_str(), user).await?;
    }
    Ok(())
}

impl Timed for Drives {
    fn next_deadline(&self) -> Option<Instant> {
        let state = self.state();
        let due = state.due.first().map(|(deadline, _)| *deadline);
        let idle = state.idle_at.first().map(|(deadline, _)| *deadline);
        [due, idle].into_iter().flatten().min()
    }

    fn tick(&self, now: Instant) {
        let (mut state, time) = (self.state(), (now, auth::now()));
        while let Some((at, socket)) = state.idle_at.first().copied()
            && at <= now
        {
            state.idle_at.pop_first();
            let activity = state.sockets.get_mut(&socket);
            let rooms = activity.map(|activity| {
                activity.idle_at = None;
                activity.rooms.clone()
            });
            self.set_idle(&mut state, time, socket, true, rooms);
        }
        while let Some((deadline, room)) = state.due.first().cloned()
            && deadline <= now
        {
            state.due.pop_first();
            if let Some(drive) = state.drives.get_mut(&room) {
                drive.deadline = None;
            }
            self.settle(&mut state, time, &room);
        }
        self.store_times(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use storage::MemoryStore;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        events::{EventRules, GRACE, History, RecoveryLimits, RoomLimits},
        supervision::Supervisor,
    };

    async fn drives() -> Drives {
        let store: SharedStore = Arc::new(MemoryStore::default());
        let (rules, stop) = (EventRules::default(), CancellationToken::new());
        let history = History::start(store.clone(), rules, stop, &Supervisor::default()).await;
        let (history, last) = history.expect("a history");
        let limits = RoomLimits {
            per_socket: 0,
            members: 0,
        };
        let recovery = RecoveryLimits {
            window: Duration::ZERO,
            max_bytes: 0,
        };
        let rooms = EventRooms::new(limits, recovery, history, last);
        Drives::new(rooms, Alarm::default(), store)
    }

    #[tokio::test]
    async fn the_clock_sleeps_when_nobody_is_there() {
        let drives = drives().await;
        let (room, user): (_, Arc<str>) = (RoomName::parse("drive:d").expect("a room"), "ada".into());
        for departure in [Departure::Clean, Departure::Lost] {
            drives.enter(&room, SocketId(1), &user).await;
            drives.leave(&room, SocketId(1), departure);
            drives.tick(now() + GRACE);
            drives.tick(now() + GRACE + Duration::from_secs(120));
            assert_eq!(drives.next_deadline(), None, "{departure:?}");
            assert!(drives.state().drives.is_empty() && drives.state().sockets.is_empty());
        }
    }

    #[tokio::test]
    async fn who_says_nothing_for_five_minutes_is_idle_unless_another_tab_does_something() {
        assert_eq!(IDLE_AFTER, Duration::from_secs(300));
        let drives = drives().await;
        let (room, user): (_, Arc<str>) = (RoomName::parse("drive:d").expect("a room"), "ada".into());
        let before = now();
        drives.enter(&room, SocketId(1), &user).await;
        let after = now();
        drives.tick(before + IDLE_AFTER - Duration::from_millis(1));
        assert!(!drives.is_idle(SocketId(1)));
        drives.tick(after + IDLE_AFTER);
        assert!(drives.is_idle(SocketId(1)));
        let shown = |drives: &Drives| {
            let mut state = drives.state();
            let statuses = &mut state.drives.get_mut(&room).expect("a drive").statuses;
            statuses.came((now(), auth::now()), SocketId(9), &"watcher".into(), false);
            let mut told = Letters::new();
            statuses.tell(now(), &room, &mut told);
            statuses.went((now(), auth::now()), SocketId(9), Departure::Clean);
            let list = told.iter().find(|(socket, _)| *socket == SocketId(9));
            String::from_utf8_lossy(&list.expect("a list").1).into_owned()
        };
        let is = |status: &str| format!(r#"{{"userId":"ada","status":"{status}""#);
        assert!(shown(&drives).contains(&is("idle")));
        // Another window of the same user.
        drives.enter(&room, SocketId(2), &user).await;
        assert!(shown(&drives).contains(&is("online")));
        drives.leave(&room, SocketId(2), Departure::Clean);
        assert!(shown(&drives).contains(&is("idle")));
        // An event of any kind.
        drives.touch(SocketId(1));
        assert!(!drives.is_idle(SocketId(1)) && shown(&drives).contains(&is("online")));
    }

    #[tokio::test]
    async fn who_is_expelled_is_shown_no_more() {
        let drives = drives().await;
        let (room, user): (_, Arc<str>) = (RoomName::parse("drive:d").expect("a room"), "ada".into());
        drives.enter(&room, SocketId(1), &"ben".into()).await;
        drives.enter(&room, SocketId(2), &user).await;
        drives.leave(&room, SocketId(2), Departure::Clean);
        drives.expel(&room, &user);
        drives.tick(now() + Duration::from_secs(2));
        let mut state = drives.state();
        let statuses = &mut state.drives.get_mut(&room).expect("a drive").statuses;
        statuses.came((now(), auth::now()), SocketId(3), &"cleo".into(), false);
        let mut told = Letters::new();
        statuses.tell(now(), &room, &mut told);
        let newcomer = told.iter().find(|(socket, _)| *socket == SocketId(3));
        let text = newcomer.map(|(_, text)| String::from_utf8_lossy(text).into_owned());
        let text = text.expect("a list");
        assert!(text.contains("ben") && !text.contains("ada"), "{text}");
    }
}
