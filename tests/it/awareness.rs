//! Who is here: shown at once, gone with a clean goodbye, kept through a short break, and nobody else's to change.

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::support::{
    client::{Client, presence_update},
    replica::Replica,
    server::TestServer,
    socket::Socket,
    token,
};

/// Longer than any test: what is gone before, is gone for another reason.
const LONG_GRACE: &[&str] = &["--presence-grace-seconds", "3600"];

#[tokio::test]
async fn a_state_is_shown_to_those_who_are_here_and_to_those_who_come() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    let state = json!({ "user": { "name": "Ada", "color": "#30bced" }, "cursor": null });
    ada.show(&state).await;
    bob.until_shown(1, Some(&state)).await;
    ada.until_shown(1, Some(&state)).await;
    let mut late = Client::join(&server, "page", 3).await;
    late.until_shown(1, Some(&state)).await;
    let mut elsewhere = Client::join(&server, "other", 4).await;
    elsewhere.write_durably("x").await;
    assert_eq!(elsewhere.presence.shown(), [0; 0]);
}

#[tokio::test]
async fn the_first_state_counts_even_at_clock_zero() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.show_as(1, 0, &json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
}

#[tokio::test]
async fn who_says_goodbye_is_gone_at_once() {
    let server = TestServer::start(LONG_GRACE).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.show(&json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    ada.leave().await;
    bob.until_shown(1, None).await;
}

#[tokio::test]
async fn who_clears_a_state_is_gone_at_once_and_may_come_back() {
    let server = TestServer::start(LONG_GRACE).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    for name in ["Ada", "Ada again"] {
        ada.show(&json!({ "name": name })).await;
        bob.until_shown(1, Some(&json!({ "name": name }))).await;
        ada.show(&json!(null)).await;
        bob.until_shown(1, None).await;
        let mut late = Client::join(&server, "page", 3).await;
        late.write_durably("x").await;
        assert_eq!(late.presence.shown(), [0; 0], "nobody is told of who is gone");
        late.leave().await;
    }
}

#[tokio::test]
async fn a_short_break_is_not_seen() {
    let server = TestServer::start(LONG_GRACE).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.show(&json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    let replica = ada.cut();
    server.until_metric("pageroom_connections_open", 1.0).await;
    let mut late = Client::join(&server, "page", 3).await;

    let mut back = Client::join_as(Socket::open(server.address, "/ws/page").await, replica).await;
    // It has heard itself with clock 2.
    back.show_as(1, 3, &json!({ "name": "Ada", "back": true })).await;
    for other in [&mut bob, &mut late] {
        other
            .until_shown(1, Some(&json!({ "name": "Ada", "back": true })))
            .await;
        assert_eq!(other.presence.withdrawals.get(&1), None, "no flicker");
    }
}

#[tokio::test]
async fn a_long_break_is_seen_and_its_end_at_once() {
    let server = TestServer::start(&["--presence-grace-seconds", "1"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.show(&json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    let replica = ada.cut();
    bob.until_shown(1, None).await;

    // A program that kept its clock (it has heard itself with 2), as Yjs does across a reconnect: others would ignore the old clock.
    let mut back = Client::join_as(Socket::open(server.address, "/ws/page").await, replica).await;
    back.show_as(1, 2, &json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
}

#[tokio::test]
async fn who_shows_no_sign_of_life_is_gone() {
    let server = TestServer::start(&["--presence-timeout-seconds", "1"]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.show(&json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    bob.until_shown(1, None).await;
    ada.show(&json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut mallory = Client::join(&server, "page", 2).await;
    ada.show(&json!({ "name": "Ada" })).await;
    mallory.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    mallory.show_as(1, 1000, &json!({ "name": "Mallory" })).await;
    mallory.show_as(1, 1001, &json!(null)).await;
    mallory.show(&json!({ "name": "Mallory" })).await;
    ada.until_shown(2, Some(&json!({ "name": "Mallory" }))).await;
    assert_eq!(ada.presence.state(1), Some(&json!({ "name": "Ada" })));
    let mut late = Client::join(&server, "page", 3).await;
    late.until_shown(2, Some(&json!({ "name": "Mallory" }))).await;
    assert_eq!(late.presence.state(1), Some(&json!({ "name": "Ada" })));
    ada.show(&json!({ "name": "Ada", "cursor": 3 })).await;
    late.until_shown(1, Some(&json!({ "name": "Ada", "cursor": 3 })))
        .await;
    let refused = server
        .metric("pageroom_refusals_total{kind=\"foreign_awareness\"}")
        .await;
    assert_eq!(refused, Some(2.0));
}

#[tokio::test]
async fn a_connection_takes_all_its_states_with_it() {
    let server = TestServer::start(LONG_GRACE).await;
    let mut bob = Client::join(&server, "page", 9).await;
    let mut many = Client::new(Socket::open(server.address, "/ws/page").await, Replica::new(1));
    many.ask().await;
    for id in 1..=3 {
        many.show_as(id, 1, &json!({ "id": id })).await;
    }
    bob.until("three states", |bob| bob.presence.shown() == [1, 2, 3])
        .await;
    many.leave().await;
    bob.until("nobody", |bob| bob.presence.shown().is_empty()).await;
}

#[tokio::test]
async fn states_are_passed_on_as_they_came() {
    let server = TestServer::start(&[]).await;
    let mut bob = Client::join(&server, "page", 2).await;
    let mut socket = Socket::open(server.address, "/ws/page").await;
    // Key order, spaces, numbers beyond what JSON libraries keep: none of it is ours to change.
    let state = r#"{ "z": 1.0, "a": [12345678901234567890], "ü": "\u0000\ud83d\ude00" }"#;
    let mut update = presence_update(1, 1, &json!({}));
    update.truncate(3);
    update.push(state.len() as u8);
    update.extend_from_slice(state.as_bytes());
    socket.say(crdt::message::awareness(&update)).await;
    let raw = loop {
        if let crdt::Message::Awareness(raw) = bob.socket.message().await {
            break raw;
        }
    };
    assert!(raw.ends_with(state.as_bytes()), "{raw:?}");
}

#[tokio::test]
async fn nobody_passes_for_somebody_else_where_the_server_stamps_presence() {
    let claims = |user: &str, name: &str| {
        let mut claims = token::claims(user, &json!({ "page": "edit" }));
        claims["name"] = name.into();
        claims["picture"] = json!("https://example.com/ada.png");
        token::sign(&claims, token::SECRET, Algorithm::HS256)
    };
    let flags = ["--jwt-secret", token::SECRET, "--stamp-presence", "true"];
    let server = TestServer::start(&flags).await;
    let path = |token: &str| format!("/ws/page?token={token}");
    let mut ada = Client::join_at(server.address, &path(&claims("ada", "Ada")), 1).await;
    let bob = token::token("bob", &json!({ "page": "view" }));
    let mut bob = Client::join_at(server.address, &path(&bob), 2).await;
    // A name that is in no token stays a free choice; whose entry it is does not.
    bob.show(&json!({ "user": { "id": "ada", "name": "Bobby", "color": "#30bced" }, "cursor": [1, 2] }))
        .await;
    let shown = json!({ "user": { "id": "bob", "name": "Bobby", "color": "#30bced" }, "cursor": [1, 2] });
    ada.until_shown(2, Some(&shown)).await;
    bob.until_shown(2, Some(&shown)).await;
    ada.show(&json!({ "user": { "name": "Eve", "color": "#fff" } }))
        .await;
    let shown = json!({ "user": { "id": "ada", "name": "Ada", "color": "#fff",
        "avatarUrl": "https://example.com/ada.png" } });
    bob.until_shown(1, Some(&shown)).await;
}
