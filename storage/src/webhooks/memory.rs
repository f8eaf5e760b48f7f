//! What the store in memory keeps for webhooks, as plain tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    time::SystemTime,
};

use super::{
    DeliveryClaim, DeliveryOutcome, DeliveryState, FinishedDelivery, MAX_WEBHOOK_ROWS_AT_ONCE, OutboxDepth,
    OutboxLimits, Telling, UntoldPages, WebhookDelivery, WebhookEvent,
    plan::{self, Head, Mark, Queue, QueueKey},
    transactions::NO_TARGET,
};
use crate::{
    Generation, PageId, PageRecord, Version,
    rows::{count, milliseconds, time},
};

/// The rules of [`WebhookStore`](super::WebhookStore) on plain data.
#[derive(Clone, Debug, Default)]
pub struct WebhookTables {
    since: Option<i64>,
    marks: BTreeMap<String, Mark>,
    /// Versions of each page that have been told, by the last of their numbers.
    told_versions: BTreeMap<String, u64>,
    outbox: BTreeMap<u64, WebhookDelivery>,
    queues: BTreeMap<QueueKey, QueueTable>,
    last_number: u64,
}

#[derive(Clone, Debug, Default)]
struct QueueTable {
    pending: BTreeSet<u64>,
    next_at: i64,
    owner: Option<String>,
}

impl WebhookTables {
    /// A page has another generation, and is the same page.
    pub(crate) fn rebuilt(&mut self, page: &PageId, from: &Generation, to: &Generation) {
        let mark = self.marks.get_mut(page.as_str());
        if let Some(mark) = mark.filter(|mark| *mark.generation == *from.0) {
            mark.generation = to.0.to_string();
        }
    }

    /// A page has another id: what was told of it was told of this one.
    pub(crate) fn rename(&mut self, from: &PageId, to: &PageId) {
        if let Some(mark) = self.marks.remove(from.as_str()) {
            self.marks.insert(to.as_str().to_owned(), mark);
        }
    }

    /// See [`WebhookStore::begin_webhooks`](super::WebhookStore::begin_webhooks).
    pub fn begin(&mut self, now: SystemTime) {
        self.since.get_or_insert(milliseconds(now));
    }

    fn since(&self) -> i64 {
        self.since.unwrap_or(i64::MAX)
    }

    fn head(&self, record: &PageRecord) -> Head {
        Head {
            page: record.page.as_str().to_owned(),
            generation: record.generation.0.to_string(),
            seq: i64::try_from(record.seq).unwrap_or(i64::MAX),
            created: milliseconds(record.created_at),
            updated: milliseconds(record.updated_at),
            deleted: record.deleted_at.map(milliseconds),
            mark: self.marks.get(record.page.as_str()).cloned(),
        }
    }

    /// See [`WebhookStore::tell_webhooks`](super::WebhookStore::tell_webhooks); `find` gives a page with its versions, in order.
    pub fn tell(
        &mut self,
        telling: &Telling,
        find: impl Fn(&PageId) -> Option<(PageRecord, Vec<Version>)>,
    ) -> u64 {
        let (since, now) = (self.since(), milliseconds(telling.now));
        let mut found = Vec::new();
        for look in &telling.looks {
            let Some((record, versions)) = find(&look.page) else {
                continue;
            };
            let head = self.head(&record);
            let told = self.told_versions.entry(head.page.clone()).or_default();
            let new = versions.iter().filter(|version| version.id > *told);
            found.extend(new.filter_map(|version| head.version(since, version)));
            *told = versions.last().map_or(*told, |version| version.id.max(*told));
            let (events, mark) = head.compare(since, now, look.with_changes);
            found.extend(events);
            self.marks.insert(head.page, mark);
        }
        let events = plan::events(telling, found);
        let keys = plan::keys(&events, &telling.targets);
        let mut queues = keys
            .into_iter()
            .map(|key| (key.clone(), self.queue(&key)))
            .collect();
        let placed = plan::place(events, &telling.targets, &mut queues);
        let told = placed.rows.len() + placed.replaced.len();
        for (number, event) in placed.replaced {
            if let Some(row) = self.outbox.get_mut(&count(number)) {
                row.generation = event.generation;
                row.seq = event.seq.map(count);
                row.at = time(event.at);
            }
        }
        for row in placed.rows {
            self.last_number += 1;
            let number = self.last_number;
            let state = match row.problem {
                Some(_) => DeliveryState::Dead,
                None => DeliveryState::Pending,
            };
            let key = (row.event.page.clone(), row.target.clone());
            let delivery = WebhookDelivery {
                number,
                // Nothing of this store is there for the next process, whose ids are others.
                id: format!("{now:012x}{:016x}", RandomState::new().hash_one(number)),
                page: row.event.page,
                target: row.target,
                event: row.event.event.as_str().to_owned(),
                generation: row.event.generation,
                seq: row.event.seq.map(count),
                detail: row.event.detail,
                at: time(row.event.at),
                since: time(now),
                state,
                attempts: 0,
                last_error: row.problem.map(str::to_owned),
                ended_at: (state == DeliveryState::Dead).then(|| time(now)),
            };
            self.outbox.insert(number, delivery);
            if state == DeliveryState::Pending {
                self.enqueue(key, number, now);
            }
        }
        told as u64
    }

