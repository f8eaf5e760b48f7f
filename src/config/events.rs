//! Settings of rooms without a document, and of whole contents of pages.

use clap::{Args, ValueEnum};
use crdt::Format;

use crate::events::{ContentConfig, EventConfig, PatioConfig, Profiles, RoomLimits, VersionLimits};

/// How the first content of an empty page is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ContentFormat {
    Text,
    Html,
    Prosemirror,
}

/// Events.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Events")]
pub(super) struct EventSettings {
    /// The applications' vocabularies that are spoken over Socket.IO, separated by commas.
    #[arg(
        long,
        env = "PAGEROOM_PROFILES",
        default_value = "pagespace,patio",
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
    /// What the first whole content of an empty page is when nothing says it. An object is always ProseMirror's.
    #[arg(
        long,
        env = "PAGEROOM_CONTENT_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    content_format: ContentFormat,
    /// Whole contents that are kept of a page for finding out what a client's save was made from.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONTENT_VERSIONS",
        default_value_t = 64,
        value_name = "COUNT"
    )]
    max_content_versions: usize,
    /// Their bytes together, of one page.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONTENT_VERSION_BYTES",
        default_value_t = 8 << 20,
        value_name = "BYTES"
    )]
    max_content_version_bytes: usize,
}

impl EventSettings {
    /// Says what is wrong, and how rooms and contents are kept.
    pub(super) fn check(
        &self,
        members: usize,
        patio: PatioConfig,
        problems: &mut Vec<String>,
    ) -> EventConfig {
        let profiles = self.profiles.parse::<Profiles>().unwrap_or_else(|error| {
            problems.push(format!("PAGEROOM_PROFILES: {error}"));
            Profiles::default()
        });
        EventConfig {
            rooms: RoomLimits {
                per_socket: self.max_rooms_per_connection,
                members,
            },
            profiles,
            patio,
            content: ContentConfig {
                default_format: match self.content_format {
                    ContentFormat::Text => Format::Text,
                    ContentFormat::Html => Format::Html,
                    ContentFormat::Prosemirror => Format::Prosemirror,
                },
                versions: VersionLimits {
                    count: self.max_content_versions,
                    bytes: self.max_content_version_bytes,
                },
            },
        }
    }
}
