//! What PatioAI's rooms remember, shared by all connections and the bridge.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::Uri;
use moka::{future::Cache, policy::EvictionPolicy};
use serde_json::{Value as Json, json, value::RawValue};

use super::{
    participants::{About, Full, Gone, Joined, Participants, Person},
    refreshes::Refreshes,
    streams::Streams,
    threads::{Activity, Telling, Thread, Threads},
};
use crate::{
    access::Buckets,
    auth::{Secret, Webhook, network, now as wall_clock},
    events::{Alarm, EventRooms, EventSocket, GivenId, SocketId, Timed, Told, event_text, ticker},
    rooms::{Departure, Refusal, RoomName},
};

/// How long it is remembered that a code was wrong.
const WRONG_CODE_TIME: Duration = Duration::from_secs(60);
/// Users and addresses whose wrong codes are remembered, at most.
const MAX_GUESSERS: u64 = 100_000;
/// Behind an address there may be several users.
const USERS_OF_ADDRESS: u32 = 10;

/// How PatioAI's vocabulary is spoken.
#[derive(Clone, Debug, Default)]
pub struct PatioConfig {
    /// Where wishes for answers of an AI go, signed with the secret of the bridge.
    pub ai: Option<(Uri, Secret)>,
    /// Messages and wishes for answers of one user in a minute; 0 for no limit.
    pub messages_per_minute: u32,
    /// Wrong codes of one user in a minute; 0 for no limit.
    pub wrong_codes_per_minute: u32,
}

/// PatioAI's rooms.
///
/// One lock guards what they remember, and what follows from a change is told while it is held: so everybody is told everything in one order.
pub struct Patio {
    rooms: EventRooms,
    alarm: Alarm,
    state: Mutex<State>,
    messages: Buckets<String>,
    wrong_codes: Cache<String, u32>,
    max_wrong_codes: u32,
    ai: Option<Webhook>,
}

#[derive(Default)]
struct State {
    participants: Participants,
    threads: Threads,
    streams: Streams,
    refreshes: Refreshes,
}

