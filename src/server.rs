//! Builds the parts, binds the listener, and serves until told to stop.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use storage::{SharedStore, StoreError, StoreOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    auth::{Access, Audit},
    config::Config,
    connections::{Admissions, websocket::Surroundings},
    http::{self, Parts, Peer},
    reader::Readers,
    rooms::{Registry, StoreWriter},
    telemetry::Metrics,
};

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A database that is started together with the server may take this long.
const STORE_PATIENCE: u32 = 30;
/// Pause between two tries to reach it.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Buffer for the head of a request, in bytes.
const HEAD_BYTES: usize = 32 * 1024;
/// Pause when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of the time for a stop, this much is kept for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A server that listens and does not serve yet.
pub struct Server {
    listener: TcpListener,
    router: Router,
    registry: Registry,
    store: SharedStore,
    draining: Arc<AtomicBool>,
    tasks: TaskTracker,
    /// Cancelled when nobody is connected any more.
    ending: CancellationToken,
    /// What runs beside the connections until then.
    background: TaskTracker,
    /// Ends connections that are in no room.
    hang_up: CancellationToken,
    deadline: Duration,
}

impl Server {
    /// Opens the store, migrates it, and binds the address.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let store = open_store(config.database_url.expose()).await?;
        Self::bind_with(config, store).await
    }

    /// Binds the address over a store that is open already.
    pub async fn bind_with(config: Config, store: SharedStore) -> Result<Self, ServerError> {
        let address = config.address;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServerError::Listen { address, source })?;
        let metrics = Metrics::new();
        let readers = Readers::new(config.readers);
        let (writer, _) = StoreWriter::start(store.clone(), config.writer, metrics.clone());
        let gate = config.registry.room.gate;
        let registry = Registry::new(config.registry, store.clone(), writer.clone(), metrics.clone());
        let (ending, background) = (CancellationToken::new(), TaskTracker::new());
        let audit = Audit::start(
            store.clone(),
            config.access.audit_retention,
            metrics.clone(),
            ending.clone(),
            &background,
        );
        let access = Access::new(
            config.authenticator,
            &config.access,
            store.clone(),
            registry.clone(),
            audit,
            ending.clone(),
        )?;
        background.spawn(access.clone().watch());
        let hang_up = CancellationToken::new();
        let (draining, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
        let router = http::router(Parts {
            broadcast_secret: config.broadcast_secret,
            admissions: Admissions::new(config.connections),
            trusted_proxies: config.trusted_proxies,
            around: Arc::new(Surroundings {
                access,
                registry: registry.clone(),
                writer,
                metrics,
                session: config.session,
                max_message_bytes: config.max_message_bytes,
                max_outbox_bytes: config.max_outbox_bytes,
            }),
            store: store.clone(),
            readers,
            gate,
            demo: config.demo,
            max_body_bytes: config.max_body_bytes,
            draining: draining.clone(),
            tasks: tasks.clone(),
            hang_up: hang_up.clone(),
            engine_io: config.engine_io,
            socket_io: config.socket_io,
            lobby: config.lobby,
        });
        Ok(Self {
            listener,
            router,
            registry,
            store,
            draining,
            tasks,
            ending,
            background,
            hang_up,
            deadline: config.shutdown_deadline,
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The rooms, for whoever embeds a server and wants to look into them.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Serves until `stop` is cancelled, then stores what is unwritten, says goodbye and returns. Returns whether everything was
    /// stored in time.
    pub async fn run(self, stop: CancellationToken) -> bool {
        let hang_up = CancellationToken::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.serve(stream, peer, hang_up.clone()),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        self.draining.store(true, Ordering::Relaxed);
        drop(self.listener);
        hang_up.cancel();
        tracing::info!(
            rooms = self.registry.len(),
            "stopping: storing what is unwritten and asking clients to come back"
        );
        let patience = self.deadline.saturating_sub(GOODBYE);
        let stored = tokio::time::timeout(patience, self.registry.drain())
            .await
            .is_ok();
        if !stored {
            tracing::error!(
                rooms = self.registry.len(),
                "the store did not take everything in time; what is lost was never acknowledged"
            );
            let _ = tokio::time::timeout(GOODBYE / 2, self.registry.abandon()).await;
        }
        self.hang_up.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(GOODBYE, self.tasks.wait()).await;
        self.ending.cancel();
        self.background.close();
        let _ = tokio::time::timeout(GOODBYE, self.background.wait()).await;
        let _ = tokio::time::timeout(GOODBYE, self.store.close()).await;
        stored
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, hang_up: CancellationToken) {
        // Without this, small frames wait for the peer's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
        let router = self.router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let router = router.clone();
            async move {
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(Peer(peer));
                router.oneshot(request).await.map_err(|never: Infallible| never)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.tasks.spawn(async move {
            tokio::pin!(connection);
            tokio::select! {
                // Errors of a peer that goes away or sends nonsense are its own.
                _ = connection.as_mut() => {}
                () = hang_up.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
}

/// Opens the store, waiting for a database that is not there yet.
async fn open_store(url: &str) -> Result<SharedStore, StoreError> {
    let options = StoreOptions::default();
    for _ in 1..STORE_PATIENCE {
        match storage::open(url, &options).await {
            Err(StoreError::Unavailable { reason }) => {
                tracing::warn!(reason, "the store cannot be reached yet; trying again");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            opened => return opened,
        }
    }
    storage::open(url, &options).await
}
