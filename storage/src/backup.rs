//! Copies a whole store into a file while servers use it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{StoreError, sqlite};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store cannot be read, or its address leads nowhere.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is no SQLite file.
    #[error(
        "DATABASE_URL leads to no SQLite file: PostgreSQL has `pg_dump` for this, and what is in memory is nowhere else"
    )]
    NoFile,
    /// Nothing is overwritten.
    #[error("{0} is there already: name another file")]
    Exists(PathBuf),
    /// Another call writes there, or has been cut off.
    #[error("{0} is there: another backup is being written, or was cut off and left it: remove it then")]
    Unfinished(PathBuf),
    /// There is no folder for it.
    #[error("there is no folder for {0}")]
    NoFolder(PathBuf),
    /// SQLite names files in UTF-8.
    #[error("{0} is no name that SQLite can be given: use one in UTF-8")]
    Name(PathBuf),
    /// There is no room for the copy.
    #[error("there is no room for {0}: free disk space there, or name a file elsewhere")]
    Full(PathBuf),
    /// The copy cannot be written.
    #[error("{0} cannot be written: {1}")]
    Output(PathBuf, #[source] io::Error),
}

/// Copies the SQLite file that `url` names into the file `copy`, as it is at one moment, and says how many bytes that has. Servers go on reading and
/// writing meanwhile; what they write in this time stays in the log beside the file until the copy is done. A copy under its name is whole and
/// on the disk, and a store opens it as it is.
///
/// # Errors
/// When `url` names no SQLite file, something is at `copy`, or either cannot be read or written.
pub async fn backup(url: &str, copy: &Path) -> Result<u64, BackupError> {
    match url.starts_with("sqlite:") {
        true => sqlite::backup(url, copy).await,
        false => {
            crate::check_address(url, None)?;
            Err(BackupError::NoFile)
        }
    }
}
