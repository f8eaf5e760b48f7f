//! The HTTP side of Engine.IO: handshakes, polls, posts, and the change to a WebSocket.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    body::Body,
    extract::Request as HttpRequest,
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use engineioxide_core::{OpenPacket, Packet, ProtocolVersion, Sid, Str, TransportType, payload};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::EngineConfig,
    transport::{Request, Transport, packet},
};
use crate::{
    connections::{
        Session, SessionConfig,
        context::ServerContext,
        driver::{Driving, now, run},
        frames::{FrameSocket, Incoming, Opcode},
        handshake,
        link::Link,
        protocol::Protocol,
        websocket::{WebSocket, refuse},
    },
    protocols::{Frame, codes::status},
    rooms::Refusal,
    telemetry::Correlation,
};

/// Packets of one POST: one takes far more memory than the two bytes that it may have on the wire.
const MAX_PACKETS: usize = 16_384;
/// Requests that may wait for a session; a client has at most one poll and one post under way.
const MAX_REQUESTS: usize = 4;
/// How long the body of a post may take.
const POST_TIMEOUT: Duration = Duration::from_secs(30);

type Sessions = Mutex<HashMap<Sid, PollingSession>>;

/// How a session that polls is spoken to.
#[derive(Clone)]
struct PollingSession {
    requests: mpsc::Sender<Request>,
    /// Whether it is known whose it is.
    is_known: Arc<AtomicBool>,
    /// Whether a WebSocket is about to take over.
    is_probed: Arc<AtomicBool>,
}

/// Opens sessions.
pub trait Server: Send + Sync + 'static {
    /// Lets a client in, or says why not.
    fn open(&self, request: &Parts) -> Result<Box<dyn Protocol>, Refusal>;
}

/// Serves Engine.IO at one path.
pub struct Engine<S> {
    server: S,
    config: EngineConfig,
    /// The sessions that poll. Those on a WebSocket need no request to find them.
    sessions: Arc<Sessions>,
    tasks: TaskTracker,
    stop: CancellationToken,
    context: Arc<ServerContext>,
}

/// What is wrong with a request, with the protocol's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum BadRequest {
    #[error("Transport unknown")]
    Transport = 0,
    #[error("Session ID unknown")]
    Session = 1,
    #[error("Bad handshake method")]
    Method = 2,
    #[error("Bad request")]
    Malformed = 3,
    #[error("Unsupported protocol version")]
    Version = 5,
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        let body = json!({ "code": self as u8, "message": self.to_string() });
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    }
}

/// What the query of a request says.
struct Query {
    transport: TransportType,
    sid: Option<Sid>,
}

impl Query {
    fn parse(query: &str) -> Result<Self, BadRequest> {
        let value = |name| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        let transport = match value("transport") {
            Some("polling") => TransportType::Polling,
            Some("websocket") => TransportType::Websocket,
            _ => return Err(BadRequest::Transport),
        };
        if value("EIO") != Some("4") {
            return Err(BadRequest::Version);
        }
        let sid = match value("sid") {
            None => None,
            Some(sid) => Some(sid.parse().map_err(|_| BadRequest::Session)?),
        };
        Ok(Self { transport, sid })
    }
}

impl<S: Server> Engine<S> {
    /// An engine without sessions. Their tasks run on `tasks` and end when `stop` is cancelled.
    pub fn new(
        server: S,
        config: EngineConfig,
        tasks: TaskTracker,
        stop: CancellationToken,
        context: Arc<ServerContext>,
    ) -> Self {
        Self {
            server,
            config,
            sessions: Arc::default(),
            tasks,
            stop,
            context,
        }
    }

    /// Answers one request.
    pub async fn handle(&self, request: HttpRequest) -> Response {
        let query = match Query::parse(request.uri().query().unwrap_or_default()) {
            Ok(query) => query,
            Err(bad) => return bad.into_response(),
        };
        let answer = match (query.transport, query.sid, request.method()) {
            (TransportType::Polling, None, &Method::GET) => Ok(self.open_polling(request)),
            (TransportType::Websocket, None, &Method::GET) => self.open_web_socket(request),
            (_, None, _) => Err(BadRequest::Method),
            (TransportType::Polling, Some(sid), &Method::GET) => self.poll(sid).await,
            (TransportType::Polling, Some(sid), &Method::POST) => self.post(sid, request).await,
            (TransportType::Websocket, Some(sid), &Method::GET) => self.upgrade(sid, request),
            (_, Some(_), _) => Err(BadRequest::Malformed),
        };
        answer.unwrap_or_else(IntoResponse::into_response)
    }

