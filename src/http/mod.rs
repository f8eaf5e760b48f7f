//! Every HTTP path in one table, and the router made from it.

mod demo;
mod error;
mod health;
mod pages;
mod socket;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, Method, Uri, header},
    routing::{get, post},
};
pub use error::HttpError;
use ipnet::IpNet;
use storage::{PageId, SharedStore};
use tokio_util::task::TaskTracker;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
};

use crate::{
    auth::{Authenticator, Credential, Identity, find_credential},
    connections::{Admissions, websocket::Surroundings},
    rooms::{Refusal, Role},
};

/// What request handlers share.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of a server that answer requests.
pub struct Parts {
    /// Who is who.
    pub authenticator: Authenticator,
    /// How many connections there are.
    pub admissions: Admissions,
    /// Proxies whose word about the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// What connections need.
    pub around: Surroundings,
    /// The store, for pages that are not open.
    pub store: SharedStore,
    /// Limits of the gate.
    pub gate: crdt::Limits,
    /// Whether `/` serves the demo.
    pub demo: bool,
    /// Largest body, in bytes; 0 for no limit.
    pub max_body_bytes: usize,
    /// The server is stopping.
    pub draining: Arc<AtomicBool>,
    /// The connections' tasks, which a stop waits for.
    pub tasks: TaskTracker,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Who makes a request. Browser origins are checked here too.
    fn identify(&self, headers: &HeaderMap, uri: &Uri) -> Result<Identity, Refusal> {
        let credential = self.credential(headers, uri)?;
        self.authenticator.identify(credential.as_ref(), now())
    }

    fn credential(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<Credential>, Refusal> {
        let credential = find_credential(headers, uri);
        self.authenticator
            .origins
            .check(headers, matches!(credential, Some(Credential::Cookie(_))))?;
        Ok(credential)
    }

    /// Lets a request through if its user has at least `needed` on the page.
    fn allow(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        page: &PageId,
        needed: Role,
    ) -> Result<Identity, HttpError> {
        let identity = self.identify(headers, uri)?;
        match identity.role(page) {
            Some(role) if role >= needed => Ok(identity),
            Some(_) => Err(Refusal::read_only().into()),
            None => Err(HttpError::forbidden("you have no access to this page")),
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The address of the peer, put into each request by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// All paths.
pub fn router(parts: Parts) -> Router {
    let limit = match parts.max_body_bytes {
        0 => DefaultBodyLimit::disable(),
        bytes => DefaultBodyLimit::max(bytes),
    };
    let rest = Router::new()
        .route("/api/pages", get(pages::list))
        .route("/api/pages/{id}", get(pages::describe))
        .route("/api/pages/{id}/snapshot", get(pages::snapshot))
        .route("/api/pages/{id}/content", get(pages::content))
        .route("/api/pages/{id}/updates", post(pages::post_update))
        // Before the layers, so that they see it too: a browser's preflight request is one of a method that is not here.
        .method_not_allowed_fallback(error::no_such_method)
        .layer(cors(&parts.authenticator))
        .layer(CompressionLayer::new().gzip(true))
        .layer(limit);
    let mut router = Router::new()
        .route("/ws/{*page}", get(socket::y_websocket))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(error::no_such_method)
        .merge(rest);
    if parts.demo {
        router = router
            .route("/", get(demo::index))
            .route("/assets/{*file}", get(demo::asset));
    }
    router
        .fallback(error::not_found)
        .layer(CatchPanicLayer::custom(error::panicked))
        .with_state(App(Arc::new(parts)))
}

fn cors(authenticator: &Authenticator) -> CorsLayer {
    let origins = authenticator
        .origins
        .allowed
        .iter()
        .filter_map(|origin| origin.as_str().parse().ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_NONE_MATCH])
        .expose_headers([header::ETAG, pages::SEQ_HEADER, pages::STATE_VECTOR_HEADER])
}

#[expect(clippy::disallowed_methods, reason = "requests meet the clock here")]
fn now() -> SystemTime {
    SystemTime::now()
}
