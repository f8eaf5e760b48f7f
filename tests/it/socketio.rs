//! y-socket.io as its clients expect it, over bare sessions: what comes in which order, and what refusals leave behind.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::json;
use storage::testing::Fault;

use crate::support::{
    client::{Client, presence_update},
    http::get,
    process::Process,
    replica::{Replica, text_of},
    server::{TestServer, empty_store},
    socket_io::{Heard, Session},
    store::{SwitchedStore, Weather},
    token::{SECRET, token},
    until,
};

const PLACE: &str = "{\"_placeholder\":true,\"num\":0}";

#[tokio::test]
async fn the_server_answers_under_the_number_it_was_given_and_then_asks() {
    let server = TestServer::start(&[]).await;
    let mut session = Session::open(server.address).await;
    session.say("40/yjs|room/1,{\"token\":\"ok\"}").await;
    assert!(session.text().await.starts_with("40/yjs|room/1,{\"sid\":\""));
    // Clients take the question as the sign that they have everything.
    session.emit("room/1", "sync-step-1", Some(7), &[0]).await;
    assert_eq!(session.text().await, format!("461-/yjs|room/1,7[{PLACE}]"));
    assert_eq!(session.hear().await, Heard::Binary([0, 0].as_slice().into()));
    assert_eq!(
        session.text().await,
        format!("451-/yjs|room/1,0[\"sync-step-1\",{PLACE}]")
    );
    assert_eq!(session.hear().await, Heard::Binary([0].as_slice().into()));

    // What the server was lacking is taken from the answer to its question.
    let mut reader = Client::join(&server, "room/1", 2).await;
    let mut writer = Replica::new(1);
    session
        .say_with(
            &format!("461-/yjs|room/1,0[{PLACE}]"),
            &writer.write("from before"),
        )
        .await;
    reader.until_text("from before").await;
}

#[tokio::test]
async fn one_room_whatever_is_spoken() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "page", 1).await;
    let mut ben = Session::join(server.address, "page").await;
    let mut writer = Replica::new(2);
    ben.emit("page", "sync-update", None, &writer.write("by Ben"))
        .await;
    ada.until_text("by Ben").await;
    ben.emit(
        "page",
        "awareness-update",
        None,
        &presence_update(2, 1, &json!({ "name": "Ben" })),
    )
    .await;
    ada.until_shown(2, Some(&json!({ "name": "Ben" }))).await;
    ada.show(&json!({ "name": "Ada" })).await;
    let shown = ben.event("page", "awareness-update").await;
    assert!(String::from_utf8_lossy(&shown).contains("Ben"));
    let shown = ben.event("page", "awareness-update").await;
    assert!(String::from_utf8_lossy(&shown).contains("Ada"));
    ada.write_durably("by Ada").await;
    writer.receive(&ben.event("page", "sync-update").await);
    assert!(writer.text().contains("by Ada") && writer.text().contains("by Ben"));
    // The connection dies: nobody haunts the page.
    drop(ben);
    ada.until_shown(2, None).await;
}

