//! A Socket.IO client on a bare WebSocket: packets as they are on the wire.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{socket::Closed, soon};

/// What came over a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Binary(Bytes),
    Closed(Closed),
}

/// An event or an answer in the namespace of events.
#[derive(Debug)]
pub(crate) struct Told {
    /// The event's name, or the answer's number.
    pub(crate) what: String,
    pub(crate) body: Value,
    /// The offset of an event that was told in a room.
    pub(crate) offset: Option<String>,
    pub(crate) attachments: Vec<Bytes>,
}

/// Where an attachment belongs.
pub(crate) fn place(number: u32) -> Value {
    json!({ "_placeholder": true, "num": number })
}

/// A session over a WebSocket from its beginning.
pub(crate) struct Session {
    stream: WebSocketStream<TcpStream>,
}

impl Session {
    /// Opens a session and takes in its opening packet.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("a server that listens")).await
    }

    /// The same over a TCP connection that is there already.
    pub(crate) async fn over(stream: TcpStream) -> Self {
        let address = stream.peer_addr().expect("a peer");
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let handshake = tokio_tungstenite::client_async(url, stream);
        let (stream, _) = soon("a handshake", handshake).await.expect("a handshake");
        let mut session = Self { stream };
        let opening = session.text().await;
        assert!(opening.starts_with("0{\"sid\":"), "{opening}");
        session
    }

    /// Opens a session with a query and headers of its own and connects to a namespace with this to say. The error is
    /// how the server refused.
    pub(crate) async fn enter(
        address: SocketAddr,
        query: &str,
        headers: &[(&'static str, &str)],
        namespace: &str,
        auth: &str,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.expect("a server that listens");
        let mut request = format!("ws://{address}/socket.io/?EIO=4&transport=websocket{query}")
            .into_client_request()
            .expect("a request");
        for (name, value) in headers {
            let value = value.parse().expect("a header");
            request.headers_mut().insert(*name, value);
        }
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (stream, _) = soon("a handshake", handshake).await.expect("a handshake");
        let mut session = Self { stream };
        match session.hear().await {
            Heard::Text(_) => {}
            Heard::Closed(closed) => return Err(closed.reason),
            Heard::Binary(bytes) => panic!("not an opening: {bytes:?}"),
        }
        let namespace = match namespace {
            "/" => String::new(),
            named => format!("{named},"),
        };
        session.say(&format!("40{namespace}{auth}")).await;
        let answer = match session.hear().await {
            Heard::Text(text) => text,
            // Where it is worth coming back, the connection ends.
            Heard::Closed(closed) => return Err(closed.reason),
            Heard::Binary(bytes) => panic!("no answer: {bytes:?}"),
        };
        match answer.strip_prefix(&format!("44{namespace}")) {
            None => Ok(session),
            Some(error) => {
                let error: Value = serde_json::from_str(error).expect("JSON");
                let message = error["message"].as_str().expect("a sentence");
                let code = error["data"]["code"].as_str().expect("a code");
                Err(format!("{code}: {message}"))
            }
        }
    }

    /// Waits for a text that has `part` in it.
    pub(crate) async fn until_text(&mut self, part: &str) -> String {
        loop {
            match self.hear().await {
                Heard::Text(text) if text.contains(part) => return text,
                Heard::Text(_) | Heard::Binary(_) => {}
                Heard::Closed(closed) => panic!("hung up on while waiting for {part}: {closed:?}"),
            }
        }
    }

    /// Opens a session and connects to the namespace of events, with `auth` if it is an object. Gives the name of the connection as well.
    pub(crate) async fn connect(address: SocketAddr, auth: &Value) -> (Self, String) {
        let (mut session, hello) = Self::greet(address, auth).await;
        let sid = hello["sid"].as_str().expect("a name").to_owned();
        let confirmed = session.told().await;
        assert_eq!(confirmed.what, "connection-confirmed");
        assert_eq!(confirmed.body["socketId"], sid);
        (session, sid)
    }

    /// The same, with all that the server says to a connection that begins.
    pub(crate) async fn greet(address: SocketAddr, auth: &Value) -> (Self, Value) {
        let mut session = Self::open(address).await;
        let auth = if auth.is_null() {
            String::new()
        } else {
            auth.to_string()
        };
        session.say(&format!("40{auth}")).await;
        let connected = session.text().await;
        let hello = connected.strip_prefix("40").expect("a place in the namespace");
        let hello = serde_json::from_str(hello).expect("JSON");
        (session, hello)
    }

    /// Ends the connection without a goodbye.
    pub(crate) fn cut(self) {
        drop(self.stream);
    }

    /// Sends an event in the namespace of events, waiting for an answer under a number if there is one. Attachments stand in `body`
    /// as [`place`]s.
    pub(crate) async fn send(&mut self, event: &str, ack: Option<u32>, body: &Value, attachments: &[&[u8]]) {
        let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
        let head = match attachments.len() {
            0 => "42".to_owned(),
            count => format!("45{count}-"),
        };
        self.say(&format!("{head}{ack}{}", json!([event, body]))).await;
        for attachment in attachments {
            let sent = self
                .stream
                .send(Message::Binary(Bytes::copy_from_slice(attachment)));
            let _ = soon("the server to read", sent).await;
        }
    }

    /// The next event or answer in the namespace of events.
    pub(crate) async fn told(&mut self) -> Told {
        let text = self.text().await;
        let kind = text.get(..2).expect("a packet").to_owned();
        let rest = text.get(2..).expect("a packet");
        let (count, rest) = match kind.as_str() {
            "45" | "46" => {
                let (count, rest) = rest.split_once('-').expect("a count");
                (count.parse().expect("a number"), rest)
            }
            _ => (0, rest),
        };
        let start = rest.find('[').expect("arguments");
        let (number, arguments) = rest.split_at(start);
        let mut arguments: Vec<Value> = serde_json::from_str(arguments).expect("JSON");
        let mut attachments = Vec::new();
        for _ in 0..count {
            match self.hear().await {
                Heard::Binary(bytes) => attachments.push(bytes),
                other @ (Heard::Text(_) | Heard::Closed(_)) => {
                    panic!("no attachment behind {text}: {other:?}")
                }
            }
        }
        let what = match kind.as_str() {
            "42" | "45" => arguments.remove(0).as_str().expect("a name").to_owned(),
            "43" | "46" => number.to_owned(),
            _ => panic!("neither event nor answer: {text}"),
        };
        let offset = arguments.get(1).and_then(Value::as_str).map(str::to_owned);
        assert!(!arguments.is_empty(), "an argument: {text}");
        Told {
            what,
            body: arguments.swap_remove(0),
            offset,
            attachments,
        }
    }

    /// The next event or answer that does not say who is there.
    pub(crate) async fn word(&mut self) -> Told {
        loop {
            let told = self.told().await;
            if !told.what.starts_with("presence:") {
                return told;
            }
        }
    }

    /// The next event of this name, or the answer with this number; others are skipped.
    pub(crate) async fn until_told(&mut self, what: &str) -> Told {
        loop {
            let told = self.told().await;
            if told.what == what {
                return told;
            }
        }
    }

    /// Opens a session and connects to the namespace of a page. Asks for what it lacks, as clients do, and takes in what comes up to the
    /// server's question.
    pub(crate) async fn join(address: SocketAddr, page: &str) -> Self {
        let mut session = Self::open(address).await;
        session.say(&format!("40/yjs|{page},")).await;
        let connected = session.text().await;
        assert!(
            connected.starts_with(&format!("40/yjs|{page},{{\"sid\":")),
            "{connected}"
        );
        session.emit(page, "sync-step-1", Some(u32::MAX), &[0]).await;
        session.answer(page, u32::MAX).await;
        session.event(page, "sync-step-1").await;
        session
    }

    /// Sends a packet.
    pub(crate) async fn say(&mut self, packet: &str) {
        let sent = self.stream.send(Message::text(packet));
        // A server that has hung up hears nothing.
        let _ = soon("the server to read", sent).await;
    }

    /// Sends a packet with an attachment.
    pub(crate) async fn say_with(&mut self, packet: &str, attachment: &[u8]) {
        self.say(packet).await;
        let sent = self
            .stream
            .send(Message::Binary(Bytes::copy_from_slice(attachment)));
        let _ = soon("the server to read", sent).await;
    }

    /// Sends an event of y-socket.io, waiting for an answer under a number if there is one.
    pub(crate) async fn emit(&mut self, page: &str, event: &str, ack: Option<u32>, bytes: &[u8]) {
        let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
        let packet = format!("451-/yjs|{page},{ack}[\"{event}\",{{\"_placeholder\":true,\"num\":0}}]");
        self.say_with(&packet, bytes).await;
    }

    /// Waits for a ping and answers it. What comes before is not looked at.
    pub(crate) async fn answer_ping(&mut self) {
        loop {
            let heard = soon("a ping", self.stream.next()).await;
            let heard = heard.expect("a connection").expect("a frame");
            if matches!(heard, Message::Text(text) if text == "2") {
                break;
            }
        }
        self.say("3").await;
    }

    /// The next frame, or the end. Pings are answered by the way.
    pub(crate) async fn hear(&mut self) -> Heard {
        soon("something from the server", self.hear_at_last()).await
    }

    async fn hear_at_last(&mut self) -> Heard {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) if text == "2" => {
                    let _ = self.stream.send(Message::text("3")).await;
                }
                Some(Ok(Message::Text(text))) => return Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(bytes))) => return Heard::Binary(bytes),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    });
                    return Heard::Closed(Closed { code, reason });
                }
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

    /// The next frame, which must be text.
    pub(crate) async fn text(&mut self) -> String {
        match self.hear().await {
            Heard::Text(text) => text,
            other @ (Heard::Binary(_) | Heard::Closed(_)) => panic!("not text: {other:?}"),
        }
    }

    /// The attachment of the next event of this name; other events are skipped.
    pub(crate) async fn event(&mut self, page: &str, event: &str) -> Bytes {
        loop {
            let text = self.text().await;
            let bytes = match self.hear().await {
                Heard::Binary(bytes) => bytes,
                other @ (Heard::Text(_) | Heard::Closed(_)) => {
                    panic!("no attachment behind {text}: {other:?}")
                }
            };
            if text.starts_with(&format!("451-/yjs|{page},")) && text.contains(&format!("[\"{event}\",")) {
                return bytes;
            }
        }
    }

    /// The attachment of the answer with this number; events are skipped.
    pub(crate) async fn answer(&mut self, page: &str, ack: u32) -> Bytes {
        loop {
            let text = self.text().await;
            if let Heard::Binary(bytes) = self.hear().await
                && text == format!("461-/yjs|{page},{ack}[{{\"_placeholder\":true,\"num\":0}}]")
            {
                return bytes;
            }
        }
    }

    /// How the session ends; whatever comes before is ignored.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Heard::Closed(closed) = self.hear().await {
                return closed;
            }
        }
    }
}
