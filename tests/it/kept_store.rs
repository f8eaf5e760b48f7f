//! A store that the version before wrote opens unchanged: tests/vectors/kept_store, made by tests/js/kept_store.js with the binary
//! of commit 7730618, which kept pages as documents of a library and not as structs.

use std::{fs::File, io::Read};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use crdt::{Document, Limits, Update};
use flate2::read::GzDecoder;
use hyper::Method;
use serde_json::{Value, json};

use crate::access::{backend, bare};
use crate::support::{
    client::Client,
    database::Database,
    http::{Answer, send},
    replica::{Replica, insertion},
    server::{ADMIN_TOKEN, TestServer},
    socket::Socket,
    token::SECRET,
};

/// Who writes to the pages today.
const WRITER: u64 = 1_000_003;

async fn start(database: &Database) -> TestServer {
    let flags = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];
    TestServer::start_on(database.open().await, &flags).await
}

fn kept(name: &str) -> Vec<u8> {
    unpacked(&format!("kept_store/{name}"))
}

/// A file of `tests/vectors` that is packed with gzip.
pub(crate) fn unpacked(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut content = Vec::new();
    GzDecoder::new(File::open(path).expect("a kept file"))
        .read_to_end(&mut content)
        .expect("a whole file");
    content
}

/// A page as Yjs found it when it was written.
struct Page {
    id: String,
    path: String,
    is_trashed: bool,
    state: Bytes,
    /// Its roots that JSON can say.
    json: Value,
    record: Value,
}

/// What is known of the pages in the kept store of one kind.
fn pages(kind: &str) -> Vec<Page> {
    let all: Value = serde_json::from_slice(&kept("pages.json.gz")).expect("JSON");
    let pages = all[kind]["pages"].as_array().expect("pages");
    pages
        .iter()
        .map(|page| {
            let id = page["page"].as_str().expect("an id").to_owned();
            Page {
                path: format!("/api/pages/{}", id.replace('/', "%2F")),
                id,
                is_trashed: page["isTrashed"] == true,
                state: STANDARD
                    .decode(page["state"].as_str().expect("a state"))
                    .expect("base64")
                    .into(),
                json: page["json"].clone(),
                record: page["record"].clone(),
            }
        })
        .collect()
}

