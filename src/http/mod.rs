//! Every HTTP path in one table, and the router made from it.

mod admin;
mod audit;
mod body;
mod bridge;
mod changes;
mod compact;
mod compare;
mod content;
mod correlate;
mod demo;
mod described;
mod done;
mod error;
mod health;
mod history_policies;
mod layers;
mod life;
mod openapi;
mod page_state;
mod pages;
mod past;
mod permissions;
mod prefer;
mod presence;
mod query;
mod refusals;
mod restore;
mod rooms;
mod serving;
mod socket;
mod socket_io;
mod times;
mod trash;
mod users;
mod versions;
mod webhooks;
mod weighing;
mod whole;
mod y_sweet;

use std::{net::IpAddr, sync::Arc, time::SystemTime};

pub use admin::{AdminPage, Administration};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderMap, HeaderValue, Uri, header},
    middleware::{from_fn, from_fn_with_state},
    routing::{any, delete, get, options, post, put},
};
pub(crate) use body::TimedBody;
pub use content::KeptContents;
pub use error::HttpError;
pub use health::{StoreProbe, numbers};
use ipnet::IpNet;
use layers::{cors, delay_auth_failures, limit_rate};
pub(crate) use serving::{Patience, serve};
pub use socket_io::routes as engine_routes;
use storage::{PageId, PageRecord, SharedStore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, set_header::SetResponseHeaderLayer,
};
pub use weighing::KeptDescriptions;

use crate::{
    access::Caller,
    auth::{Credential, Identity, Origin, PublicUrl, Secret, client_address, tell_of_silent_proxy},
    connections::{
        Admissions, Peer, ServerContext,
        engine_io::{Engine, EngineConfig},
        hocuspocus::{Host, PendingAuthLimits},
        socket_io::{SocketIoConfig, SocketIoServer},
    },
    drain::Drain,
    history::History,
    reader::Readers,
    rooms::{Refusal, RefusalCode, Role},
    telemetry::Tracing,
    trash::Trash,
    webhooks::WebhookNotes,
};

/// What request handlers share.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of a server that answer requests.
pub struct Parts {
    /// What backends sign their messages with.
    pub broadcast_secret: Option<Secret>,
    /// Makes spans of requests and of what comes with them.
    pub tracing: Tracing,
    /// What a worker shows that speaks to workspaces alone.
    pub indexer_token: Option<Secret>,
    /// How many connections there are.
    pub admissions: Admissions,
    /// Proxies whose word about the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the application's own pages come from.
    pub own_pages: Vec<Origin>,
    /// Where clients reach the server, if that is said.
    pub public_url: Option<PublicUrl>,
    /// What connections need.
    pub around: Arc<ServerContext>,
    /// The store, for pages that are not open.
    pub store: SharedStore,
    /// Whether it works.
    pub probe: StoreProbe,
    /// The processes in which pages are read.
    pub readers: Readers,
    /// What pages say that were read lately.
    pub contents: KeptContents,
    /// What is known of pages that were described lately.
    pub descriptions: KeptDescriptions,
    /// The past of pages.
    pub past: History,
    /// Pages that were deleted.
    pub trash: Trash,
    /// Where webhooks are told what has happened.
    pub webhooks: WebhookNotes,
    /// Limits of the gate.
    pub gate: crdt::Limits,
    /// Whether `/` serves the demo.
    pub demo: bool,
    /// Whether the numbers are at an address of their own.
    pub metrics_apart: bool,
    /// Largest body, in bytes; 0 for no limit.
    pub max_body_bytes: usize,
    /// Whether newcomers are refused, because the server is to stop.
    pub drain: Drain,
    /// The connections' tasks, which a stop waits for.
    pub tasks: TaskTracker,
    /// Ends connections that no room ends.
    pub hang_up: CancellationToken,
    /// What is remembered for whoever runs the server.
    pub administration: Administration,
    /// How sessions at `/socket.io/` are kept.
    pub engine_io: EngineConfig,
    /// Limits of what is spoken over them.
    pub socket_io: SocketIoConfig,
    /// Limits before anybody is let in at `/hocuspocus`.
    pub lobby: PendingAuthLimits,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// What the parts of a server are to its handlers.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Who makes a request. Browser origins are checked here too.
    async fn identify(&self, headers: &HeaderMap, uri: &Uri) -> Result<Identity, Refusal> {
        let credential = self.credential(headers, uri)?;
        let access = &self.around.access;
        let identity = access.identify(credential.as_ref()).await?;
        if let Some(user) = &identity.user {
            let asks = access.rates().user_asks(user);
            asks.map_err(|refusal| refusal.of(Some(user)))?;
        }
        Ok(identity)
    }

