//! What browsers are let in with: origins of pages and shells, and cookies that other applications share.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    http::{get, get_with, send},
    process::Process,
    replica::Replica,
    server::{ADMIN_TOKEN, TestServer},
    socket::Socket,
    socket_io::Session,
    soon,
    token::{SECRET, token},
    until,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

#[tokio::test]
async fn a_page_of_a_development_server_may_read_what_it_is_answered() {
    let server = TestServer::start(&[]).await;
    for (origin, allowed) in [
        ("http://localhost:5173", true),
        ("http://[::1]:8080", true),
        ("https://evil.net", false),
        ("capacitor://localhost", false),
        ("null", false),
    ] {
        for path in [POLLING, "/api/pages", "/doc/page/as-update"] {
            let answer = get_with(server.address, path, &[("origin", origin)]).await;
            let told = answer.headers.get("access-control-allow-origin").is_some();
            assert_eq!(told, allowed, "{origin} {path}: {}", answer.status);
        }
        // A program that is no browser reads the answer all the same, and hears why in the namespace, over either transport.
        for namespace in ["/", "/yjs|page"] {
            let entered = Session::enter(server.address, "", &[("origin", origin)], namespace, "").await;
            let refused = entered.err();
            let expected = (!allowed).then(|| "forbidden: Origin not allowed".to_owned());
            assert_eq!(refused, expected, "{origin} {namespace}");
        }
    }
}

/// How a page may try to come in, and the page of which whoever runs the server reads then.
const WAYS: [(&str, Option<&str>); 9] = [
    ("y-websocket", Some("team/page")),
    ("y-sweet", Some("page")),
    // Its pages are in the messages of a connection that this one never becomes.
    ("Hocuspocus", None),
    ("y-socket.io", Some("page")),
    ("events", None),
    ("REST", Some("page")),
    ("preflight of REST", Some("team/page")),
    ("preflight of y-sweet", Some("page")),
    ("preflight of Socket.IO", None),
];

