//! Hocuspocus as its providers expect it: who is let in, what is counted and when, what is refused, and many pages on one socket.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::json;
use storage::testing::Fault;

use crate::support::{
    client::{Client, presence_update},
    http::{get, post, send},
    provider::{Provider, Word, framed},
    replica::{Replica, deletion, insertion, text_of},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket::Closed,
    store::{SwitchedStore, Weather},
    token::{SECRET, claims, seconds_from_now, sign, token},
};

const NOTHING: &[u8] = &[0, 0];

async fn locked(more: &[&str]) -> TestServer {
    let flags = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];
    TestServer::start(&[&flags[..], more].concat()).await
}

fn assert_closed(closed: &Closed, code: u16, reason: &str) {
    assert_eq!(closed.code, code, "{closed:?}");
    assert!(closed.reason.starts_with(&format!("{reason}: ")), "{closed:?}");
}

fn denied_for(word: &Word, code: &str) -> bool {
    matches!(word, Word::Denied(reason) if reason.starts_with(&format!("{code}: ")))
}

async fn text(server: &TestServer, page: &str) -> String {
    let answer = get(server.address, &format!("/api/pages/{page}/content?format=text")).await;
    match answer.status {
        StatusCode::OK => answer.text().to_owned(),
        _ => String::new(),
    }
}

#[tokio::test]
async fn a_provider_is_let_in_asked_and_answered_in_this_order() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "d", 1).await;
    ada.write_durably("hello").await;
    ada.show(&json!({ "name": "Ada" })).await;
    ada.until_shown(1, Some(&json!({ "name": "Ada" }))).await;

    let mut provider = Provider::open(&server).await;
    // Everything at once, as providers do.
    provider.show_token_and_version("d", "").await;
    provider.say("d", &[0, 0, 1, 0]).await;
    provider
        .show("d", &presence_update(2, 1, &json!({ "name": "Bob" })))
        .await;
    let mut words = Vec::new();
    for _ in 0..4 {
        let (address, word) = provider.hear().await.expect("an answer");
        assert_eq!(address, "d");
        words.push(word);
    }
    assert_eq!(words[0], Word::LetIn("read-write".to_owned()));
    assert_eq!(words[1], Word::Step1(Bytes::from_static(&[1, 1, 5])));
    let step_2 = words.iter().position(|word| matches!(word, Word::Step2(_)));
    let awareness = words.iter().position(|word| matches!(word, Word::Awareness(_)));
    assert!(step_2.is_some() && awareness.is_some(), "{words:?}");
    provider.step_2("d", NOTHING).await;
    assert_eq!(provider.statuses("d", 1).await, [1]);
    ada.until_shown(2, Some(&json!({ "name": "Bob" }))).await;
}

#[tokio::test]
async fn any_path_below_the_address_will_do() {
    let server = TestServer::start(&[]).await;
    for path in [
        "/hocuspocus",
        "/hocuspocus/",
        "/hocuspocus/any/thing?x=1",
        "/hocuspocus?x=1",
    ] {
        let mut provider = Provider::open_at(server.address, path).await;
        provider.enter("d", "").await;
    }
}

#[tokio::test]
async fn each_step_2_and_each_edit_has_one_status_in_order_after_the_commit() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut bob = Client::join(&server, "d", 2).await;
    let mut provider = Provider::join(&server, "d").await;
    let mut ada = Replica::new(1);

    store.writing(Weather::Hanging);
    for word in ["a", "b", "c"] {
        provider.edit("d", &ada.write(word)).await;
    }
    provider.step_2("d", NOTHING).await;
    bob.until_text("abc").await;
    provider
        .show("d", &presence_update(1, 1, &json!({ "name": "Ada" })))
        .await;
    // Presence comes behind everything that has been queued.
    let shows = |word: &Word| matches!(word, Word::Awareness(shown) if !shown.ends_with(&[0]));
    provider.until("d", shows).await;
    assert_eq!(
        provider.told("d"),
        [],
        "nothing is acknowledged before it is stored"
    );

    store.writing(Weather::Failing(Fault::Unavailable));
    bob.write("x").await;
    store.writing(Weather::Fine);
    assert_eq!(provider.statuses("d", 4).await, [1, 1, 1, 1]);
    bob.until_acknowledged().await;
    provider.settle("d").await;
    let told = provider.told("d");
    assert!(
        matches!(&told[..], [Word::Update(_)]),
        "no more than one status each, and nothing of her own: {told:?}"
    );
    assert_eq!(text(&server, "d").await.len(), 4);
}

