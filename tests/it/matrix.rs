//! Who gets in, what they may do then, and what ends it, in every protocol alike: tables over [`Protocol::ALL`].
//!
//! A protocol that is added has to say three things here: how somebody enters, how it writes, and how it hears that it was refused.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    access::{self, locked},
    support::{
        client::Client,
        http::{get_with, send},
        provider::{Provider, Word},
        replica::Replica,
        server::{ADMIN_TOKEN, TestServer},
        socket::{Heard, Socket},
        socket_io::{Session, place},
        token::{SECRET, seconds_from_now, sign, token},
        until,
    },
};

/// A change counts within this time.
const AT_ONCE: Duration = Duration::from_secs(1);
/// An origin that is allowed.
const APP: &str = "https://app.example.com";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    YWebsocket,
    YSocketIo,
    Events,
    YSweet,
    Hocuspocus,
    Rest,
}

/// Where a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// What a client says first: Socket.IO's handshake, Hocuspocus's authentication message.
    Handshake,
    Bearer,
    Query,
    OtherQuery,
    Subprotocol,
    Cookie,
    ForeignCookie,
    Nowhere,
}

/// Somebody who got in.
enum Inside {
    YWebsocket(Box<Client>),
    YSocketIo(Box<Session>),
    Events(Box<Session>),
    YSweet(Box<Client>),
    Hocuspocus(Box<Provider>),
    Rest,
}

/// A request with a token somewhere.
#[derive(Default)]
struct Asking {
    query: String,
    headers: Vec<(&'static str, String)>,
    handshake: String,
}

impl Place {
    const ALL: [Self; 8] = [
        Self::Handshake,
        Self::Bearer,
        Self::Query,
        Self::OtherQuery,
        Self::Subprotocol,
        Self::Cookie,
        Self::ForeignCookie,
        Self::Nowhere,
    ];

    fn put(self, token: &str) -> Asking {
        let mut asking = Asking::default();
        match self {
            Self::Handshake => asking.handshake = json!({ "token": token }).to_string(),
            Self::Bearer => asking.headers.push(("authorization", format!("Bearer {token}"))),
            Self::Query => asking.query = format!("token={token}"),
            Self::OtherQuery => asking.query = format!("yauth={token}"),
            Self::Subprotocol => asking
                .headers
                .push(("sec-websocket-protocol", format!("yauth-{token}"))),
            Self::Cookie | Self::ForeignCookie => {
                asking.headers.push(("cookie", format!("accessToken={token}")));
                if self == Self::Cookie {
                    asking.headers.push(("origin", APP.to_owned()));
                }
            }
            Self::Nowhere => {}
        }
        asking
    }
}

/// The code in front of a sentence.
fn code(reason: &str) -> String {
    reason.split(':').next().unwrap_or_default().to_owned()
}

impl Protocol {
    const ALL: [Self; 6] = [
        Self::YWebsocket,
        Self::YSocketIo,
        Self::Events,
        Self::YSweet,
        Self::Hocuspocus,
        Self::Rest,
    ];

    /// Whether a client of this protocol can put a token there.
    fn has(self, place: Place) -> bool {
        match (self, place) {
            (_, Place::Handshake) => matches!(self, Self::YSocketIo | Self::Events | Self::Hocuspocus),
            (_, Place::Subprotocol) => matches!(self, Self::YWebsocket | Self::YSweet | Self::Hocuspocus),
            _ => true,
        }
    }

    /// Where its clients put a token.
    fn usual_place(self) -> Place {
        match self {
            Self::YSocketIo | Self::Events | Self::Hocuspocus => Place::Handshake,
            Self::YWebsocket | Self::Rest => Place::Bearer,
            Self::YSweet => Place::Query,
        }
    }

