//! How Engine.IO sessions are kept.

use std::time::Duration;

use crate::connections::{SessionConfig, context::or_any, websocket::MAX_STRANGER_BYTES};

/// How sessions are kept.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Time between two pings.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// How long the change from polling to a WebSocket may take.
    pub upgrade_timeout: Duration,
    /// Largest body of a POST and largest WebSocket message, in bytes; 0 for no limit. Clients are told of it.
    pub max_payload_bytes: usize,
    /// How fast a peer may write, and how long it may not read.
    pub session: SessionConfig,
}

impl EngineConfig {
    /// The limit as a number that can be compared with.
    pub(super) fn max_payload(&self) -> usize {
        or_any(self.max_payload_bytes)
    }

    /// The limit for a peer of whom it is not known yet who it is.
    pub(super) fn max_of_strangers(&self) -> usize {
        self.max_payload().min(MAX_STRANGER_BYTES)
    }
}
