//! Pages over plain Socket.IO events: what is answered when, what others are told, and that no refusal ends a connection.

use std::time::{Duration, Instant};

use hyper::Method;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, presence_update},
    http::send,
    replica::{Replica, text_of},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket_io::{Session, Told, place},
    store::{SwitchedStore, Weather},
    token::{SECRET, seconds_from_now, sign, token},
};

const LOCKED: [&str; 4] = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];

/// A change counts within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

#[expect(
    clippy::disallowed_methods,
    reason = "how soon a change counts is what is promised"
)]
fn now() -> Instant {
    Instant::now()
}

async fn guest(server: &TestServer) -> Session {
    Session::connect(server.address, &Value::Null).await.0
}

async fn user(server: &TestServer, name: &str, pages: &Value) -> Session {
    let auth = json!({ "token": token(name, pages) });
    Session::connect(server.address, &auth).await.0
}

/// Joins as somebody who has nothing yet and takes part in the document.
async fn join(session: &mut Session, page: &str, ack: u32) -> Told {
    let body = json!({ "pageId": page, "stateVector": place(0) });
    session.send("join_page", Some(ack), &body, &[&[0]]).await;
    session.until_told(&ack.to_string()).await
}

async fn delta(session: &mut Session, page: &str, ack: Option<u32>, update: &[u8]) {
    let body = json!({ "pageId": page, "update": place(0) });
    session.send("page_delta", ack, &body, &[update]).await;
}

fn code(told: &Told) -> &str {
    assert_eq!(told.body["ok"], false, "{told:?}");
    told.body["error"]["code"].as_str().expect("a code")
}

async fn backend(server: &TestServer, method: Method, path: &str, body: Value) {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let answer = send(server.address, method, path, &headers, body.to_string().into()).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

#[tokio::test]
async fn a_joiner_hears_that_it_has_joined_what_it_lacks_and_who_is_there() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page/1", 1).await;
    ada.write_durably("hello").await;
    let (mut ben, sid) = Session::connect(server.address, &Value::Null).await;
    let body = json!({ "pageId": "page/1", "stateVector": place(0) });
    ben.send("join_page", Some(3), &body, &[&[0]]).await;
    let joined = ben.told().await;
    assert_eq!(
        (joined.what.as_str(), &joined.body),
        ("joined_page", &json!({ "pageId": "page/1" }))
    );
    let answer = ben.told().await;
    assert_eq!(answer.what, "3");
    let me = format!("guest:{sid}");
    for (field, expected) in [
        ("ok", json!(true)),
        ("pageId", json!("page/1")),
        ("role", json!("edit")),
        ("seq", json!(1)),
        ("update", place(0)),
        ("stateVector", place(1)),
    ] {
        assert_eq!(answer.body[field], expected, "{field}");
    }
    let viewers = answer.body["viewers"].as_array().expect("a list");
    assert!(viewers.len() == 2 && viewers.contains(&json!(me)), "{viewers:?}");
    assert_eq!(text_of(&answer.attachments[0]), "hello");
    assert_eq!(answer.attachments[1], ada.replica.state_vector());
    let me = json!({ "userId": me, "socketId": sid, "name": null, "avatarUrl": null });
    let changed = ben.told().await;
    assert_eq!(changed.what, "viewers_changed");
    assert_eq!(
        (
            &changed.body["joined"][1],
            &changed.body["left"],
            &changed.body["count"]
        ),
        (&me, &json!([]), &json!(2))
    );
    // Joining again is answered again; without a state vector there is nothing to attach.
    ben.send("join_page", Some(4), &json!("page/1"), &[]).await;
    let again = ben.until_told("4").await;
    assert_eq!(
        (again.attachments.len(), &again.body["update"]),
        (0, &Value::Null)
    );
    // Now it names pages by their id, and hears whole lists.
    let updated = ben.told().await;
    assert_eq!(updated.what, "viewers_updated");
    assert_eq!(updated.body["viewers"], answer.body["viewers"]);
    let presence = ben.told().await;
    assert_eq!(presence.what, "presence:page_viewers");
    assert_eq!(presence.body["viewers"][1], me);
}

