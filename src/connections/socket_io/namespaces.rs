//! The namespaces of the server, as one session sees them.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use socketioxide_core::{Sid, Str, Value, parser::Parse};
use socketioxide_parser_common::CommonParser;
use storage::PageId;

use super::{config::SocketIoConfig, events::EventsPlace, page::PagePlace, place::Place};
use crate::{
    access::Caller,
    auth::Credential,
    connections::{
        ConnectionSlot,
        context::ServerContext,
        protocol::Work,
        seat_io::{SeatIo, in_time},
    },
    drain::Drain,
    events::{EventSocket, LostSession},
    protocols::{events, y_socketio},
    rooms::{Outbox, Refusal, RefusalCode},
    telemetry::{Correlation, TraceParent},
};

/// The namespaces, as one session sees them.
pub trait Namespaces: Send {
    /// Looks for a place in a namespace for the client `sid`; `auth` is the JSON it sent along.
    fn connect(&self, name: &Str, sid: Sid, auth: Option<&Value>) -> Work<Result<Connected, NotConnected>>;
}

/// A place that was found in a namespace.
pub struct Connected {
    /// The place.
    pub place: Place,
    /// What the client calls its connection, where it is not as it was asked for: one that was lost goes on.
    pub name: Option<Arc<str>>,
    /// What the client proves with that a connection that was lost was its own.
    pub secret: Option<Arc<str>>,
}

impl From<Place> for Connected {
    fn from(place: Place) -> Self {
        Self {
            place,
            name: None,
            secret: None,
        }
    }
}

/// Why a client gets no place in a namespace.
#[derive(Debug)]
pub enum NotConnected {
    /// The client gets a CONNECT_ERROR, after which Socket.IO's clients do not try again by themselves.
    Refused(ConnectError),
    /// For a while: the connection ends without a CONNECT_ERROR, after which Socket.IO's clients reconnect by themselves.
    Retry(Refusal),
}

/// How a client hears that it is not let in to a namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectError {
    /// The sentence. Some programs compare it to know whether to fetch another token.
    pub message: String,
    /// What programs need not read from the sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
}

impl From<&str> for ConnectError {
    fn from(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            data: None,
        }
    }
}

/// The namespaces of the server.
pub(super) struct ServerNamespaces {
    pub(super) config: SocketIoConfig,
    pub(super) context: Arc<ServerContext>,
    pub(super) draining: Drain,
    /// What the request that opened the session proves, for namespaces to which nothing better is shown; or why its page may not
    /// connect, which clients hear only here, whatever their transport.
    pub(super) credential: Result<Option<Credential>, Refusal>,
    /// The page is one of the application's own.
    pub(super) is_own_page: bool,
    pub(super) caller: Caller,
    /// The session's place among the connections.
    pub(super) slot: Arc<Mutex<ConnectionSlot>>,
}

/// What clients send along when they connect to a namespace.
#[derive(Deserialize)]
struct Handshake {
    #[serde(default)]
    token: Option<String>,
}

/// In which trace a client says that it is.
#[derive(Deserialize)]
struct Traced {
    traceparent: String,
    #[serde(default)]
    tracestate: Option<String>,
}

/// The span under which edits of a client are to be, if it names one.
fn trace_parent(auth: Option<&Value>) -> Option<TraceParent> {
    let shown: Traced = CommonParser.decode_default(auth).ok()?;
    TraceParent::new(&shown.traceparent, shown.tracestate.as_deref())
}

/// What clients send along that have lost their connection.
#[derive(Deserialize)]
struct Return {
    pid: String,
    #[serde(default)]
    offset: Option<String>,
}

/// The connection that a client has lost.
fn lost(auth: Option<&Value>) -> Option<LostSession> {
    let shown: Return = CommonParser.decode_default(auth).ok()?;
    Some(LostSession {
        secret: shown.pid,
        offset: shown.offset,
    })
}

impl ServerNamespaces {
    /// The token of the handshake first, then what the request had.
    fn credential(&self, auth: Option<&Value>) -> Result<Option<Credential>, Refusal> {
        let proven = self.credential.clone()?;
        let handshake: Option<Handshake> = CommonParser.decode_default(auth).ok();
        let token = handshake.and_then(|handshake| handshake.token);
        let token = token.filter(|token| !token.is_empty());
        Ok(token.map(Credential::Given).or(proven))
    }

