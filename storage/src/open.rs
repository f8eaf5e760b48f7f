//! Finds the store that a `DATABASE_URL` means, and opens it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    MemoryStore, SharedStore, StoreError,
    postgres::{self, PostgresStore},
    sqlite::{self, SqliteStore},
};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Whether the tables are created and brought up to date first. Without it, outdated tables are refused.
    pub migrate: bool,
    /// Longest time a call may take, including waiting for a connection or for another process, and a little more where it is tried
    /// again. Then it fails as [`StoreError::Unavailable`].
    pub timeout: Duration,
    /// Most connections for reading, at least one. There is one more for writing.
    pub readers: u32,
    /// Whether a SQLite file is made where there is none.
    pub create: bool,
    /// Whether rows that a snapshot covers are kept as history.
    pub history: bool,
    /// Whether this must be the only server on a SQLite file: another one that asks for the same is refused.
    pub alone: bool,
    /// Whether PostgreSQL announces on channel `pageroom_pages` which pages have got new rows.
    pub notifies: bool,
    /// Where PostgreSQL itself is, if the address leads to it through a pooler.
    pub direct: Option<DirectUrl>,
}

/// The address of PostgreSQL itself, beside one that leads through a pooler. Its debug form says nothing of what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct DirectUrl(String);

impl DirectUrl {
    /// An address, which may be none yet: see [`check_address`].
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DirectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectUrl(…)")
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            migrate: true,
            timeout: Duration::from_secs(10),
            readers: 4,
            create: true,
            history: true,
            alone: false,
            notifies: false,
            direct: None,
        }
    }
}

/// Opens the store at `url`: `sqlite://FILE` (the file is created when there is none), `postgres://…`, or `memory:`.
///
/// Fails as [`StoreError::Unavailable`] when the database is not there; trying again is the caller's decision. Once open,
/// a store mends itself: calls fail while the database is away and succeed when it is back.
pub async fn open(url: &str, options: &StoreOptions) -> Result<SharedStore, StoreError> {
    match Place::parse(url)? {
        Place::Memory => Ok(Arc::new(MemoryStore::with_history(options.history))),
        Place::Sqlite => Ok(Arc::new(SqliteStore::open(url, options).await?)),
        Place::Postgres => Ok(Arc::new(PostgresStore::open(url, options).await?)),
    }
}

/// What an address leads to, without its secrets: for a log.
pub fn describe(url: &str) -> String {
    match Place::parse(url) {
        Ok(Place::Memory) => "memory (nothing survives)".to_owned(),
        Ok(Place::Sqlite) => url.split('?').next().unwrap_or_default().to_owned(),
        Ok(Place::Postgres) => postgres::describe(url),
        Err(_) => "unknown".to_owned(),
    }
}

/// Creates the tables of the store at `url` or brings them up to date, and does nothing else.
pub async fn migrate(url: &str, direct: Option<DirectUrl>) -> Result<(), StoreError> {
    let options = StoreOptions {
        direct,
        ..StoreOptions::default()
    };
    let store = open(url, &options).await?;
    store.close().await;
    Ok(())
}

/// Whether `url` is the address of a store, and `direct` that of the database behind it, without going there.
pub fn check_address(url: &str, direct: Option<&DirectUrl>) -> Result<(), StoreError> {
    let unused = |()| match direct {
        None => Ok(()),
        Some(_) => Err(address("is set, and DATABASE_URL leads to no PostgreSQL").directly()),
    };
    match Place::parse(url)? {
        Place::Memory => unused(()),
        Place::Sqlite => sqlite::check_address(url).and_then(unused),
        Place::Postgres => postgres::check_address(url, direct),
    }
}

/// The file that a server would make at its first start, where `url` names one that is not there yet in a folder that is.
pub fn missing_file(url: &str) -> Result<Option<PathBuf>, StoreError> {
    match Place::parse(url)? {
        Place::Sqlite => sqlite::missing_file(url),
        Place::Memory | Place::Postgres => Ok(None),
    }
}

/// Parameters of an address of PostgreSQL that other tools understand, and nothing here uses.
pub fn unused_parameters(url: &str) -> Vec<&'static str> {
    match is_postgres(url) {
        true => postgres::unused_parameters(url),
        false => Vec::new(),
    }
}

/// Whether an address leads to PostgreSQL.
pub fn is_postgres(url: &str) -> bool {
    matches!(Place::parse(url), Ok(Place::Postgres))
}

enum Place {
    Memory,
    Sqlite,
    Postgres,
}

impl Place {
    fn parse(url: &str) -> Result<Self, StoreError> {
        // What is refused is not repeated: it may contain a password.
        match url.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", file)) if file.starts_with("//") => Ok(Self::Sqlite),
            Some(("postgres" | "postgresql", server)) if server.starts_with("//") => Ok(Self::Postgres),
            _ => Err(address(
                "must be sqlite://FILE, postgres://USER:PASSWORD@HOST/DATABASE or memory:",
            )),
        }
    }
}

/// An address that cannot be used.
pub(crate) fn address(problem: impl Into<String>) -> StoreError {
    StoreError::Address {
        setting: "DATABASE_URL",
        problem: problem.into(),
    }
}