#[tokio::test]
async fn who_has_heard_more_than_the_server_still_hears_what_comes_behind_it() {
    let server = TestServer::start(&[]).await;
    // Ben wrote before the server was killed, and Ada heard the first of it, which was not stored.
    let mut writer = Replica::new(2);
    let first = writer.write("first ");
    writer.write("rest");
    let mut reader = Replica::new(1);
    reader.receive(&first);
    let mut ada = guest(&server).await;
    let mut ben = guest(&server).await;
    let body = json!({ "pageId": "page", "stateVector": place(0) });
    ada.send("join_page", Some(1), &body, &[&reader.state_vector()])
        .await;
    ada.until_told("1").await;
    join(&mut ben, "page", 1).await;
    delta(&mut ben, "page", Some(2), &writer.lacking(&[0])).await;
    assert_eq!(ben.until_told("2").await.body["ok"], true);
    reader.receive(&ada.until_told("page_delta").await.attachments[0]);
    delta(&mut ben, "page", Some(3), &writer.write("!")).await;
    reader.receive(&ada.until_told("page_delta").await.attachments[0]);
    assert_eq!(reader.text(), writer.text());
}

#[tokio::test]
async fn edits_and_presence_go_both_ways_and_leave_with_their_connection() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut ben = guest(&server).await;
    let mut cleo = guest(&server).await;
    join(&mut ben, "page", 0).await;
    join(&mut cleo, "page", 0).await;
    let mut writer = Replica::new(2);
    delta(&mut ben, "page", Some(1), &writer.write("by Ben")).await;
    let stored = ben.until_told("1").await;
    assert_eq!(stored.body, json!({ "ok": true, "seq": 1 }));
    ada.until_text("by Ben").await;
    let heard = cleo.until_told("page_delta").await;
    assert_eq!(heard.body, json!({ "pageId": "page", "update": place(0) }));
    assert_eq!(text_of(&heard.attachments[0]), "by Ben");
    ada.write_durably("by Ada").await;
    writer.receive(&ben.until_told("page_delta").await.attachments[0]);
    assert!(writer.text().contains("by Ada"));

    let shown = presence_update(2, 1, &json!({ "name": "Ben" }));
    let body = json!({ "pageId": "page", "update": place(0) });
    ben.send("page_awareness", Some(2), &body, &[&shown]).await;
    assert_eq!(ben.until_told("2").await.body, json!({ "ok": true }));
    ada.until_shown(2, Some(&json!({ "name": "Ben" }))).await;
    let heard = cleo.until_told("page_awareness").await;
    assert!(String::from_utf8_lossy(&heard.attachments[0]).contains("Ben"));

    ben.send("leave_page", Some(3), &json!("page"), &[]).await;
    assert_eq!(
        ben.until_told("3").await.body,
        json!({ "ok": true, "pageId": "page" })
    );
    ada.until_shown(2, None).await;
    delta(&mut ben, "page", Some(4), &writer.write("too late")).await;
    assert_eq!(code(&ben.until_told("4").await), "conflict");
    // It comes back, and then the connection dies.
    join(&mut ben, "page", 5).await;
    ben.send(
        "page_awareness",
        Some(6),
        &body,
        &[&presence_update(2, 5, &json!({ "name": "Ben" }))],
    )
    .await;
    ada.until_shown(2, Some(&json!({ "name": "Ben" }))).await;
    drop(ben);
    ada.until_shown(2, None).await;
}

#[tokio::test]
async fn an_edit_is_acknowledged_when_it_is_stored_and_not_before() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut reader = Client::join(&server, "page", 2).await;
    let mut session = guest(&server).await;
    join(&mut session, "page", 0).await;
    session.until_told("viewers_changed").await;
    let mut writer = Replica::new(1);
    store.writing(Weather::Hanging);
    delta(&mut session, "page", Some(1), &writer.write("not yet")).await;
    reader.until_text("not yet").await;
    delta(&mut session, "page", Some(2), &[9, 9, 9]).await;
    // Other pages of the same connection do not wait with it.
    join(&mut session, "other", 3).await;
    session.until_told("viewers_changed").await;
    assert!(
        tokio::time::timeout(Duration::from_millis(300), session.told())
            .await
            .is_err(),
        "nothing is acknowledged before it is stored"
    );
    store.writing(Weather::Fine);
    assert_eq!(session.told().await.body, json!({ "ok": true, "seq": 1 }));
    let refused = session.told().await;
    assert_eq!((refused.what.as_str(), code(&refused)), ("2", "malformed"));
}

