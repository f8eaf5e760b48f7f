//! What whoever connects may make the server hold before it is known who that is, and for how long.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    http::{get, post, send},
    provider::Provider,
    replica::Replica,
    server::TestServer,
    socket::Socket,
    socket_io::Session,
    soon,
    token::{SECRET, token},
    until,
};

const LOCKED: [&str; 4] = [
    "--jwt-secret",
    SECRET,
    "--broadcast-secret",
    "what backends sign their messages with",
];

/// What the server answers to the head of a request whose body never comes, up to the end of the answer's head.
async fn answer_to_head(server: &TestServer, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("a connection");
    let mut answer = Vec::new();
    let reading = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read_buf(&mut answer).await.expect("a connection");
            assert_ne!(read, 0, "an answer to {head}");
        }
    };
    soon("an answer before the body", reading).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn nobody_waits_for_the_body_of_a_stranger() {
    let server = TestServer::start(&LOCKED).await;
    let now = crate::support::token::seconds_from_now(0);
    for (request, more) in [
        ("POST /api/pages/page/updates", String::new()),
        ("POST /api/pages/page/stateless", String::new()),
        ("PUT /api/pages/page/permissions/ada", String::new()),
        ("POST /api/access/refresh", String::new()),
        ("POST /d/page/update", String::new()),
        ("POST /doc/page/update", String::new()),
        ("POST /doc/new", String::new()),
        ("POST /api/kick", String::new()),
        ("POST /api/broadcast", String::new()),
        ("POST /api/broadcast/batch", String::new()),
        ("POST /api/kick", "X-Broadcast-Signature: nonsense\r\n".to_owned()),
        (
            "POST /api/kick",
            format!("X-Broadcast-Signature: t={},v1=00\r\n", now - 1000),
        ),
    ] {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}Content-Length: 60000000\r\n\r\n"
        );
        let answer = answer_to_head(&server, &head).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_body_must_come_in_time() {
    let server = TestServer::start(&["--body-timeout-seconds", "1"]).await;
    for path in ["/api/pages/page/updates", "/d/page/update"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nbegun");
        let answer = answer_to_head(&server, &head).await;
        assert!(answer.starts_with("HTTP/1.1 422 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn connections_without_a_request_are_counted_too() {
    let server = TestServer::start(&["--max-connections", "1"]).await;
    // Some more than the limit, so that a full server can still say so.
    let mut idle = Vec::new();
    for _ in 0..65 {
        idle.push(TcpStream::connect(server.address).await.expect("a connection"));
    }
    let mut over = TcpStream::connect(server.address).await.expect("a connection");
    let mut nothing = Vec::new();
    // It may be reset as well.
    let _ = soon("the server to hang up", over.read_to_end(&mut nothing)).await;
    assert!(nothing.is_empty());
    drop(idle);
    until("a place to be free", async || {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        let asked = stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await;
        let mut answer = Vec::new();
        asked.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 200 ")
    })
    .await;
}

#[tokio::test]
async fn a_frame_of_a_stranger_is_small_and_one_of_a_user_is_not() {
    let server = TestServer::start(&LOCKED).await;
    let large = vec![0; 2 << 20];
    let mut stranger = Provider::open(&server).await;
    stranger.socket.say(large.clone()).await;
    assert_eq!(stranger.closed().await.code, 4413);
    let mut stranger = Session::open(server.address).await;
    stranger.say(&"x".repeat(2 << 20)).await;
    assert_eq!(stranger.closed().await.code, 4413);

    let text = "x".repeat(2 << 20);
    let mut ada = Provider::open(&server).await;
    ada.enter("page", &token("ada", &json!({ "page": "edit" }))).await;
    ada.edit("page", &Replica::new(1).write(&text)).await;
    assert_eq!(ada.statuses("page", 1).await, [1]);
    let auth = json!({ "token": token("bob", &json!({ "*": "edit" })) }).to_string();
    let mut bob = Session::enter(server.address, "", &[], "/yjs|other", &auth)
        .await
        .expect("a place");
    bob.emit("other", "sync-update", Some(7), &Replica::new(2).write(&text))
        .await;
    bob.until_text("43/yjs|other,7[").await;
}

#[tokio::test]
async fn what_a_stranger_posts_to_a_session_is_small() {
    let server = TestServer::start(&LOCKED).await;
    let opened = send(
        server.address,
        hyper::Method::GET,
        "/socket.io/?EIO=4&transport=polling",
        &[],
        bytes::Bytes::new(),
    )
    .await;
    let sid = opened.text().split('"').nth(3).expect("a session").to_owned();
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: 2000000\r\n\r\n"
    );
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("a connection");
    // More than strangers may say, and less than users may.
    let _ = stream.write_all(&vec![b'4'; 1_500_000]).await;
    let mut answer = Vec::new();
    let _ = soon("an answer before the rest", stream.read_buf(&mut answer)).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 400 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(
        post(server.address, &path, "4").await.status,
        400,
        "the session is over"
    );
}

#[tokio::test]
async fn sockets_that_have_become_web_sockets_are_counted_once() {
    let server = TestServer::start(&["--max-connections", "70"]).await;
    let mut sockets = Vec::new();
    for _ in 0..70 {
        sockets.push(Socket::open(server.address, "/hocuspocus").await);
    }
    // All of them are in, and there is still place to ask.
    assert_eq!(server.metric("pageroom_connections_open").await, Some(70.0));
}

#[tokio::test]
async fn a_long_address_is_repeated_in_no_answer() {
    let server = TestServer::start(&LOCKED).await;
    for kind in [2_u8, 7] {
        let mut socket = Socket::open(server.address, "/hocuspocus").await;
        let address = vec![b'a'; 100_000];
        // The length as a variable integer, the address, and a token that is empty, or a goodbye.
        let mut frame = vec![0xa0, 0x8d, 0x06];
        frame.extend(&address);
        frame.extend([kind, 0, 0]);
        socket.say(frame).await;
        assert_eq!(socket.closed().await.code, 4400, "type {kind}");
    }
}

#[tokio::test]
async fn a_post_has_only_so_many_packets() {
    let server = TestServer::start(&LOCKED).await;
    let opened = get(server.address, "/socket.io/?EIO=4&transport=polling").await;
    let sid = opened.text().split('"').nth(3).expect("a session").to_owned();
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let pongs = vec!["3"; 100_000].join("\u{1e}");
    assert_eq!(post(server.address, &path, pongs).await.status, 400);
}
