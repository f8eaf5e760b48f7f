//! Moving in and out: everything into one archive and back, from folders, and from the tables of another server.

use std::{fs, path::Path};

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    access::backend_at,
    kept_store::unpacked,
    support::{
        database::Database,
        http::send,
        process::{Process, run, text},
        replica::{deletion, insertion},
        server::ADMIN_TOKEN,
        token::SECRET,
    },
};

pub(crate) fn database(folder: &Path, name: &str) -> String {
    format!("sqlite://{}", folder.join(name).display())
}

fn environment(database: &str) -> [(&str, &str); 3] {
    [
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("DATABASE_URL", database),
    ]
}

/// Runs the program; gives whether it succeeded and what it said to people.
pub(crate) fn pageroom(database: &str, arguments: &[&str]) -> (bool, String) {
    let output = run(arguments, &[("DATABASE_URL", database)]);
    (output.status.success(), text(&output.stderr))
}

/// What a store holds, as its server says: text by page, the deleted ones, and permissions of a page.
pub(crate) async fn held(database: &str) -> Value {
    let server = Process::start(&environment(database));
    let address = server.address().await;
    let read = async |path: &str| backend_at(address, Method::GET, path, Value::Null).await;
    let mut pages = serde_json::Map::new();
    let listed = read("/api/pages").await.json();
    for page in listed["pages"].as_array().expect("a list") {
        let id = page["pageId"].as_str().expect("an id");
        let path = format!("/api/pages/{}", id.replace('/', "%2F").replace(' ', "%20"));
        let content = read(&format!("{path}/content?format=json")).await;
        let permissions = read(&format!("{path}/permissions")).await.json()["permissions"].clone();
        pages.insert(
            id.to_owned(),
            json!({ "content": content.json(), "permissions": permissions }),
        );
    }
    let deleted = read("/api/pages?deleted=true").await.json()["pages"].clone();
    let deleted: Vec<_> = deleted
        .as_array()
        .expect("a list")
        .iter()
        .map(|page| (page["pageId"].clone(), page["deletedAt"].clone()))
        .collect();
    let search = json!({ "search": "third" });
    let found = backend_at(address, Method::POST, "/api/pages/query", search).await;
    json!({ "pages": pages, "deleted": deleted, "found": found.text().lines().count() })
}

#[tokio::test]
async fn everything_goes_into_an_archive_and_comes_out_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (
        database(folder.path(), "old.db"),
        database(folder.path(), "new.db"),
    );
    fill(&old).await;
    moves_out_and_in(folder.path(), &old, &new).await;
    let (_, said) = pageroom(&database(folder.path(), "never.db"), &["export-all", "-"]);
    assert!(said.contains("never.db"), "{said}");
    assert!(!folder.path().join("never.db").exists());
}

#[tokio::test]
async fn an_archive_leads_from_every_kind_of_store_to_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let (Some(first), Some(second), Some(third)) =
        (Database::postgres(), Database::postgres(), Database::postgres())
    else {
        return;
    };
    let file = database(folder.path(), "first.db");
    fill(&file).await;
    fill(&first.url()).await;
    for (name, old, new) in [
        ("into", file, second.url()),
        ("across", first.url(), third.url()),
        ("out", third.url(), database(folder.path(), "last.db")),
    ] {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        moves_out_and_in(&folder, &old, &new).await;
    }
}