#[tokio::test]
async fn what_is_asked_of_a_page_that_is_still_opened_is_done_in_its_order() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut session = guest(&server).await;
    store.reading(Weather::Hanging);
    session
        .send("join_page", Some(0), &json!({ "pageId": "slow" }), &[])
        .await;
    let mut writer = Replica::new(1);
    let mut words = String::new();
    for ack in 1..=20 {
        let word = format!("{ack} ");
        delta(&mut session, "slow", Some(ack), &writer.write(&word)).await;
        words.push_str(&word);
    }
    session.send("leave_page", Some(21), &json!("slow"), &[]).await;
    session
        .send(
            "join_page",
            Some(22),
            &json!({ "pageId": "slow", "stateVector": place(0) }),
            &[&[0]],
        )
        .await;
    store.reading(Weather::Fine);
    // What became of an edit is told when it is known, also to whoever has left.
    let mut answers = Vec::new();
    let mut back = None;
    while answers.len() < 22 || back.is_none() {
        let told = session.told().await;
        match told.what.parse::<u32>() {
            Ok(22) => back = Some(told),
            Ok(ack) => {
                assert_eq!(told.body["ok"], true, "{told:?}");
                answers.push(ack);
            }
            Err(_) => {}
        }
    }
    answers.sort_unstable();
    assert_eq!(answers, (0..=21).collect::<Vec<u32>>());
    let back = back.expect("an answer");
    assert_eq!(text_of(&back.attachments[0]), words);
}

#[tokio::test]
async fn a_sync_tells_both_sides_what_they_lack() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably("by Ada").await;
    let mut ben = guest(&server).await;
    ben.send("join_page", Some(0), &json!("page"), &[]).await;
    ben.until_told("0").await;
    let mut offline = Replica::new(2);
    offline.write("by Ben");
    let body = json!({ "pageId": "page", "stateVector": place(0) });
    ben.send("page_sync", Some(1), &body, &[&offline.state_vector()])
        .await;
    let synced = ben.until_told("1").await;
    offline.receive(&synced.attachments[0]);
    assert!(offline.text().contains("by Ada"));
    let lacking = offline.lacking(&synced.attachments[1]);
    assert_eq!(text_of(&lacking), "by Ben", "and nothing of what the page has");
    delta(&mut ben, "page", Some(2), &lacking).await;
    ben.until_told("2").await;
    ada.until("both texts", |ada| ada.replica.text().contains("by Ben"))
        .await;
}

#[tokio::test]
async fn refused_events_say_why_and_end_nothing() {
    let server = TestServer::start(&[&LOCKED[..], &["--max-pages-per-connection", "2"]].concat()).await;
    let mut session = user(&server, "eve", &json!({ "page": "view", "team/*": "edit" })).await;
    let nothing: &[&[u8]] = &[];
    let update = json!({ "pageId": "page", "update": place(0) });
    for (event, body, attachments, expected) in [
        ("join_page", json!("other"), nothing, "forbidden"),
        ("join_page", json!(7), nothing, "malformed"),
        ("join_page", json!({ "pageId": "a/../b" }), nothing, "malformed"),
        (
            "join_page",
            json!({ "pageId": "page", "stateVector": place(0) }),
            &[&[9, 9]],
            "malformed",
        ),
        (
            "join_page",
            json!({ "pageId": "page", "stateVector": "AA" }),
            nothing,
            "malformed",
        ),
        ("page_delta", update.clone(), &[&[0, 0]], "conflict"),
        ("page_delta", json!({ "pageId": "page" }), nothing, "malformed"),
        (
            "page_delta",
            json!({ "update": place(0) }),
            &[&[0, 0]],
            "malformed",
        ),
        ("page_sync", json!({ "pageId": "page" }), nothing, "malformed"),
        ("page_awareness", update.clone(), &[&[9, 9]], "malformed"),
        ("no_such_event", json!({}), nothing, "not_found"),
        (
            "auth:refresh",
            json!({ "token": "nonsense" }),
            nothing,
            "unauthenticated",
        ),
    ] {
        session.send(event, Some(1), &body, attachments).await;
        let told = session.told().await;
        assert_eq!(
            (told.what.as_str(), code(&told)),
            ("1", expected),
            "{event} {body}"
        );
        assert_eq!(told.body["error"]["retryable"], false);
    }
    // Without anybody who waits for an answer it is an event; what is not ours is nothing.
    session.send("no_such_event", None, &json!({}), nothing).await;
    session.send("join_page", None, &json!("other"), nothing).await;
    let told = session.told().await;
    assert_eq!(
        (told.what.as_str(), &told.body["code"]),
        ("error", &json!("forbidden"))
    );
    assert_eq!(told.body["pageId"], "other");
    // Whoever may only read is told so, each time.
    assert_eq!(join(&mut session, "page", 2).await.body["role"], "view");
    for ack in [3, 4] {
        delta(&mut session, "page", Some(ack), &Replica::new(1).write("by Eve")).await;
        assert_eq!(code(&session.until_told(&ack.to_string()).await), "read_only");
    }
    join(&mut session, "team/1", 5).await;
    session
        .send("join_page", Some(6), &json!("team/2"), nothing)
        .await;
    assert_eq!(code(&session.until_told("6").await), "rate_limited");
    session
        .send("leave_page", Some(7), &json!("team/1"), nothing)
        .await;
    session.until_told("7").await;
    assert_eq!(join(&mut session, "team/2", 8).await.body["ok"], true);
}

