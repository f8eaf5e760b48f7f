//! Real databases: an empty one for each test, gone afterwards.

use std::{
    env,
    io::{self, BufRead, Write},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use storage::{SharedStore, StoreOptions};
use tempfile::TempDir;

/// Names a PostgreSQL in which tests may make schemas of their own.
const POSTGRES: &str = "PAGEROOM_TEST_DATABASE_URL";

/// A database of a test's own.
pub(crate) struct Database(Kind);

enum Kind {
    Sqlite(TempDir),
    Postgres { url: String, schema: String },
}

impl Database {
    /// A file in a folder of its own.
    pub(crate) fn sqlite() -> Self {
        Self(Kind::Sqlite(tempfile::tempdir().expect("a temporary folder")))
    }

    /// A file in a folder of its own, with this in it.
    pub(crate) fn sqlite_of(file: &[u8]) -> Self {
        let database = Self::sqlite();
        if let Kind::Sqlite(folder) = &database.0 {
            std::fs::write(folder.path().join("pages.db"), file).expect("a file");
        }
        database
    }

    /// A schema of its own in PostgreSQL, with what these statements make in it; `None` when there is no PostgreSQL.
    pub(crate) fn postgres_of(statements: &str) -> Option<Self> {
        let database = Self::postgres()?;
        let mut client = database
            .psql()
            .args(["--set", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("psql, the client of PostgreSQL");
        let mut stdin = client.stdin.take().expect("a pipe");
        stdin
            .write_all(statements.as_bytes())
            .expect("a client that listens");
        drop(stdin);
        assert!(client.wait().expect("psql").success(), "every statement is taken");
        Some(database)
    }

    /// A schema of its own in PostgreSQL; `None`, and a line that says so, when there is none.
    pub(crate) fn postgres() -> Option<Self> {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);
        let Ok(url) = env::var(POSTGRES) else {
            skipped(&format!("{POSTGRES} names no PostgreSQL database"));
            return None;
        };
        let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
        let schema = format!("pageroom_it_{}_{number}", process::id());
        let database = Self(Kind::Postgres { url, schema });
        if let Kind::Postgres { schema, .. } = &database.0 {
            database.query(&format!("CREATE SCHEMA {schema}"));
        }
        Some(database)
    }

    /// One of each kind that there is.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        [Some(Self::sqlite()), Self::postgres()].into_iter().flatten()
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        match &self.0 {
            Kind::Sqlite(folder) => format!("sqlite://{}/pages.db", folder.path().display()),
            Kind::Postgres { url, schema } => in_schema(url, schema),
        }
    }

    /// Opens a store on it, as each process does.
    pub(crate) async fn open(&self) -> SharedStore {
        storage::open(&self.url(), &StoreOptions::default())
            .await
            .expect("a database")
    }

    /// The client of PostgreSQL.
    fn psql(&self) -> Command {
        let Kind::Postgres { url, schema } = &self.0 else {
            panic!("no PostgreSQL")
        };
        let mut psql = match env::var_os("PAGEROOM_TEST_POSTGRES_BIN") {
            Some(folder) => Command::new(std::path::Path::new(&folder).join("psql")),
            None => Command::new("psql"),
        };
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet"])
            .arg(url)
            .env("PGOPTIONS", format!("--search_path={schema}"));
        psql
    }

    /// Runs a statement in a transaction that stays open until the session is dropped.
    pub(crate) fn hold(&self, statement: &str) -> HeldSession {
        let mut client = self
            .psql()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql, the client of PostgreSQL");
        let mut stdin = client.stdin.take().expect("a pipe");
        writeln!(stdin, "BEGIN; {statement};").expect("a client that listens");
        let mut line = String::new();
        io::BufReader::new(client.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("an answer");
        assert_ne!(line, "", "the statement answers with a row");
        HeldSession(client, Some(stdin))
    }

    /// What PostgreSQL answers to a statement, as its own client prints it.
    pub(crate) fn query(&self, statement: &str) -> String {
        let output = self
            .psql()
            .args(["--command", statement])
            .output()
            .expect("psql, the client of PostgreSQL");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

/// A session with an open transaction.
pub(crate) struct HeldSession(Child, Option<ChildStdin>);

impl Drop for HeldSession {
    fn drop(&mut self) {
        // The client ends with its input, and the transaction with the client.
        drop(self.1.take());
        let _ = self.0.wait();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Kind::Postgres { schema, .. } = &self.0
            && !std::thread::panicking()
        {
            self.query(&format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}

/// Says loudly that a test proves nothing here.
pub(crate) fn skipped(reason: &str) {
    // Past the harness, which keeps to itself what tests print that pass.
    let _ = writeln!(io::stderr(), "SKIPPED: {reason}");
}

/// A database's address with the schema in which tables are found.
pub(crate) fn in_schema(url: &str, schema: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options[search_path]={schema}")
}