/// Makes pages of every kind that there is, with permissions, and stops.
async fn fill(old: &str) {
    let mut server = Process::start(&environment(old));
    let address = server.address().await;
    let ask = async |method, path: &str, body| {
        let answer = backend_at(address, method, path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
    };
    for (page, content) in [
        ("a", "first"),
        ("team%2Fb%20%C3%BC", "second 👋 \u{0}"),
        ("c", "the third one"),
        ("gone", "fourth"),
    ] {
        let path = format!("/api/pages/{page}/edits");
        let edits = json!([{ "op": "insert_text", "path": "/content", "at": 0, "text": content }]);
        ask(Method::POST, &path, edits).await;
    }
    let role = json!({ "role": "edit", "expiresAt": "2099-01-01T00:00:00.000Z" });
    ask(Method::PUT, "/api/pages/a/permissions/ada", role).await;
    ask(
        Method::PUT,
        "/api/pages/a/permissions/*",
        json!({ "role": "view" }),
    )
    .await;
    ask(Method::DELETE, "/api/pages/gone", Value::Null).await;
    server.signal("TERM");
    assert!(server.ended().await.success());
}

/// Exports what [`fill`] has made from `old` into an archive in `folder`, and imports it into `new`.
async fn moves_out_and_in(folder: &Path, old: &str, new: &str) {
    let archive = folder.join("pages.tar");
    let archive = archive.to_str().expect("a path");
    let (exported, said) = pageroom(old, &["export-all", archive]);
    assert!(exported && said.contains("4 pages"), "{said}");
    let (again, said) = pageroom(old, &["export-all", archive]);
    assert!(!again && said.contains("complete already"), "{said}");
    // One that was cut off is gone on with.
    let whole = fs::read(archive).expect("the archive");
    fs::write(archive, &whole[..whole.len() / 2]).expect("a file");
    let (exported, said) = pageroom(old, &["export-all", archive]);
    assert!(exported && !said.contains("4 pages"), "{said}");
    let (dry, said) = pageroom(old, &["import", archive, "--dry-run"]);
    assert!(
        dry && said.contains("0 new, 0 merged, 4 there already, 0 refused"),
        "{said}"
    );
    let (imported, said) = pageroom(new, &["import", archive]);
    assert!(
        imported && said.contains("4 new, 0 merged, 0 there already, 0 refused"),
        "{said}"
    );
    let (imported, said) = pageroom(new, &["import", archive]);
    assert!(
        imported && said.contains("0 new, 0 merged, 4 there already, 0 refused"),
        "{said}"
    );
    let (before, after) = (held(old).await, held(new).await);
    assert_eq!(before, after);
    assert_eq!(after["pages"].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(
        after["found"], 1,
        "what was imported is found before it is opened"
    );
}

#[tokio::test]
async fn a_backup_of_a_server_that_runs_is_a_store_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, copy) = (database(folder.path(), "store.db"), folder.path().join("copy.db"));
    let mut server = Process::start(&environment(&store));
    let address = server.address().await;
    let content = "/api/pages/p/content?format=text";
    let write = async |text: &str| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", bearer.as_str())];
        let body = text.to_owned().into_bytes().into();
        let written = send(address, Method::PUT, content, &headers, body).await;
        assert!(written.status.is_success(), "{written:?}");
    };
    write("before").await;
    let path = copy.to_str().expect("a path");
    let (copied, said) = pageroom(&store, &["backup", path]);
    assert!(copied, "{said}");
    write("after").await;
    let (again, said) = pageroom(&store, &["backup", path]);
    assert!(!again && said.contains("is there already"), "{said}");
    let unfinished = folder.path().join("second.db.unfinished");
    fs::write(&unfinished, "of another call").expect("a file");
    let second = folder.path().join("second.db");
    let second = second.to_str().expect("a path");
    let (_, said) = pageroom(&store, &["backup", second]);
    assert!(said.contains("another backup is being written"), "{said}");
    assert!(unfinished.exists(), "what another call writes is not touched");
    server.signal("TERM");
    assert!(server.ended().await.success());
    let copied = Process::start(&environment(&database(folder.path(), "copy.db")));
    let said = backend_at(copied.address().await, Method::GET, content, Value::Null).await;
    assert_eq!(said.text(), "before");
    for (address, reason) in [
        (database(folder.path(), "never.db"), "never.db"),
        ("memory:".to_owned(), "no SQLite file"),
        ("postgres://127.0.0.1:1/none".to_owned(), "pg_dump"),
    ] {
        let third = folder.path().join("third.db");
        let (copied, said) = pageroom(&address, &["backup", third.to_str().expect("a path")]);
        assert!(!copied && said.contains(reason), "{said}");
        assert!(!third.exists());
    }
    let (_, said) = pageroom(&store, &["backup", "/nowhere/at/all.db"]);
    assert!(said.contains("no folder"), "{said}");
}