    /// Enters the page; the error is the code of the refusal.
    async fn enter(self, server: &TestServer, page: &str, asking: &Asking) -> Result<Inside, String> {
        let headers: Vec<_> = asking
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let query = &asking.query;
        match self {
            Self::YWebsocket => {
                let path = format!("/ws/{page}?{query}");
                let client = open_socket(server, &path, &headers).await?;
                Ok(Inside::YWebsocket(Box::new(client)))
            }
            Self::YSweet => {
                let path = format!("/d/{page}/ws/{page}?{query}");
                let client = open_socket(server, &path, &headers).await?;
                Ok(Inside::YSweet(Box::new(client)))
            }
            Self::Events => {
                let query = format!("&{query}");
                let entered = Session::enter(server.address, &query, &headers, "/", &asking.handshake).await;
                let mut session = entered.map_err(|refusal| code(&refusal))?;
                let body = json!({ "pageId": page, "stateVector": place(0) });
                session.send("join_page", Some(1), &body, &[&[0]]).await;
                let answer = session.until_told("1").await;
                outcome(&answer.body)?;
                Ok(Inside::Events(Box::new(session)))
            }
            Self::YSocketIo => {
                let query = format!("&{query}");
                let namespace = format!("/yjs|{page}");
                let entered =
                    Session::enter(server.address, &query, &headers, &namespace, &asking.handshake).await;
                let session = entered.map_err(|refusal| code(&refusal))?;
                Ok(Inside::YSocketIo(Box::new(session)))
            }
            Self::Hocuspocus => {
                let mut provider = Provider::open_with(server, query, &headers).await;
                let shown: Value = serde_json::from_str(&asking.handshake).unwrap_or_default();
                let token = shown["token"].as_str().unwrap_or_default();
                provider.show_token_and_version(page, token).await;
                provider.say(page, &[0, 0, 1, 0]).await;
                loop {
                    match provider.hear().await {
                        Ok((_, Word::Denied(reason))) => return Err(code(&reason)),
                        Ok((_, Word::LetIn(_))) => return Ok(Inside::Hocuspocus(Box::new(provider))),
                        Ok(_) => {}
                        Err(closed) => return Err(code(&closed.reason)),
                    }
                }
            }
            Self::Rest => {
                let path = format!("/api/pages/{page}/content?{query}");
                let answer = get_with(server.address, &path, &headers).await;
                match answer.status.is_success() {
                    true => Ok(Inside::Rest),
                    false => Err(answer.error()),
                }
            }
        }
    }

    /// Writes as `author`; the error is the code of the refusal.
    async fn write(
        self,
        server: &TestServer,
        page: &str,
        token: &str,
        author: u64,
        inside: &mut Inside,
    ) -> Result<(), String> {
        let mut writer = Replica::new(author);
        let update = writer.write("w");
        match inside {
            Inside::YWebsocket(client) => {
                client.replica = writer;
                client.send(&update).await;
                client
                    .until("an answer", |client| {
                        client.acknowledged > 0 || !client.refusals.is_empty()
                    })
                    .await;
                client
                    .refusals
                    .first()
                    .map_or(Ok(()), |refusal| Err(code(refusal)))
            }
            Inside::YSocketIo(session) => {
                session.emit(page, "sync-update", Some(3), &update).await;
                let answer = session.until_text(&format!("43/yjs|{page},3")).await;
                let body = answer.split_once('[').map_or("", |(_, body)| body);
                let body: Value = serde_json::from_str(&format!("[{body}")).expect("JSON");
                outcome(&body[0])
            }
            Inside::Events(session) => {
                let body = json!({ "pageId": page, "update": place(0) });
                session.send("page_delta", Some(3), &body, &[&update]).await;
                outcome(&session.until_told("3").await.body)
            }
            Inside::YSweet(client) => {
                client.replica = writer;
                client.send(&update).await;
                client.socket.say(vec![102, 1, 7]).await;
                loop {
                    match client.socket.hear().await {
                        // Said back, so what came before is stored.
                        Heard::Frame(frame) if *frame == [102, 1, 7] => {
                            return client
                                .refusals
                                .first()
                                .map_or(Ok(()), |refusal| Err(code(refusal)));
                        }
                        Heard::Frame(frame) => {
                            client.take(&frame).await;
                            if let Some(refusal) = client.refusals.first() {
                                return Err(code(refusal));
                            }
                        }
                        Heard::Closed(closed) => return Err(code(&closed.reason)),
                    }
                }
            }
            Inside::Hocuspocus(provider) => {
                provider.edit(page, &update).await;
                match provider.statuses(page, 1).await[..] {
                    [1] => Ok(()),
                    // The scope that it was told says why.
                    _ => Err("read_only".to_owned()),
                }
            }
            Inside::Rest => {
                let bearer = format!("Bearer {token}");
                let path = format!("/api/pages/{page}/updates");
                let headers = [("authorization", bearer.as_str())];
                let answer = send(server.address, Method::POST, &path, &headers, update).await;
                match answer.status.is_success() {
                    true => Ok(()),
                    false => Err(answer.error()),
                }
            }
        }
    }