#[tokio::test]
async fn a_page_that_is_full_or_out_of_reach_refuses_the_joiner_and_not_the_connection() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &["--max-connections-per-room", "1"]).await;
    let _ada = Client::join(&server, "full", 1).await;
    let mut session = guest(&server).await;
    session.send("join_page", Some(0), &json!("full"), &[]).await;
    let told = session.until_told("0").await;
    assert_eq!(
        (code(&told), &told.body["error"]["retryable"]),
        ("room_full", &json!(true))
    );
    store.reading(Weather::Failing(storage::testing::Fault::Unavailable));
    session.send("join_page", Some(1), &json!("lost"), &[]).await;
    assert_eq!(code(&session.until_told("1").await), "unavailable");
    store.reading(Weather::Fine);
    assert_eq!(join(&mut session, "lost", 2).await.body["ok"], true);
}

#[tokio::test]
async fn events_that_come_too_fast_are_refused_for_a_while_and_edits_are_not() {
    let server = TestServer::start(&["--max-events-per-second", "2", "--max-events-burst", "5"]).await;
    let mut session = guest(&server).await;
    join(&mut session, "page", 0).await;
    // More than can become allowed while they are sent.
    for ack in 201..=260 {
        session.send("join_page", Some(ack), &json!("page"), &[]).await;
    }
    let mut answers = Vec::new();
    for ack in 201..=260 {
        answers.push(session.until_told(&ack.to_string()).await);
    }
    assert!(
        answers[..4].iter().all(|answer| answer.body["ok"] == true),
        "{answers:?}"
    );
    let refused = answers.iter().find(|answer| answer.body["ok"] == false);
    let refused = refused.expect("a refusal");
    assert_eq!(code(refused), "rate_limited");
    let wait = refused.body["error"]["retryAfterMs"].as_u64().expect("a time");
    assert!((1..=500).contains(&wait), "{wait}");
    let mut writer = Replica::new(1);
    for ack in 10..110 {
        delta(&mut session, "page", Some(ack), &writer.write("x")).await;
    }
    for ack in 10..110 {
        assert_eq!(session.until_told(&ack.to_string()).await.body["ok"], true);
    }
    // That it is taken then is what was told.
    tokio::time::sleep(Duration::from_millis(wait)).await;
    session.send("join_page", Some(6), &json!("page"), &[]).await;
    assert_eq!(session.until_told("6").await.body["ok"], true);
}

