//! y-sweet over bare sockets: a mark is said back when everything before it is stored, and clients are never left in silence.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt::{encoding::Reader, message};
use serde_json::json;

use crate::support::{
    client::Client,
    http::{get_with, send},
    replica::{Replica, text_of},
    server::{ADMIN_TOKEN, TestServer, empty_store},
    socket::{Heard, Socket},
    store::{SwitchedStore, Weather},
    token::{SECRET, token},
};

/// Clients hang up when nothing comes for this long after a mark.
const WATCHDOG: Duration = Duration::from_secs(3);

#[expect(
    clippy::disallowed_methods,
    reason = "how soon something comes is what is promised"
)]
fn now() -> Instant {
    Instant::now()
}

fn mark(number: u8) -> Vec<u8> {
    vec![102, 1, number]
}

/// The next mark that is said back; whatever else comes is skipped, and nothing comes later than clients bear.
async fn marked(socket: &mut Socket) -> u8 {
    loop {
        let heard = tokio::time::timeout(WATCHDOG, socket.hear()).await;
        match heard.expect("something in time") {
            Heard::Frame(frame) if frame.first() == Some(&102) => {
                let body = Reader::starting_at(&frame, 1).buffer().expect("a mark").to_vec();
                return body[0];
            }
            Heard::Frame(_) => {}
            Heard::Closed(closed) => panic!("hung up on: {closed:?}"),
        }
    }
}

/// Opens a page and answers the server's question with what a copy has.
async fn open(server: &TestServer, path: &str, replica: &Replica) -> Socket {
    let mut socket = Socket::open(server.address, path).await;
    let asked = socket.hear().await;
    assert!(
        matches!(&asked, Heard::Frame(frame) if frame.starts_with(&[0, 0])),
        "{asked:?}"
    );
    socket.say(message::sync_step_2(&replica.lacking(&[0]))).await;
    socket
}

#[tokio::test]
async fn a_mark_is_said_back_after_the_commit_and_the_client_is_kept_meanwhile() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut replica = Replica::new(1);
    let mut socket = open(&server, "/d/page/ws/page", &replica).await;
    socket.say(mark(0)).await;
    assert_eq!(marked(&mut socket).await, 0, "nothing has to be stored");
    store.writing(Weather::Hanging);
    socket.say(message::update(&replica.write("not yet"))).await;
    socket.say(mark(1)).await;
    let since = now();
    // Longer than the watchdog, and longer than joiners are kept waiting for a store.
    while since.elapsed() < 2 * WATCHDOG {
        let heard = tokio::time::timeout(WATCHDOG, socket.hear()).await;
        let heard = heard.expect("a sign of life");
        assert!(
            matches!(&heard, Heard::Frame(frame) if frame.first() == Some(&1)),
            "no mark before the commit: {heard:?}"
        );
    }
    socket.say(mark(2)).await;
    store.writing(Weather::Fine);
    // The first one may have been true a moment before the second came.
    while marked(&mut socket).await != 2 {}
    let page = get_with(server.address, "/d/page/as-update", &[]).await;
    assert_eq!(text_of(&page.body), "not yet");
}

#[tokio::test]
async fn a_mark_vouches_for_what_the_client_brings_from_before() {
    let store = SwitchedStore::new(empty_store().await);
    let server = TestServer::start_on(store.clone(), &[]).await;
    let mut replica = Replica::new(1);
    replica.write("from before");
    let mut socket = Socket::open(server.address, "/d/page/ws/page").await;
    // Clients send their mark before they have answered the server's question.
    socket.say(message::sync_step_1(&[0])).await;
    socket.say(mark(7)).await;
    let silence = async {
        loop {
            match socket.hear().await {
                Heard::Frame(frame) => assert_ne!(frame.first(), Some(&102)),
                Heard::Closed(closed) => panic!("hung up on: {closed:?}"),
            }
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(300), silence)
            .await
            .is_err()
    );
    socket.say(message::sync_step_2(&replica.lacking(&[0]))).await;
    assert_eq!(marked(&mut socket).await, 7);
    let mut reader = Client::join(&server, "page", 2).await;
    reader.until_text("from before").await;
}

#[tokio::test]
async fn one_room_with_the_others_and_refusals_that_a_browser_can_see() {
    let server = TestServer::start(&["--jwt-secret", SECRET, "--admin-token", ADMIN_TOKEN]).await;
    let ada = token("ada", &json!({ "team/page": "edit" }));
    let mut replica = Replica::new(1);
    let path = format!("/d/team%2Fpage/ws/team/page?token={ada}");
    let mut socket = open(&server, &path, &replica).await;
    let mut reader = Client::join_at(server.address, &format!("/ws/team/page?token={ada}"), 2).await;
    socket.say(message::update(&replica.write("by Ada"))).await;
    reader.until_text("by Ada").await;
    for (path, code) in [
        ("/d/team%2Fpage/ws/team/page".to_owned(), 4401),
        (format!("/d/other/ws/other?token={ada}"), 4403),
        (format!("/d/a/ws/b?token={ada}"), 4400),
    ] {
        let mut refused = Socket::open(server.address, &path).await;
        match refused.hear().await {
            Heard::Closed(closed) => assert_eq!(closed.code, code, "{path}"),
            Heard::Frame(frame) => panic!("{path}: {frame:?}"),
        }
    }
}

