//! A store that forgets when the process ends, and the plain tables behind it.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    AccessStore, AccessTables, AuditEntry, AuditQuery, Committed, Compaction, EventBatch, EventId,
    EventStore, EventTables, Generation, HistoryPolicies, KeptQuery, LastSeen, LoggedUpdate, PageCommit,
    PageId, PageRecord, Permission, ReadEvent, RoomTables, Seq, Snapshot, Store, StoreError, StoredPage,
    UserRecord, WebhookTables, batch, readable,
};

mod history;
mod policies;
mod rebuilding;
mod renaming;
mod rooms;
mod search;
mod snapshots;
mod trash;
mod webhooks;

use history::{PageHistory, StoredRow};

/// What a store keeps, as plain data with the rules of the contract and nothing else: no clock, no entropy, no waiting.
///
/// [`MemoryStore`] puts a lock around it; a simulation drives it directly.
#[derive(Clone, Debug)]
pub struct Tables {
    seed: u64,
    pages: BTreeMap<PageId, PageTable>,
    /// The pages that former ids lead to.
    aliases: BTreeMap<PageId, PageId>,
    /// Rows that a snapshot covers are kept.
    keeps_history: bool,
    policies: HistoryPolicies,
    last_version: u64,
    /// How many generations there have been.
    ever: u64,
}

#[derive(Clone, Debug)]
struct PageTable {
    record: PageRecord,
    snapshot: Option<Snapshot>,
    /// The rows after the snapshot: their numbers follow each other, the last is `record.seq`.
    log: VecDeque<StoredRow>,
    history: PageHistory,
    /// The client ids of former generations.
    ended_clients: Option<Bytes>,
}

impl Tables {
    /// Empty tables. Generations are made from `seed`, so that two stores with different seeds never share one.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            pages: BTreeMap::new(),
            aliases: BTreeMap::new(),
            keeps_history: true,
            policies: HistoryPolicies::default(),
            last_version: 0,
            ever: 0,
        }
    }

    /// Deletes rows that a snapshot covers.
    #[must_use]
    pub fn without_history(self) -> Self {
        Self {
            keeps_history: false,
            ..self
        }
    }

    /// See [`Store::load`].
    pub fn load(&self, page: &PageId) -> Option<StoredPage> {
        let stored = self.pages.get(page)?;
        Some(StoredPage {
            record: stored.record.clone(),
            snapshot: stored.covering(),
            log: stored.log.iter().map(|row| row.update.clone()).collect(),
            ended_clients: stored.ended_clients.clone(),
        })
    }

    /// See [`Store::log`].
    pub fn log(&self, page: &PageId, after: Seq, limit: usize) -> Option<Vec<LoggedUpdate>> {
        let Some(stored) = self.pages.get(page) else {
            return Some(Vec::new());
        };
        if after < stored.covered() {
            return None;
        }
        Some(
            stored
                .log
                .iter()
                .filter(|row| row.update.seq > after)
                .take(limit)
                .map(|row| row.update.clone())
                .collect(),
        )
    }

    /// See [`Store::commit`]; `now` is the time of the commit.
    pub fn commit(&mut self, now: SystemTime, batch: &[PageCommit]) -> Result<Vec<Committed>, StoreError> {
        batch::in_page_order(batch)?;
        Ok(batch.iter().map(|entry| self.commit_page(now, entry)).collect())
    }

    /// See [`Store::page`].
    pub fn page(&self, page: &PageId) -> Option<PageRecord> {
        self.pages.get(page).map(|stored| stored.record.clone())
    }

    /// See [`Store::pages`].
    pub fn pages(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<PageRecord> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.pages
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(page, _)| page.as_str().starts_with(prefix))
            .take(limit)
            .map(|(_, stored)| stored.record.clone())
            .collect()
    }

    /// See [`Store::set_deleted`].
    pub fn set_deleted(&mut self, page: &PageId, at: Option<SystemTime>) -> bool {
        let stored = self.pages.get_mut(page);
        let changed = stored.filter(|stored| stored.record.deleted_at.is_some() != at.is_some());
        changed.map(|stored| stored.record.deleted_at = at).is_some()
    }

    /// See [`Store::snapshot`].
    pub fn snapshot(&self, page: &PageId) -> Option<Snapshot> {
        self.pages.get(page)?.snapshot.clone()
    }

    fn new_generation(&mut self) -> Generation {
        let generation = Generation(format!("{:016x}{:016x}", self.seed, self.ever).into());
        self.ever += 1;
        generation
    }

    fn commit_page(&mut self, now: SystemTime, entry: &PageCommit) -> Committed {
        let known = self
            .pages
            .get(&entry.page)
            .map(|stored| &stored.record.generation);
        if entry.generation.is_some() && entry.generation.as_ref() != known {
            return Committed::nothing();
        }
        if known.is_none() {
            if entry.updates.is_empty() || self.aliases.contains_key(&entry.page) {
                return Committed::nothing();
            }
            let generation = self.new_generation();
            self.pages
                .insert(entry.page.clone(), PageTable::new(&entry.page, generation, now));
        }
        match self.pages.get_mut(&entry.page) {
            Some(stored) => stored.commit(now, entry),
            None => Committed::nothing(),
        }
    }
}

