//! `pageroom backup`: copies the SQLite file while a server uses it.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar};
use storage::BackupError;

use crate::auth::Secret;

/// How often it is shown that it goes on.
const TICK: Duration = Duration::from_millis(200);

/// What to copy, and where to.
#[derive(Args, Debug)]
pub(super) struct BackupArgs {
    /// The copy, which must not be there yet. To restore it, give it to a server as its `DATABASE_URL`.
    file: PathBuf,
    /// The SQLite file, which servers may be using.
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "sqlite://pageroom.db",
        value_name = "URL",
        hide_env_values = true
    )]
    database_url: Secret,
}

pub(super) async fn run(args: &BackupArgs) -> Result<(), BackupError> {
    let bar = ProgressBar::new_spinner().with_message("copying");
    bar.enable_steady_tick(TICK);
    let copied = storage::backup(args.database_url.expose(), &args.file).await;
    bar.finish_and_clear();
    let bytes = copied?;
    let _ = writeln!(io::stderr(), "{}, {}", args.file.display(), HumanBytes(bytes));
    Ok(())
}
