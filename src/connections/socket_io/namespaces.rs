//! The namespaces of the server, as one session sees them.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Deserialize;
use socketioxide_core::{Sid, Str, Value, parser::Parse};
use socketioxide_parser_common::CommonParser;
use storage::PageId;

use super::{config::SocketIoConfig, events::EventsPlace, page::PagePlace, place::Place};
use crate::{
    auth::Credential,
    connections::{
        ConnectionSlot,
        context::ServerContext,
        protocol::Work,
        seat_io::{SeatIo, in_time},
    },
    protocols::{events, y_socketio},
    rooms::{Outbox, Refusal, RefusalCode},
};

/// The namespaces, as one session sees them.
pub trait Namespaces: Send {
    /// Looks for a place in a namespace for the client `sid`; `auth` is the JSON it sent along. The error is the sentence for
    /// the client.
    fn connect(&self, name: &Str, sid: Sid, auth: Option<&Value>) -> Work<Result<Place, String>>;
}

/// The namespaces of the server.
pub(super) struct ServerNamespaces {
    pub(super) config: SocketIoConfig,
    pub(super) context: Arc<ServerContext>,
    pub(super) draining: Arc<AtomicBool>,
    /// What the request that opened the session proves, for namespaces to which nothing better is shown.
    pub(super) credential: Option<Credential>,
    pub(super) address: IpAddr,
    /// The session's place among the connections.
    pub(super) slot: Arc<Mutex<ConnectionSlot>>,
}

/// What clients send along when they connect to a namespace.
#[derive(Deserialize)]
struct Handshake {
    #[serde(default)]
    token: Option<String>,
}

impl ServerNamespaces {
    /// The token of the handshake first, then what the request had.
    fn credential(&self, auth: Option<&Value>) -> Option<Credential> {
        let handshake: Option<Handshake> = CommonParser.decode_default(auth).ok();
        let token = handshake.and_then(|handshake| handshake.token);
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Some(Credential::Given(token)),
            None => self.credential.clone(),
        }
    }

    fn page(&self, page: PageId, namespace: &Str, auth: Option<&Value>) -> Work<Result<Place, Refusal>> {
        let credential = self.credential(auth);
        let (context, slot, address) = (self.context.clone(), self.slot.clone(), self.address);
        let (namespace, patience) = (namespace.clone(), self.config.connect_timeout);
        Box::pin(async move {
            let access = &context.access;
            let identified = access.identify(credential.as_ref()).await.map(Arc::new);
            let count = |user: Option<&Arc<str>>| attach_user(&slot, user);
            let (membership, ()) = access.admit(identified, &page, address, count).await?;
            let outbox = Outbox::new(context.max_outbox_bytes);
            let seat = SeatIo::begin(access, &page, membership, outbox, patience).await?;
            Ok(Box::new(PagePlace::new(namespace, seat)) as Place)
        })
    }

    fn events(&self, sid: Sid, auth: Option<&Value>) -> Work<Result<Place, Refusal>> {
        let credential = self.credential(auth);
        let (context, slot, address) = (self.context.clone(), self.slot.clone(), self.address);
        let config = self.config;
        Box::pin(async move {
            let access = &context.access;
            let identified = access.identify(credential.as_ref()).await;
            let identity =
                identified.inspect_err(|refusal| access.note_refused(None, Some(address), refusal))?;
            let user = identity.user.as_ref();
            attach_user(&slot, user).inspect_err(|refusal| {
                access.note_refused(user.map(|user| &**user), Some(address), refusal);
            })?;
            let connection = (sid.to_string().into(), address);
            let identity = Arc::new(identity);
            let live = access.watch_socket(identity.clone()).await;
            let place = EventsPlace::new((identity, live), connection, &context, &config);
            Ok(Box::new(place) as Place)
        })
    }
}

impl Namespaces for ServerNamespaces {
    fn connect(&self, name: &Str, sid: Sid, auth: Option<&Value>) -> Work<Result<Place, String>> {
        let joining = match y_socketio::page(name) {
            _ if self.draining.load(Ordering::Relaxed) => Err(Refusal::draining()),
            Some(page) => page.map(|page| self.page(page, name, auth)),
            None if name.as_str() == events::NAMESPACE => Ok(self.events(sid, auth)),
            None => return Box::pin(async { Err("Invalid namespace".to_owned()) }),
        };
        let (context, address, patience) = (self.context.clone(), self.address, self.config.connect_timeout);
        Box::pin(async move {
            let joined = match joining {
                Ok(joining) => in_time(patience, joining).await,
                Err(refusal) => Err(refusal),
            };
            match joined {
                Ok(place) => Ok(place),
                Err(refusal) => {
                    context.metrics.refused(refusal.code.as_str(), 1);
                    context.delay_bad_token(address, &refusal).await;
                    Err(sentence(&refusal))
                }
            }
        })
    }
}

/// Counts the session as one of a user.
fn attach_user(slot: &Mutex<ConnectionSlot>, user: Option<&Arc<str>>) -> Result<(), Refusal> {
    slot.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .attach_user(user)
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