#[tokio::test]
async fn a_folder_and_another_servers_tables_are_merged_into_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (
        database(folder.path(), "first.db"),
        database(folder.path(), "second.db"),
    );
    let files = folder.path().join("files");
    fs::create_dir_all(files.join("team")).expect("a folder");
    for (name, bytes) in [
        ("a.yjs", insertion(1, 0, "one")),
        ("team/b.bin", insertion(2, 0, "two")),
        ("team/gap.update", insertion(3, 5, "waits for what is before it")),
        ("broken.bin", "no update".into()),
        ("notes.txt", "not meant".into()),
    ] {
        fs::write(files.join(name), bytes).expect("a file");
    }
    // As y-sweet keeps a document: an entry for its state, in a folder with its name.
    fs::create_dir_all(files.join("team/sweet")).expect("a folder");
    let (key, state) = (&[0, 1, 0, 0, 0, 0, 0], insertion(4, 0, "sweet"));
    let mut entry = 1_u64.to_le_bytes().to_vec();
    for part in [&key[..], &state] {
        entry.extend((part.len() as u64).to_le_bytes());
        entry.extend(part);
    }
    fs::write(files.join("team/sweet/data.ysweet"), &entry).expect("a file");
    fs::create_dir_all(files.join("half")).expect("a folder");
    fs::write(files.join("half/data.ysweet"), &entry[..entry.len() / 2]).expect("a file");
    let files = files.to_str().expect("a path");
    let (complete, said) = pageroom(&first, &["import", files, "--prefix", "old/"]);
    assert!(!complete, "something was refused");
    assert!(
        said.contains("\"old/broken\" was not imported: it is no update"),
        "{said}"
    );
    assert!(
        said.contains("\"old/half\" was not imported: it is no file of y-sweet's"),
        "{said}"
    );
    assert!(
        said.contains("4 new, 0 merged, 0 there already, 2 refused"),
        "{said}"
    );
    // Somebody has gone on with one of the pages elsewhere.
    fs::write(Path::new(files).join("a.yjs"), deletion(1, 0, 1)).expect("a file");
    for refused in ["broken.bin", "half/data.ysweet"] {
        fs::remove_file(Path::new(files).join(refused)).expect("a file");
    }
    let (complete, said) = pageroom(&first, &["import", files, "--prefix", "old/"]);
    assert!(
        complete && said.contains("0 new, 1 merged, 3 there already, 0 refused"),
        "{said}"
    );
    let query = "SELECT page_id, state FROM page_snapshots";
    let (complete, said) = pageroom(&second, &["import", &first, "--query", query]);
    assert!(
        complete && said.contains("4 new, 0 merged, 0 there already, 0 refused"),
        "{said}"
    );
    let there = held(&second).await;
    assert_eq!(there["pages"]["old/a"]["content"], json!({ "text": "ne" }));
    assert_eq!(there["pages"]["old/team/b"]["content"], json!({ "text": "two" }));
    assert_eq!(
        there["pages"]["old/team/sweet"]["content"],
        json!({ "text": "sweet" })
    );
    for source in [
        &first,
        "sqlite:///nowhere/at/all.db",
        "postgres://127.0.0.1:1/x",
        "/nowhere/at/all",
    ] {
        let (complete, said) = pageroom(&second, &["import", source]);
        assert!(!complete && said.contains("cannot be read"), "{source}: {said}");
    }
}

/// A file with the table of Hocuspocus' SQLite extension, and rows as its statements write them.
#[tokio::test]
async fn a_file_of_hocuspocus_is_read_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = database(folder.path(), "store.db");
    let theirs = Database::sqlite_of(&unpacked("hocuspocus.db.gz"));
    for expected in [
        "3 new, 0 merged, 0 there already",
        "0 new, 0 merged, 3 there already",
    ] {
        let (complete, said) = pageroom(&store, &["import", &theirs.url()]);
        assert!(complete && said.contains(expected), "{said}");
    }
    let there = held(&store).await;
    let content = |page: &str| there["pages"][page]["content"].clone();
    assert_eq!(there["pages"].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(content("notes"), json!({ "content": "Grüße 👋 and more" }));
    assert_eq!(
        content("team/plan"),
        json!({ "default": "<paragraph>What is to be done</paragraph>", "meta": { "done": false } })
    );
    assert_eq!(content("a name's \"own\" signs"), json!({ "rows": [1, "two"] }));
}

/// Addresses of one schema, in the forms that people have for the address of a store.
fn addresses(database: &Database) -> Vec<String> {
    let url = database.url();
    let (place, schema) = url
        .strip_prefix("postgres://")
        .and_then(|rest| rest.split_once("?options[search_path]="))
        .expect("an address with a schema");
    let (login, server) = place.rsplit_once('@').expect("a user");
    let (host, name) = server.split_once('/').expect("a database");
    let (host, port) = host.split_once(':').unwrap_or((host, "5432"));
    // The server trusts everybody: any password will do, if it gets that far.
    let user = login.split(':').next().unwrap_or_default();
    vec![
        format!("postgresql://{place}?schema={schema}"),
        format!("postgres://{user}:a/raw?p@ss#word[1]@{server}?schema={schema}"),
        format!("postgres:///{name}?host={host}&port={port}&user={user}&schema={schema}&connection_limit=5"),
        format!("postgres://{login}@127.0.0.1:1,{server}?schema={schema}&target_session_attrs=any"),
        format!("postgres://{place}?schema={schema}&pgbouncer=true"),
    ]
}

