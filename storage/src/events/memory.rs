//! What the store in memory keeps of rooms without a document, as plain tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use super::{EventBatch, EventId, KeptEvent, KeptQuery, ReadEvent};
use crate::MAX_FORGOTTEN_AT_ONCE;

/// The rules of [`EventStore`](super::EventStore) on plain data: no clock, no waiting.
#[derive(Clone, Debug, Default)]
pub struct EventTables {
    events: BTreeMap<(String, u64), KeptEvent>,
    /// The offsets of each name of an event in each room.
    by_name: BTreeMap<(String, String), BTreeSet<u64>>,
    ids: BTreeMap<String, EventId>,
    states: BTreeMap<String, String>,
}

impl EventTables {
    /// See [`EventStore::last_event`](super::EventStore::last_event).
    pub fn last(&self) -> u64 {
        let newest = self.by_name.values().filter_map(BTreeSet::last);
        newest.max().copied().unwrap_or(0)
    }

    /// See [`EventStore::keep_events`](super::EventStore::keep_events).
    pub fn keep(&mut self, batch: &EventBatch) {
        for event in &batch.events {
            let key = (event.room.clone(), event.offset);
            if self.events.contains_key(&key) {
                continue;
            }
            let name = (event.room.clone(), event.event.clone());
            self.by_name.entry(name).or_default().insert(event.offset);
            self.events.insert(key, event.clone());
        }
        for event in &batch.events {
            let name = (event.room.clone(), event.event.clone());
            let kept = self.by_name.get(&name).map_or(0, BTreeSet::len) as u64;
            let beyond = kept.saturating_sub(event.count).min(MAX_FORGOTTEN_AT_ONCE as u64);
            for _ in 0..beyond {
                let oldest = self.by_name.get(&name).and_then(BTreeSet::first).copied();
                let Some(offset) = oldest else { break };
                self.remove(&(event.room.clone(), offset));
            }
        }
        for id in &batch.ids {
            self.ids.insert(id.id.clone(), id.clone());
        }
        self.states.extend(batch.states.iter().cloned());
    }

    /// Gives what is kept of a room to another one, where that has nothing in its place.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let kept = (from.to_owned(), 0)..=(from.to_owned(), u64::MAX);
        let moving: Vec<_> = self.events.range(kept).map(|(key, _)| key.clone()).collect();
        for key in moving {
            let place = (to.to_owned(), key.1);
            if self.events.contains_key(&place) {
                continue;
            }
            let Some(event) = self.events.get(&key).cloned() else {
                continue;
            };
            self.remove(&key);
            let event = KeptEvent {
                room: to.to_owned(),
                ..event
            };
            let name = (event.room.clone(), event.event.clone());
            self.by_name.entry(name).or_default().insert(event.offset);
            self.events.insert(place, event);
        }
        if let Some(state) = self.states.remove(from) {
            self.states.entry(to.to_owned()).or_insert(state);
        }
    }

    /// Forgets what is kept of a room.
    pub(crate) fn forget_room(&mut self, room: &str) {
        let kept = (room.to_owned(), 0)..=(room.to_owned(), u64::MAX);
        let gone: Vec<_> = self.events.range(kept).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.remove(&key);
        }
        self.states.remove(room);
    }

    fn remove(&mut self, key: &(String, u64)) {
        let Some(event) = self.events.remove(key) else {
            return;
        };
        let name = (event.room, event.event);
        if let Some(offsets) = self.by_name.get_mut(&name) {
            offsets.remove(&event.offset);
            if offsets.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    /// See [`EventStore::kept_events`](super::EventStore::kept_events).
    pub fn kept(&self, query: &KeptQuery) -> Vec<ReadEvent> {
        let rooms: BTreeSet<&String> = query.rooms.iter().collect();
        let found = rooms.into_iter().flat_map(|room| {
            let first = (room.clone(), query.after.saturating_add(1));
            let last = (room.clone(), query.up_to);
            let is_range = first <= last;
            is_range
                .then(|| self.events.range(first..=last))
                .into_iter()
                .flatten()
        });
        let mut found: Vec<&KeptEvent> = found.map(|(_, event)| event).collect();
        found.sort_by(|a, b| (a.offset, &a.room).cmp(&(b.offset, &b.room)));
        let mut bytes = 0;
        found
            .into_iter()
            .take(query.limit)
            .take_while(|event| {
                let is_within = bytes < query.max_bytes;
                bytes += event.payload.len();
                is_within
            })
            .map(|event| ReadEvent {
                room: event.room.clone(),
                offset: event.offset,
                event: event.event.clone(),
                payload: event.payload.clone(),
                at: event.at,
            })
            .collect()
    }

    /// See [`EventStore::event_id`](super::EventStore::event_id).
    pub fn id(&self, id: &str) -> Option<EventId> {
        self.ids.get(id).cloned()
    }

    /// See [`EventStore::event_state`](super::EventStore::event_state).
    pub fn state(&self, room: &str) -> Option<String> {
        self.states.get(room).cloned()
    }

    /// See [`EventStore::forget_events`](super::EventStore::forget_events).
    pub fn forget(&mut self, now: SystemTime) -> u64 {
        let over = self.events.iter().filter(|(_, event)| event.until <= now);
        let events: Vec<_> = over
            .map(|(key, _)| key.clone())
            .take(MAX_FORGOTTEN_AT_ONCE)
            .collect();
        let over = self.ids.iter().filter(|(_, id)| id.until <= now);
        let ids: Vec<_> = over
            .map(|(id, _)| id.clone())
            .take(MAX_FORGOTTEN_AT_ONCE)
            .collect();
        for key in &events {
            self.remove(key);
        }
        for id in &ids {
            self.ids.remove(id);
        }
        (events.len() + ids.len()) as u64
    }
}
