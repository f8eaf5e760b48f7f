//! What connections need of the server.

use std::{net::IpAddr, sync::Arc};

use super::SessionConfig;
use crate::{
    access::Access,
    events::EventServices,
    rooms::{Refusal, RefusalCode, Registry, StoreWriter},
    telemetry::Metrics,
};

/// What connections need of the server.
#[derive(Clone)]
pub struct ServerContext {
    /// Who may do what; the way into rooms.
    pub access: Access,
    /// The rooms.
    pub registry: Registry,
    /// The rooms without a document, and what their vocabularies need.
    pub events: Arc<EventServices>,
    /// The store's writer, which may ask connections to wait.
    pub writer: StoreWriter,
    /// The numbers.
    pub metrics: Metrics,
    /// How patient connections are.
    pub session: SessionConfig,
    /// Largest message, in bytes; 0 for no limit.
    pub max_message_bytes: usize,
    /// Bytes that may wait for one member.
    pub max_outbox_bytes: usize,
}

impl ServerContext {
    /// The longest message of a peer of whom it is known who it is.
    pub(super) fn max_message(&self) -> usize {
        or_any(self.max_message_bytes)
    }

    /// Makes an address wait that has shown a token which is no good, longer each time.
    pub(crate) async fn delay_bad_token(&self, address: IpAddr, refusal: &Refusal) {
        if refusal.code == RefusalCode::Unauthenticated {
            self.access.auth_backoff().failed(address).await;
        }
    }
}

/// A limit as a number that can be compared with.
pub(super) fn or_any(limit: usize) -> usize {
    match limit {
        0 => usize::MAX,
        limit => limit,
    }
}