impl PageTable {
    fn new(page: &PageId, generation: Generation, now: SystemTime) -> Self {
        Self {
            record: PageRecord {
                page: page.clone(),
                generation,
                seq: 0,
                size_bytes: 0,
                created_at: now,
                updated_at: now,
                deleted_at: None,
            },
            snapshot: None,
            log: VecDeque::new(),
            history: PageHistory::default(),
            ended_clients: None,
        }
    }

    /// All rows that there are, those of the history first.
    fn rows(&self) -> impl Iterator<Item = &StoredRow> {
        self.history.rows.iter().chain(&self.log)
    }

    fn commit(&mut self, now: SystemTime, entry: &PageCommit) -> Committed {
        let first_seq = self.record.seq + 1;
        for update in &entry.updates {
            self.record.seq += 1;
            self.record.updated_at = now;
            let update = LoggedUpdate {
                seq: self.record.seq,
                data: update.data.clone(),
                user: update.user.as_deref().map(|user| readable::text(user).into()),
            };
            self.log.push_back(StoredRow { update, at: now });
        }
        if let Some(size_bytes) = entry.size_bytes {
            self.record.size_bytes = size_bytes;
        }
        Committed {
            generation: self.record.generation.clone(),
            first_seq,
            last_seq: self.record.seq,
        }
    }
}

