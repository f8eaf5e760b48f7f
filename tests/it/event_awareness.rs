//! Cursors and typing between programs without Yjs, as sockets in the namespace of events hear them, and programs with awareness.

use std::net::SocketAddr;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    http::send,
    server::{ADMIN_TOKEN, TestServer},
    socket_io::Session,
    token::{SECRET, token},
};

const LOCKED: [&str; 4] = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];

async fn user(server: &TestServer, name: &str) -> Session {
    let auth = json!({ "token": token(name, &json!({ "*": "edit" })) });
    Session::connect(server.address, &auth).await.0
}

async fn editor(address: SocketAddr, name: &str, author: u64) -> Client {
    let token = token(name, &json!({ "*": "edit" }));
    Client::join_at(address, &format!("/ws/p?token={token}"), author).await
}

async fn done(session: &mut Session, event: &str, body: Value) {
    session.send(event, Some(7), &body, &[]).await;
    let answer = session.until_told("7").await.body;
    assert_eq!(answer["ok"], true, "{event}: {answer}");
}

fn points(anchor: u32, head: u32) -> Value {
    json!({ "pageId": "p", "cursor": { "anchor": anchor, "head": head } })
}

/// Before a character, in the text of replicas.
fn before(client: u64, clock: u32) -> Value {
    json!({ "type": null, "tname": "text", "item": { "client": client, "clock": clock }, "assoc": 0 })
}

fn end() -> Value {
    json!({ "type": null, "tname": "text", "item": null, "assoc": 0 })
}

/// Waits for a cursor at these numbers, whatever places come before.
async fn until_at(session: &mut Session, anchor: u32, head: u32) -> Value {
    loop {
        let moved = session.until_told("cursor_moved").await.body;
        if moved["cursor"] == json!({ "anchor": anchor, "head": head }) {
            return moved;
        }
    }
}

/// The only client that the server speaks for, once it shows this.
async fn until_shown(client: &mut Client, what: &str, is_so: impl Fn(&Value) -> bool) -> (u64, Value) {
    let shown = |client: &Client| {
        let mut ids = client.presence.shown().into_iter().filter(|id| *id >= 1 << 52);
        let id = ids.next()?;
        assert_eq!(ids.next(), None, "one socket is shown once");
        Some((id, client.presence.state(id)?.clone()))
    };
    let found = |client: &mut Client| shown(client).is_some_and(|(_, state)| is_so(&state));
    client.until(what, found).await;
    shown(client).expect("it was shown just now")
}

#[tokio::test]
async fn a_cursor_of_awareness_is_told_in_numbers_that_follow_the_text() {
    let server = TestServer::start(&LOCKED).await;
    let mut cleo = editor(server.address, "cleo", 1).await;
    cleo.write_durably("a😀b").await;
    let (mut each, mut sets) = (user(&server, "each").await, user(&server, "sets").await);
    done(&mut each, "join_page", json!("p")).await;
    done(&mut sets, "join_page", json!({ "pageId": "p" })).await;
    let mut state = json!({
        "user": { "id": "eve", "name": "Eve", "color": "#123456" },
        "cursor": { "anchor": before(1, 3), "head": end() },
        "typing": true,
    });
    cleo.show(&state).await;
    assert_eq!(
        until_at(&mut each, 3, 4).await,
        json!({
            "pageId": "p", "userId": "cleo", "name": null, "avatarUrl": null, "color": "#123456",
            "cursor": { "anchor": 3, "head": 4 }, "connectionId": "1",
        })
    );
    assert_eq!(
        sets.until_told("cursors_moved").await.body,
        json!({ "pageId": "p", "cursors": [{
            "userId": "cleo", "name": null, "color": "#123456", "cursor": { "anchor": 3, "head": 4 }, "connectionId": "1",
        }] })
    );
    // Somebody else writes before it, and it is told where it is now without its program having said anything.
    let mut ben = editor(server.address, "ben", 2).await;
    ben.until_text("a😀b").await;
    let inserted = ben.replica.insert(0, "日本");
    ben.send(&inserted).await;
    until_at(&mut each, 5, 6).await;
    state["cursor"] = json!({ "x": 1, "userId": "eve" });
    state["typing"] = json!(false);
    cleo.show(&state).await;
    let passed = each.until_told("cursor_moved").await.body;
    assert_eq!(
        (&passed["cursor"], &passed["userId"]),
        (&state["cursor"], &json!("cleo"))
    );
    // What the page does not have is shown nowhere.
    state["cursor"] = json!({ "anchor": before(77, 3), "head": end() });
    cleo.show(&state).await;
    each.until_told("cursor_left").await;
    state["cursor"] = json!({ "anchor": end(), "head": end() });
    cleo.show(&state).await;
    until_at(&mut each, 6, 6).await;
    cleo.leave().await;
    let left = each.until_told("cursor_left").await.body;
    assert_eq!(
        left,
        json!({ "pageId": "p", "userId": "cleo", "connectionId": "1" })
    );
}

