//! How a connection to PostgreSQL begins: its address, its settings, and whether server and tables will do.

use std::{str::FromStr, time::Duration};

use sqlx::{ConnectOptions, PgConnection, migrate::Migrator, postgres::PgConnectOptions};

use super::failure::failure;
use crate::{StoreError, open::address, schema};

/// Oldest supported server, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 150_000;

/// A batch waits for a page that another process holds for this long: a commit of the other takes less.
const LOCK_PATIENCE: Duration = Duration::from_millis(40);
/// A page that is stored alone waits for whoever holds it for this long.
const LONE_PATIENCE: Duration = Duration::from_secs(1);

/// Whether `url` can be the address of a database.
pub(crate) fn check_address(url: &str) -> Result<(), StoreError> {
    connect_options(url).map(drop)
}

pub(crate) fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let connect =
        PgConnectOptions::from_str(url).map_err(|error| address(format!("is not usable: {error}")))?;
    let connect = if connect.get_application_name().is_some() {
        connect
    } else {
        connect.application_name("pageroom")
    };
    Ok(connect.disable_statement_logging())
}

/// What every connection sets for itself, whatever the defaults of its server, database and role are.
pub(crate) fn session_options(connect: PgConnectOptions, timeout: Duration) -> PgConnectOptions {
    let timeout = format!("{}ms", timeout.as_millis().max(1));
    connect.options([
        // Committed means synced.
        ("synchronous_commit", "on"),
        // The statements count on seeing what was committed before the locks they waited for.
        ("default_transaction_isolation", "read committed"),
        // Compiling a statement takes longer than running any of these.
        ("jit", "off"),
        // A statement that nobody waits for any more must not go on, nor hold the locks of its transaction.
        ("statement_timeout", &timeout),
        ("idle_in_transaction_session_timeout", &timeout),
    ])
}

/// For whoever stores batches of many pages: a page that somebody else holds must not keep the others waiting.
pub(super) fn impatient(session: PgConnectOptions) -> PgConnectOptions {
    session.options([("lock_timeout", format!("{}ms", LOCK_PATIENCE.as_millis()))])
}

/// For whoever stores one page: others wait for their turn on the same connections, so a page that somebody holds for longer is
/// asked for again later.
pub(super) fn patient(session: PgConnectOptions) -> PgConnectOptions {
    session.options([("lock_timeout", format!("{}ms", LONE_PATIENCE.as_millis()))])
}

pub(super) async fn check_server(
    connection: &mut PgConnection,
) -> Result<Result<(), StoreError>, sqlx::Error> {
    let (version, encoding): (i32, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')",
    )
    .fetch_one(connection)
    .await?;
    Ok(if version < OLDEST_SERVER {
        Err(address(format!(
            "leads to PostgreSQL {}: 15 or newer is needed",
            version / 10_000
        )))
    } else if encoding != "UTF8" {
        Err(address(format!(
            "leads to a database in {encoding}: create one with ENCODING 'UTF8'"
        )))
    } else {
        Ok(())
    })
}

pub(super) async fn bring_up_to_date(connection: &mut PgConnection, migrate: bool) -> Result<(), StoreError> {
    let mut migrator: Migrator = sqlx::migrate!("migrations/postgres");
    migrator.dangerous_set_table_name(schema::TABLE);
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(schema::TABLE)
        .fetch_one(&mut *connection)
        .await
        .map_err(failure)?;
    let state = schema::compare(connection, &migrator, exists).await;
    match state.map_err(|error| schema::failure(error, failure))? {
        schema::State::Current => Ok(()),
        schema::State::Outdated if !migrate => Err(schema::outdated()),
        // Takes a lock of its own: another process may be starting on the same database.
        schema::State::Outdated => migrator
            .run_direct(None, connection, false)
            .await
            .map_err(|error| schema::failure(error, failure)),
    }
}
