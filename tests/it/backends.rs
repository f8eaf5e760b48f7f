//! Backends read pages in every form and write into pages that others are editing.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::Method;
use serde_json::{Value, json};

use crate::access::LOCKED;
use crate::support::{
    client::Client,
    http::{get, get_with, send},
    server::{ADMIN_TOKEN, TestServer},
    token::token,
    until,
};

async fn put(server: &TestServer, path: &str, headers: &[(&str, &str)], content: &str) -> (u16, Value) {
    let body = Bytes::copy_from_slice(content.as_bytes());
    let answer = send(server.address, Method::PUT, path, headers, body).await;
    (answer.status.as_u16(), answer.json())
}

async fn edit(server: &TestServer, headers: &[(&str, &str)], edits: &Value) -> (u16, Value) {
    let body = Bytes::from(edits.to_string());
    let answer = send(
        server.address,
        Method::POST,
        "/api/pages/page/edits",
        headers,
        body,
    )
    .await;
    (answer.status.as_u16(), answer.json())
}

async fn read(server: &TestServer, format: &str) -> String {
    let path = format!("/api/pages/page/content?format={format}");
    let answer = get(server.address, &path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().to_owned()
}

const CONTENT: &str = "/api/pages/page/content";

#[tokio::test]
async fn a_content_is_read_in_the_form_that_is_named_or_accepted() {
    let server = TestServer::start(&[]).await;
    let (status, stored) = put(
        &server,
        &format!("{CONTENT}?format=markdown"),
        &[],
        "# Title\n\nsome *text*\n",
    )
    .await;
    assert_eq!((status, &stored["merged"]), (200, &json!(false)));
    assert_eq!(stored["seq"], 1);
    for (accept, kind, content) in [
        (
            "text/html,application/xhtml+xml;q=0.9",
            "text/html; charset=utf-8",
            "<h1>Title</h1><p>some <em>text</em></p>",
        ),
        (
            "text/markdown",
            "text/markdown; charset=utf-8",
            "# Title\n\nsome *text*\n",
        ),
        ("text/plain", "text/plain; charset=utf-8", "Title\nsome text"),
        (
            "*/*",
            "application/json",
            "{\"default\":\"<heading level=\\\"1\\\">Title</heading><paragraph>some <italic>text</italic></paragraph>\"}",
        ),
    ] {
        let answer = get_with(server.address, CONTENT, &[("accept", accept)]).await;
        assert_eq!(answer.header("content-type"), kind);
        assert_eq!(answer.text(), content);
        let tag = answer.header("etag").to_owned();
        assert_eq!(tag, stored["etag"]);
        let again = get_with(
            server.address,
            CONTENT,
            &[("accept", accept), ("if-none-match", &tag)],
        )
        .await;
        assert_eq!((again.status.as_u16(), again.text()), (304, ""));
    }
    let html = get(server.address, &format!("{CONTENT}?format=html")).await;
    assert!(html.header("content-security-policy").starts_with("sandbox"));
    let document: Value = serde_json::from_str(&read(&server, "prosemirror").await).expect("JSON");
    assert_eq!(document["content"][0]["attrs"], json!({ "level": 1 }));
    for (query, status) in [
        ("format=pdf", 422),
        ("format=html&field=none", 404),
        ("format=json&field=none", 404),
    ] {
        assert_eq!(
            get(server.address, &format!("{CONTENT}?{query}")).await.status,
            status,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_content_is_merged_with_what_others_wrote_since_it_was_read() {
    let server = TestServer::start(&[]).await;
    let path = format!("{CONTENT}?format=text");
    let (_, first) = put(&server, &path, &[], "one two three").await;
    let read = get(server.address, &path).await;
    let tag = read.header("etag").to_owned();
    assert_eq!(tag, first["etag"]);
    let (status, theirs) = put(&server, &path, &[("if-match", &tag)], "one TWO three").await;
    assert_eq!((status, &theirs["merged"]), (200, &json!(false)));
    // The same author begins with the copy of before that.
    let (status, ours) = put(&server, &path, &[("if-match", &tag)], "one two three four").await;
    assert_eq!((status, &ours["merged"]), (200, &json!(true)));
    assert_eq!(get(server.address, &path).await.text(), "one TWO three four");
    let by_seq = format!("{path}&baseSeq=1");
    let (status, _) = put(&server, &by_seq, &[], "zero one two three").await;
    assert_eq!(status, 200);
    assert_eq!(get(server.address, &path).await.text(), "zero one TWO three four");
    // What was never there is no base, and nothing is done.
    for (path, tag) in [
        (&path, "\"other-1\""),
        (&path, "\"nonsense\""),
        (&format!("{path}&baseSeq=99"), "*"),
    ] {
        let (status, answer) = put(&server, path, &[("if-match", tag)], "lost").await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (412, &json!("conflict")),
            "{tag}"
        );
    }
    // Without a base it is compared with what is there.
    let (status, answer) = put(&server, &path, &[], "all new").await;
    assert_eq!((status, &answer["merged"]), (200, &json!(false)));
    assert_eq!(get(server.address, &path).await.text(), "all new");
    let (status, answer) = put(&server, &path, &[], "all new").await;
    assert_eq!((status, &answer["merged"]), (200, &json!(false)), "nothing to do");
    let (status, answer) = put(&server, &format!("{CONTENT}?format=html"), &[], "<p>x</p>").await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("conflict")));
}

#[tokio::test]
async fn what_people_type_meanwhile_stays() {
    let server = TestServer::start(&[]).await;
    let mut client = Client::join(&server, "page", 1).await;
    client.write_durably("typed ").await;
    let path = format!("{CONTENT}?format=text&field=text");
    let tag = get(server.address, &path).await.header("etag").to_owned();
    client.write_durably("more ").await;
    let (status, answer) = put(&server, &path, &[("if-match", &tag)], "typed by a machine ").await;
    assert_eq!((status, &answer["merged"]), (200, &json!(true)));
    let text = get(server.address, &path).await.text().to_owned();
    assert!(text.contains("more ") && text.contains("by a machine "), "{text}");
    client.until_text(&text).await;
}

#[tokio::test]
async fn of_many_who_write_the_first_content_one_does() {
    let server = TestServer::start(&[]).await;
    let path = format!("{CONTENT}?format=markdown");
    let contents: Vec<String> = (0..20).map(|number| format!("content {number}\n")).collect();
    let writing = contents
        .iter()
        .map(|content| put(&server, &path, &[("if-none-match", "*")], content));
    let answers: Vec<(u16, Value)> = stream::iter(writing).buffer_unordered(20).collect().await;
    let stored = answers.iter().filter(|(status, _)| *status == 200).count();
    let refused = answers.iter().filter(|(status, _)| *status == 412).count();
    assert_eq!((stored, refused), (1, 19));
    assert!(contents.contains(&read(&server, "markdown").await));
}

#[tokio::test]
async fn small_edits_are_made_together_and_once() {
    let server = TestServer::start(&[]).await;
    let edits = json!({ "edits": [
        { "op": "add", "path": "/data", "value": { "title": "One", "done": false }, "shared": true },
        { "op": "insert_text", "path": "/notes", "text": "first" },
    ] });
    let (status, answer) = edit(&server, &[], &edits).await;
    assert_eq!((status, &answer["seq"]), (200, &json!(1)));
    let patch = json!([{ "op": "replace", "path": "/data/done", "value": true }, { "op": "add", "path": "/list/-", "value": 1 }]);
    let key = [("idempotency-key", "7")];
    for _ in 0..3 {
        let (status, answer) = edit(&server, &key, &patch).await;
        assert_eq!((status, &answer["seq"]), (200, &json!(2)));
    }
    let remove = json!([{ "op": "remove", "path": "/list/0" }]);
    edit(
        &server,
        &[],
        &json!([{ "op": "add", "path": "/list/-", "value": 2 }]),
    )
    .await;
    for _ in 0..3 {
        // A deletion leaves a mark, so it is none twice.
        assert_eq!(edit(&server, &[("idempotency-key", "8")], &remove).await.0, 200);
    }
    let whole: Value = serde_json::from_str(&read(&server, "json").await).expect("JSON");
    assert_eq!(
        whole,
        json!({ "data": { "title": "One", "done": true }, "list": [2], "notes": "first" })
    );
    for (edits, status, code) in [
        (json!([{ "op": "fly" }]), 422, "malformed"),
        (json!({ "edit": [] }), 422, "malformed"),
        (json!([{ "op": "remove", "path": "/list/7" }]), 404, "not_found"),
        (
            json!([{ "op": "set", "path": "/list/0", "value": 3 }, { "op": "test", "path": "/data/title", "value": "Two" }]),
            409,
            "conflict",
        ),
    ] {
        let (answered, answer) = edit(&server, &[], &edits).await;
        assert_eq!(
            (answered, &answer["error"]["code"]),
            (status, &json!(code)),
            "{edits}"
        );
    }
    assert_eq!(get(server.address, "/api/pages/page").await.json()["seq"], 4);
}

#[tokio::test]
async fn a_request_with_a_key_is_one_edit_however_often_it_comes_at_once() {
    let server = TestServer::start(&[]).await;
    let edits = json!([{ "op": "insert_text", "path": "/notes", "text": "once" }]);
    let key = [("idempotency-key", "k")];
    let asking = (0..20).map(|_| edit(&server, &key, &edits));
    let answers: Vec<(u16, Value)> = stream::iter(asking).buffer_unordered(20).collect().await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(read(&server, "text").await, "once");
    let path = format!("{CONTENT}?format=text&field=notes");
    for content in ["once and more", "something else"] {
        // The same key is the same request, whatever it says.
        let (status, _) = put(&server, &path, &[("idempotency-key", "k")], content).await;
        assert_eq!(status, 200);
    }
    assert_eq!(read(&server, "text").await, "once and more");
}

#[tokio::test]
async fn what_is_appended_is_there_while_it_comes() {
    let server = TestServer::start(&[]).await;
    let (status, _) = put(
        &server,
        &format!("{CONTENT}?format=markdown"),
        &[],
        "# Notes\n\nbefore\n",
    )
    .await;
    assert_eq!(status, 200);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let address = server.address;
    let appending = tokio::spawn(async move {
        let body = stream::unfold(receiver, async |mut receiver| {
            let piece = receiver.recv().await?;
            Some((piece, receiver))
        });
        crate::support::http::send_stream(address, "/api/pages/page/append", body).await
    });
    let mut pieces = ["## Ans", "wer\n\nwith **bo", "ld** words\n\n- a\n", "- \u{1f600}"].into_iter();
    for expected in [
        "# Notes\n\nbefore\n\n## Ans\n",
        "# Notes\n\nbefore\n\n## Answer\n\nwith \\*\\*bo\n",
        "# Notes\n\nbefore\n\n## Answer\n\nwith **bold** words\n\n- a\n",
        "# Notes\n\nbefore, edited\n\n## Answer\n\nwith **bold** words\n\n- a\n- \u{1f600}\n",
    ] {
        if expected.contains("edited") {
            // Others go on writing.
            let edits =
                json!([{ "op": "insert_text", "path": "/default", "after": "before", "text": ", edited" }]);
            assert_eq!(edit(&server, &[], &edits).await.0, 200);
        }
        let piece = pieces.next().expect("a piece").as_bytes();
        // Characters may come in parts.
        let (head, tail) = piece.split_at(piece.len() - 1);
        for part in [head, tail] {
            sender
                .send(Ok(Bytes::copy_from_slice(part)))
                .await
                .expect("a reader");
        }
        until("the piece", async || read(&server, "markdown").await == expected).await;
    }
    drop(sender);
    let answer = tokio::time::timeout(Duration::from_secs(10), appending)
        .await
        .expect("an answer")
        .expect("a task");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["bytes"], 42);
    let record = get(server.address, "/api/pages/page").await.json();
    assert_eq!(record["seq"], answer.json()["seq"]);
}

