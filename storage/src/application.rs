//! An application's own database, asked with the application's own queries.
//!
//! Pageroom keeps nothing there and knows none of its tables but those of one application (see [`PageSpaceSession`]). A query
//! gets texts as `$1`, `$2`, … and answers with the columns of its first row, as texts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use crate::{
    StoreError,
    connections::Connections,
    error::without_code,
    open::address,
    postgres::{Lane, Target, session_settings},
    rows,
};

/// Connections to an application's database.
const MAX_CONNECTIONS: u32 = 4;

/// An application's own database. It is connected to at the first question, and again after a failure.
pub struct Application {
    place: Place,
    timeout: Duration,
}

enum Place {
    Postgres(Lane),
    Sqlite(Connections<SqliteConnection>),
}

/// A row of PageSpace's `sessions` with what its `users` say, found by the hash of an opaque token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSpaceSession {
    /// Number of the row.
    pub id: String,
    /// `socket`, `user`, …
    pub kind: String,
    /// The user.
    pub user: String,
    /// What the version of the user's tokens was when the session began.
    pub token_version: i64,
    /// What it is now.
    pub user_token_version: i64,
    /// The user may not enter.
    pub suspended: bool,
    /// The session was ended.
    pub revoked: bool,
    /// When it ends by itself.
    pub expires_at: SystemTime,
    /// When it was last used, or began.
    pub used_at: SystemTime,
    /// The name in the user's profile.
    pub name: Option<String>,
    /// The user's own name, which may be encrypted.
    pub user_name: Option<String>,
    /// The picture in the user's profile, else the user's.
    pub avatar_url: Option<String>,
}

const SESSION: &str = r#"
    SELECT s.id::text, s.type::text, s.user_id::text, s.token_version::bigint, u."tokenVersion"::bigint,
        u."suspendedAt" IS NOT NULL, s.revoked_at IS NOT NULL,
        (extract(epoch FROM s.expires_at) * 1000)::bigint,
        (extract(epoch FROM coalesce(s.last_used_at, s.created_at)) * 1000)::bigint,
        p."displayName"::text, coalesce(p."avatarUrl", u.image)::text, u.name::text
    FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN user_profiles p ON p."userId" = u.id
    WHERE s.token_hash = $1"#;

const SESSION_USED: &str = "UPDATE sessions SET last_used_at = now() WHERE id::text = $1";

const SESSION_REVOKED: &str =
    "UPDATE sessions SET revoked_at = now(), revoked_reason = $2 WHERE id::text = $1 AND revoked_at IS NULL";

impl Application {
    /// Whether `url` can be the address of an application's database, without going there.
    pub fn check_address(url: &str) -> Result<(), StoreError> {
        Self::new(url, Duration::ZERO).map(drop)
    }

