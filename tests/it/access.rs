//! Who may do what: from every source, and at once when it changes, on connections that are open.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use storage::testing::Fault;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{
    client::Client,
    database::Database,
    http::{Answer, send},
    replica::{Replica, insertion},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket::{Closed, Socket},
    store::{SwitchedStore, Weather},
    token::{SECRET, seconds_from_now, sign, token},
};

pub(crate) const LOCKED: [&str; 4] = ["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN];

/// A change counts within this time.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

pub(crate) async fn locked(more: &[&str]) -> TestServer {
    TestServer::start(&[&LOCKED[..], more].concat()).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "how soon a change counts is what is promised"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) async fn backend(server: &TestServer, method: Method, path: &str, body: Value) -> Answer {
    backend_at(server.address, method, path, body).await
}

/// The same of a server in another process.
pub(crate) async fn backend_at(server: SocketAddr, method: Method, path: &str, body: Value) -> Answer {
    ask_at(server, method, path, ADMIN_TOKEN, body).await
}

async fn ask(server: &TestServer, method: Method, path: &str, token: &str, body: Value) -> Answer {
    ask_at(server.address, method, path, token, body).await
}

async fn ask_at(server: SocketAddr, method: Method, path: &str, token: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    send(server, method, path, &headers, body.into()).await
}

pub(crate) async fn grant(server: &TestServer, page: &str, user: &str, role: &str) {
    let path = format!("/api/pages/{page}/permissions/{user}");
    let answer = backend(server, Method::PUT, &path, json!({ "role": role })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

pub(crate) async fn revoke(server: &TestServer, page: &str, user: &str) {
    let path = format!("/api/pages/{page}/permissions/{user}");
    let answer = backend(server, Method::DELETE, &path, Value::Null).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// A token that grants nothing: the sources behind it decide.
pub(crate) fn bare(user: &str) -> String {
    token(user, &json!({}))
}

async fn join(server: &TestServer, page: &str, token: &str, author: u64) -> Result<Client, Closed> {
    let socket = Socket::open(server.address, &format!("/ws/{page}?token={token}")).await;
    let mut client = Client::new(socket, Replica::new(author));
    client.ask().await;
    while !client.synced {
        client.turn().await?;
    }
    Ok(client)
}

pub(crate) async fn member(server: &TestServer, page: &str, user: &str, author: u64) -> Client {
    join(server, page, &bare(user), author).await.expect("a member")
}

/// The codes with which a connection is refused, or `let in`.
pub(crate) async fn outcome(server: &TestServer, page: &str, token: &str) -> String {
    match join(server, page, token, 99).await {
        Ok(_) => "let in".to_owned(),
        Err(closed) => {
            let code = closed.reason.split(':').next().unwrap_or_default();
            format!("{} {code}", closed.code)
        }
    }
}

/// The connection is hung up on with this code, soon enough.
async fn expect_removed(client: &mut Client, since: Instant, expected: &str) {
    let closed = client.closed().await;
    let code = closed.reason.split(':').next().unwrap_or_default();
    assert_eq!(format!("{} {code}", closed.code), expected);
    assert!(since.elapsed() < AT_ONCE, "after {:?}", since.elapsed());
}

/// Stores of every kind there is.
async fn servers() -> Vec<(TestServer, Option<Database>)> {
    let mut servers = vec![(locked(&[]).await, None)];
    for database in Database::each() {
        let server = TestServer::start_on(database.open().await, &LOCKED).await;
        servers.push((server, Some(database)));
    }
    servers
}

#[tokio::test]
async fn permissions_in_the_store_count_at_once_for_whoever_is_connected() {
    for (server, database) in servers().await {
        assert_eq!(outcome(&server, "page", &bare("ada")).await, "4403 forbidden");
        grant(&server, "page", "ada", "edit").await;
        grant(&server, "page", "bob", "edit").await;
        let mut ada = member(&server, "page", "ada", 1).await;
        let mut bob = member(&server, "page", "bob", 2).await;
        bob.write_durably("bob").await;
        bob.show(&json!({ "name": "bob" })).await;
        ada.until_shown(2, Some(&json!({ "name": "bob" }))).await;

        // Downgraded: told so, and nothing more is taken.
        let since = now();
        grant(&server, "page", "bob", "view").await;
        bob.until("the refusal", |bob| !bob.refusals.is_empty()).await;
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        bob.write(" again").await;
        bob.show(&json!({ "name": "bob", "still": true })).await;
        ada.until_shown(2, Some(&json!({ "name": "bob", "still": true })))
            .await;
        assert_eq!(ada.replica.text(), "bob");

        // Upgraded: what was written meanwhile is asked for.
        let since = now();
        grant(&server, "page", "bob", "edit").await;
        bob.until("being asked", |bob| bob.asked > 1).await;
        let rest = bob.replica.lacking(&ada.replica.state_vector());
        bob.socket.say(crdt::message::sync_step_2(&rest)).await;
        ada.until_text("bob again").await;
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());

        // Revoked: gone, with its presence, and not let in again.
        let since = now();
        revoke(&server, "page", "bob").await;
        expect_removed(&mut bob, since, "4403 forbidden").await;
        ada.until_shown(2, None).await;
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        assert_eq!(outcome(&server, "page", &bare("bob")).await, "4403 forbidden");

        // Everybody, by a pattern; and the narrower one decides.
        grant(&server, "pa*", "*", "view").await;
        let mut eve = member(&server, "page", "eve", 3).await;
        let since = now();
        revoke(&server, "pa*", "*").await;
        expect_removed(&mut eve, since, "4403 forbidden").await;
        ada.write_durably("!").await;
        server.stop().await;
        drop(database);
    }
}

#[tokio::test]
async fn a_grant_ends_when_its_time_is_over() {
    let server = locked(&[]).await;
    let ends =
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(seconds_from_now(2)))
            .to_string();
    let body = json!({ "role": "edit", "expiresAt": ends });
    let answer = backend(&server, Method::PUT, "/api/pages/page/permissions/ada", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut ada = member(&server, "page", "ada", 1).await;
    ada.write_durably("in time").await;
    let closed = ada.closed().await;
    assert_eq!(closed.code, 4403, "{closed:?}");
    assert!(seconds_from_now(0) <= seconds_from_now(2), "soon after");
    assert_eq!(outcome(&server, "page", &bare("ada")).await, "4403 forbidden");
    // A broader grant takes over without anybody leaving.
    grant(&server, "page", "*", "view").await;
    let body = json!({ "role": "edit", "expiresAt": humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH + Duration::from_secs(seconds_from_now(2))).to_string() });
    backend(&server, Method::PUT, "/api/pages/page/permissions/ada", body).await;
    let mut ada = member(&server, "page", "ada", 2).await;
    ada.write_durably("x").await;
    ada.until("the downgrade", |ada| !ada.refusals.is_empty()).await;
}

#[tokio::test]
async fn signing_out_and_blocking_end_every_connection_of_a_user() {
    for (server, database) in servers().await {
        grant(&server, "*", "*", "edit").await;
        let issued = |offset: i64, version: Option<u64>| {
            let mut claims =
                json!({ "sub": "ada", "exp": seconds_from_now(600), "iat": seconds_from_now(offset) });
            if let Some(version) = version {
                claims["tokenVersion"] = version.into();
            }
            sign(&claims, SECRET, Algorithm::HS256)
        };
        let old = issued(-60, None);
        let mut first = join(&server, "one", &old, 1).await.expect("a member");
        let mut second = join(&server, "two", &issued(-60, Some(7)), 2)
            .await
            .expect("a member");
        let mut bob = member(&server, "one", "bob", 3).await;
        let since = now();
        let path = "/api/users/ada/sign-out";
        let (answer, ()) = tokio::join!(backend(&server, Method::POST, path, Value::Null), async {
            expect_removed(&mut first, since, "4401 token_revoked").await;
            expect_removed(&mut second, since, "4401 token_revoked").await;
        });
        assert_eq!(answer.json(), json!({ "userId": "ada", "tokenVersion": 1 }));
        for (token, expected) in [
            // Minted at once after the answer, in whole seconds.
            (issued(0, None), "let in"),
            (old, "4401 token_revoked"),
            (issued(-60, Some(0)), "4401 token_revoked"),
            (issued(2, Some(2)), "4401 token_revoked"),
            (issued(-60, Some(1)), "let in"),
            (bare("bob"), "let in"),
        ] {
            assert_eq!(outcome(&server, "one", &token).await, expected);
        }
        bob.write_durably("still here").await;

        let since = now();
        let blocked = backend(&server, Method::PUT, "/api/users/bob/block", Value::Null).await;
        assert_eq!(blocked.status, 204);
        expect_removed(&mut bob, since, "4403 forbidden").await;
        assert_eq!(outcome(&server, "one", &bare("bob")).await, "4403 forbidden");
        backend(&server, Method::DELETE, "/api/users/bob/block", Value::Null).await;
        assert_eq!(outcome(&server, "one", &bare("bob")).await, "let in");
        server.stop().await;
        drop(database);
    }
}

#[tokio::test]
async fn nothing_that_a_removed_member_has_said_is_taken_in() {
    let server = locked(&[]).await;
    grant(&server, "page", "*", "edit").await;
    let mut ada = member(&server, "page", "ada", 1).await;
    for round in 0..20_u64 {
        grant(&server, "page", "mallory", "edit").await;
        let mut mallory = member(&server, "page", "mallory", 100 + round).await;
        for clock in 0..200 {
            mallory.queue(&insertion(100 + round, clock, "m")).await;
        }
        mallory.flush().await;
        grant(&server, "page", "mallory", "view").await;
        // Whatever was taken in was before the answer: nothing comes after what is said now.
        ada.write_durably("a").await;
        let after = ada.replica.text();
        mallory.send(&insertion(100 + round, 200, "m")).await;
        ada.write_durably("b").await;
        let late = ada.replica.text().chars().filter(|letter| *letter == 'm').count();
        assert_eq!(
            late,
            after.chars().filter(|letter| *letter == 'm').count(),
            "round {round}"
        );
        mallory.cut();
    }
}

#[tokio::test]
async fn who_may_manage_a_page_may_share_it_and_nobody_else() {
    let server = locked(&[]).await;
    grant(&server, "mine", "ada", "admin").await;
    grant(&server, "mine", "bob", "edit").await;
    let share = async |user: &str, page: &str, with: &str, body: Value| {
        let path = format!("/api/pages/{page}/permissions/{with}");
        let answer = ask(&server, Method::PUT, &path, &bare(user), body).await;
        (answer.status != StatusCode::OK).then(|| answer.error())
    };
    let edit = json!({ "role": "edit" });
    assert_eq!(share("ada", "mine", "carl", edit.clone()).await, None);
    assert_eq!(
        share("bob", "mine", "eve", edit.clone()).await.as_deref(),
        Some("forbidden")
    );
    assert_eq!(
        share("eve", "mine", "eve", edit.clone()).await.as_deref(),
        Some("forbidden")
    );
    grant(&server, "min*", "ada", "admin").await;
    assert_eq!(
        share("ada", "min*", "eve", edit).await.as_deref(),
        Some("forbidden"),
        "a pattern is for backends"
    );
    for bad in [
        json!({ "role": "owner" }),
        json!({}),
        json!({ "role": "edit", "expiresAt": "soon" }),
        json!({ "role": "edit", "x": 1 }),
        json!({ "role": "edit", "expiresAt": "2001-01-01T00:00:00Z" }),
    ] {
        assert_eq!(
            share("ada", "mine", "carl", bad.clone()).await.as_deref(),
            Some("malformed"),
            "{bad}"
        );
    }
    assert_eq!(
        share("ada", "mine", "c%00arl", json!({ "role": "edit" }))
            .await
            .as_deref(),
        Some("malformed")
    );
    let listed = ask(
        &server,
        Method::GET,
        "/api/pages/mine/permissions?limit=2",
        &bare("ada"),
        Value::Null,
    )
    .await;
    assert_eq!(
        listed.json(),
        json!({ "permissions": [
            { "userId": "ada", "role": "admin", "expiresAt": null },
            { "userId": "bob", "role": "edit", "expiresAt": null },
        ], "next": "bob" })
    );
    let listed = ask(
        &server,
        Method::GET,
        "/api/pages/mine/permissions?after=bob",
        &bare("ada"),
        Value::Null,
    )
    .await;
    assert_eq!(listed.json()["permissions"][0]["userId"], "carl");
    let missing = backend(
        &server,
        Method::DELETE,
        "/api/pages/mine/permissions/nobody",
        Value::Null,
    )
    .await;
    assert_eq!(missing.error(), "not_found");
    for (method, path) in [
        (Method::POST, "/api/users/bob/sign-out"),
        (Method::PUT, "/api/users/bob/block"),
        (Method::POST, "/api/access/refresh"),
        (Method::GET, "/api/audit"),
        (Method::GET, "/api/pages/other/permissions"),
    ] {
        let refused = ask(&server, method, path, &bare("ada"), json!({})).await;
        assert_eq!(refused.error(), "forbidden", "{path}");
    }
    let own = ask(
        &server,
        Method::POST,
        "/api/users/ada/sign-out",
        &bare("ada"),
        Value::Null,
    )
    .await;
    assert_eq!(own.status, 200, "everybody may sign out themselves");
}

#[tokio::test]
async fn sources_are_asked_in_their_order() {
    for (order, expected) in [
        ("token,store", "let in"),
        ("token", "let in"),
        ("store,token", "read_only"),
        ("store", "read_only"),
    ] {
        let server = locked(&["--access", order]).await;
        grant(&server, "page", "ada", "view").await;
        let token = token("ada", &json!({ "page": "edit" }));
        let path = "/api/pages/page/updates";
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let answer = send(server.address, Method::POST, path, &headers, insertion(1, 0, "x")).await;
        let outcome = if answer.status == 200 {
            "let in".to_owned()
        } else {
            answer.error()
        };
        assert_eq!(outcome, expected, "{order}");
    }
}

#[tokio::test]
async fn a_store_that_fails_gives_nobody_access_and_says_try_again() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(
        store.clone(),
        &[&LOCKED[..], &["--access-cache-seconds", "0"]].concat(),
    )
    .await;
    grant(&server, "page", "ada", "edit").await;
    let mut ada = member(&server, "page", "ada", 1).await;
    store.reading(Weather::Failing(Fault::Unavailable));
    assert_eq!(outcome(&server, "page", &bare("ada")).await, "1013 unavailable");
    assert_eq!(
        outcome(&server, "page", &token("bob", &json!({ "page": "edit" }))).await,
        "1013 unavailable"
    );
    let answer = ask(&server, Method::GET, "/api/pages", &bare("ada"), Value::Null).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error()),
        (503, "unavailable".to_owned())
    );
    // Whoever is connected goes on: nothing has changed.
    ada.write_durably("still").await;
    store.reading(Weather::Fine);
    assert_eq!(outcome(&server, "page", &bare("ada")).await, "let in");
}

