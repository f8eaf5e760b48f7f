//! A store with switches: its reads and writes work, hang or fail as a test says, and are counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use storage::{
    AccessStore, AddedVersion, AuditEntry, AuditQuery, Committed, Compaction, DeliveryClaim, DeliveryState,
    EventBatch, EventId, EventStore, FinishedDelivery, Found, Generation, HistoryCursor, HistoryPolicy,
    HistoryPolicyStore, HistoryRecord, HistoryStore, IdRange, KeptQuery, LastSeen, LoggedUpdate, NewVersion,
    OldHistory, OutboxDepth, OutboxLimits, PageChanges, PageCommit, PageId, PageRecord, Past, Permission,
    ReadEvent, RebuildStore, Rebuilding, RenameStore, Renaming, RoomStore, Search, SearchStore, Seq,
    SharedRoom, SharedStore, Snapshot, Store, StoreError, StoredPage, Telling, TrashStore, UntoldPages,
    UserRecord, Version, WebhookDelivery, WebhookStore, testing::Fault,
};
use tokio::sync::watch;

/// How one half of a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It works.
    Fine,
    /// It does not answer until the weather changes.
    Hanging,
    /// It fails like this.
    Failing(Fault),
    /// It brings down whoever asks.
    Panicking,
}

/// A store with switches for each half, where [`storage::testing::disk`] has them for both.
pub(crate) struct SwitchedStore {
    store: SharedStore,
    reading: watch::Sender<Weather>,
    writing: watch::Sender<Weather>,
    /// Questions about a page alone, not its content.
    asking: watch::Sender<Weather>,
    /// Loads of whole pages.
    opening: watch::Sender<Weather>,
    loads: AtomicUsize,
}

impl SwitchedStore {
    /// A store that works.
    pub(crate) fn new(store: SharedStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            reading: watch::Sender::new(Weather::Fine),
            writing: watch::Sender::new(Weather::Fine),
            asking: watch::Sender::new(Weather::Fine),
            opening: watch::Sender::new(Weather::Fine),
            loads: AtomicUsize::new(0),
        })
    }

    /// Sets how everything that is read goes.
    pub(crate) fn reading(&self, weather: Weather) {
        self.reading.send_replace(weather);
    }

    /// Sets how loads go, and only they.
    pub(crate) fn opening(&self, weather: Weather) {
        self.opening.send_replace(weather);
    }

    /// Sets how questions about a page go.
    pub(crate) fn asking(&self, weather: Weather) {
        self.asking.send_replace(weather);
    }

    /// Sets how commits go.
    pub(crate) fn writing(&self, weather: Weather) {
        self.writing.send_replace(weather);
    }

    /// How many pages have been loaded.
    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

async fn pass(weather: &watch::Sender<Weather>) -> Result<(), StoreError> {
    let mut weather = weather.subscribe();
    let settled = weather.wait_for(|weather| *weather != Weather::Hanging);
    match *settled.await.expect("a switch that lives as long as its store") {
        Weather::Fine | Weather::Hanging => Ok(()),
        Weather::Failing(fault) => Err(fault.error()),
        Weather::Panicking => panic!("a store that panics on demand"),
    }
}

#[async_trait]
impl AccessStore for SwitchedStore {
    async fn permissions_for(&self, user: &str, page: &PageId) -> Result<Vec<Permission>, StoreError> {
        pass(&self.reading).await?;
        self.store.permissions_for(user, page).await
    }

    async fn permitted(&self, user: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        pass(&self.reading).await?;
        self.store.permitted(user, limit).await
    }

    async fn permissions_on(
        &self,
        page: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Permission>, StoreError> {
        pass(&self.reading).await?;
        self.store.permissions_on(page, after, limit).await
    }

    async fn grant(&self, permission: &Permission) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.grant(permission).await
    }

    async fn revoke(&self, page: &str, user: &str) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.revoke(page, user).await
    }

    async fn user(&self, user: &str) -> Result<UserRecord, StoreError> {
        pass(&self.reading).await?;
        self.store.user(user).await
    }

    async fn sign_out(&self, user: &str, at: SystemTime) -> Result<u64, StoreError> {
        pass(&self.writing).await?;
        self.store.sign_out(user, at).await
    }

    async fn block(&self, user: &str, blocked: bool) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.block(user, blocked).await
    }

    async fn audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.store.audit(entries).await
    }

    async fn audited(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>, StoreError> {
        self.store.audited(query).await
    }

    async fn forget_audit(&self, before: SystemTime) -> Result<u64, StoreError> {
        self.store.forget_audit(before).await
    }

    async fn see(&self, seen: &[LastSeen]) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.see(seen).await
    }

    async fn seen(&self, room: &str, limit: usize) -> Result<Vec<LastSeen>, StoreError> {
        pass(&self.reading).await?;
        self.store.seen(room, limit).await
    }

    async fn forget_seen(&self, room: &str, user: &str) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.forget_seen(room, user).await
    }
}

