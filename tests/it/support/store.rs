//! A store with switches: its reads and writes work, hang or fail as a test says, and are counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use storage::{
    Committed, LoggedUpdate, NewUpdate, PageCommit, PageId, PageRecord, Seq, SharedStore, Snapshot, Store,
    StoreError, StoredPage, testing::Fault,
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
}

/// A store with switches for each half, where [`storage::testing::disk`] has them for both.
pub(crate) struct SwitchedStore {
    store: SharedStore,
    reading: watch::Sender<Weather>,
    writing: watch::Sender<Weather>,
    loads: AtomicUsize,
}

impl SwitchedStore {
    /// A store that works.
    pub(crate) fn new(store: SharedStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            reading: watch::Sender::new(Weather::Fine),
            writing: watch::Sender::new(Weather::Fine),
            loads: AtomicUsize::new(0),
        })
    }

    /// Sets how loads go.
    pub(crate) fn reading(&self, weather: Weather) {
        self.reading.send_replace(weather);
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
    }
}

#[async_trait]
impl Store for SwitchedStore {
    async fn load(&self, page: &PageId) -> Result<Option<StoredPage>, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        pass(&self.reading).await?;
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

    async fn page(&self, page: &PageId) -> Result<Option<PageRecord>, StoreError> {
        pass(&self.reading).await?;
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

    async fn snapshot(&self, page: &PageId) -> Result<Option<Snapshot>, StoreError> {
        pass(&self.reading).await?;
        self.store.snapshot(page).await
    }

    async fn quarantine(&self, page: &PageId, update: &NewUpdate, reason: &str) -> Result<(), StoreError> {
        self.store.quarantine(page, update, reason).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        pass(&self.writing).await?;
        self.store.check().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