    fn queue(&self, key: &QueueKey) -> Queue {
        let Some(queue) = self.queues.get(key) else {
            return Queue::default();
        };
        let last = queue.pending.last().and_then(|number| self.outbox.get(number));
        let unsent = last.filter(|row| row.attempts == 0 && row.event == WebhookEvent::PageChanged.as_str());
        Queue {
            depth: queue.pending.len() as u64,
            unsent_change: unsent.and_then(|row| i64::try_from(row.number).ok()),
        }
    }

    fn enqueue(&mut self, key: QueueKey, number: u64, now: i64) {
        let queue = self.queues.entry(key).or_insert_with(|| QueueTable {
            next_at: now,
            ..QueueTable::default()
        });
        queue.pending.insert(number);
    }

    /// See [`WebhookStore::untold_pages`](super::WebhookStore::untold_pages); the pages of the stretch with their last versions.
    pub fn untold(&self, stretch: impl Iterator<Item = (PageRecord, Option<u64>)>) -> UntoldPages {
        let mut untold = UntoldPages::default();
        for (record, version) in stretch {
            untold.last = Some(record.page.as_str().to_owned());
            let told = self.told_versions.get(record.page.as_str()).copied();
            let has_version = version.is_some_and(|last| last > told.unwrap_or_default());
            if self.head(&record).is_untold(self.since()) || has_version {
                untold.pages.push(record.page);
            }
        }
        untold
    }

    /// See [`WebhookStore::claim_webhooks`](super::WebhookStore::claim_webhooks).
    pub fn claim(&mut self, claim: &DeliveryClaim) -> Vec<WebhookDelivery> {
        let now = milliseconds(claim.now);
        let due = self
            .queues
            .iter_mut()
            .filter(|((_, target), queue)| *target == claim.target && queue.next_at <= now);
        let mut due: Vec<_> = due.map(|(_, queue)| queue).collect();
        due.sort_by_key(|queue| queue.next_at);
        let mut claimed = Vec::new();
        for queue in due.into_iter().take(claim.limit) {
            queue.owner = Some(claim.owner.clone());
            queue.next_at = milliseconds(claim.until);
            let first = queue.pending.first();
            if let Some(row) = first.and_then(|number| self.outbox.get_mut(number)) {
                row.attempts += 1;
                claimed.push(row.clone());
            }
        }
        claimed.sort_by_key(|row| row.number);
        claimed
    }

    /// See [`WebhookStore::finish_webhooks`](super::WebhookStore::finish_webhooks).
    pub fn finish(&mut self, owner: &str, now: SystemTime, finished: &[FinishedDelivery]) {
        for done in finished {
            let key = (done.page.clone(), done.target.clone());
            let Some(queue) = self.queues.get_mut(&key) else {
                continue;
            };
            if queue.owner.as_deref() != Some(owner) {
                continue;
            }
            queue.owner = None;
            queue.next_at = milliseconds(now);
            match &done.outcome {
                DeliveryOutcome::Delivered => {
                    queue.pending.remove(&done.number);
                    self.outbox.remove(&done.number);
                }
                DeliveryOutcome::Again { at, problem } => {
                    queue.next_at = milliseconds(*at);
                    if let Some(row) = self.outbox.get_mut(&done.number) {
                        row.last_error = Some(problem.clone());
                    }
                }
                DeliveryOutcome::Dead { problem } => {
                    queue.pending.remove(&done.number);
                    self.give_up(done.number, now, problem);
                }
            }
            self.drop_if_empty(&key);
        }
    }

