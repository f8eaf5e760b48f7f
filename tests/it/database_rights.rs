//! The statements that the documents print make a role with which everything works, and without which nothing is acknowledged.

use std::process::Stdio;

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    access::backend_at,
    support::{
        client::Client,
        cluster::Cluster,
        http::get,
        process::{Process, run, text},
        receiver::{Receiver, WEBHOOK_SECRET},
        server::ADMIN_TOKEN,
        token::{SECRET, token},
        until,
    },
};

const DOCUMENT: &str = include_str!("../../docs/postgresql.md");

/// The statements of the block that begins so.
fn printed(beginning: &str) -> Vec<&'static str> {
    let mut blocks = DOCUMENT.split("```sql\n").skip(1);
    let block = blocks.find(|block| block.starts_with(beginning));
    let block = block
        .and_then(|block| block.split("```").next())
        .expect("a block");
    let statements: Vec<_> = block.split_inclusive(';').map(str::trim).collect();
    statements
        .into_iter()
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// Where a database is, for somebody.
fn url(cluster: &Cluster, login: &str, database: &str) -> String {
    format!("postgres://{login}@127.0.0.1:{}/{database}", cluster.port())
}

/// Says something to PostgreSQL with its own client, and gives the answer.
fn say(cluster: &Cluster, url: &str, statements: &[&str]) -> String {
    let mut client = cluster.program("psql");
    client.args([
        "--no-psqlrc",
        "--tuples-only",
        "--no-align",
        "--quiet",
        "--dbname",
        url,
    ]);
    client.args(["--set", "ON_ERROR_STOP=1"]);
    for statement in statements {
        client.args(["--command", statement]);
    }
    let output = client
        .stdin(Stdio::null())
        .output()
        .expect("psql, the client of PostgreSQL");
    assert!(
        output.status.success(),
        "{statements:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout).trim().to_owned()
}

/// A server of PostgreSQL in which nobody is called as the role in the document is, but one who administers it.
fn cluster() -> Option<(Cluster, String)> {
    let cluster = Cluster::start_new()?;
    say(
        &cluster,
        &cluster.url("pageroom"),
        &["CREATE ROLE root SUPERUSER LOGIN"],
    );
    let root = url(&cluster, "root", "postgres");
    say(&cluster, &root, &["ALTER ROLE pageroom RENAME TO first"]);
    Some((cluster, root))
}

fn serve(database: &str, receiver: &Receiver) -> Process {
    Process::start(&[
        ("DATABASE_URL", database),
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("PAGEROOM_SNAPSHOT_INTERVAL_SECONDS", "1"),
        ("PAGEROOM_DATABASE_NOTIFY", "true"),
        ("PAGEROOM_WEBHOOK_URLS", &receiver.url()),
        ("PAGEROOM_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ("PAGEROOM_WEBHOOK_ALLOW_PRIVATE", "true"),
        ("PAGEROOM_WEBHOOK_DEBOUNCE_SECONDS", "0"),
    ])
}

/// Edits, searches, tells webhooks, and does what else needs tables of its own.
async fn use_all(server: &Process, receiver: &Receiver) {
    let address = server.address().await;
    let ready = get(address, "/readyz").await;
    assert_eq!(ready.status.as_u16(), 200, "{}", ready.text());
    let path = format!("/ws/notes?token={}", token("ada", &json!({ "notes": "edit" })));
    let mut ada = Client::join_at(address, &path, 1).await;
    ada.write_durably("the third word").await;
    let search = json!({ "search": "third" });
    until("the page to be found", async || {
        let found = backend_at(address, Method::POST, "/api/pages/query", search.clone()).await;
        assert!(found.status.is_success(), "{}", found.text());
        found.text().contains("\"notes\"")
    })
    .await;
    let role = json!({ "role": "edit" });
    let edits = json!([{ "op": "insert_text", "path": "/content", "at": 0, "text": "more " }]);
    for (method, path, body) in [
        (Method::PUT, "/api/pages/notes/permissions/eve", role.clone()),
        (Method::DELETE, "/api/pages/notes/permissions/eve", Value::Null),
        (Method::PUT, "/api/users/bob/block", Value::Null),
        (Method::POST, "/api/users/eve/sign-out", Value::Null),
        (
            Method::PUT,
            "/api/pages/team%2F*/history-policy",
            json!({ "keep": "30 days" }),
        ),
        (Method::PUT, "/api/rooms/room:AAAA", json!({ "name": "a room" })),
        (Method::POST, "/api/pages/notes/edits", edits),
        (
            Method::POST,
            "/api/pages/notes/versions",
            json!({ "name": "first" }),
        ),
        (Method::GET, "/api/pages/notes/versions", Value::Null),
        (Method::GET, "/api/pages/notes/changes?since=0", Value::Null),
        (
            Method::GET,
            "/api/pages/notes/content?format=text&seq=1",
            Value::Null,
        ),
        (
            Method::POST,
            "/api/pages/notes/duplicate",
            json!({ "pageId": "copy" }),
        ),
        (Method::POST, "/api/pages/copy/rename", json!({ "pageId": "new" })),
        (Method::GET, "/api/pages/new/former-ids", Value::Null),
        (Method::POST, "/api/pages/notes/compact", Value::Null),
        (Method::DELETE, "/api/pages/new", Value::Null),
        (Method::POST, "/api/pages/new/restore", Value::Null),
        (Method::DELETE, "/api/pages/new", Value::Null),
        (Method::POST, "/api/pages/new/purge", Value::Null),
        (Method::GET, "/api/audit", Value::Null),
        (Method::GET, "/api/webhooks/deliveries?state=pending", Value::Null),
    ] {
        let answer = backend_at(address, method.clone(), path, body).await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text());
    }
    until("what happened to be told", async || {
        let events = receiver.events("notes");
        ["page.created", "page.changed", "version.created"]
            .iter()
            .all(|event| events.iter().any(|told| told == event))
    })
    .await;
    let log = server.log();
    assert!(
        !log.contains("permission denied") && !log.contains("ERROR"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_owns_its_database_makes_and_uses_its_tables() {
    let Some((cluster, root)) = cluster() else { return };
    say(&cluster, &root, &printed("CREATE ROLE pageroom"));
    cluster.demand_password_of("pageroom");
    let address = "DATABASE_URL=postgres://pageroom:secret@host/pageroom";
    assert!(DOCUMENT.contains(address));
    let receiver = Receiver::start().await;
    let database = url(&cluster, "pageroom:secret", "pageroom");
    let server = serve(&database, &receiver);
    use_all(&server, &receiver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_granted_what_is_printed_uses_the_tables_of_another() {
    let Some((cluster, root)) = cluster() else { return };
    say(
        &cluster,
        &root,
        &[
            "CREATE ROLE pageroom LOGIN PASSWORD 'secret'",
            "CREATE ROLE keeper LOGIN",
            "CREATE DATABASE shop OWNER keeper ENCODING 'UTF8' TEMPLATE template0",
        ],
    );
    cluster.demand_password_of("pageroom");
    let database = url(&cluster, "pageroom:secret", "shop");
    let keeper = url(&cluster, "keeper", "shop");
    let refused = |when: &str| {
        let output = run(&["serve", "--port", "0"], &[("DATABASE_URL", &database)]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{when}: {said}");
        assert!(
            said.contains("pageroom migrate") && said.contains("GRANT"),
            "{when}: {said}"
        );
    };
    refused("there are no tables, and the role may make none");
    let migrated = run(&["migrate"], &[("DATABASE_URL", &keeper)]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    refused("the role may not see the tables");
    say(&cluster, &keeper, &printed("GRANT USAGE"));
    let may_create = "SELECT has_schema_privilege('pageroom', 'public', 'CREATE')";
    assert_eq!(say(&cluster, &keeper, &[may_create]), "f");
    let receiver = Receiver::start().await;
    let server = serve(&database, &receiver);
    use_all(&server, &receiver).await;

    // Whoever only reads needs no more than this.
    say(
        &cluster,
        &keeper,
        &[
            "CREATE TABLE of_another_application ()",
            "GRANT SELECT ON page_snapshots TO PUBLIC",
        ],
    );
    say(&cluster, &root, &["CREATE ROLE reader LOGIN"]);
    let read = "SELECT text FROM page_snapshots WHERE page_id = 'notes'";
    let reader = url(&cluster, "reader", "shop");
    assert!(say(&cluster, &reader, &[read]).contains("third word"));

    // A table of another application is none of ours; each of ours is needed.
    let address = server.address().await;
    assert_eq!(get(address, "/readyz").await.status.as_u16(), 200);
    say(
        &cluster,
        &keeper,
        &["REVOKE SELECT ON access_audit FROM pageroom"],
    );
    until("the server to notice", async || {
        get(address, "/readyz").await.status.as_u16() == 503
    })
    .await;
    until("the log to say what is missing", async || {
        server.log().contains("lacks SELECT on access_audit")
    })
    .await;
    say(&cluster, &keeper, &printed("GRANT USAGE"));
    until("the server to be ready again", async || {
        get(address, "/readyz").await.status.as_u16() == 200
    })
    .await;
}
