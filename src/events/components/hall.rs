//! The components that have members, shared by all connections and the bridge.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::{Value as Json, json};
use storage::PageId;
use tokio::sync::Semaphore;

use super::{
    desk::Desk,
    edits::{Author, Outcome},
    fields::{Edit, Named},
    lock,
    members::{Members, Telling, named},
};
use crate::{
    events::{
        Alarm, Answer, EventRooms, EventSocket, History, SocketId, Timed, VersionLimits, Way, event_text,
        ticker,
    },
    reader::Readers,
    rooms::{Departure, Refusal, RefusalCode, Registry, RoomKind, RoomName},
};

/// Contents of components that are being merged at once, in KiB; one larger component alone passes.
pub(super) const MAX_MERGING_KIB: u32 = 64 * 1024;

/// The components that have members.
///
/// One lock guards who is where, and what follows from a change is told while it is held, so that everybody is told everything in one order.
pub struct Components {
    pub(super) registry: Registry,
    pub(super) readers: Readers,
    pub(super) rooms: EventRooms,
    pub(super) history: History,
    pub(super) versions: VersionLimits,
    /// Place for what is being merged, in KiB.
    pub(super) merging: Semaphore,
    alarm: Alarm,
    members: Mutex<Members>,
    /// The desks, and how many need each.
    desks: Mutex<BTreeMap<PageId, (Arc<Desk>, usize)>>,
    /// The desks that members need.
    holds: Mutex<BTreeMap<(SocketId, RoomName), Hold>>,
}

/// A desk for as long as this is kept.
pub(super) struct Hold {
    components: Arc<Components>,
    page: PageId,
    desk: Arc<Desk>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut desks = lock(&self.components.desks);
        if let Some((_, count)) = desks.get_mut(&self.page) {
            *count -= 1;
            if *count == 0 {
                desks.remove(&self.page);
                self.desk.stop.cancel();
            }
        }
    }
}

