//! Databases for tests: an empty one for each test, gone afterwards.

#![expect(clippy::expect_used, reason = "a failure here is a failed test")]

use std::{
    env, process,
    sync::atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use pageroom_storage::{
    SharedStore,
    testing::contract::{Place, UrlPlace},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

/// A file in a folder of its own.
pub(crate) struct SqlitePlace {
    file: UrlPlace,
    _folder: TempDir,
}

impl SqlitePlace {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = UrlPlace(format!("sqlite://{}/pages.db", folder.path().display()));
        Self {
            file,
            _folder: folder,
        }
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&self) -> SharedStore {
        self.file.open().await
    }
}

/// A schema of its own in the database that `PAGEROOM_TEST_DATABASE_URL` names.
pub(crate) struct PostgresPlace {
    database: String,
    schema: String,
}

impl PostgresPlace {
    /// `None`, and a line that says so, when no database is named.
    pub(crate) async fn new() -> Option<Self> {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);

        let Ok(database) = env::var("PAGEROOM_TEST_DATABASE_URL") else {
            eprintln!("SKIPPED: PAGEROOM_TEST_DATABASE_URL names no PostgreSQL database");
            return None;
        };
        let schema = format!(
            "pageroom_test_{}_{}",
            process::id(),
            SCHEMAS.fetch_add(1, Ordering::Relaxed)
        );
        let place = Self { database, schema };
        place.execute(format!("CREATE SCHEMA {}", place.schema)).await;
        Some(place)
    }

    /// The `DATABASE_URL` of the schema.
    pub(crate) fn url(&self) -> String {
        let separator = if self.database.contains('?') { '&' } else { '?' };
        format!("{}{separator}options[search_path]={}", self.database, self.schema)
    }

    /// Runs statements behind the back of all stores.
    pub(crate) async fn execute(&self, script: String) {
        let mut connection = PgConnection::connect(&self.url())
            .await
            .expect("a PostgreSQL database");
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
