//! The file itself: whether it is still the one that was opened, whether another server has it, and its mode.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

use super::location::connect_options;
use crate::{StoreError, StoreOptions, open::address};

/// The file that was opened. SQLite goes on with it when it is removed or replaced, and whatever it writes then is lost.
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    /// The file that is at a path now.
    pub(super) fn at(path: &Path) -> Result<Self, StoreError> {
        let identity = identity(path).map_err(|error| StoreError::Unavailable {
            reason: format!("{}: {error}", path.display()),
        })?;
        Ok(Self {
            path: path.to_owned(),
            identity,
        })
    }

    /// Whether it is still at its path.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let problem = match identity(&self.path) {
            Ok(identity) if identity == self.identity => return Ok(()),
            Ok(_) => "was replaced while the server was running",
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "was removed while the server was running"
            }
            Err(_) => "can no longer be looked at",
        };
        Err(StoreError::Unavailable {
            reason: format!(
                "the file {} {problem}: stop the server, put the file back, and start it again",
                self.path.display()
            ),
        })
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let about = std::fs::metadata(path)?;
    Ok((about.dev(), about.ino()))
}

/// The file that `url` names, when it is not there yet and may be made.
pub(crate) fn missing_file(url: &str) -> Result<Option<PathBuf>, StoreError> {
    let connect = connect_options(url, &StoreOptions::default())?;
    let path = connect.get_filename();
    check_folder(path)?;
    Ok((!path.exists()).then(|| path.to_owned()))
}

/// Whether there is a folder for the file. There is none because of a mistake, which does not pass by itself.
pub(super) fn check_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Ok(()),
    };
    match folder.is_dir() {
        true => Ok(()),
        false => Err(address(format!(
            "names a file, and there is no folder for it: create {}",
            folder.display()
        ))),
    }
}

/// Keeps other servers away from a file until what is returned is dropped, which the system does for a process that dies. The lock is
/// on a file beside it, because SQLite has locks of its own on the file. `None` where nothing can be written at all, which SQLite says
/// better.
pub(super) fn lock_alone(path: &Path) -> Result<Option<File>, StoreError> {
    // By whatever name a file is opened, it is one file.
    let path = whole_path(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.as_os_str().to_owned();
    name.push("-server");
    let failed = |error: std::io::Error| {
        address(format!(
            "names {}, and whether another server uses it cannot be found out ({}: {error}): make that possible, or answer for it with PAGEROOM_SHARED_FILE=true",
            path.display(),
            name.display()
        ))
    };
    let created = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name);
    // A file that somebody else has made can be locked by who may only read it.
    let lock = match created.or_else(|error| File::open(&name).map_err(|_| error)) {
        Ok(lock) => lock,
        Err(_) if File::options().append(true).open(&path).is_err() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(address(format!(
            "names {}, which another server is using: give each a file of its own, or several PostgreSQL, or say so with PAGEROOM_SHARED_FILE=true",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A path without links, also of a file that is yet to be made.
fn whole_path(path: &Path) -> std::io::Result<PathBuf> {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(error), Some(folder), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => {
            let here = folder.as_os_str().is_empty();
            let folder = if here { Path::new(".") } else { folder };
            Ok(folder.canonicalize()?.join(name))
        }
        (whole, _, _) => whole,
    }
}

/// Puts the file in WAL mode, in which it then stays. When another process is about to write or to switch, too, SQLite does not wait
/// for it in the middle of a switch: it fails at once. So the switch is made under an exclusive lock, for which SQLite does wait, and
/// which outlives its transaction, because in a transaction there is no switching. Closing the connection ends the lock.
pub(super) async fn put_in_wal_mode(options: &SqliteConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    // A file that is in WAL mode already may be one that nobody may write.
    if !is_in_wal_mode(&mut connection).await? {
        connection.execute("BEGIN EXCLUSIVE").await?;
        // Another process may have been faster, and work with the file by now.
        if !is_in_wal_mode(&mut connection).await? {
            connection
                .execute("PRAGMA locking_mode = EXCLUSIVE; COMMIT; PRAGMA journal_mode = WAL")
                .await?;
        }
    }
    connection.close().await
}

async fn is_in_wal_mode(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(connection)
        .await?;
    Ok(mode == "wal")
}