#[tokio::test]
async fn typing_of_awareness_is_told_and_ends_with_it() {
    let server = TestServer::start(&LOCKED).await;
    let mut each = user(&server, "each").await;
    done(&mut each, "join_page", json!("p")).await;
    let mut cleo = editor(server.address, "cleo", 1).await;
    let typing = json!({ "pageId": "p", "userId": "cleo" });
    cleo.show(&json!({ "typing": true, "user": { "id": "eve" } }))
        .await;
    assert_eq!(each.until_told("user_typing").await.body, typing);
    cleo.show(&json!({ "typing": false })).await;
    assert_eq!(each.until_told("user_stopped_typing").await.body, typing);
    cleo.show(&json!({ "typing": true })).await;
    each.until_told("user_typing").await;
    cleo.leave().await;
    assert_eq!(each.until_told("user_stopped_typing").await.body, typing);
}

#[tokio::test]
async fn who_shows_something_before_there_is_anybody_else_is_seen_by_who_comes() {
    let server = TestServer::start(&LOCKED).await;
    let mut cleo = editor(server.address, "cleo", 1).await;
    cleo.write_durably("text").await;
    cleo.show(&json!({ "cursor": { "anchor": before(1, 2), "head": before(1, 2) } }))
        .await;
    let mut each = user(&server, "each").await;
    done(&mut each, "join_channel", json!("p")).await;
    until_at(&mut each, 2, 2).await;
    done(&mut each, "cursor_move", points(1, 1)).await;
    until_shown(&mut cleo, "the cursor", |state| {
        state["cursor"]["anchor"] == before(1, 1)
    })
    .await;
    let mut late = editor(server.address, "late", 2).await;
    until_shown(&mut late, "the cursor", |state| {
        state["cursor"]["anchor"] == before(1, 1)
    })
    .await;
}

#[tokio::test]
async fn a_socket_is_shown_in_awareness_as_its_token_says_until_it_stops() {
    let server = TestServer::start(&LOCKED).await;
    let mut cleo = editor(server.address, "cleo", 1).await;
    cleo.write_durably("a😀b").await;
    let mut ada = user(&server, "ada").await;
    done(&mut ada, "presence:join_page", json!({ "pageId": "p" })).await;
    let mut body = points(3, 9);
    body["user"] = json!({ "id": "eve" });
    body["cursor"]["more"] = json!("kept");
    done(&mut ada, "cursor_move", body).await;
    let (id, state) = until_shown(&mut cleo, "the cursor", |state| state["cursor"].is_object()).await;
    let color = state["user"]["color"].as_str().expect("a colour").to_owned();
    assert_eq!(
        state,
        json!({
            "user": { "id": "ada", "color": color },
            "cursor": { "anchor": before(1, 3), "head": end(), "more": "kept" },
        })
    );
    done(&mut ada, "typing_start", json!({ "pageId": "p" })).await;
    until_shown(&mut cleo, "typing", |state| {
        state["typing"] == true && state["cursor"].is_object()
    })
    .await;
    done(&mut ada, "typing_stop", json!({ "pageId": "p" })).await;
    done(
        &mut ada,
        "cursor_move",
        json!({ "pageId": "p", "cursor": [1, { "user": "eve" }] }),
    )
    .await;
    let (same, state) = until_shown(&mut cleo, "what is no place in a text", |state| {
        state["cursor"].is_array() && state["typing"].is_null()
    })
    .await;
    assert_eq!((same, &state["cursor"]), (id, &json!([1, { "user": "eve" }])));
    // Its own cursor does not come back to it as that of another connection.
    done(&mut ada, "cursor_move", json!({ "pageId": "p", "cursor": null })).await;
    cleo.until_shown(id, None).await;
    ada.send("join", Some(99), &json!("x"), &[]).await;
    loop {
        let told = ada.told().await;
        assert!(!told.what.starts_with("cursor"), "{told:?}");
        if told.what == "99" {
            break;
        }
    }
    done(&mut ada, "cursor_move", points(0, 0)).await;
    let (again, _) = until_shown(&mut cleo, "the cursor", |state| state["cursor"].is_object()).await;
    assert_eq!(again, id, "a socket has one client id");
    drop(ada);
    cleo.until_shown(id, None).await;
}

