//! What a client that speaks in events enters pages with.

use std::{sync::Arc, time::Duration};

use storage::PageId;

use crate::{
    access::{Access, Caller},
    auth::Identity,
    connections::{
        protocol::Work,
        seat_io::{SeatIo, in_time},
    },
    events::EventSocket,
    rooms::{Capabilities, Outbox, Refusal},
    telemetry::Correlation,
};

/// What a client enters pages with.
pub(super) struct JoinContext {
    pub(super) access: Access,
    pub(super) identity: Arc<Identity>,
    /// Its place in the rooms without a document.
    pub(super) events: Arc<EventSocket>,
    /// What the client calls its connection.
    pub(super) socket: Arc<str>,
    /// Where it comes from.
    pub(super) caller: Caller,
    pub(super) max_outbox_bytes: usize,
    /// How long opening a page may take.
    pub(super) patience: Duration,
    /// What is done here is done for this.
    pub(super) correlation: Option<Correlation>,
}

impl JoinContext {
    /// Begins to open a page.
    pub(super) fn open(&self, page: PageId) -> Work<Result<SeatIo, Refusal>> {
        let (access, identity, socket) = (self.access.clone(), self.identity.clone(), self.socket.clone());
        let capabilities = Capabilities {
            // Each edit is answered by itself, so hearing what it has written says nothing to it.
            receipts: true,
            ..Capabilities::default()
        };
        let outbox = Outbox::with_capabilities(self.max_outbox_bytes, capabilities);
        let (caller, patience) = (self.caller.clone(), self.patience);
        let opening = async move {
            let opening = async {
                let admitted = access.admit(Ok(identity), &page, &caller, |_| Ok(()));
                let (mut membership, ()) = admitted.await?;
                membership.socket = Some(socket);
                SeatIo::begin(&access, membership, outbox, patience).await
            };
            in_time(patience, opening).await
        };
        match self.correlation.clone() {
            Some(correlation) => Box::pin(correlation.scope(opening)),
            None => Box::pin(opening),
        }
    }
}