/// Tries to come in, and is refused in the words of ever.
async fn knock(server: std::net::SocketAddr, way: &str, headers: &[(&'static str, &str)]) {
    let closed = async |path: &str| {
        let mut socket = Socket::open_with(server, path, headers).await;
        let closed = soon("a refusal", socket.closed()).await;
        assert_eq!(closed.code, 4403, "{way}: {closed:?}");
    };
    let not_entered = async |namespace: &str| {
        let entered = Session::enter(server, "", headers, namespace, "").await;
        assert_eq!(
            entered.err().as_deref(),
            Some("forbidden: Origin not allowed"),
            "{way}"
        );
    };
    let not_allowed = async |path: &str| {
        let asking = [headers, &[("access-control-request-method", "PUT")]].concat();
        let answer = send(server, Method::OPTIONS, path, &asking, Bytes::new()).await;
        assert_eq!(answer.status, 200, "{way}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{way}");
        assert!(answer.body.is_empty(), "{way}");
    };
    match way {
        "y-websocket" => closed("/ws/team%2Fpage").await,
        "y-sweet" => closed("/d/page/ws/page").await,
        "Hocuspocus" => closed("/hocuspocus").await,
        "y-socket.io" => not_entered("/yjs|page").await,
        "events" => not_entered("/").await,
        "REST" => {
            let answer = get_with(server, "/api/pages/page/content", headers).await;
            assert_eq!((answer.status.as_u16(), &*answer.error()), (403, "forbidden"));
        }
        "preflight of REST" => not_allowed("/api/pages/team%2Fpage/content").await,
        "preflight of y-sweet" => not_allowed("/doc/page/auth").await,
        "preflight of Socket.IO" => not_allowed("/socket.io/?EIO=4&transport=polling").await,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_page_that_is_refused_is_read_of_by_whoever_runs_the_server_whatever_it_speaks() {
    let server = Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("CORS_ORIGIN", "https://app.example.com"),
        ("PAGEROOM_TRUSTED_PROXIES", "127.0.0.1"),
        ("PAGEROOM_LOG_FORMAT", "json"),
    ]);
    let address = server.address().await;
    let origin = |number: usize| format!("https://page-{number}.example.com");
    let from = |number: usize| format!("192.0.2.{number}");
    for (number, (way, _)) in WAYS.iter().enumerate() {
        let (origin, from) = (origin(number), from(number));
        let headers = [("origin", &*origin), ("x-forwarded-for", &*from)];
        for _ in 0..2 {
            knock(address, way, &headers).await;
        }
    }
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let mut noted = Vec::new();
    until("the refusals to be noted", async || {
        let headers = [("authorization", bearer.as_str())];
        let asked = get_with(address, "/api/audit?outcome=forbidden", &headers);
        noted = asked.await.json()["entries"].as_array().expect("entries").clone();
        noted.len() >= WAYS.len()
    })
    .await;
    let log: Vec<Value> = server
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    for (number, (way, page)) in WAYS.iter().enumerate() {
        let (origin, from) = (origin(number), from(number));
        let told = log.iter().filter(|line| line["origin"] == *origin);
        let told: Vec<_> = told.collect();
        let [line] = told.as_slice() else {
            panic!("{way} is told once: {told:?}");
        };
        assert_eq!(line["level"], "WARN", "{way}: {line}");
        assert_eq!(line["page"].as_str(), *page, "{way}: {line}");
        assert_eq!(line["address"], *from, "{way}: {line}");
        for (field, word) in [("reason", "origin"), ("remedy", "CORS_ORIGIN")] {
            let said = line[field].as_str();
            assert!(said.is_some_and(|said| said.contains(word)), "{way}: {line}");
        }
        let entry = noted.iter().find(|entry| entry["address"] == *from);
        let entry = entry.unwrap_or_else(|| panic!("{way}: {noted:?}"));
        assert_eq!(entry["pageId"].as_str(), *page, "{way}: {entry}");
        let detail = entry["detail"].as_str().unwrap_or_default();
        assert!(
            detail.contains("may not connect") && detail.contains(&origin),
            "{way}: {entry}"
        );
    }
    let preflight = log.iter().find(|line| line["origin"] == origin(6));
    assert_eq!(preflight.map(|line| &line["method"]), Some(&"PUT".into()));
    let counted = format!("pageroom_refusals_total{{kind=\"forbidden\"}} {}", 2 * WAYS.len());
    let metrics = get(address, "/metrics").await;
    assert!(metrics.text().contains(&counted), "{}", metrics.text());
}

#[tokio::test]
async fn a_page_without_a_token_is_read_of_with_where_it_comes_from() {
    let server = Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("CORS_ORIGIN", "https://app.example.com"),
        ("PAGEROOM_LOG_FORMAT", "json"),
    ]);
    let address = server.address().await;
    let headers = [("origin", "https://app.example.com")];
    let mut socket = Socket::open_with(address, "/ws/page", &headers).await;
    assert_eq!(soon("a refusal", socket.closed()).await.code, 4401);
    let told = "a connection was refused";
    until(told, async || server.log().contains(told)).await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains(told)).unwrap_or_default();
    for part in [
        "WARN",
        "\"page\":\"page\"",
        "\"origin\":\"https://app.example.com\"",
        "a token is needed",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    until("the refusal to be noted", async || {
        let path = "/api/audit?action=connect&page=page";
        let noted = get_with(address, path, &[("authorization", &bearer)])
            .await
            .json();
        let detail = noted["entries"][0]["detail"].as_str().map(str::to_owned);
        detail.is_some_and(|detail| detail.starts_with("a token is needed"))
    })
    .await;
}

