//! A client of event streams, which reads them as they come.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyStream, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::soon;

/// A stream of events.
pub(crate) struct Events {
    lines: tokio::sync::mpsc::Receiver<String>,
}

impl Events {
    /// Opens a stream with some headers.
    pub(crate) async fn open(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(path)
            .header("host", server.to_string())
            .header("accept", "text/event-stream")
            .header("accept-encoding", "gzip");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let stream = TcpStream::connect(server).await.expect("a server that listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        let answer = soon("an answer", sender.send_request(request))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (send, lines) = tokio::sync::mpsc::channel(100);
        tokio::spawn(async move {
            let _sender = sender;
            let mut body = BodyStream::new(answer.into_body());
            let mut text = String::new();
            while let Some(Ok(frame)) = body.next().await {
                let data = frame.into_data().expect("data");
                text.push_str(std::str::from_utf8(&data).expect("text"));
                while let Some((event, rest)) = text.split_once("\n\n") {
                    if send.send(event.to_owned()).await.is_err() {
                        return;
                    }
                    text = rest.to_owned();
                }
            }
        });
        Self { lines }
    }

    /// The next event: its name, its id and its data. `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            let event = soon("an event", self.lines.recv()).await?;
            let field = |name: &str| {
                let line = event.lines().find_map(|line| line.strip_prefix(name));
                line.map(|line| line.trim().to_owned())
            };
            if let Some(data) = field("data:") {
                let data = serde_json::from_str(&data).expect("JSON");
                return Some((
                    field("event:").unwrap_or_default(),
                    field("id:").unwrap_or_default(),
                    data,
                ));
            }
        }
    }

    /// The number of the next change of a page, before which there was no other.
    pub(crate) async fn next_seq(&mut self) -> u64 {
        let (event, id, data) = self.next().await.expect("a change");
        assert_eq!(
            (event.as_str(), data["complete"].as_bool()),
            ("change", Some(true))
        );
        assert_eq!(id, data["seq"].to_string());
        data["seq"].as_u64().expect("a number")
    }
}