    fn credential(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<Credential>, Refusal> {
        self.around.access.authenticator().credential(headers, uri)
    }

    /// Lets a request through if its user has at least `needed` on the page.
    async fn allow(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        page: &PageId,
        needed: Role,
    ) -> Result<Identity, HttpError> {
        let identity = self.identify(headers, uri).await?;
        let role = self.around.access.role(&identity, page).await;
        let refusal = match role {
            Ok(role) if role >= needed => return Ok(identity),
            Ok(_) if needed == Role::Admin => only_managers(),
            Ok(_) => Refusal::read_only(),
            Err(refusal) => refusal,
        };
        Err(refusal.of(identity.user.as_ref()).into())
    }

    /// Lets a request of whoever manages a page through, also when the page is in the trash.
    async fn allow_in_trash(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        page: &PageId,
    ) -> Result<Identity, HttpError> {
        let identity = self.identify(headers, uri).await?;
        let refusal = match self.around.access.role_in_trash(&identity, page).await {
            Ok(Role::Admin) => return Ok(identity),
            Ok(Role::View | Role::Comment | Role::Edit) => only_managers(),
            Err(refusal) => refusal,
        };
        Err(refusal.of(identity.user.as_ref()).into())
    }

    /// Lets a request of a backend through: with its token, or of an administrator.
    async fn allow_backend(&self, headers: &HeaderMap, uri: &Uri) -> Result<Identity, HttpError> {
        let identity = self.identify(headers, uri).await?;
        match identity.fixed_role() {
            Some(Role::Admin) => Ok(identity),
            Some(_) | None => {
                let message = "only backends and administrators may do this";
                let refusal = Refusal::new(RefusalCode::Forbidden, message);
                Err(refusal.of(identity.user.as_ref()).into())
            }
        }
    }

    /// Whether a page may be listed for somebody: whoever may see it, and in the trash whoever manages it.
    async fn may_list(&self, identity: &Identity, record: &PageRecord) -> Result<bool, Refusal> {
        let needed = match record.deleted_at {
            Some(_) => Role::Admin,
            None => Role::View,
        };
        match self.around.access.role_in_trash(identity, &record.page).await {
            Ok(role) => Ok(role >= needed),
            Err(refusal) if refusal.code == RefusalCode::Forbidden => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Who makes a request, as far as its connection says.
    fn caller(&self, request: &Request) -> Option<Caller> {
        let address = self.address(request)?;
        Some(Caller::new(address, request.headers()))
    }

    /// The address that a request counts for.
    fn address(&self, request: &Request) -> Option<IpAddr> {
        let peer = request.extensions().get::<Peer>()?.0.ip();
        Some(client_address(peer, request.headers(), &self.trusted_proxies))
    }

    fn tell_of_silent_proxy(&self, request: &Request) {
        if let Some(Peer(peer)) = request.extensions().get() {
            tell_of_silent_proxy(peer.ip(), request.headers(), &self.trusted_proxies);
        }
    }

    fn hocuspocus(&self) -> Host {
        Host {
            server: self.around.clone(),
            limits: self.lobby,
            hang_up: self.hang_up.clone(),
        }
    }

    /// Counts a request for its address. Backends do not wait for the users behind the same address.
    fn count(&self, request: &Request) -> Result<(), HttpError> {
        let access = &self.around.access;
        let credential = access.authenticator().find(request.headers(), request.uri());
        let is_backend = credential.is_some_and(|credential| access.authenticator().is_backend(&credential));
        if is_backend {
            return Ok(());
        }
        self.tell_of_silent_proxy(request);
        let address = self.address(request);
        let counted = address.map_or(Ok(()), |address| access.rates().address_asks(address));
        counted.map_err(HttpError::from)
    }

    fn is_draining(&self) -> bool {
        self.drain.refuses()
    }
}

/// What is at an address of its own for whoever looks after the server.
pub fn metrics_router(app: App) -> Router {
    Router::new()
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .method_not_allowed_fallback(error::no_such_method)
        .fallback(error::not_found)
        .with_state(app)
}

fn only_managers() -> Refusal {
    Refusal::new(RefusalCode::Forbidden, "only who manages the page may do this")
}

/// All paths.
pub fn router(app: App) -> Router {
    let limit = match app.max_body_bytes {
        0 => DefaultBodyLimit::disable(),
        bytes => DefaultBodyLimit::max(bytes),
    };
    let rest = Router::new()
        .route("/api/pages", get(pages::list))
        .route("/api/pages/query", post(query::query))
        .route("/api/pages/{id}", get(pages::describe).delete(trash::delete))
        .route("/api/pages/{id}/restore", post(trash::restore))
        .route("/api/pages/{id}/purge", post(life::purge))
        .route("/api/pages/{id}/duplicate", post(life::duplicate))
        .route("/api/pages/{id}/compact", post(compact::compact))
        .route("/api/pages/{id}/rename", post(life::rename))
        .route("/api/pages/{id}/former-ids", get(life::former_ids))
        .route(
            "/api/pages/{id}/former-ids/{former}",
            delete(life::free_former_id),
        )
        .route("/api/pages/{id}/snapshot", get(pages::snapshot))
        .route("/api/pages/{id}/content", get(content::read).put(content::put))
        .route("/api/pages/{id}/edits", post(content::edit))
        .route("/api/pages/{id}/append", post(content::append))
        .route("/api/pages/{id}/updates", post(pages::post_update))
        .route("/api/pages/{id}/changes", get(changes::list))
        .route(
            "/api/pages/{id}/versions",
            get(versions::list).post(versions::post),
        )
        .route("/api/pages/{id}/versions/{version}", get(versions::get))
        .route(
            "/api/pages/{id}/versions/{version}/restore",
            post(restore::restore),
        )
        .route("/api/pages/{id}/undo", post(restore::undo))
        .route("/api/pages/{id}/compare", get(compare::compare))
        .route("/api/pages/{id}/blame", get(compare::blame))
        .route("/api/pages/{id}/presence", get(presence::list))
        .route(
            "/api/pages/{id}/history-policy",
            get(history_policies::get)
                .put(history_policies::set)
                .delete(history_policies::remove),
        )
        .route("/api/history-policies", get(history_policies::list))
        .route("/api/pages/{id}/permissions", get(permissions::list))
        .route(
            "/api/pages/{id}/permissions/{user}",
            put(permissions::grant).delete(permissions::revoke),
        )
        .route(
            "/api/rooms/{room}",
            get(rooms::get).put(rooms::put).delete(rooms::delete),
        )
        .route("/api/users/{user}/sign-out", post(users::sign_out))
        .route(
            "/api/users/{user}/block",
            put(users::block).delete(users::unblock),
        )
        .route("/api/access/refresh", post(users::refresh))
        .route("/api/audit", get(audit::list))
        .merge(admin::routes())
        .route("/api/webhooks/deliveries", get(webhooks::list))
        .route("/api/webhooks/deliveries/{id}/replay", post(webhooks::replay))
        .route("/api/webhooks/replay", post(webhooks::replay_all))
        .route("/api/pages/{id}/stateless", post(pages::post_stateless))
        .route("/check_store", post(y_sweet::check_store).get(y_sweet::get_store))
        // Before the layers, so that they see it too: a browser's preflight request is one of a method that is not here.
        .method_not_allowed_fallback(error::no_such_method)
        .layer(from_fn(prefer::brief))
        .layer(from_fn_with_state(app.clone(), limit_rate))
        .layer(cors(app.around.access.authenticator()))
        // Around the layer that answers preflight requests: browsers tell nobody which of them were refused.
        .layer(from_fn_with_state(app.clone(), refusals::note))
        .layer(CompressionLayer::new().gzip(true).zstd(true))
        .layer(limit);
    let y_sweet = Router::new()
        .route("/ready", get(y_sweet::ready))
        .route("/d/{*rest}", any(y_sweet::serve))
        .route("/doc/{*rest}", any(y_sweet::serve))
        .method_not_allowed_fallback(error::no_such_method)
        .layer(cors(app.around.access.authenticator()))
        .layer(from_fn_with_state(app.clone(), refusals::note))
        .layer(limit);
    let socket_io = engine_routes(
        "/socket.io/",
        socket_io_engine(&app),
        cors(app.around.access.authenticator()),
    )
    .layer(from_fn_with_state(app.clone(), refusals::note));
    let bridge = Router::new()
        .route("/api/broadcast", post(bridge::broadcast))
        .route("/api/broadcast/batch", post(bridge::broadcast_batch))
        .route("/api/kick", post(bridge::kick))
        .layer(from_fn_with_state(app.clone(), refusals::note_of_backend));
    let mut router = Router::new()
        .route("/ws/{*page}", get(socket::y_websocket))
        .route("/hocuspocus", get(socket::hocuspocus))
        .route("/hocuspocus/{*rest}", get(socket::hocuspocus))
        .route("/hocuspocus/", get(socket::hocuspocus))
        .route("/openapi.json", get(openapi::serve))
        .route("/healthz", get(health::alive))
        .route("/health", get(health::indexer))
        .route("/readyz", get(health::ready))
        .merge(socket_io)
        .merge(rest)
        .merge(bridge)
        .merge(y_sweet);
    if !app.metrics_apart {
        router = router.route("/metrics", get(health::metrics));
    }
    if app.demo {
        router = router.route("/", get(demo::index).options(health::options));
    } else {
        router = router.route("/", options(health::options).fallback(error::not_found));
    }
    let has_admin_page = app.administration.page() != AdminPage::Off;
    if has_admin_page {
        router = router.merge(admin::page::routes());
    }
    if app.demo || has_admin_page {
        router = router.route("/assets/{*file}", get(demo::asset));
    }
    router
        .method_not_allowed_fallback(error::no_such_method)
        .fallback(error::not_found)
        .layer(from_fn_with_state(app.clone(), delay_auth_failures))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(from_fn_with_state(app.clone(), correlate::correlate))
        .with_state(app)
}

fn socket_io_engine(parts: &Parts) -> Engine<SocketIoServer> {
    let server = SocketIoServer::new(
        parts.socket_io,
        parts.admissions.clone(),
        parts.trusted_proxies.clone(),
        parts.own_pages.clone(),
        parts.around.clone(),
        parts.drain.clone(),
    );
    Engine::new(
        server,
        parts.engine_io,
        parts.tasks.clone(),
        parts.hang_up.clone(),
        parts.around.clone(),
    )
}

#[expect(clippy::disallowed_methods, reason = "requests meet the clock here")]
fn now() -> SystemTime {
    SystemTime::now()
}
