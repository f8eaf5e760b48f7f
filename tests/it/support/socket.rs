//! A WebSocket as a y-websocket client has it: one message in each received frame, or the test fails.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use crdt::Message;
use futures_util::{SinkExt, StreamExt};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, client::IntoClientRequest, http::HeaderValue},
};

use super::soon;

/// Why and with which code the server hung up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

/// What came over a socket.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A frame.
    Frame(Bytes),
    /// The server hung up.
    Closed(Closed),
}

/// A WebSocket connection.
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// The subprotocol that the server chose.
    pub(crate) subprotocol: Option<String>,
}

impl Socket {
    /// Connects to `path` (with its query) of a server.
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, &[]).await
    }

    /// Connects with some more headers.
    pub(crate) async fn open_with(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("a server that listens");
        Self::shake_hands(stream, path, headers).await
    }

    /// Takes a TCP connection that is there already.
    pub(crate) async fn over(stream: TcpStream, path: &str) -> Self {
        Self::shake_hands(stream, path, &[]).await
    }

    /// The same, when the server may end the connection instead of shaking hands.
    pub(crate) async fn try_over(stream: TcpStream, path: &str) -> Option<Self> {
        Self::try_to_shake_hands(stream, path, &[]).await.ok()
    }

    async fn shake_hands(stream: TcpStream, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let shaken = Self::try_to_shake_hands(stream, path, headers).await;
        shaken.expect("a handshake")
    }

    async fn try_to_shake_hands(
        stream: TcpStream,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        stream.set_nodelay(true)?;
        let address = stream.peer_addr()?;
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .expect("an address");
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, HeaderValue::from_str(value).expect("a header"));
        }
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (stream, response) = soon("a handshake", handshake).await?;
        let chosen = response.headers().get("sec-websocket-protocol");
        let subprotocol = chosen.map(|chosen| chosen.to_str().expect("text").to_owned());
        Ok(Self { stream, subprotocol })
    }

    /// Sends a binary frame. A server that has hung up hears nothing.
    pub(crate) async fn say(&mut self, frame: impl Into<Bytes>) {
        let sent = self.stream.send(tungstenite::Message::Binary(frame.into()));
        let _ = soon("the server to read", sent).await;
    }

    /// Queues a binary frame without waiting for the server to read it.
    pub(crate) async fn feed(&mut self, frame: Bytes) -> Result<(), tungstenite::Error> {
        self.stream.feed(tungstenite::Message::Binary(frame)).await
    }

    /// Sends what was queued.
    pub(crate) async fn flush(&mut self) -> Result<(), tungstenite::Error> {
        self.stream.flush().await
    }

    /// Sends a binary frame in pieces of so many bytes, with a pause behind each. Nothing else can be said meanwhile.
    pub(crate) async fn say_slowly(&mut self, payload: &[u8], piece: usize, pause: Duration) {
        let length = payload.len() as u64;
        // Masked with a mask that changes nothing (RFC 6455 §5.2).
        let mut frame = vec![0x82, 0xff];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        for piece in frame.chunks(piece) {
            let sent = self.stream.get_mut().write_all(piece);
            soon("the server to read", sent).await.expect("a connection");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a frame of text to a server that may have hung up.
    pub(crate) async fn try_text(&mut self, text: &str) {
        let sent = self.stream.send(tungstenite::Message::text(text));
        let _ = soon("the server to read", sent).await;
    }

    /// Sends a text frame.
    pub(crate) async fn say_text(&mut self, text: &str) {
        let sent = self.stream.send(tungstenite::Message::text(text));
        soon("the server to read", sent).await.expect("a connection");
    }

    /// The next data frame, or the end. Pings are answered by the way.
    pub(crate) async fn hear(&mut self) -> Heard {
        soon("something from the server", self.hear_at_last()).await
    }

    /// The same, however long it takes.
    pub(crate) async fn hear_at_last(&mut self) -> Heard {
        loop {
            match self.stream.next().await {
                Some(Ok(tungstenite::Message::Binary(frame))) => return Heard::Frame(frame),
                Some(Ok(tungstenite::Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    });
                    return Heard::Closed(Closed { code, reason });
                }
                Some(Ok(tungstenite::Message::Text(text))) => panic!("a text frame: {text}"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    return Heard::Closed(Closed {
                        code: 1006,
                        reason: "no goodbye".to_owned(),
                    });
                }
            }
        }
    }

    /// The next frame, which must come.
    pub(crate) async fn frame(&mut self) -> Bytes {
        match self.hear().await {
            Heard::Frame(frame) => frame,
            Heard::Closed(closed) => panic!("the server hung up: {closed:?}"),
        }
    }

    /// The next message, which must come.
    pub(crate) async fn message(&mut self) -> Message {
        only_message(&self.frame().await)
    }

    /// How the connection ends; whatever comes before is ignored.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Heard::Closed(closed) = self.hear().await {
                return closed;
            }
        }
    }

    /// Says goodbye and waits for the server's.
    pub(crate) async fn leave(mut self) {
        let _ = self.stream.close(None).await;
        self.closed().await;
    }

    /// Breaks the connection without a word.
    pub(crate) fn cut(self) {
        let stream = self.stream.into_inner();
        // With nothing lingering the peer is sent a reset, as when a machine vanishes and its address answers again.
        let _ = stream.set_zero_linger();
    }
}

/// The message of a frame: older clients read only the first one, so there must not be more.
pub(crate) fn only_message(frame: &Bytes) -> Message {
    let mut messages: Vec<_> = Message::decode(frame)
        .map(|message| message.expect("a message that can be read"))
        .collect();
    assert_eq!(messages.len(), 1, "one message in each frame: {frame:02x?}");
    messages.remove(0)
}
