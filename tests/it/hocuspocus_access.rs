//! What Hocuspocus clients may do changes while they are connected: each page for itself, at once, and with the reason.

use std::time::{Duration, Instant};

use hyper::Method;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::{
    access::{AT_ONCE, backend, bare, grant, locked, now, revoke},
    support::{
        client::{Client, presence_update},
        provider::{Provider, Word},
        replica::{Replica, insertion},
        server::TestServer,
        socket::Closed,
        token::{SECRET, seconds_from_now, sign, token},
    },
};

const READ_ONLY: &str = "readonly";
const READ_WRITE: &str = "read-write";

fn assert_at_once(since: Instant) {
    assert!(since.elapsed() < AT_ONCE, "after {:?}", since.elapsed());
}

/// A scope that is told.
fn scope(scope: &'static str) -> impl Fn(&Word) -> bool {
    move |word| matches!(word, Word::LetIn(told) if told == scope)
}

fn denied(code: &'static str) -> impl Fn(&Word) -> bool {
    move |word| matches!(word, Word::Denied(reason) if reason.starts_with(&format!("{code}: ")))
}

fn closed(code: &'static str) -> impl Fn(&Word) -> bool {
    move |word| matches!(word, Word::Closed(reason) if reason.starts_with(&format!("{code}: ")))
}

fn assert_hung_up(closed: &Closed, code: u16, reason: &str) {
    assert_eq!(closed.code, code, "{closed:?}");
    assert!(closed.reason.starts_with(&format!("{reason}: ")), "{closed:?}");
}

/// A provider of the newest generation in some pages.
async fn member(server: &TestServer, pages: &[&str], token: &str) -> Provider {
    let mut provider = Provider::open(server).await;
    for page in pages {
        provider.show_token_and_version(page, token).await;
        provider.say(page, &[0, 0, 1, 0]).await;
        provider.until(page, |word| matches!(word, Word::LetIn(_))).await;
        provider.until(page, |word| matches!(word, Word::Step2(_))).await;
    }
    provider
}

/// Somebody who watches a page with y-websocket.
async fn watcher(server: &TestServer, page: &str, author: u64) -> Client {
    grant(server, page, "watcher", "edit").await;
    Client::join_at(
        server.address,
        &format!("/ws/{page}?token={}", bare("watcher")),
        author,
    )
    .await
}

/// A token that is good for so many seconds; the server adds 15 of leeway.
fn lasting(user: &str, role: &str, seconds: i64) -> String {
    let claims = json!({ "sub": user, "pages": { "*": role }, "exp": seconds_from_now(seconds - 15) });
    sign(&claims, SECRET, Algorithm::HS256)
}

#[tokio::test]
async fn a_downgrade_and_an_upgrade_are_told_as_scopes_and_count_at_once() {
    let server = locked(&[]).await;
    let mut ada = watcher(&server, "page", 1).await;
    grant(&server, "*", "bob", "edit").await;
    let mut bob = member(&server, &["page", "other"], &bare("bob")).await;
    let mut replica = Replica::new(2);
    bob.edit("page", &replica.write("bob")).await;
    assert_eq!(bob.statuses("page", 1).await, [1]);

    let since = now();
    grant(&server, "page", "bob", "view").await;
    bob.until("page", scope(READ_ONLY)).await;
    assert_at_once(since);
    bob.edit("page", &replica.write(" again")).await;
    assert_eq!(bob.statuses("page", 1).await, [0]);
    // Looking and being seen go on, and so does the other page.
    let shown = json!({ "name": "Bob" });
    bob.show("page", &presence_update(2, 1, &shown)).await;
    ada.until_shown(2, Some(&shown)).await;
    assert_eq!(ada.replica.text(), "bob");
    bob.edit("other", &insertion(3, 0, "x")).await;
    assert_eq!(bob.statuses("other", 1).await, [1]);

    let since = now();
    bob.told("page");
    grant(&server, "page", "bob", "edit").await;
    bob.until("page", scope(READ_WRITE)).await;
    bob.until("page", |word| matches!(word, Word::Step1(_))).await;
    bob.step_2("page", &replica.lacking(&ada.replica.state_vector()))
        .await;
    assert_eq!(bob.statuses("page", 1).await, [1]);
    ada.until_text("bob again").await;
    assert_at_once(since);
    bob.edit("page", &replica.write("!")).await;
    assert_eq!(bob.statuses("page", 1).await, [1]);
    assert_eq!(bob.told("other"), [], "the other page has heard nothing of it");
}

