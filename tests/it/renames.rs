//! What a page that gets another id, or another document, is to those who are at it, at its new id, or in the middle of a request.

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    access::{backend, locked},
    support::{
        client::Client,
        http::{Answer, get_with, send},
        replica::insertion,
        server::{ADMIN_TOKEN, TestServer},
        token::token,
    },
};

async fn rename(server: &TestServer, from: &str, to: &str) -> Answer {
    let path = format!("/api/pages/{from}/rename");
    backend(server, Method::POST, &path, json!({ "pageId": to })).await
}

async fn with_key(server: &TestServer, (method, path): (Method, &str), key: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
    send(server.address, method, path, &headers, body.to_owned().into()).await
}

async fn text(server: &TestServer, page: &str) -> String {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let path = format!("/api/pages/{page}/content?format=text");
    let read = get_with(server.address, &path, &[("authorization", &bearer)]).await;
    assert_eq!(read.status, 200, "{}", read.text());
    read.text().to_owned()
}

async fn write(server: &TestServer, page: &str, words: &str) {
    let path = format!("/api/pages/{page}/updates");
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let posted = send(
        server.address,
        Method::POST,
        &path,
        &headers,
        insertion(9, 0, words),
    )
    .await;
    assert_eq!(posted.status, 200, "{}", posted.text());
}

/// They have an empty document, and would have it until somebody writes.
#[tokio::test]
async fn who_waits_at_an_id_sees_the_page_that_gets_it() {
    let server = locked(&[]).await;
    write(&server, "old", "words").await;
    let ada = token("ada", &json!({ "new": "edit" }));
    let path = format!("/ws/new?token={ada}");
    let mut early = Client::join_at(server.address, &path, 7).await;
    assert_eq!(rename(&server, "old", "new").await.status, 200);
    assert_eq!(early.closed().await.code, 1012);
    let mut back = Client::join_at(server.address, &path, 7).await;
    back.until_text("words").await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_is_made_again_under_the_new_id_is_made_once() {
    let server = locked(&[]).await;
    write(&server, "a", "words").await;
    let edit = json!([{ "op": "insert_text", "path": "/default", "at": 0, "text": "once " }]).to_string();
    let edit_of = async |page: &str| {
        let path = format!("/api/pages/{page}/edits");
        with_key(&server, (Method::POST, &path), "k", &edit).await
    };
    let put_of = async |page: &str| {
        let path = format!("/api/pages/{page}/content?format=json&field=meta");
        with_key(&server, (Method::PUT, &path), "k", r#"{"n":1}"#).await
    };
    assert_eq!(edit_of("a").await.status, 200);
    let said = text(&server, "a").await;
    assert_eq!(put_of("a").await.status, 200);
    for (from, to) in [("a", "b"), ("b", "c")] {
        assert_eq!(rename(&server, from, to).await.status, 200);
        let changed = json!([{ "op": "replace", "path": "/meta/n", "value": to }]);
        let path = format!("/api/pages/{to}/edits");
        assert_eq!(backend(&server, Method::POST, &path, changed).await.status, 200);
        let again = edit_of(to).await;
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(text(&server, to).await, said, "from {from} to {to}");
        assert_eq!(put_of(to).await.status, 200);
        let path = format!("/api/pages/{to}/content?format=json&field=meta");
        let meta = backend(&server, Method::GET, &path, Value::Null).await;
        assert_eq!(meta.json(), json!({ "n": to }), "from {from} to {to}");
    }
    server.stop().await;
}

/// What cannot be done, or changes nothing, is nobody's concern.
#[tokio::test]
async fn members_stay_where_nothing_changes() {
    let server = locked(&[]).await;
    write(&server, "p", "words").await;
    write(&server, "taken", "others").await;
    let ada = token("ada", &json!({ "p": "edit" }));
    let mut client = Client::join_at(server.address, &format!("/ws/p?token={ada}"), 7).await;
    client.until_text("words").await;
    for to in ["p", "taken"] {
        let refused = rename(&server, "p", to).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
    }
    for _ in 0..2 {
        let described = backend(&server, Method::GET, "/api/pages/p", Value::Null)
            .await
            .json();
        let compacted = backend(&server, Method::POST, "/api/pages/p/compact", Value::Null).await;
        assert_eq!(compacted.status, 200, "{}", compacted.text());
        assert_eq!(compacted.json()["generation"], described["generation"]);
        assert_eq!(compacted.json()["seq"], described["seq"]);
        assert_eq!(compacted.json()["after"], compacted.json()["before"]);
        assert_eq!(compacted.json()["after"], described["weight"]);
    }
    let audit = backend(&server, Method::GET, "/api/audit?action=compact", Value::Null).await;
    assert!(!audit.text().contains("\"compact\""), "{}", audit.text());
    // It has not been sent away.
    client.write_durably("more").await;
    server.stop().await;
}