#[tokio::test]
async fn a_guest_is_nobody_in_awareness() {
    let server = TestServer::start(&[]).await;
    let mut cleo = Client::join(&server, "p", 1).await;
    let (mut guest, _) = Session::connect(server.address, &json!(null)).await;
    done(&mut guest, "join_page", json!("p")).await;
    done(&mut guest, "cursor_move", json!({ "pageId": "p", "cursor": 1 })).await;
    let (_, state) = until_shown(&mut cleo, "the cursor", |state| state["cursor"] == 1).await;
    let fields: Vec<_> = state["user"].as_object().expect("a user").keys().collect();
    assert_eq!(fields, ["color"]);
}

#[tokio::test]
async fn who_is_sent_away_is_gone_from_awareness_at_once() {
    let server = TestServer::start(&LOCKED).await;
    let grant = async |method: Method| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({ "role": "view" }).to_string();
        let path = "/api/pages/p/permissions/eve";
        let answer = send(server.address, method, path, &headers, body.into()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    };
    grant(Method::PUT).await;
    let mut cleo = editor(server.address, "cleo", 1).await;
    let auth = json!({ "token": token("eve", &json!({})) });
    let (mut eve, _) = Session::connect(server.address, &auth).await;
    done(&mut eve, "join_page", json!("p")).await;
    done(&mut eve, "cursor_move", json!({ "pageId": "p", "cursor": 1 })).await;
    let (id, _) = until_shown(&mut cleo, "the cursor", |state| state["cursor"] == 1).await;
    grant(Method::DELETE).await;
    cleo.until_shown(id, None).await;
    eve.until_told("access_revoked").await;
    // Nothing that it says brings it back, and nothing that others show reaches it.
    eve.send("cursor_move", Some(8), &points(1, 1), &[]).await;
    assert_eq!(eve.until_told("8").await.body["error"]["code"], "conflict");
    let mut ada = user(&server, "ada").await;
    done(&mut ada, "join_page", json!("p")).await;
    cleo.show(&json!({ "cursor": 5, "typing": true })).await;
    ada.until_told("cursor_moved").await;
    eve.send("join", Some(99), &json!("x"), &[]).await;
    assert_eq!(eve.told().await.what, "99");
    assert_eq!(cleo.presence.state(id), None);
}

#[tokio::test]
async fn typing_and_cursors_are_spoken_whatever_applications_are() {
    let server = TestServer::start(&["--profiles", ""]).await;
    let (mut ada, _) = Session::greet(server.address, &json!(null)).await;
    let (mut ben, _) = Session::greet(server.address, &json!(null)).await;
    done(&mut ada, "join_page", json!("p")).await;
    done(&mut ben, "join_page", json!("p")).await;
    done(&mut ada, "typing_start", json!({ "pageId": "p" })).await;
    ben.until_told("user_typing").await;
    done(&mut ada, "cursor_move", points(1, 2)).await;
    until_at(&mut ben, 1, 2).await;
}

/// Rich text: positions of ProseMirror, in what a page holds that an old program has saved.
#[tokio::test]
async fn cursors_in_rich_text_are_positions_of_prosemirror() {
    let server = TestServer::start(&LOCKED).await;
    let (mut ada, mut ben) = (user(&server, "ada").await, user(&server, "ben").await);
    done(&mut ada, "join_page", json!("p")).await;
    done(&mut ben, "join_page", json!("p")).await;
    let save = json!({ "pageId": "p", "content": "<p>One</p><p>Two</p>", "format": "html" });
    done(&mut ada, "page_updated", save).await;
    let mut cleo = editor(server.address, "cleo", 1).await;
    done(&mut ada, "cursor_move", points(7, 9)).await;
    let (_, state) = until_shown(&mut cleo, "the cursor", |state| state["cursor"].is_object()).await;
    let anchor = &state["cursor"]["anchor"];
    assert!(
        anchor["type"].is_object() && anchor["tname"].is_null(),
        "in a node: {state}"
    );
    // Whoever shows the same places is told in the same numbers.
    cleo.show(&json!({ "cursor": state["cursor"] })).await;
    let moved = loop {
        let moved = ben.until_told("cursor_moved").await.body;
        if moved["userId"] == "cleo" {
            break moved;
        }
    };
    assert_eq!(moved["cursor"], json!({ "anchor": 7, "head": 9 }));
}
