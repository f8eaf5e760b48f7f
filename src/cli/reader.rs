//! `pageroom reader`: the worker in which documents are made of pages. The server starts it; it is of no use to people.

use std::{io::Write, process::ExitCode};

use clap::Args;

/// What a worker may take.
#[derive(Args, Debug)]
pub(super) struct ReaderArgs {
    /// How much memory it may use.
    #[arg(long, value_name = "MEGABYTES")]
    memory_megabytes: u64,
}

/// Answers questions until standard input ends.
pub(super) fn run(args: &ReaderArgs) -> ExitCode {
    match crate::reader::serve(args.memory_megabytes.saturating_mul(1 << 20)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "pageroom reader: {error}");
            ExitCode::FAILURE
        }
    }
}