/// A store in the memory of this process. Clones of one `Arc` see the same pages; nothing survives the process.
#[derive(Debug)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    access: Mutex<AccessTables>,
    rooms: Mutex<RoomTables>,
    epoch: String,
    events: Mutex<EventTables>,
    webhooks: Mutex<WebhookTables>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_history(true)
    }

    /// An empty store that keeps rows which a snapshot covers, or deletes them.
    pub fn with_history(keeps_history: bool) -> Self {
        // The standard library's per-process keys: a restarted process must not hand out the generations of the last one.
        let tables = Tables::new(RandomState::new().hash_one(0_u8));
        let tables = match keeps_history {
            true => tables,
            false => tables.without_history(),
        };
        Self {
            tables: Mutex::new(tables),
            access: Mutex::default(),
            rooms: Mutex::default(),
            epoch: format!("{:016x}", RandomState::new().hash_one(0_u8)),
            events: Mutex::default(),
            webhooks: Mutex::default(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change of the tables is complete before anything in it can panic.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rooms(&self) -> MutexGuard<'_, RoomTables> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, EventTables> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after the pages, where both are.
    fn webhook_tables(&self) -> MutexGuard<'_, WebhookTables> {
        self.webhooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access(&self) -> MutexGuard<'_, AccessTables> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl AccessStore for MemoryStore {
    async fn permissions_for(&self, user: &str, page: &PageId) -> Result<Vec<Permission>, StoreError> {
        Ok(self.access().permissions_for(user, page))
    }

    async fn permitted(&self, user: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        Ok(self.access().permitted(user, limit))
    }

    async fn permissions_on(
        &self,
        page: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Permission>, StoreError> {
        Ok(self.access().permissions_on(page, after, limit))
    }

    async fn grant(&self, permission: &Permission) -> Result<(), StoreError> {
        self.access().grant(permission);
        self.rooms().readmit(&permission.page, &permission.user);
        Ok(())
    }

    async fn revoke(&self, page: &str, user: &str) -> Result<bool, StoreError> {
        Ok(self.access().revoke(page, user))
    }

    async fn user(&self, user: &str) -> Result<UserRecord, StoreError> {
        Ok(self.access().user(user))
    }

    async fn sign_out(&self, user: &str, at: SystemTime) -> Result<u64, StoreError> {
        Ok(self.access().sign_out(user, at))
    }

    async fn block(&self, user: &str, blocked: bool) -> Result<(), StoreError> {
        self.access().block(user, blocked);
        Ok(())
    }

    async fn audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.access().audit(entries);
        Ok(())
    }

    async fn audited(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>, StoreError> {
        Ok(self.access().audited(query))
    }

    async fn forget_audit(&self, before: SystemTime) -> Result<u64, StoreError> {
        Ok(self.access().forget_audit(before))
    }

    async fn see(&self, seen: &[LastSeen]) -> Result<(), StoreError> {
        self.access().see(seen);
        Ok(())
    }

    async fn seen(&self, room: &str, limit: usize) -> Result<Vec<LastSeen>, StoreError> {
        Ok(self.access().seen(room, limit))
    }

    async fn forget_seen(&self, room: &str, user: &str) -> Result<(), StoreError> {
        self.access().forget_seen(room, user);
        Ok(())
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn event_epoch(&self) -> Result<String, StoreError> {
        Ok(self.epoch.clone())
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        Ok(self.events().last())
    }

    async fn keep_events(&self, batch: &EventBatch) -> Result<(), StoreError> {
        self.events().keep(batch);
        Ok(())
    }

    async fn kept_events(&self, query: &KeptQuery) -> Result<Vec<ReadEvent>, StoreError> {
        Ok(self.events().kept(query))
    }

    async fn event_id(&self, id: &str) -> Result<Option<EventId>, StoreError> {
        Ok(self.events().id(id))
    }

    async fn event_state(&self, room: &str) -> Result<Option<String>, StoreError> {
        Ok(self.events().state(room))
    }

    async fn forget_events(&self, now: SystemTime) -> Result<u64, StoreError> {
        Ok(self.events().forget(now))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError> {
        Ok(self.tables().load(page))
    }

    async fn log(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Vec<LoggedUpdate>>, StoreError> {
        Ok(self.tables().log(page, after, limit))
    }

    async fn commit(&self, batch: &[PageCommit]) -> Result<Vec<Committed>, StoreError> {
        self.tables().commit(now(), batch)
    }

    async fn compact(
        &self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Result<Compaction, StoreError> {
        Ok(self.tables().compact(page, generation, snapshot))
    }

    async fn page(&self, page: &PageId) -> Result<Option<PageRecord>, StoreError> {
        Ok(self.tables().page(page))
    }

    async fn pages(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<PageRecord>, StoreError> {
        Ok(self.tables().pages(prefix, after, limit))
    }

    async fn set_deleted(&self, page: &PageId, at: Option<SystemTime>) -> Result<bool, StoreError> {
        Ok(self.tables().set_deleted(page, at))
    }

    async fn snapshot(&self, page: &PageId) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.tables().snapshot(page))
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}

#[expect(
    clippy::disallowed_methods,
    reason = "a database stamps its rows with its own clock, and this is one"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
