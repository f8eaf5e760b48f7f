//! y-websocket as its clients expect it: what comes in which order, what is acknowledged when, and what is refused.

use bytes::Bytes;
use crdt::{Message, message};
use serde_json::json;

use crate::support::{
    client::{Client, presence_update},
    http,
    replica::{Replica, insertion, text_of},
    server::{TestServer, empty_store},
    socket::Socket,
    store::{SwitchedStore, Weather},
};

/// Step 1 of somebody who has nothing, and the step 2 that brings nothing.
const STEP_1_OF_NOTHING: &[u8] = &[0, 0, 1, 0];
const STEP_2_OF_NOTHING: &[u8] = &[0, 1, 2, 0, 0];

#[tokio::test]
async fn the_server_asks_first_then_says_who_is_here_then_answers() {
    let server = TestServer::start(&[]).await;
    let mut alone = Socket::open(server.address, "/ws/page").await;
    assert_eq!(alone.frame().await, STEP_1_OF_NOTHING);
    alone.say(STEP_1_OF_NOTHING).await;
    assert_eq!(
        alone.frame().await,
        STEP_2_OF_NOTHING,
        "an empty answer is an answer"
    );

    let mut ada = Client::join(&server, "page", 1).await;
    ada.show(&json!({ "name": "Ada" })).await;
    ada.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    ada.write_durably("hello").await;

    let mut late = Socket::open(server.address, "/ws/page").await;
    late.say(STEP_1_OF_NOTHING).await;
    assert!(matches!(late.message().await, Message::SyncStep1(asked) if asked == [1, 1, 5].as_slice()));
    assert!(matches!(late.message().await, Message::Awareness(who) if who[..2] == [1, 1]));
    assert!(matches!(late.message().await, Message::SyncStep2(update) if text_of(&update) == "hello"));
}

#[tokio::test]
async fn several_messages_in_a_frame_are_all_heard() {
    let server = TestServer::start(&[]).await;
    let mut reader = Client::join(&server, "page", 2).await;
    let mut writer = Replica::new(1);
    let mut packed = Vec::new();
    packed.extend_from_slice(&message::update(&writer.write("one ")));
    packed.extend_from_slice(&message::awareness(&presence_update(
        1,
        1,
        &json!({ "name": "Ada" }),
    )));
    packed.extend_from_slice(&message::update(&writer.write("two ")));
    packed.extend_from_slice(&message::update(&writer.write("three")));
    // What a client of the fourth generation leaves behind after it has answered a packed frame.
    packed.push(0);
    let mut socket = Socket::open(server.address, "/ws/page").await;
    socket.say(packed).await;
    reader.until_text("one two three").await;
    reader.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
}

#[tokio::test]
async fn what_was_said_right_before_leaving_is_heard() {
    let server = TestServer::start(&[]).await;
    let mut reader = Client::join(&server, "page", 2).await;
    let mut socket = Socket::open(server.address, "/ws/page").await;
    socket.frame().await;
    let mut writer = Replica::new(1);
    // One segment: the server finds edit and goodbye in the same read.
    socket
        .feed(message::update(&writer.write("last words")))
        .await
        .expect("room in the buffer");
    socket.leave().await;
    reader.until_text("last words").await;
}

#[tokio::test]
async fn others_see_an_edit_at_once_and_its_author_when_it_is_stored() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.show(&json!({ "name": "Ada" })).await;
    ada.until_shown(1, Some(&json!({ "name": "Ada" }))).await;

    store.writing(Weather::Hanging);
    ada.write("hello").await;
    bob.until_text("hello").await;
    // The answer to a question comes behind everything that has been queued for its asker.
    ada.presence = Default::default();
    ada.socket.say(message::query_awareness()).await;
    ada.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    assert_eq!(ada.acknowledged, 0, "nothing is acknowledged before it is stored");

    store.writing(Weather::Fine);
    ada.until_acknowledged().await;
    assert_eq!(
        ada.deltas, 0,
        "an author gets its own edit as the acknowledgement only"
    );
}

#[tokio::test]
async fn an_edit_made_of_many_is_acknowledged_as_a_whole() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    for _ in 0..500 {
        let update = ada.replica.write("x");
        ada.socket
            .feed(message::update(&update))
            .await
            .expect("a connection");
    }
    ada.socket.flush().await.expect("a connection");
    bob.until_text(&"x".repeat(500)).await;
    ada.until_acknowledged().await;
}

#[tokio::test]
async fn an_edit_that_is_known_already_is_acknowledged_again() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.write_durably("hello").await;
    let replica = ada.cut();
    let mut back = Client::join_as(Socket::open(server.address, "/ws/page").await, replica).await;
    assert_eq!(
        back.acknowledged, 0,
        "the answer to step 1 has nothing that she has"
    );
    back.send(&insertion(1, 0, "hello")).await;
    back.until_acknowledged().await;
}