#[tokio::test]
async fn changes_of_access_count_at_once() {
    let server = TestServer::start(&LOCKED).await;
    let grant = async |role: &str| {
        backend(
            &server,
            Method::PUT,
            "/api/pages/page/permissions/ada",
            json!({ "role": role }),
        )
        .await;
    };
    grant("edit").await;
    let mut ada = user(&server, "ada", &json!({})).await;
    assert_eq!(join(&mut ada, "page", 0).await.body["role"], "edit");
    ada.until_told("viewers_changed").await;
    let mut writer = Replica::new(1);

    let since = now();
    grant("view").await;
    assert_eq!(ada.until_told("error").await.body["code"], "read_only");
    assert!(since.elapsed() < AT_ONCE);
    delta(&mut ada, "page", Some(1), &writer.write("while she may not")).await;
    assert_eq!(code(&ada.until_told("1").await), "read_only");

    let since = now();
    grant("edit").await;
    let asked = ada.until_told("page_sync").await;
    assert!(since.elapsed() < AT_ONCE);
    delta(&mut ada, "page", Some(2), &writer.lacking(&asked.attachments[0])).await;
    assert_eq!(ada.until_told("2").await.body["ok"], true);

    let since = now();
    backend(
        &server,
        Method::DELETE,
        "/api/pages/page/permissions/ada",
        Value::Null,
    )
    .await;
    let revoked = ada.until_told("access_revoked").await;
    assert!(since.elapsed() < AT_ONCE);
    assert_eq!(revoked.body["room"], "page");
    assert_eq!(revoked.body["reason"], "forbidden");
    ada.send("join_page", Some(3), &json!("page"), &[]).await;
    assert_eq!(code(&ada.until_told("3").await), "forbidden");

    grant("edit").await;
    assert_eq!(join(&mut ada, "page", 4).await.body["ok"], true);
    let since = now();
    let signing_out = backend(&server, Method::POST, "/api/users/ada/sign-out", json!({}));
    tokio::join!(signing_out, async {
        assert_eq!(ada.until_told("error").await.body["code"], "token_revoked");
        assert_eq!(ada.text().await, "41");
        assert!(since.elapsed() < AT_ONCE);
    });
}

#[tokio::test]
async fn signing_out_and_blocking_end_connections_without_pages_too() {
    for (method, path, expected) in [
        (Method::POST, "/api/users/ada/sign-out", "token_revoked"),
        (Method::PUT, "/api/users/ada/block", "forbidden"),
    ] {
        let server = TestServer::start(&LOCKED).await;
        let pages = json!({ "page": "edit" });
        let mut ada = user(&server, "ada", &pages).await;
        let mut returned = user(&server, "ada", &pages).await;
        join(&mut returned, "page", 0).await;
        returned.send("leave_page", Some(1), &json!("page"), &[]).await;
        returned.until_told("1").await;
        let mut ben = user(&server, "ben", &pages).await;
        let since = now();
        tokio::join!(backend(&server, method, path, json!({})), async {
            for session in [&mut ada, &mut returned] {
                assert_eq!(session.until_told("error").await.body["code"], expected);
                assert_eq!(session.text().await, "41");
            }
            assert!(since.elapsed() < AT_ONCE);
        });
        assert_eq!(join(&mut ben, "page", 0).await.body["ok"], true);
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_under_its_number_and_the_session_goes_on() {
    let server = TestServer::start(&["--max-message-bytes", "1000"]).await;
    let mut session = guest(&server).await;
    join(&mut session, "page", 0).await;
    let one = json!({ "pageId": "page", "update": place(0) });
    let three = json!({ "pageId": "page", "update": place(0), "more": [place(1), place(2)] });
    let update = Replica::new(1).write("fits");
    for (ack, body, attachments) in [
        (1, &one, &[&[0; 1001][..]][..]),
        (2, &three, &[&[0; 600], &[0; 600], &[0; 600]]),
        (3, &three, &[&[0; 600], &[0; 300], &[0; 600]]),
    ] {
        session.send("page_delta", Some(ack), body, attachments).await;
        assert_eq!(code(&session.until_told(&ack.to_string()).await), "too_large");
    }
    delta(&mut session, "page", Some(4), &update).await;
    assert_eq!(session.until_told("4").await.body["ok"], true);
    // Nobody would hear of it.
    delta(&mut session, "page", None, &[0; 1001]).await;
    assert_eq!(session.closed().await.code, 4413);
}

#[tokio::test]
async fn a_token_that_ends_is_asked_for_and_replaced_in_place() {
    let server = TestServer::start(&LOCKED).await;
    let ends_in = |user: &str, seconds: i64, role: &str| {
        let claims = json!({ "sub": user, "pages": { "page": role }, "exp": seconds_from_now(seconds) });
        sign(&claims, SECRET, Algorithm::HS256)
    };
    // Clocks may differ by 15 s, so this one is good for about four.
    let auth = json!({ "token": ends_in("ada", -11, "edit") });
    let (mut ada, _) = Session::connect(server.address, &auth).await;
    join(&mut ada, "page", 0).await;
    let left = ada.until_told("auth_expiring").await.body["expiresInMs"].as_u64();
    assert!(left.is_some_and(|left| left > 0 && left < 4_000), "{left:?}");
    for (ack, token, expected) in [
        (1, ends_in("ben", 60, "edit"), "forbidden"),
        (2, ends_in("ada", -60, "edit"), "token_expired"),
    ] {
        ada.send("auth:refresh", Some(ack), &json!({ "token": token }), &[])
            .await;
        assert_eq!(code(&ada.until_told(&ack.to_string()).await), expected);
    }
    let fresh = ends_in("ada", 60, "view");
    ada.send("auth:refresh", Some(3), &json!({ "token": fresh }), &[])
        .await;
    assert_eq!(ada.until_told("3").await.body, json!({ "ok": true }));
    // What the fresh token says counts from now on.
    delta(&mut ada, "page", Some(4), &Replica::new(1).write("x")).await;
    assert_eq!(code(&ada.until_told("4").await), "read_only");
    // Nothing is to happen when the old token ends, so there is nothing but the time to wait for.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    ada.send("join_page", Some(5), &json!("page"), &[]).await;
    assert_eq!(
        ada.until_told("5").await.body["ok"],
        true,
        "the old token has ended by now"
    );

    let auth = json!({ "token": ends_in("eve", -12, "edit") });
    let (mut eve, _) = Session::connect(server.address, &auth).await;
    join(&mut eve, "page", 0).await;
    assert_eq!(eve.until_told("error").await.body["code"], "token_expired");
    assert_eq!(eve.text().await, "41");
}

#[tokio::test]
async fn a_page_that_is_opened_while_a_token_is_replaced_goes_by_the_fresh_one() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &LOCKED).await;
    let ends_in = |seconds: i64| {
        let claims = json!({ "sub": "ada", "pages": { "page": "edit" }, "exp": seconds_from_now(seconds) });
        sign(&claims, SECRET, Algorithm::HS256)
    };
    // Clocks may differ by 15 s, so this one is good for about four.
    let (mut ada, _) = Session::connect(server.address, &json!({ "token": ends_in(-11) })).await;
    store.opening(Weather::Hanging);
    ada.send("join_page", Some(1), &json!("page"), &[]).await;
    ada.send("auth:refresh", Some(2), &json!({ "token": ends_in(60) }), &[])
        .await;
    assert_eq!(ada.until_told("2").await.body, json!({ "ok": true }));
    store.opening(Weather::Fine);
    assert_eq!(ada.until_told("1").await.body["ok"], true);
    // Nothing is to happen when the old token ends, so there is nothing but the time to wait for.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    delta(&mut ada, "page", Some(3), &Replica::new(1).write("x")).await;
    assert_eq!(
        ada.until_told("3").await.body["ok"],
        true,
        "the old token has ended by now"
    );
}

