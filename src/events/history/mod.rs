//! Events that are kept: stored before they are acknowledged, and read by clients that come back.
//!
//! Which events are kept says [`EventRules`]. What is told is told at once and stored in a lane of its own; its teller is answered when it is
//! stored. A client that joins says up to where it has heard (`since`), and hears what it has missed, in order, before anything newer;
//! where that is not all there any more, it is told so and hears nothing old.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::value::RawValue;
use storage::{EventId, KeptEvent, KeptQuery, MAX_FORGOTTEN_AT_ONCE, ReadEvent, SharedStore, StoreError};
use tokio_util::sync::CancellationToken;

mod lane;

use self::lane::{Entry, Lane};
use super::{EventRules, offset::Epoch, recent::micros};
use crate::{
    protocols::events::Since,
    rooms::{Refusal, RoomName},
    supervision::Supervisor,
};

/// How long somebody waits for the store.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is remembered in the store which event an id was used for.
const ID_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How often what is too old is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Events that are read at once.
const MAX_READ: usize = 1000;
/// Bytes of their payloads.
const MAX_READ_BYTES: usize = 2 << 20;

/// The events that are kept. Clones share them.
#[derive(Clone)]
pub struct History(Arc<Shared>);

struct Shared {
    epoch: Epoch,
    rules: EventRules,
    store: SharedStore,
    lane: Lane,
}

/// An id that a backend gave to an event.
#[derive(Clone, Debug)]
pub struct GivenId {
    /// The id.
    pub id: String,
    /// Stands for the event.
    pub digest: [u8; 32],
}

/// Kept events, and whether they are all that there were.
#[derive(Clone, Debug)]
pub struct Found {
    /// In the order in which they were told.
    pub events: Vec<ReadEvent>,
    /// Nothing is missing, and nothing more is to be read.
    pub is_complete: bool,
}

