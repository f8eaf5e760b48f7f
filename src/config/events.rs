//! Settings of rooms without a document: what is spoken, kept, relayed and told again in them; and of whole contents of pages.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use crdt::Format;

use crate::events::{
    ContentConfig, EventConfig, EventRules, PatioConfig, Profiles, ProgressPace, RecoveryLimits, RoomLimits,
    VersionLimits,
};

/// Largest file of rules, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

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
        default_value = "pagespace,patio,indexer,components",
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
    /// Of those who type at a page, so many are named at a time; the others are counted.
    #[arg(
        long,
        env = "PAGEROOM_TYPING_NAMES",
        default_value_t = 20,
        value_name = "COUNT"
    )]
    typing_names: usize,
    /// A JSON file with rules: which events clients may tell each other, and which events are kept for those who come later.
    #[arg(long, env = "PAGEROOM_EVENTS_FILE", value_name = "FILE")]
    events_file: Option<PathBuf>,
    /// A Socket.IO client whose connection was lost goes on where it was within this time; 0 for never.
    #[arg(
        long,
        env = "PAGEROOM_RECOVERY_SECONDS",
        default_value_t = 120,
        value_name = "SECONDS"
    )]
    recovery_seconds: u64,
    /// Bytes of events that are remembered for that.
    #[arg(
        long,
        env = "PAGEROOM_MAX_RECOVERY_BYTES",
        default_value_t = 64 << 20,
        value_name = "BYTES"
    )]
    max_recovery_bytes: usize,
    /// Progress of an indexer is told with every so many pages.
    #[arg(
        long,
        env = "PAGEROOM_PROGRESS_PAGES",
        default_value_t = 10,
        value_name = "COUNT"
    )]
    progress_pages: u64,
    /// Progress of an indexer is told after this time, whatever the pages.
    #[arg(
        long,
        env = "PAGEROOM_PROGRESS_SECONDS",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    progress_seconds: u64,
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
        if !(1..=1000).contains(&self.typing_names) {
            problems.push("PAGEROOM_TYPING_NAMES must be between 1 and 1000".to_owned());
        }
        EventConfig {
            typing_names: self.typing_names,
            rooms: RoomLimits {
                per_socket: self.max_rooms_per_connection,
                members,
            },
            profiles,
            patio,
            recovery: self.recovery(),
            rules: self.rules(problems),
            progress: self.progress(),
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

    /// What is remembered for connections that come back.
    fn recovery(&self) -> RecoveryLimits {
        RecoveryLimits {
            window: Duration::from_secs(self.recovery_seconds),
            max_bytes: self.max_recovery_bytes,
        }
    }

    /// How often progress is told.
    fn progress(&self) -> ProgressPace {
        ProgressPace {
            pages: self.progress_pages,
            time: Duration::from_secs(self.progress_seconds),
        }
    }

    /// Reads the rules.
    fn rules(&self, problems: &mut Vec<String>) -> EventRules {
        for (name, value) in [
            ("PAGEROOM_RECOVERY_SECONDS", self.recovery_seconds),
            ("PAGEROOM_PROGRESS_SECONDS", self.progress_seconds),
        ] {
            if value > 3600 {
                problems.push(format!("{name} is at most 3600"));
            }
        }
        let Some(path) = &self.events_file else {
            return EventRules::default();
        };
        let size = std::fs::metadata(path).map(|file| file.len());
        let text = match size {
            Ok(size) if size > MAX_FILE_BYTES => {
                problems.push(format!("PAGEROOM_EVENTS_FILE: {} is too large", path.display()));
                return EventRules::default();
            }
            Ok(_) => std::fs::read_to_string(path),
            Err(error) => Err(error),
        };
        let read = text
            .map_err(|error| vec![format!("{}: {error}", path.display())])
            .and_then(|text| EventRules::read(&text, Profiles::is_known));
        read.unwrap_or_else(|wrong| {
            problems.extend(
                wrong
                    .iter()
                    .map(|problem| format!("PAGEROOM_EVENTS_FILE: {problem}")),
            );
            EventRules::default()
        })
    }
}