    fn page(
        &self,
        page: PageId,
        namespace: &Str,
        credential: Option<Credential>,
    ) -> Work<Result<Connected, Refusal>> {
        let (context, slot, caller) = (self.context.clone(), self.slot.clone(), self.caller.clone());
        let (namespace, patience) = (namespace.clone(), self.config.connect_timeout);
        Box::pin(async move {
            let access = &context.access;
            let identified = access.identify(credential.as_ref()).await.map(Arc::new);
            let count = |user: Option<&Arc<str>>| attach_user(&slot, user);
            let (membership, ()) = access.admit(identified, &page, &caller, count).await?;
            let outbox = Outbox::new(context.max_outbox_bytes);
            let seat = SeatIo::begin(access, membership, outbox, patience).await?;
            Ok(Connected::from(Box::new(PagePlace::new(namespace, seat)) as Place))
        })
    }

    fn events(
        &self,
        sid: Sid,
        credential: Option<Credential>,
        lost: Option<LostSession>,
    ) -> Work<Result<Connected, Refusal>> {
        let (context, slot, caller) = (self.context.clone(), self.slot.clone(), self.caller.clone());
        let config = self.config;
        Box::pin(async move {
            let access = &context.access;
            let identified = access.identify(credential.as_ref()).await;
            let refused = |user: Option<&str>, refusal: &Refusal| {
                access.note_refused(user, None, Some(&caller), refusal);
            };
            let identity = identified.inspect_err(|refusal| refused(None, refusal))?;
            let user = identity.user.as_ref();
            attach_user(&slot, user).inspect_err(|refusal| refused(user.map(|user| &**user), refusal))?;
            let identity = Arc::new(identity);
            let live = access.watch_socket(identity.clone()).await;
            let (limit, services) = (context.max_outbox_bytes, &context.events);
            let has_returned = lost.is_some();
            let recovered = match lost {
                Some(lost) => {
                    let recovering = EventSocket::recover(
                        (identity.clone(), caller.clone()),
                        &lost,
                        limit,
                        services.clone(),
                    );
                    recovering.await.map(|socket| (socket, Arc::from(lost.secret)))
                }
                None => None,
            };
            let (socket, secret) = recovered.unwrap_or_else(|| {
                let name = sid.to_string().into();
                let socket = EventSocket::connect(
                    identity.clone(),
                    (name, caller.clone()),
                    has_returned,
                    limit,
                    services.clone(),
                );
                let secret = socket.begin_session();
                (socket, secret)
            });
            let name = socket.name().clone();
            let place = EventsPlace::new((identity, live), socket, caller, &context, &config);
            Ok(Connected {
                place: Box::new(place),
                name: Some(name),
                secret: services.can_recover.then_some(secret),
            })
        })
    }
}

impl Namespaces for ServerNamespaces {
    fn connect(&self, name: &Str, sid: Sid, auth: Option<&Value>) -> Work<Result<Connected, NotConnected>> {
        let credential = self.credential(auth);
        let shown = Shown::of(&credential, self.is_own_page);
        let joining = match (y_socketio::page(name), credential) {
            _ if self.draining.refuses() => Err(Refusal::draining()),
            (None, _) if name.as_str() != events::NAMESPACE => {
                return Box::pin(async { Err(NotConnected::Refused("Invalid namespace".into())) });
            }
            (page, Err(refusal)) => {
                let page = page.and_then(Result::ok);
                let access = &self.context.access;
                access.note_refused(None, page.as_ref(), Some(&self.caller), &refusal);
                Err(refusal)
            }
            (Some(page), Ok(credential)) => page.map(|page| self.page(page, name, credential)),
            (None, Ok(credential)) => Ok(self.events(sid, credential, lost(auth))),
        };
        let (context, address, patience) = (
            self.context.clone(),
            self.caller.address,
            self.config.connect_timeout,
        );
        let connecting = async move {
            let joined = match joining {
                Ok(joining) => in_time(patience, joining).await,
                Err(refusal) => Err(refusal),
            };
            match joined {
                Ok(connected) => Ok(connected),
                Err(refusal) => {
                    context.metrics.refused(refusal.code.as_str(), 1);
                    context.delay_bad_token(address, &refusal).await;
                    Err(match refusal.code.needs_new_connection() {
                        true => NotConnected::Retry(refusal),
                        false => NotConnected::Refused(shown.error(&refusal)),
                    })
                }
            }
        };
        let parent = trace_parent(auth);
        match Correlation::current().map(|current| current.in_trace(parent.as_ref())) {
            Some(correlation) => Box::pin(correlation.scope(connecting)),
            None => Box::pin(connecting),
        }
    }
}