#[tokio::test]
async fn an_application_decides_with_a_query_on_its_own_tables() {
    let Some(database) = Database::postgres() else {
        return;
    };
    database.query("CREATE TABLE members (who text, doc text, level text); INSERT INTO members VALUES ('ada', 'page', 'edit'), ('eve', 'page', 'owner')");
    let url = database.url();
    let flags = [
        "--access",
        "sql,store",
        "--access-query",
        "SELECT level FROM members WHERE who = $1 AND doc = $2",
        "--access-database-url",
        &url,
        "--access-cache-seconds",
        "600",
    ];
    let server = TestServer::start_on(database.open().await, &[&LOCKED[..], &flags].concat()).await;
    let mut ada = member(&server, "page", "ada", 1).await;
    assert_eq!(outcome(&server, "page", &bare("bob")).await, "4403 forbidden");
    assert_eq!(
        outcome(&server, "page", &bare("' OR '1'='1")).await,
        "4403 forbidden"
    );
    assert_eq!(
        outcome(&server, "page", &bare("eve")).await,
        "1013 unavailable",
        "what is no role is no access"
    );
    // Told by REST.
    database.query("UPDATE members SET level = 'view' WHERE who = 'ada'");
    let since = now();
    let refreshed = backend(
        &server,
        Method::POST,
        "/api/access/refresh",
        json!({ "userId": "ada" }),
    )
    .await;
    assert_eq!(refreshed.json(), json!({ "connections": 1 }));
    ada.until("the downgrade", |ada| !ada.refusals.is_empty()).await;
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    // Announced by the database, as a trigger does it.
    let since = now();
    database.query("DELETE FROM members WHERE who = 'ada'; NOTIFY pageroom_access, '{\"userId\":\"ada\",\"pageId\":\"page\"}'");
    expect_removed(&mut ada, since, "4403 forbidden").await;
    // And what another process does with the permissions of the store.
    database.query("INSERT INTO page_permissions (page_id, user_id, role) VALUES ('page', 'bob', 'edit')");
    crate::support::until("the grant to be heard of", async || {
        Box::pin(outcome(&server, "page", &bare("bob"))).await == "let in"
    })
    .await;
    let mut bob = member(&server, "page", "bob", 2).await;
    let since = now();
    database.query("DELETE FROM page_permissions");
    expect_removed(&mut bob, since, "4403 forbidden").await;
}

