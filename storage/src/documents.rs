//! Documents in the tables of other servers, read row by row.

use std::str::FromStr;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use tokio::sync::mpsc;

use crate::{StoreError, error::without_code, open::address};

/// Reads the rows of a query whose first column is the name of a document, as text, and whose second one is an update of it, as bytes,
/// and hands them over one after the other. The query is the operator's: it is sent as it is.
///
/// # Errors
/// When the database at `url` (`postgres://…`, or `sqlite://FILE`, which is only read) cannot be read, or the columns are others.
pub async fn read_documents(
    url: &str,
    query: &str,
    rows: mpsc::Sender<(String, Bytes)>,
) -> Result<(), StoreError> {
    let unusable = |error: sqlx::Error| address(format!("is not usable: {error}"));
    match url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => {
            let options = PgConnectOptions::from_str(url).map_err(unusable)?;
            let mut connection = options.connect().await.map_err(|error| without_code(&error))?;
            let found = sqlx::query(AssertSqlSafe(query.to_owned())).fetch(&mut connection);
            hand_over(found, |row| Ok((row.try_get(0)?, row.try_get(1)?)), rows).await?;
            // A connection that cannot say goodbye is gone anyway.
            let _ = connection.close().await;
        }
        Some(("sqlite", _)) => {
            let options = SqliteConnectOptions::from_str(url).map_err(unusable)?;
            let options = options.read_only(true).disable_statement_logging();
            let mut connection = options.connect().await.map_err(|error| without_code(&error))?;
            let found = sqlx::query(AssertSqlSafe(query.to_owned())).fetch(&mut connection);
            hand_over(found, |row| Ok((row.try_get(0)?, row.try_get(1)?)), rows).await?;
            let _ = connection.close().await;
        }
        _ => return Err(address("must begin with postgres:// or sqlite://")),
    }
    Ok(())
}

async fn hand_over<R>(
    found: impl Stream<Item = Result<R, sqlx::Error>>,
    read: impl Fn(&R) -> Result<(String, Vec<u8>), sqlx::Error>,
    rows: mpsc::Sender<(String, Bytes)>,
) -> Result<(), StoreError> {
    let mut found = std::pin::pin!(found);
    while let Some(row) = found.try_next().await.map_err(|error| without_code(&error))? {
        let (name, update) = read(&row).map_err(|error| without_code(&error))?;
        if rows.send((name, update.into())).await.is_err() {
            // Nobody wants more.
            break;
        }
    }
    Ok(())
}
