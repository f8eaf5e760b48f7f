//! A first lock on the door: who is let in, with which token from where, and what they may do then.

use hyper::{Method, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    http::{Answer, get, get_with, send},
    replica::{Replica, insertion},
    server::{ADMIN_TOKEN, TestServer, configure},
    socket::{Closed, Socket},
    token::{SECRET, claims, seconds_from_now, sign, token, unsigned},
};

/// An origin that the locked servers allow.
const APP: &str = "https://app.example.com";

/// A server that asks for tokens, and lets one origin in.
async fn locked(more: &[&str]) -> TestServer {
    crate::access::locked(&[&["--cors-origin", APP], more].concat()).await
}

/// Joins with the headers and query of a request; `Err` with how the server hung up.
async fn join(server: &TestServer, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, Closed> {
    let socket = Socket::open_with(server.address, path, headers).await;
    let mut client = Client::new(socket, Replica::new(1));
    client.ask().await;
    while !client.synced {
        client.turn().await?;
    }
    Ok(client)
}

/// The close code and the refusal code of a connection that is not let in.
async fn refused(server: &TestServer, path: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    match join(server, path, headers).await {
        Ok(_) => (1000, "let in".to_owned()),
        Err(closed) => {
            let code = closed.reason.split(':').next().unwrap_or_default();
            (closed.code, code.to_owned())
        }
    }
}

async fn bearing(server: &TestServer, method: Method, path: &str, token: &str, body: &[u8]) -> Answer {
    let bearer = format!("Bearer {token}");
    send(
        server.address,
        method,
        path,
        &[("authorization", &bearer)],
        body.to_vec().into(),
    )
    .await
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

fn expected(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_token_is_taken_from_wherever_it_comes() {
    let server = locked(&[]).await;
    let ada = token("ada", &json!({ "page": "edit" }));
    let (bearer, protocol) = (format!("Bearer {ada}"), format!("yjs, yauth-{ada}"));
    let cookie = format!("theme=dark; accessToken={ada}");
    let in_query = format!("/ws/page?x=1&token={ada}");
    let in_other_query = format!("/ws/page?yauth={ada}");
    for (path, headers) in [
        ("/ws/page", &[("authorization", bearer.as_str())][..]),
        (&in_query, &[]),
        (&in_other_query, &[]),
        ("/ws/page", &[("sec-websocket-protocol", &protocol)]),
        ("/ws/page", &[("cookie", &cookie), ("origin", APP)]),
    ] {
        let mut client = join(&server, path, headers).await.expect("a member");
        client.until("her edit", |client| client.synced).await;
        drop(client);
    }
    let socket = Socket::open_with(
        server.address,
        "/ws/page",
        &[("sec-websocket-protocol", &protocol)],
    )
    .await;
    assert_eq!(
        socket.subprotocol,
        Some(format!("yauth-{ada}")),
        "a browser insists on one that it offered"
    );
    let path = format!("/api/pages?token={ada}");
    assert_eq!(get(server.address, &path).await.status, 200);
    let cookies = [("cookie", cookie.as_str()), ("origin", APP)];
    assert_eq!(get_with(server.address, "/api/pages", &cookies).await.status, 200);
}

#[tokio::test]
async fn the_first_source_decides_even_if_it_is_wrong() {
    let server = locked(&[]).await;
    let ada = token("ada", &json!({ "*": "edit" }));
    let path = format!("/ws/page?token={ada}");
    let refusal = refused(&server, &path, &[("authorization", "Bearer nonsense")]).await;
    assert_eq!(refusal, expected(4401, "unauthenticated"));
}

#[tokio::test]
async fn without_a_token_nobody_is_let_in() {
    let server = locked(&[]).await;
    assert_eq!(
        refused(&server, "/ws/page", &[]).await,
        expected(4401, "unauthenticated")
    );
    assert_eq!(
        refused(&server, "/ws/page?token=", &[]).await,
        expected(4401, "unauthenticated")
    );
    for path in [
        "/api/pages",
        "/api/pages/page",
        "/api/pages/page/snapshot",
        "/api/pages/page/content",
    ] {
        assert_eq!(
            code(&get(server.address, path).await),
            expected(401, "unauthenticated"),
            "{path}"
        );
    }
    let posted = send(
        server.address,
        Method::POST,
        "/api/pages/page/updates",
        &[],
        insertion(1, 0, "x"),
    )
    .await;
    assert_eq!(code(&posted), expected(401, "unauthenticated"));
    for open in ["/healthz", "/readyz", "/metrics", "/"] {
        assert_eq!(get(server.address, open).await.status, 200, "{open}");
    }
}

/// Changes one claim of a good token's claims; `null` takes it away.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims("ada", &json!({ "*": "edit" }));
    let object = claims.as_object_mut().expect("claims");
    if value.is_null() {
        object.remove(claim);
    } else {
        object.insert(claim.to_owned(), value);
    }
    claims
}

/// Tokens that prove nothing, each for another reason, and what is said of them.
fn forgeries() -> Vec<(&'static str, String, &'static str)> {
    let signed = |claims: Value| sign(&claims, SECRET, Algorithm::HS256);
    let good = with("sub", json!("ada"));
    let header = |algorithm: &str| json!({ "alg": algorithm, "typ": "JWT" });
    let (head, rest) = (signed(good.clone()), "unauthenticated");
    let signature = head.rsplit('.').next().unwrap_or_default().to_owned();
    let mut tampered = unsigned(&header("HS256"), &with("sub", json!("mallory")), &signature);
    let mut forgeries = vec![
        (
            "expired",
            signed(with("exp", json!(seconds_from_now(-20)))),
            "token_expired",
        ),
        (
            "signed with another secret",
            sign(&good, &format!("{SECRET}!"), Algorithm::HS256),
            rest,
        ),
        ("signed with nothing", sign(&good, "", Algorithm::HS256), rest),
        ("alg none", unsigned(&header("none"), &good, ""), rest),
        ("alg None", unsigned(&header("None"), &good, ""), rest),
        (
            "alg none with the signature of another",
            unsigned(&header("none"), &good, &signature),
            rest,
        ),
        ("HS384", sign(&good, SECRET, Algorithm::HS384), rest),
        ("HS512", sign(&good, SECRET, Algorithm::HS512), rest),
        (
            "RS256 over an HMAC",
            unsigned(&header("RS256"), &good, &signature),
            rest,
        ),
        (
            "EdDSA over an HMAC",
            unsigned(&header("EdDSA"), &good, &signature),
            rest,
        ),
        (
            "no algorithm",
            unsigned(&json!({ "typ": "JWT" }), &good, &signature),
            rest,
        ),
        ("changed claims", std::mem::take(&mut tampered), rest),
        ("no expiry", signed(with("exp", Value::Null)), rest),
        (
            "an expiry that is no number",
            signed(with("exp", json!("tomorrow"))),
            rest,
        ),
        (
            "an expiry beyond time",
            signed(with("exp", json!(u64::MAX))),
            rest,
        ),
        ("no user", signed(with("sub", Value::Null)), rest),
        ("an empty user", signed(with("sub", json!(""))), rest),
        (
            "not good yet",
            signed(with("nbf", json!(seconds_from_now(60)))),
            rest,
        ),
        (
            "a role that is none",
            signed(with("pages", json!({ "*": "owner" }))),
            rest,
        ),
        ("grants that are none", signed(with("pages", json!("all"))), rest),
        (
            "a huge one",
            signed(with("padding", json!("x".repeat(20_000)))),
            rest,
        ),
        ("no token at all", "nonsense".to_owned(), rest),
        ("dots", "..".to_owned(), rest),
    ];
    let critical = json!({ "alg": "HS256", "typ": "JWT", "crit": ["b64"], "b64": false });
    forgeries.push((
        "an unknown critical header",
        signed_with_header(&critical, &good),
        rest,
    ));
    forgeries
}

/// A token with any header, and a signature (HS256) that is right for it.
fn signed_with_header(header: &Value, claims: &Value) -> String {
    let message = unsigned(header, claims, "");
    let message = message.trim_end_matches('.');
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    format!("{message}.{signature}")
}

#[tokio::test]
async fn a_token_that_proves_nothing_is_refused() {
    let server = locked(&[]).await;
    let good = sign(&with("sub", json!("ada")), SECRET, Algorithm::HS256);
    join(&server, &format!("/ws/page?token={good}"), &[])
        .await
        .expect("a member");
    for (what, token, code_) in forgeries() {
        // The head of a request is limited, so the huge one comes in a header or not at all.
        let bearer = format!("Bearer {token}");
        let refusal = refused(&server, "/ws/page", &[("authorization", &bearer)]).await;
        assert_eq!(refusal, expected(4401, code_), "{what}");
        let answer = get_with(server.address, "/api/pages", &[("authorization", &bearer)]).await;
        assert_eq!(code(&answer), expected(401, code_), "{what}");
        assert!(
            token.len() < 5 || !answer.text().contains(&token),
            "{what}: a token is repeated to nobody"
        );
    }
}

#[tokio::test]
async fn clocks_may_differ_by_a_few_seconds() {
    let server = locked(&[]).await;
    for claims in [
        with("exp", json!(seconds_from_now(-10))),
        with("nbf", json!(seconds_from_now(10))),
        with("nbf", json!(seconds_from_now(-10))),
    ] {
        let token = sign(&claims, SECRET, Algorithm::HS256);
        join(&server, &format!("/ws/page?token={token}"), &[])
            .await
            .expect("a member");
    }
}

#[tokio::test]
async fn a_user_may_be_named_in_another_claim() {
    let server = locked(&["--max-connections-per-user", "1"]).await;
    let by_id = json!({ "userId": "ada", "pages": { "*": "edit" }, "exp": seconds_from_now(60) });
    let by_id = format!("/ws/page?token={}", sign(&by_id, SECRET, Algorithm::HS256));
    let by_sub = format!("/ws/page?token={}", token("ada", &json!({ "*": "edit" })));
    let _first = join(&server, &by_id, &[]).await.expect("a member");
    assert_eq!(
        refused(&server, &by_sub, &[]).await,
        expected(4429, "rate_limited"),
        "the same user"
    );
}

#[tokio::test]
async fn issuer_and_audience_must_be_the_configured_ones() {
    let server = locked(&["--jwt-issuer", "our-app", "--jwt-audience", "pages"]).await;
    let try_with = async |issuer: Value, audience: Value| {
        let mut claims = with("iss", issuer);
        if !audience.is_null() {
            claims
                .as_object_mut()
                .expect("claims")
                .insert("aud".to_owned(), audience);
        }
        let token = sign(&claims, SECRET, Algorithm::HS256);
        refused(&server, &format!("/ws/page?token={token}"), &[]).await.0
    };
    assert_eq!(try_with(json!("our-app"), json!("pages")).await, 1000);
    assert_eq!(try_with(json!("our-app"), json!(["mail", "pages"])).await, 1000);
    assert_eq!(try_with(json!("their-app"), json!("pages")).await, 4401);
    assert_eq!(try_with(Value::Null, json!("pages")).await, 4401);
    assert_eq!(try_with(json!("our-app"), json!("mail")).await, 4401);
    assert_eq!(try_with(json!("our-app"), Value::Null).await, 4401);
}

#[tokio::test]
async fn grants_cover_pages_and_prefixes() {
    let server = locked(&[]).await;
    let grants =
        json!({ "notes": "edit", "team/*": "edit", "team/board/*": "view", "team/board/mine": "edit" });
    let ada = token("ada", &grants);
    for (page, allowed) in [
        ("notes", Some(true)),
        ("notes2", None),
        ("team%2Fa", Some(true)),
        ("teammate", None),
        ("team%2Fboard%2Fplan", Some(false)),
        ("team%2Fboard%2Fmine", Some(true)),
        ("other", None),
    ] {
        let joined = join(&server, &format!("/ws/{page}?token={ada}"), &[]).await;
        assert_eq!(joined.is_ok(), allowed.is_some(), "{page}");
        if let Err(closed) = joined {
            assert_eq!(closed.code, 4403, "{page}: {closed:?}");
            assert!(closed.reason.starts_with("forbidden: "), "{page}: {closed:?}");
        }
        let path = format!("/api/pages/{page}/updates");
        let posted = bearing(&server, Method::POST, &path, &ada, &insertion(1, 0, "x")).await;
        match allowed {
            Some(true) => assert_eq!(posted.status, 200, "{page}"),
            Some(false) => assert_eq!(code(&posted), expected(403, "read_only"), "{page}"),
            None => assert_eq!(code(&posted), expected(403, "forbidden"), "{page}"),
        }
        let read = bearing(
            &server,
            Method::GET,
            &format!("/api/pages/{page}/content"),
            &ada,
            &[],
        )
        .await;
        match allowed {
            Some(true) => assert_eq!(read.status, 200, "{page}"),
            Some(false) => assert_eq!(code(&read), expected(404, "not_found"), "{page}"),
            None => assert_eq!(
                code(&read),
                expected(403, "forbidden"),
                "{page}: whether it exists is not told"
            ),
        }
    }
}

#[tokio::test]
async fn a_listing_shows_only_what_its_reader_may_see() {
    let server = locked(&[]).await;
    for page in ["a", "b", "c", "d", "e"] {
        let path = format!("/api/pages/{page}/updates");
        let posted = bearing(&server, Method::POST, &path, ADMIN_TOKEN, &insertion(1, 0, page)).await;
        assert_eq!(posted.status, 200);
    }
    let ada = token("ada", &json!({ "b": "view", "d": "edit" }));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/pages?limit=1{after}");
        let part = bearing(&server, Method::GET, &path, &ada, &[]).await.json();
        for page in part["pages"].as_array().expect("a list") {
            seen.push(page["pageId"].as_str().expect("an id").to_owned());
        }
        match part["next"].as_str() {
            Some(next) => {
                assert!(["b", "d"].contains(&next), "no page is given away: {next}");
                after = format!("&after={next}");
            }
            None => break,
        }
    }
    assert_eq!(seen, ["b", "d"]);
}

#[tokio::test]
async fn a_listing_goes_through_grants_and_permissions_of_every_kind() {
    let server = locked(&[]).await;
    for page in ["a", "b", "team", "team/1", "team/2", "team/3", "teams", "z"] {
        let path = format!("/api/pages/{}/updates", page.replace('/', "%2F"));
        let posted = bearing(&server, Method::POST, &path, ADMIN_TOKEN, &insertion(1, 0, page)).await;
        assert_eq!(posted.status, 200);
    }
    for (pattern, user, role) in [
        ("team%2F*", "ada", "view"),
        ("z", "*", "edit"),
        ("drive:d", "ada", "view"),
    ] {
        let path = format!("/api/pages/{pattern}/permissions/{user}");
        let granted = crate::access::backend(&server, Method::PUT, &path, json!({ "role": role })).await;
        assert!(granted.status.is_success(), "{granted:?}");
    }
    let listed = async |user: &str, grants: Value, query: &str| {
        let token = token(user, &grants);
        let path = format!("/api/pages?{query}");
        let listed = bearing(&server, Method::GET, &path, &token, &[]).await.json();
        let pages = listed["pages"].as_array().expect("a list").iter();
        pages
            .map(|page| page["pageId"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    let grants = json!({ "b": "view", "team/2": "edit" });
    let all = ["b", "team/1", "team/2", "team/3", "z"];
    assert_eq!(listed("ada", grants.clone(), "").await, all);
    assert_eq!(listed("ada", grants.clone(), "prefix=team").await, all[1..4]);
    assert_eq!(
        listed("ada", grants.clone(), "prefix=team/2&after=team/1").await,
        ["team/2"]
    );
    assert_eq!(
        listed("ada", grants.clone(), "after=team/1&limit=2").await,
        all[2..4]
    );
    assert_eq!(listed("ada", grants, "after=team/3").await, ["z"]);
    assert_eq!(listed("eve", json!({}), "").await, ["z"]);
    assert_eq!(
        listed("eve", json!({ "t*": "view" }), "limit=2").await,
        ["team", "team/1"]
    );
    assert_eq!(listed("eve", json!({}), "deleted=true").await, [""; 0]);
}

#[tokio::test]
async fn a_reader_syncs_and_shows_a_cursor_and_changes_nothing() {
    let server = locked(&[]).await;
    let edit = token("ada", &json!({ "page": "edit" }));
    let ada_socket = Socket::open(server.address, &format!("/ws/page?token={edit}")).await;
    let mut ada = Client::join_as(ada_socket, Replica::new(1)).await;
    ada.write_durably("hello").await;
    for (user, role, id) in [("rita", "view", 2), ("carl", "comment", 3)] {
        let token = token(user, &json!({ "page": role }));
        let mut reader = Client::join_at(server.address, &format!("/ws/page?token={token}"), id).await;
        let text = ada.replica.text();
        reader.until_text(&text).await;
        reader.show(&json!({ "name": user })).await;
        ada.until_shown(id, Some(&json!({ "name": user }))).await;
        assert_eq!(
            reader.refusals, [""; 0],
            "what she has said so far changes nothing"
        );

        let attempt = insertion(id, 0, "mine");
        reader.send(&attempt).await;
        reader
            .until("the refusal", |reader| !reader.refusals.is_empty())
            .await;
        assert!(
            reader.refusals[0].starts_with("read_only: "),
            "{:?}",
            reader.refusals
        );
        reader.socket.say(crdt::message::sync_step_2(&attempt)).await;
        reader.send(&crate::support::replica::deletion(1, 0, 5)).await;
        // She stays, sees what others do, and nobody sees what she tried.
        ada.write_durably("!").await;
        let text = ada.replica.text();
        reader.until_text(&text).await;
        assert_eq!(reader.acknowledged, 0);
        let posted = bearing(&server, Method::POST, "/api/pages/page/updates", &token, &attempt).await;
        assert_eq!(code(&posted), expected(403, "read_only"));
        reader.leave().await;
    }
    let content = bearing(&server, Method::GET, "/api/pages/page/content", &edit, &[]).await;
    assert_eq!(content.json(), json!({ "text": "hello!!" }));
}

#[tokio::test]
async fn nobody_writes_under_the_client_id_of_another_user() {
    let server = locked(&[]).await;
    let at = |user: &str| format!("/ws/page?token={}", token(user, &json!({ "page": "edit" })));
    let mut ada = Client::join_at(server.address, &at("ada"), 1).await;
    ada.write_durably("mine").await;
    let mut mallory = Client::join_at(server.address, &at("mallory"), 2).await;
    mallory.send(&insertion(1, 4, " forged")).await;
    let closed = mallory.closed().await;
    assert_eq!(closed.code, 4403, "{closed:?}");
    // Her own second tab may: it is usually the first, come back.
    let mut again = Client::join_at(server.address, &at("ada"), 3).await;
    again.send(&insertion(1, 4, " still")).await;
    ada.until_text("mine still").await;
    ada.until_acknowledged().await;
}

#[tokio::test]
async fn an_administrator_may_do_everything() {
    let server = locked(&[]).await;
    let claims = json!({ "sub": "root", "role": "admin", "exp": seconds_from_now(60) });
    let root = sign(&claims, SECRET, Algorithm::HS256);
    let mut client = Client::join_at(server.address, &format!("/ws/any/page?token={root}"), 1).await;
    client.write_durably("hello").await;
    let described = bearing(&server, Method::GET, "/api/pages/any%2Fpage", &root, &[]).await;
    assert_eq!(described.json()["connections"], 1);
    let user = json!({ "sub": "bob", "role": "user", "exp": seconds_from_now(60) });
    let bob = sign(&user, SECRET, Algorithm::HS256);
    assert_eq!(
        refused(&server, &format!("/ws/any/page?token={bob}"), &[]).await,
        expected(4403, "forbidden")
    );
}

#[tokio::test]
async fn the_backend_has_a_token_of_its_own() {
    let server = locked(&[]).await;
    let path = "/api/pages/page/updates";
    assert_eq!(
        bearing(&server, Method::POST, path, ADMIN_TOKEN, &insertion(1, 0, "x"))
            .await
            .status,
        200
    );
    assert_eq!(
        bearing(&server, Method::GET, "/api/pages", ADMIN_TOKEN, &[])
            .await
            .status,
        200
    );
    let nearly = &ADMIN_TOKEN[..ADMIN_TOKEN.len() - 1];
    assert_eq!(
        code(&bearing(&server, Method::GET, "/api/pages", nearly, &[]).await),
        expected(401, "unauthenticated")
    );
    let in_query = get(server.address, &format!("/api/pages?token={ADMIN_TOKEN}")).await;
    assert_eq!(
        code(&in_query),
        expected(401, "unauthenticated"),
        "addresses end up in logs"
    );
    let open = TestServer::start(&["--admin-token", ADMIN_TOKEN]).await;
    assert_eq!(
        bearing(&open, Method::GET, "/api/pages", ADMIN_TOKEN, &[])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let server = locked(&[]).await;
    // Fifteen seconds of leeway, of which fourteen have passed.
    let claims = with("exp", json!(seconds_from_now(-13)));
    let token = sign(&claims, SECRET, Algorithm::HS256);
    let mut client = Client::join_at(server.address, &format!("/ws/page?token={token}"), 1).await;
    client.write_durably("in time").await;
    let closed = client.closed().await;
    assert_eq!(closed.code, 4401);
    assert!(closed.reason.starts_with("token_expired: "), "{closed:?}");
}

#[test]
fn the_server_runs_open_only_where_nobody_else_can_reach_it() {
    let opens = |flags: &[&str]| configure(flags).map(|config| config.authenticator.open);
    assert_eq!(opens(&[]), Ok(true));
    assert_eq!(opens(&["--host", "::1"]), Ok(true));
    assert_eq!(opens(&["--host", "0.0.0.0", "--auth", "open"]), Ok(true));
    assert_eq!(opens(&["--jwt-secret", SECRET]), Ok(false));
    assert_eq!(opens(&["--jwt-secret", SECRET, "--auth", "token"]), Ok(false));
    for address in ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"] {
        let refused = opens(&["--host", address]).expect_err("a refusal");
        assert!(refused.to_string().contains("JWT_SECRET"), "{refused}");
        let backend_only = opens(&["--host", address, "--admin-token", ADMIN_TOKEN]);
        assert!(
            backend_only.is_err(),
            "the backend's token lets nobody else in or out"
        );
    }
}

#[tokio::test]
async fn in_open_mode_guests_edit() {
    let server = TestServer::start(&[]).await;
    let mut guest = Client::join(&server, "page", 1).await;
    guest.write_durably("hello").await;
    // Applications that always send a token need not be changed to try the server out.
    let mut with_token = Client::join_at(server.address, "/ws/page?token=anything", 2).await;
    with_token.write_durably(" you").await;
}

#[tokio::test]
async fn only_allowed_origins_may_connect() {
    let server = locked(&["--web-app-url", "https://pages.example.com/app?x=1"]).await;
    let ada = token("ada", &json!({ "page": "edit" }));
    let path = format!("/ws/page?token={ada}");
    let own = format!("http://{}", server.address);
    let cookie = format!("accessToken={ada}");
    for (origin, allowed) in [
        (APP, true),
        ("https://APP.example.com:443", true),
        ("https://pages.example.com", true),
        (&own, true),
        ("http://app.example.com", false),
        ("https://app.example.com:8443", false),
        ("https://app.example.com.evil.net", false),
        ("https://evil.net", false),
        ("http://localhost:5173", false),
        ("null", false),
        ("*", false),
    ] {
        let expected = if allowed {
            (1000, "let in")
        } else {
            (4403, "forbidden")
        };
        for (path, headers) in [
            (path.as_str(), &[("origin", origin)][..]),
            ("/ws/page", &[("origin", origin), ("cookie", &cookie)]),
        ] {
            let refusal = refused(&server, path, headers).await;
            assert_eq!((refusal.0, refusal.1.as_str()), expected, "{origin} {headers:?}");
        }
        let answer = get_with(
            server.address,
            "/api/pages",
            &[("origin", origin), ("cookie", &cookie)],
        )
        .await;
        assert_eq!(answer.status == StatusCode::OK, allowed, "{origin}");
    }
    let bare = refused(&server, "/ws/page", &[("cookie", &cookie)]).await;
    assert_eq!(
        bare,
        expected(4403, "forbidden"),
        "a cookie counts only with an allowed origin"
    );
}

#[tokio::test]
async fn without_tokens_only_pages_of_this_machine_may_connect() {
    let server = TestServer::start(&[]).await;
    for (origin, host, allowed) in [
        ("http://localhost:5173", None, true),
        ("http://127.0.0.1:8080", None, true),
        ("http://[::1]:8080", None, true),
        ("https://evil.net", None, false),
        // A stranger's name that was pointed at this machine.
        ("http://evil.net", Some("evil.net"), false),
    ] {
        let mut headers = vec![("origin", origin)];
        headers.extend(host.map(|host| ("host", host)));
        let refusal = refused(&server, "/ws/page", &headers).await;
        assert_eq!(refusal.0 == 1000, allowed, "{origin}: {refusal:?}");
        let answer = get_with(server.address, "/api/pages", &headers[..1]).await;
        assert_eq!(answer.status == StatusCode::OK, allowed, "{origin}");
    }
}

#[tokio::test]
async fn browsers_are_told_which_origins_may_read() {
    let server = locked(&[]).await;
    let asking = [
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    for (origin, allowed) in [(APP, true), ("https://evil.net", false)] {
        let headers = [&[("origin", origin)][..], &asking].concat();
        let answer = send(server.address, Method::OPTIONS, "/api/pages", &headers, "".into()).await;
        let told = answer.header("access-control-allow-origin");
        assert_eq!(
            told,
            if allowed { APP } else { "" },
            "never a wildcard, never somebody else"
        );
    }
    let ada = token("ada", &json!({}));
    let headers = [("origin", APP), ("authorization", &format!("Bearer {ada}"))];
    let answer = get_with(server.address, "/api/pages", &headers).await;
    assert_eq!(answer.header("access-control-allow-origin"), APP);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("x-pageroom-seq")
    );
}
