//! How long an HTTP connection stays open between two requests.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

use crate::{
    access::now,
    support::{
        server::{TestServer, configure},
        soon, within,
    },
};

/// A connection on which one request follows another.
struct Kept {
    sender: SendRequest<Empty<Bytes>>,
    /// Ends when the server ends the connection.
    connection: JoinHandle<hyper::Result<()>>,
}

impl Kept {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a server that listens");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        let connection = tokio::spawn(connection);
        Self { sender, connection }
    }

    /// Asks, and gets an answer on the connection that is there.
    async fn ask(&mut self) {
        let request = Request::builder().uri("/healthz").header("host", "localhost");
        let request = request.body(Empty::new()).expect("a request");
        let asking = async {
            let answer = self.sender.send_request(request).await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 200);
            answer.into_body().collect().await.expect("a whole body");
        };
        soon("an answer", asking).await;
    }
}

#[tokio::test]
async fn a_connection_rests_longer_than_proxies_keep_it() {
    // Load balancers keep a connection for a minute, and pass a request on to one that has just been closed.
    let config = configure(&[]).expect("settings that fit together");
    assert!(
        config.http_keepalive > Duration::from_secs(60),
        "{:?}",
        config.http_keepalive
    );
    let server = TestServer::start(&[]).await;
    let mut kept = Kept::open(server.address).await;
    kept.ask().await;
    // Longer than whoever has asked nothing yet may wait.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(!kept.connection.is_finished(), "it rests");
    kept.ask().await;
}

#[tokio::test]
async fn a_connection_that_a_proxy_opens_in_advance_waits_as_long_as_one_that_rests() {
    let direct = TestServer::start(&[]).await;
    let behind = TestServer::start(&["--trusted-proxies", "127.0.0.0/8"]).await;
    let mut of_proxy = Kept::open(behind.address).await;
    let nothing_asked = Kept::open(direct.address).await;
    let patience = Duration::from_secs(20);
    let ended = within(
        patience,
        "the end of one that asks nothing",
        nothing_asked.connection,
    );
    let _ = ended.await.expect("a task");
    tokio::time::sleep(Duration::from_secs(1)).await;
    of_proxy.ask().await;
}

#[tokio::test]
async fn a_connection_rests_as_long_as_is_set_and_no_longer() {
    let server = TestServer::start(&["--http-keepalive-seconds", "2"]).await;
    let mut kept = Kept::open(server.address).await;
    let mut asked = now();
    for _ in 0..3 {
        kept.ask().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        asked = now();
        kept.ask().await;
    }
    let ended = soon("the server to end the connection", kept.connection).await;
    ended.expect("a task").expect("an end between two requests");
    let rested = asked.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(7)).contains(&rested),
        "it rested for {rested:?}"
    );
}
