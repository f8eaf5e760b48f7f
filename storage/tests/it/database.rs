//! Databases for tests: an empty one for each test, gone afterwards.

use std::{
    env,
    io::{Write, stderr},
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use pageroom_storage::{
    SharedStore,
    testing::contract::{Place, UrlPlace},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// A file in a folder of its own.
pub(crate) struct SqlitePlace {
    folder: TempDir,
}

impl SqlitePlace {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// The `DATABASE_URL` of the file.
    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.file().display())
    }

    /// Where the file is.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("pages.db")
    }

    /// A connection behind the back of all stores.
    pub(crate) async fn connect(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.url())
            .await
            .expect("a SQLite file")
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&self) -> SharedStore {
        UrlPlace(self.url()).open().await
    }
}

/// A schema of its own in the database that `PAGEROOM_TEST_DATABASE_URL` names.
pub(crate) struct PostgresPlace {
    pub(crate) database: String,
    schema: String,
}

impl PostgresPlace {
    /// `None`, and a line that says so, when no database is named.
    pub(crate) async fn new() -> Option<Self> {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);

        let Ok(database) = env::var("PAGEROOM_TEST_DATABASE_URL") else {
            skipped("PAGEROOM_TEST_DATABASE_URL names no PostgreSQL database");
            return None;
        };
        let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
        let place = Self {
            database,
            schema: format!("pageroom_test_{}_{number}", process::id()),
        };
        place.execute(format!("CREATE SCHEMA {}", place.schema)).await;
        Some(place)
    }

    /// The `DATABASE_URL` of the schema.
    pub(crate) fn url(&self) -> String {
        self.url_at(&self.database)
    }

    /// The `DATABASE_URL` of the schema in the database at this address.
    pub(crate) fn url_at(&self, database: &str) -> String {
        let separator = if database.contains('?') { '&' } else { '?' };
        format!("{database}{separator}options[search_path]={}", self.schema)
    }

    /// A connection behind the back of all stores.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url())
            .await
            .expect("a PostgreSQL database")
    }

    async fn execute(&self, script: String) {
        let mut connection = self.connect().await;
        connection
            .execute(AssertSqlSafe(script))
            .await
            .expect("statements that succeed");
        connection.close().await.expect("a goodbye");
    }
}

#[async_trait]
impl Place for PostgresPlace {
    async fn open(&self) -> SharedStore {
        UrlPlace(self.url()).open().await
    }

    async fn remove(&self) {
        self.execute(format!("DROP SCHEMA {} CASCADE", self.schema)).await;
    }
}

/// Says loudly that a test proves nothing here.
pub(crate) fn skipped(reason: &str) {
    // Not `eprintln!`, which the test harness captures.
    let _ = writeln!(stderr(), "SKIPPED: {reason}");
}