#[tokio::test]
async fn who_is_at_a_page_is_told_with_what_they_show() {
    let server = TestServer::start(&[]).await;
    let presence = async || get(server.address, "/api/pages/page/presence").await.json();
    assert_eq!(presence().await, json!({ "pageId": "page", "users": [] }));
    let mut first = Client::join(&server, "page", 1).await;
    let second = Client::join(&server, "page", 2).await;
    first
        .show(&json!({ "user": { "name": "Ada" }, "cursor": { "anchor": 1, "head": 2 }, "typing": true }))
        .await;
    let mut users = Vec::new();
    first
        .hear_until(until("the cursor", async || {
            users = presence().await["users"].as_array().expect("a list").clone();
            users.iter().any(|user| user["typing"] == true)
        }))
        .await;
    assert_eq!(users.len(), 2);
    assert_eq!(users[0]["cursor"], json!({ "anchor": 1, "head": 2 }));
    assert_eq!(
        (&users[1]["cursor"], &users[1]["typing"]),
        (&Value::Null, &json!(false))
    );
    for user in &users {
        assert!(
            user["userId"].as_str().is_some_and(|id| id.starts_with("guest:")),
            "{user}"
        );
        assert!(
            humantime::parse_rfc3339(user["since"].as_str().expect("a time")).is_ok(),
            "{user}"
        );
        assert_eq!((&user["idle"], &user["connections"]), (&json!(false), &json!(1)));
    }
    first.leave().await;
    second.leave().await;
    until("an empty page", async || presence().await["users"] == json!([])).await;
}

