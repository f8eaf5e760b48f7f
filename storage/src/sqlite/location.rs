//! What the address of a store says, and how its file is opened.

use std::str::FromStr;

use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use crate::{StoreError, StoreOptions, open::address};

/// Whether `url` can be the address of a file.
pub(crate) fn check_address(url: &str) -> Result<(), StoreError> {
    connect_options(url, &StoreOptions::default()).map(drop)
}

pub(super) fn connect_options(url: &str, options: &StoreOptions) -> Result<SqliteConnectOptions, StoreError> {
    let location = url.strip_prefix("sqlite://").unwrap_or(url);
    let (file, parameters) = location.split_once('?').unwrap_or((location, ""));
    if file.is_empty() {
        return Err(address(
            "names no file: write sqlite://FILE, or sqlite:///FOLDER/FILE for an absolute path",
        ));
    }
    if file == ":memory:" || parameters.contains("mode=memory") {
        return Err(address(
            "asks SQLite to keep pages in memory: write memory: for a store that forgets",
        ));
    }
    let connect =
        SqliteConnectOptions::from_str(url).map_err(|error| address(format!("is not usable: {error}")))?;
    let connect = if parameters.contains("mode=") {
        connect
    } else {
        connect.create_if_missing(true)
    };
    Ok(connect
        .synchronous(SqliteSynchronous::Full)
        // On Apple systems an ordinary sync leaves data in the disk's cache.
        .pragma("fullfsync", "ON")
        // Lets go of the disk space that one large transaction needed.
        .pragma("journal_size_limit", "67108864")
        // See `write_ahead_log`.
        .pragma("wal_autocheckpoint", "0")
        // Another process's transactions are short; within the time of a call this one can wait for several.
        .busy_timeout(options.timeout / 2)
        // Rows that wait to be fetched: each time this is full, two threads are switched.
        .row_buffer_size(1024)
        .disable_statement_logging())
}