/// An application that answers what users may do: counts the questions, and answers with what is said of the user.
async fn webhook(questions: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let questions = questions.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                questions.fetch_add(1, Ordering::SeqCst);
                let request = String::from_utf8_lossy(&request).into_owned();
                assert!(
                    request.to_lowercase().contains("x-pageroom-signature: t="),
                    "{request}"
                );
                let (status, body) = match &request {
                    asked if asked.contains("\"ada\"") => ("200 OK", "{\"role\":\"edit\"}"),
                    asked if asked.contains("\"bob\"") => ("200 OK", "{\"role\":null}"),
                    asked if asked.contains("\"carl\"") => ("200 OK", "{\"role\":\"king\"}"),
                    asked if asked.contains("\"dora\"") => ("500 Oops", "{\"role\":\"edit\"}"),
                    asked if asked.contains("\"emil\"") => ("302 Found", "{\"role\":\"edit\"}"),
                    asked if asked.contains("\"fred\"") => ("200 OK", "{\"role\":\"edit\",\"expiresAt\":1}"),
                    _ => ("404 Not Found", "{\"role\":\"edit\"}"),
                };
                // An answer takes its time, so that others come with the same question meanwhile. However late they come, the test
                // holds: then they find the answer kept.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}/may")
}

#[tokio::test]
async fn a_webhook_is_asked_once_however_many_wait_for_it() {
    let questions = Arc::new(AtomicUsize::new(0));
    let address = webhook(questions.clone()).await;
    let secret = "a secret of the webhook, 32 bytes or more";
    let flags = [
        "--access",
        "webhook",
        "--access-webhook-url",
        &address,
        "--access-webhook-secret",
        secret,
        "--access-cache-seconds",
        "600",
    ];
    let server = locked(&flags).await;
    let token = bare("ada");
    let all = futures_util::future::join_all((0..20).map(|_| outcome(&server, "page", &token))).await;
    assert!(all.iter().all(|outcome| outcome == "let in"), "{all:?}");
    assert_eq!(questions.load(Ordering::SeqCst), 1);
    backend(
        &server,
        Method::POST,
        "/api/access/refresh",
        json!({ "pageId": "page" }),
    )
    .await;
    assert_eq!(outcome(&server, "page", &token).await, "let in");
    assert_eq!(
        questions.load(Ordering::SeqCst),
        2,
        "asked again after a change, and once"
    );
    for (user, expected) in [
        ("bob", "4403 forbidden"),
        ("carl", "1013 unavailable"),
        ("dora", "1013 unavailable"),
        ("emil", "1013 unavailable"),
        ("fred", "4403 forbidden"),
        ("gina", "4403 forbidden"),
    ] {
        assert_eq!(outcome(&server, "page", &bare(user)).await, expected, "{user}");
    }
    let dead = locked(&[
        "--access",
        "webhook",
        "--access-webhook-url",
        "http://127.0.0.1:9/",
    ])
    .await;
    assert_eq!(outcome(&dead, "page", &token).await, "1013 unavailable");
}

