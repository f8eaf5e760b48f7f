//! The vocabulary of an indexer: a worker says how far a workspace is, and its members hear it.
#![doc = include_str!("../indexer.md")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

mod job;

pub use self::job::ProgressPace;
use self::job::{Event, Job, Kind, Status};
use super::{
    Alarm, Answer, Broadcast, BroadcastWork, Call, EventRooms, EventServices, EventSocket, History, Profile,
    Timed, Told, Way, ticker::now,
};
use crate::rooms::{Refusal, RefusalCode, Role, RoomKind, RoomName, is_id};

/// Workspaces whose state is in memory; of others it is read when it is needed.
const MAX_JOBS: usize = 10_000;
/// A job of which nothing was heard for longer is none that goes on.
const SILENCE: Duration = Duration::from_secs(60 * 60);

pub(super) static PROFILE: Profile = Profile {
    name: "indexer",
    speaks: |event| matches!(event, "workspace:join" | "workspace:leave"),
    enters: |event| event == "workspace:join",
    handle,
    broadcast,
    refused: |socket, _, refusal| {
        let body = json!({ "message": refusal.message, "code": refusal.code.as_str() });
        socket.tell("error", &body);
    },
    ..Profile::SILENT
};

/// What workers have said of workspaces. Clones share it.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

struct Shared {
    pace: ProgressPace,
    rooms: EventRooms,
    history: History,
    alarm: Alarm,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    jobs: BTreeMap<RoomName, (Job, Instant)>,
    deadlines: BTreeSet<(Instant, RoomName)>,
}

