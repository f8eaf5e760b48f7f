//! Many pages at once: `POST /api/pages/query`, by name, by prefix and by the words of their text.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    access::locked,
    support::{
        http::{Answer, get_with, send},
        server::{ADMIN_TOKEN, TestServer},
        token::token,
        until,
    },
};

async fn ask(server: &TestServer, bearer: &str, question: &Value) -> Answer {
    let authorization = format!("Bearer {bearer}");
    let headers = [("authorization", authorization.as_str())];
    let body = Bytes::from(question.to_string());
    send(server.address, Method::POST, "/api/pages/query", &headers, body).await
}

async fn lines(server: &TestServer, bearer: &str, question: &Value) -> Vec<Value> {
    let answer = ask(server, bearer, question).await;
    assert_eq!(answer.status, 200, "{question}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines = answer.text().lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

fn ids(lines: &[Value]) -> Vec<&str> {
    let pages = lines.iter().filter_map(|line| line["pageId"].as_str());
    pages.collect()
}

async fn write(server: &TestServer, page: &str, text: &str) {
    let path = format!("/api/pages/{}/content?format=text", page.replace('/', "%2F"));
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let body = Bytes::copy_from_slice(text.as_bytes());
    let answer = send(server.address, Method::PUT, &path, &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn server() -> TestServer {
    let server = locked(&["--snapshot-interval-seconds", "1"]).await;
    for (page, text) in [
        ("a", "alpha and \"quotes\" \0 end"),
        ("b/1", "beta one"),
        ("b/2", "beta two and alpha"),
        ("c", "gamma"),
    ] {
        write(&server, page, text).await;
    }
    server
}

#[tokio::test]
async fn pages_are_told_by_name_in_the_order_of_the_question() {
    let server = server().await;
    let question = json!({ "ids": ["c", "never", "a"], "include": ["text", "json"] });
    let told = lines(&server, ADMIN_TOKEN, &question).await;
    assert_eq!(ids(&told), ["c", "never", "a"]);
    assert_eq!((&told[0]["text"], &told[0]["seq"]), (&json!("gamma"), &json!(1)));
    assert_eq!(told[0]["json"], json!({ "content": "gamma" }));
    assert_eq!(told[1]["error"]["code"], "not_found");
    // As it went in.
    assert_eq!(told[2]["text"], "alpha and \"quotes\" \0 end");
    let listed = lines(&server, ADMIN_TOKEN, &json!({ "ids": ["a"] })).await;
    let described = get_page(&server, "a").await;
    for name in ["generation", "seq", "sizeBytes", "createdAt", "updatedAt"] {
        assert_eq!(listed[0][name], described[name], "{name}");
    }
    assert!(listed[0].get("text").is_none() && listed[0].get("json").is_none());
    server.stop().await;
}

async fn get_page(server: &TestServer, page: &str) -> Value {
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let path = format!("/api/pages?prefix={page}");
    get_with(server.address, &path, &headers).await.json()["pages"][0].clone()
}

#[tokio::test]
async fn pages_are_told_by_prefix_and_in_parts() {
    let server = server().await;
    let all = lines(&server, ADMIN_TOKEN, &json!({})).await;
    assert_eq!(ids(&all), ["a", "b/1", "b/2", "c"]);
    let question = json!({ "prefix": "b/", "limit": 1, "include": ["text"] });
    let first = lines(&server, ADMIN_TOKEN, &question).await;
    assert_eq!((ids(&first), &first[1]), (vec!["b/1"], &json!({ "next": "b/1" })));
    let question = json!({ "prefix": "b/", "limit": 1, "after": "b/1" });
    let second = lines(&server, ADMIN_TOKEN, &question).await;
    assert_eq!(ids(&second), ["b/2"]);
    let question = json!({ "prefix": "b/", "after": "b/2" });
    assert!(lines(&server, ADMIN_TOKEN, &question).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn pages_are_found_by_their_words_by_those_who_may_see_them() {
    let server = server().await;
    let search = json!({ "search": "ALPHA" });
    until("both pages are found", async || {
        lines(&server, ADMIN_TOKEN, &search).await.len() == 2
    })
    .await;
    let found = lines(&server, ADMIN_TOKEN, &search).await;
    let mut pages = ids(&found);
    pages.sort_unstable();
    assert_eq!(pages, ["a", "b/2"]);
    let line = found
        .iter()
        .find(|line| line["pageId"] == "b/2")
        .expect("the page");
    assert_eq!(line["snippet"], "beta two and alpha");
    assert!(line["score"].is_f64());
    // In parts.
    let first = lines(&server, ADMIN_TOKEN, &json!({ "search": "alpha", "limit": 1 })).await;
    assert_eq!(first[1], json!({ "next": "1" }));
    let question = json!({ "search": "alpha", "limit": 1, "after": "1", "include": ["text"] });
    let second = lines(&server, ADMIN_TOKEN, &question).await;
    assert_ne!(ids(&first), ids(&second));
    assert!(
        second[0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("alpha"))
    );
    // Within a prefix, and within what somebody may see: by grant, by permission, and by neither.
    let question = json!({ "search": "alpha", "prefix": "b/" });
    assert_eq!(ids(&lines(&server, ADMIN_TOKEN, &question).await), ["b/2"]);
    let ada = token("ada", &json!({ "b/*": "view" }));
    assert_eq!(ids(&lines(&server, &ada, &search).await), ["b/2"]);
    let eve = token("eve", &json!({ "c": "admin" }));
    assert!(lines(&server, &eve, &search).await.is_empty());
    let named = lines(
        &server,
        &eve,
        &json!({ "ids": ["a", "never"], "include": ["text"] }),
    )
    .await;
    for line in &named {
        assert_eq!(
            line["error"]["code"], "forbidden",
            "whether it exists is not told"
        );
        assert!(line.get("text").is_none() && line.get("seq").is_none());
    }
    // What is in the trash is not found, and not told.
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let deleted = send(
        server.address,
        Method::DELETE,
        "/api/pages/a",
        &headers,
        Bytes::new(),
    )
    .await;
    assert_eq!(deleted.status, 204);
    assert_eq!(ids(&lines(&server, ADMIN_TOKEN, &search).await), ["b/2"]);
    let named = lines(
        &server,
        ADMIN_TOKEN,
        &json!({ "ids": ["a"], "include": ["text"] }),
    )
    .await;
    assert_eq!(named[0]["error"]["code"], "page_deleted");
    server.stop().await;
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_before_anything_is_told() {
    let server = server().await;
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    for question in [
        json!([]),
        json!({ "ids": "a" }),
        json!({ "ids": ["a"], "prefix": "a" }),
        json!({ "ids": ["a"], "search": "a" }),
        json!({ "ids": ["a/../b"] }),
        json!({ "ids": many }),
        json!({ "search": "" }),
        json!({ "search": "-not" }),
        json!({ "search": "word", "after": "b/1" }),
        json!({ "search": "word ".repeat(100) }),
        json!({ "limit": -1 }),
        json!({ "include": ["html"] }),
        json!({ "unknown": true }),
    ] {
        let answer = ask(&server, ADMIN_TOKEN, &question).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (422, "malformed"),
            "{question}"
        );
    }
    let large = ask(&server, ADMIN_TOKEN, &json!({ "search": "x".repeat(2 << 20) })).await;
    assert_eq!(
        (large.status.as_u16(), large.error().as_str()),
        (413, "too_large")
    );
    let nobody = send(
        server.address,
        Method::POST,
        "/api/pages/query",
        &[],
        Bytes::from("{}"),
    )
    .await;
    assert_eq!(nobody.status, 401);
    // A page may have this name, too: it is written in another way.
    write(&server, "query", "asked").await;
    assert_eq!(get_page(&server, "query").await["pageId"], "query");
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let described = get_with(server.address, "/api/pages/%71uery", &headers).await;
    assert_eq!(described.json()["pageId"], "query");
    let posted = send(
        server.address,
        Method::POST,
        "/api/pages/a",
        &headers,
        Bytes::from("{}"),
    )
    .await;
    assert_eq!(posted.status, 405);
    server.stop().await;
}

/// A question for a thousand pages is no way around the limit on requests.
#[tokio::test]
async fn content_comes_no_faster_than_page_by_page() {
    let server = locked(&["--max-requests-per-second", "5", "--max-requests-burst", "5"]).await;
    write(&server, "p", "text").await;
    let ada = token("ada", &json!({ "p": "view" }));
    let question = json!({ "ids": vec!["p"; 15], "include": ["text"] });
    let began = crate::access::now();
    let told = lines(&server, &ada, &question).await;
    assert!(told.iter().all(|line| line["text"] == "text"), "{told:?}");
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    // Without content it is one request.
    let began = crate::access::now();
    let many = json!({ "ids": vec!["p"; 500] });
    assert_eq!(lines(&server, ADMIN_TOKEN, &many).await.len(), 500);
    assert!(began.elapsed() < Duration::from_secs(20));
    server.stop().await;
}
