//! The limits of what one message, page, connection, user or address may have.

use std::time::Duration;

use clap::Args;

use crate::{
    access::{Rate, RateLimits, SeatLimits},
    connections::hocuspocus::PendingAuthLimits,
};

/// What a client may send before it is known who it is, where a protocol shows its token after connecting: messages, and bytes.
const MAX_PENDING_MESSAGES: usize = 100;
const MAX_PENDING_BYTES: usize = 1 << 20;

/// The limits.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits (0 switches one off)")]
pub(super) struct LimitSettings {
    /// Largest message.
    #[arg(long, env = "PAGEROOM_MAX_MESSAGE_BYTES", default_value_t = 16 << 20, value_name = "BYTES")]
    pub(super) max_message_bytes: usize,
    /// Largest presence state of one client id.
    #[arg(long, env = "PAGEROOM_MAX_AWARENESS_BYTES", default_value_t = 64 << 10, value_name = "BYTES")]
    pub(super) max_awareness_bytes: usize,
    /// Presence states of one page together; beyond it no state of more than 1 KiB is taken in.
    #[arg(
        long,
        env = "PAGEROOM_MAX_ROOM_AWARENESS_BYTES",
        default_value_t = 4 << 20,
        value_name = "BYTES"
    )]
    pub(super) max_room_awareness_bytes: usize,
    /// Client ids that one connection may show presence for.
    #[arg(
        long,
        env = "PAGEROOM_MAX_AWARENESS_CLIENTS",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    pub(super) max_awareness_clients: usize,
    /// Largest page, encoded; beyond it reading goes on and edits are refused.
    #[arg(long, env = "PAGEROOM_MAX_PAGE_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    pub(super) max_page_bytes: u64,
    /// Levels of lists and maps inside one plain value.
    #[arg(
        long,
        env = "PAGEROOM_MAX_VALUE_NESTING",
        default_value_t = 1000,
        value_name = "LEVELS"
    )]
    pub(super) max_value_nesting: u16,
    /// Client ids of whom one update may bring something new. Each takes about 200 bytes of memory.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CLIENTS_PER_UPDATE",
        default_value_t = 100_000,
        value_name = "COUNT"
    )]
    pub(super) max_clients_per_update: usize,
    /// Client ids that one state vector may name; a client of a page with more of them cannot ask what it lacks. Each takes about 50 bytes
    /// of memory while it is read.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CLIENTS_PER_STATE_VECTOR",
        default_value_t = 1 << 20,
        value_name = "COUNT"
    )]
    pub(super) max_clients_per_state_vector: usize,
    /// Levels of shared types inside one another.
    #[arg(
        long,
        env = "PAGEROOM_MAX_NESTING",
        default_value_t = 512,
        value_name = "LEVELS"
    )]
    pub(super) max_nesting: u16,
    /// Connections to this process.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS",
        default_value_t = 20_000,
        value_name = "COUNT"
    )]
    pub(super) max_connections: usize,
    /// Connections to one page.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_ROOM",
        default_value_t = 1500,
        value_name = "COUNT"
    )]
    pub(super) max_connections_per_room: usize,
    /// Connections of one user to one page; several may share a socket. Guests are not users.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_USER_AND_ROOM",
        default_value_t = 50,
        value_name = "COUNT"
    )]
    pub(super) max_connections_per_user_and_room: usize,
    /// Of a page's connections, so many of a hundred are kept for those who may edit.
    #[arg(
        long,
        env = "PAGEROOM_EDITORS_SHARE_PERCENT",
        default_value_t = 10,
        value_name = "PERCENT"
    )]
    pub(super) editors_share_percent: usize,
    /// Connections of one user. Guests are not users.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_USER",
        default_value_t = 50,
        value_name = "COUNT"
    )]
    pub(super) max_connections_per_user: usize,
    /// Connections of one address. Loopback addresses are exempt.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_IP",
        default_value_t = 500,
        value_name = "COUNT"
    )]
    pub(super) max_connections_per_ip: usize,
    /// Pages on one connection, where a protocol has several.
    #[arg(
        long,
        env = "PAGEROOM_MAX_PAGES_PER_CONNECTION",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    pub(super) max_pages_per_connection: usize,
    /// Where a protocol shows its token after connecting: how long it may take to show a good one.
    #[arg(
        long,
        env = "PAGEROOM_AUTH_TIMEOUT_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub(super) auth_timeout_seconds: u64,
    /// Messages a second that one connection is read at; faster ones wait in their socket.
    #[arg(
        long,
        env = "PAGEROOM_MAX_UPDATES_PER_SECOND",
        default_value_t = 2000,
        value_name = "COUNT"
    )]
    pub(super) max_updates_per_second: u32,
    /// Messages of one connection that may come at once.
    #[arg(
        long,
        env = "PAGEROOM_MAX_UPDATES_BURST",
        default_value_t = 20_000,
        value_name = "COUNT"
    )]
    pub(super) max_updates_burst: u32,
    /// Bytes that may wait for a slow reader before it gets one diff instead.
    #[arg(long, env = "PAGEROOM_MAX_OUTBOX_BYTES", default_value_t = 4 << 20, value_name = "BYTES")]
    pub(super) max_outbox_bytes: usize,
    /// A reader that takes nothing for this long is hung up on.
    #[arg(
        long,
        env = "PAGEROOM_MAX_STALL_SECONDS",
        default_value_t = 60,
        value_name = "SECONDS"
    )]
    pub(super) max_stall_seconds: u64,
    /// REST requests a second of one user, and of one address. Backends and loopback addresses are exempt.
    #[arg(
        long,
        env = "PAGEROOM_MAX_REQUESTS_PER_SECOND",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    pub(super) max_requests_per_second: u32,
    /// Such requests that may come at once.
    #[arg(
        long,
        env = "PAGEROOM_MAX_REQUESTS_BURST",
        default_value_t = 500,
        value_name = "COUNT"
    )]
    pub(super) max_requests_burst: u32,
    /// Connections a second that one address may ask for. Loopback addresses are exempt.
    #[arg(
        long,
        env = "PAGEROOM_MAX_ARRIVALS_PER_SECOND",
        default_value_t = 50,
        value_name = "COUNT"
    )]
    pub(super) max_arrivals_per_second: u32,
    /// Such connections that may come at once.
    #[arg(
        long,
        env = "PAGEROOM_MAX_ARRIVALS_BURST",
        default_value_t = 500,
        value_name = "COUNT"
    )]
    pub(super) max_arrivals_burst: u32,
    /// Largest body of an HTTP request.
    #[arg(long, env = "PAGEROOM_MAX_BODY_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    pub(super) max_body_bytes: usize,
    /// The body of a request must have come within this time.
    #[arg(
        long,
        env = "PAGEROOM_BODY_TIMEOUT_SECONDS",
        default_value_t = 60,
        value_name = "SECONDS"
    )]
    pub(super) body_timeout_seconds: u64,
    /// Commands that wait in a room's mailbox; connections that find it full are not read.
    #[arg(
        long,
        env = "PAGEROOM_ROOM_MAILBOX",
        default_value_t = 256,
        value_name = "COUNT"
    )]
    pub(super) room_mailbox: usize,
    /// Bytes of updates that wait in a page for what they build on, with about 160 for each update.
    #[arg(long, env = "PAGEROOM_MAX_PARKED_BYTES", default_value_t = 16 << 20, value_name = "BYTES")]
    pub(super) max_parked_bytes: usize,
}

impl LimitSettings {
    pub(super) fn seats(&self) -> SeatLimits {
        SeatLimits {
            per_user: self.max_connections_per_user_and_room,
            total: self.max_connections_per_room,
            kept_for_editors: self.editors_share_percent,
        }
    }

    pub(super) fn rates(&self) -> RateLimits {
        RateLimits {
            requests: Rate {
                per_second: self.max_requests_per_second,
                burst: self.max_requests_burst,
            },
            arrivals: Rate {
                per_second: self.max_arrivals_per_second,
                burst: self.max_arrivals_burst,
            },
        }
    }

    pub(super) fn lobby(&self) -> PendingAuthLimits {
        PendingAuthLimits {
            timeout: Duration::from_secs(self.auth_timeout_seconds),
            max_messages: MAX_PENDING_MESSAGES,
            max_bytes: MAX_PENDING_BYTES,
            max_pages: self.max_pages_per_connection,
        }
    }
}
