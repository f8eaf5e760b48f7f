//! The past of pages: earlier states in every form, versions, and being told who changed a page when.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyStream, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{
    client::Client,
    database::Database,
    http::{Answer, get, get_with, post, send},
    replica::{deletion, insertion, text_of},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    soon,
    token::{SECRET, token},
    until, within,
};

/// Writes "one", " two", " three" and takes " two" away again: rows 1 to 4.
async fn write_four_rows(server: SocketAddr) {
    for update in [
        insertion(1, 0, "one"),
        insertion(1, 3, " two"),
        insertion(1, 7, " three"),
        deletion(1, 3, 4),
    ] {
        let posted = post(server, "/api/pages/page/updates", update).await;
        assert_eq!(posted.status, StatusCode::OK, "{posted:?}");
    }
}

const STATES: [&str; 5] = ["", "one", "one two", "one two three", "one three"];

async fn text_at(server: SocketAddr, query: &str) -> Answer {
    get(server, &format!("/api/pages/page/content?format=text&{query}")).await
}

/// Waits until the snapshot covers the page, so that its rows have gone into the history.
async fn until_covered(database: &Database, seq: u64) {
    let store = database.open().await;
    let page = storage::PageId::new("page").expect("an id");
    until("a snapshot of all of it", async || {
        let snapshot = store.snapshot(&page).await.expect("a store that works");
        snapshot.is_some_and(|snapshot| snapshot.seq == seq)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_earlier_state_is_read_in_every_form_also_after_a_restart() {
    for database in Database::each() {
        let server = TestServer::start_on(database.open().await, &[]).await;
        write_four_rows(server.address).await;
        let live = get(server.address, "/api/pages/page/content").await;
        assert!(server.stop().await, "everything stored in time");
        until_covered(&database, 4).await;
        let server = TestServer::start_on(database.open().await, &[]).await;
        for (seq, text) in STATES.iter().enumerate() {
            let answer = text_at(server.address, &format!("seq={seq}")).await;
            assert_eq!(
                (answer.status, answer.text()),
                (StatusCode::OK, *text),
                "after row {seq}"
            );
            assert_eq!(answer.header("x-pageroom-seq"), seq.to_string());
            let path = format!("/api/pages/page/snapshot?seq={seq}");
            let snapshot = get(server.address, &path).await;
            assert_eq!(text_of(&snapshot.body), *text);
            // It never changes, so whoever has it is sent nothing.
            let etag = snapshot.header("etag").to_owned();
            assert_eq!(answer.header("etag"), etag);
            for path in [path, format!("/api/pages/page/content?seq={seq}")] {
                let again = get_with(server.address, &path, &[("if-none-match", &etag)]).await;
                assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
            }
        }
        let last = get(server.address, "/api/pages/page/content?seq=4").await;
        assert_eq!(
            last.header("etag"),
            live.header("etag"),
            "the same state has the same tag"
        );
        assert_eq!(last.json(), live.json());
        let lacking = "/api/pages/page/snapshot?seq=2&sv=AQED";
        assert!(
            get(server.address, lacking).await.body.len() < 20,
            "only what is lacking"
        );

        for query in ["seq=5", "seq=18446744073709551615", "version=999"] {
            for path in ["content", "snapshot"] {
                let answer = get(server.address, &format!("/api/pages/page/{path}?{query}")).await;
                assert_eq!(
                    (answer.status, answer.error().as_str()),
                    (StatusCode::NOT_FOUND, "not_found")
                );
            }
        }
        assert_eq!(
            text_at(server.address, "seq=1&version=1").await.error(),
            "malformed"
        );
        assert_eq!(text_at(server.address, "seq=-1").await.error(), "malformed");
        let unknown = get(server.address, "/api/pages/unknown/content?seq=0").await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        let described = get(server.address, "/api/pages/page").await.json();
        assert!(
            described["historyBytes"]
                .as_u64()
                .is_some_and(|bytes| bytes > 4 * 64),
            "{described}"
        );
        assert_eq!(described["historyFromSeq"], 0);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_is_off_answers_with_nothing_and_never_with_today() {
    let options = storage::StoreOptions {
        history: false,
        ..storage::StoreOptions::default()
    };
    let store = storage::open("memory:", &options).await.expect("memory");
    let server = TestServer::start_on(store.clone(), &["--history", "off"]).await;
    write_four_rows(server.address).await;
    assert!(server.stop().await, "everything stored in time");
    let server = TestServer::start_on(store, &["--history", "off"]).await;
    for seq in 1..4 {
        let answer = text_at(server.address, &format!("seq={seq}")).await;
        assert_eq!(answer.error(), "not_found");
    }
    assert_eq!(text_at(server.address, "seq=4").await.text(), "one three");
    let json = [("content-type", "application/json")];
    let path = "/api/pages/page/versions";
    let posted = send(
        server.address,
        Method::POST,
        path,
        &json,
        Bytes::from_static(b"{}"),
    )
    .await;
    assert_eq!(posted.error(), "conflict");
    let changes = get(server.address, "/api/pages/page/changes").await.json();
    assert_eq!(changes, json!({ "changes": [], "next": null, "complete": false }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_have_a_number_a_name_and_an_author() {
    let server = TestServer::start(&["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN]).await;
    let (ada, bob) = (
        format!("Bearer {}", token("ada", &json!({ "page": "edit" }))),
        format!("Bearer {}", token("bob", &json!({ "page": "view" }))),
    );
    let ask = async |method, path: &str, who: &str, body: Value| {
        let body = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        let headers = [("authorization", who), ("content-type", "application/json")];
        send(
            server.address,
            method,
            &format!("/api/pages/page/{path}"),
            &headers,
            body,
        )
        .await
    };
    let early = ask(Method::POST, "versions", &ada, json!({})).await;
    assert_eq!(
        early.error(),
        "not_found",
        "a page comes into being with its first edit"
    );
    let mut made = Vec::new();
    for (clock, text) in [(0, "one"), (3, " two"), (7, " three")] {
        let headers = [("authorization", &*ada)];
        let path = "/api/pages/page/updates";
        send(
            server.address,
            Method::POST,
            path,
            &headers,
            insertion(1, clock, text),
        )
        .await;
        let wanted = json!({ "name": format!("after{text}"), "reason": "because" });
        let version = ask(Method::POST, "versions", &ada, wanted).await;
        assert_eq!(version.status, StatusCode::CREATED, "{version:?}");
        made.push(version.json());
    }
    let numbers: Vec<_> = made.iter().map(|made| made["seq"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    let listed = ask(Method::GET, "versions?limit=2", &bob, Value::Null)
        .await
        .json();
    let names = |listed: &Value| {
        let versions = listed["versions"].as_array().expect("a list").iter();
        versions
            .map(|version| version["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&listed), ["after three", "after two"]);
    let path = format!("versions?before={}", listed["next"]);
    assert_eq!(
        names(&ask(Method::GET, &path, &bob, Value::Null).await.json()),
        ["afterone"]
    );
    let second = &made[1]["version"];
    let found = ask(Method::GET, &format!("versions/{second}"), &bob, Value::Null)
        .await
        .json();
    for (name, value) in [
        ("version", second.clone()),
        ("seq", 2.into()),
        ("kind", "named".into()),
        ("name", "after two".into()),
        ("user", "ada".into()),
        ("reason", "because".into()),
    ] {
        assert_eq!(found[name], value, "{name} of {found}");
    }
    let then = ask(
        Method::GET,
        &format!("content?format=text&version={second}"),
        &bob,
        Value::Null,
    )
    .await;
    assert_eq!(then.text(), "one two");
    let refused = ask(Method::POST, "versions", &bob, json!({})).await;
    assert_eq!(refused.error(), "read_only");
    for wanted in [
        json!({ "name": "" }),
        json!({ "name": "a\u{0}b" }),
        json!({ "nam": "e" }),
    ] {
        assert_eq!(
            ask(Method::POST, "versions", &ada, wanted).await.error(),
            "malformed"
        );
    }
    assert_eq!(
        ask(Method::GET, "versions/999999", &ada, Value::Null)
            .await
            .error(),
        "not_found"
    );
    assert_eq!(
        ask(Method::GET, "versions/x", &ada, Value::Null).await.error(),
        "malformed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_gets_versions_by_itself_when_it_is_quiet_and_when_the_server_stops() {
    let store = empty_store().await;
    let flags = ["--version-quiet-seconds", "1", "--version-interval-seconds", "0"];
    let server = TestServer::start_on(store.clone(), &flags).await;
    write_four_rows(server.address).await;
    let path = "/api/pages/page/versions";
    let versions = async || get(server.address, path).await.json()["versions"].clone();
    until("a version", async || {
        versions().await.as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    let made = versions().await;
    assert_eq!(
        (&made[0]["kind"], &made[0]["seq"]),
        (&json!("automatic"), &json!(4))
    );
    assert_eq!(
        made.as_array().map(Vec::len),
        Some(1),
        "one for all that was written at once"
    );
    post(server.address, "/api/pages/page/updates", insertion(1, 13, "!")).await;
    assert!(server.stop().await, "everything stored in time");
    let server = TestServer::start_on(store, &[]).await;
    let made = get(server.address, path).await.json()["versions"].clone();
    assert_eq!(made[0]["seq"], 5);
}

#[tokio::test]
async fn who_changed_a_page_when_is_listed_in_parts() {
    let server = TestServer::start(&["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN]).await;
    let admin = format!("Bearer {ADMIN_TOKEN}");
    let ada = format!("Bearer {}", token("ada", &json!({ "page": "edit" })));
    for (clock, who) in [(0, &ada), (1, &admin), (2, &ada)] {
        let headers = [("authorization", who.as_str())];
        let path = "/api/pages/page/updates";
        send(
            server.address,
            Method::POST,
            path,
            &headers,
            insertion(1, clock, "x"),
        )
        .await;
    }
    let list = async |query: &str| {
        let path = format!("/api/pages/page/changes{query}");
        get_with(server.address, &path, &[("authorization", &*ada)])
            .await
            .json()
    };
    let first = list("?limit=2").await;
    assert_eq!((&first["next"], &first["complete"]), (&json!(2), &json!(true)));
    assert_eq!(first["changes"][0]["user"], "ada");
    assert_eq!(first["changes"][1]["user"], Value::Null, "a backend is no user");
    assert_eq!(first["changes"][1]["bytes"], insertion(1, 1, "x").len());
    assert!(
        first["changes"][0]["at"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z'))
    );
    let rest = list("?since=2").await;
    assert_eq!(rest["changes"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&rest["changes"][0]["seq"], &rest["next"]),
        (&json!(3), &Value::Null)
    );
    assert_eq!(
        list("?since=3").await,
        json!({ "changes": [], "next": null, "complete": true })
    );
}

/// A stream of events.
struct Events {
    lines: tokio::sync::mpsc::Receiver<String>,
}

impl Events {
    async fn open(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(path)
            .header("host", server.to_string())
            .header("accept", "text/event-stream")
            .header("accept-encoding", "gzip");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let stream = TcpStream::connect(server).await.expect("a server that listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        let answer = soon("an answer", sender.send_request(request))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (send, lines) = tokio::sync::mpsc::channel(100);
        tokio::spawn(async move {
            let _sender = sender;
            let mut body = BodyStream::new(answer.into_body());
            let mut text = String::new();
            while let Some(Ok(frame)) = body.next().await {
                let data = frame.into_data().expect("data");
                text.push_str(std::str::from_utf8(&data).expect("text"));
                while let Some((event, rest)) = text.split_once("\n\n") {
                    if send.send(event.to_owned()).await.is_err() {
                        return;
                    }
                    text = rest.to_owned();
                }
            }
        });
        Self { lines }
    }

    /// The next event: its name, its id and its data. `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            let event = soon("an event", self.lines.recv()).await?;
            let field = |name: &str| {
                let line = event.lines().find_map(|line| line.strip_prefix(name));
                line.map(|line| line.trim().to_owned())
            };
            if let Some(data) = field("data:") {
                let data = serde_json::from_str(&data).expect("JSON");
                return Some((
                    field("event:").unwrap_or_default(),
                    field("id:").unwrap_or_default(),
                    data,
                ));
            }
        }
    }

    async fn next_seq(&mut self) -> u64 {
        let (event, id, data) = self.next().await.expect("a change");
        assert_eq!(
            (event.as_str(), data["complete"].as_bool()),
            ("change", Some(true))
        );
        assert_eq!(id, data["seq"].to_string());
        data["seq"].as_u64().expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_changes_stays_open_and_goes_on_where_it_was_left() {
    let server = TestServer::start(&[]).await;
    write_four_rows(server.address).await;
    let path = "/api/pages/page/changes?since=2";
    let mut events = Events::open(server.address, path, &[]).await;
    assert_eq!((events.next_seq().await, events.next_seq().await), (3, 4));
    let mut now = Events::open(server.address, "/api/pages/page/changes", &[]).await;
    let mut ada = Client::join(&server, "page", 7).await;
    ada.write_durably("live").await;
    assert_eq!((events.next_seq().await, now.next_seq().await), (5, 5));
    drop(events);
    ada.write_durably("meanwhile").await;
    let mut again = Events::open(server.address, path, &[("last-event-id", "4")]).await;
    assert_eq!((again.next_seq().await, again.next_seq().await), (5, 6));
    let refused = get_with(
        server.address,
        path,
        &[("last-event-id", "x"), ("accept", "text/event-stream")],
    );
    assert_eq!(refused.await.error(), "malformed");
    // A stop ends it, and says so.
    let stopped = tokio::spawn(server.stop());
    let (event, _, data) = again.next().await.expect("a last event");
    assert_eq!(
        (event.as_str(), &data["error"]["code"]),
        ("end", &json!("draining"))
    );
    assert_eq!(again.next().await, None);
    assert!(stopped.await.expect("a stop"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_changes_ends_within_a_second_when_its_reader_may_not_see_the_page_any_more() {
    let server = TestServer::start(&["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN]).await;
    let admin = format!("Bearer {ADMIN_TOKEN}");
    let permission = async |method, body: &'static str| {
        let headers = [("authorization", &*admin), ("content-type", "application/json")];
        let path = "/api/pages/page/permissions/ada";
        send(
            server.address,
            method,
            path,
            &headers,
            Bytes::from_static(body.as_bytes()),
        )
        .await
    };
    permission(Method::PUT, r#"{"role":"view"}"#).await;
    let headers = [("authorization", &*admin)];
    send(
        server.address,
        Method::POST,
        "/api/pages/page/updates",
        &headers,
        insertion(1, 0, "x"),
    )
    .await;
    let ada = format!("Bearer {}", token("ada", &json!({})));
    let path = "/api/pages/page/changes?since=0";
    let mut events = Events::open(server.address, path, &[("authorization", &ada)]).await;
    assert_eq!(events.next_seq().await, 1);
    permission(Method::DELETE, "").await;
    let ended = within(Duration::from_secs(1), "the end", events.next()).await;
    let (event, _, data) = ended.expect("a last event");
    assert_eq!(event, "end");
    assert_eq!(data["error"]["code"], "forbidden");
    assert_eq!(events.next().await, None);
}