#[tokio::test]
async fn what_may_not_be_changed_is_refused_one_by_one() {
    let server = locked(&[]).await;
    let mut ada = Client::join_at(
        server.address,
        &format!("/ws/d?token={}", token("ada", &json!({ "d": "edit" }))),
        1,
    )
    .await;
    ada.write_durably("hello").await;
    let mut eve = Provider::open(&server).await;
    eve.show_role("d", "eve", "view").await;
    eve.until("d", |word| *word == Word::LetIn("readonly".to_owned()))
        .await;
    eve.step_2("d", &insertion(1, 0, "hello")).await;
    eve.edit("d", &insertion(7, 0, "evil")).await;
    eve.step_2("d", &insertion(7, 0, "evil")).await;
    eve.step_2("d", &deletion(1, 0, 2)).await;
    eve.edit("d", &deletion(1, 0, 2)).await;
    eve.step_2("d", NOTHING).await;
    assert_eq!(eve.statuses("d", 6).await, [1, 0, 0, 0, 0, 1]);
    ada.write_durably(" there").await;
    assert_eq!(ada.replica.text(), "hello there");
}

#[tokio::test]
async fn an_edit_that_cannot_be_read_is_refused_and_closes_its_page() {
    let server = TestServer::start(&[]).await;
    let mut provider = Provider::open(&server).await;
    provider.show_token_and_version("d", "").await;
    provider.show_token_and_version("e", "").await;
    for page in ["d", "e"] {
        provider.until(page, |word| matches!(word, Word::LetIn(_))).await;
    }
    provider.edit("d", &[9, 9, 9, 9]).await;
    provider
        .until(
            "d",
            |word| matches!(word, Word::Closed(reason) if reason.starts_with("malformed: ")),
        )
        .await;
    assert_eq!(
        provider.told("d"),
        [Word::Status(0)],
        "it is said before, and nothing else"
    );
    // The other page is unharmed, and this one can be entered again.
    provider.edit("e", &insertion(1, 0, "fine")).await;
    assert_eq!(provider.statuses("e", 1).await, [1]);
    provider.enter("d", "").await;
    provider.edit("d", &insertion(1, 0, "fine")).await;
    assert_eq!(provider.statuses("d", 1).await, [1]);
}