impl State {
    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.participants.next_deadline(),
            self.threads.next_deadline(),
            self.streams.next_deadline(),
            self.refreshes.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// The time as it is told.
pub(in crate::events) fn timestamp() -> String {
    humantime::format_rfc3339_millis(wall_clock()).to_string()
}

impl Patio {
    /// Nothing is remembered yet.
    pub fn new(config: &PatioConfig, rooms: EventRooms, alarm: Alarm) -> Arc<Self> {
        let wrong_codes = Cache::builder()
            .max_capacity(MAX_GUESSERS)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(WRONG_CODE_TIME)
            .build();
        let ai = config.ai.clone();
        Arc::new(Self {
            rooms,
            alarm,
            state: Mutex::default(),
            messages: Buckets::per_minute(config.messages_per_minute),
            wrong_codes,
            max_wrong_codes: config.wrong_codes_per_minute,
            ai: ai.map(|(address, secret)| Webhook::new(address, super::ai::SIGNATURE, Some(secret))),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is remembered, and tells what follows from it.
    fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = ticker::now();
        let mut state = self.state();
        let before = state.next_deadline();
        let answer = change(&mut state, now);
        self.tell_due(&mut state, now);
        let after = state.next_deadline();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.alarm.set_off();
        }
        answer
    }

    fn tell_due(&self, state: &mut State, now: Instant) {
        for gone in state.participants.given_up(now) {
            state.threads.leave(now, &gone.room, &gone.user);
            self.tell_disconnected(&gone, "transport close");
        }
        state.streams.forget_silent(now);
        for telling in state.threads.tellings(now) {
            self.tell_telling(&telling);
        }
        for user in state.refreshes.due(now) {
            let body = json!({ "timestamp": timestamp(), "userId": user });
            if let Some(room) = RoomName::of_user(&user) {
                self.rooms.tell(&[room], None, "sidebar-refresh-requested", &body);
            }
        }
    }

    fn tell_disconnected(&self, gone: &Gone, reason: &str) {
        let body = json!({
            "userId": gone.user,
            "shareCode": gone.room.id(),
            "reason": reason,
            "timestamp": timestamp(),
        });
        self.rooms
            .tell(std::slice::from_ref(&gone.room), None, "user-disconnected", &body);
    }

    fn tell_telling(&self, telling: &Telling) {
        match telling {
            Telling::Typing(room, thread, users) => {
                let body = json!({
                    "users": users,
                    "roomId": room.id(),
                    "threadId": thread,
                    "timestamp": timestamp(),
                });
                self.rooms
                    .tell(std::slice::from_ref(room), None, "user-typing", &body);
            }
            Telling::Activity(room, activities) => {
                let body = activity_body(room, activities);
                self.rooms
                    .tell(std::slice::from_ref(room), None, "cross-thread-activity", &body);
            }
        }
    }

    /// A socket that is in a room already takes part there: it and the others are told.
    pub(super) fn join(
        &self,
        socket: &EventSocket,
        room: &RoomName,
        about: About,
        is_admin: bool,
    ) -> Result<Json, Full> {
        self.change(|state, _| {
            let (person, time) = (person(socket), timestamp());
            let who = (person.clone(), socket.id());
            let joined = state
                .participants
                .join(room, about.clone(), who, time.clone(), is_admin)?;
            let body = joined_body(room, &about, joined);
            socket.tell("room-joined", &body);
            if joined.is_new_socket {
                for (thread, stream) in state.streams.of_room(room) {
                    socket.tell("ai-stream-start", &stream.start);
                    let so_far = json!({
                        "threadId": thread,
                        "chunk": stream.text,
                        "timestamp": time,
                        "replayed": true,
                        "truncated": stream.is_cut,
                    });
                    socket.tell("ai-stream-chunk", &so_far);
                }
                let activities = state.threads.activity(room);
                if !activities.is_empty() {
                    socket.tell("cross-thread-activity", &activity_body(room, &activities));
                }
            }
            if joined.is_new_user {
                let others = json!({
                    "userId": person.user,
                    "shareCode": room.id(),
                    "roomName": about.name,
                    "timestamp": time,
                });
                self.rooms.tell(
                    std::slice::from_ref(room),
                    Some(socket.id()),
                    "user-joined-room",
                    &others,
                );
            }
            Ok(body)
        })
    }

    /// A socket takes part in a room no longer. Where its user does not, the others are told unless they know.
    pub(super) fn leave(&self, room: &RoomName, socket: SocketId, others_know: bool) {
        self.change(|state, now| {
            state.threads.stop(now, room, socket);
            let Some(gone) = state.participants.leave(room, socket) else {
                return;
            };
            state.threads.leave(now, room, &gone.user);
            if !others_know {
                let body = json!({
                    "userId": gone.user,
                    "shareCode": room.id(),
                    "roomName": gone.room_name,
                    "timestamp": timestamp(),
                });
                self.rooms
                    .tell(std::slice::from_ref(room), Some(socket), "user-left-room", &body);
            }
        });
    }

    /// A user takes part no longer, also one that is waited for. The others know.
    pub(super) fn forget(&self, room: &RoomName, user: &str) {
        self.change(|state, now| {
            state.participants.forget(room, user);
            state.threads.leave(now, room, user);
        });
    }

    /// A connection has ended. Repeated, nothing happens.
    pub(super) fn disconnect(&self, socket: SocketId, departure: Departure) {
        self.change(|state, now| {
            let rooms: Vec<_> = state.participants.rooms_of(socket).cloned().collect();
            for room in &rooms {
                state.threads.stop(now, room, socket);
            }
            match departure {
                Departure::Lost => {
                    state.participants.lose(now, socket);
                }
                Departure::Clean => {
                    for room in &rooms {
                        if let Some(gone) = state.participants.leave(room, socket) {
                            state.threads.leave(now, room, &gone.user);
                            self.tell_disconnected(&gone, "client namespace disconnect");
                        }
                    }
                }
            }
        });
    }

    /// A user goes to a thread. Gives the one that it was in; `None` when it does not take part.
    pub(super) fn switch(&self, socket: &EventSocket, room: &RoomName, thread: Thread) -> Option<Thread> {
        self.change(|state, now| {
            let is_in = state.participants.is_in(room, socket.id());
            is_in.then(|| state.threads.switch(now, room, person(socket), thread))
        })
    }

    /// A socket types in a thread. Gives whether it takes part.
    pub(super) fn start_typing(&self, socket: &EventSocket, room: &RoomName, thread: Thread) -> bool {
        let who = (person(socket), socket.id());
        self.change(|state, now| {
            let is_in = state.participants.is_in(room, socket.id());
            if is_in {
                state.threads.start(now, room, who, thread);
            }
            is_in
        })
    }

    /// A socket types no longer.
    pub(super) fn stop_typing(&self, room: &RoomName, socket: SocketId) {
        self.change(|state, now| state.threads.stop(now, room, socket));
    }

    /// A socket is not looked at: it types nowhere.
    pub(super) fn rest(&self, socket: SocketId) {
        self.change(|state, now| {
            let rooms: Vec<_> = state.participants.rooms_of(socket).cloned().collect();
            for room in &rooms {
                state.threads.stop(now, room, socket);
            }
        });
    }

    /// A user wishes that its sidebars are refreshed.
    pub(super) fn wish_refresh(&self, user: &str) {
        self.change(|state, now| state.refreshes.wish(now, user));
    }

    /// Tells an event about an answer of an AI to those who take part.
    ///
    /// # Errors
    /// When it is to be kept and cannot be now; nobody is told.
    pub(super) fn tell_ai(
        &self,
        room: &RoomName,
        (event, payload): (&str, &Arc<RawValue>),
        id: Option<GivenId>,
    ) -> Result<Told, Refusal> {
        // Who comes back after a loss is told the answer so far, as newcomers are, and would hear these parts twice.
        let is_part = event == "ai-stream-start" || event.ends_with("-chunk");
        self.change(|state, now| {
            // Whoever is in the room and not among these has not been told of the answer so far.
            let sockets = state.participants.sockets(room);
            let sockets: Vec<SocketId> = sockets.collect();
            let told = match is_part {
                true => {
                    self.rooms.push(&sockets, &event_text(event, payload));
                    Told {
                        count: sockets.len(),
                        stored_at: None,
                    }
                }
                false => self
                    .rooms
                    .tell_among(room, &sockets, (event, payload.get()), id)?,
            };
            state.streams.hear(now, room, event, payload);
            Ok(told)
        })
    }

    /// Whether a socket takes part in a room.
    pub(super) fn is_in(&self, room: &RoomName, socket: SocketId) -> bool {
        self.state().participants.is_in(room, socket)
    }

    /// Those who take part in a room, the earliest first.
    pub(super) fn participants(&self, room: &RoomName) -> Vec<Json> {
        let state = self.state();
        let mut all: Vec<_> = state.participants.list(room).collect();
        all.sort_by(|a, b| a.joined_at.cmp(&b.joined_at));
        let tell = |participant: &super::participants::Participant| {
            json!({
                "display_name": participant.person.name,
                "joined_at": participant.joined_at,
                "user_id": participant.person.user,
            })
        };
        all.into_iter().map(tell).collect()
    }

    /// The rooms that a socket takes part in.
    pub(super) fn rooms_of(&self, socket: SocketId) -> Vec<Json> {
        let state = self.state();
        let tell = |room: &RoomName| {
            let (about, count) = state.participants.about(room)?;
            Some(json!({ "shareCode": room.id(), "roomName": about.name, "participantCount": count }))
        };
        state.participants.rooms_of(socket).filter_map(tell).collect()
    }

    /// What a room is called, where somebody takes part.
    pub(super) fn room_name(&self, room: &RoomName) -> Option<String> {
        let state = self.state();
        state
            .participants
            .about(room)
            .map(|(about, _)| about.name.clone())
    }

    /// Whether a user may send one more message now.
    pub(super) fn may_send(&self, user: &str) -> bool {
        self.messages.take(&user.to_owned())
    }

    /// Whether somebody has tried too many codes that are none.
    pub(super) async fn guesses_too_much(&self, user: &str, address: IpAddr) -> bool {
        if self.max_wrong_codes == 0 {
            return false;
        }
        for (key, limit) in self.guessers(user, address) {
            if self
                .wrong_codes
                .get(&key)
                .await
                .is_some_and(|count| count >= limit)
            {
                return true;
            }
        }
        false
    }

    /// Somebody has tried a code that is none.
    pub(super) async fn note_guess(&self, user: &str, address: IpAddr) {
        for (key, _) in self.guessers(user, address) {
            let more = |entry: Option<moka::Entry<String, u32>>| {
                std::future::ready(entry.map_or(1, |entry| entry.into_value().saturating_add(1)))
            };
            self.wrong_codes.entry(key).and_upsert_with(more).await;
        }
    }

    /// A user, and the address unless it is none of a client, with the wrong codes that each may try.
    fn guessers(&self, user: &str, address: IpAddr) -> impl Iterator<Item = (String, u32)> {
        let network = network(address);
        let of_address = (!network.is_loopback()).then(|| {
            let limit = self.max_wrong_codes.saturating_mul(USERS_OF_ADDRESS);
            (format!("address:{network}"), limit)
        });
        [(format!("user:{user}"), self.max_wrong_codes)]
            .into_iter()
            .chain(of_address)
    }

    /// Where wishes for answers of an AI go.
    pub(super) fn ai(&self) -> Option<&Webhook> {
        self.ai.as_ref()
    }
}

impl Timed for Patio {
    fn next_deadline(&self) -> Option<Instant> {
        self.state().next_deadline()
    }

    fn tick(&self, now: Instant) {
        let mut state = self.state();
        self.tell_due(&mut state, now);
    }
}

/// Who a socket belongs to, as its token says it.
pub(super) fn person(socket: &EventSocket) -> Person {
    let user = socket.user_id();
    let name = socket.identity().profile.name.clone();
    Person {
        name: name.unwrap_or_else(|| user.clone()),
        user,
    }
}

fn joined_body(room: &RoomName, about: &About, joined: Joined) -> Json {
    json!({
        "shareCode": room.id(),
        "roomName": about.name,
        "participantCount": joined.count,
        "maxParticipants": about.max_members,
    })
}

fn activity_body(room: &RoomName, activities: &[Activity]) -> Json {
    let activities: Vec<Json> = activities
        .iter()
        .map(|activity| {
            json!({
                "threadId": activity.thread,
                "threadName": activity.thread,
                "activeUsers": activity.active,
                "typingUsers": activity.typing,
            })
        })
        .collect();
    json!({ "roomId": room.id(), "activities": activities, "timestamp": timestamp() })
}