#[tokio::test]
async fn tables_in_postgresql_are_read_from_wherever_an_address_leads() {
    let hex = |update: &[u8]| {
        update
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let tables = format!(
        "CREATE TABLE documents (name varchar(255) NOT NULL UNIQUE, data bytea NOT NULL);
         INSERT INTO documents VALUES ('notes', '\\x{}'), ('team/plan', '\\x{}');
         CREATE TABLE drafts (id serial PRIMARY KEY, title text NOT NULL, change bytea NOT NULL);
         INSERT INTO drafts (title, change) VALUES ('draft', '\\x{}'), ('draft', '\\x{}'), ('none', '\\x0102');",
        hex(&insertion(1, 0, "one")),
        hex(&insertion(2, 0, "two")),
        hex(&insertion(3, 0, "three")),
        hex(&deletion(3, 0, 1)),
    );
    let Some(theirs) = Database::postgres_of(&tables) else {
        return;
    };
    for (number, address) in addresses(&theirs).into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = database(folder.path(), "store.db");
        let (complete, said) = pageroom(&store, &["import", &address]);
        assert!(
            complete && said.contains("2 new, 0 merged, 0 there already, 0 refused"),
            "{number}: {said}"
        );
        let query = "SELECT title, change FROM drafts ORDER BY id";
        let (complete, said) = pageroom(
            &store,
            &["import", &address, "--query", query, "--prefix", "old/"],
        );
        assert!(
            !complete && said.contains("1 new, 1 merged, 0 there already, 1 refused"),
            "{number}: {said}"
        );
        assert!(
            said.contains("\"old/none\" was not imported: it is no update"),
            "{said}"
        );
        let there = held(&store).await;
        let content = |page: &str| there["pages"][page]["content"]["text"].clone();
        assert_eq!(
            ["notes", "team/plan", "old/draft"].map(content),
            ["one", "two", "hree"].map(Value::from),
            "{number}"
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = database(folder.path(), "store.db");
    let url = theirs.url();
    for (arguments, reason) in [
        (
            vec!["import", &url, "--query", "SELECT name FROM documents"],
            "as bytes",
        ),
        (
            vec!["import", &url, "--query", "SELECT 1, data FROM documents"],
            "as text",
        ),
        (
            vec!["import", &url, "--query", "SELECT name, data FROM nothing"],
            "nothing",
        ),
        (
            vec!["import", "postgres://u:a-secret@h:port/d"],
            "the address is not usable",
        ),
        (
            vec!["import", "postgres://h/d?target_session_attrs=maybe"],
            "the address has",
        ),
    ] {
        let (complete, said) = pageroom(&store, &arguments);
        assert!(
            !complete && said.contains("cannot be read") && said.contains(reason),
            "{said}"
        );
        assert!(!said.contains("a-secret"), "{said}");
    }
}

#[tokio::test]
async fn what_was_renamed_or_compacted_since_is_not_doubled_by_an_older_archive() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = database(folder.path(), "pages.db");
    let archive = folder.path().join("pages.tar");
    let archive = archive.to_str().expect("a path");
    let edits = json!([
        { "op": "insert_text", "path": "/content", "at": 0, "text": "what it says" },
        { "op": "delete_text", "path": "/content", "at": 0, "length": 5 }
    ]);
    let serve = async |requests: &[(Method, &str, Value)]| {
        let mut server = Process::start(&environment(&store));
        let address = server.address().await;
        for (method, path, body) in requests {
            let answer = backend_at(address, method.clone(), path, body.clone()).await;
            assert!(answer.status.is_success(), "{path}: {}", answer.text());
        }
        server.signal("TERM");
        assert!(server.ended().await.success());
    };
    serve(&[
        (Method::POST, "/api/pages/compacted/edits", edits.clone()),
        (Method::POST, "/api/pages/renamed/edits", edits),
    ])
    .await;
    let (exported, said) = pageroom(&store, &["export-all", archive]);
    assert!(exported, "{said}");
    serve(&[
        (Method::POST, "/api/pages/compacted/compact", Value::Null),
        (
            Method::POST,
            "/api/pages/renamed/rename",
            json!({ "pageId": "new" }),
        ),
    ])
    .await;
    let before = held(&store).await;
    let (imported, said) = pageroom(&store, &["import", archive]);
    assert!(
        !imported && said.contains("0 new, 0 merged, 0 there already, 2 refused"),
        "{said}"
    );
    assert!(
        said.contains("compacted here") && said.contains("called `new` here"),
        "{said}"
    );
    assert_eq!(held(&store).await, before);
}
