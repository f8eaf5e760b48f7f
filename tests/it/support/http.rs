//! An HTTP client: one request a connection, the whole answer at once.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::soon;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// A header, or the empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    /// The code of an error, after checking that it is one as every error is.
    pub(crate) fn error(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "a sentence: {body}"
        );
        assert!(error["retryable"].is_boolean(), "retryable or not: {body}");
        error["code"].as_str().expect("a code").to_owned()
    }
}

/// Reads an address.
pub(crate) async fn get(server: SocketAddr, path: &str) -> Answer {
    send(server, Method::GET, path, &[], Bytes::new()).await
}

/// Reads an address with some headers.
pub(crate) async fn get_with(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(server, Method::GET, path, headers, Bytes::new()).await
}

/// Posts a body.
pub(crate) async fn post(server: SocketAddr, path: &str, body: impl Into<Bytes>) -> Answer {
    send(server, Method::POST, path, &[], body.into()).await
}

/// Makes a request.
pub(crate) async fn send(
    server: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", server.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    exchange(server, request.body(Full::new(body)).expect("a request")).await
}

/// Posts a body that comes piece by piece.
pub(crate) async fn send_stream<E: std::error::Error + Send + Sync + 'static>(
    server: SocketAddr,
    path: &str,
    pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", server.to_string());
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    exchange(
        server,
        request.body(BodyExt::boxed_unsync(body)).expect("a request"),
    )
    .await
}

async fn exchange<B>(server: SocketAddr, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let exchange = async {
        let stream = TcpStream::connect(server).await.expect("a server that listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        connection.abort();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    };
    soon("an answer", exchange).await
}
