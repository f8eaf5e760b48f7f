//! Limits of Socket.IO sessions.

use std::time::Duration;

/// Limits of one session.
#[derive(Clone, Copy, Debug)]
pub struct SocketIoConfig {
    /// A session without a place in any namespace is ended after this time.
    pub connect_timeout: Duration,
    /// Largest sum of the attachments of one packet, in bytes; 0 for no limit.
    pub max_message_bytes: usize,
    /// Most attachments of one packet.
    pub max_attachments: usize,
    /// Most pages of one session; a page's namespace counts as one.
    pub max_pages: usize,
    /// Sustained rate of events that are no edits; zero for no limit.
    pub events_per_second: u32,
    /// How many of them may come at once.
    pub events_burst: u32,
}

/// Bytes of own answers that may wait before the peer is not read any more.
pub(super) const MAX_REPLY_BYTES: usize = 256 * 1024;
