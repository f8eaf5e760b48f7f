//! Through PgBouncer a store keeps its promises, or is refused with a sentence that names it.

use std::{
    collections::BTreeSet,
    env, fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use pageroom_storage::{
    Application, DirectUrl, SharedStore, StoreError, StoreOptions, open,
    testing::contract::{Place, PooledPlace, append, page},
};
use sqlx::Executor;
use tempfile::TempDir;

use crate::{
    cluster::{free_port, run, runs_as_root},
    database::{PostgresPlace, skipped},
    notify::{heard, listener},
};

/// A question to an application takes less.
const PATIENCE: Duration = Duration::from_secs(20);
/// What sessions of a database may begin with.
const UNSYNCED: &str = "SET synchronous_commit = off";

/// A running PgBouncer in front of the database of a place.
struct Pooler {
    process: Child,
    port: u16,
    database: String,
    _folder: TempDir,
}

impl Pooler {
    /// `None`, and a line that says so, when `PAGEROOM_TEST_PGBOUNCER` names no program.
    fn start(mode: &str, begins: &str, more: &str) -> Option<Self> {
        let (Some(program), Ok(url)) = (
            env::var_os("PAGEROOM_TEST_PGBOUNCER"),
            env::var("PAGEROOM_TEST_DATABASE_URL"),
        ) else {
            skipped("PAGEROOM_TEST_PGBOUNCER and PAGEROOM_TEST_DATABASE_URL name no pooler and no database");
            return None;
        };
        // postgres://USER@HOST:PORT/DATABASE, as tests are run with.
        let place = url.strip_prefix("postgres://").expect("an address");
        let (login, place) = place.split_once('@').expect("a user");
        let user = login.split(':').next().unwrap_or_default();
        let (host, database) = place.split_once('/').expect("a database");
        let (host, server_port) = host.split_once(':').expect("a port");
        let database = database.split('?').next().unwrap_or_default().to_owned();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        // Few connections in turn: whatever a session keeps is soon somebody else's.
        let settings = format!(
            "[databases]\n* = host={host} port={server_port} user={user} connect_query='{begins}'\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 6\nserver_round_robin = 1\n{more}\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).expect("a file");
        let mut command = if runs_as_root() {
            // It refuses to run as root.
            run(Command::new("chown").args(["-R", "postgres"]).arg(folder.path()));
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
            command.arg(Path::new(&program));
            command
        } else {
            Command::new(Path::new(&program))
        };
        let process = command
            .arg(&file)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a pooler that starts");
        let listens = (0..2000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(listens, "a pooler that listens");
        Some(Self {
            process,
            port,
            database,
            _folder: folder,
        })
    }

    /// Where it leads to the database.
    fn url(&self) -> String {
        format!("postgres://anyone@127.0.0.1:{}/{}", self.port, self.database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A schema of its own, behind a pooler that lends connections for a transaction.
pub(crate) struct PooledSchema {
    place: PostgresPlace,
    pooler: Pooler,
}

impl PooledSchema {
    pub(crate) async fn new() -> Option<Self> {
        Self::behind("transaction", "SELECT 1", "").await
    }

    async fn behind(mode: &str, begins: &str, more: &str) -> Option<Self> {
        let pooler = Pooler::start(mode, begins, more)?;
        let place = PostgresPlace::new().await?;
        Some(Self { place, pooler })
    }

    fn url(&self) -> String {
        self.place.url_at(&self.pooler.url())
    }

    async fn try_open(&self, direct: Option<String>) -> Result<SharedStore, StoreError> {
        let options = StoreOptions {
            direct: direct.map(DirectUrl::new),
            ..StoreOptions::default()
        };
        open(&self.url(), &options).await
    }

    /// The sentence with which a start is refused.
    async fn refused(&self, direct: Option<String>) -> String {
        let error = self.try_open(direct).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), "address", "it does not pass by itself: {error}");
        let sentence = error.to_string();
        assert!(sentence.contains("PgBouncer"), "{sentence}");
        sentence
    }
}

#[async_trait]
impl Place for PooledSchema {
    async fn open(&self) -> SharedStore {
        PooledPlace(self.url(), DirectUrl::new(self.place.url()))
            .open()
            .await
    }

    async fn remove(&self) {
        self.place.remove().await;
    }
}

#[tokio::test]
async fn commits_are_synced_whatever_the_sessions_of_a_pooler_say() {
    for mode in ["transaction", "session"] {
        let Some(pooled) = PooledSchema::behind(mode, UNSYNCED, "").await else {
            return;
        };
        let store = pooled.open().await;
        let only_synced = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF current_setting('synchronous_commit') <> 'on' THEN RAISE EXCEPTION 'not synced'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON page_updates FOR EACH ROW EXECUTE FUNCTION refuse();";
        let mut behind = pooled.place.connect().await;
        behind.execute(only_synced).await.unwrap();
        let unsynced =
            "SET synchronous_commit = off; INSERT INTO page_updates (page_id, seq, data) VALUES ('p', 1, '')";
        behind.execute(unsynced).await.unwrap_err();
        store
            .commit(&[append("p", ["1"]), append("q", ["1"])])
            .await
            .unwrap();
        store.commit_alone(&append("p", ["2"])).await.unwrap();
        assert_eq!(store.load(&page("p")).await.unwrap().unwrap().record.seq, 2);
        pooled.remove().await;
    }
}

#[tokio::test]
async fn commits_through_a_pooler_are_announced_to_whoever_listens_behind_it() {
    for mode in ["transaction", "session"] {
        let Some(pooled) = PooledSchema::behind(mode, "SELECT 1", "").await else {
            return;
        };
        let mut listener = listener(&pooled.place).await;
        let options = StoreOptions {
            direct: Some(DirectUrl::new(pooled.place.url())),
            notifies: true,
            ..StoreOptions::default()
        };
        let store = open(&pooled.url(), &options).await.unwrap();
        let mut expected = BTreeSet::new();
        // More than one session of the pooler's commits.
        for round in 1..=10 {
            store
                .commit(&[append("p", [&*round.to_string()]), append("q", ["1", "2"])])
                .await
                .unwrap();
            store.commit_alone(&append("alone", ["1"])).await.unwrap();
            expected.extend([
                ("p".to_owned(), round),
                ("q".to_owned(), 2 * round),
                ("alone".to_owned(), round),
            ]);
        }
        assert_eq!(
            heard(&mut listener, &store, expected.len()).await,
            expected,
            "{mode}"
        );
        pooled.remove().await;
    }
}

#[tokio::test]
async fn an_application_is_asked_through_its_pooler() {
    let Some(pooled) = PooledSchema::behind("transaction", UNSYNCED, "").await else {
        return;
    };
    let unsaid = Application::new(&pooled.url(), PATIENCE).unwrap();
    let error = unsaid.ask("SELECT 1", &[]).await.unwrap_err().to_string();
    assert!(error.contains("PgBouncer: add `pgbouncer=true`"), "{error}");
    let application = Application::new(&format!("{}&pgbouncer=true", pooled.url()), PATIENCE).unwrap();
    for _ in 0..20 {
        let asked = "SELECT $1 || current_setting('search_path') || ' ' || '2026-01-02'::timestamptz";
        let answer = application.ask(asked, &["in "]).await.unwrap().unwrap();
        assert!(
            answer.starts_with("in pageroom_test_") && answer.ends_with(" 2026-01-02 00:00:00+00"),
            "{answer}"
        );
    }
    pooled.remove().await;
}

#[tokio::test]
async fn what_would_not_keep_the_promises_is_refused_at_the_start() {
    let Some(pooled) = PooledSchema::new().await else {
        return;
    };
    let direct = pooled.place.url();
    let unnamed = pooled.refused(None).await;
    assert!(unnamed.contains("set PAGEROOM_DATABASE_DIRECT_URL"), "{unnamed}");
    let twice = pooled.refused(Some(pooled.url())).await;
    assert!(twice.starts_with("PAGEROOM_DATABASE_DIRECT_URL "), "{twice}");

    // One that takes all settings and keeps none, in front of a database that has such settings anyway.
    let lying = "ignore_startup_parameters = options,extra_float_digits";
    let alike = "SET jit = off; SET statement_timeout = 10000";
    let lying = PooledSchema::behind("transaction", alike, lying).await.unwrap();
    lying.refused(None).await;
    lying.refused(Some(lying.url())).await;

    let statements = PooledSchema::behind("statement", "SELECT 1", "").await.unwrap();
    let statement_mode = statements.refused(Some(direct.clone())).await;
    assert!(
        statement_mode.contains("set pool_mode to transaction"),
        "{statement_mode}"
    );
    for place in [&pooled, &lying, &statements] {
        place.remove().await;
    }
}

#[tokio::test]
async fn a_pooler_in_front_of_another_database_is_refused() {
    let Some(pooled) = PooledSchema::new().await else {
        return;
    };
    let other = PooledSchema::new().await.unwrap();
    let direct = Some(other.place.url());
    let error = pooled
        .try_open(direct.clone())
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("another database than DATABASE_URL"),
        "no tables: {error}"
    );
    pooled.open().await;
    let error = pooled.try_open(direct).await.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("another database than DATABASE_URL"),
        "others: {error}"
    );
    pooled.remove().await;
    other.remove().await;
}