#[tokio::test]
async fn whoever_loses_a_page_loses_that_one_with_its_presence_and_keeps_the_others() {
    let server = locked(&[]).await;
    let mut ada = watcher(&server, "page", 1).await;
    for page in ["page", "other"] {
        grant(&server, page, "bob", "edit").await;
    }
    let mut bob = member(&server, &["page", "other"], &bare("bob")).await;
    let shown = json!({ "name": "Bob" });
    bob.show("page", &presence_update(2, 1, &shown)).await;
    ada.until_shown(2, Some(&shown)).await;

    let since = now();
    revoke(&server, "page", "bob").await;
    bob.until("page", closed("forbidden")).await;
    ada.until_shown(2, None).await;
    assert_at_once(since);
    bob.edit("page", &insertion(2, 0, "late")).await;
    assert_eq!(bob.statuses("page", 1).await, [0]);
    bob.show_token_and_version("page", &bare("bob")).await;
    bob.until("page", denied("forbidden")).await;
    bob.edit("other", &insertion(3, 0, "x")).await;
    assert_eq!(bob.statuses("other", 1).await, [1]);
    // Let in again on the same socket.
    grant(&server, "page", "bob", "edit").await;
    bob.enter("page", &bare("bob")).await;
    bob.edit("page", &insertion(2, 0, "back")).await;
    assert_eq!(bob.statuses("page", 1).await, [1]);
    ada.until_text("back").await;

    // The last page takes the socket with it.
    revoke(&server, "other", "bob").await;
    bob.until("other", closed("forbidden")).await;
    let since = now();
    revoke(&server, "page", "bob").await;
    assert_hung_up(&bob.closed().await, 4403, "forbidden");
    assert_at_once(since);
}

#[tokio::test]
async fn older_providers_are_told_in_the_word_that_they_know() {
    let server = locked(&[]).await;
    for page in ["page", "other"] {
        grant(&server, page, "bob", "edit").await;
    }
    let mut bob = Provider::open(&server).await;
    for page in ["page", "other"] {
        bob.enter(page, &bare("bob")).await;
    }
    let since = now();
    revoke(&server, "page", "bob").await;
    bob.until("page", denied("forbidden")).await;
    assert_at_once(since);
    bob.edit("other", &insertion(3, 0, "x")).await;
    assert_eq!(bob.statuses("other", 1).await, [1]);
}

#[tokio::test]
async fn signing_out_and_blocking_end_every_page_of_a_user_and_no_other_ones() {
    let server = locked(&[]).await;
    grant(&server, "*", "*", "edit").await;
    let issued = |user: &str| {
        let claims = json!({ "sub": user, "exp": seconds_from_now(600), "iat": seconds_from_now(-60) });
        sign(&claims, SECRET, Algorithm::HS256)
    };
    let mut ada = member(&server, &["one", "two"], &issued("ada")).await;
    let mut shared = member(&server, &["one"], &issued("ada")).await;
    // Two users share a socket.
    shared.enter("two", &issued("bob")).await;

    let since = now();
    let signing_out = backend(&server, Method::POST, "/api/users/ada/sign-out", Value::Null);
    let (answer, ()) = tokio::join!(signing_out, async {
        assert_hung_up(&ada.closed().await, 4401, "token_revoked");
        shared.until("one", closed("token_revoked")).await;
        assert_at_once(since);
    });
    assert_eq!(answer.status, 200);
    shared.edit("two", &insertion(3, 0, "x")).await;
    assert_eq!(shared.statuses("two", 1).await, [1]);
    shared.show_token_and_version("one", &issued("ada")).await;
    shared.until("one", denied("token_revoked")).await;

    let since = now();
    let blocked = backend(&server, Method::PUT, "/api/users/bob/block", Value::Null).await;
    assert_eq!(blocked.status, 204);
    assert_hung_up(&shared.closed().await, 4403, "forbidden");
    assert_at_once(since);
    let mut again = Provider::open(&server).await;
    again.show_token_and_version("two", &issued("bob")).await;
    again.until("two", denied("forbidden")).await;
}

