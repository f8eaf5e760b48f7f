//! What whoever runs a server sees of it and does with it; and that nobody else does.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use hyper::Method;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::Instant,
};

use crate::support::{
    client::Client,
    event_stream::Events,
    http::{Answer, get, send},
    process::Process,
    server::{ADMIN_TOKEN, TestServer},
    socket::Socket,
    soon,
    token::{SECRET, claims, sign, token},
    until, within,
};

const LOCKED: [&str; 4] = ["--admin-token", ADMIN_TOKEN, "--jwt-secret", SECRET];

/// Every way of asking.
const ROUTES: [(Method, &str, &str); 9] = [
    (Method::GET, "/api/admin/overview", ""),
    (Method::GET, "/api/admin/events", ""),
    (Method::GET, "/api/admin/rooms", ""),
    (Method::GET, "/api/admin/users", ""),
    (Method::POST, "/api/admin/drain", r#"{"seconds":0}"#),
    (Method::DELETE, "/api/admin/drain", ""),
    (Method::GET, "/api/admin/log-level", ""),
    (Method::PUT, "/api/admin/log-level", r#"{"filter":"trace"}"#),
    (Method::DELETE, "/api/admin/log-level", ""),
];

async fn ask(server: SocketAddr, token: &str, method: Method, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    send(
        server,
        method,
        path,
        &headers,
        Bytes::copy_from_slice(body.as_bytes()),
    )
    .await
}

async fn read(server: SocketAddr, path: &str) -> Value {
    let answer = ask(server, ADMIN_TOKEN, Method::GET, path, "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

async fn watch(server: SocketAddr, token: &str) -> Events {
    let bearer = format!("Bearer {token}");
    Events::open(server, "/api/admin/events", &[("authorization", &bearer)]).await
}

/// The next overview in which something is so.
async fn told(events: &mut Events, is_so: impl Fn(&Value) -> bool) -> Value {
    soon("news of the server", async {
        loop {
            let (event, _, data) = events.next().await.expect("a stream that goes on");
            assert_eq!(event, "overview");
            if is_so(&data) {
                return data;
            }
        }
    })
    .await
}

async fn join(server: &TestServer, page: &str, user: &str, author: u64) -> Client {
    let token = token(user, &json!({ "*": "edit" }));
    Client::join_at(server.address, &format!("/ws/{page}?token={token}"), author).await
}

#[tokio::test]
async fn only_who_shows_the_admin_token_or_is_an_administrator_may_ask_and_the_others_are_noted() {
    let server = TestServer::start(&LOCKED).await;
    let user = token("ada", &json!({ "*": "admin" }));
    for (method, path, body) in ROUTES {
        let unknown = send(server.address, method.clone(), path, &[], Bytes::new()).await;
        assert_eq!(
            (unknown.status.as_u16(), &*unknown.error()),
            (401, "unauthenticated")
        );
        let refused = ask(server.address, "guessed", method.clone(), path, body).await;
        assert_eq!(
            (refused.status.as_u16(), &*refused.error()),
            (401, "unauthenticated")
        );
        let refused = ask(server.address, &user, method.clone(), path, body).await;
        assert_eq!(
            (refused.status.as_u16(), &*refused.error()),
            (403, "forbidden"),
            "{method} {path}: who manages pages does not manage the server"
        );
    }
    assert_eq!(
        get(server.address, "/readyz").await.status,
        200,
        "nothing was drained"
    );
    until("the refusals to be noted", async || {
        let found = read(
            server.address,
            "/api/audit?user=ada&outcome=forbidden&action=request",
        )
        .await;
        found["entries"][0]["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("/api/admin/"))
    })
    .await;
    let mut admin = claims("root", &json!({}));
    admin["role"] = "admin".into();
    let admin = sign(&admin, SECRET, Algorithm::HS256);
    for path in ["/api/admin/overview", "/api/admin/rooms", "/api/admin/users"] {
        let answer = ask(server.address, &admin, Method::GET, path, "").await;
        assert_eq!(answer.status, 200, "{path}");
    }
    // Where everybody is a guest, guests are no administrators.
    let open = TestServer::start(&[]).await;
    for (method, path, body) in ROUTES {
        let answer = ask(open.address, "guess", method, path, body).await;
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_files_that_say_nothing_and_is_not_there_when_it_is_switched_off() {
    let on = TestServer::start(&LOCKED).await;
    let page = get(on.address, "/admin").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert_eq!(page.header("cache-control"), "no-cache");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let policy = page.header("content-security-policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(
        !page.text().contains(env!("CARGO_PKG_VERSION")),
        "nothing of the server is in it"
    );
    let slashed = get(on.address, "/admin/").await;
    assert_eq!(
        (slashed.status.as_u16(), slashed.header("location")),
        (308, "../admin")
    );
    let assets: Vec<_> = (page.text().split('"'))
        .filter_map(|part| part.strip_prefix("./assets/"))
        .collect();
    assert!(assets.len() > 2, "{assets:?}");
    for asset in assets {
        assert_eq!(
            get(on.address, &format!("/assets/{asset}")).await.status,
            200,
            "{asset}"
        );
    }

    let without_token = TestServer::start(&["--demo", "false"]).await;
    let page = get(without_token.address, "/admin").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("PAGEROOM_ADMIN_TOKEN"));
    assert!(!page.text().contains("<script"), "it does nothing");

    let off = TestServer::start(&["--admin-token", ADMIN_TOKEN, "--admin-page", "false"]).await;
    assert_eq!(get(off.address, "/admin").await.error(), "not_found");
    assert_eq!(get(off.address, "/admin/").await.status, 404);
}

#[tokio::test]
async fn an_overview_says_who_the_server_is_and_how_it_does() {
    let server = TestServer::start(&LOCKED).await;
    let mut ada = join(&server, "page", "ada", 1).await;
    ada.write_durably("words").await;
    let overview = read(server.address, "/api/admin/overview").await;
    let node = &overview["node"];
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        node["store"]
            .as_str()
            .is_some_and(|store| store.starts_with("memory"))
    );
    assert!(node["id"].as_str().is_some_and(|id| id.len() == 16));
    assert_eq!(node["address"], server.address.to_string());
    assert_eq!(overview["rooms"], json!({ "open": 1, "members": 1 }));
    assert_eq!(overview["connections"]["open"], 1);
    assert_eq!(overview["connections"]["yWebsocket"], 1);
    assert_eq!(overview["connections"]["limit"], 20_000);
    assert!(
        overview["totals"]["messages"]
            .as_u64()
            .is_some_and(|messages| messages > 0)
    );
    assert_eq!(
        (&overview["problem"], &overview["drain"]),
        (&Value::Null, &Value::Null)
    );
    // The log of this process is the tests'.
    assert_eq!(overview["log"], Value::Null);
    let names: Vec<_> = overview["queues"]
        .as_array()
        .expect("queues")
        .iter()
        .map(|queue| queue["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["storeWriter", "unstoredBytes", "readers", "auditNotes"]);
    ada.leave().await;
    until("the connection to be counted no more", async || {
        read(server.address, "/api/admin/overview").await["connections"]["yWebsocket"] == 0
    })
    .await;
    // Another server is another node.
    let other = TestServer::start(&LOCKED).await;
    let other = read(other.address, "/api/admin/overview").await;
    assert_ne!(other["node"]["id"], overview["node"]["id"]);
}

#[tokio::test]
async fn open_pages_are_listed_with_their_people_and_their_weight_piece_by_piece() {
    let server = TestServer::start(&LOCKED).await;
    let mut clients = Vec::new();
    for (page, user) in [
        ("team%2Fb", "bob"),
        ("a", "ada"),
        ("a", "eve"),
        ("team%2Fa", "ada"),
    ] {
        let author = clients.len() as u64 + 1;
        let mut client = join(&server, page, user, author).await;
        client.write_durably("some words").await;
        clients.push(client);
    }
    let ids = |listing: &Value| -> Vec<String> {
        let rooms = listing["rooms"].as_array().expect("rooms");
        rooms
            .iter()
            .map(|room| room["pageId"].as_str().expect("an id").to_owned())
            .collect()
    };
    let first = read(server.address, "/api/admin/rooms?limit=2").await;
    assert_eq!(ids(&first), ["a", "team/a"]);
    let rest = read(server.address, "/api/admin/rooms?limit=2&after=team/a").await;
    assert_eq!(
        (first["next"].as_str(), ids(&rest)),
        (Some("team/a"), vec!["team/b".to_owned()])
    );
    assert_eq!(rest["next"], Value::Null);
    let team = read(server.address, "/api/admin/rooms?prefix=team/").await;
    assert_eq!(ids(&team), ["team/a", "team/b"]);
    let page = &first["rooms"][0];
    assert_eq!(page["people"], 2);
    assert_eq!(page["users"][0]["userId"], "ada");
    assert_eq!(page["state"]["members"], 2);
    assert_eq!(page["state"]["unstoredBytes"], 0);
    assert!(page["state"]["sizeBytes"].as_u64().is_some_and(|size| size > 20));
    assert_eq!(page["weight"]["clients"], 2);
    assert!(
        page["weight"]["liveBytes"]
            .as_u64()
            .is_some_and(|live| live >= 20)
    );
    let behind_no_id = read(server.address, "/api/admin/rooms?after=").await;
    assert_eq!(ids(&behind_no_id), ["a", "team/a", "team/b"]);
}

#[tokio::test]
async fn it_is_told_who_is_where_until_they_go() {
    let server = TestServer::start(&LOCKED).await;
    let first = join(&server, "a", "ada", 1).await;
    let _again = join(&server, "a", "ada", 2).await;
    let mut elsewhere = join(&server, "b", "ada", 3).await;
    let _bob = join(&server, "a", "bob", 4).await;
    let listed = read(server.address, "/api/admin/users?limit=1").await;
    assert_eq!(listed["next"], "ada");
    let ada = &listed["users"][0];
    assert_eq!((&ada["userId"], &ada["roomCount"]), (&json!("ada"), &json!(2)));
    assert_eq!(
        ada["rooms"][0],
        json!({ "room": "page:a", "pageId": "a", "seats": 2, "role": "edit" })
    );
    let rest = read(server.address, "/api/admin/users?after=ada").await;
    assert_eq!(rest["users"][0]["userId"], "bob");
    let found = read(server.address, "/api/admin/users?user=bob").await;
    assert_eq!(found["users"], rest["users"]);
    assert_eq!(
        read(server.address, "/api/admin/users?user=eve").await["users"],
        json!([])
    );
    // What is listed is what a backend sends away.
    let body = json!({ "userId": "ada", "roomPattern": "page:b", "reason": "session_revoked" });
    let kicked = ask(
        server.address,
        ADMIN_TOKEN,
        Method::POST,
        "/api/kick",
        &body.to_string(),
    )
    .await;
    assert_eq!(kicked.json()["kickedCount"], 1, "{}", kicked.text());
    assert_eq!(elsewhere.closed().await.code, 4403);
    drop(first);
    until("what is gone to be gone", async || {
        let ada = &read(server.address, "/api/admin/users?user=ada").await["users"][0];
        ada["roomCount"] == 1 && ada["rooms"][0]["seats"] == 1
    })
    .await;
}

#[tokio::test]
async fn a_watcher_is_told_what_changes_and_not_more_often_than_twice_a_second() {
    let server = TestServer::start(&LOCKED).await;
    let mut events = watch(server.address, ADMIN_TOKEN).await;
    let first = told(&mut events, |_| true).await;
    assert_eq!(first["rooms"]["members"], 0);
    let begun = Instant::now();
    let mut ada = join(&server, "page", "ada", 1).await;
    let joined = told(&mut events, |told| told["rooms"]["members"] == 1).await;
    assert!(joined["changes"]["people"].as_u64() > first["changes"]["people"].as_u64());
    let mut heard = 0;
    while heard < 4 {
        ada.write_durably("word ").await;
        let before = told(&mut events, |_| true).await;
        assert!(
            before["totals"]["messages"]
                .as_u64()
                .is_some_and(|messages| messages > 0)
        );
        heard += 1;
    }
    // The first one came at once; five more have come since.
    assert!(
        begun.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        begun.elapsed()
    );
    told(&mut events, |told| {
        told["rates"]["messages"].as_f64().is_some_and(|rate| rate > 0.0)
    })
    .await;
    // A stop says so, and ends the stream.
    let stopped = tokio::spawn(server.stop());
    soon("the end", async {
        while let Some((event, _, data)) = events.next().await {
            if event == "end" {
                assert_eq!(data["error"]["code"], "draining");
                return;
            }
            assert!(
                data["drain"].is_null() || data["drain"]["stopping"] == true,
                "{data}"
            );
        }
        panic!("the stream ended without a word");
    })
    .await;
    assert!(stopped.await.expect("a stop"));
}

#[tokio::test]
async fn there_are_only_so_many_watchers_and_an_administrator_who_is_signed_out_is_none_any_more() {
    let server = TestServer::start(&LOCKED).await;
    let mut admin = claims("root", &json!({}));
    admin["role"] = "admin".into();
    let admin = sign(&admin, SECRET, Algorithm::HS256);
    let mut watching = watch(server.address, &admin).await;
    told(&mut watching, |_| true).await;
    let mut others = Vec::new();
    for _ in 1..32 {
        let mut events = watch(server.address, ADMIN_TOKEN).await;
        told(&mut events, |_| true).await;
        others.push(events);
    }
    let more = ask(server.address, ADMIN_TOKEN, Method::GET, "/api/admin/events", "").await;
    assert_eq!((more.status.as_u16(), &*more.error()), (503, "unavailable"));
    let sign_out = ask(
        server.address,
        ADMIN_TOKEN,
        Method::POST,
        "/api/users/root/sign-out",
        "",
    );
    assert_eq!(sign_out.await.status, 200);
    let code = within(Duration::from_secs(2), "the end", async {
        loop {
            let (event, _, data) = watching.next().await.expect("a last word");
            if event == "end" {
                return data["error"]["code"].clone();
            }
        }
    })
    .await;
    assert_eq!(code, "token_revoked");
    assert_eq!(watching.next().await, None);
    // Its place is free.
    let mut again = watch(server.address, ADMIN_TOKEN).await;
    told(&mut again, |_| true).await;
}

/// Asks for something, and takes next to nothing of the answer.
async fn asks_and_reads_little(server: SocketAddr, path: &str) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(server).await.expect("a server that listens");
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a connection");
    let mut status = [0; 12];
    soon("a status", stream.read_exact(&mut status))
        .await
        .expect("an answer");
    (stream, String::from_utf8_lossy(&status[9..]).into_owned())
}

#[tokio::test]
async fn streams_that_nobody_reads_delay_no_acknowledgement_and_cost_little() {
    let server = Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("JWT_SECRET", SECRET),
    ]);
    let address = server.address().await;
    let ada = token("ada", &json!({ "*": "edit" }));
    let mut ada = Client::join_at(address, &format!("/ws/page?token={ada}"), 1).await;
    let median = async |ada: &mut Client| {
        let mut times = Vec::new();
        for _ in 0..100 {
            let begun = Instant::now();
            ada.write_durably("x").await;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        times[50]
    };
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/statm", server.id())).expect("a process");
        let pages = status
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.expect("a size") * 4096
    };
    let alone = median(&mut ada).await;
    let before = resident();
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(asks_and_reads_little(address, "/api/admin/events").await);
    }
    let open = streams.iter().filter(|(_, status)| status == "200").count();
    let refused = streams.iter().filter(|(_, status)| status == "503").count();
    assert_eq!((open, refused), (32, 168));
    let watched = median(&mut ada).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    drop(streams);
    let after = median(&mut ada).await;
    let most = alone.max(after) * 4 + Duration::from_millis(50);
    assert!(
        watched <= most,
        "{watched:?}, and {alone:?} and {after:?} without"
    );
    // Their places are free.
    until("a place", async || {
        asks_and_reads_little(address, "/api/admin/events").await.1 == "200"
    })
    .await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_hung_up_on_and_counted() {
    let server = TestServer::start(&["--max-stall-seconds", "1", "--admin-token", ADMIN_TOKEN]).await;
    let (path, bearer) = (
        "/api/pages/long/content?format=text&field=t",
        format!("Bearer {ADMIN_TOKEN}"),
    );
    let headers = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
    // More than what systems keep between the two.
    let words = Bytes::from(vec![b'x'; 12 << 20]);
    let put = send(server.address, Method::PUT, path, &headers, words).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let (_stream, status) = asks_and_reads_little(server.address, path).await;
    assert_eq!(status, "200");
    server
        .until_metric("pageroom_refusals_total{kind=\"stalled\"}", 1.0)
        .await;
}

#[tokio::test]
async fn a_drain_lets_nobody_in_and_is_called_off() {
    let server = TestServer::start(&LOCKED).await;
    let mut events = watch(server.address, ADMIN_TOKEN).await;
    let mut ada = join(&server, "page", "ada", 1).await;
    let drain =
        async |method, body: &str| ask(server.address, ADMIN_TOKEN, method, "/api/admin/drain", body).await;
    assert_eq!(drain(Method::DELETE, "").await.error(), "conflict");
    for wrong in [
        r#"{"seconds":3601}"#,
        r#"{"seconds":-1}"#,
        "{}",
        "[600]",
        r#"{"seconds":1,"more":2}"#,
    ] {
        assert_eq!(drain(Method::POST, wrong).await.error(), "malformed", "{wrong}");
    }
    let begun = drain(Method::POST, r#"{"seconds":600}"#).await;
    assert_eq!(begun.json(), json!({ "secondsLeft": 600, "stopping": false }));
    // It can be seen to come nearer.
    told(&mut events, |told| {
        told["drain"]["secondsLeft"]
            .as_u64()
            .is_some_and(|left| left < 600)
    })
    .await;
    let ready = get(server.address, "/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["ready"]),
        (503, &json!(false))
    );
    assert_eq!(get(server.address, "/healthz").await.status, 200);
    let bob = token("bob", &json!({ "*": "edit" }));
    let mut newcomer = Socket::open(server.address, &format!("/ws/page?token={bob}")).await;
    let closed = newcomer.closed().await;
    assert_eq!((closed.code, closed.reason.starts_with("draining")), (1012, true));
    let socket_io = get(
        server.address,
        &format!("/socket.io/?EIO=4&transport=polling&token={bob}"),
    )
    .await;
    assert!(!socket_io.status.is_success(), "{}", socket_io.text());
    // Who is here goes on.
    ada.write_durably("still here").await;
    assert_eq!(drain(Method::DELETE, "").await.status, 204);
    told(&mut events, |told| told["drain"].is_null()).await;
    assert_eq!(get(server.address, "/readyz").await.status, 200);
    let mut bob = join(&server, "page", "bob", 2).await;
    bob.until_text("still here").await;
    until("both to be noted", async || {
        let found = read(server.address, "/api/audit?limit=20").await;
        let actions: Vec<_> = (found["entries"].as_array().expect("entries").iter())
            .map(|entry| entry["action"].as_str().expect("an action"))
            .collect();
        actions.contains(&"drain") && actions.contains(&"drain_called_off")
    })
    .await;
}

#[tokio::test]
async fn a_drain_that_is_not_called_off_ends_as_a_signal_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("pages.db").display());
    let mut server = Process::start(&[("DATABASE_URL", &url), ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN)]);
    let address = server.address().await;
    let mut ada = Client::join_at(address, "/ws/page", 1).await;
    ada.write_durably("kept").await;
    let begun = ask(
        address,
        ADMIN_TOKEN,
        Method::POST,
        "/api/admin/drain",
        r#"{"seconds":1}"#,
    )
    .await;
    assert_eq!(begun.status, 200);
    let closed = ada.closed().await;
    assert_eq!((closed.code, closed.reason.starts_with("draining")), (1012, true));
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
    assert!(server.log().contains("everything is stored"), "{}", server.log());
}

#[tokio::test]
async fn the_level_of_the_log_changes_what_is_logged_and_is_given_back() {
    for format in ["text", "json"] {
        let server = Process::start(&[
            ("DATABASE_URL", "memory:"),
            ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
            ("PAGEROOM_LOG_FORMAT", format),
            ("RUST_LOG", "info,pageroom::audit=off"),
        ]);
        let address = server.address().await;
        let path = "/api/admin/log-level";
        let level = async |method, body: &str| ask(address, ADMIN_TOKEN, method, path, body).await;
        let configured = json!({
            "filter": "info,pageroom::audit=off", "configured": "info,pageroom::audit=off", "changed": false,
        });
        assert_eq!(level(Method::GET, "").await.json(), configured);
        // What a sign-out notes is logged at `info`, by a part of which nothing is logged now.
        let notes = || server.log().matches("sign_out").count();
        let signed_out = async |user: &str| {
            let path = format!("/api/users/{user}/sign-out");
            assert_eq!(
                ask(address, ADMIN_TOKEN, Method::POST, &path, "").await.status,
                200
            );
        };
        signed_out("ada-lovelace").await;
        let changed = level(Method::PUT, r#"{"filter":" pageroom::audit=INFO, warn "}"#).await;
        assert_eq!(changed.json()["filter"], "pageroom::audit=info,warn");
        assert_eq!(changed.json()["changed"], true);
        signed_out("bob").await;
        until("it to be logged", async || notes() == 1).await;
        assert!(server.log().contains("bob") && !server.log().contains("ada-lovelace"));
        for (wrong, code) in [
            (r#"{"filter":"loud"}"#.to_owned(), "malformed"),
            (r#"{"filter":""}"#.to_owned(), "malformed"),
            (r#"{"filter":"[{user=.*}]=trace"}"#.to_owned(), "malformed"),
            (json!({ "filter": "a".repeat(1025) }).to_string(), "too_large"),
        ] {
            assert_eq!(level(Method::PUT, &wrong).await.error(), code, "{wrong}");
        }
        let kept = level(Method::GET, "").await.json();
        assert_eq!(
            kept["filter"], "pageroom::audit=info,warn",
            "nothing wrong changes it"
        );
        assert_eq!(level(Method::DELETE, "").await.json(), configured);
        signed_out("zoe-quinn").await;
        let overview = read(address, "/api/admin/overview").await;
        assert_eq!(overview["log"], configured);
        assert!(!server.log().contains("zoe-quinn"), "{}", server.log());
    }
    // Where the log is somebody else's, that is said.
    let embedded = TestServer::start(&LOCKED).await;
    let answer = ask(
        embedded.address,
        ADMIN_TOKEN,
        Method::PUT,
        "/api/admin/log-level",
        r#"{"filter":"info"}"#,
    )
    .await;
    assert_eq!(answer.error(), "conflict");
}

#[tokio::test]
async fn the_audit_is_searched_by_page_and_read_on_piece_by_piece() {
    let server = TestServer::start(&LOCKED).await;
    for page in ["one", "two", "two", "two"] {
        let path = format!("/api/pages/{page}/permissions/ada");
        let granted = ask(
            server.address,
            ADMIN_TOKEN,
            Method::PUT,
            &path,
            r#"{"role":"edit"}"#,
        )
        .await;
        assert_eq!(granted.status, 200);
    }
    until("three to be noted", async || {
        let found = read(server.address, "/api/audit?page=two").await;
        found["entries"]
            .as_array()
            .is_some_and(|entries| entries.len() == 3)
    })
    .await;
    let first = read(server.address, "/api/audit?page=two&limit=2").await;
    let next = first["next"].as_u64().expect("more");
    let rest = read(
        server.address,
        &format!("/api/audit?page=two&limit=2&before={next}"),
    )
    .await;
    assert_eq!(rest["entries"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest["next"], Value::Null);
}
