//! The connection layer of `/socket.io/` as the public suites of Engine.IO 4 and Socket.IO 5 expect a server: echoing.
//!
//! At `/engine.io/` each message comes back. At `/socket.io/` there are the namespaces `/` and `/custom`: a client is sent what
//! it proved itself with as `auth`, a `message` comes back as `message-back`, and a `message-with-ack` as its answer.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, http::request::Parts};
use clap::Parser;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use pageroom::{
    access::{Access, Audit},
    config::Settings,
    connections::{
        PatientStream, Protocol, ServerContext, SessionConfig, Work,
        engine_io::{Engine, EngineConfig, Server},
        socket_io::{Connected, Event, Namespaces, NotConnected, Place, Said, SocketIo, SocketIoConfig},
    },
    events::{EventRooms, EventServices, History, Presence},
    http::engine_routes,
    protocols::{
        Frame,
        socket_io::{encode, malformed},
    },
    reader::Readers,
    rooms::{Compactor, Departure, Refusal, Registry, StoreWriter},
    supervision::Supervisor,
    telemetry::Metrics,
};
use socketioxide_core::{Sid, Str, Value, packet::Packet, parser::Parse};
use socketioxide_parser_common::CommonParser;
use storage::StoreOptions;
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
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let (tasks, stop, context) = (TaskTracker::new(), CancellationToken::new(), context().await?);
    let metrics = context.metrics.clone();
    let engine = Engine::new(Echoes, CONFIG, tasks.clone(), stop.clone(), context.clone());
    let sockets = Engine::new(Echoing, CONFIG, tasks, stop, context);
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
        let stream = PatientStream::new(stream, Duration::ZERO, metrics.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move {
            // Errors of a peer that goes away or sends nonsense are its own.
            let _ = connection.await;
        });
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// What connections need of a server, over a store in memory. No page is opened.
async fn context() -> Result<Arc<ServerContext>, Box<dyn Error>> {
    let config = Flags::try_parse_from(["conformance", "--database-url", "memory:"])?
        .settings
        .check()?;
    let store = storage::open("memory:", &StoreOptions::default()).await?;
    let (metrics, supervisor) = (Metrics::new(), Supervisor::default());
    let (writer, writing) = StoreWriter::new(store.clone(), config.writer, metrics.clone(), Arc::new(()));
    supervisor.spawn("writer", writing);
    let readers = Readers::new(config.readers);
    let (gate, view) = (config.registry.room.gate, Arc::new(readers.clone()));
    let (compactor, compacting) = Compactor::new(store.clone(), gate, view, metrics.clone());
    supervisor.spawn("compactor", compacting);
    let doors = (writer.clone(), compactor);
    let registry = Registry::new(config.registry, (store.clone(), None), doors, metrics.clone());
    let ending = CancellationToken::new();
    let retention = config.access.audit_retention;
    let audit = Audit::start(
        store.clone(),
        retention,
        metrics.clone(),
        ending.clone(),
        &supervisor,
    );
    let rules = config.events.rules.clone();
    let (history, last) = History::start(store.clone(), rules, ending.clone(), &supervisor).await?;
    let (limits, recovery) = (config.events.rooms, config.events.recovery);
    let rooms = EventRooms::new(limits, recovery, history.clone(), last);
    let presence = Arc::new(Presence::new(rooms, config.events.typing_names));
    let access = Access::new(
        config.authenticator,
        &config.access,
        store.clone(),
        (registry.clone(), presence.clone()),
        audit,
        ending,
    )?;
    Ok(Arc::new(ServerContext {
        events: EventServices::new(
            access.clone(),
            presence,
            (registry.clone(), readers),
            (store, history),
            config.events,
            metrics.clone(),
        ),
        access,
        registry,
        writer,
        metrics,
        session: CONFIG.session,
        max_message_bytes: LIMITS.max_message_bytes,
        max_outbox_bytes: config.max_outbox_bytes,
    }))
}

/// Opens sessions in which each message comes back.
struct Echoes;

/// One of them.
#[derive(Default)]
struct Echo(VecDeque<Frame>);

impl Server for Echoes {
    fn open(&self, _request: &Parts) -> Result<Box<dyn Protocol>, Refusal> {
        Ok(Box::new(Echo::default()))
    }
}

impl Protocol for Echo {
    fn on_frame(&mut self, _now: Instant, incoming: Frame) -> Result<usize, Refusal> {
        self.0.push_back(match incoming {
            Frame::Text(text) => {
                let packet = engineioxide_core::Packet::Message(text);
                Frame::Text(String::from(packet).into())
            }
            other @ (Frame::SharedText(_) | Frame::Binary(_) | Frame::Parts(..)) => other,
        });
        Ok(1)
    }

    fn may_receive(&self) -> bool {
        true
    }

    fn poll_work(&mut self, _context: &mut Context<'_>) {}

    fn poll_outgoing(
        &mut self,
        _context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        frames.extend(self.0.drain(..));
        Poll::Ready(Ok(()))
    }

    fn end(self: Box<Self>, _departure: Departure) -> Work<()> {
        Box::pin(std::future::ready(()))
    }
}

/// Opens sessions with the namespaces of the suite.
struct Echoing;

impl Server for Echoing {
    #[expect(clippy::disallowed_methods, reason = "sessions begin now")]
    fn open(&self, _request: &Parts) -> Result<Box<dyn Protocol>, Refusal> {
        let namespaces = Box::new(EchoNamespaces);
        Ok(Box::new(SocketIo::new(Instant::now(), namespaces, &LIMITS)))
    }
}

struct EchoNamespaces;

impl Namespaces for EchoNamespaces {
    fn connect(&self, name: &Str, _sid: Sid, auth: Option<&Value>) -> Work<Result<Connected, NotConnected>> {
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
                Ok(Connected::from(Box::new(EchoPlace { namespace, frames }) as Place))
            }
            _ => Err(NotConnected::Refused("Invalid namespace".into())),
        };
        Box::pin(std::future::ready(connected))
    }
}

/// A place in which what is said comes back.
struct EchoPlace {
    namespace: Str,
    frames: Vec<Frame>,
}

impl EchoPlace {
    fn event(&mut self, event: &Event) -> Result<(), Refusal> {
        let Value::Str(text, attachments) = &event.arguments else {
            return Err(malformed("arguments are text"));
        };
        // The arguments come back as they are, places for attachments and all; only the name changes.
        let mut arguments: Vec<serde_json::Value> = serde_json::from_str(text).map_err(malformed)?;
        let back = |arguments: &[serde_json::Value]| {
            let text = serde_json::to_string(arguments).map_err(malformed)?;
            Ok::<_, Refusal>(Value::Str(text.into(), attachments.clone()))
        };
        let name = arguments.first().and_then(serde_json::Value::as_str);
        match (name.unwrap_or_default(), event.ack) {
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
}

impl Protocol<Said> for EchoPlace {
    fn on_frame(&mut self, _now: Instant, said: Said) -> Result<usize, Refusal> {
        match said {
            Said::Event(event) => self.event(&event)?,
            Said::Answer(..) | Said::Goodbye => {}
        }
        Ok(1)
    }

    fn may_receive(&self) -> bool {
        true
    }

    fn poll_work(&mut self, _context: &mut Context<'_>) {}

    fn poll_outgoing(
        &mut self,
        _context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        if self.frames.is_empty() {
            return Poll::Pending;
        }
        frames.append(&mut self.frames);
        Poll::Ready(Ok(()))
    }

    fn end(self: Box<Self>, _departure: Departure) -> Work<()> {
        Box::pin(std::future::ready(()))
    }
}
