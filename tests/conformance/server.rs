//! The connection layer of `/socket.io/` as the public suites of Engine.IO 4 and Socket.IO 5 expect a server: echoing.
//!
//! At `/engine.io/` each message comes back. At `/socket.io/` there are the namespaces `/` and `/custom`: a client is sent what
//! it proved itself with as `auth`, a `message` comes back as `message-back`, and a `message-with-ack` as its answer.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, http::request::Parts};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use pageroom::{
    connections::{
        PatientStream, SessionConfig,
        engine_io::{Application, Engine, EngineConfig, Frame, Received, Sent, Server},
        socket_io::{Event, Namespaces, Place, SocketIo, SocketIoConfig},
    },
    http::engine_routes,
    protocols::socket_io::{encode, malformed},
    rooms::{Departure, Refusal},
    telemetry::Metrics,
};
use socketioxide_core::{Sid, Str, Value, packet::Packet, parser::Parse};
use socketioxide_parser_common::CommonParser;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tower_http::cors::CorsLayer;

const CONFIG: EngineConfig = EngineConfig {
    ping_interval: Duration::from_millis(300),
    ping_timeout: Duration::from_millis(200),
    upgrade_timeout: Duration::from_secs(10),
    max_payload_bytes: 1_000_000,
    session: SessionConfig {
        keep_alive: Duration::from_secs(15),
        timeout: Duration::from_secs(1),
        max_stall: Duration::from_secs(60),
        messages_per_second: 0,
        burst: 0,
    },
};

const LIMITS: SocketIoConfig = SocketIoConfig {
    connect_timeout: Duration::from_secs(1),
    max_message_bytes: 1_000_000,
    max_attachments: 100,
    max_pages: 10,
    events_per_second: 0,
    events_burst: 0,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let (tasks, stop, metrics) = (TaskTracker::new(), CancellationToken::new(), Metrics::new());
    let engine = Engine::new(Echoes, CONFIG, tasks.clone(), stop.clone(), metrics.clone());
    let sockets = Engine::new(Echoing, CONFIG, tasks, stop, metrics);
    let router = Router::new()
        .merge(engine_routes("/engine.io/", engine, CorsLayer::permissive()))
        .merge(engine_routes("/socket.io/", sockets, CorsLayer::permissive()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let router = router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let answer = router.clone().oneshot(Request::from(request.map(Body::new)));
            async move { answer.await.map_err(|never: Infallible| never) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(PatientStream::new(stream, Duration::ZERO)), service)
            .with_upgrades();
        tokio::spawn(async move {
            // Errors of a peer that goes away or sends nonsense are its own.
            let _ = connection.await;
        });
    }
}

/// Opens sessions in which each message comes back.
struct Echoes;

/// One of them.
#[derive(Default)]
struct Echo(VecDeque<Frame>);

impl Server for Echoes {
    type Application = Echo;

    fn open(&self, _request: &Parts) -> Result<Echo, Refusal> {
        Ok(Echo::default())
    }
}

impl Application for Echo {
    fn receive(&mut self, _now: Instant, message: Received) -> Result<(), Refusal> {
        self.0.push_back(match message {
            Received::Text(text) => {
                let packet = engineioxide_core::Packet::Message(text);
                Frame::Text(String::from(packet).into())
            }
            Received::Binary(bytes) => Frame::Binary(bytes),
        });
        Ok(())
    }

    fn poll_work(&mut self, _context: &mut Context<'_>) {}

    fn may_receive(&self) -> bool {
        true
    }

    fn is_pressed(&self) -> bool {
        false
    }

    fn poll_send(&mut self, _context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        frames.extend(self.0.drain(..));
        Poll::Ready(Sent::Frames)
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, _now: Instant) -> Result<(), Refusal> {
        Ok(())
    }

    fn farewell(&mut self, _refusal: &Refusal, _frames: &mut Vec<Frame>) {}

    async fn ended(self, _departure: Departure) {}
}

/// Opens sessions with the namespaces of the suite.
struct Echoing;

impl Server for Echoing {
    type Application = SocketIo<EchoNamespaces>;

    #[expect(clippy::disallowed_methods, reason = "sessions begin now")]
    fn open(&self, _request: &Parts) -> Result<Self::Application, Refusal> {
        Ok(SocketIo::new(Instant::now(), EchoNamespaces, &LIMITS))
    }
}

struct EchoNamespaces;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Namespaces for EchoNamespaces {
    type Place = EchoPlace;

    fn connect(&mut self, name: &Str, _sid: Sid, auth: Option<&Value>) -> Work<Result<EchoPlace, String>> {
        let connected = match name.as_str() {
            "/" | "/custom" => {
                let auth: Result<serde_json::Value, _> = CommonParser.decode_default(auth);
                let arguments = auth
                    .ok()
                    .and_then(|auth| CommonParser.encode_value(&auth, Some("auth")).ok());
                let mut frames = Vec::new();
                if let Some(arguments) = arguments {
                    encode(Packet::event(name.clone(), arguments), &mut frames);
                }
                let namespace = name.clone();
                Ok(EchoPlace { namespace, frames })
            }
            _ => Err("Invalid namespace".to_owned()),
        };
        Box::pin(std::future::ready(connected))
    }

    fn is_pressed(&self) -> bool {
        false
    }
}

/// A place in which what is said comes back.
struct EchoPlace {
    namespace: Str,
    frames: Vec<Frame>,
}

impl Place for EchoPlace {
    fn event(&mut self, _now: Instant, event: Event) -> Result<(), Refusal> {
        let Value::Str(text, attachments) = &event.arguments else {
            return Err(malformed("arguments are text"));
        };
        // The arguments come back as they are, places for attachments and all; only the name changes.
        let mut arguments: Vec<serde_json::Value> = serde_json::from_str(text).map_err(malformed)?;
        let back = |arguments: &[serde_json::Value]| {
            let text = serde_json::to_string(arguments).map_err(malformed)?;
            Ok::<_, Refusal>(Value::Str(text.into(), attachments.clone()))
        };
        match (event.name()?, event.ack) {
            ("message", _) => {
                if let Some(name) = arguments.first_mut() {
                    *name = "message-back".into();
                }
                let packet = Packet::event(self.namespace.clone(), back(&arguments)?);
                encode(packet, &mut self.frames);
            }
            ("message-with-ack", Some(ack)) => {
                let arguments = arguments.get(1..).unwrap_or_default();
                let packet = Packet::ack(self.namespace.clone(), back(arguments)?, ack);
                encode(packet, &mut self.frames);
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, _id: i64, _arguments: Value) -> Result<(), Refusal> {
        Ok(())
    }

    fn poll_work(&mut self, _context: &mut Context<'_>) {}

    fn is_idle(&self) -> bool {
        true
    }

    fn poll_send(&mut self, _context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent> {
        if self.frames.is_empty() {
            return Poll::Pending;
        }
        frames.append(&mut self.frames);
        Poll::Ready(Sent::Frames)
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, _now: Instant) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(self, _departure: Departure) -> Work<()> {
        Box::pin(std::future::ready(()))
    }
}