#[tokio::test]
async fn tokens_come_from_the_backend_and_name_where_the_server_was_reached() {
    let server = TestServer::start(&[
        "--jwt-secret",
        SECRET,
        "--admin-token",
        ADMIN_TOKEN,
        "--trusted-proxies",
        "127.0.0.1",
    ])
    .await;
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let ask = async |path: &str, headers: &[(&str, &str)], body: &str| {
        let method = hyper::Method::POST;
        send(
            server.address,
            method,
            path,
            headers,
            Bytes::copy_from_slice(body.as_bytes()),
        )
        .await
    };
    let backend = ("authorization", bearer.as_str());
    let answer = ask(
        "/doc/my%20page/auth",
        &[backend, ("x-forwarded-proto", "https")],
        "{}",
    )
    .await;
    let given = answer.json();
    assert_eq!(given["docId"], "my page");
    assert!(
        given["url"].as_str().is_some_and(|url| url.starts_with("wss://")),
        "{given}"
    );
    assert!(
        given["url"]
            .as_str()
            .is_some_and(|url| url.ends_with("/d/my%20page/ws")),
        "{given}"
    );
    for (path, body, status) in [
        ("/doc/new", "{\"docId\":\"a/../b\"}", 422),
        ("/doc/new", "{", 422),
        ("/doc/a*/auth", "{}", 422),
        ("/doc/a/auth", "{\"authorization\":\"everything\"}", 422),
        ("/doc/a/auth", "{\"validForSeconds\":18446744073709551615}", 200),
        ("/doc/a", "{}", 404),
        ("/d/a/as-update", "{}", 405),
    ] {
        assert_eq!(ask(path, &[backend], body).await.status, status, "{path} {body}");
    }
    assert_eq!(ask("/doc/new", &[], "{}").await.status, 401);
    let admin = format!("Bearer {}", token("eve", &json!({ "*": "admin" })));
    assert_eq!(
        ask("/doc/new", &[("authorization", &admin)], "{}").await.status,
        403
    );

    // Where everybody is a guest nobody needs a token, and one that only lets read cannot be had.
    let open = TestServer::start(&[]).await;
    let guest = send(
        open.address,
        hyper::Method::POST,
        "/doc/a/auth",
        &[],
        Bytes::new(),
    )
    .await;
    assert_eq!(guest.json()["authorization"], "full");
    assert!(guest.json().get("token").is_none());
    let reading = Bytes::from_static(b"{\"authorization\":\"read-only\"}");
    let refused = send(open.address, hyper::Method::POST, "/doc/a/auth", &[], reading).await;
    assert_eq!(refused.status, 409);
}

#[tokio::test]
async fn clients_are_told_the_address_that_is_public_then_what_a_trusted_proxy_says_then_the_name_asked_for()
{
    let public = ["--public-url", "https://pages.example.com:8443/under/"];
    let trusting = ["--trusted-proxies", "127.0.0.1"];
    let both = [public, trusting].concat();
    let another = ["--trusted-proxies", "192.0.2.1"];
    let proxied: &[(&str, &str)] = &[
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "proxied.example.com"),
        ("x-forwarded-prefix", "/pages/"),
    ];
    let forwarded: &[(&str, &str)] = &[(
        "forwarded",
        "for=192.0.2.66;host=evil.example, for=192.0.2.7;proto=https;host=\"proxied.example.com:444\"",
    )];
    for (flags, headers, expected) in [
        (&public[..], &[][..], Some("s://pages.example.com:8443/under")),
        (&public, proxied, Some("s://pages.example.com:8443/under")),
        (&both, proxied, Some("s://pages.example.com:8443/under")),
        (&trusting, proxied, Some("s://proxied.example.com/pages")),
        (&trusting, forwarded, Some("s://proxied.example.com:444")),
        (&trusting, &proxied[1..2], Some("://proxied.example.com")),
        (
            &trusting,
            &[("x-forwarded-host", "a/b?evil"), ("x-forwarded-prefix", "//evil")],
            None,
        ),
        (&trusting, &[], None),
        (&another, proxied, None),
        (&another, forwarded, None),
        (&[], proxied, None),
    ] {
        let server = TestServer::start(flags).await;
        let path = "/doc/a%20page/auth";
        let answer = send(server.address, hyper::Method::POST, path, headers, Bytes::new()).await;
        let told = answer.json();
        let asked_for = format!("://{}", server.address);
        let place = expected.unwrap_or(&asked_for);
        let expected = [
            format!("ws{place}/d/a%20page/ws"),
            format!("http{place}/d/a%20page"),
        ];
        let told = [&told["url"], &told["baseUrl"]].map(|url| url.as_str().unwrap_or_default());
        assert_eq!(told, expected, "{flags:?} {headers:?}");
    }
}
