//! Settings of the processes in which pages are read.

use std::{num::NonZero, time::Duration};

use clap::Args;

use crate::reader::ReaderConfig;

/// The processes in which pages are read as text or JSON.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Reading pages")]
pub(super) struct ReaderSettings {
    /// Processes in which documents are made of pages, to show them, beside one for pages of 256 KiB and more; one for every two processors when nothing is said.
    #[arg(long, env = "PAGEROOM_READERS", value_name = "COUNT")]
    readers: Option<usize>,
    /// Memory that one of them may take. A page that needs more cannot be read, but edited.
    #[arg(
        long,
        env = "PAGEROOM_READER_MEMORY_MEGABYTES",
        default_value_t = 1024,
        value_name = "MEGABYTES"
    )]
    reader_memory_megabytes: u64,
    /// How long reading a page may take.
    #[arg(
        long,
        env = "PAGEROOM_READER_TIMEOUT_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    reader_timeout_seconds: u64,
}

impl ReaderSettings {
    pub(super) fn check(&self, problems: &mut Vec<String>) -> ReaderConfig {
        if self.readers == Some(0) {
            problems.push("PAGEROOM_READERS must be at least 1".to_owned());
        }
        if self.reader_memory_megabytes == 0 {
            problems.push("PAGEROOM_READER_MEMORY_MEGABYTES must be at least 1".to_owned());
        }
        if self.reader_timeout_seconds == 0 {
            problems.push("PAGEROOM_READER_TIMEOUT_SECONDS must be at least 1".to_owned());
        }
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        ReaderConfig {
            workers: self.readers.unwrap_or(processors / 2).max(1),
            memory: self.reader_memory_megabytes.saturating_mul(1 << 20),
            timeout: Duration::from_secs(self.reader_timeout_seconds),
            program: None,
        }
    }
}