    fn give_up(&mut self, number: u64, now: SystemTime, problem: &str) {
        if let Some(row) = self.outbox.get_mut(&number) {
            row.state = DeliveryState::Dead;
            row.ended_at = Some(time(milliseconds(now)));
            row.last_error = Some(problem.to_owned());
        }
    }

    fn drop_if_empty(&mut self, key: &QueueKey) {
        if self.queues.get(key).is_some_and(|queue| queue.pending.is_empty()) {
            self.queues.remove(key);
        }
    }

    /// See [`WebhookStore::webhooks`](super::WebhookStore::webhooks).
    pub fn listed(&self, state: DeliveryState, after: u64, limit: usize) -> Vec<WebhookDelivery> {
        let behind = self.outbox.range(after.saturating_add(1)..);
        let listed = behind.map(|(_, row)| row).filter(|row| row.state == state);
        listed.take(limit).cloned().collect()
    }

    /// See [`WebhookStore::webhook`](super::WebhookStore::webhook).
    pub fn find(&self, id: &str) -> Option<WebhookDelivery> {
        self.outbox.values().find(|row| row.id == id).cloned()
    }

    /// See [`WebhookStore::replay_webhooks`](super::WebhookStore::replay_webhooks).
    pub fn replay(&mut self, now: SystemTime, numbers: &[u64]) -> u64 {
        let (mut replayed, now) = (0, milliseconds(now));
        for number in numbers {
            let row = self.outbox.get_mut(number);
            let Some(row) = row.filter(|row| row.state == DeliveryState::Dead) else {
                continue;
            };
            row.state = DeliveryState::Pending;
            row.since = time(now);
            row.attempts = 0;
            row.ended_at = None;
            let key = (row.page.clone(), row.target.clone());
            self.enqueue(key.clone(), *number, now);
            if let Some(queue) = self.queues.get_mut(&key).filter(|queue| queue.owner.is_none()) {
                queue.next_at = now;
            }
            replayed += 1;
        }
        replayed
    }

    /// See [`WebhookStore::outbox_depth`](super::WebhookStore::outbox_depth).
    pub fn depth(&self) -> OutboxDepth {
        let pending = self.listed(DeliveryState::Pending, 0, usize::MAX);
        OutboxDepth {
            pending: pending.len() as u64,
            dead: (self.outbox.len() - pending.len()) as u64,
            oldest: pending.first().map(|row| row.since),
        }
    }

    /// See [`WebhookStore::forget_webhooks`](super::WebhookStore::forget_webhooks).
    pub fn forget(&mut self, limits: &OutboxLimits) -> u64 {
        let (now, latest) = (milliseconds(limits.now), milliseconds(limits.latest));
        for queue in self.queues.values_mut().filter(|queue| queue.next_at > latest) {
            queue.next_at = now;
        }
        let orphans = self.listed(DeliveryState::Pending, 0, usize::MAX);
        let orphans = orphans
            .into_iter()
            .filter(|row| row.since < limits.pending_before && !limits.targets.contains(&row.target))
            .take(MAX_WEBHOOK_ROWS_AT_ONCE);
        let mut forgotten = 0;
        for row in orphans {
            let key = (row.page, row.target);
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.pending.remove(&row.number);
            }
            self.drop_if_empty(&key);
            self.give_up(row.number, limits.now, NO_TARGET);
            forgotten += 1;
        }
        let dead = self.listed(DeliveryState::Dead, 0, usize::MAX);
        let beyond = dead
            .len()
            .saturating_sub(usize::try_from(limits.dead_count).unwrap_or(usize::MAX));
        let old = dead
            .iter()
            .enumerate()
            .filter(|(place, row)| *place < beyond || row.ended_at.is_some_and(|at| at < limits.dead_before));
        for (_, row) in old.take(MAX_WEBHOOK_ROWS_AT_ONCE) {
            self.outbox.remove(&row.number);
            forgotten += 1;
        }
        forgotten
    }
}