#[tokio::test]
async fn the_last_page_that_is_closed_takes_the_socket_with_it() {
    let server = TestServer::start(&[]).await;
    let mut provider = Provider::join(&server, "d").await;
    provider.edit("d", &[9, 9, 9, 9]).await;
    assert_closed(&provider.closed().await, 4400, "malformed");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_by_its_page_and_the_others_go_on() {
    let server = TestServer::start(&["--max-message-bytes", "100000"]).await;
    let mut provider = Provider::open(&server).await;
    for page in ["d", "e"] {
        provider.show_token_and_version(page, "").await;
        provider.until(page, |word| matches!(word, Word::LetIn(_))).await;
    }
    let too_long = insertion(1, 0, &"x".repeat(3_000_000));
    provider.edit("d", &too_long).await;
    provider.edit("e", &insertion(1, 0, "fine")).await;
    provider.edit("d", &insertion(2, 0, "under way")).await;
    provider.edit("d", &too_long).await;
    let is_closed = |word: &Word| matches!(word, Word::Closed(reason) if reason.starts_with("too_large: "));
    provider.until("d", is_closed).await;
    assert_eq!(provider.statuses("e", 1).await, [1]);
    assert_eq!(
        provider.statuses("d", 1).await,
        [0],
        "it was sent to a page that is closed"
    );
    provider.enter("d", "").await;
    provider.edit("d", &insertion(1, 0, "short")).await;
    assert_eq!(provider.statuses("d", 1).await, [1]);
    assert_eq!(text(&server, "d").await, "short");
    assert_eq!(text(&server, "e").await, "fine");

    let mut alone = Provider::join(&server, "d").await;
    alone.edit("d", &too_long).await;
    assert_closed(&alone.closed().await, 4413, "too_large");
}

#[tokio::test]
async fn a_page_that_takes_too_long_to_open_is_refused() {
    let store = SwitchedStore::new(empty_store().await);
    let flags = ["--keepalive-seconds", "1", "--connection-timeout-seconds", "2"];
    let server = TestServer::start_on(store.clone(), &flags).await;
    store.opening(Weather::Hanging);
    let mut provider = Provider::open(&server).await;
    provider.show_token("d", "").await;
    // Providers come back by themselves to a new socket.
    assert_closed(&provider.closed().await, 1013, "unavailable");
}

#[tokio::test]
async fn frames_that_are_no_message_end_the_socket() {
    let server = TestServer::start(&[]).await;
    for frame in [
        vec![],
        vec![1, b'd'],
        vec![5, b'd'],
        vec![1, 0xff, 3],
        framed("d", &[6, 2, b'h', b'i']),
        framed("d", &[11]),
        framed("d", &[0, 2, 9, 0]),
        framed("d", &[3, 3]),
    ] {
        let mut provider = Provider::join(&server, "d").await;
        provider.socket.say(frame).await;
        assert_closed(&provider.closed().await, 4400, "malformed");
    }
    let mut provider = Provider::join(&server, "d").await;
    provider.socket.say_text("hello").await;
    assert_closed(&provider.closed().await, 4400, "malformed");
}

#[tokio::test]
async fn pages_of_one_socket_are_let_in_each_for_itself() {
    let server = locked(&[]).await;
    let mut provider = Provider::open(&server).await;
    provider.show_role("mine", "ada", "edit").await;
    provider.show_role("hers", "eve", "view").await;
    let elsewhere = token("ada", &json!({ "mine": "edit" }));
    provider.show_token("other", &elsewhere).await;
    provider.show_token("nobody", "").await;
    provider
        .until("mine", |word| *word == Word::LetIn("read-write".to_owned()))
        .await;
    provider
        .until("hers", |word| *word == Word::LetIn("readonly".to_owned()))
        .await;
    provider
        .until("other", |word| denied_for(word, "forbidden"))
        .await;
    provider
        .until("nobody", |word| denied_for(word, "unauthenticated"))
        .await;
    // What is said in vain is refused, not dropped.
    provider.edit("other", &insertion(1, 0, "x")).await;
    assert_eq!(provider.statuses("other", 1).await, [0]);
    // Whoever was denied may come again on the same socket.
    provider.show_role("other", "ada", "edit").await;
    provider
        .until("other", |word| matches!(word, Word::LetIn(_)))
        .await;
    provider.edit("other", &insertion(1, 0, "x")).await;
    assert_eq!(provider.statuses("other", 1).await, [1]);
}

#[tokio::test]
async fn the_token_of_the_handshake_counts_where_none_is_given() {
    let server = locked(&[]).await;
    let token = token("ada", &json!({ "d": "edit" }));
    let mut provider = Provider::open_at(server.address, &format!("/hocuspocus?token={token}")).await;
    provider.enter("d", "").await;
    provider.show_token("e", "").await;
    provider.until("e", |word| denied_for(word, "forbidden")).await;
}

#[tokio::test]
async fn the_oldest_providers_without_a_token_begin_with_step_1() {
    let open = TestServer::start(&[]).await;
    let mut provider = Provider::open(&open).await;
    provider.say("d", &[0, 0, 1, 0]).await;
    provider.until("d", |word| matches!(word, Word::LetIn(_))).await;
    provider.until("d", |word| matches!(word, Word::Step2(_))).await;
    let locked = locked(&[]).await;
    let mut provider = Provider::open(&locked).await;
    provider.say("d", &[0, 0, 1, 0]).await;
    provider
        .until("d", |word| denied_for(word, "unauthenticated"))
        .await;
    let token = token("ada", &json!({ "d": "edit" }));
    let mut provider = Provider::open_at(locked.address, &format!("/hocuspocus?token={token}")).await;
    provider.say("d", &[0, 0, 1, 0]).await;
    provider.until("d", |word| matches!(word, Word::LetIn(_))).await;
}

#[tokio::test]
async fn a_stranger_can_make_the_server_keep_only_so_much() {
    let server = locked(&[]).await;
    let mut patient = Provider::open(&server).await;
    for _ in 0..100 {
        patient.say("d", &[3]).await;
    }
    patient.show_role("d", "ada", "edit").await;
    patient.until("d", |word| matches!(word, Word::LetIn(_))).await;

    let mut talkative = Provider::open(&server).await;
    for page in 0..101 {
        talkative.say(&format!("page {}", page % 7), &[3]).await;
    }
    assert_closed(&talkative.closed().await, 4401, "unauthenticated");

    let mut loud = Provider::open(&server).await;
    for _ in 0..2 {
        loud.edit("d", &vec![0; 600_000]).await;
    }
    assert_closed(&loud.closed().await, 4401, "unauthenticated");
    let mut loud = Provider::open(&server).await;
    loud.edit("d", &vec![0; (1 << 20) + 1]).await;
    assert_closed(&loud.closed().await, 4413, "too_large");
}

#[tokio::test]
async fn a_stranger_has_only_so_long() {
    let server = locked(&["--auth-timeout-seconds", "1"]).await;
    let mut silent = Provider::open(&server).await;
    let mut denied = Provider::open(&server).await;
    denied.show_token("d", "nonsense").await;
    let mut known = Provider::open(&server).await;
    known.show_role("d", "ada", "edit").await;
    known.say("late", &[3]).await;
    assert_closed(&silent.closed().await, 4401, "unauthenticated");
    assert_closed(&denied.closed().await, 4401, "unauthenticated");
    known
        .until("late", |word| denied_for(word, "unauthenticated"))
        .await;
    known.settle("d").await;
}

#[tokio::test]
async fn only_so_many_pages_fit_on_a_socket() {
    let server = TestServer::start(&["--max-pages-per-connection", "2"]).await;
    let mut provider = Provider::join(&server, "a").await;
    provider.enter("b", "").await;
    provider.show_token("c", "").await;
    provider.until("c", |word| denied_for(word, "rate_limited")).await;
    provider.take_leave("a").await;
    provider.enter("c", "").await;
}

#[tokio::test]
async fn what_cannot_be_a_page_is_denied() {
    let server = TestServer::start(&[]).await;
    let mut provider = Provider::join(&server, "d").await;
    for bad in ["", "a/../b", "a\u{1}b", "\0session"] {
        provider.show_token(bad, "").await;
        provider.until(bad, |word| denied_for(word, "malformed")).await;
    }
    provider.settle("d").await;
}

#[tokio::test]
async fn a_user_has_only_so_many_sockets() {
    let server = locked(&["--max-connections-per-user", "1"]).await;
    let mut first = Provider::open(&server).await;
    first.show_role("d", "ada", "edit").await;
    first.show_role("e", "ada", "edit").await;
    first.until("e", |word| matches!(word, Word::LetIn(_))).await;
    let mut second = Provider::open(&server).await;
    second.show_role("d", "ada", "edit").await;
    second.until("d", |word| denied_for(word, "rate_limited")).await;
    second.show_role("d", "bob", "edit").await;
    second.until("d", |word| matches!(word, Word::LetIn(_))).await;
}

#[tokio::test]
async fn sessions_of_one_page_are_addressed_each_by_its_own_name() {
    let server = TestServer::start(&[]).await;
    let mut provider = Provider::open(&server).await;
    for address in ["d\0one", "d\0two", "d"] {
        provider.enter(address, "").await;
    }
    let mut ada = Replica::new(1);
    let long = "x".repeat(200_000);
    for word in ["hello ", &long] {
        let update = ada.write(word);
        provider.edit("d\0one", &update).await;
        assert_eq!(provider.statuses("d\0one", 1).await, [1]);
        for other in ["d\0two", "d"] {
            let word = provider
                .until(other, |word| matches!(word, Word::Update(_)))
                .await;
            assert_eq!(word, Word::Update(update.clone()));
        }
    }
    let mut late = Provider::open(&server).await;
    late.show_token("d\0three", "").await;
    late.say("d\0three", &[0, 0, 1, 0]).await;
    let word = late
        .until("d\0three", |word| matches!(word, Word::Step2(_)))
        .await;
    assert!(matches!(word, Word::Step2(all) if text_of(&all).len() == 200_006));
    // One session leaves, the other stays.
    provider.take_leave("d\0two").await;
    provider.edit("d\0one", &ada.write("!")).await;
    provider.until("d", |word| matches!(word, Word::Update(_))).await;
    assert_eq!(provider.statuses("d\0one", 1).await, [1]);
    assert_eq!(provider.told("d\0two"), []);
}

#[tokio::test]
async fn a_token_is_refreshed_in_place() {
    let server = locked(&[]).await;
    let lasting = |seconds: i64| {
        // The server gives 15 seconds of leeway.
        let mut claims = claims("ada", &json!({ "d": "edit" }));
        claims["exp"] = json!(seconds_from_now(seconds - 15));
        sign(&claims, SECRET, Algorithm::HS256)
    };
    let mut provider = Provider::open(&server).await;
    provider.enter("d", &lasting(2)).await;
    provider.until("d", |word| *word == Word::TokenRequest).await;
    provider.show_token("d", &lasting(3)).await;
    provider.until("d", |word| matches!(word, Word::LetIn(_))).await;
    // The seat is the same one: what it says goes on being counted, and nothing is said twice.
    provider.edit("d", &insertion(1, 0, "x")).await;
    assert_eq!(provider.statuses("d", 1).await, [1]);
    provider.until("d", |word| *word == Word::TokenRequest).await;
    assert_closed(&provider.closed().await, 4401, "token_expired");

    // Somebody else's token is no refresh.
    let mut provider = Provider::open(&server).await;
    provider.enter("d", &lasting(60)).await;
    provider.show_role("d", "eve", "edit").await;
    assert_closed(&provider.closed().await, 4403, "forbidden");
}

#[tokio::test]
async fn whoever_leaves_a_page_is_answered_and_withdrawn_and_may_come_back() {
    let server = TestServer::start(&[]).await;
    let mut bob = Client::join(&server, "d", 2).await;
    let mut provider = Provider::join(&server, "d").await;
    provider.enter("e", "").await;
    let shown = json!({ "name": "Ada" });
    provider.show("d", &presence_update(1, 1, &shown)).await;
    bob.until_shown(1, Some(&shown)).await;
    provider.edit("d", &insertion(1, 0, "last words")).await;
    provider.take_leave("d").await;
    bob.until_shown(1, None).await;
    bob.until_text("last words").await;
    provider.settle("e").await;
    provider.enter("d", "").await;
    // Leaving what one is not in harms nobody.
    provider.take_leave("f").await;
}

#[tokio::test]
async fn presence_can_be_cleared_everywhere() {
    let server = TestServer::start(&[]).await;
    let mut bob = Client::join(&server, "d", 2).await;
    let mut carol = Provider::join(&server, "d").await;
    let mut provider = Provider::join(&server, "d").await;
    let shown = json!({ "name": "Ada" });
    provider.show("d", &presence_update(1, 1, &shown)).await;
    bob.until_shown(1, Some(&shown)).await;
    provider.show("d", &presence_update(1, 2, &json!(null))).await;
    bob.until_shown(1, None).await;
    carol
        .until(
            "d",
            |word| matches!(word, Word::Awareness(update) if update.ends_with(b"\x04null")),
        )
        .await;
    let mut late = Client::join(&server, "d", 3).await;
    late.show(&json!({ "name": "late" })).await;
    late.until_shown(3, Some(&json!({ "name": "late" }))).await;
    assert_eq!(late.presence.state(1), None);
}

#[tokio::test]
async fn a_socket_that_breaks_withdraws_everybody_on_it() {
    let server = TestServer::start(&["--presence-grace-seconds", "0"]).await;
    let mut bob = Client::join(&server, "d", 9).await;
    let mut provider = Provider::join(&server, "d\0one").await;
    provider.enter("d\0two", "").await;
    for (address, client) in [("d\0one", 1), ("d\0two", 2)] {
        let shown = json!({ "client": client });
        provider.show(address, &presence_update(client, 1, &shown)).await;
        bob.until_shown(client, Some(&shown)).await;
    }
    provider.socket.cut();
    bob.until_shown(1, None).await;
    bob.until_shown(2, None).await;
}

#[tokio::test]
async fn text_and_cursors_cross_to_other_protocols_and_back() {
    let server = TestServer::start(&[]).await;
    let mut bob = Client::join(&server, "d", 2).await;
    let mut provider = Provider::join(&server, "d").await;
    let mut ada = Replica::new(1);
    provider.edit("d", &ada.write("from Ada")).await;
    bob.until_text("from Ada").await;
    let update = bob.replica.write(", from Bob");
    bob.send(&update).await;
    let word = provider.until("d", |word| matches!(word, Word::Update(_))).await;
    assert_eq!(word, Word::Update(update));
    bob.show(&json!({ "cursor": 3 })).await;
    let shows = |word: &Word| matches!(word, Word::Awareness(shown) if shown.ends_with(br#"{"cursor":3}"#));
    provider.until("d", shows).await;
    bob.until_acknowledged().await;
}

#[tokio::test]
async fn what_is_said_while_the_page_is_loading_is_heard() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    store.reading(Weather::Hanging);
    let mut provider = Provider::open(&server).await;
    provider.show_token("d", "").await;
    let mut ada = Replica::new(1);
    // More than a stranger may say, but she is no stranger.
    for _ in 0..300 {
        provider.edit("d", &ada.write("x")).await;
    }
    store.reading(Weather::Fine);
    provider.until("d", |word| matches!(word, Word::LetIn(_))).await;
    assert_eq!(provider.statuses("d", 300).await, vec![1; 300]);
    assert_eq!(text(&server, "d").await, "x".repeat(300));
}

#[tokio::test]
async fn whoever_types_and_leaves_before_the_page_is_there_has_typed() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    store.reading(Weather::Hanging);
    let mut provider = Provider::open(&server).await;
    provider.show_token("d", "").await;
    provider.edit("d", &insertion(1, 0, "last words")).await;
    provider.socket.leave().await;
    store.reading(Weather::Fine);
    let mut bob = Client::join(&server, "d", 2).await;
    bob.until_text("last words").await;
}

#[tokio::test]
async fn a_page_that_cannot_be_loaded_makes_the_provider_come_back() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    store.reading(Weather::Failing(Fault::Unavailable));
    let mut provider = Provider::open(&server).await;
    provider.show_token("d", "").await;
    assert_closed(&provider.closed().await, 1013, "unavailable");
}