/// Counts the session as one of a user.
fn attach_user(slot: &Mutex<ConnectionSlot>, user: Option<&Arc<str>>) -> Result<(), Refusal> {
    slot.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .attach_user(user)
}

/// What a client has shown of who it is, as far as the sentence depends on it with which it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Nothing, from a page of the application.
    NothingOnOwnPage,
    /// Nothing.
    Nothing,
    /// Cookies.
    Cookies,
    /// A token.
    Token,
    /// Its page may not connect.
    ForeignPage,
}

impl Shown {
    fn of(credential: &Result<Option<Credential>, Refusal>, is_own_page: bool) -> Self {
        match credential {
            Err(_) => Self::ForeignPage,
            Ok(None) if is_own_page => Self::NothingOnOwnPage,
            Ok(None) => Self::Nothing,
            Ok(Some(credential)) if credential.is_cookie() => Self::Cookies,
            Ok(Some(_)) => Self::Token,
        }
    }

    /// The words that clients of the applications compare to know whether to ask for another token or to show a login.
    fn error(self, refusal: &Refusal) -> ConnectError {
        let is_about_token = refusal.code.is_about_token();
        let message = match self {
            Self::ForeignPage if refusal.code == RefusalCode::Forbidden => "Origin not allowed".to_owned(),
            Self::NothingOnOwnPage if is_about_token => "Authentication required".to_owned(),
            Self::Nothing if is_about_token => "Authentication error: No token provided".to_owned(),
            Self::Cookies if is_about_token => "Authentication failed".to_owned(),
            Self::Token if is_about_token => "Authentication error: Invalid token".to_owned(),
            Self::ForeignPage | Self::NothingOnOwnPage | Self::Nothing | Self::Cookies | Self::Token => {
                refusal.message.clone().into_owned()
            }
        };
        let data = json!({ "code": refusal.code.as_str(), "retryable": refusal.code.is_retryable() });
        ConnectError {
            message,
            data: Some(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hear_the_words_that_they_compare() {
        let of = |code| Refusal::new(code, "why");
        let cookies = || Ok(Some(Credential::Cookies(Vec::new())));
        let token = || Ok(Some(Credential::Given("t".to_owned())));
        let foreign = || Err(of(RefusalCode::Forbidden));
        for (credential, is_own_page, code, expected) in [
            (
                Ok(None),
                true,
                RefusalCode::Unauthenticated,
                "Authentication required",
            ),
            (
                Ok(None),
                false,
                RefusalCode::Unauthenticated,
                "Authentication error: No token provided",
            ),
            (
                cookies(),
                true,
                RefusalCode::Unauthenticated,
                "Authentication failed",
            ),
            (
                cookies(),
                true,
                RefusalCode::TokenExpired,
                "Authentication failed",
            ),
            (
                token(),
                true,
                RefusalCode::TokenRevoked,
                "Authentication error: Invalid token",
            ),
            (
                token(),
                false,
                RefusalCode::TokenExpired,
                "Authentication error: Invalid token",
            ),
            (token(), false, RefusalCode::Forbidden, "why"),
            (Ok(None), true, RefusalCode::RateLimited, "why"),
            (foreign(), false, RefusalCode::Forbidden, "Origin not allowed"),
            (foreign(), false, RefusalCode::Draining, "why"),
        ] {
            let error = Shown::of(&credential, is_own_page).error(&of(code));
            assert_eq!(error.message, expected, "{credential:?} {code:?}");
            let data = json!({ "code": code.as_str(), "retryable": code.is_retryable() });
            assert_eq!(error.data, Some(data));
        }
    }
}
