//! How a connection to PostgreSQL begins: its address, its settings, and whether server and tables will do.

use std::{str::FromStr, time::Duration};

use sqlx::{ConnectOptions, PgConnection, migrate::Migrator, postgres::PgConnectOptions};

use super::failure::failure;
use crate::{StoreError, open::address, place::Place, schema};

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

/// How each of the hosts of an address is connected to, in the order in which they are tried.
pub(crate) fn connect_options(url: &str) -> Result<Vec<PgConnectOptions>, StoreError> {
    let place = Place::parse(url).map_err(address)?;
    let connect = |url: &String| {
        let connect = PgConnectOptions::from_str(url).map_err(|error| {
            address(format!(
                "is not usable ({error}): write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with % before the hexadecimal number of special characters"
            ))
        })?;
        let connect = match connect.get_application_name() {
            Some(_) => connect,
            None => connect.application_name("pageroom"),
        };
        let connect = match &place.schema {
            Some(schema) => connect.options([("search_path", schema)]),
            None => connect,
        };
        Ok(connect.disable_statement_logging())
    };
    place.urls.iter().map(connect).collect()
}

/// Host, port and name of a database, without its secrets.
pub(crate) fn describe(url: &str) -> String {
    let options = connect_options(url).unwrap_or_default();
    let place = |options: &PgConnectOptions| {
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        format!(
            "{host}:{}/{}",
            options.get_port(),
            options.get_database().unwrap_or_default()
        )
    };
    let places: Vec<_> = options.iter().map(place).collect();
    format!("postgres at {}", places.join(", "))
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
        // A server must notice, too, when a connection is half open.
        ("tcp_keepalives_idle", "15"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
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

/// Whether what a session sets for itself holds: a pooler that ignores it would give commits that are not synced, and statements
/// that never end.
pub(super) async fn check_session(
    connection: &mut PgConnection,
) -> Result<Result<(), StoreError>, sqlx::Error> {
    let holds: bool = sqlx::query_scalar(
        "SELECT current_setting('synchronous_commit') = 'on' AND current_setting('jit') = 'off' \
         AND current_setting('statement_timeout') <> '0'",
    )
    .persistent(false)
    .fetch_one(connection)
    .await?;
    Ok(match holds {
        true => Ok(()),
        false => Err(pooled()),
    })
}

/// The refusal to work through a pooler that takes no settings of a session.
fn pooled() -> StoreError {
    address(
        "leads through a pooler that takes no settings of a session (PgBouncer, in any mode): give the address of PostgreSQL itself, \
         because a server opens only some ten connections",
    )
}

/// What an error means while a server starts: some do not pass by themselves.
pub(super) fn opening(error: sqlx::Error) -> StoreError {
    let message = error.to_string();
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some("28P01" | "28000") => address(format!(
            "is refused ({message}): check user and password, and pg_hba.conf"
        )),
        Some("3D000") => address(format!(
            "names a database that is not there ({message}): create it with createdb"
        )),
        _ if message.contains("unsupported startup parameter") => pooled(),
        _ => failure(error),
    }
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