#[tokio::test]
async fn a_silent_socket_is_kept_alive_with_what_its_provider_understands() {
    let server = TestServer::start(&["--keepalive-seconds", "1"]).await;
    let mut old = Provider::join(&server, "d").await;
    let mut new = Provider::open(&server).await;
    new.show_token_and_version("d", "").await;
    old.until(
        "d",
        |word| matches!(word, Word::Awareness(update) if update[..] == [0]),
    )
    .await;
    new.until("", |word| *word == Word::Ping).await;
    new.socket.say(&[10][..]).await;
    new.socket.say(&[9][..]).await;
    new.until("", |word| *word == Word::Pong).await;
    new.settle("d").await;
}

#[tokio::test]
async fn what_is_said_beside_the_page_reaches_those_who_may_comment_and_the_backend_may_speak() {
    let server = locked(&[]).await;
    let mut people = Vec::new();
    for (user, role) in [("ada", "edit"), ("bob", "comment"), ("eve", "view")] {
        let mut provider = Provider::open(&server).await;
        provider.show_role("d", user, role).await;
        provider.until("d", |word| matches!(word, Word::LetIn(_))).await;
        people.push(provider);
    }
    let [ada, bob, eve] = &mut people[..] else {
        panic!("three people")
    };
    let is = |text: &'static str| move |word: &Word| *word == Word::Stateless(text.to_owned());
    bob.say_stateless("d", "from Bob").await;
    ada.until("d", is("from Bob")).await;
    eve.say_stateless("d", "from Eve").await;
    eve.settle("d").await;

    let path = "/api/pages/d/stateless";
    let said = async |token: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        send(
            server.address,
            Method::POST,
            path,
            &headers,
            body.to_owned().into(),
        )
        .await
    };
    let answer = said(ADMIN_TOKEN, r#"{"payload":"from the backend"}"#).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json(), json!({ "delivered": 2 }));
    for hearer in [&mut *ada, &mut *bob] {
        hearer.until("d", is("from the backend")).await;
        hearer.settle("d").await;
        assert_eq!(hearer.told("d"), [], "neither one's own words nor a viewer's");
    }
    eve.settle("d").await;
    assert_eq!(eve.told("d"), []);

    let viewer = token("eve", &json!({ "d": "view" }));
    assert_eq!(said(&viewer, r#"{"payload":"x"}"#).await.error(), "read_only");
    assert_eq!(said(ADMIN_TOKEN, r#"{"text":"x"}"#).await.error(), "malformed");
    assert_eq!(
        post(server.address, path, r#"{"payload":"x"}"#).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_stop_tells_everybody_to_come_back_also_those_in_no_page() {
    let server = TestServer::start(&[]).await;
    let mut busy = Provider::join(&server, "d").await;
    busy.enter("e", "").await;
    let mut idle = Provider::join(&server, "d").await;
    idle.take_leave("d").await;
    let stopping = tokio::spawn(server.stop());
    assert_closed(&busy.closed().await, 1012, "draining");
    assert_closed(&idle.closed().await, 1012, "draining");
    let stopped = tokio::time::timeout(Duration::from_secs(5), stopping).await;
    assert!(stopped.expect("a stop in time").expect("a server"));
}

#[tokio::test]
async fn a_slow_reader_of_one_page_gets_everything_in_the_end() {
    let server = TestServer::start(&["--max-outbox-bytes", "20000"]).await;
    let mut slow = Provider::join(&server, "d").await;
    let mut bob = Client::join(&server, "d", 2).await;
    for _ in 0..200 {
        bob.write(&"y".repeat(50_000)).await;
    }
    bob.until_acknowledged().await;
    let mut replica = Replica::new(3);
    while replica.text().len() < 200 * 50_000 {
        if let (_, Word::Update(update) | Word::Step2(update)) = slow.hear().await.expect("a connection") {
            replica.receive(&update);
        }
    }
    assert!(replica.is_whole());
}

#[tokio::test]
async fn an_edit_survives_one_failing_call_of_the_store_and_its_author() {
    let durable = empty_store().await;
    let store = SwitchedStore::new(durable.clone());
    let server = TestServer::start_on(store.clone(), &["--room-idle-seconds", "0"]).await;
    let mut provider = Provider::join(&server, "d").await;
    store.writing(Weather::Failing(Fault::Unavailable));
    provider.edit("d", &insertion(1, 0, "kept")).await;
    // The last member goes while nothing is stored.
    provider.settle("d").await;
    assert_eq!(provider.told("d"), [], "nothing is acknowledged");
    provider.socket.leave().await;
    store.writing(Weather::Fine);
    crate::support::until("the edit to be stored", async || {
        text(&server, "d").await == "kept"
    })
    .await;
    server.stop().await;
    let again = TestServer::start_on(durable, &[]).await;
    assert_eq!(text(&again, "d").await, "kept");
}

#[tokio::test]
async fn those_who_come_while_a_page_is_loading_meet_in_one_document() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    store.reading(Weather::Hanging);
    let mut providers = Vec::new();
    for author in 1..=5_u64 {
        let mut provider = Provider::open(&server).await;
        provider.show_token("d", "").await;
        provider.edit("d", &insertion(author, 0, "x")).await;
        provider.say("d", &[0, 0, 1, 0]).await;
        providers.push(provider);
    }
    store.reading(Weather::Fine);
    for provider in &mut providers {
        assert_eq!(provider.statuses("d", 1).await, [1]);
    }
    assert_eq!(text(&server, "d").await, "xxxxx");
    let (bob, others) = providers.split_first_mut().expect("five");
    bob.edit("d", &insertion(1, 1, "y")).await;
    for other in others {
        other
            .until(
                "d",
                |word| matches!(word, Word::Update(update) if update.ends_with(b"y\0")),
            )
            .await;
    }
}

#[tokio::test]
async fn somebody_elses_presence_cannot_be_overwritten() {
    let server = TestServer::start(&[]).await;
    let mut ada = Client::join(&server, "d", 1).await;
    let mut bob = Client::join(&server, "d", 2).await;
    let shown = json!({ "name": "Ada" });
    ada.show(&shown).await;
    bob.until_shown(1, Some(&shown)).await;
    let mut mallory = Provider::join(&server, "d").await;
    mallory
        .show("d", &presence_update(1, 50, &json!({ "name": "FAKE" })))
        .await;
    mallory.show("d", &presence_update(1, 51, &json!(null))).await;
    let own = json!({ "name": "Mallory" });
    mallory.show("d", &presence_update(9, 1, &own)).await;
    bob.until_shown(9, Some(&own)).await;
    assert_eq!(bob.presence.state(1), Some(&shown));
    mallory.settle("d").await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_store_that_fails_and_acknowledges_nothing() {
    for weather in [Weather::Failing(Fault::Unavailable), Weather::Hanging] {
        let store = SwitchedStore::new(empty_store().await);
        let server = TestServer::start_on(store.clone(), &["--shutdown-deadline-seconds", "2"]).await;
        let mut provider = Provider::join(&server, "d").await;
        store.writing(weather);
        provider.edit("d", &insertion(1, 0, "lost")).await;
        provider.settle("d").await;
        let stopping = tokio::spawn(server.stop());
        assert_closed(&provider.closed().await, 1012, "draining");
        assert_eq!(provider.told("d"), [], "{weather:?}");
        let stopped = tokio::time::timeout(Duration::from_secs(15), stopping).await;
        assert!(
            !stopped.expect("a stop in time").expect("a server"),
            "{weather:?}: it says that something was not stored"
        );
    }
}

#[tokio::test]
async fn only_programs_that_bear_it_hear_that_they_have_left() {
    let server = TestServer::start(&[]).await;
    let mut old = Provider::join(&server, "d").await;
    old.take_leave("d").await;
    assert_eq!(old.told("d"), []);
    let mut new = Provider::open(&server).await;
    new.show_token_and_version("d", "").await;
    new.until("d", |word| matches!(word, Word::LetIn(_))).await;
    new.take_leave("d").await;
    assert_eq!(new.told("d"), [Word::Closed("provider_initiated".to_owned())]);
}

#[tokio::test]
async fn whoever_asks_again_is_asked_back() {
    let server = TestServer::start(&[]).await;
    let mut provider = Provider::join(&server, "d").await;
    provider.until("d", |word| matches!(word, Word::Step1(_))).await;
    let mut ada = Replica::new(1);
    for word in ["typed ", "while ", "away"] {
        // As a provider of the second generation does when it comes back, or one that is told to sync.
        ada.write(word);
        provider.show_token("d", "").await;
        provider.say("d", &[0, 0, 1, 0]).await;
        let asked = provider.until("d", |word| matches!(word, Word::Step1(_))).await;
        let Word::Step1(state_vector) = asked else {
            panic!("a question");
        };
        provider.step_2("d", &ada.lacking(&state_vector)).await;
        assert_eq!(provider.statuses("d", 1).await, [1]);
        provider.until("d", |word| matches!(word, Word::Step2(_))).await;
    }
    assert_eq!(text(&server, "d").await, "typed while away");
}
