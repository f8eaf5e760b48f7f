//! What a client has missed in the rooms that it enters, and that what it has told is stored.
//!
//! Any event that enters rooms and takes an object may say up to where its author has heard: `since: {epoch, offset}`. What was kept of
//! the rooms behind that comes before anything newer, and the answer says how much that was (`missed`) and whether it is all
//! (`complete`). Where some of it may be forgotten, nothing old is told. Each such answer says up to where everything is heard
//! now (`epoch`, `offset`).

use std::{
    future::Future,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{EventSocket, lock};
use crate::{
    events::{Answer, RelayRule, Since, TokenBucket},
    rooms::Refusal,
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
        if since.is_some() {
            self.outbox.hold();
        }
        let answer = work.await;
        let answer = match answer {
            Ok(body) => Ok(self.with_missed(payload, since, body).await),
            Err(refusal) => Err(refusal),
        };
        // Nothing is held any more, whatever has happened.
        self.outbox.release(Vec::new());
        let kept = self.kept.swap(0, Ordering::Relaxed);
        if kept > 0 {
            self.services.history.stored(kept).await?;
        }
        answer
    }

    async fn with_missed(&self, payload: &Json, since: Option<Since>, mut body: Json) -> Json {
        let rooms = std::mem::take(&mut *lock(&self.entered));
        let Some(fields) = body
            .as_object_mut()
            .filter(|_| payload.is_object() && !rooms.is_empty())
        else {
            return body;
        };
        let history = &self.services.history;
        let offset = self.services.rooms.mark();
        fields.insert("epoch".to_owned(), history.epoch().as_str().into());
        fields.insert("offset".to_owned(), offset.into());
        let Some(since) = since else {
            return body;
        };
        let (mut events, mut is_complete) = (Vec::new(), true);
        for room in &rooms {
            // From there on it hears everything anyway.
            let Some(entered) = self.services.rooms.entered_at(self.id, room) else {
                continue;
            };
            match history.since(room, &since, entered).await {
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
        fields.insert("missed".to_owned(), json!(events.len()));
        fields.insert("complete".to_owned(), is_complete.into());
        let older = events.iter().map(|event| history.text(event)).collect();
        self.outbox.release(older);
        body
    }
}
