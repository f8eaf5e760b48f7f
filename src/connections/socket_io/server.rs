//! Who is let in at `/socket.io/`, and which namespaces there are.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::http::request::Parts;
use ipnet::IpNet;
use serde::Deserialize;
use socketioxide_core::{Sid, Str, Value, parser::Parse};
use socketioxide_parser_common::CommonParser;
use storage::PageId;

use super::{Event, Namespaces, Place, SocketIo, SocketIoConfig, events::EventsPlace, page::PagePlace};
use crate::{
    auth::{Credential, client_address},
    connections::{
        Admissions, ConnectionPermit,
        attendance::{Attendance, Work},
        engine_io::{Frame, Sent, Server},
        websocket::{Surroundings, now},
    },
    http::Peer,
    protocols::{events, y_socketio},
    rooms::{Departure, Outbox, Refusal, RefusalCode},
};

/// Lets clients in at `/socket.io/`.
pub struct SocketIoServer(Arc<Shared>);

/// What its sessions share.
struct Shared {
    config: SocketIoConfig,
    admissions: Admissions,
    trusted_proxies: Vec<IpNet>,
    around: Arc<Surroundings>,
    draining: Arc<AtomicBool>,
}

impl SocketIoServer {
    /// A server over these rooms.
    pub fn new(
        config: SocketIoConfig,
        admissions: Admissions,
        trusted_proxies: Vec<IpNet>,
        around: Arc<Surroundings>,
        draining: Arc<AtomicBool>,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            admissions,
            trusted_proxies,
            around,
            draining,
        }))
    }
}

impl Server for SocketIoServer {
    type Application = SocketIo<Pages>;

    fn open(&self, request: &Parts) -> Result<Self::Application, Refusal> {
        let peer = request.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let address = peer.map(|peer| client_address(peer, &request.headers, &self.0.trusted_proxies));
        self.let_in(request, address).inspect_err(|refusal| {
            self.0.around.access.note_refused(None, address, refusal);
        })
    }
}

impl SocketIoServer {
    fn let_in(&self, request: &Parts, address: Option<IpAddr>) -> Result<SocketIo<Pages>, Refusal> {
        let shared = &self.0;
        if shared.draining.load(Ordering::Relaxed) {
            return Err(Refusal::draining());
        }
        let credential = shared
            .around
            .access
            .authenticator()
            .credential(&request.headers, &request.uri)?;
        let address = address.ok_or_else(|| Refusal::unavailable("the connection has no address"))?;
        shared.around.access.rates().arrives(address)?;
        let pages = Pages {
            session: Arc::new(Mutex::new(Counted {
                permit: Some(shared.admissions.admit(None, address)?),
                is_known: false,
            })),
            shared: shared.clone(),
            credential,
            address,
        };
        Ok(SocketIo::new(now(), pages, &shared.config))
    }
}

/// The namespaces, as one session sees them.
pub struct Pages {
    shared: Arc<Shared>,
    /// What the request that opened the session proves, for namespaces to which nothing better is shown.
    credential: Option<Credential>,
    address: IpAddr,
    session: Arc<Mutex<Counted>>,
}

/// The session's place among the connections, since the first token that proved something under its user.
struct Counted {
    permit: Option<ConnectionPermit>,
    is_known: bool,
}

impl Counted {
    /// Counts the session under its user.
    fn count(&mut self, shared: &Shared, user: Option<&Arc<str>>, address: IpAddr) -> Result<(), Refusal> {
        if !self.is_known {
            // The place is given back first, so that the session does not count twice.
            self.permit = None;
            let counted = shared.admissions.admit(user, address);
            self.is_known = counted.is_ok();
            self.permit = Some(match counted {
                Ok(permit) => permit,
                Err(refusal) => {
                    self.permit = shared.admissions.admit(None, address).ok();
                    return Err(refusal);
                }
            });
        }
        Ok(())
    }
}

/// What clients send along when they connect to a namespace.
#[derive(Deserialize)]
struct Handshake {
    #[serde(default)]
    token: Option<String>,
}