#[tokio::test]
async fn an_early_edit_waits_for_what_it_builds_on() {
    let server = TestServer::start(&[]).await;
    let mut reader = Client::join(&server, "page", 2).await;
    let mut socket = Socket::open(server.address, "/ws/page").await;
    assert_eq!(socket.frame().await, STEP_1_OF_NOTHING);
    socket.say(message::update(&insertion(1, 5, " there"))).await;
    assert_eq!(
        socket.frame().await,
        STEP_1_OF_NOTHING,
        "asked for what is missing"
    );
    socket.say(message::sync_step_2(&insertion(1, 0, "hello"))).await;
    reader.until_text("hello there").await;
}

#[tokio::test]
async fn a_client_that_lacks_it_too_is_asked_once() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.show(&json!({ "name": "Ada" })).await;
    ada.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    let mut bob = Client::new(Socket::open(server.address, "/ws/page").await, Replica::new(2));
    bob.ask().await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    bob.ask().await;
    // His program holds an edit whose predecessor it never got, and answers each question with it.
    bob.replica.receive(&insertion(2, 5, " there"));
    assert!(!bob.replica.is_whole());
    bob.send(&insertion(2, 5, " there")).await;
    for _ in 0..3 {
        bob.presence = Default::default();
        bob.socket.say(message::query_awareness()).await;
        bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    }
    assert_eq!(bob.asked, 2, "when he came, and for what is missing");
    ada.send(&insertion(2, 0, "hello")).await;
    ada.until_text("hello there").await;
    bob.until_text("hello there").await;
}

#[tokio::test]
async fn an_early_edit_that_turns_out_bad_has_no_effect_and_hurts_nobody() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut mallory = Client::join(&server, "page", 2).await;
    // A list item inside what will be a letter of Ada's.
    let in_a_letter = [1, 1, 2, 0, 8, 0, 1, 0, 1, 119, 1, b'x', 0];
    mallory.send(&in_a_letter).await;
    mallory
        .until("the question for what is missing", |mallory| mallory.asked == 2)
        .await;
    ada.write_durably("a").await;
    ada.write_durably("b").await;
    let mut late = Client::join(&server, "page", 3).await;
    late.until_text("ab").await;
    assert_eq!(
        http::get(server.address, "/api/pages/page/content").await.json(),
        json!({ "text": "ab" })
    );
}

#[tokio::test]
async fn a_joiner_is_given_only_what_is_stored() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    ada.show(&json!({ "name": "Ada" })).await;
    bob.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    store.writing(Weather::Hanging);
    ada.write("hello").await;
    bob.until_text("hello").await;

    let mut late = Client::new(Socket::open(server.address, "/ws/page").await, Replica::new(3));
    late.ask().await;
    late.until_shown(1, Some(&json!({ "name": "Ada" }))).await;
    late.socket.say(message::query_awareness()).await;
    late.until("who is here, again", |late| late.presence.heard == 2)
        .await;
    assert!(!late.synced, "what is not stored is not given out as if it were");
    store.writing(Weather::Fine);
    late.until("the answer", |late| late.synced).await;
    late.until_text("hello").await;
}

#[tokio::test]
async fn a_joiner_is_served_from_memory_while_the_store_is_late() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    store.writing(Weather::Hanging);
    ada.write("hello").await;
    // The store never comes back here, so the answer can only come from memory.
    let mut late = Client::join(&server, "page", 2).await;
    late.until_text("hello").await;
    assert_eq!(ada.acknowledged, 0);
    late.write(" you").await;
    ada.until("the other's edit", |ada| ada.replica.text() == "hello you")
        .await;
    assert_eq!(
        (ada.acknowledged, late.acknowledged),
        (0, 0),
        "late is not stored"
    );
}

#[tokio::test]
async fn who_is_here_is_told_when_asked() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.show(&json!({ "cursor": 7 })).await;
    ada.until_shown(1, Some(&json!({ "cursor": 7 }))).await;
    let mut bob = Client::new(Socket::open(server.address, "/ws/page").await, Replica::new(2));
    bob.until_shown(1, Some(&json!({ "cursor": 7 }))).await;
    for asked in 1..=3 {
        // As if he had never heard of her.
        bob.presence = Default::default();
        bob.socket.say(message::query_awareness()).await;
        bob.until_shown(1, Some(&json!({ "cursor": 7 }))).await;
        assert_eq!(bob.presence.heard, 1, "one answer to question {asked}");
    }
}