impl Jobs {
    pub(super) fn new(pace: ProgressPace, rooms: EventRooms, history: History, alarm: Alarm) -> Self {
        Self(Arc::new(Shared {
            pace,
            rooms,
            history,
            alarm,
            known: Mutex::default(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many jobs go on, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        let (now, known) = (now(), self.known());
        let recent = known
            .jobs
            .values()
            .filter(|(_, at)| now.saturating_duration_since(*at) < SILENCE);
        let of = |status| move |job: &&(Job, Instant)| job.0.status() == status;
        let active = recent.clone().filter(of(Status::Active)).count();
        (active, recent.filter(of(Status::Queued)).count())
    }

    /// Reads the state of a workspace that is not in memory.
    async fn load(&self, room: &RoomName) -> Result<(), Refusal> {
        if self.known().jobs.contains_key(room) {
            return Ok(());
        }
        let state = self.0.history.state(room).await?;
        let job = match state.map(|state| serde_json::from_str::<Job>(&state)) {
            Some(Ok(job)) => job,
            None => Job::default(),
            Some(Err(error)) => {
                tracing::warn!(room = room.as_str(), %error, "the stored state of a workspace cannot be read");
                Job::default()
            }
        };
        let mut known = self.known();
        if known.jobs.len() >= MAX_JOBS {
            let pace = self.0.pace;
            let idle = known
                .jobs
                .iter()
                .find(|(_, (job, _))| job.next_deadline(pace).is_none());
            if let Some(idle) = idle.map(|(room, _)| room.clone()) {
                known.jobs.remove(&idle);
            }
        }
        known.jobs.entry(room.clone()).or_insert_with(|| (job, now()));
        Ok(())
    }

    /// A worker says something of a workspace.
    async fn say(&self, room: RoomName, kind: Kind, payload: Map<String, Json>) -> Result<Told, Refusal> {
        self.load(&room).await?;
        self.0.history.check_space()?;
        let told = self.change(&room, |job, now, pace| {
            job.take(now, pace, room.id(), kind, payload)
        });
        // Progress is told again soon; what begins and ends is there after a restart.
        let stored_at = told.stored_at.filter(|_| kind != Kind::Progress);
        Ok(Told { stored_at, ..told })
    }

    /// Lets a job say something, tells its members, and keeps what is told.
    fn change(
        &self,
        room: &RoomName,
        change: impl FnOnce(&mut Job, Instant, ProgressPace) -> Vec<Event>,
    ) -> Told {
        let (now, pace) = (now(), self.0.pace);
        let mut known = self.known();
        let Known { jobs, deadlines } = &mut *known;
        let (job, at) = jobs.entry(room.clone()).or_insert_with(|| (Job::default(), now));
        *at = now;
        let before = job.next_deadline(pace);
        let events = change(job, now, pace);
        let after = job.next_deadline(pace);
        if before != after {
            deadlines.extend(after.map(|after| (after, room.clone())));
            if let Some(before) = before {
                deadlines.remove(&(before, room.clone()));
            }
            self.0.alarm.set_off();
        }
        let mut told = None;
        for (name, payload) in &events {
            let count = self.0.rooms.tell(std::slice::from_ref(room), None, name, payload);
            told.get_or_insert(count);
        }
        let state = (!events.is_empty())
            .then(|| serde_json::to_string(job).ok())
            .flatten();
        Told {
            count: told.unwrap_or(0),
            stored_at: state.map(|state| self.0.history.keep_state(room, state)),
        }
    }

    /// Tells somebody who has come how far a workspace is.
    async fn replay(&self, socket: &EventSocket, room: &RoomName) {
        if let Err(refusal) = self.load(room).await {
            tracing::warn!(%refusal, "how far a workspace is is not known now");
            return;
        }
        let known = self.known();
        let events = known.jobs.get(room).map(|(job, _)| job.replay());
        for (name, payload) in events.into_iter().flatten() {
            socket.tell(&name, &payload);
        }
    }
}

impl Timed for Jobs {
    fn next_deadline(&self) -> Option<Instant> {
        self.known().deadlines.first().map(|(at, _)| *at)
    }

    fn tick(&self, now: Instant) {
        loop {
            let due = {
                let mut known = self.known();
                match known.deadlines.first() {
                    Some((at, _)) if *at <= now => known.deadlines.pop_first(),
                    Some(_) | None => return,
                }
            };
            if let Some((_, room)) = due {
                self.change(&room, |job, _, pace| job.tick(now, pace));
            }
        }
    }
}

fn broadcast(services: &EventServices, broadcast: &Broadcast) -> Option<BroadcastWork> {
    let kind = Kind::of(&broadcast.event)?;
    if broadcast.room.kind() != RoomKind::Workspace {
        return None;
    }
    let (jobs, room, payload) = (
        services.jobs.clone(),
        broadcast.room.clone(),
        broadcast.payload.clone(),
    );
    Some(Box::pin(async move {
        let payload: Map<String, Json> = serde_json::from_str(payload.get())
            .map_err(|_| Refusal::malformed("the payload must be an object"))?;
        jobs.say(room, kind, payload).await
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfWorkspace {
    workspace_id: String,
}

fn handle(socket: Arc<EventSocket>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let wanted: OfWorkspace = call.read()?;
        let id = wanted.workspace_id;
        let room = RoomName::with_prefix("workspace:", &id).filter(|_| is_id(&id));
        let room = room.ok_or_else(|| Refusal::malformed("workspaceId must be a valid id"))?;
        if call.name == "workspace:leave" {
            socket.leave(&room, Way::Room);
            socket.tell("workspace:left", &json!({ "workspaceId": id }));
            return Ok(json!({ "workspaceId": id }));
        }
        let role = socket.enter(&room, Way::Room).await.map_err(denied)?;
        let role = match role {
            Role::Admin => "owner",
            Role::View | Role::Comment | Role::Edit => "viewer",
        };
        let body = json!({ "workspaceId": id, "role": role });
        socket.tell("workspace:joined", &body);
        socket.services().jobs.clone().replay(&socket, &room).await;
        Ok(body)
    })
}

/// The words that clients compare.
fn denied(refusal: Refusal) -> Refusal {
    match refusal.code == RefusalCode::Forbidden {
        true => Refusal::new(RefusalCode::Forbidden, "Access denied"),
        false => refusal,
    }
}