#[tokio::test]
async fn a_backend_kicks_users_out_of_a_room_with_a_signature_or_its_token() {
    let secret = "a secret of the backends, 32 bytes or more";
    let server = locked(&["--broadcast-secret", secret]).await;
    grant(&server, "*", "*", "edit").await;
    let mut ada = member(&server, "page", "ada", 1).await;
    let mut bob = member(&server, "page", "bob", 2).await;
    let mut elsewhere = member(&server, "other", "ada", 3).await;
    let kick =
        |user: &str| json!({ "userId": user, "roomPattern": "page", "reason": "member_removed" }).to_string();
    let signed = |body: &str, offset: i64| {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds_from_now(offset));
        pageroom::auth::signature::sign(&pageroom::auth::Secret::new(secret), at, body.as_bytes())
    };
    let post = async |body: String, header: (&str, &str)| {
        let answer = send(server.address, Method::POST, "/api/kick", &[header], body.into()).await;
        (answer.status.as_u16(), answer.json())
    };
    const SIGNATURE: &str = "x-broadcast-signature";
    let body = kick("ada");
    let refused = (401, json!({ "error": "Authentication failed" }));
    for header in [
        (SIGNATURE, ""),
        (SIGNATURE, signed(&kick("bob"), 0).as_str()),
        (SIGNATURE, signed(&body, -301).as_str()),
        ("authorization", "Bearer nonsense"),
        ("authorization", &format!("Bearer {}", bare("ada"))),
        ("x-other", "1"),
    ] {
        assert_eq!(post(body.clone(), header).await, refused, "{header:?}");
    }
    for (bad, error) in [
        ("nonsense", "Invalid JSON"),
        (
            "{\"roomPattern\":\"page\",\"reason\":\"x\"}",
            "Missing or invalid userId",
        ),
        (
            "{\"userId\":\"ada\",\"roomPattern\":7,\"reason\":\"x\"}",
            "Missing or invalid roomPattern",
        ),
        (
            "{\"userId\":\"ada\",\"roomPattern\":\"page\"}",
            "Missing or invalid reason",
        ),
    ] {
        let answer = post(bad.to_owned(), (SIGNATURE, &signed(bad, 0))).await;
        assert_eq!(answer, (400, json!({ "error": error })));
    }
    let since = now();
    let answer = post(body.clone(), (SIGNATURE, &signed(&body, 0))).await;
    assert_eq!(
        answer,
        (
            200,
            json!({ "success": true, "kickedCount": 1, "rooms": ["page"] })
        )
    );
    expect_removed(&mut ada, since, "4403 forbidden").await;
    elsewhere.write_durably("untouched").await;
    let mut ada = member(&server, "page", "ada", 4).await;
    let body =
        json!({ "userId": "*", "exceptUserId": "ada", "roomPattern": "page", "reason": "page_private" })
            .to_string();
    let since = now();
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    assert_eq!(post(body, ("authorization", &bearer)).await.1["kickedCount"], 1);
    expect_removed(&mut bob, since, "4403 forbidden").await;
    ada.write_durably("here").await;
    let nobody = kick("nobody");
    assert_eq!(
        post(nobody.clone(), (SIGNATURE, &signed(&nobody, 0))).await.1["kickedCount"],
        0
    );
}