impl History {
    /// What the store has, and the tasks that add to it and forget. Gives the largest offset as well.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        store: SharedStore,
        rules: EventRules,
        stop: CancellationToken,
        supervisor: &Supervisor,
    ) -> Result<(Self, u64), StoreError> {
        let epoch = Epoch::new(&store.event_epoch().await?);
        let last = store.last_event().await?;
        let history = Self(Arc::new(Shared {
            epoch,
            rules,
            store: store.clone(),
            lane: Lane::new(),
        }));
        let (lane, to) = (history.clone(), store.clone());
        let stopped = stop.clone();
        supervisor.spawn("events", async move { lane.0.lane.run(to, stopped).await });
        supervisor.spawn("events_retention", forget(store, stop));
        Ok((history, last))
    }

    /// The rules.
    pub fn rules(&self) -> &EventRules {
        &self.0.rules
    }

    /// How offsets are written.
    pub fn epoch(&self) -> &Epoch {
        &self.0.epoch
    }

    /// Whether an event can be kept now, if it is to be.
    ///
    /// # Errors
    /// When too much waits for the store.
    pub fn check(&self, room: &RoomName, event: &str) -> Result<(), Refusal> {
        match self.rules().keep(room, event) {
            None => Ok(()),
            Some(_) => self.check_space(),
        }
    }

    /// Whether something can be kept now.
    ///
    /// # Errors
    /// When too much waits for the store.
    pub fn check_space(&self) -> Result<(), Refusal> {
        self.0.lane.has_space().then_some(()).ok_or_else(away)
    }

    /// Keeps an event, if a rule says so, of which has been [checked](Self::check) that it can be. Gives the number to wait for.
    pub(super) fn keep(&self, offset: u64, room: &RoomName, event: &str, payload: &str) -> Option<u64> {
        let keep = self.rules().keep(room, event)?;
        let at = time(offset);
        let kept = KeptEvent {
            room: room.as_str().to_owned(),
            offset,
            event: event.to_owned(),
            payload: payload.to_owned(),
            at,
            until: at + keep.time,
            count: keep.count,
        };
        Some(self.0.lane.push(Entry::Event(kept)))
    }

    /// Keeps which event an id was used for.
    pub(super) fn keep_id(&self, given: GivenId, delivered: usize, now: SystemTime) -> u64 {
        self.0.lane.push(Entry::Id(EventId {
            id: given.id,
            digest: given.digest,
            delivered: delivered as u64,
            until: now + ID_TIME,
        }))
    }

    /// What an id was used for, and how many were told.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn known_id(&self, id: &str, now: SystemTime) -> Result<Option<([u8; 32], usize)>, Refusal> {
        let known = self.0.store.event_id(id).await.map_err(unreadable)?;
        let known = known.filter(|known| known.until > now);
        Ok(known.map(|known| {
            (
                known.digest,
                usize::try_from(known.delivered).unwrap_or(usize::MAX),
            )
        }))
    }

    /// Keeps the last state of a room, which is JSON. Gives the number to wait for.
    pub fn keep_state(&self, room: &RoomName, state: String) -> u64 {
        let room = room.as_str().to_owned();
        self.0.lane.push(Entry::State { room, state })
    }

    /// The last state of a room.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn state(&self, room: &RoomName) -> Result<Option<String>, Refusal> {
        self.0.store.event_state(room.as_str()).await.map_err(unreadable)
    }

    /// Waits until something is stored.
    ///
    /// # Errors
    /// When that takes too long; it goes on.
    pub async fn stored(&self, number: u64) -> Result<(), Refusal> {
        let waiting = tokio::time::timeout(PATIENCE, self.0.lane.stored(number));
        waiting.await.map_err(|_| away())
    }

    /// What was kept in a room behind an offset and up to another, from which on everything is heard. Incomplete where some of it may be
    /// forgotten, and behind `now`, the last offset that there is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn since(
        &self,
        room: &RoomName,
        since: &Since,
        (up_to, now): (u64, u64),
    ) -> Result<Found, Refusal> {
        let nothing = Found {
            events: Vec::new(),
            is_complete: false,
        };
        if since.epoch != self.epoch().as_str() || since.offset > now || since.offset < self.0.lane.lost() {
            return Ok(nothing);
        }
        if since.offset >= up_to {
            return Ok(Found {
                is_complete: true,
                ..nothing
            });
        }
        let found = self
            .read(std::slice::from_ref(room), since.offset, up_to, MAX_READ)
            .await?;
        let kept = self.rules().kept_in(room);
        // What is kept by number is all there as long as less is there than may be.
        let now = up_to.max(micros_of(crate::auth::now()));
        let has_all = |(event, keep): &(&str, super::Keep)| {
            let newer = found.events.iter().filter(|read| read.event == *event).count() as u64;
            newer < keep.count && since.offset >= now.saturating_sub(micros(keep.time))
        };
        let is_complete = found.is_complete && !kept.is_empty() && kept.iter().all(has_all);
        Ok(if is_complete { found } else { nothing })
    }

    /// What was kept in some rooms behind an offset and up to another, as much as is read at once.
    ///
    /// # Errors
    /// When the store cannot be read, or does not take what is to be read.
    pub async fn read(
        &self,
        rooms: &[RoomName],
        after: u64,
        up_to: u64,
        limit: usize,
    ) -> Result<Found, Refusal> {
        // What was told before now is read now.
        self.stored(self.0.lane.last()).await?;
        let mut query = KeptQuery {
            rooms: rooms.iter().map(|room| room.as_str().to_owned()).collect(),
            after,
            up_to,
            limit: limit.min(MAX_READ),
            max_bytes: MAX_READ_BYTES,
        };
        let mut events = self.0.store.kept_events(&query).await.map_err(unreadable)?;
        let mut is_complete = true;
        if let Some(last) = events.last() {
            (query.after, query.limit) = (last.offset, 1);
            is_complete = self
                .0
                .store
                .kept_events(&query)
                .await
                .map_err(unreadable)?
                .is_empty();
        }
        // One event in several of the rooms is one.
        events.dedup_by_key(|event| event.offset);
        Ok(Found { events, is_complete })
    }

    /// A kept event as it was told.
    pub(super) fn text(&self, event: &ReadEvent) -> bytes::Bytes {
        super::hall::text_with_offset(&event.event, &event.payload, &self.epoch().write(event.offset))
    }

    /// Kept events as they are listed: the text of JSON, with each payload as it was told.
    pub fn list(&self, events: &[ReadEvent]) -> String {
        let listed = events.iter().map(|event| Listed {
            id: self.epoch().write(event.offset),
            room: RoomName::parse(&event.room).map(|room| room.told().to_owned()),
            event: &event.event,
            payload: RawValue::from_string(event.payload.clone()).ok(),
            at: milliseconds(event.at),
        });
        let listed: Vec<_> = listed.collect();
        serde_json::to_string(&listed).unwrap_or_else(|error| {
            // Values of ours and of JSON can always be written.
            tracing::error!(%error, "kept events cannot be listed");
            "[]".to_owned()
        })
    }
}

/// A kept event as it is listed.
#[derive(Serialize)]
struct Listed<'a> {
    id: String,
    room: Option<String>,
    event: &'a str,
    payload: Option<Box<RawValue>>,
    /// In milliseconds since 1970.
    at: u64,
}

/// Forgets what is too old, in pieces.
async fn forget(store: SharedStore, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FORGET_EVERY) => {}
            () = stop.cancelled() => return,
        }
        loop {
            match store.forget_events(crate::auth::now()).await {
                Ok(forgotten) if forgotten >= MAX_FORGOTTEN_AT_ONCE as u64 => tokio::task::yield_now().await,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old events cannot be forgotten now");
                    break;
                }
            }
        }
    }
}

/// When an event was told.
fn time(offset: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(offset)
}

/// A time as offsets count it.
pub(super) fn micros_of(at: SystemTime) -> u64 {
    micros(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

fn away() -> Refusal {
    Refusal::unavailable("events cannot be stored now, try again")
}

fn unreadable(error: StoreError) -> Refusal {
    tracing::warn!(%error, "kept events cannot be read");
    Refusal::unavailable("kept events cannot be read now, try again")
}
