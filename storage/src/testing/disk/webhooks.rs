//! What is for webhooks on the disk that fails on demand.

use std::time::SystemTime;

use async_trait::async_trait;

use super::FaultyStore;
use crate::{
    DeliveryClaim, DeliveryState, FinishedDelivery, OutboxDepth, OutboxLimits, StoreError, Telling,
    UntoldPages, WebhookDelivery, WebhookStore, testing::Operation,
};

/// Writes to the disk, and loses the answer where it fails so.
macro_rules! write {
    ($store:expr, $call:expr) => {{
        let lost = $store.admit(Operation::Write).await?;
        let answer = $call.await;
        lost.map_or(answer, |fault| Err(fault.error()))
    }};
}

#[async_trait]
impl WebhookStore for FaultyStore {
    async fn begin_webhooks(&self, now: SystemTime) -> Result<(), StoreError> {
        write!(self, self.durable.begin_webhooks(now))
    }

    async fn tell_webhooks(&self, telling: &Telling) -> Result<u64, StoreError> {
        write!(self, self.durable.tell_webhooks(telling))
    }

    async fn untold_pages(&self, after: Option<&str>, limit: usize) -> Result<UntoldPages, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.untold_pages(after, limit).await
    }

    async fn claim_webhooks(&self, claim: &DeliveryClaim) -> Result<Vec<WebhookDelivery>, StoreError> {
        write!(self, self.durable.claim_webhooks(claim))
    }

    async fn finish_webhooks(
        &self,
        owner: &str,
        now: SystemTime,
        finished: &[FinishedDelivery],
    ) -> Result<(), StoreError> {
        write!(self, self.durable.finish_webhooks(owner, now, finished))
    }

    async fn webhooks(
        &self,
        state: DeliveryState,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.webhooks(state, after, limit).await
    }

    async fn webhook(&self, id: &str) -> Result<Option<WebhookDelivery>, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.webhook(id).await
    }

    async fn replay_webhooks(&self, now: SystemTime, numbers: &[u64]) -> Result<u64, StoreError> {
        write!(self, self.durable.replay_webhooks(now, numbers))
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        self.admit(Operation::Read).await?;
        self.durable.outbox_depth().await
    }

    async fn forget_webhooks(&self, limits: &OutboxLimits) -> Result<u64, StoreError> {
        write!(self, self.durable.forget_webhooks(limits))
    }
}