impl Pages {
    /// The token of the handshake first, then what the request had.
    fn credential(&self, auth: Option<&Value>) -> Option<Credential> {
        let handshake: Option<Handshake> = CommonParser.decode_default(auth).ok();
        let token = handshake.and_then(|handshake| handshake.token);
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Some(Credential::Given(token)),
            None => self.credential.clone(),
        }
    }

    fn page(
        &mut self,
        page: PageId,
        namespace: &Str,
        auth: Option<&Value>,
    ) -> Work<Result<SomePlace, Refusal>> {
        let credential = self.credential(auth);
        let (shared, session, address) = (self.shared.clone(), self.session.clone(), self.address);
        let namespace = namespace.clone();
        Box::pin(async move {
            let access = &shared.around.access;
            let identified = access.identify(credential.as_ref()).await.map(Arc::new);
            let count = |user: Option<&Arc<str>>| {
                let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
                session.count(&shared, user, address)
            };
            let (membership, ()) = access.admit(identified, &page, address, count).await?;
            let expires = membership.expires_in.map(|left| now() + left);
            let outbox = Outbox::new(shared.around.max_outbox_bytes);
            let attendance = Attendance::begin(access, &page, membership, outbox).await?;
            let place = PagePlace::new(namespace, attendance, expires);
            Ok(SomePlace::Page(Box::new(place)))
        })
    }

    fn events(&mut self, sid: Sid, auth: Option<&Value>) -> Work<Result<SomePlace, Refusal>> {
        let credential = self.credential(auth);
        let (shared, session, address) = (self.shared.clone(), self.session.clone(), self.address);
        Box::pin(async move {
            let access = &shared.around.access;
            let identified = access.identify(credential.as_ref()).await;
            let identity =
                identified.inspect_err(|refusal| access.note_refused(None, Some(address), refusal))?;
            let user = identity.user.as_ref();
            let counted = session
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .count(&shared, user, address);
            counted.inspect_err(|refusal| {
                access.note_refused(user.map(|user| &**user), Some(address), refusal);
            })?;
            let connection = (sid.to_string().into(), address);
            let identity = Arc::new(identity);
            let live = access.watch_socket(identity.clone()).await;
            let place = EventsPlace::new((identity, live), connection, &shared.around, &shared.config);
            Ok(SomePlace::Events(Box::new(place)))
        })
    }
}

impl Namespaces for Pages {
    type Place = SomePlace;

    fn connect(&mut self, name: &Str, sid: Sid, auth: Option<&Value>) -> Work<Result<SomePlace, String>> {
        let joining = match y_socketio::page(name) {
            _ if self.shared.draining.load(Ordering::Relaxed) => Err(Refusal::draining()),
            Some(page) => page.map(|page| self.page(page, name, auth)),
            None if name.as_str() == events::NAMESPACE => Ok(self.events(sid, auth)),
            None => return Box::pin(async { Err("Invalid namespace".to_owned()) }),
        };
        let metrics = self.shared.around.metrics.clone();
        let patience = self.shared.config.connect_timeout;
        let (access, address) = (self.shared.around.access.clone(), self.address);
        Box::pin(async move {
            let joined = match joining {
                Ok(joining) => tokio::time::timeout(patience, joining)
                    .await
                    .unwrap_or_else(|_| Err(Refusal::unavailable("the page took too long to open"))),
                Err(refusal) => Err(refusal),
            };
            match joined {
                Ok(place) => Ok(place),
                Err(refusal) => {
                    metrics.refused(refusal.code.as_str(), 1);
                    if refusal.code == RefusalCode::Unauthenticated {
                        access.failures().failed(address).await;
                    }
                    Err(sentence(&refusal))
                }
            }
        })
    }

    fn is_pressed(&self) -> bool {
        self.shared.around.writer.is_full()
    }
}

/// How a client hears that it is not let in. Some programs look for these words to fetch another token.
fn sentence(refusal: &Refusal) -> String {
    let is_about_token = matches!(
        refusal.code,
        RefusalCode::Unauthenticated | RefusalCode::TokenExpired | RefusalCode::TokenRevoked
    );
    match is_about_token {
        true => format!(
            "{}: Authentication error: {}",
            refusal.code.as_str(),
            refusal.message
        ),
        false => refusal.to_string(),
    }
}

/// A place in one of the namespaces.
pub enum SomePlace {
    /// In that of a page.
    Page(Box<PagePlace>),
    /// In that of events.
    Events(Box<EventsPlace>),
}

impl Place for SomePlace {
    fn event(&mut self, now: Instant, event: Event) -> Result<(), Refusal> {
        match self {
            Self::Page(place) => place.event(now, event),
            Self::Events(place) => place.event(now, event),
        }
    }

    fn answer(&mut self, id: i64, arguments: Value) -> Result<(), Refusal> {
        match self {
            Self::Page(place) => place.answer(id, arguments),
            Self::Events(place) => place.answer(id, arguments),
        }
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Page(place) => place.poll_work(context),
            Self::Events(place) => place.poll_work(context),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Page(place) => place.is_idle(),
            Self::Events(place) => place.is_idle(),
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent> {
        match self {
            Self::Page(place) => place.poll_send(context, frames),
            Self::Events(place) => place.poll_send(context, frames),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Page(place) => place.next_deadline(),
            Self::Events(place) => place.next_deadline(),
        }
    }

    fn tick(&mut self, now: Instant) -> Result<(), Refusal> {
        match self {
            Self::Page(place) => place.tick(now),
            Self::Events(place) => place.tick(now),
        }
    }

    fn leave(self, departure: Departure) -> Work<()> {
        match self {
            Self::Page(place) => place.leave(departure),
            Self::Events(place) => place.leave(departure),
        }
    }
}