    /// Waits until somebody inside hears of a refusal.
    async fn hears(self, inside: &mut Inside, expected: &str) {
        match inside {
            Inside::YWebsocket(client) | Inside::YSweet(client) => loop {
                if client.refusals.iter().any(|refusal| code(refusal) == expected) {
                    return;
                }
                if let Err(closed) = client.turn().await {
                    assert_eq!(code(&closed.reason), expected);
                    return;
                }
            },
            Inside::YSocketIo(session) => {
                session.until_text(&format!("\"code\":\"{expected}\"")).await;
            }
            Inside::Events(session) => {
                session.until_text(&format!("\"{expected}\"")).await;
            }
            Inside::Hocuspocus(provider) => loop {
                match provider.hear().await {
                    Ok((_, Word::Denied(reason) | Word::Closed(reason))) => {
                        assert_eq!(code(&reason), expected);
                        return;
                    }
                    // It may have been told before that it may write.
                    Ok((_, Word::LetIn(scope))) if scope == "readonly" => {
                        assert_eq!(expected, "read_only");
                        return;
                    }
                    Ok(_) => {}
                    Err(closed) => {
                        assert_eq!(code(&closed.reason), expected);
                        return;
                    }
                }
            },
            Inside::Rest => {}
        }
    }
}

/// Opens a socket and takes part in its page, or says with which code it was refused.
async fn open_socket(
    server: &TestServer,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Client, String> {
    let socket = Socket::open_with(server.address, path, headers).await;
    let mut client = Client::new(socket, Replica::new(10));
    client.ask().await;
    while !client.synced {
        client.turn().await.map_err(|closed| code(&closed.reason))?;
    }
    Ok(client)
}

/// What an answer of Socket.IO says: the error is the code of the refusal.
fn outcome(answer: &Value) -> Result<(), String> {
    match answer["ok"] == true {
        true => Ok(()),
        false => Err(answer["error"]["code"].as_str().expect("a code").to_owned()),
    }
}

async fn server() -> TestServer {
    server_with(&[]).await
}

async fn server_with(more: &[&str]) -> TestServer {
    let server = locked(&[&["--cors-origin", APP], more].concat()).await;
    let path = "/api/pages/page/updates";
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let update = Replica::new(1).write("begun ");
    let posted = send(
        server.address,
        Method::POST,
        path,
        &[("authorization", &bearer)],
        update,
    )
    .await;
    assert_eq!(posted.status, 200, "{}", posted.text());
    server
}

async fn backend(server: &TestServer, method: Method, path: &str, body: &Value) {
    let answer = access::backend(server, method, path, body.clone()).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
}

#[tokio::test]
async fn every_protocol_answers_every_token_from_every_place_alike() {
    let server = server().await;
    let edit = json!({ "page": "edit" });
    let with = |change: Value| {
        let mut claims = json!({ "sub": "ada", "pages": edit, "exp": seconds_from_now(600) });
        claims
            .as_object_mut()
            .expect("claims")
            .extend(change.as_object().expect("claims").clone());
        sign(&claims, SECRET, jsonwebtoken::Algorithm::HS256)
    };
    backend(&server, Method::POST, "/api/users/gone/sign-out", &Value::Null).await;
    backend(&server, Method::PUT, "/api/users/blocked/block", &Value::Null).await;
    let tokens = [
        ("good", with(json!({})), "ok"),
        (
            "expired",
            with(json!({ "exp": seconds_from_now(-60) })),
            "token_expired",
        ),
        (
            "not yet valid",
            with(json!({ "nbf": seconds_from_now(600) })),
            "unauthenticated",
        ),
        (
            "of somebody signed out",
            with(json!({ "sub": "gone", "tokenVersion": 0 })),
            "token_revoked",
        ),
        (
            "of somebody blocked",
            with(json!({ "sub": "blocked" })),
            "forbidden",
        ),
        (
            "for another page",
            token("ada", &json!({ "other": "edit" })),
            "forbidden",
        ),
        ("forged", format!("{}x", with(json!({}))), "unauthenticated"),
        ("nonsense", "nonsense".to_owned(), "unauthenticated"),
    ];
    for protocol in Protocol::ALL {
        for place in Place::ALL.into_iter().filter(|place| protocol.has(*place)) {
            for (what, token, expected) in &tokens {
                let expected = match place {
                    Place::Nowhere => "unauthenticated",
                    // It does not count before anybody looks at it.
                    Place::ForeignCookie => "forbidden",
                    Place::Handshake
                    | Place::Bearer
                    | Place::Query
                    | Place::OtherQuery
                    | Place::Subprotocol
                    | Place::Cookie => expected,
                };
                let entered = protocol.enter(&server, "page", &place.put(token)).await;
                let outcome = entered.err().unwrap_or_else(|| "ok".to_owned());
                assert_eq!(outcome, expected, "{protocol:?}, a token {what} in {place:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_role_may_do_the_same_in_every_protocol() {
    let server = server().await;
    let mut author = 100;
    for protocol in Protocol::ALL {
        for (role, enters, writes) in [
            (None, Err("forbidden"), None),
            (Some("view"), Ok(()), Some(Err("read_only"))),
            (Some("comment"), Ok(()), Some(Err("read_only"))),
            (Some("edit"), Ok(()), Some(Ok(()))),
            (Some("admin"), Ok(()), Some(Ok(()))),
        ] {
            let pages = role.map_or(json!({}), |role| json!({ "page": role }));
            let token = token("ada", &pages);
            let asking = protocol.usual_place().put(&token);
            let entered = protocol.enter(&server, "page", &asking).await;
            let outcome = entered.as_ref().map(|_| ()).map_err(String::as_str);
            assert_eq!(outcome, enters, "{protocol:?} as {role:?}");
            if let (Ok(mut inside), Some(expected)) = (entered, writes) {
                author += 1;
                let written = protocol.write(&server, "page", &token, author, &mut inside).await;
                let outcome = written.as_ref().copied().map_err(String::as_str);
                assert_eq!(outcome, expected, "{protocol:?} writes as {role:?}");
            }
        }
    }
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "how soon a change counts is what is promised"
)]
async fn every_change_reaches_every_open_connection_at_once() {
    let view = json!({ "role": "view" });
    let changes = [
        (
            "revoked",
            Method::DELETE,
            "/api/pages/page/permissions/ada",
            Value::Null,
            "forbidden",
        ),
        (
            "downgraded",
            Method::PUT,
            "/api/pages/page/permissions/ada",
            view,
            "read_only",
        ),
        (
            "signed out",
            Method::POST,
            "/api/users/ada/sign-out",
            Value::Null,
            "token_revoked",
        ),
        (
            "blocked",
            Method::PUT,
            "/api/users/ada/block",
            Value::Null,
            "forbidden",
        ),
        (
            "deleted",
            Method::DELETE,
            "/api/pages/page",
            Value::Null,
            "page_deleted",
        ),
    ];
    for protocol in Protocol::ALL {
        for (what, method, path, body, expected) in &changes {
            let server = server().await;
            let edit = json!({ "role": "edit" });
            backend(&server, Method::PUT, "/api/pages/page/permissions/ada", &edit).await;
            let claims = json!({ "sub": "ada", "iat": seconds_from_now(-60), "exp": seconds_from_now(600) });
            let token = sign(&claims, SECRET, jsonwebtoken::Algorithm::HS256);
            let asking = protocol.usual_place().put(&token);
            let mut inside = protocol.enter(&server, "page", &asking).await.expect("a member");
            let since = Instant::now();
            backend(&server, method.clone(), path, body).await;
            protocol.hears(&mut inside, expected).await;
            let late = since.elapsed();
            assert!(
                late < AT_ONCE,
                "{protocol:?} hears that she was {what} after {late:?}"
            );
            // Neither does it help to ask again.
            let again = match protocol.enter(&server, "page", &asking).await {
                Ok(mut inside) => protocol.write(&server, "page", &token, 7, &mut inside).await,
                Err(refusal) => Err(refusal),
            };
            assert_eq!(again, Err((*expected).to_owned()), "{protocol:?}, {what}");
            server.stop().await;
        }
    }
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "how soon an end counts is what is promised"
)]
async fn what_ends_by_itself_ends_in_time_in_every_protocol() {
    // Tokens are good for this much longer, in seconds, because clocks differ.
    const LEEWAY: u64 = 15;
    let server = server().await;
    for protocol in Protocol::ALL
        .into_iter()
        .filter(|protocol| *protocol != Protocol::Rest)
    {
        for (what, expected) in [("grant", "forbidden"), ("token", "token_expired")] {
            // Whole seconds, as both are told in them.
            let ends = seconds_from_now(2);
            let grant = match what {
                "grant" => json!({ "role": "edit", "expiresAt": rfc3339(ends) }),
                _ => json!({ "role": "edit" }),
            };
            backend(&server, Method::PUT, "/api/pages/page/permissions/ada", &grant).await;
            let expires = if what == "token" {
                ends - LEEWAY
            } else {
                ends + 600
            };
            let token = sign(
                &json!({ "sub": "ada", "exp": expires }),
                SECRET,
                jsonwebtoken::Algorithm::HS256,
            );
            let asking = protocol.usual_place().put(&token);
            let mut inside = protocol.enter(&server, "page", &asking).await.expect("a member");
            protocol.hears(&mut inside, expected).await;
            let late = SystemTime::now()
                .duration_since(UNIX_EPOCH + Duration::from_secs(ends))
                .expect("not before its end");
            assert!(
                late < AT_ONCE,
                "{protocol:?} hears of the end of a {what} {late:?} late"
            );
        }
    }
}

#[tokio::test]
async fn what_is_given_counts_without_coming_again_in_every_protocol() {
    let server = server().await;
    let mut author = 200;
    for protocol in Protocol::ALL {
        let view = json!({ "role": "view" });
        backend(&server, Method::PUT, "/api/pages/page/permissions/ada", &view).await;
        let claims = json!({ "sub": "ada", "exp": seconds_from_now(600) });
        let token = sign(&claims, SECRET, jsonwebtoken::Algorithm::HS256);
        let asking = protocol.usual_place().put(&token);
        let mut inside = protocol.enter(&server, "page", &asking).await.expect("a member");
        let edit = json!({ "role": "edit" });
        backend(&server, Method::PUT, "/api/pages/page/permissions/ada", &edit).await;
        author += 1;
        let written = protocol.write(&server, "page", &token, author, &mut inside).await;
        assert_eq!(written, Ok(()), "{protocol:?} may write now");
        // Nor does what was deleted and restored have to be asked for more than once.
        backend(&server, Method::DELETE, "/api/pages/page", &Value::Null).await;
        protocol.hears(&mut inside, "page_deleted").await;
        backend(&server, Method::POST, "/api/pages/page/restore", &Value::Null).await;
        let mut again = protocol
            .enter(&server, "page", &asking)
            .await
            .expect("a member again");
        author += 1;
        let written = protocol.write(&server, "page", &token, author, &mut again).await;
        assert_eq!(written, Ok(()), "{protocol:?} may write again");
    }
}

fn rfc3339(seconds: u64) -> String {
    let moment = UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(moment).to_string()
}

#[tokio::test]
async fn every_protocol_notes_who_came_and_who_was_refused() {
    // Rooms are for connections that stay.
    for protocol in Protocol::ALL.into_iter().filter(|one| *one != Protocol::Rest) {
        let server = server_with(&[
            "--trusted-proxies",
            "127.0.0.1",
            "--max-connections-per-user",
            "1",
            "--max-connections-per-room",
            "2",
        ])
        .await;
        let enter = async |user: &str, role: &str| {
            let token = match role {
                "" => "nonsense".to_owned(),
                role => token(user, &json!({ "page": role, "other": role })),
            };
            let mut asking = protocol.usual_place().put(&token);
            asking.headers.push(("x-forwarded-for", "192.0.2.7".to_owned()));
            protocol.enter(&server, "page", &asking).await
        };
        let ada = enter("ada", "edit").await;
        let eve = enter("eve", "view").await;
        assert!(ada.is_ok() && eve.is_ok(), "{protocol:?}");
        // Where a room is entered before anything is said of it, this is the first thing that is said.
        match enter("bob", "edit").await {
            Ok(mut inside) => protocol.hears(&mut inside, "room_full").await,
            Err(refusal) => assert_eq!(refusal, "room_full", "{protocol:?}"),
        }
        for (user, role, refusal) in [
            ("ada", "edit", "rate_limited"),
            ("mallory", "", "unauthenticated"),
        ] {
            let refused = enter(user, role).await.err();
            assert_eq!(refused.as_deref(), Some(refusal), "{protocol:?}, {user}");
        }
        let bare = protocol.usual_place().put(&token("dan", &json!({})));
        let refused = protocol.enter(&server, "page", &bare).await.err();
        assert_eq!(refused.as_deref(), Some("forbidden"), "{protocol:?}");
        let noted = async || {
            let headers = [("authorization", format!("Bearer {ADMIN_TOKEN}"))];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let answer = get_with(server.address, "/api/audit?action=connect", &headers).await;
            let entries = answer.json()["entries"].as_array().expect("a list").clone();
            let short = |entry: &Value| {
                let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
                [text("outcome"), text("userId"), text("pageId"), text("address")].join(" ")
            };
            let mut noted: Vec<String> = entries.iter().map(short).collect();
            noted.reverse();
            noted
        };
        // Somebody who only wants to speak in events wants no page yet.
        let page = if protocol == Protocol::Events { "-" } else { "page" };
        until("everything to be noted", async || noted().await.len() >= 6).await;
        assert_eq!(
            noted().await,
            [
                "ok ada page 192.0.2.7".to_owned(),
                "ok eve page 192.0.2.7".to_owned(),
                "room_full bob page 192.0.2.7".to_owned(),
                format!("rate_limited ada {page} 192.0.2.7"),
                format!("unauthenticated - {page} 192.0.2.7"),
                "forbidden dan page 127.0.0.1".to_owned(),
            ],
            "{protocol:?}"
        );
    }
}
