//! Delivers what is in the outbox to one target: claims the first events of pages, posts them, and says what became of them.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use serde_json::{Map, Value, json};
use storage::{DeliveryClaim, DeliveryOutcome, FinishedDelivery, WebhookDelivery};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Office, Target, egress::Egress, schedule::judge, teller::wait_or};
use crate::auth::{complaints, now, signature};

/// Messages that are under way to one target.
const MAX_IN_FLIGHT: usize = 16;
/// Whoever has claimed an event has so long to deliver it: twice as long as an exchange may take.
const LEASE: Duration = Duration::from_secs(10);
/// How often is looked for what other servers have put there, and for what is to be tried again.
const POLL: Duration = Duration::from_secs(1);

/// Header with the signature of the body, as backends sign theirs.
const SIGNATURE: &str = "x-pageroom-signature";
/// Header with the id of the delivery.
const ID: &str = "x-pageroom-delivery";
/// Header with the name of the event.
const EVENT: &str = "x-pageroom-event";

/// What delivers to one target.
struct Courier {
    office: Office,
    target: Target,
    egress: Egress,
    flying: JoinSet<FinishedDelivery>,
    /// Page and target of what is under way, by its number.
    claimed: BTreeMap<u64, (String, String)>,
    /// What the store has not been told yet.
    finished: Vec<FinishedDelivery>,
}

impl Office {
    /// Delivers to a target until `stop`.
    pub(super) async fn deliver(self, target: Target, stop: CancellationToken) {
        let courier = Courier {
            egress: Egress::new(self.config.allows_private),
            office: self,
            target,
            flying: JoinSet::new(),
            claimed: BTreeMap::new(),
            finished: Vec::new(),
        };
        courier.run(stop).await;
    }
}

impl Courier {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let posted = self.office.posted.clone();
            let posted = posted.notified();
            tokio::pin!(posted);
            // Whatever is posted from now on is heard of.
            posted.as_mut().enable();
            if self.claim().await {
                continue;
            }
            tokio::select! {
                Some(done) = self.flying.join_next() => self.land(done.ok()),
                () = posted => {}
                () = tokio::time::sleep(POLL) => {}
                () = stop.cancelled() => {}
            }
            while let Some(done) = self.flying.try_join_next() {
                self.land(done.ok());
            }
            if !self.report().await {
                wait_or(&stop, POLL).await;
            }
        }
        // What is under way may arrive, and is sent again with the same id: at once, instead of when its time is over.
        self.flying.abort_all();
        while let Some(done) = self.flying.join_next().await {
            self.land(done.ok());
        }
        let cut_off = std::mem::take(&mut self.claimed).into_iter();
        self.finished
            .extend(cut_off.map(|(number, (page, target))| FinishedDelivery {
                number,
                page,
                target,
                outcome: DeliveryOutcome::Again {
                    at: now(),
                    problem: "the server stopped while it was sent".to_owned(),
                },
            }));
        self.report().await;
    }

    fn land(&mut self, done: Option<FinishedDelivery>) {
        // Of one that panicked others take care when its time is over.
        if let Some(done) = done {
            self.claimed.remove(&done.number);
            self.finished.push(done);
        }
    }

    /// Claims as many events as there is place for, and sends them on their way. Whether there were any.
    async fn claim(&mut self) -> bool {
        let places = MAX_IN_FLIGHT.saturating_sub(self.flying.len() + self.finished.len());
        // While the store cannot be told what became of events it is not asked for others.
        if places == 0 || !self.finished.is_empty() {
            return false;
        }
        let now = now();
        let claim = DeliveryClaim {
            owner: self.office.server.to_string(),
            target: self.target.name().to_owned(),
            now,
            until: now + LEASE,
            limit: places,
        };
        let claimed = match self.office.store.claim_webhooks(&claim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                if complaints::is_due("webhook claims") {
                    tracing::warn!(%error, "webhooks cannot be delivered until the store is back");
                }
                return false;
            }
        };
        let is_any = !claimed.is_empty();
        for delivery in claimed {
            let queue = (delivery.page.clone(), delivery.target.clone());
            self.claimed.insert(delivery.number, queue);
            let attempt = attempt(
                self.office.clone(),
                self.egress.clone(),
                self.target.clone(),
                delivery,
            );
            self.flying.spawn(attempt);
        }
        is_any
    }

    /// Tells the store what became of events. Whether it was told.
    async fn report(&mut self) -> bool {
        if self.finished.is_empty() {
            return true;
        }
        let (store, owner) = (&self.office.store, &*self.office.server);
        match store.finish_webhooks(owner, now(), &self.finished).await {
            Ok(()) => {
                let ended = |done: &&FinishedDelivery| match done.outcome {
                    DeliveryOutcome::Delivered | DeliveryOutcome::Dead { .. } => true,
                    DeliveryOutcome::Again { .. } => false,
                };
                let ended = self.finished.iter().filter(ended).count() as u64;
                // It is counted anew from time to time.
                let fewer = |pending: u64| Some(pending.saturating_sub(ended));
                let _ = self
                    .office
                    .pending
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
                self.finished.clear();
                true
            }
            Err(error) => {
                if complaints::is_due("webhook reports") {
                    tracing::warn!(%error, "what became of webhooks cannot be noted until the store is back; they may be sent again");
                }
                false
            }
        }
    }
}