#[async_trait]
impl SearchStore for SwitchedStore {
    async fn search(
        &self,
        search: &Search,
        ranges: &[IdRange],
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        pass(&self.reading).await?;
        self.store.search(search, ranges, skip, limit).await
    }

    async fn searched_text(&self, page: &PageId) -> Result<Option<(Seq, String)>, StoreError> {
        pass(&self.reading).await?;
        self.store.searched_text(page).await
    }
}

#[async_trait]
impl TrashStore for SwitchedStore {
    async fn trashed(&self, before: SystemTime, limit: usize) -> Result<Vec<PageId>, StoreError> {
        pass(&self.reading).await?;
        self.store.trashed(before, limit).await
    }

    async fn purge(&self, page: &PageId, rooms: &[String; 2]) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.purge(page, rooms).await
    }
}

#[async_trait]
impl RebuildStore for SwitchedStore {
    async fn rebuild(&self, rebuilding: &Rebuilding) -> Result<Option<Generation>, StoreError> {
        pass(&self.writing).await?;
        self.store.rebuild(rebuilding).await
    }
}

#[async_trait]
impl HistoryPolicyStore for SwitchedStore {
    async fn history_policy(&self, page: &PageId) -> Result<Option<HistoryPolicy>, StoreError> {
        pass(&self.reading).await?;
        self.store.history_policy(page).await
    }

    async fn history_policies(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HistoryPolicy>, StoreError> {
        pass(&self.reading).await?;
        self.store.history_policies(after, limit).await
    }

    async fn set_history_policy(&self, policy: &HistoryPolicy) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.set_history_policy(policy).await
    }

    async fn remove_history_policy(&self, pages: &PageId) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.remove_history_policy(pages).await
    }
}

#[async_trait]
impl RenameStore for SwitchedStore {
    async fn rename(&self, renaming: &Renaming) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.rename(renaming).await
    }

    async fn renamed(&self, former: &PageId) -> Result<Option<PageId>, StoreError> {
        pass(&self.reading).await?;
        self.store.renamed(former).await
    }

    async fn former_ids(&self, page: &PageId) -> Result<Vec<PageId>, StoreError> {
        pass(&self.reading).await?;
        self.store.former_ids(page).await
    }

    async fn free_former_id(&self, page: &PageId, former: &PageId) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.free_former_id(page, former).await
    }
}

#[async_trait]
impl RoomStore for SwitchedStore {
    async fn shared_room(&self, room: &str) -> Result<Option<SharedRoom>, StoreError> {
        pass(&self.reading).await?;
        self.store.shared_room(room).await
    }

    async fn keep_room(&self, room: &SharedRoom) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.keep_room(room).await
    }

    async fn forget_room(&self, room: &str) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.forget_room(room).await
    }

    async fn remove_from_room(&self, room: &str, user: &str) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.remove_from_room(room, user).await
    }

    async fn is_removed(&self, room: &str, user: &str) -> Result<bool, StoreError> {
        pass(&self.reading).await?;
        self.store.is_removed(room, user).await
    }
}

#[async_trait]
impl EventStore for SwitchedStore {
    async fn event_epoch(&self) -> Result<String, StoreError> {
        self.store.event_epoch().await
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        self.store.last_event().await
    }

    async fn keep_events(&self, batch: &EventBatch) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.keep_events(batch).await
    }

    async fn kept_events(&self, query: &KeptQuery) -> Result<Vec<ReadEvent>, StoreError> {
        pass(&self.reading).await?;
        self.store.kept_events(query).await
    }

    async fn event_id(&self, id: &str) -> Result<Option<EventId>, StoreError> {
        pass(&self.reading).await?;
        self.store.event_id(id).await
    }

    async fn event_state(&self, room: &str) -> Result<Option<String>, StoreError> {
        pass(&self.reading).await?;
        self.store.event_state(room).await
    }

    async fn forget_events(&self, now: SystemTime) -> Result<u64, StoreError> {
        self.store.forget_events(now).await
    }
}

#[async_trait]
impl HistoryStore for SwitchedStore {
    async fn past(&self, page: &PageId, from: Seq, to: Seq) -> Result<Option<Past>, StoreError> {
        pass(&self.reading).await?;
        self.store.past(page, from, to).await
    }