#[tokio::test]
async fn what_was_done_and_refused_can_be_looked_up_and_holds_no_token() {
    for (server, database) in servers().await {
        grant(&server, "page", "ada", "edit").await;
        let token = bare("ada");
        let mut ada = join(&server, "page", &token, 1).await.expect("a member");
        assert_eq!(outcome(&server, "page", &bare("eve")).await, "4403 forbidden");
        assert_eq!(outcome(&server, "page", "nonsense").await, "4401 unauthenticated");
        revoke(&server, "page", "ada").await;
        ada.closed().await;
        let entries = async |query: &str| {
            let answer = backend(&server, Method::GET, &format!("/api/audit?{query}"), Value::Null).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(!answer.text().contains(&token), "a token in the audit log");
            let entries = answer.json()["entries"].as_array().expect("a list").clone();
            let short = |entry: &Value| {
                let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
                format!(
                    "{} {} {} {}",
                    text("action"),
                    text("outcome"),
                    text("userId"),
                    text("pageId")
                )
            };
            entries.iter().map(short).collect::<Vec<_>>()
        };
        crate::support::until("everything to be noted", async || entries("").await.len() >= 6).await;
        let all = entries("").await;
        for expected in [
            "grant ok ada page",
            "connect ok ada page",
            "connect forbidden eve page",
            "connect unauthenticated - page",
            "revoke ok ada page",
            "remove forbidden ada page",
        ] {
            assert!(all.iter().any(|entry| entry == expected), "{expected}: {all:?}");
        }
        assert_eq!(
            entries("action=connect&outcome=ok&user=ada").await,
            ["connect ok ada page"]
        );
        assert_eq!(entries("from=2100-01-01T00:00:00Z").await, [""; 0]);
        let bad = backend(&server, Method::GET, "/api/audit?from=then", Value::Null).await;
        assert_eq!(bad.error(), "malformed");
        server.stop().await;
        drop(database);
    }
}