#[tokio::test]
async fn rooms_that_are_closed_are_read_of_with_where_their_page_comes_from() {
    let server = Process::start(&[
        ("DATABASE_URL", "memory:"),
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("CORS_ORIGIN", "https://app.example.com"),
        ("PAGEROOM_LOG_FORMAT", "json"),
    ]);
    let address = server.address().await;
    let headers = [("origin", "https://app.example.com")];
    for (event, asked, by) in [
        ("join_page", "closed", "ada"),
        ("join_drive", "drive:closed", "bob"),
    ] {
        let auth = json!({ "token": token(by, &json!({ "other": "edit" })) }).to_string();
        let entered = Session::enter(address, "", &headers, "/", &auth).await;
        let mut session = entered.expect("a place");
        session.send(event, Some(1), &json!("closed"), &[]).await;
        let answer = session.until_told("1").await;
        assert_eq!(answer.body["error"]["code"], "forbidden", "{event}");
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        until("the refusal to be noted", async || {
            let path = format!("/api/audit?action=connect&page={asked}");
            let noted = get_with(address, &path, &[("authorization", &bearer)])
                .await
                .json();
            let (user, detail) = (&noted["entries"][0]["userId"], &noted["entries"][0]["detail"]);
            let detail = detail.as_str().unwrap_or_default();
            user == by && detail.ends_with("(from a page of https://app.example.com)")
        })
        .await;
    }
    let log = server.log();
    let line = log.lines().find(|line| line.contains("a connection was refused"));
    let line = line.unwrap_or_default();
    for part in [
        "WARN",
        "\"page\":\"closed\"",
        "\"user\":\"ada\"",
        "\"origin\":\"https://app.example.com\"",
        "PAGEROOM_ACCESS",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[tokio::test]
async fn the_server_s_own_pages_are_those_of_where_clients_reach_it() {
    const PAGES: &str = "https://pages.example.com";
    let token = token("ada", &json!({ "page": "edit" }));
    let public = [
        "--jwt-secret",
        SECRET,
        "--public-url",
        "https://pages.example.com/under",
    ];
    let trusting = ["--jwt-secret", SECRET, "--trusted-proxies", "127.0.0.1"];
    let trusting_another = ["--jwt-secret", SECRET, "--trusted-proxies", "192.0.2.1"];
    let open = ["--trusted-proxies", "127.0.0.1"];
    let open_public = ["--public-url", PAGES];
    let host = ("x-forwarded-host", "pages.example.com");
    let forwarded = ("forwarded", "for=198.51.100.9;proto=https;host=pages.example.com");
    let is_for = |host| ("host", host);
    for (flags, headers, origin, allowed) in [
        (&public[..], vec![], PAGES, true),
        (&public, vec![], "https://127.0.0.1", false),
        (
            &public,
            vec![is_for("127.0.0.1:3001")],
            "http://127.0.0.1:3001",
            false,
        ),
        (&trusting, vec![], PAGES, false),
        (&trusting, vec![host], PAGES, true),
        (&trusting, vec![forwarded], PAGES, true),
        (
            &trusting,
            vec![is_for("127.0.0.1:3001"), host],
            "http://127.0.0.1:3001",
            false,
        ),
        (&trusting, vec![is_for("pages.example.com")], PAGES, true),
        (&trusting_another, vec![host], PAGES, false),
        (&trusting_another, vec![forwarded], PAGES, false),
        (&trusting_another, vec![is_for("pages.example.com")], PAGES, true),
        // Without tokens a name is believed that is configured, and no other: a stranger's may have been pointed here.
        (&open, vec![host], PAGES, false),
        (&open, vec![is_for("pages.example.com")], PAGES, false),
        (
            &open,
            vec![is_for("evil.net"), ("x-forwarded-host", "localhost")],
            "http://localhost",
            false,
        ),
        (
            &open,
            vec![is_for("evil.net"), ("x-forwarded-host", "evil.net")],
            "https://evil.net",
            false,
        ),
        (&open_public, vec![is_for("pages.example.com")], PAGES, true),
        (&open_public, vec![], PAGES, true),
        (&open_public, vec![is_for("evil.net")], PAGES, false),
        (&open_public, vec![], "http://localhost:5173", true),
    ] {
        let server = TestServer::start(flags).await;
        let headers = [headers.as_slice(), &[("origin", origin)]].concat();
        let path = format!("/ws/page?token={token}");
        let socket = Socket::open_with(server.address, &path, &headers).await;
        let mut client = Client::new(socket, Replica::new(1));
        client.ask().await;
        let mut refused = None;
        while !client.synced && refused.is_none() {
            refused = client.turn().await.err();
        }
        let expected = (!allowed).then_some(4403);
        let refused = refused.map(|closed| closed.code);
        assert_eq!(refused, expected, "{flags:?} {headers:?}");
        // What may connect may read answers.
        if !headers.iter().any(|(name, _)| *name == "host") {
            let answer = get_with(server.address, "/doc/page/as-update", &headers).await;
            let told = answer.header("access-control-allow-origin");
            assert_eq!(told == origin, allowed, "{flags:?} {headers:?}");
        }
    }
}
