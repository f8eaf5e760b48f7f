//! A disk that fails on demand: a store in front of another, with a volatile half that a crash forgets.
//!
//! What has been asked and not yet carried out is the volatile half; the store behind is the durable one. Switches decide
//! when calls wait or fail (see [`Faults`]). A simulation that cannot wait uses [`Faults`] and [`Tables`](crate::Tables) alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    AccessListener, AccessStore, AuditEntry, AuditQuery, Committed, Compaction, Generation, LastSeen,
    LoggedUpdate, MemoryStore, PageCommit, PageId, PageRecord, Permission, Seq, SharedStore, Snapshot, Store,
    StoreError, StoredPage, UserRecord,
    testing::{Counts, Fault, Faults, Moment, Operation, Verdict},
};

mod events;
mod history;
mod policies;
mod rebuilding;
mod renaming;
mod rooms;
mod search;
mod trash;
mod webhooks;

/// A store that fails on demand.
pub struct FaultyStore {
    durable: SharedStore,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    faults: Faults,
    waiting: usize,
    /// Pages that somebody else holds, and whether it can be found out which.
    held: BTreeMap<PageId, bool>,
    /// The pages of the batches that were asked for.
    batches: Vec<Vec<PageId>>,
    /// Raised by every crash: calls of earlier ones are never carried out.
    crashes: u64,
}

impl FaultyStore {
    /// A faulty disk in front of `durable`.
    pub fn new(durable: SharedStore, faults: Faults) -> Arc<Self> {
        let state = State {
            faults,
            waiting: 0,
            held: BTreeMap::new(),
            batches: Vec::new(),
            crashes: 0,
        };
        Arc::new(Self {
            durable,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// A faulty disk in front of an empty store in memory, with all switches off.
    pub fn in_memory() -> Arc<Self> {
        Self::new(Arc::new(MemoryStore::new()), Faults::none())
    }

    /// What a process finds that starts after a crash: the durable half.
    pub fn durable(&self) -> SharedStore {
        Arc::clone(&self.durable)
    }

    /// Turns switches; calls that wait are decided again.
    pub fn turn(&self, switch: impl FnOnce(&mut Faults)) {
        switch(&mut self.state().faults);
        self.changed.notify_waiters();
    }

    /// Somebody else holds a page from now on: commits of it fail. If it cannot be found out, nobody learns which page it is.
    pub fn hold(&self, page: &PageId, can_be_found_out: bool) {
        self.state().held.insert(page.clone(), can_be_found_out);
    }

    /// Nobody else holds any page.
    pub fn let_go(&self) {
        self.state().held.clear();
    }

    /// The pages of each batch that was asked for, whatever became of it.
    pub fn batches(&self) -> Vec<Vec<PageId>> {
        self.state().batches.clone()
    }

    fn held(&self, batch: &[PageCommit]) -> Result<(), StoreError> {
        let state = self.state();
        let held = batch
            .iter()
            .filter_map(|entry| Some((&entry.page, *state.held.get(&entry.page)?)))
            .collect::<Vec<_>>();
        if held.is_empty() {
            return Ok(());
        }
        if held.iter().any(|(_, can_be_found_out)| !can_be_found_out) {
            return Err(Fault::Unavailable.error());
        }
        Err(StoreError::Busy {
            pages: held.into_iter().map(|(page, _)| page.clone()).collect(),
        })
    }

    /// Forgets what has been asked and not carried out: those calls fail.
    pub fn crash(&self) {
        self.state().crashes += 1;
        self.changed.notify_waiters();
    }

    /// Waits until at least `calls` calls wait.
    pub async fn until_waiting(&self, calls: usize) {
        self.until(|state| (state.waiting >= calls).then_some(())).await;
    }

    /// What has been decided so far.
    pub fn counts(&self) -> Counts {
        self.state().faults.counts()
    }

    /// Waits for its turn. `Ok` is the error to give after the call has been carried out, if any.
    async fn admit(&self, operation: Operation) -> Result<Option<Fault>, StoreError> {
        let asked_after = self.state().crashes;
        let mut waits = Waits {
            store: self,
            counted: false,
        };
        let verdict = self
            .until(|state| {
                if state.crashes != asked_after {
                    return Some(Verdict::Fail(Fault::Unavailable, Moment::Before));
                }
                let verdict = state.faults.decide(operation);
                if verdict != Verdict::Wait {
                    return Some(verdict);
                }
                if !waits.counted {
                    waits.counted = true;
                    state.waiting += 1;
                    self.changed.notify_waiters();
                }
                None
            })
            .await;
        match verdict {
            Verdict::Proceed | Verdict::Wait => Ok(None),
            Verdict::Fail(fault, Moment::After) => Ok(Some(fault)),
            Verdict::Fail(fault, Moment::Before) => Err(fault.error()),
        }
    }

    async fn until<T>(&self, mut question: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Registered before the question is asked, so no change in between is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(answer) = question(&mut self.state()) {
                return answer;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call that waits, also when its caller gives up.
struct Waits<'a> {
    store: &'a FaultyStore,
    counted: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.store.state().waiting -= 1;
        }
    }
}

#[async_trait]
impl AccessStore for FaultyStore {
    async fn permissions_for(&self, user: &str, page: &PageId) -> Result<Vec<Permission>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.permissions_for(user, page).await
    }

    async fn permitted(&self, user: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.permitted(user, limit).await
    }

    async fn permissions_on(
        &self,
        page: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Permission>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.permissions_on(page, after, limit).await
    }

    async fn grant(&self, permission: &Permission) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.grant(permission).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn revoke(&self, page: &str, user: &str) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.revoke(page, user).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn user(&self, user: &str) -> Result<UserRecord, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.user(user).await
    }

    async fn sign_out(&self, user: &str, at: SystemTime) -> Result<u64, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.sign_out(user, at).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn block(&self, user: &str, blocked: bool) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.block(user, blocked).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.audit(entries).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn audited(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.audited(query).await
    }

    async fn forget_audit(&self, before: SystemTime) -> Result<u64, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.forget_audit(before).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn see(&self, seen: &[LastSeen]) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.see(seen).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn seen(&self, room: &str, limit: usize) -> Result<Vec<LastSeen>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.seen(room, limit).await
    }

