//! Settings of what is served at `/socket.io/`.

use std::time::Duration;

use clap::Args;

use super::config::SocketIoConfig;
use crate::connections::{SessionConfig, engine_io::EngineConfig};

/// How long a client may take to change from polling to a WebSocket.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any connection lasts.
const UNLIMITED: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Attachments of one packet: no event has more than two.
const MAX_ATTACHMENTS: usize = 16;
/// A packet's text beside its attachments may have this many bytes more.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Socket.IO.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Socket.IO")]
pub struct SocketIoSettings {
    /// Time between two pings to a Socket.IO client.
    #[arg(
        long,
        env = "PAGEROOM_PING_INTERVAL_SECONDS",
        default_value_t = 25,
        value_name = "SECONDS"
    )]
    ping_interval_seconds: u64,
    /// How long a Socket.IO client may take to answer a ping.
    #[arg(
        long,
        env = "PAGEROOM_PING_TIMEOUT_SECONDS",
        default_value_t = 20,
        value_name = "SECONDS"
    )]
    ping_timeout_seconds: u64,
    /// Events a second of one connection that are no edits (those are only read more slowly); 0 for no limit.
    #[arg(
        long,
        env = "PAGEROOM_MAX_EVENTS_PER_SECOND",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    max_events_per_second: u32,
    /// Such events of one connection that may come at once.
    #[arg(
        long,
        env = "PAGEROOM_MAX_EVENTS_BURST",
        default_value_t = 500,
        value_name = "COUNT"
    )]
    max_events_burst: u32,
}

impl SocketIoSettings {
    /// Says what is wrong.
    pub fn check(&self, problems: &mut Vec<String>) {
        for (name, value) in [
            ("PAGEROOM_PING_INTERVAL_SECONDS", self.ping_interval_seconds),
            ("PAGEROOM_PING_TIMEOUT_SECONDS", self.ping_timeout_seconds),
        ] {
            if !(1..=3600).contains(&value) {
                problems.push(format!("{name} must be between 1 and 3600"));
            }
        }
    }

    /// How sessions are kept.
    pub fn engine(&self, session: SessionConfig, max_message_bytes: usize) -> EngineConfig {
        // A message that is polled is a third larger.
        let max_payload_bytes = match max_message_bytes {
            0 => 0,
            bytes => bytes.saturating_add(bytes / 3).saturating_add(MAX_HEAD_BYTES),
        };
        EngineConfig {
            ping_interval: Duration::from_secs(self.ping_interval_seconds),
            ping_timeout: Duration::from_secs(self.ping_timeout_seconds),
            upgrade_timeout: UPGRADE_TIMEOUT,
            max_payload_bytes,
            session,
        }
    }

    /// Limits of what is spoken over them; 0 for none.
    pub fn limits(
        &self,
        max_message_bytes: usize,
        connect_timeout: Duration,
        max_pages: usize,
    ) -> SocketIoConfig {
        SocketIoConfig {
            connect_timeout: Some(connect_timeout)
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(UNLIMITED),
            max_message_bytes,
            max_attachments: MAX_ATTACHMENTS,
            max_pages: Some(max_pages).filter(|pages| *pages != 0).unwrap_or(usize::MAX),
            events_per_second: self.max_events_per_second,
            events_burst: self.max_events_burst,
        }
    }
}