/// A client that knows nothing of what happens to the page but what its connection says.
async fn expect_deleted_and_restored(server: &TestServer) {
    grant(server, "page", "*", "edit").await;
    grant(server, "page", "ada", "admin").await;
    let mut bob = member(server, "page", "bob", 1).await;
    bob.write_durably("kept").await;
    let mut elsewhere = member(server, "page", "carl", 2).await;
    elsewhere.until_text("kept").await;
    let denied = ask(
        server,
        Method::DELETE,
        "/api/pages/page",
        &bare("bob"),
        Value::Null,
    )
    .await;
    assert_eq!(denied.error(), "forbidden");

    let since = now();
    let deleted = ask(
        server,
        Method::DELETE,
        "/api/pages/page",
        &bare("ada"),
        Value::Null,
    )
    .await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    expect_removed(&mut bob, since, "4404 page_deleted").await;
    expect_removed(&mut elsewhere, since, "4404 page_deleted").await;
    assert_eq!(outcome(server, "page", &bare("bob")).await, "4404 page_deleted");
    for (method, path, status, code) in [
        (Method::GET, "/api/pages/page", 404, "page_deleted"),
        (Method::GET, "/api/pages/page/snapshot", 404, "page_deleted"),
        (Method::POST, "/api/pages/page/updates", 404, "page_deleted"),
        (Method::DELETE, "/api/pages/page", 404, "page_deleted"),
        (Method::POST, "/api/pages/never/restore", 409, "conflict"),
        (Method::DELETE, "/api/pages/never", 404, "not_found"),
    ] {
        let answer = backend(server, method.clone(), path, Value::Null).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (status, code),
            "{method} {path}"
        );
    }
    revoke(server, "page", "*").await;
    assert_eq!(
        outcome(server, "page", &bare("bob")).await,
        "4403 forbidden",
        "not that there was one"
    );
    grant(server, "page", "*", "edit").await;
    let listed = async |query: &str| {
        let answer = backend(server, Method::GET, &format!("/api/pages{query}"), Value::Null).await;
        let pages = answer.json()["pages"].as_array().expect("a list").clone();
        pages
            .iter()
            .map(|page| page["deletedAt"].is_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (listed("").await, listed("?deleted=true").await),
        (vec![], vec![true])
    );

    let denied = ask(
        server,
        Method::POST,
        "/api/pages/page/restore",
        &bare("bob"),
        Value::Null,
    )
    .await;
    assert_eq!(denied.error(), "forbidden");
    let restored = ask(
        server,
        Method::POST,
        "/api/pages/page/restore",
        &bare("ada"),
        Value::Null,
    )
    .await;
    assert_eq!(restored.status, 204, "{}", restored.text());
    let mut again = member(server, "page", "bob", 3).await;
    again.until_text("kept").await;
    assert_eq!(
        (listed("").await, listed("?deleted=true").await),
        (vec![false], vec![])
    );
    for action in ["delete", "restore"] {
        let path = format!("/api/audit?action={action}");
        // Notes are stored behind the answer.
        crate::support::until(&format!("a note of the {action}"), async || {
            let noted = backend(server, Method::GET, &path, Value::Null).await.json();
            noted["entries"][0]["userId"] == "ada"
        })
        .await;
    }
}