#[tokio::test]
async fn an_update_is_answered_when_it_is_stored_and_not_before() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut reader = Client::join(&server, "page", 2).await;
    let mut session = Session::join(server.address, "page").await;
    let mut writer = Replica::new(1);
    store.writing(Weather::Hanging);
    session
        .emit("page", "sync-update", Some(4), &writer.write("not yet"))
        .await;
    reader.until_text("not yet").await;
    // This one is answered behind the first one, however early its fate is known.
    session.emit("page", "sync-update", Some(5), &[9, 9, 9]).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(300), session.hear())
            .await
            .is_err(),
        "nothing is answered before it is stored, nor is the author told its own words"
    );
    store.writing(Weather::Fine);
    assert_eq!(session.text().await, "43/yjs|page,4[{\"ok\":true,\"seq\":1}]");
    let refused = session.text().await;
    assert!(
        refused.starts_with("43/yjs|page,5[{") && refused.contains("\"code\":\"malformed\""),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_said_while_the_page_is_opened_is_heard() {
    let server = TestServer::start(&[]).await;
    let mut writer = Replica::new(1);
    let mut session = Session::open(server.address).await;
    session.say("40/yjs|page,").await;
    for word in ["said ", "in ", "one ", "breath"] {
        session
            .emit("page", "sync-update", None, &writer.write(word))
            .await;
    }
    session.emit("page", "sync-step-1", Some(0), &[0]).await;
    assert!(session.text().await.starts_with("40/yjs|page,{"));
    assert_eq!(text_of(&session.answer("page", 0).await), "said in one breath");
}

#[tokio::test]
async fn events_of_one_session_are_taken_in_order() {
    const WORDS: usize = 2_000;
    let server = TestServer::start(&[]).await;
    let mut reader = Client::join(&server, "page", 2).await;
    let mut session = Session::join(server.address, "page").await;
    let mut writer = Replica::new(1);
    let mut expected = String::new();
    for word in 0..WORDS {
        let word = format!("{word} ");
        session
            .emit("page", "sync-update", None, &writer.write(&word))
            .await;
        expected.push_str(&word);
    }
    reader.until_text(&expected).await;
    assert_eq!(
        reader.asked, 1,
        "nothing came early, so nothing had to be asked for"
    );
}

#[tokio::test]
async fn a_reader_that_stalls_gets_one_diff_instead_of_a_queue() {
    const ROUNDS: usize = 400;
    let server = TestServer::start(&["--max-outbox-bytes", "65536"]).await;
    let mut slow = Session::join(server.address, "page").await;
    let mut writer = Client::join(&server, "page", 1).await;
    let chunk = "x".repeat(64 * 1024);
    let mut written = 0;
    for _ in 0..ROUNDS {
        writer.write_durably(&chunk).await;
        written += chunk.len();
    }
    let mut copy = Replica::new(3);
    while copy.text().len() < written {
        copy.receive(&slow.event("page", "sync-update").await);
    }
    assert!(copy.is_whole(), "nothing is missing in between");
    assert!(
        server.metric("pageroom_resyncs_total").await.unwrap_or(0.0) >= 1.0,
        "it had fallen behind"
    );
}

#[tokio::test]
async fn who_may_not_is_told_why_and_read_only_members_change_nothing() {
    let server = TestServer::start(&["--jwt-secret", SECRET]).await;
    let mut session = Session::open(server.address).await;
    session.say("40/yjs|page,").await;
    assert_eq!(
        session.text().await,
        concat!(
            "44/yjs|page,{\"message\":\"Authentication error: No token provided\",",
            "\"data\":{\"code\":\"unauthenticated\",\"retryable\":false}}"
        )
    );
    session.say("40/elsewhere,").await;
    assert_eq!(
        session.text().await,
        "44/elsewhere,{\"message\":\"Invalid namespace\"}"
    );
    let eve = token("eve", &json!({ "page": "view" }));
    session
        .say(&format!("40/yjs|other,{{\"token\":\"{eve}\"}}"))
        .await;
    assert_eq!(
        session.text().await,
        concat!(
            "44/yjs|other,{\"message\":\"you have no access to this page\",",
            "\"data\":{\"code\":\"forbidden\",\"retryable\":false}}"
        )
    );
    session.say(&format!("40/yjs|page,{{\"token\":\"{eve}\"}}")).await;
    assert!(session.text().await.starts_with("40/yjs|page,{\"sid\":"));
    session.event("page", "sync-step-1").await;
    session
        .emit("page", "sync-update", None, &Replica::new(1).write("by Eve"))
        .await;
    let refusal = session.text().await;
    assert!(
        refusal.starts_with("42/yjs|page,[\"error\",") && refusal.contains("\"code\":\"read_only\""),
        "{refusal}"
    );
    session.emit("page", "sync-step-1", Some(1), &[0]).await;
    assert_eq!(session.answer("page", 1).await, [0, 0].as_slice());
    session
        .emit("page", "sync-update", Some(2), &Replica::new(1).write("by Eve"))
        .await;
    let refusal = session.text().await;
    assert!(
        refusal.starts_with("43/yjs|page,2[") && refusal.contains("\"code\":\"read_only\""),
        "{refusal}"
    );
}

#[tokio::test]
async fn nonsense_ends_the_session_with_a_reason() {
    let server = TestServer::start(&[]).await;
    for nonsense in ["4abc", "x", "42/yjs|page,[\"sync-update\"]", "42[\"a\"]", "45-"] {
        let mut session = Session::open(server.address).await;
        session.say(nonsense).await;
        let closed = session.closed().await;
        assert_eq!(closed.code, 4400, "{nonsense}: {closed:?}");
    }
    let mut session = Session::join(server.address, "page").await;
    session.emit("page", "sync-update", None, &[9, 9, 9]).await;
    assert!(session.text().await.contains("\"code\":\"malformed\""));
    assert_eq!(session.text().await, "41/yjs|page,");
}

#[tokio::test]
async fn a_session_in_no_namespace_has_only_so_long() {
    let server = TestServer::start(&["--jwt-secret", SECRET, "--auth-timeout-seconds", "1"]).await;
    let mut silent = Session::open(server.address).await;
    let mut denied = Session::open(server.address).await;
    denied.say("40/yjs|page,").await;
    assert!(denied.text().await.starts_with("44/yjs|page,"));
    assert_eq!(silent.closed().await.code, 4401);
    assert_eq!(denied.closed().await.code, 4401);
}

#[tokio::test]
async fn fifty_thousand_refused_connects_leave_nothing() {
    // In a process of its own: what else this one does takes memory as well. Notes of refusals are kept on purpose, and in a store in
    // memory they would count.
    let server = Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_AUDIT_RETENTION_DAYS", "0"),
    ]);
    let address = server.address().await;
    refuse(address, 20).await;
    let before = resident_bytes(&server);
    refuse(address, 500).await;
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 12 << 20, "{grown} bytes more");
    until("all connections to be gone", async || {
        let metrics = get(address, "/metrics").await;
        metrics.text().contains("pageroom_connections_open 0")
    })
    .await;
}