#[tokio::test]
async fn signing_out_and_blocking_end_sockets_without_pages_too() {
    let issued = |user: &str| {
        let claims = json!({ "sub": user, "exp": seconds_from_now(600), "iat": seconds_from_now(-60) });
        sign(&claims, SECRET, Algorithm::HS256)
    };
    for (method, path, code, reason) in [
        (Method::POST, "/api/users/ada/sign-out", 4401, "token_revoked"),
        (Method::PUT, "/api/users/ada/block", 4403, "forbidden"),
    ] {
        let server = locked(&[]).await;
        grant(&server, "*", "*", "edit").await;
        let left = async |pages: &[(&str, &str)]| {
            let mut provider = Provider::open(&server).await;
            for (page, user) in pages {
                provider.enter(page, &issued(user)).await;
                provider.take_leave(page).await;
            }
            provider
        };
        let mut ada = left(&[("one", "ada"), ("two", "ada")]).await;
        let mut bob = left(&[("one", "bob")]).await;
        let mut shared = left(&[("one", "ada")]).await;
        shared.enter("two", &issued("bob")).await;
        let since = now();
        tokio::join!(backend(&server, method, path, Value::Null), async {
            assert_hung_up(&ada.closed().await, code, reason);
            assert_at_once(since);
        });
        shared.edit("two", &insertion(3, 0, "x")).await;
        assert_eq!(shared.statuses("two", 1).await, [1]);
        // With the page of its last user it has nobody left.
        shared.say("two", &[7]).await;
        assert_hung_up(&shared.closed().await, code, reason);
        bob.enter("one", &issued("bob")).await;
    }
}

#[tokio::test]
async fn a_token_that_ends_is_asked_for_again_and_then_its_pages_are_closed() {
    let server = locked(&[]).await;
    let mut bob = Provider::open(&server).await;
    let ends = seconds_from_now(2);
    bob.show_token_and_version("short", &lasting("bob", "edit", 2))
        .await;
    bob.show_token_and_version("long", &lasting("bob", "edit", 600))
        .await;
    for page in ["short", "long"] {
        bob.until(page, |word| matches!(word, Word::LetIn(_))).await;
    }
    bob.until("short", |word| *word == Word::TokenRequest).await;
    assert!(seconds_from_now(0) < ends, "while there is time to answer");
    bob.until("short", closed("token_expired")).await;
    let now = seconds_from_now(0);
    assert!((ends..=ends + 1).contains(&now), "{now} for {ends}");
    bob.edit("long", &insertion(3, 0, "x")).await;
    assert_eq!(bob.statuses("long", 1).await, [1]);
    assert_eq!(bob.told("long"), [], "nobody asks for what lasts");
    bob.show_token_and_version("short", &lasting("bob", "edit", -1))
        .await;
    bob.until("short", denied("token_expired")).await;
}

#[tokio::test]
async fn a_fresh_token_counts_from_then_on_with_all_that_it_says() {
    let server = locked(&[]).await;
    let mut bob = Provider::open(&server).await;
    bob.enter("page", &lasting("bob", "edit", 3)).await;
    bob.edit("page", &insertion(3, 0, "x")).await;
    assert_eq!(bob.statuses("page", 1).await, [1]);
    // It lasts longer and grants less.
    bob.show_token("page", &lasting("bob", "view", 600)).await;
    bob.until("page", scope(READ_ONLY)).await;
    bob.edit("page", &insertion(3, 1, "y")).await;
    assert_eq!(bob.statuses("page", 1).await, [0]);
    bob.show_token("page", &lasting("bob", "edit", 600)).await;
    bob.until("page", scope(READ_WRITE)).await;
    bob.edit("page", &insertion(3, 1, "y")).await;
    assert_eq!(bob.statuses("page", 1).await, [1]);
    // One that is no good ends what the good one gave.
    bob.show_token("page", &token("bob", &json!({ "elsewhere": "edit" })))
        .await;
    assert_hung_up(&bob.closed().await, 4403, "forbidden");
}

#[tokio::test]
async fn a_refusal_says_why() {
    let server = locked(&[]).await;
    let mut stranger = Provider::open(&server).await;
    for (token, code) in [
        (String::new(), "unauthenticated"),
        ("nonsense".to_owned(), "unauthenticated"),
        (
            sign(&json!({ "sub": "bob" }), &"x".repeat(40), Algorithm::HS256),
            "unauthenticated",
        ),
        (lasting("bob", "edit", -60), "token_expired"),
        (bare("bob"), "forbidden"),
        (token("bob", &json!({ "elsewhere/*": "edit" })), "forbidden"),
    ] {
        stranger.show_token_and_version("page", &token).await;
        stranger.until("page", denied(code)).await;
    }
    stranger.enter("page", &lasting("bob", "view", 60)).await;
}