    fn open_polling(&self, request: HttpRequest) -> Response {
        let (parts, _) = request.into_parts();
        let protocol = match self.server.open(&parts) {
            Ok(protocol) => protocol,
            Err(refusal) => return self.refuse(&refusal),
        };
        let sid = Sid::new();
        let (requests, inbox) = mpsc::channel(MAX_REQUESTS);
        let transport = Transport::polling(inbox);
        let is_known = transport.is_trusted();
        let session = PollingSession {
            requests,
            is_known,
            is_probed: Arc::default(),
        };
        lock(&self.sessions).insert(sid, session);
        let sessions = self.sessions.clone();
        let driving = self.driving();
        self.tasks.spawn(Correlation::of_connection().scope(async move {
            // However the session ends, nothing finds it any more.
            let _entry = Entry { sessions, sid };
            run(transport, protocol, driving).await;
        }));
        text(self.opening(sid, TransportType::Polling))
    }

    fn open_web_socket(&self, mut request: HttpRequest) -> Result<Response, BadRequest> {
        let (response, on_upgrade) =
            handshake::upgrade(&mut request, None).map_err(|_| BadRequest::Malformed)?;
        let (parts, _) = request.into_parts();
        match self.server.open(&parts) {
            Err(refusal) => {
                self.context.metrics.refused(refusal.code.as_str(), 1);
                self.tasks.spawn(refuse(on_upgrade, refusal));
            }
            Ok(protocol) => {
                let opening = self.opening(Sid::new(), TransportType::Websocket);
                let (limit, driving) = (self.config.max_of_strangers(), self.driving());
                self.tasks.spawn(Correlation::of_connection().scope(async move {
                    let Some(socket) = handshake::accepted(on_upgrade, limit).await else {
                        return;
                    };
                    let mut transport = Transport::web_socket(socket);
                    transport.push(Frame::Text(opening.into()));
                    run(transport, protocol, driving).await;
                }));
            }
        }
        Ok(response.map(|()| Body::empty()))
    }

    async fn poll(&self, sid: Sid) -> Result<Response, BadRequest> {
        let session = self.session(sid)?.requests;
        let (reply, answer) = oneshot::channel();
        let asked = session.send(Request::Poll(reply)).await;
        // Only a session holds it open: an answer that never comes is one that ends.
        drop(session);
        asked.map_err(|_| BadRequest::Session)?;
        answer.await.map(text).map_err(|_| BadRequest::Malformed)
    }

    async fn post(&self, sid: Sid, request: HttpRequest) -> Result<Response, BadRequest> {
        let PollingSession {
            requests: session,
            is_known,
            is_probed: _,
        } = self.session(sid)?;
        let limit = match is_known.load(Ordering::Relaxed) {
            true => self.config.max_payload() as u64,
            false => self.config.max_of_strangers() as u64,
        };
        let (parts, body) = request.into_parts();
        let body_type = parts.headers.get(header::CONTENT_TYPE);
        let packets = async {
            let packets = payload::decoder(body, body_type, ProtocolVersion::V4, limit);
            let mut packets = std::pin::pin!(packets);
            let mut all = Vec::new();
            while let Some(packet) = packets.next().await {
                if all.len() >= MAX_PACKETS {
                    return None;
                }
                all.push(packet.ok()?);
            }
            Some(all)
        };
        let Ok(Some(packets)) = tokio::time::timeout(POST_TIMEOUT, packets).await else {
            // What cannot be read may hold anything: the session cannot go on.
            let _ = session
                .send(Request::Post(vec![Packet::Noop], oneshot::channel().0))
                .await;
            return Err(BadRequest::Malformed);
        };
        let (reply, taken) = oneshot::channel();
        let said = session.send(Request::Post(packets, reply)).await;
        drop(session);
        said.map_err(|_| BadRequest::Session)?;
        taken.await.map_err(|_| BadRequest::Malformed)?;
        Ok(text("ok".to_owned()))
    }

