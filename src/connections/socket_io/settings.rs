//! Settings of what is served at `/socket.io/`.

use std::time::Duration;

use clap::Args;

use super::config::SocketIoConfig;
use crate::{
    connections::{SessionConfig, engine_io::EngineConfig},
    events::Profiles,
};

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
    /// The applications' vocabularies that are spoken, separated by commas.
    #[arg(
        long,
        env = "PAGEROOM_PROFILES",
        default_value = "pagespace",
        value_name = "NAMES"
    )]
    profiles: String,
    /// Rooms without a document that one connection may be in; 0 for no limit.
    #[arg(
        long,
        env = "PAGEROOM_MAX_ROOMS_PER_CONNECTION",
        default_value_t = 1000,
        value_name = "COUNT"
    )]
    max_rooms_per_connection: usize,
    /// Of those who type at a page, so many are named at a time; the others are counted.
    #[arg(
        long,
        env = "PAGEROOM_TYPING_NAMES",
        default_value_t = 20,
        value_name = "COUNT"
    )]
    typing_names: usize,
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
        if !(1..=1000).contains(&self.typing_names) {
            problems.push("PAGEROOM_TYPING_NAMES must be between 1 and 1000".to_owned());
        }
        if let Err(error) = self.profiles.parse::<Profiles>() {
            problems.push(format!("PAGEROOM_PROFILES: {error}"));
        }
    }

    /// The applications' vocabularies that are spoken.
    pub fn profiles(&self) -> Profiles {
        self.profiles.parse().unwrap_or_default()
    }

    /// Rooms without a document that one connection may be in; 0 for no limit.
    pub fn max_rooms(&self) -> usize {
        self.max_rooms_per_connection
    }

    /// Of those who type at a page, so many are named at a time.
    pub fn typing_names(&self) -> usize {
        self.typing_names
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
