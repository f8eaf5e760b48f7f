//! Who is let in at `/socket.io/`, and which namespaces there are.

use std::sync::{Arc, Mutex};

use axum::http::{header, request::Parts};
use ipnet::IpNet;

use super::{capacity::TurnedAway, config::SocketIoConfig, namespaces::ServerNamespaces, session::SocketIo};
use crate::{
    access::Caller,
    auth::{Origin, client_address, tell_of_silent_proxy},
    connections::{
        Admissions, Peer, Spoken, context::ServerContext, driver::now, engine_io::Server, protocol::Protocol,
    },
    drain::Drain,
    rooms::{Refusal, RefusalCode},
};

/// Lets clients in at `/socket.io/`.
pub struct SocketIoServer(Arc<Shared>);

/// What its sessions share.
struct Shared {
    config: SocketIoConfig,
    admissions: Admissions,
    trusted_proxies: Vec<IpNet>,
    /// Where the application's own pages come from.
    own_pages: Vec<Origin>,
    context: Arc<ServerContext>,
    draining: Drain,
    turned_away: TurnedAway,
}

impl SocketIoServer {
    /// A server over these rooms.
    pub fn new(
        config: SocketIoConfig,
        admissions: Admissions,
        trusted_proxies: Vec<IpNet>,
        own_pages: Vec<Origin>,
        context: Arc<ServerContext>,
        draining: Drain,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            admissions,
            trusted_proxies,
            own_pages,
            context,
            draining,
            turned_away: TurnedAway::new(),
        }))
    }
}

impl Server for SocketIoServer {
    fn open(&self, request: &Parts) -> Result<Box<dyn Protocol>, Refusal> {
        let peer = request.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let address = peer.map(|peer| client_address(peer, &request.headers, &self.0.trusted_proxies));
        if let Some(peer) = peer {
            tell_of_silent_proxy(peer, &request.headers, &self.0.trusted_proxies);
        }
        let caller = address.map(|address| Caller::new(address, &request.headers));
        self.let_in(request, caller.as_ref()).inspect_err(|refusal| {
            let access = &self.0.context.access;
            access.note_refused(None, None, caller.as_ref(), refusal);
        })
    }
}

impl SocketIoServer {
    fn let_in(&self, request: &Parts, caller: Option<&Caller>) -> Result<Box<dyn Protocol>, Refusal> {
        let shared = &self.0;
        if shared.draining.refuses() {
            return Err(Refusal::draining());
        }
        let credential = shared
            .context
            .access
            .authenticator()
            .credential(&request.headers, &request.uri);
        let is_own_page = request.headers.get(header::ORIGIN).is_some_and(|origin| {
            shared
                .own_pages
                .iter()
                .any(|own| own.as_str().as_bytes() == origin.as_bytes())
        });
        let caller = caller.ok_or_else(|| Refusal::unavailable("the connection has no address"))?;
        let address = caller.address;
        shared.context.access.rates().arrives(address)?;
        let slot = match shared.admissions.admit(Spoken::SocketIo, None, address) {
            Ok(slot) => slot,
            // The server is full, and not only for this client.
            Err(refusal) if refusal.code == RefusalCode::Unavailable => {
                let namespaces = shared.turned_away.namespaces(refusal)?;
                return Ok(Box::new(SocketIo::new(now(), namespaces, &shared.config)));
            }
            Err(refusal) => return Err(refusal),
        };
        let namespaces = ServerNamespaces {
            slot: Arc::new(Mutex::new(slot)),
            config: shared.config,
            context: shared.context.clone(),
            draining: shared.draining.clone(),
            credential,
            is_own_page,
            caller: caller.clone(),
        };
        Ok(Box::new(SocketIo::new(
            now(),
            Box::new(namespaces),
            &shared.config,
        )))
    }
}