#[tokio::test]
async fn whoever_shows_bad_tokens_again_and_again_hears_so_slowly_and_its_other_pages_do_not_wait() {
    let server = locked(&["--trusted-proxies", "127.0.0.1"]).await;
    let from = [("x-forwarded-for", "192.0.2.1")];
    let mut mallory = Provider::open_with(&server, "", &from).await;
    let good = token("mallory", &json!({ "*": "edit" }));
    for page in ["one", "two"] {
        mallory.enter(page, &good).await;
    }
    let since = now();
    for _ in 0..22 {
        mallory.show_token_and_version("bad", "nonsense").await;
        mallory.until("bad", denied("unauthenticated")).await;
    }
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "{:?}",
        since.elapsed()
    );

    // One that is looked at for the first time.
    mallory.show_token_and_version("bad", "nonsense").await;
    mallory.edit("bad", &insertion(4, 0, "x")).await;
    mallory.edit("one", &insertion(2, 0, "x")).await;
    assert_eq!(mallory.statuses("one", 1).await, [1]);
    assert_eq!(mallory.told("bad"), [], "that one has to wait");
    mallory.until("bad", denied("unauthenticated")).await;
    assert_eq!(mallory.statuses("bad", 1).await, [0]);

    // One that is to replace a good one.
    let mut ada = watcher(&server, "one", 1).await;
    let shown = json!({ "name": "Mallory" });
    mallory.show("one", &presence_update(2, 1, &shown)).await;
    ada.until_shown(2, Some(&shown)).await;
    mallory.show_token_and_version("one", "nonsense").await;
    mallory.edit("one", &insertion(5, 0, "late")).await;
    ada.until_shown(2, None).await;
    mallory.edit("two", &insertion(3, 0, "x")).await;
    assert_eq!(mallory.statuses("two", 1).await, [1]);
    assert_eq!(mallory.told("one"), [], "that one has to wait");
    mallory.until("one", closed("unauthenticated")).await;
    assert_eq!(mallory.statuses("one", 1).await, [0]);
    assert_eq!(ada.replica.text(), "x");

    let since = now();
    let mut neighbour = Provider::open_with(&server, "", &from).await;
    neighbour.enter("one", &bare("watcher")).await;
    assert!(
        since.elapsed() < Duration::from_millis(400),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn what_a_viewer_typed_counts_as_saved_once_it_is() {
    let server = locked(&[]).await;
    grant(&server, "d", "ada", "view").await;
    let mut ada = Provider::open(&server).await;
    ada.enter("d", &bare("ada")).await;
    ada.until("d", |word| matches!(word, Word::Step1(_))).await;
    ada.step_2("d", &[0, 0]).await;
    assert_eq!(ada.statuses("d", 1).await, [1]);
    let mut replica = Replica::new(1);
    for word in ["three ", "refused ", "words"] {
        ada.edit("d", &replica.write(word)).await;
    }
    assert_eq!(ada.statuses("d", 3).await, [0; 3]);
    grant(&server, "d", "ada", "edit").await;
    let asked = ada.until("d", |word| matches!(word, Word::Step1(_))).await;
    let Word::Step1(state_vector) = asked else {
        panic!("a question");
    };
    ada.step_2("d", &replica.lacking(&state_vector)).await;
    assert_eq!(ada.statuses("d", 3).await, [1; 3], "each of them");
    ada.edit("d", &replica.write("!")).await;
    assert_eq!(ada.statuses("d", 1).await, [1]);
    ada.settle("d").await;
    assert!(!ada.told("d").iter().any(|word| matches!(word, Word::Status(_))));
}

#[tokio::test]
async fn what_is_under_way_to_a_page_that_closes_is_refused_and_ends_no_other() {
    let server = locked(&[]).await;
    grant(&server, "one", "ada", "edit").await;
    grant(&server, "two", "ada", "edit").await;
    let mut ada = member(&server, &["one", "two"], &bare("ada")).await;
    revoke(&server, "one", "ada").await;
    ada.until("one", closed("forbidden")).await;
    // Far more than may be said before a token is shown, by somebody who has not heard yet.
    const LATE: u32 = 300;
    for clock in 0..LATE {
        ada.edit("one", &insertion(3, clock, "x")).await;
    }
    assert_eq!(ada.statuses("one", LATE as usize).await, [0; LATE as usize]);
    ada.edit("two", &insertion(4, 0, "y")).await;
    assert_eq!(ada.statuses("two", 1).await, [1]);
    // With a token that is good again the page opens again.
    grant(&server, "one", "ada", "edit").await;
    ada.show_token_and_version("one", &bare("ada")).await;
    ada.until("one", scope(READ_WRITE)).await;
}
