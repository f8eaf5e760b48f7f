//! What is kept, relayed and told again in rooms without a document.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::events::{EventRules, Profiles, ProgressPace, RecoveryLimits};

/// Largest file of rules, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Events.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Events")]
pub(super) struct EventSettings {
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
    /// What is remembered for connections that come back.
    pub(super) fn recovery(&self) -> RecoveryLimits {
        RecoveryLimits {
            window: Duration::from_secs(self.recovery_seconds),
            max_bytes: self.max_recovery_bytes,
        }
    }

    /// How often progress is told.
    pub(super) fn progress(&self) -> ProgressPace {
        ProgressPace {
            pages: self.progress_pages,
            time: Duration::from_secs(self.progress_seconds),
        }
    }

    /// Reads the rules.
    pub(super) fn rules(&self, problems: &mut Vec<String>) -> EventRules {
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