async fn read(server: &TestServer, path: &str) -> Answer {
    let answer = backend(server, Method::GET, path, Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer
}

async fn post(server: &TestServer, path: &str, update: Bytes) -> Answer {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    send(server.address, Method::POST, path, &headers, update).await
}

fn document(parts: &[Bytes]) -> Document {
    Document::load(Limits::default(), parts.iter().cloned()).expect("a whole page")
}

fn whole(state: &Bytes) -> Update {
    Update::parse(state.clone(), &Limits::default()).expect("an update")
}

/// The page is what these updates make, all of it and nothing else.
async fn assert_is(server: &TestServer, page: &Page, parts: &[Bytes]) {
    let snapshot = read(server, &format!("{}/snapshot", page.path)).await.body;
    let (mut found, mut expected) = (document(std::slice::from_ref(&snapshot)), document(parts));
    assert_eq!(found.state_vector(), expected.state_vector(), "{}", page.id);
    let state = expected.encode().expect("a state");
    assert!(
        found.contains(&whole(&state)).expect("a page"),
        "{}: what was written",
        page.id
    );
    assert!(
        expected.contains(&whole(&snapshot)).expect("a page"),
        "{}: and no more",
        page.id
    );
    let content = read(server, &format!("{}/content", page.path)).await.json();
    let view = expected.content().expect("content");
    assert_eq!(Some(content), view.json(None).expect("content"), "{}", page.id);
}

/// Every page as it was written, and who may do what.
async fn assert_unchanged(server: &TestServer, pages: &[Page]) {
    let listed = read(server, "/api/pages?limit=1000").await.json();
    let listed: Vec<_> = listed["pages"].as_array().expect("pages").iter().collect();
    let there: Vec<_> = pages.iter().filter(|page| !page.is_trashed).collect();
    assert_eq!(listed.len(), there.len());
    for (listed, page) in listed.into_iter().zip(there) {
        for said in ["pageId", "generation", "seq", "createdAt"] {
            assert_eq!(listed[said], page.record[said], "{said} of {}", page.id);
        }
        assert_is(server, page, std::slice::from_ref(&page.state)).await;
        let content = read(server, &format!("{}/content", page.path)).await.json();
        for (root, said) in page.json.as_object().expect("roots") {
            assert_eq!(&content[root], said, "{root} of {} as Yjs has it", page.id);
        }
    }
}

async fn assert_permissions(server: &TestServer) {
    let role = |page: &'static str, user: &'static str| async move {
        let path = format!("/ws/{page}?token={}", bare(user));
        let mut client = Client::new(Socket::open(server.address, &path).await, Replica::new(1));
        client.ask().await;
        while !client.synced {
            client.turn().await.map_err(|closed| closed.code)?;
        }
        Ok::<_, u16>(())
    };
    assert_eq!(role("kept/text", "ann").await, Ok(()), "may view it");
    assert_eq!(role("kept/xml", "ann").await, Err(4403), "was never given it");
    assert_eq!(role("kept/map", "anybody").await, Ok(()), "everybody may");
    assert_eq!(role("kept/array", "bea").await, Ok(()), "may edit all of them");
    assert_eq!(role("kept/text", "mallory").await, Err(4403), "is blocked");
    let granted = read(server, "/api/pages/kept%2Fxml/permissions").await.json();
    assert_eq!(
        granted["permissions"],
        json!([{ "userId": "late", "role": "edit", "expiresAt": "2090-01-01T00:00:00.000Z" }])
    );
    // A third sign-out, after the two that are kept.
    let signed_out = backend(server, Method::POST, "/api/users/left/sign-out", Value::Null).await;
    assert_eq!(signed_out.json()["tokenVersion"], 3);
    let noted = read(server, "/api/audit?limit=1000").await.json();
    let noted = noted["entries"].as_array().expect("entries");
    for (action, user) in [("grant", "bea"), ("block", "mallory"), ("sign_out", "left")] {
        let is_noted = |entry: &&Value| entry["action"] == action && entry["userId"] == user;
        assert!(noted.iter().any(|entry| is_noted(&entry)), "{action} of {user}");
    }
}

/// Everybody goes on writing.
async fn edit(server: &TestServer, pages: &[Page]) {
    for page in pages.iter().filter(|page| !page.is_trashed) {
        let edit = insertion(WRITER, 0, "today");
        let answer = post(server, &format!("{}/updates", page.path), edit.clone()).await;
        assert_eq!(answer.status, 200, "{}: {}", page.id, answer.text());
        let seq = page.record["seq"].as_u64().expect("a number");
        assert_eq!(answer.json()["seq"], seq + 1, "{}", page.id);
        assert_is(server, page, &[page.state.clone(), edit]).await;
        // What was written before is known, whoever brings it again.
        let again = post(server, &format!("{}/updates", page.path), page.state.clone()).await;
        assert_eq!(again.status, 200, "{}: {}", page.id, again.text());
        let record = read(server, &page.path).await.json();
        assert_eq!(record["seq"], seq + 1, "nothing is new in {}", page.id);
    }
}

async fn take_from_trash(server: &TestServer, page: &Page) {
    let hidden = backend(
        server,
        Method::GET,
        &format!("{}/content", page.path),
        Value::Null,
    )
    .await;
    assert_eq!(
        (hidden.status.as_u16(), hidden.error()),
        (404, "page_deleted".to_owned())
    );
    let restored = backend(
        server,
        Method::POST,
        &format!("{}/restore", page.path),
        Value::Null,
    )
    .await;
    assert_eq!(restored.status, 204, "{}", restored.text());
    assert_is(server, page, std::slice::from_ref(&page.state)).await;
}

#[tokio::test]
async fn a_store_of_the_version_before_opens_unchanged_and_goes_on() {
    let dump = String::from_utf8(kept("postgres.sql.gz")).expect("statements");
    let databases = [
        (Some(Database::sqlite_of(&kept("sqlite.db.gz"))), "sqlite"),
        (Database::postgres_of(&dump), "postgres"),
    ];
    for (database, kind) in databases {
        let Some(database) = database else { continue };
        let pages = pages(kind);
        assert!(pages.len() > 12, "pages of every kind");
        let server = start(&database).await;
        assert_unchanged(&server, &pages).await;
        assert_permissions(&server).await;
        edit(&server, &pages).await;
        let trashed = pages
            .iter()
            .find(|page| page.is_trashed)
            .expect("a page in the trash");
        take_from_trash(&server, trashed).await;
        assert!(server.stop().await, "everything stored in time");

        let server = start(&database).await;
        for page in &pages {
            let mut parts = vec![page.state.clone()];
            parts.extend((!page.is_trashed).then(|| insertion(WRITER, 0, "today")));
            assert_is(&server, page, &parts).await;
        }
        assert!(server.stop().await, "everything stored in time");
    }
}