/// Posts an event once.
async fn attempt(
    office: Office,
    egress: Egress,
    target: Target,
    delivery: WebhookDelivery,
) -> FinishedDelivery {
    let body = body(&delivery);
    let signed = signature::sign(&office.config.secret, now(), body.as_bytes());
    let headers = [
        (SIGNATURE, signed.as_str()),
        (ID, delivery.id.as_str()),
        (EVENT, delivery.event.as_str()),
    ];
    let result = egress.post(now(), &target, &headers, body).await;
    let outcome = judge(now(), &delivery, &result);
    match &outcome {
        DeliveryOutcome::Delivered => office.metrics.webhooks_delivered.increment(1),
        DeliveryOutcome::Again { problem, .. } => {
            office.metrics.webhooks_failed.increment(1);
            if complaints::is_due("webhook") {
                tracing::warn!(
                    host = target.host(),
                    problem,
                    attempts = delivery.attempts,
                    "a webhook was not taken; it is sent again"
                );
            }
        }
        DeliveryOutcome::Dead { problem } => {
            office.metrics.webhooks_failed.increment(1);
            office.metrics.webhooks_dead.increment(1);
            if complaints::is_due("dead webhook") {
                tracing::error!(
                    host = target.host(),
                    problem,
                    attempts = delivery.attempts,
                    "a webhook was given up; GET /api/webhooks/deliveries?state=dead lists such, and they can be sent again"
                );
            }
        }
    }
    FinishedDelivery {
        number: delivery.number,
        page: delivery.page,
        target: delivery.target,
        outcome,
    }
}

/// What is posted: the same bytes in every attempt.
fn body(delivery: &WebhookDelivery) -> String {
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(delivery.id));
    body.insert("event".to_owned(), json!(delivery.event));
    body.insert("pageId".to_owned(), json!(delivery.page));
    if let Some(generation) = &delivery.generation {
        body.insert("generation".to_owned(), json!(generation));
    }
    if let Some(seq) = delivery.seq {
        body.insert("seq".to_owned(), json!(seq));
    }
    let at = humantime::format_rfc3339_millis(delivery.at).to_string();
    body.insert("at".to_owned(), json!(at));
    if let Ok(Value::Object(detail)) = serde_json::from_str(&delivery.detail) {
        body.extend(detail);
    }
    Value::Object(body).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use storage::DeliveryState;

    use super::*;

    #[test]
    fn a_body_says_what_happened_where_and_when() {
        let delivery = WebhookDelivery {
            number: 7,
            id: "0198c5d0".to_owned(),
            page: "team/\"notes\"".to_owned(),
            target: "https://hooks.example.com/".to_owned(),
            event: "version.created".to_owned(),
            generation: Some("g".to_owned()),
            seq: Some(12),
            detail: r#"{"versionId":3,"kind":"named"}"#.to_owned(),
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            since: UNIX_EPOCH,
            state: DeliveryState::Pending,
            attempts: 2,
            last_error: None,
            ended_at: None,
        };
        let read: Value = serde_json::from_str(&body(&delivery)).expect("JSON");
        let expected = json!({
            "id": "0198c5d0",
            "event": "version.created",
            "pageId": "team/\"notes\"",
            "generation": "g",
            "seq": 12,
            "at": "2023-11-14T22:13:20.123Z",
            "versionId": 3,
            "kind": "named",
        });
        assert_eq!(read, expected);
        let again = WebhookDelivery {
            attempts: 9,
            ..delivery.clone()
        };
        assert_eq!(body(&again), body(&delivery));
    }
}