/// Has 100 namespaces each refused on so many sessions; with the next one a session is ended.
async fn refuse(address: SocketAddr, sessions: usize) {
    for number in 0..sessions {
        let mut session = Session::open(address).await;
        for name in 0..100 {
            session.say(&format!("40/yjs|{number}-{name},")).await;
        }
        for _ in 0..100 {
            assert!(session.text().await.starts_with("44/yjs|"));
        }
        session.say("40/yjs|more,").await;
        assert_eq!(session.closed().await.code, 4401);
    }
}

fn resident_bytes(server: &Process) -> usize {
    let pages = fs::read_to_string(format!("/proc/{}/statm", server.id())).expect("Linux");
    let resident = pages.split(' ').nth(1).expect("a number").parse::<usize>();
    resident.expect("a number") * 4096
}

#[tokio::test]
async fn whoever_does_not_ask_is_asked_all_the_same() {
    let server = TestServer::start(&[]).await;
    let mut silent = Session::open(server.address).await;
    silent.say("40/yjs|page,").await;
    assert!(silent.text().await.starts_with("40/yjs|page,"));
    assert_eq!(silent.event("page", "sync-step-1").await, [0].as_slice());
}

#[tokio::test]
async fn the_address_may_lack_its_last_slash() {
    let server = TestServer::start(&[]).await;
    let opened = get(server.address, "/socket.io?EIO=4&transport=polling").await;
    assert_eq!(opened.status, 200);
    assert!(opened.text().starts_with("0{\"sid\":"), "{}", opened.text());
}

#[tokio::test]
async fn who_cannot_be_let_in_for_a_while_is_hung_up_on_so_that_it_comes_back() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    store.opening(Weather::Failing(Fault::Unavailable));
    let mut session = Session::open(server.address).await;
    session.say("40/yjs|page,").await;
    // A client that a namespace refuses stays away for good.
    let heard = session.hear().await;
    assert!(matches!(heard, Heard::Closed(_)), "{heard:?}");
    store.opening(Weather::Fine);
    let mut session = Session::open(server.address).await;
    session.say("40/yjs|page,").await;
    session.until_text("40/yjs|page,{\"sid\":").await;
}

#[tokio::test]
async fn a_full_page_does_not_end_the_others_of_a_connection() {
    let server = TestServer::start(&["--max-connections-per-room", "1"]).await;
    let _ada = Client::join(&server, "full", 1).await;
    let mut session = Session::join(server.address, "mine").await;
    let mut writer = Replica::new(2);
    for number in [7, 8] {
        session.say("40/yjs|full,").await;
        session.until_text("room_full").await;
        session.until_text("41/yjs|full,").await;
        session
            .emit("mine", "sync-update", Some(number), &writer.write("x"))
            .await;
        session
            .until_text(&format!("43/yjs|mine,{number}[{{\"ok\":true"))
            .await;
    }
}