#[tokio::test]
async fn a_deleted_page_is_closed_to_everybody_at_once_until_it_is_restored() {
    for (server, database) in servers().await {
        expect_deleted_and_restored(&server).await;
        server.stop().await;
        drop(database);
    }
}

#[tokio::test]
async fn what_waits_when_a_page_is_deleted_is_not_taken_in() {
    let server = locked(&[]).await;
    grant(&server, "page", "*", "edit").await;
    let mut ada = member(&server, "page", "ada", 1).await;
    ada.write_durably("a").await;
    for clock in 0..200 {
        ada.queue(&insertion(7, clock, "m")).await;
    }
    ada.flush().await;
    let deleted = backend(&server, Method::DELETE, "/api/pages/page", Value::Null).await;
    assert_eq!(deleted.status, 204);
    let _ = ada
        .socket
        .feed(crdt::message::update(&insertion(7, 200, "late")))
        .await;
    assert_eq!(ada.closed().await.code, 4404);
    let restored = backend(&server, Method::POST, "/api/pages/page/restore", Value::Null).await;
    assert_eq!(restored.status, 204);
    let text = backend(
        &server,
        Method::GET,
        "/api/pages/page/content?format=text",
        Value::Null,
    )
    .await;
    assert!(!text.text().contains("late"), "{}", text.text());
}