#[tokio::test]
async fn who_may_only_read_writes_nothing_and_who_may_not_read_learns_nothing() {
    let server = TestServer::start(&LOCKED).await;
    let admin = format!("Bearer {ADMIN_TOKEN}");
    let viewer = format!("Bearer {}", token("vic", &json!({ "page": "view" })));
    for page in ["page", "other"] {
        let path = format!("/api/pages/{page}/content?format=text");
        assert_eq!(
            put(&server, &path, &[("authorization", &admin)], "secret")
                .await
                .0,
            200
        );
    }
    let ask = async |method: Method, path: String, headers: &[(&str, &str)]| {
        let answer = send(server.address, method, &path, headers, Bytes::from_static(b"{}")).await;
        answer.status.as_u16()
    };
    let viewing: &[(&str, &str)] = &[("authorization", &viewer)];
    for (method, what, own) in [
        (Method::PUT, "content?format=text", 403),
        (Method::POST, "edits", 403),
        (Method::POST, "append", 403),
        (Method::POST, "versions", 403),
        (Method::POST, "versions/1/restore", 403),
        (Method::POST, "undo", 403),
        (Method::GET, "content?format=html", 200),
        (Method::GET, "content?seq=1", 200),
        (Method::GET, "snapshot?seq=1", 200),
        (Method::GET, "changes", 200),
        (Method::GET, "versions", 200),
        (Method::GET, "compare?from=0", 200),
        (Method::GET, "blame", 200),
        (Method::GET, "presence", 200),
    ] {
        let of = |page: &str| format!("/api/pages/{page}/{what}");
        assert_eq!(
            ask(method.clone(), of("page"), viewing).await,
            own,
            "{method} {what}"
        );
        assert_eq!(
            ask(method.clone(), of("other"), viewing).await,
            403,
            "{method} {what} of another page"
        );
        assert_eq!(
            ask(method.clone(), of("none"), viewing).await,
            403,
            "{method} {what} of none"
        );
        assert_eq!(
            ask(method.clone(), of("page"), &[]).await,
            401,
            "{method} {what} of nobody"
        );
    }
    let headers = [("authorization", admin.as_str())];
    for page in ["page", "other"] {
        let path = format!("/api/pages/{page}/content?format=text");
        let answer = get_with(server.address, &path, &headers).await;
        assert_eq!((answer.text(), answer.header("x-pageroom-seq")), ("secret", "1"));
    }
}
