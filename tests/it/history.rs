//! The past of pages: earlier states in every form, versions, and being told who changed a page when.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    database::Database,
    event_stream::Events,
    http::{Answer, get, get_with, post, send},
    replica::{deletion, insertion, text_of},
    server::{ADMIN_TOKEN, TestServer, empty_store},
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

/// A server that knows users, and what they say to it.
struct Users {
    server: TestServer,
}

impl Users {
    async fn start() -> Self {
        let server = TestServer::start(&["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN]).await;
        Self { server }
    }

    async fn ask(&self, user: &str, method: Method, path: &str, body: Bytes) -> Answer {
        let role = if user == "eve" { "view" } else { "edit" };
        let bearer = format!("Bearer {}", token(user, &json!({ "*": role })));
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        send(
            self.server.address,
            method,
            &format!("/api/pages/page/{path}"),
            &headers,
            body,
        )
        .await
    }

    async fn write(&self, user: &str, update: Bytes) {
        let posted = self.ask(user, Method::POST, "updates", update).await;
        assert_eq!(posted.status, StatusCode::OK, "{posted:?}");
    }

    async fn say(&self, user: &str, path: &str, body: Value) -> Answer {
        self.ask(user, Method::POST, path, body.to_string().into()).await
    }

    async fn text(&self) -> String {
        let content = self
            .ask("ada", Method::GET, "content?format=text", Bytes::new())
            .await;
        content.text().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_restored_as_an_edit_that_members_see_and_that_leaves_what_they_write_meanwhile() {
    let users = Users::start().await;
    users.write("ada", insertion(1, 0, "one two three")).await;
    let version = users
        .say("ada", "versions", json!({ "name": "first" }))
        .await
        .json();
    let path = format!("versions/{}/restore", version["version"]);
    let unchanged = users.say("ada", &path, Value::Null).await;
    assert_eq!(
        (unchanged.status, unchanged.json()),
        (StatusCode::OK, json!({ "seq": 1 })),
        "nothing to do"
    );
    users.write("bob", deletion(1, 4, 4)).await;
    users.write("bob", insertion(2, 0, "<b>")).await;
    let query = format!("/ws/page?token={}", token("ada", &json!({ "*": "edit" })));
    let socket = crate::support::socket::Socket::open(users.server.address, &query).await;
    let mut member = Client::new(socket, crate::support::replica::Replica::new(9));
    member.ask().await;
    member
        .until("the page", |member| member.replica.text().contains("<b>"))
        .await;
    let restored = users.say("ada", &path, Value::Null).await;
    assert_eq!(
        (restored.status, restored.json()),
        (StatusCode::OK, json!({ "seq": 4 }))
    );
    member.until_text("one two three").await;
    assert_eq!(users.text().await, "one two three");
    // What was before is a version as well, and who restored is known.
    let versions = users
        .ask("eve", Method::GET, "versions", Bytes::new())
        .await
        .json();
    let before = &versions["versions"][0];
    assert_eq!(
        (&before["kind"], &before["user"], &before["seq"]),
        (&json!("restore"), &json!("ada"), &json!(3))
    );
    let changes = users
        .ask("eve", Method::GET, "changes?since=3", Bytes::new())
        .await
        .json();
    assert_eq!(changes["changes"][0]["user"], "ada");
    let back = format!("versions/{}/restore", before["version"]);
    assert_eq!(users.say("bob", &back, Value::Null).await.status, StatusCode::OK);
    let text = users.text().await;
    assert!(text.contains("<b>") && text.contains("one three"), "{text}");

    assert_eq!(users.say("eve", &path, Value::Null).await.error(), "read_only");
    assert_eq!(
        users
            .say("ada", "versions/99999/restore", Value::Null)
            .await
            .error(),
        "not_found"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_user_did_is_undone_and_what_others_did_stays() {
    let users = Users::start().await;
    users.write("ada", insertion(1, 0, "one two three")).await;
    users.write("bob", deletion(1, 3, 4)).await;
    users.write("bob", insertion(2, 0, "spam")).await;
    users.write("ada", insertion(1, 13, " four")).await;
    let with_spam = users.text().await;
    assert!(
        with_spam.contains("spam") && with_spam.contains("one three four"),
        "{with_spam}"
    );
    let undo = |from: u64, to: u64| json!({ "user": "bob", "fromSeq": from, "toSeq": to });
    let nothing = users.say("ada", "undo", undo(4, 4)).await;
    assert_eq!(nothing.json(), json!({ "seq": 4 }), "Bob did nothing there");
    let undone = users.say("ada", "undo", undo(3, 3)).await;
    assert_eq!(undone.json(), json!({ "seq": 5 }));
    assert_eq!(users.text().await, "one three four");
    users.say("ada", "undo", undo(1, 4)).await;
    assert_eq!(users.text().await, "one two three four");

    for (from, to, code) in [
        (0, 1, "malformed"),
        (3, 2, "malformed"),
        (1, 99, "not_found"),
        (1, 10_001, "too_large"),
    ] {
        assert_eq!(
            users.say("ada", "undo", undo(from, to)).await.error(),
            code,
            "{from} to {to}"
        );
    }
    assert_eq!(users.say("eve", "undo", undo(1, 1)).await.error(), "read_only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_states_are_compared_and_what_is_there_now_has_its_authors() {
    let users = Users::start().await;
    users.write("ada", insertion(1, 0, "one two")).await;
    let version = users.say("ada", "versions", json!({})).await.json()["version"].clone();
    users.write("bob", deletion(1, 0, 4)).await;
    users.write("bob", insertion(1, 7, " <b>")).await;
    users.write("ada", insertion(1, 11, "!")).await;
    let get = async |path: &str| users.ask("eve", Method::GET, path, Bytes::new()).await;
    let pieces = |answer: &Answer, fields: &[&str]| -> Vec<Vec<Value>> {
        let body = answer.json();
        let pieces = body["fields"]["text"].as_array().expect("a list").iter();
        pieces
            .map(|piece| fields.iter().map(|field| piece[*field].clone()).collect())
            .collect()
    };
    let compared = get("compare?from=1&to=4").await;
    let expected = [
        vec![json!("delete"), json!("one "), json!("bob"), json!(2)],
        vec![json!("keep"), json!("two"), Value::Null, Value::Null],
        vec![json!("insert"), json!(" <b>"), json!("bob"), json!(3)],
        vec![json!("insert"), json!("!"), json!("ada"), json!(4)],
    ];
    assert_eq!(pieces(&compared, &["op", "text", "user", "seq"]), expected);
    let by_version = get(&format!("compare?fromVersion={version}")).await;
    assert_eq!(by_version.json(), compared.json());
    let html = get("compare?from=1&format=html").await;
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(
        html.text(),
        "<section data-field=\"text\"><del data-seq=\"2\" data-user=\"bob\">one </del>two\
         <ins data-seq=\"3\" data-user=\"bob\"> &lt;b&gt;</ins><ins data-seq=\"4\" data-user=\"ada\">!</ins></section>"
    );
    let blamed = get("blame?field=text").await;
    let expected = [
        vec![json!("two"), json!("ada"), json!(1)],
        vec![json!(" <b>"), json!("bob"), json!(3)],
        vec![json!("!"), json!("ada"), json!(4)],
    ];
    assert_eq!(pieces(&blamed, &["text", "user", "seq"]), expected);
    assert_eq!(get("blame?field=none").await.json()["fields"], json!({}));
    for (path, code) in [
        ("compare", "malformed"),
        ("compare?from=4&to=1", "malformed"),
        ("compare?from=1&fromVersion=1", "malformed"),
        ("compare?from=1&format=pdf", "malformed"),
        ("compare?from=1&to=99", "not_found"),
    ] {
        assert_eq!(get(path).await.error(), code, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_again_and_again_loses_no_row_of_the_past_nor_its_author() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("pages.db").display());
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_SNAPSHOT_INTERVAL_SECONDS", "1"),
    ];
    let bearer = |user: &str| format!("Bearer {}", token(user, &json!({ "*": "edit" })));
    let (ada, bob) = (bearer("ada"), bearer("bob"));
    let mut clock = 0;
    for _ in 0..3 {
        let process = crate::support::process::Process::start(&environment);
        let address = process.address().await;
        // Long enough for snapshots in between, each of which moves rows.
        let covered = async || {
            let described = get_with(address, "/api/pages/page", &[("authorization", &ada)]).await;
            described.json()["historyBytes"].as_u64().unwrap_or(0)
        };
        let before = if clock == 0 { 0 } else { covered().await };
        loop {
            let user = if clock % 2 == 0 { &ada } else { &bob };
            let update = insertion(1, clock, "x");
            let headers = [("authorization", user.as_str())];
            let posted = send(address, Method::POST, "/api/pages/page/updates", &headers, update).await;
            assert_eq!(posted.status, StatusCode::OK, "{posted:?}");
            clock += 1;
            if clock % 10 == 0 && covered().await > before {
                break;
            }
        }
        process.signal("KILL");
    }
    let process = crate::support::process::Process::start(&environment);
    let address = process.address().await;
    let (mut since, mut authors) = (0, Vec::new());
    loop {
        let path = format!("/api/pages/page/changes?since={since}&limit=1000");
        let changes = get_with(address, &path, &[("authorization", &ada)]).await.json();
        assert_eq!(changes["complete"], true);
        for change in changes["changes"].as_array().expect("a list") {
            since += 1;
            assert_eq!(change["seq"], since, "no gap and no row twice");
            authors.push(change["user"].as_str().expect("an author").to_owned());
        }
        if changes["next"].is_null() {
            break;
        }
    }
    assert_eq!(since, u64::from(clock), "what was acknowledged");
    let expected: Vec<_> = (0..clock)
        .map(|row| if row % 2 == 0 { "ada" } else { "bob" })
        .collect();
    assert_eq!(authors, expected);
    for seq in [1, clock / 2, clock - 1] {
        let path = format!("/api/pages/page/content?format=text&seq={seq}");
        let then = get_with(address, &path, &[("authorization", &ada)]).await;
        assert_eq!(then.text().len(), seq as usize);
    }
}