    async fn forget_seen(&self, room: &str, user: &str) -> Result<(), StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.forget_seen(room, user).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    fn access_listener(&self) -> Option<AccessListener> {
        self.durable.access_listener()
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.load(page).await
    }

    async fn log(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Vec<LoggedUpdate>>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.log(page, after, limit).await
    }

    async fn commit(&self, batch: &[PageCommit]) -> Result<Vec<Committed>, StoreError> {
        let pages = batch.iter().map(|entry| entry.page.clone()).collect();
        self.state().batches.push(pages);
        let lost = self.admit(Operation::Write).await?;
        self.held(batch)?;
        let answer = self.durable.commit(batch).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn commit_alone(&self, entry: &PageCommit) -> Result<Committed, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        self.held(std::slice::from_ref(entry))?;
        let answer = self.durable.commit_alone(entry).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn compact(
        &self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Result<Compaction, StoreError> {
        let lost = self.admit(Operation::Compact).await?;
        let answer = self.durable.compact(page, generation, snapshot).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn page(&self, page: &PageId) -> Result<Option<PageRecord>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.page(page).await
    }

    async fn pages(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<PageRecord>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.pages(prefix, after, limit).await
    }

    async fn set_deleted(&self, page: &PageId, at: Option<SystemTime>) -> Result<bool, StoreError> {
        let lost = self.admit(Operation::Write).await?;
        let answer = self.durable.set_deleted(page, at).await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }

    async fn snapshot(&self, page: &PageId) -> Result<Option<Snapshot>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.snapshot(page).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.admit(Operation::Check).await?;
        self.durable.check().await
    }

    async fn close(&self) {
        self.durable.close().await;
    }
}