impl Components {
    /// Nobody is anywhere yet.
    pub fn new(
        (registry, readers): (Registry, Readers),
        (rooms, alarm): (EventRooms, Alarm),
        history: History,
        versions: VersionLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry,
            readers,
            rooms,
            history,
            versions,
            merging: Semaphore::new(MAX_MERGING_KIB as usize),
            alarm,
            members: Mutex::default(),
            desks: Mutex::default(),
            holds: Mutex::default(),
        })
    }

    fn hold(self: &Arc<Self>, room: &RoomName) -> Result<Hold, Refusal> {
        let page = room
            .asked()
            .ok_or_else(|| Refusal::malformed("there is no such component"))?;
        let mut desks = lock(&self.desks);
        let (desk, count) = desks.entry(page.clone()).or_insert_with(|| {
            let desk = Arc::new(Desk::new(&page, self));
            tokio::spawn(desk.clone().run());
            (desk, 0)
        });
        *count += 1;
        let desk = desk.clone();
        drop(desks);
        Ok(Hold {
            components: self.clone(),
            page,
            desk,
        })
    }

    /// Changes who is where, and tells what follows from it.
    fn change_members<T>(&self, change: impl FnOnce(&mut Members, Instant) -> (Vec<Telling>, T)) -> T {
        let now = ticker::now();
        let mut members = lock(&self.members);
        let before = members.next_deadline();
        let (told, given) = change(&mut members, now);
        self.tell_all(&told);
        let after = members.next_deadline();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.alarm.set_off();
        }
        given
    }

    fn tell_all(&self, told: &[Telling]) {
        for Telling {
            rooms,
            except,
            event,
            body,
        } in told
        {
            self.rooms.tell(rooms, *except, event, body);
        }
    }

    /// A socket follows a component, what components belong to, or both.
    pub(super) async fn subscribe(self: &Arc<Self>, socket: &Arc<EventSocket>, wanted: &Named) -> Answer {
        let rooms = wanted.rooms();
        let mut entered: Vec<RoomName> = Vec::new();
        let entering = async {
            let mut role = None;
            for room in &rooms {
                let was_there = socket.role(room).is_some();
                let given = socket.enter(room, Way::Room).await?;
                role.get_or_insert(given);
                if !was_there {
                    entered.push(room.clone());
                }
            }
            let known = match &wanted.component {
                Some(room) => Some(self.come(socket, room).await?),
                None => None,
            };
            Ok((role, known))
        };
        let entering: Result<_, Refusal> = entering.await;
        let (role, known) = match entering {
            Ok(entered) => entered,
            Err(refusal) => {
                self.leave(socket, &entered, Departure::Clean);
                return Err(refusal);
            }
        };
        self.appear(socket, &rooms, true);
        // Who sends it away has found it nowhere before this.
        if rooms.iter().any(|room| socket.role(room).is_none()) {
            self.leave(socket, &rooms, Departure::Clean);
            return Err(Refusal::new(
                RefusalCode::Forbidden,
                "you were sent out of the room",
            ));
        }
        let mut answer = named(&rooms);
        answer.insert("role".to_owned(), json!(role.map(|role| role.as_str())));
        if let Some((seq, data)) = known {
            answer.insert("data".to_owned(), data);
            answer.insert("seq".to_owned(), seq.into());
        }
        Ok(Json::Object(answer))
    }

    /// A socket that is in a component's room hears every change of it from now on. Gives what the component is now.
    async fn come(self: &Arc<Self>, socket: &EventSocket, room: &RoomName) -> Result<(u64, Json), Refusal> {
        let hold = self.hold(room)?;
        let desk = hold.desk.clone();
        let before = lock(&self.holds).insert((socket.id(), room.clone()), hold);
        drop(before);
        let (seq, content) = desk.come(self, socket.id()).await?;
        Ok((seq, serde_json::from_str(content.get()).unwrap_or_default()))
    }

    fn appear(&self, socket: &EventSocket, rooms: &[RoomName], is_told: bool) {
        self.change_members(|members, now| {
            let (others, own) = members.came(now, (socket.id(), socket.person()), rooms);
            for telling in own.iter().filter(|_| is_told) {
                socket.push(&event_text(telling.event, &telling.body));
            }
            (others, ())
        });
    }

    /// A socket that has lost its connection is in its rooms again.
    pub(super) async fn returned(self: &Arc<Self>, socket: &EventSocket) {
        let rooms = socket.seats().into_iter().map(|(room, _)| room);
        let rooms: Vec<_> = rooms.filter(is_ours).collect();
        for room in &rooms {
            // One room after the other: what a component belongs to is known from before.
            self.appear(socket, std::slice::from_ref(room), false);
            if room.kind() == RoomKind::Component
                && let Err(refusal) = self.come(socket, room).await
            {
                tracing::debug!(room = room.as_str(), %refusal, "what somebody has of a component is not known");
            }
        }
        let closed: Vec<_> = rooms
            .into_iter()
            .filter(|room| socket.role(room).is_none())
            .collect();
        self.leave(socket, &closed, Departure::Clean);
    }

    /// A socket gives rooms up.
    pub(super) fn unsubscribe(&self, socket: &EventSocket, unwanted: &Named) -> Answer {
        let rooms = unwanted.rooms();
        self.leave(socket, &rooms, Departure::Clean);
        Ok(Json::Object(named(&rooms)))
    }

    /// A socket is in these rooms no more.
    pub(super) fn leave(&self, socket: &EventSocket, rooms: &[RoomName], departure: Departure) {
        for room in rooms {
            socket.leave(room, Way::Room);
        }
        self.forget(socket.id(), rooms, departure);
    }

    /// A socket that is in these rooms no more is nobody there.
    pub(super) fn forget(&self, socket: SocketId, rooms: &[RoomName], departure: Departure) {
        let rooms: Vec<_> = rooms.iter().filter(|room| is_ours(room)).cloned().collect();
        if rooms.is_empty() {
            return;
        }
        self.change_members(|members, now| (members.went(now, socket, &rooms, departure), ()));
        for room in rooms {
            let hold = lock(&self.holds).remove(&(socket, room));
            if let Some(hold) = hold {
                lock(&hold.desk.copies).went(socket);
            }
        }
    }

    /// A socket has gone.
    pub(super) fn disconnect(&self, socket: SocketId, departure: Departure) {
        let mut rooms = lock(&self.members).rooms_of(socket);
        // Also where it was just coming.
        let holds = lock(&self.holds);
        let held = holds.keys().filter(|(holder, _)| *holder == socket);
        rooms.extend(held.map(|(_, room)| room.clone()));
        drop(holds);
        self.forget(socket, &rooms, departure);
    }

    /// A socket types at a component.
    pub(super) fn types(&self, socket: SocketId, at: &Named) -> Answer {
        self.gesture(socket, at, |members, now, rooms| {
            members.types(now, socket, at, rooms).into_iter().collect()
        })
    }

    /// A socket's cursor is at a position, or nowhere.
    pub(super) fn points(&self, socket: SocketId, at: &Named, position: Option<Json>) -> Answer {
        self.gesture(socket, at, |members, now, rooms| {
            members.points(now, socket, at, rooms, position)
        })
    }

    fn gesture(
        &self,
        socket: SocketId,
        at: &Named,
        gesture: impl FnOnce(&mut Members, Instant, Vec<RoomName>) -> Vec<Telling>,
    ) -> Answer {
        let is_there = self.change_members(|members, now| {
            let rooms = members.audience(socket, at);
            match rooms.is_empty() {
                true => (Vec::new(), false),
                false => (gesture(members, now, rooms), true),
            }
        });
        match is_there {
            true => Ok(json!({})),
            false => Err(Refusal::new(RefusalCode::Conflict, "subscribe to it first")),
        }
    }

    /// The rooms in which a socket's change of a component is told.
    pub(super) fn audience_of_change(&self, socket: SocketId, named: &Named) -> Vec<RoomName> {
        let mut rooms = lock(&self.members).audience(socket, named);
        // Who is no member of it may change it all the same.
        if let Some(component) = named.component.as_ref().filter(|room| !rooms.contains(room)) {
            rooms.insert(0, component.clone());
        }
        rooms
    }

    /// Changes a component. It goes on when nobody waits for it any more.
    pub(super) async fn change(self: &Arc<Self>, author: Author, edit: Edit) -> Result<Outcome, Refusal> {
        let room = edit.named.component.as_ref();
        let room = room.ok_or_else(|| Refusal::malformed("`componentId` must be an id of 1 to 255 bytes"))?;
        let (hold, components) = (self.hold(room)?, self.clone());
        let changing = tokio::spawn(async move {
            let outcome = hold.desk.clone().change(components, author, edit).await;
            drop(hold);
            outcome
        });
        changing.await.unwrap_or_else(|_| Err(Refusal::draining()))
    }
}

fn is_ours(room: &RoomName) -> bool {
    matches!(room.kind(), RoomKind::Component | RoomKind::Entity)
}

impl Timed for Components {
    fn next_deadline(&self) -> Option<Instant> {
        lock(&self.members).next_deadline()
    }

    fn tick(&self, now: Instant) {
        let mut members = lock(&self.members);
        let told = members.tell(now);
        self.tell_all(&told);
    }
}
