//! What a client has missed in the rooms that it enters, and that what it has told is stored.
//!
//! Any event that enters rooms and takes an object may say up to where its author has heard: `since: {epoch, offset}`. What was kept of
//! the rooms behind that comes before anything newer, and the answer says how much that was (`missed`) and whether it is all
//! (`complete`). Where some of it may be forgotten, nothing old is told. Each such answer says up to where everything is heard
//! now (`epoch`, `offset`).

use std::{
    collections::BTreeSet,
    future::Future,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{EventSocket, lock};
use crate::{
    events::{Answer, HeldEvents, RelayRule, TokenBucket},
    protocols::events::Since,
    rooms::{Refusal, RoomName},
};

impl EventSocket {
    /// Whether another event may be relayed by a rule now; else how long it is until then.
    pub(in crate::events) fn may_relay(&self, now: Instant, rule: &RelayRule) -> Result<(), Duration> {
        if rule.per_second == 0 {
            return Ok(());
        }
        let mut buckets = lock(&self.relayed);
        let bucket = buckets
            .entry(rule.event.clone())
            .or_insert_with(|| TokenBucket::new(now, rule.per_second, rule.burst));
        bucket.try_spend(now)
    }

    /// Does what an event wants, tells what was missed in the rooms that it enters, and waits until what it has told is stored.
    pub async fn attend(
        &self,
        (enters, payload): (bool, &Json),
        work: impl Future<Output = Answer>,
    ) -> Answer {
        // The field of this name is another one's in events that enter nothing.
        let since = match payload.get("since").filter(|since| enters && !since.is_null()) {
            Some(since) => {
                let read = Since::deserialize(since);
                Some(read.map_err(|error| Refusal::malformed(format!("since: {error}")))?)
            }
            None => None,
        };
        lock(&self.entered).clear();
        let since = since.map(|since| (since, self.hold()));
        let answer = match work.await {
            Ok(mut body) => {
                let rooms = std::mem::take(&mut *lock(&self.entered));
                let fields = body.as_object_mut();
                if let Some(fields) = fields.filter(|_| payload.is_object() && !rooms.is_empty()) {
                    fields.extend(self.missed(&rooms, since).await);
                }
                Ok(body)
            }
            Err(refusal) => Err(refusal),
        };
        let kept = self.kept.swap(0, Ordering::Relaxed);
        if kept > 0 {
            self.services.history.stored(kept).await?;
        }
        answer
    }

    /// Holds what it is told from now on, until something older is there.
    pub fn hold(&self) -> HeldEvents {
        HeldEvents::new(&self.outbox)
    }

    /// Tells what was missed in rooms that it has entered, before anything that is held. Gives what is answered about that.
    pub async fn missed(
        &self,
        rooms: &BTreeSet<RoomName>,
        since: Option<(Since, HeldEvents)>,
    ) -> Map<String, Json> {
        let history = &self.services.history;
        let offset = self.services.rooms.mark();
        let mut fields = Map::new();
        fields.insert("epoch".to_owned(), history.epoch().as_str().into());
        fields.insert("offset".to_owned(), offset.into());
        let Some((since, held)) = since else {
            return fields;
        };
        let (mut events, mut is_complete) = (Vec::new(), true);
        for room in rooms {
            // From there on it hears everything anyway.
            let Some(entered) = self.services.rooms.entered_at(self.id, room) else {
                continue;
            };
            match history.since(room, &since, (entered, offset)).await {
                Ok(found) => {
                    is_complete &= found.is_complete;
                    events.extend(found.events);
                }
                // It is in the room all the same.
                Err(_) => is_complete = false,
            }
        }
        if !is_complete {
            events.clear();
        }
        events.sort_by_key(|event| event.offset);
        events.dedup_by_key(|event| event.offset);
        fields.insert("missed".to_owned(), events.len().into());
        fields.insert("complete".to_owned(), is_complete.into());
        held.release(events.iter().map(|event| history.text(event)).collect());
        fields
    }
}
