//! How a connection to PostgreSQL begins: its address, its settings, and whether server and tables will do.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, Row, migrate::MigrateError, postgres::PgConnectOptions,
};

use super::failure::failure;
use crate::{DirectUrl, StoreError, migrations, open::address, place::Place, schema};

/// Oldest supported server, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 150_000;

/// Where an address leads.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its hosts, in the order in which they are tried.
    hosts: Vec<PgConnectOptions>,
    /// What each session sets.
    settings: Vec<(String, String)>,
    pooled: bool,
}

impl Target {
    /// Takes an address apart.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
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
            Ok(connect.disable_statement_logging())
        };
        Ok(Self {
            hosts: place.urls.iter().map(connect).collect::<Result<_, _>>()?,
            settings: place.settings,
            pooled: place.pooled,
        })
    }

    /// The same, through a pooler that lends a session for a transaction.
    fn pooled(self) -> Self {
        Self { pooled: true, ..self }
    }

    /// Whether it leads through a pooler that lends a session for a transaction.
    pub(crate) fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// How to connect to each of the hosts, with what the address says and nothing else.
    pub(super) fn plain(&self) -> Vec<PgConnectOptions> {
        self.sessions(&[])
    }

    /// How to connect to each of the hosts for sessions with these settings.
    pub(super) fn sessions(&self, settings: &[(String, String)]) -> Vec<PgConnectOptions> {
        let all = || {
            self.settings
                .iter()
                .chain(settings)
                .map(|(name, value)| (name, value))
        };
        let hosts = self.hosts.iter().cloned();
        hosts
            .map(|host| match self.pooled {
                // A pooler refuses settings that it does not know, and transactions have their own.
                true => host.extra_float_digits(None).statement_cache_capacity(0),
                false => host.options(all()),
            })
            .collect()
    }

    /// What a transaction sets where sessions keep nothing.
    pub(super) fn transaction(&self, settings: Vec<(String, String)>) -> Vec<(String, String)> {
        // Nobody but the pooler can look after its connections.
        let own = settings.into_iter().filter(|(name, _)| !name.starts_with("tcp_"));
        self.settings.iter().cloned().chain(own).collect()
    }
}

/// Where a store is: as its address leads to it, and straight.
pub(super) fn targets(url: &str, direct: Option<&DirectUrl>) -> Result<(Target, Target), StoreError> {
    let target = Target::parse(url)?;
    match direct {
        Some(direct) => {
            let direct = Target::parse(direct.expose()).map_err(StoreError::directly)?;
            match direct.pooled {
                true => Err(
                    address("has `pgbouncer=true`: it must be the address of PostgreSQL itself").directly(),
                ),
                false => Ok((target.pooled(), direct)),
            }
        }
        None if target.pooled => Err(address(
            "leads through PgBouncer (`pgbouncer=true`): set PAGEROOM_DATABASE_DIRECT_URL to the address of PostgreSQL itself, for LISTEN \
             and migrations",
        )),
        None => Ok((target.clone(), target)),
    }
}

/// Whether these can be the addresses of a database.
pub(crate) fn check_address(url: &str, direct: Option<&DirectUrl>) -> Result<(), StoreError> {
    targets(url, direct).map(drop)
}

/// Parameters that other tools understand.
pub(crate) fn unused_parameters(url: &str) -> Vec<&'static str> {
    Place::parse(url).map_or_else(|_| Vec::new(), |place| place.unused)
}

/// Host, port and name of a database, without its secrets.
pub(crate) fn describe(url: &str) -> String {
    let options = Target::parse(url).map_or_else(|_| Vec::new(), |target| target.hosts);
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

/// What is seen of a session whose settings hold. Servers and databases may have defaults that look like ours, so there is one of our own.
const MARK: &str = "pageroom.session";

/// What every session sets for itself, whatever the defaults of its server, database and role are.
pub(crate) fn session_settings(timeout: Duration) -> Vec<(String, String)> {
    let timeout = format!("{}ms", timeout.as_millis().max(1));
    let settings = [
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
        (MARK, "on"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    settings.into_iter().map(owned).collect()
}

/// How long a statement may wait for a page that somebody holds.
pub(super) fn lock_timeout(patience: Duration) -> (String, String) {
    ("lock_timeout".to_owned(), format!("{}ms", patience.as_millis()))
}

/// Whether what a session sets for itself holds: a pooler that drops it would give commits that are not synced, statements that never
/// end, and prepared statements of others.
pub(super) async fn check_session(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // In one message: a pooler may send a second one elsewhere.
    let asked = format!("SELECT coalesce(current_setting('{MARK}', true), '') = 'on'");
    let row = sqlx::raw_sql(AssertSqlSafe(asked)).fetch_one(connection).await?;
    row.try_get(0)
}

/// The refusal to work through a pooler of which nothing is known.
pub(super) fn pooled() -> StoreError {
    address(
        "leads through a pooler that drops the settings of a session (such as PgBouncer): set PAGEROOM_DATABASE_DIRECT_URL to the address \
         of PostgreSQL itself, for LISTEN and migrations",
    )
}

/// What an error means while a server starts: some do not pass by themselves.
pub(super) fn opening(error: sqlx::Error) -> StoreError {
    // Of what a server says, the driver's words add only where in its sources that stands.
    let message = error
        .as_database_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some("28P01" | "28000") => address(format!(
            "is refused ({message}): check user and password, and pg_hba.conf"
        )),
        Some("3D000") => address(format!(
            "names a database that is not there ({message}): create it with createdb"
        )),
        // SCRAM normalises passwords (RFC 4013), and knows no letters that are younger than it.
        _ if message.contains("saslprep") => address(
            "has a password with characters that cannot be used for logging in, such as emoji: give the role another password",
        ),
        _ if message.contains("unsupported startup parameter") => pooled(),
        _ if message.contains("statement pooling mode") => address(format!(
            "leads through PgBouncer in a mode in which there are no transactions ({message}): set pool_mode to transaction or session"
        )),
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
    let migrator = migrations::postgres();
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(schema::TABLE)
        .fetch_one(&mut *connection)
        .await
        .map_err(failure)?;
    let state = schema::compare(connection, &migrator, exists).await;
    match state.map_err(migrating)? {
        schema::State::Current => Ok(()),
        schema::State::Outdated if !migrate => Err(schema::outdated()),
        // Takes a lock of its own: another process may be starting on the same database.
        schema::State::Outdated => migrator
            .run_direct(None, connection, false)
            .await
            .map_err(migrating),
    }
}

/// What went wrong with the tables. A role that may neither make nor see them needs somebody else.
fn migrating(error: MigrateError) -> StoreError {
    let mut denied = None;
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = &error
        && let Some(error) = error.as_database_error()
        && error.code().as_deref() == Some("42501")
    {
        denied = Some(error.message().to_owned());
    }
    match denied {
        Some(reason) => StoreError::Migration {
            reason: format!(
                "{reason}: whoever owns the database runs `pageroom migrate`, and lets this role use the tables (GRANT)"
            ),
        },
        None => schema::failure(error, failure),
    }
}
