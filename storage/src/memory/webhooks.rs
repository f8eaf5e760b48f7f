//! What is kept for webhooks in memory.

use std::time::SystemTime;

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::{
    DeliveryClaim, DeliveryState, FinishedDelivery, OutboxDepth, OutboxLimits, PageId, PageRecord,
    StoreError, Telling, UntoldPages, Version, WebhookDelivery, WebhookStore,
};

impl Tables {
    /// A page and its versions, the oldest first.
    fn with_versions(&self, page: &PageId) -> Option<(PageRecord, Vec<Version>)> {
        let stored = self.pages.get(page)?;
        let mut versions = stored.history.versions(None, usize::MAX);
        versions.reverse();
        Some((stored.record.clone(), versions))
    }
}

#[async_trait]
impl WebhookStore for MemoryStore {
    async fn begin_webhooks(&self, now: SystemTime) -> Result<(), StoreError> {
        self.webhook_tables().begin(now);
        Ok(())
    }

    async fn tell_webhooks(&self, telling: &Telling) -> Result<u64, StoreError> {
        let tables = self.tables();
        Ok(self
            .webhook_tables()
            .tell(telling, |page| tables.with_versions(page)))
    }

    async fn untold_pages(&self, after: Option<&str>, limit: usize) -> Result<UntoldPages, StoreError> {
        let tables = self.tables();
        let stretch = tables.pages("", after, limit).into_iter().map(|record| {
            let versions = tables.with_versions(&record.page).map(|(_, versions)| versions);
            let last = versions.and_then(|versions| Some(versions.last()?.id));
            (record, last)
        });
        Ok(self.webhook_tables().untold(stretch))
    }

    async fn claim_webhooks(&self, claim: &DeliveryClaim) -> Result<Vec<WebhookDelivery>, StoreError> {
        Ok(self.webhook_tables().claim(claim))
    }

    async fn finish_webhooks(
        &self,
        owner: &str,
        now: SystemTime,
        finished: &[FinishedDelivery],
    ) -> Result<(), StoreError> {
        self.webhook_tables().finish(owner, now, finished);
        Ok(())
    }

    async fn webhooks(
        &self,
        state: DeliveryState,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        Ok(self.webhook_tables().listed(state, after, limit))
    }

    async fn webhook(&self, id: &str) -> Result<Option<WebhookDelivery>, StoreError> {
        Ok(self.webhook_tables().find(id))
    }

    async fn replay_webhooks(&self, now: SystemTime, numbers: &[u64]) -> Result<u64, StoreError> {
        Ok(self.webhook_tables().replay(now, numbers))
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        Ok(self.webhook_tables().depth())
    }

    async fn forget_webhooks(&self, limits: &OutboxLimits) -> Result<u64, StoreError> {
        Ok(self.webhook_tables().forget(limits))
    }
}