#[tokio::test]
async fn a_reader_that_stalls_gets_one_diff_instead_of_a_queue() {
    const ROUNDS: usize = 200;
    let server = TestServer::start(&["--max-outbox-bytes", "65536"]).await;
    let mut slow = guest(&server).await;
    join(&mut slow, "page", 0).await;
    let mut writer = Client::join(&server, "page", 1).await;
    let chunk = "x".repeat(64 * 1024);
    for _ in 0..ROUNDS {
        writer.write_durably(&chunk).await;
    }
    let mut copy = Replica::new(3);
    while copy.text().len() < ROUNDS * chunk.len() {
        copy.receive(&slow.until_told("page_delta").await.attachments[0]);
    }
    assert!(copy.is_whole(), "nothing is missing in between");
    assert!(server.metric("pageroom_resyncs_total").await.unwrap_or(0.0) >= 1.0);
}

#[tokio::test]
async fn a_stop_sends_clients_away_to_come_back_and_loses_nothing() {
    let store = empty_store().await;
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut session = guest(&server).await;
    join(&mut session, "page", 0).await;
    delta(&mut session, "page", Some(1), &Replica::new(1).write("kept")).await;
    session.until_told("1").await;
    let (stored, closed) = tokio::join!(server.stop(), session.closed());
    assert!(stored);
    assert_eq!(closed.code, 1012);
    let again = TestServer::start_on(store, &[]).await;
    let mut session = guest(&again).await;
    assert_eq!(
        text_of(&join(&mut session, "page", 0).await.attachments[0]),
        "kept"
    );
}