    async fn changes(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<PageChanges>, StoreError> {
        pass(&self.reading).await?;
        self.store.changes(page, after, limit).await
    }

    async fn add_version(&self, page: &PageId, version: &NewVersion) -> Result<AddedVersion, StoreError> {
        pass(&self.writing).await?;
        self.store.add_version(page, version).await
    }

    async fn versions(
        &self,
        page: &PageId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Version>, StoreError> {
        pass(&self.reading).await?;
        self.store.versions(page, before, limit).await
    }

    async fn version(&self, page: &PageId, id: u64) -> Result<Option<Version>, StoreError> {
        pass(&self.reading).await?;
        self.store.version(page, id).await
    }

    async fn history(&self, page: &PageId) -> Result<HistoryRecord, StoreError> {
        pass(&self.reading).await?;
        self.store.history(page).await
    }

    async fn version_from_newest(&self, page: &PageId, count: u32) -> Result<Option<Seq>, StoreError> {
        pass(&self.reading).await?;
        self.store.version_from_newest(page, count).await
    }

    async fn old_histories(
        &self,
        before: SystemTime,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<OldHistory>, StoreError> {
        pass(&self.reading).await?;
        self.store.old_histories(before, after, limit).await
    }

    async fn last_before(&self, page: &PageId, before: SystemTime) -> Result<Option<Seq>, StoreError> {
        pass(&self.reading).await?;
        self.store.last_before(page, before).await
    }

    async fn large_histories(&self, bytes: u64, limit: usize) -> Result<Vec<(PageId, Seq)>, StoreError> {
        pass(&self.reading).await?;
        self.store.large_histories(bytes, limit).await
    }

    async fn keep_base(&self, page: &PageId, seq: Seq, state: &Bytes) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.keep_base(page, seq, state).await
    }

    async fn forget_history(&self, page: &PageId, upto: Seq) -> Result<u64, StoreError> {
        pass(&self.writing).await?;
        self.store.forget_history(page, upto).await
    }
}

#[async_trait]
impl WebhookStore for SwitchedStore {
    async fn begin_webhooks(&self, now: SystemTime) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.begin_webhooks(now).await
    }

    async fn tell_webhooks(&self, telling: &Telling) -> Result<u64, StoreError> {
        pass(&self.writing).await?;
        self.store.tell_webhooks(telling).await
    }

    async fn untold_pages(&self, after: Option<&str>, limit: usize) -> Result<UntoldPages, StoreError> {
        pass(&self.reading).await?;
        self.store.untold_pages(after, limit).await
    }

    async fn claim_webhooks(&self, claim: &DeliveryClaim) -> Result<Vec<WebhookDelivery>, StoreError> {
        pass(&self.writing).await?;
        self.store.claim_webhooks(claim).await
    }

    async fn finish_webhooks(
        &self,
        owner: &str,
        now: SystemTime,
        finished: &[FinishedDelivery],
    ) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.finish_webhooks(owner, now, finished).await
    }

    async fn webhooks(
        &self,
        state: DeliveryState,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        pass(&self.reading).await?;
        self.store.webhooks(state, after, limit).await
    }

    async fn webhook(&self, id: &str) -> Result<Option<WebhookDelivery>, StoreError> {
        pass(&self.reading).await?;
        self.store.webhook(id).await
    }

    async fn replay_webhooks(&self, now: SystemTime, numbers: &[u64]) -> Result<u64, StoreError> {
        pass(&self.writing).await?;
        self.store.replay_webhooks(now, numbers).await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        pass(&self.reading).await?;
        self.store.outbox_depth().await
    }

    async fn forget_webhooks(&self, limits: &OutboxLimits) -> Result<u64, StoreError> {
        pass(&self.writing).await?;
        self.store.forget_webhooks(limits).await
    }
}

#[async_trait]
impl Store for SwitchedStore {
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        pass(&self.reading).await?;
        pass(&self.opening).await?;
        self.store.load(page).await
    }

    async fn log(
        &self,
        page: &PageId,
        after: Seq,
        limit: usize,
    ) -> Result<Option<Vec<LoggedUpdate>>, StoreError> {
        pass(&self.reading).await?;
        self.store.log(page, after, limit).await
    }

    async fn commit(&self, batch: &[PageCommit]) -> Result<Vec<Committed>, StoreError> {
        pass(&self.writing).await?;
        self.store.commit(batch).await
    }

    async fn compact(
        &self,
        page: &PageId,
        generation: Option<&Generation>,
        snapshot: &Snapshot,
    ) -> Result<Compaction, StoreError> {
        pass(&self.writing).await?;
        self.store.compact(page, generation, snapshot).await
    }

    async fn page(&self, page: &PageId) -> Result<Option<PageRecord>, StoreError> {
        pass(&self.reading).await?;
        pass(&self.asking).await?;
        self.store.page(page).await
    }

    async fn pages(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<PageRecord>, StoreError> {
        pass(&self.reading).await?;
        self.store.pages(prefix, after, limit).await
    }

    async fn set_deleted(&self, page: &PageId, at: Option<SystemTime>) -> Result<bool, StoreError> {
        pass(&self.writing).await?;
        self.store.set_deleted(page, at).await
    }

    async fn snapshot(&self, page: &PageId) -> Result<Option<Snapshot>, StoreError> {
        pass(&self.reading).await?;
        self.store.snapshot(page).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.check().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