    fn upgrade(&self, sid: Sid, mut request: HttpRequest) -> Result<Response, BadRequest> {
        let (response, on_upgrade) =
            handshake::upgrade(&mut request, None).map_err(|_| BadRequest::Malformed)?;
        let PollingSession {
            requests: session,
            is_probed,
            is_known: _,
        } = self.session(sid)?;
        let probing = Probing::begin(is_probed).ok_or(BadRequest::Malformed)?;
        let (limit, patience) = (self.config.max_of_strangers(), self.config.upgrade_timeout);
        let sessions = self.sessions.clone();
        self.tasks.spawn(async move {
            let _probing = probing;
            let Some(mut socket) = handshake::accepted(on_upgrade, limit).await else {
                return;
            };
            let probed = tokio::time::timeout(patience, probe(&mut socket, &session)).await;
            if probed == Ok(true) {
                // From here on the session is only found on this socket.
                lock(&sessions).remove(&sid);
                let _ = session
                    .send(Request::Upgrade(Box::new(WebSocket::new(socket))))
                    .await;
            } else {
                let _ = session.send(Request::Resume).await;
            }
        });
        Ok(response.map(|()| Body::empty()))
    }

    fn session(&self, sid: Sid) -> Result<PollingSession, BadRequest> {
        lock(&self.sessions).get(&sid).cloned().ok_or(BadRequest::Session)
    }

    fn driving(&self) -> Driving {
        let config = SessionConfig {
            timeout: self.config.ping_interval + self.config.ping_timeout,
            ..self.config.session
        };
        Driving {
            session: Session::pinging_every(now(), self.config.ping_interval, config),
            max_message_bytes: self.config.max_payload(),
            stop: Some(self.stop.clone()),
            server: self.context.clone(),
        }
    }

    fn opening(&self, sid: Sid, transport: TransportType) -> String {
        let upgrades = match transport {
            TransportType::Polling => [TransportType::Websocket].as_slice().into(),
            TransportType::Websocket => [].as_slice().into(),
        };
        String::from(Packet::Open(OpenPacket {
            sid,
            upgrades,
            ping_interval: self.config.ping_interval,
            ping_timeout: self.config.ping_timeout,
            max_payload: self.config.max_payload() as u64,
        }))
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        self.context.metrics.refused(refusal.code.as_str(), 1);
        let body = json!({ "code": 4, "message": refusal.to_string() });
        (status(refusal.code), Json(body)).into_response()
    }
}

/// The two words that a WebSocket and a session exchange before it takes over.
async fn probe(socket: &mut FrameSocket, session: &mpsc::Sender<Request>) -> bool {
    if next_packet(socket).await != Some(Packet::PingUpgrade) {
        return false;
    }
    socket.push(Opcode::Text, Packet::PongUpgrade.into());
    let sent = poll_fn(|context| socket.poll_drain(context)).await;
    if sent.is_err() {
        return false;
    }
    // If the session has ended, the socket stays open until the client sends on it: after the probe's answer a client no longer polls, so
    // this socket is the only place where it can learn that its session is gone.
    let _ = session.send(Request::Pause).await;
    next_packet(socket).await == Some(Packet::Upgrade)
}

/// The next packet, if the next message is one.
async fn next_packet(socket: &mut FrameSocket) -> Option<Packet> {
    match poll_fn(|context| socket.poll_read(context)).await {
        Ok(Incoming::Message(Message::Text(text))) => packet(Str::copy_from_slice(&text)).ok(),
        Ok(_) | Err(_) => None,
    }
}

/// The one WebSocket that may be about to take over a session: it counts as no connection of its own. It is none any more when this is
/// dropped.
struct Probing(Arc<AtomicBool>);

impl Probing {
    /// `None` while there is another one.
    fn begin(is_probed: Arc<AtomicBool>) -> Option<Self> {
        let was_probed = is_probed.swap(true, Ordering::Relaxed);
        (!was_probed).then_some(Self(is_probed))
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Takes a session out of the table when it ends.
struct Entry {
    sessions: Arc<Sessions>,
    sid: Sid,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.sessions).remove(&self.sid);
    }
}

fn lock(sessions: &Sessions) -> MutexGuard<'_, HashMap<Sid, PollingSession>> {
    // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