#[tokio::test]
async fn a_quiet_server_sends_frames_that_change_nothing() {
    let server = TestServer::start(&["--keepalive-seconds", "1"]).await;
    let mut socket = Socket::open(server.address, "/ws/page").await;
    assert_eq!(socket.frame().await, STEP_1_OF_NOTHING);
    for _ in 0..2 {
        assert_eq!(socket.frame().await, message::EMPTY_AWARENESS);
    }
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_given_up() {
    let flags = [
        "--keepalive-seconds",
        "1",
        "--connection-timeout-seconds",
        "4",
        "--presence-grace-seconds",
        "0",
    ];
    let server = TestServer::start(&flags).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut bob = Client::join(&server, "page", 2).await;
    bob.show(&json!({ "name": "Bob" })).await;
    ada.until_shown(2, Some(&json!({ "name": "Bob" }))).await;
    // Bob's machine is still there and his program is stuck: it reads nothing, so it answers no ping.
    ada.until_shown(2, None).await;
    drop(bob);
}

#[tokio::test]
async fn page_names_are_decoded_once() {
    let server = TestServer::start(&[]).await;
    let pages = [
        ("team/notes", "team/notes", "team%2Fnotes"),
        ("my room", "my%20room", "my%20room"),
        ("ä/ö ü", "%C3%A4/%C3%B6%20%C3%BC", "%C3%A4%2F%C3%B6%20%C3%BC"),
        ("100%25", "100%2525", "100%2525"),
        ("a+b", "a+b", "a+b"),
        ("日本", "%E6%97%A5%E6%9C%AC", "%E6%97%A5%E6%9C%AC"),
    ];
    for (page, in_address, in_rest) in pages {
        let mut writer = Client::join(&server, in_address, 1).await;
        writer.write_durably(page).await;
        let mut reader = Client::join(&server, in_rest, 2).await;
        reader.until_text(page).await;
        let described = http::get(server.address, &format!("/api/pages/{in_rest}")).await;
        assert_eq!(described.json()["pageId"], page);
    }
    let listed = http::get(server.address, "/api/pages").await.json();
    assert_eq!(listed["pages"].as_array().map(Vec::len), Some(pages.len()));
}

#[tokio::test]
async fn names_that_are_no_page_ids_are_refused() {
    let server = TestServer::start(&[]).await;
    let long = format!("/ws/{}", "x".repeat(256));
    for path in [
        "/ws/a%00b",
        "/ws/a%0Ab",
        "/ws/a/%2e%2e/b",
        "/ws/%2E",
        "/ws/%ff",
        &long,
    ] {
        let closed = Socket::open(server.address, path).await.closed().await;
        assert_eq!(closed.code, 4400, "{path}: {closed:?}");
        assert!(closed.reason.starts_with("malformed: "), "{path}: {closed:?}");
    }
    Client::join(&server, &"x".repeat(255), 1).await;
}

#[tokio::test]
async fn a_client_that_offers_subprotocols_gets_one_of_them() {
    let server = TestServer::start(&[]).await;
    for (offered, chosen) in [
        (None, None),
        (Some("yjs"), Some("yjs")),
        (Some("a, b"), Some("a")),
    ] {
        let headers: Vec<_> = offered
            .iter()
            .map(|offered| ("sec-websocket-protocol", *offered))
            .collect();
        let socket = Socket::open_with(server.address, "/ws/page", &headers).await;
        assert_eq!(socket.subprotocol.as_deref(), chosen);
    }
}

#[tokio::test]
async fn a_plain_request_is_told_to_use_websocket() {
    let server = TestServer::start(&[]).await;
    let answer = http::get(server.address, "/ws/page").await;
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), "websocket");
    assert_eq!(answer.error(), "malformed");
}

#[tokio::test]
async fn messages_of_unknown_types_are_ignored() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    ada.socket.say(vec![102, 1, 7]).await;
    ada.socket.say(Bytes::new()).await;
    ada.write_durably("still here").await;
}

#[tokio::test]
async fn frames_that_make_no_sense_end_their_connection_and_nothing_else() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let malformed: [(&str, &[u8]); 10] = [
        ("a message without a body", &[0]),
        ("a step 1 that ends early", &[0, 0, 5, 1]),
        ("a sync message of no kind", &[0, 7, 0]),
        ("an update that is none", &[0, 2, 4, 9, 9, 9, 9]),
        (
            "an update that counts more than it has",
            &[0, 2, 5, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ),
        (
            "a state vector that counts more than it has",
            &[0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ),
        ("something behind an update", &[0, 2, 3, 0, 0, 0]),
        ("presence that is not JSON", &[1, 6, 1, 1, 1, 2, b'{', b'{']),
        (
            "presence that counts more than it has",
            &[1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ),
        ("text that is not UTF-8", &[2, 0, 1, 0xff]),
    ];
    for (what, frame) in malformed {
        let mut socket = Socket::open(server.address, "/ws/page").await;
        socket.say(frame).await;
        let closed = socket.closed().await;
        assert_eq!(closed.code, 4400, "{what}: {closed:?}");
        assert!(closed.reason.starts_with("malformed: "), "{what}: {closed:?}");
    }
    let mut texting = Socket::open(server.address, "/ws/page").await;
    texting.say_text("hello").await;
    assert_eq!(texting.closed().await.code, 4400, "a text frame");
    ada.write_durably("unharmed").await;
    assert_eq!(Client::join(&server, "page", 2).await.replica.text(), "unharmed");
}

#[tokio::test]
async fn what_came_before_a_malformed_message_counts() {
    let server = TestServer::start(&[]).await;
    let mut socket = Socket::open(server.address, "/ws/page").await;
    let mut writer = Replica::new(1);
    socket
        .feed(message::update(&writer.write("good")))
        .await
        .expect("room in the buffer");
    socket.say(vec![0, 7, 0]).await;
    assert_eq!(socket.closed().await.code, 4400);
    let mut reader = Client::join(&server, "page", 2).await;
    reader.until_text("good").await;
}