    /// The database at `url`: `postgres://…`, or `sqlite://FILE`, which is only read.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, StoreError> {
        let place = match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => {
                // Times without a zone are meant in UTC, and all are written in one form.
                let forms = [("timezone", "UTC"), ("datestyle", "ISO")];
                let forms = forms.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let mut settings = session_settings(timeout);
                settings.extend(forms);
                let target = Target::parse(url)?;
                // An application may give a server that is only read.
                Place::Postgres(Lane::new(MAX_CONNECTIONS, &target, settings).also_read_only())
            }
            Some(("sqlite", _)) => {
                let options: SqliteConnectOptions = url
                    .parse()
                    .map_err(|error| address(format!("is not usable: {error}")))?;
                let options = options
                    .read_only(true)
                    .busy_timeout(timeout)
                    .disable_statement_logging();
                Place::Sqlite(Connections::new(MAX_CONNECTIONS, [options]))
            }
            _ => {
                return Err(address(
                    "of an application must begin with postgres:// or sqlite://",
                ));
            }
        };
        Ok(Self { place, timeout })
    }

    /// The first column of the first row, as text. `None` without a row, or for NULL.
    pub async fn ask(&self, query: &str, parameters: &[&str]) -> Result<Option<String>, StoreError> {
        let row = self.row(query, parameters).await?;
        Ok(row.and_then(|[answer]| answer))
    }

    /// The first row, each column as text or `None` for NULL. The query is the operator's: it is sent as it is, and parameters are never
    /// put into it. Times of PostgreSQL are in UTC and in the form of ISO.
    pub async fn row<const COLUMNS: usize>(
        &self,
        query: &str,
        parameters: &[&str],
    ) -> Result<Option<[Option<String>; COLUMNS]>, StoreError> {
        self.in_time(async {
            match &self.place {
                Place::Postgres(lane) => {
                    let mut work = lane.begin().await?;
                    // Whatever types the columns have are made texts.
                    let names: Vec<_> = (0..COLUMNS).map(|at| format!("answer_{at}")).collect();
                    let (texts, names) = (names.join("::text, "), names.join(", "));
                    let as_text = format!("SELECT {texts}::text FROM ({query}) AS asked ({names}) LIMIT 1");
                    let query = parameters
                        .iter()
                        .fold(sqlx::query(AssertSqlSafe(as_text)), |query, parameter| {
                            query.bind(*parameter)
                        });
                    let rows = work.fetch_all(query).await?;
                    work.end().await?;
                    let row = rows.into_iter().next();
                    row.map(|row| columns(|at| row.try_get(at))).transpose()
                }
                Place::Sqlite(connections) => {
                    let mut lease = connections.lease().await?;
                    let query = parameters.iter().fold(
                        sqlx::query(AssertSqlSafe(query.to_owned())),
                        |query, parameter| query.bind(*parameter),
                    );
                    let row = query.fetch_optional(&mut lease.connection).await?;
                    lease.give_back();
                    row.map(|row| columns(|at| row.try_get_unchecked(at))).transpose()
                }
            }
        })
        .await
    }

    /// PageSpace's session with this hash of a token, whatever state it is in.
    pub async fn session(&self, token_hash: &str) -> Result<Option<PageSpaceSession>, StoreError> {
        let Place::Postgres(lane) = &self.place else {
            return Err(address("of PageSpace must begin with postgres://"));
        };
        self.in_time(async {
            let mut work = lane.begin().await?;
            let rows = work.fetch_all(sqlx::query(SESSION).bind(token_hash)).await?;
            work.end().await?;
            let Some(row) = rows.into_iter().next() else {
                return Ok(None);
            };
            let time =
                |at| Ok::<_, sqlx::Error>(UNIX_EPOCH + Duration::from_millis(rows::count(row.try_get(at)?)));
            Ok(Some(PageSpaceSession {
                id: row.try_get(0)?,
                kind: row.try_get(1)?,
                user: row.try_get(2)?,
                token_version: row.try_get(3)?,
                user_token_version: row.try_get(4)?,
                suspended: row.try_get(5)?,
                revoked: row.try_get(6)?,
                expires_at: time(7)?,
                used_at: time(8)?,
                name: row.try_get(9)?,
                avatar_url: row.try_get(10)?,
                user_name: row.try_get(11)?,
            }))
        })
        .await
    }

    /// Notes that a session was used just now.
    pub async fn session_used(&self, id: &str) -> Result<(), StoreError> {
        self.change(sqlx::query(SESSION_USED).bind(id)).await
    }

    /// Ends a session.
    pub async fn revoke_session(&self, id: &str, reason: &str) -> Result<(), StoreError> {
        self.change(sqlx::query(SESSION_REVOKED).bind(id).bind(reason))
            .await
    }

    async fn change(
        &self,
        statement: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<(), StoreError> {
        let Place::Postgres(lane) = &self.place else {
            return Ok(());
        };
        self.in_time(async { lane.run(None, vec![statement]).await.map(drop) })
            .await
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        let error = match timeout(self.timeout, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failure(&error),
            Err(_) => StoreError::Unavailable {
                reason: format!("no answer within {:?}", self.timeout),
            },
        };
        match &self.place {
            Place::Postgres(lane) => lane.forget_idle(),
            Place::Sqlite(connections) => connections.forget_idle(),
        }
        Err(error)
    }
}

fn failure(error: &sqlx::Error) -> StoreError {
    match error.to_string().contains("unsupported startup parameter") {
        true => StoreError::Address {
            setting: "PAGEROOM_ACCESS_DATABASE_URL",
            problem: "leads through a pooler, such as PgBouncer: add `pgbouncer=true` to its parameters"
                .to_owned(),
        },
        false => without_code(error),
    }
}

/// As many columns of a row as are wanted.
fn columns<const COLUMNS: usize>(
    read: impl Fn(usize) -> Result<Option<String>, sqlx::Error>,
) -> Result<[Option<String>; COLUMNS], sqlx::Error> {
    let mut columns = [const { None }; COLUMNS];
    for (at, column) in columns.iter_mut().enumerate() {
        *column = read(at)?;
    }
    Ok(columns)
}
