//! Documents in the tables of other servers, read row by row.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, sqlite::SqliteConnectOptions};
use tokio::sync::mpsc;

use crate::{
    StoreError,
    error::without_code,
    open::address,
    postgres::{Lane, Target},
};

/// Reads the rows of a query whose first column is the name of a document, as text, and whose second one is an update of it, as bytes,
/// and hands them over one after the other. The query is the operator's: it is sent as it is.
///
/// `url` is `postgres://…`, written in any way in which the address of a store may be, also of a server that is only read; or
/// `sqlite://FILE`, which is only read.
///
/// # Errors
/// When the database cannot be read, or the columns are others.
pub async fn read_documents(
    url: &str,
    query: &str,
    rows: mpsc::Sender<(String, Bytes)>,
) -> Result<(), StoreError> {
    match url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => {
            let target = Target::parse(url).map_err(StoreError::of_source)?;
            let lane = Lane::new(1, &target, Vec::new()).also_read_only();
            let mut work = lane.begin().await.map_err(|error| without_code(&error))?;
            let found = work.fetch(sqlx::query(AssertSqlSafe(query.to_owned())));
            let is_complete = hand_over(found, |row| Ok((row.try_get(0)?, row.try_get(1)?)), rows).await?;
            // What is left of an answer that nobody wants is not waited for.
            if is_complete {
                work.end().await.map_err(|error| without_code(&error))?;
                lane.close().await;
            }
        }
        Some(("sqlite", _)) => {
            let options: SqliteConnectOptions = url
                .parse()
                .map_err(|error| address(format!("is not usable: {error}")).of_source())?;
            let options = options.read_only(true).disable_statement_logging();
            let mut connection = options.connect().await.map_err(|error| without_code(&error))?;
            let found = sqlx::query(AssertSqlSafe(query.to_owned())).fetch(&mut connection);
            hand_over(found, |row| Ok((row.try_get(0)?, row.try_get(1)?)), rows).await?;
            // A connection that cannot say goodbye is gone anyway.
            let _ = connection.close().await;
        }
        _ => return Err(address("must begin with postgres:// or sqlite://").of_source()),
    }
    Ok(())
}

/// Gives whether all of it was wanted.
async fn hand_over<R>(
    found: impl Stream<Item = Result<R, sqlx::Error>>,
    read: impl Fn(&R) -> Result<(String, Vec<u8>), sqlx::Error>,
    rows: mpsc::Sender<(String, Bytes)>,
) -> Result<bool, StoreError> {
    let mut found = std::pin::pin!(found);
    while let Some(row) = found.try_next().await.map_err(|error| without_code(&error))? {
        let (name, update) = read(&row).map_err(|error| StoreError::Statement {
            reason: format!("a row must have a name as text and an update as bytes, and has not: {error}"),
        })?;
        if rows.send((name, update.into())).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
