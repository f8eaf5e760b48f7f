//! Builds the parts, binds the listener, and serves until told to stop.

use std::{fs::File, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use ipnet::IpNet;
use rustix::io::Errno;
use storage::{SharedStore, StoreError, StoreOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{Access, Audit},
    auth::{complaints, is_trusted},
    config::Config,
    connections::{Admissions, ConnectionLimits, ListenError, PatientStream, ServerContext, Silent, listen},
    drain::Drain,
    events::{ApplicationContent, EventRooms, EventServices, History, Presence, run_clock},
    history::{ChangeFeed, Editing, History as PastOfPages, StoredNews},
    http::{
        self, AdminPage, Administration, App, KeptContents, KeptDescriptions, Parts, Patience, StoreProbe,
    },
    reader::Readers,
    rooms::{Compactor, FirstContent, Registry, StoreWriter},
    supervision::Supervisor,
    telemetry::{Metrics, otlp::Otlp},
    trash::Trash,
    webhooks,
};

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A database that is started together with the server may take this long.
const STORE_PATIENCE: u32 = 30;
/// Pause between two tries to reach it.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Connections for the numbers, where they are apart.
const MAX_METRICS_CONNECTIONS: usize = 16;
/// How long a connection that gives way takes to give its file back.
const FILE_PAUSE: Duration = Duration::from_millis(1);
/// Pause when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of the time for a stop, this much is kept for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A server that listens and does not serve yet.
pub struct Server {
    listener: TcpListener,
    router: Router,
    /// The numbers, if they are apart.
    metrics: Option<(TcpListener, Router)>,
    registry: Registry,
    store: SharedStore,
    drain: Drain,
    tasks: TaskTracker,
    /// Cancelled when nobody is connected any more.
    ending: CancellationToken,
    /// What runs beside the connections until then.
    background: Supervisor,
    /// What runs for as long as there are rooms.
    supervisor: Supervisor,
    /// Ends connections that are in no room.
    hang_up: CancellationToken,
    deadline: Duration,
    admissions: Admissions,
    /// Of the numbers, where they are apart: whoever looks after the server is let in when others fill it.
    metrics_admissions: Admissions,
    trusted_proxies: Vec<IpNet>,
    patience: Patience,
    numbers: Metrics,
    otlp: Otlp,
}

impl Server {
    /// Opens the store, migrates it, and binds the address.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let store = open_store(config.database_url.expose(), &config.store).await?;
        Self::bind_with(config, store).await
    }

    /// Binds the address over a store that is open already.
    pub async fn bind_with(config: Config, store: SharedStore) -> Result<Self, ServerError> {
        let address = config.address;
        let listener = listen(address).await?;
        let metrics_listener = match config.metrics_address {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let metrics = Metrics::new();
        let numbers = metrics.clone();
        let (mut otlp, tracing) = Otlp::start(&config.otlp);
        let readers = Readers::new(config.readers);
        let supervisor = Supervisor::default();
        let editing = Editing::new(config.history.version_interval, config.history.version_quiet);
        let feed = ChangeFeed::new(editing);
        let ending = CancellationToken::new();
        // What has to do with the store, but not with edits, is looked after until nobody is connected any more.
        let background = supervisor.for_others();
        let webhooks = webhooks::start(
            config.webhooks,
            store.clone(),
            metrics.clone(),
            &ending,
            &background,
        );
        let told = Arc::new(StoredNews(feed.clone(), webhooks.clone()));
        let (writer, writing) = StoreWriter::new(store.clone(), config.writer, metrics.clone(), told);
        supervisor.spawn("writer", writing);
        let gate = config.registry.room.gate;
        let past = PastOfPages::new(store.clone(), gate, config.history, feed).telling(webhooks.clone());
        let view = Arc::new(readers.clone());
        let (compactor, compacting) = Compactor::new(store.clone(), gate, view, metrics.clone());
        supervisor.spawn("compactor", compacting);
        let first_content = match &config.access.content_query {
            Some(query) => {
                let url = config.access.database_url.expose();
                let format = config.events.content.default_format;
                let content = ApplicationContent::new(url, query.clone(), readers.clone(), format)?;
                Some(Arc::new(content) as Arc<dyn FirstContent>)
            }
            None => None,
        };
        let registry = Registry::new(
            config.registry,
            (store.clone(), first_content),
            (writer.clone(), compactor),
            metrics.clone(),
        );
        registry.tell_attendance(Arc::new(webhooks.clone()));
        let audit = Audit::start(
            store.clone(),
            config.access.audit_retention,
            metrics.clone(),
            ending.clone(),
            &background,
        );
        background.spawn("versions", past.clone().keep_versions(ending.clone()));
        background.spawn("history", past.clone().keep_short(ending.clone()));
        let rules = config.events.rules.clone();
        let (history, last) = History::start(store.clone(), rules, ending.clone(), &background).await?;
        let (limits, recovery) = (config.events.rooms, config.events.recovery);
        let rooms = EventRooms::new(limits, recovery, history.clone(), last);
        let presence = Arc::new(Presence::new(rooms, config.events.typing_names));
        let has_admin_token = config.authenticator.admin_token.is_some();
        let access = Access::new(
            config.authenticator,
            &config.access,
            store.clone(),
            (registry.clone(), presence.clone()),
            audit,
            ending.clone(),
        )?;
        background.spawn("access", access.clone().watch());
        let trash = Trash::new(store.clone(), registry.clone(), access.clone(), config.trash);
        background.spawn("trash", trash.clone().keep_empty(ending.clone()));
        let hang_up = CancellationToken::new();
        let (drain, tasks) = (Drain::default(), TaskTracker::new());
        let admissions = Admissions::new(config.connections);
        let patience = Patience {
            body: config.body_timeout,
            stall: config.session.max_stall,
            head: config.http_keepalive,
        };
        let events = EventServices::new(
            access.clone(),
            presence,
            (registry.clone(), readers.clone()),
            (store.clone(), history),
            config.events,
            metrics.clone(),
        );
        let clock = run_clock(events.timed(), events.alarm.clone(), ending.clone());
        background.spawn("clock of events", clock);
        let admin_page = AdminPage::new(config.admin_page, has_admin_token);
        let store_name = storage::describe(config.database_url.expose());
        let app = App::new(Parts {
            administration: Administration::new(listener.local_addr().ok(), store_name, admin_page),
            broadcast_secret: config.broadcast_secret,
            tracing,
            indexer_token: config.indexer_token,
            admissions: admissions.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            own_pages: config.own_pages,
            public_url: config.public_url,
            around: Arc::new(ServerContext {
                events,
                access,
                registry: registry.clone(),
                writer,
                metrics,
                session: config.session,
                max_message_bytes: config.max_message_bytes,
                max_outbox_bytes: config.max_outbox_bytes,
            }),
            probe: StoreProbe::new(store.clone()),
            store: store.clone(),
            readers,
            past,
            trash,
            contents: KeptContents::default(),
            descriptions: KeptDescriptions::default(),
            webhooks,
            gate,
            demo: config.demo,
            metrics_apart: metrics_listener.is_some(),
            max_body_bytes: config.max_body_bytes,
            drain: drain.clone(),
            tasks: tasks.clone(),
            hang_up: hang_up.clone(),
            engine_io: config.engine_io,
            socket_io: config.socket_io,
            lobby: config.lobby,
        });
        let told = app.clone();
        otlp.send_metrics(move || http::numbers(&told), &ending, &background);
        Ok(Self {
            listener,
            metrics: metrics_listener.map(|listener| (listener, http::metrics_router(app.clone()))),
            router: http::router(app),
            registry,
            store,
            drain,
            tasks,
            ending,
            background,
            supervisor,
            hang_up,
            deadline: config.shutdown_deadline,
            admissions,
            metrics_admissions: Admissions::new(ConnectionLimits {
                total: MAX_METRICS_CONNECTIONS,
                per_user: 0,
                per_ip: 0,
            }),
            trusted_proxies: config.trusted_proxies,
            patience,
            numbers,
            otlp,
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of the numbers, if they are apart.
    pub fn metrics_address(&self) -> Option<io::Result<SocketAddr>> {
        self.metrics.as_ref().map(|(listener, _)| listener.local_addr())
    }

    /// The rooms, for whoever embeds a server and wants to look into them.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Where files have run out, a connection on which nothing was asked gives way to the next; without one, the next is hung up on with a
    /// file that was kept for this, instead of waiting for ever.
    async fn hang_up_on_next(&self, spare: Option<File>, error: &io::Error) -> Option<File> {
        let is_out_of_files = matches!(
            error.raw_os_error().map(Errno::from_raw_os_error),
            Some(Errno::MFILE | Errno::NFILE)
        );
        if !is_out_of_files {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return spare;
        }
        if self.admissions.end_silent() {
            // Its file is free as soon as its task has ended.
            tokio::time::sleep(FILE_PAUSE).await;
            return spare;
        }
        drop(spare);
        let refused = tokio::time::timeout(ACCEPT_PAUSE, self.listener.accept()).await;
        let has_hung_up = matches!(refused, Ok(Ok(_)));
        drop(refused);
        let spare = File::open("/dev/null").ok();
        if !has_hung_up || spare.is_none() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        spare
    }

    /// Serves until `stop` is cancelled, or something has died without which it cannot go on. Then it stores what is unwritten, says
    /// goodbye and returns: whether everything was stored in time and nothing has died.
    pub async fn run(self, stop: CancellationToken) -> bool {
        let hang_up = CancellationToken::new();
        let mut spare = File::open("/dev/null").ok();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.supervisor.failed() => break,
                () = self.drain.over() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => match self.admit(peer) {
                        Some(silent) => self.serve(self.router.clone(), (stream, peer), silent, hang_up.clone()),
                        None => tracing::debug!("a connection over the limit was closed"),
                    },
                    Err(error) => {
                        if complaints::is_due("accept") {
                            tracing::warn!(%error, "connections could not be accepted");
                        }
                        spare = self.hang_up_on_next(spare, &error).await;
                    }
                },
                accepted = self.accept_apart() => if let Ok((router, stream, peer)) = accepted {
                    if let Some(silent) = self.metrics_admissions.accept(None) {
                        self.serve(router, (stream, peer), silent, hang_up.clone());
                    }
                } else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                },
            }
        }
        self.drain.stop();
        drop((self.listener, self.metrics));
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
        let _ = tokio::time::timeout(GOODBYE, self.background.ended()).await;
        let closing = tokio::time::timeout(GOODBYE, self.store.close());
        let _ = tokio::join!(closing, self.otlp.stop(GOODBYE));
        stored && !self.supervisor.has_failed()
    }

    /// Waits for whoever asks for the numbers where they are apart.
    async fn accept_apart(&self) -> io::Result<(Router, TcpStream, SocketAddr)> {
        let Some((listener, router)) = &self.metrics else {
            return std::future::pending().await;
        };
        let (stream, peer) = listener.accept().await?;
        Ok((router.clone(), stream, peer))
    }

    /// Counts a connection. Behind a proxy there are many clients, which are counted by what they ask for.
    fn admit(&self, peer: SocketAddr) -> Option<Silent> {
        let ip = peer.ip().to_canonical();
        let is_proxy = is_trusted(ip, &self.trusted_proxies);
        self.admissions.accept((!is_proxy).then_some(ip))
    }

    fn serve(
        &self,
        router: Router,
        (stream, peer): (TcpStream, SocketAddr),
        silent: Silent,
        hang_up: CancellationToken,
    ) {
        // Without this, small frames wait for the peer's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
        let is_proxy = is_trusted(peer.ip(), &self.trusted_proxies);
        let stream = PatientStream::new(stream, self.patience.stall, self.numbers.clone());
        let serving = http::serve(router, (stream, peer, is_proxy), silent, self.patience, hang_up);
        self.tasks.spawn(serving);
    }
}

/// Opens the store, waiting for a database that is not there yet.
async fn open_store(url: &str, options: &StoreOptions) -> Result<SharedStore, StoreError> {
    for _ in 1..STORE_PATIENCE {
        match storage::open(url, options).await {
            Err(StoreError::Unavailable { reason }) => {
                tracing::warn!(reason, "the store cannot be reached yet; trying again");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            opened => return opened,
        }
    }
    storage::open(url, options).await
}
