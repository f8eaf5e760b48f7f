//! The life of a page over REST: into the trash, out of it for good, and as the beginning of another one.

use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};
use storage::{MemoryStore, PageId, SharedStore};

use crate::{
    access::{LOCKED, backend, locked},
    support::{
        client::Client,
        http::{Answer, get_with, send},
        replica::{insertion, text_of},
        server::{ADMIN_TOKEN, TestServer},
        token::token,
        until,
    },
};

fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

async fn post(server: &TestServer, path: &str, bearer: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let bearer = format!("Bearer {bearer}");
    let headers = [("authorization", bearer.as_str())];
    send(server.address, Method::POST, path, &headers, body.into()).await
}

async fn text(server: &TestServer, page: &str) -> String {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let path = format!("/api/pages/{page}/content?format=text");
    let read = get_with(server.address, &path, &headers).await;
    assert_eq!(read.status, 200, "{}", read.text());
    read.text().to_owned()
}

#[tokio::test]
async fn a_page_is_purged_from_the_trash_while_its_room_is_still_in_memory() {
    let server = locked(&[]).await;
    let ada = token("ada", &json!({ "p": "edit" }));
    let path = format!("/ws/p?token={ada}");
    let mut client = Client::join_at(server.address, &path, 7).await;
    client.write_durably("old").await;
    let granted = backend(
        &server,
        Method::PUT,
        "/api/pages/p/permissions/bob",
        json!({ "role": "view" }),
    )
    .await;
    assert_eq!(granted.status, 200);
    // Only from the trash, and only by who manages it.
    let early = post(&server, "/api/pages/p/purge", ADMIN_TOKEN, "").await;
    assert_eq!(code(&early), (409, "conflict".to_owned()));
    let never = post(&server, "/api/pages/never/purge", ADMIN_TOKEN, "").await;
    assert_eq!(code(&never), (409, "conflict".to_owned()));
    let deleted = backend(&server, Method::DELETE, "/api/pages/p", Value::Null).await;
    assert_eq!(deleted.status, 204);
    let refused = post(&server, "/api/pages/p/purge", &ada, "").await;
    assert_eq!(code(&refused), (403, "forbidden".to_owned()));
    let purged = post(&server, "/api/pages/p/purge", ADMIN_TOKEN, "").await;
    assert_eq!(purged.status, 204);
    assert_eq!(
        code(&post(&server, "/api/pages/p/purge", ADMIN_TOKEN, "").await).0,
        409
    );
    let restored = post(&server, "/api/pages/p/restore", ADMIN_TOKEN, "").await;
    assert_eq!(restored.status, 409);
    let described = backend(&server, Method::GET, "/api/pages/p", Value::Null).await;
    assert_eq!(code(&described), (404, "not_found".to_owned()));
    let permissions = backend(&server, Method::GET, "/api/pages/p/permissions", Value::Null).await;
    assert_eq!(permissions.json()["permissions"], json!([]));
    let audit = backend(&server, Method::GET, "/api/audit?action=purge", Value::Null).await;
    assert!(audit.text().contains("\"purge\""), "{}", audit.text());
    // The id is free, and what was there is not in the next page.
    let posted = post(
        &server,
        "/api/pages/p/updates",
        ADMIN_TOKEN,
        insertion(9, 0, "new"),
    )
    .await;
    assert_eq!(posted.json()["seq"], 1);
    assert_eq!(text(&server, "p").await, "new");
    server.stop().await;
}

#[tokio::test]
async fn what_has_been_in_the_trash_for_long_is_purged_by_itself() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    {
        let server = TestServer::start_on(store.clone(), &LOCKED).await;
        for page in ["old", "new", "kept"] {
            let path = format!("/api/pages/{page}/updates");
            let posted = post(&server, &path, ADMIN_TOKEN, insertion(9, 0, page)).await;
            assert_eq!(posted.status, 200);
        }
        let deleted = backend(&server, Method::DELETE, "/api/pages/new", Value::Null).await;
        assert_eq!(deleted.status, 204);
        server.stop().await;
    }
    let id = |id: &str| PageId::new(id).expect("an id");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    assert!(
        store
            .set_deleted(&id("old"), Some(long_ago))
            .await
            .expect("a store")
    );
    let server = TestServer::start_on(store.clone(), &[&LOCKED[..], &["--trash-days", "30"]].concat()).await;
    until("the old page is gone", async || {
        store.page(&id("old")).await.expect("a store").is_none()
    })
    .await;
    for page in ["new", "kept"] {
        assert!(store.page(&id(page)).await.expect("a store").is_some(), "{page}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_begins_with_what_another_one_holds() {
    let server = locked(&[]).await;
    let posted = post(
        &server,
        "/api/pages/a/updates",
        ADMIN_TOKEN,
        insertion(9, 0, "text"),
    )
    .await;
    assert_eq!(posted.status, 200);
    let ada = token("ada", &json!({ "a": "view", "team/*": "edit", "b": "view" }));
    let to = |page: &str| json!({ "pageId": page }).to_string();
    let duplicated = post(&server, "/api/pages/a/duplicate", &ada, to("team/a")).await;
    assert_eq!(
        (duplicated.status.as_u16(), duplicated.json()),
        (201, json!({ "pageId": "team/a", "seq": 1 }))
    );
    assert_eq!(text(&server, "team%2Fa").await, "text");
    // From then on each goes its way.
    let posted = post(
        &server,
        "/api/pages/a/updates",
        ADMIN_TOKEN,
        insertion(8, 0, "more"),
    )
    .await;
    assert_eq!(posted.status, 200);
    assert_eq!(text(&server, "team%2Fa").await, "text");
    let changes = backend(&server, Method::GET, "/api/pages/team%2Fa/changes", Value::Null).await;
    assert_eq!(changes.json()["changes"][0]["user"], "ada");
    for (path, target, status, error) in [
        ("a", "team/a", 409, "conflict"),
        ("a", "a", 403, "read_only"),
        ("a", "b", 403, "read_only"),
        ("a", "elsewhere", 403, "forbidden"),
        ("secret", "team/b", 403, "forbidden"),
        ("b", "team/b", 404, "not_found"),
        ("a", "", 422, "malformed"),
        ("a", "..", 422, "malformed"),
    ] {
        let answer = post(&server, &format!("/api/pages/{path}/duplicate"), &ada, to(target)).await;
        assert_eq!(code(&answer), (status, error.to_owned()), "{path} to {target}");
    }
    for body in ["", "[]", "{}", "{\"pageId\":1}", "{\"pageId\":\"c\",\"more\":1}"] {
        let answer = post(&server, "/api/pages/a/duplicate", &ada, body).await;
        assert_eq!(code(&answer), (422, "malformed".to_owned()), "{body}");
    }
    let large = post(&server, "/api/pages/a/duplicate", &ada, "x".repeat(1 << 20)).await;
    assert_eq!(code(&large), (413, "too_large".to_owned()));
    // Many at once make one page.
    let tries = (0..8).map(|_| post(&server, "/api/pages/a/duplicate", ADMIN_TOKEN, to("once")));
    let answers = futures_util::future::join_all(tries).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let snapshot = get_with(server.address, "/api/pages/once/snapshot", &headers).await;
    assert_eq!(text_of(&snapshot.body), text(&server, "a").await);
    server.stop().await;
}