#[tokio::test]
async fn while_the_store_is_silent_nobody_enters_a_page_that_is_known_to_be_deleted_and_nobody_waits_for_ever()
 {
    let store = SwitchedStore::new(empty_store().await);
    let flags = [
        "--jwt-secret",
        SECRET,
        "--admin-token",
        ADMIN_TOKEN,
        "--access-cache-seconds",
        "0",
        "--access",
        "token",
    ];
    let server = TestServer::start_on(store.clone(), &flags).await;
    let everything = token("ada", &json!({ "*": "edit" }));
    for page in ["gone", "kept"] {
        let update = Replica::new(1).write("text");
        let path = format!("/api/pages/{page}/updates");
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let posted = send(
            server.address,
            Method::POST,
            &path,
            &[("authorization", &bearer)],
            update,
        )
        .await;
        assert_eq!(posted.status, 200);
    }
    let deleted = backend(&server, Method::DELETE, "/api/pages/gone", Value::Null).await;
    assert_eq!(deleted.status, 204);
    store.reading(Weather::Hanging);
    let enters = async |page: &str| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", bearer.as_str())];
        let socket = Socket::open_with(server.address, &format!("/ws/{page}"), &headers).await;
        let mut client = Client::new(socket, Replica::new(9));
        client.ask().await;
        while !client.synced {
            if let Err(closed) = client.turn().await {
                let code = closed.reason.split(':').next().unwrap_or_default();
                return format!("{} {code}", closed.code);
            }
        }
        "let in".to_owned()
    };
    // Both rooms are still in memory. The backend may enter anything that there is.
    assert_eq!(enters("gone").await, "4404 page_deleted");
    assert_eq!(enters("kept").await, "let in");
    // Whether she is still a user nobody can say.
    assert_eq!(outcome(&server, "kept", &everything).await, "1013 unavailable");
    store.reading(Weather::Fine);
    let restored = backend(&server, Method::POST, "/api/pages/gone/restore", Value::Null).await;
    assert_eq!(restored.status, 204);
    store.reading(Weather::Hanging);
    assert_eq!(enters("gone").await, "let in");
    store.reading(Weather::Fine);
}
