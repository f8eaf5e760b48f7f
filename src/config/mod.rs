//! Every setting with its flag, variable, default and reason; and the rules between them.

mod access;
mod auth;
mod environment;
mod events;
mod limits;
mod listen;
mod patio;
mod reader;
mod rooms;
mod store;
mod webhooks;

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use ipnet::IpNet;
use storage::StoreOptions;

use crate::{
    access::AccessConfig,
    auth::{Authenticator, Origin, PublicUrl, Secret},
    connections::{
        ConnectionLimits, SessionConfig,
        engine_io::EngineConfig,
        hocuspocus::PendingAuthLimits,
        socket_io::{SocketIoConfig, SocketIoSettings},
    },
    events::EventConfig,
    history::HistoryConfig,
    reader::ReaderConfig,
    rooms::{BatchLimits, RegistryConfig, RoomConfig, SnapshotPolicy, WriterConfig},
    telemetry::{LogFormat, otlp::OtlpConfig},
    webhooks::WebhookConfig,
};

use self::{
    access::AccessSettings, events::EventSettings, limits::LimitSettings, listen::ListenSettings,
    patio::PatioSettings, reader::ReaderSettings, rooms::RoomSettings, store::StoreSettings,
    webhooks::WebhookSettings,
};
pub(crate) use self::{auth::AuthSettings, environment::Environment, listen::own_address};

/// Pages in one transaction.
const MAX_BATCH_PAGES: usize = 1000;
/// Bytes of edits in one transaction; one larger request alone passes.
const MAX_BATCH_BYTES: usize = 32 << 20;
/// A page's log is replaced by a snapshot from this many rows on, and from this many bytes on.
const MAX_LOG_ROWS: u64 = 5000;
const MAX_LOG_BYTES: u64 = 16 << 20;

/// Settings of the server, as they are given.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    #[command(flatten)]
    listen: ListenSettings,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
    #[command(flatten)]
    pub(crate) auth: AuthSettings,
    #[command(flatten)]
    access: AccessSettings,
    #[command(flatten)]
    rooms: RoomSettings,
    #[command(flatten)]
    limits: LimitSettings,
    #[command(flatten)]
    readers: ReaderSettings,
    #[command(flatten)]
    socket_io: SocketIoSettings,
    #[command(flatten)]
    events: EventSettings,
    #[command(flatten)]
    patio: PatioSettings,
    #[command(flatten)]
    webhooks: WebhookSettings,
    #[command(flatten)]
    pub(crate) log: LogSettings,
}

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogSettings {
    /// Form of the log on standard error.
    #[arg(
        long,
        env = "PAGEROOM_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or `target=level` pairs separated by commas.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
}

/// Settings that do not fit together, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s):\n{}", .0.len(), .0.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// The configuration of a server, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub address: SocketAddr,
    /// Where the numbers are, if apart.
    pub metrics_address: Option<SocketAddr>,
    /// Whether `/` serves the demo.
    pub demo: bool,
    /// Whether `/admin` serves the page for whoever runs the server.
    pub admin_page: bool,
    /// Where the application's own pages come from.
    pub own_pages: Vec<Origin>,
    /// Where clients reach the server, if that is said.
    pub public_url: Option<PublicUrl>,
    /// How long an HTTP connection stays open between two requests.
    pub http_keepalive: Duration,
    /// How long a stop may take.
    pub shutdown_deadline: Duration,
    /// Address of the store.
    pub database_url: Secret,
    /// How the store is opened.
    pub store: StoreOptions,
    /// What of the past of pages is kept.
    pub history: HistoryConfig,
    /// How long pages stay in the trash; `None` for ever.
    pub trash: Option<Duration>,
    /// The store's writer.
    pub writer: WriterConfig,
    /// Who is who.
    pub authenticator: Authenticator,
    /// Where roles come from.
    pub access: AccessConfig,
    /// What backends sign their messages with.
    pub broadcast_secret: Option<Secret>,
    /// What a worker shows that speaks to workspaces alone.
    pub indexer_token: Option<Secret>,
    /// The rooms.
    pub registry: RegistryConfig,
    /// The connections.
    pub session: SessionConfig,
    /// How many of them.
    pub connections: ConnectionLimits,
    /// Proxies whose word about the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Largest message, in bytes.
    pub max_message_bytes: usize,
    /// Bytes that may wait for one member.
    pub max_outbox_bytes: usize,
    /// Largest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How sessions at `/socket.io/` are kept.
    pub engine_io: EngineConfig,
    /// Limits of what is spoken over them.
    pub socket_io: SocketIoConfig,
    /// Rooms without a document, and whole contents.
    pub events: EventConfig,
    /// Limits before anybody is let in, where a protocol shows its token after connecting.
    pub lobby: PendingAuthLimits,
    /// The processes in which pages are read.
    pub readers: ReaderConfig,
    /// Who is told what happens to pages.
    pub webhooks: Option<WebhookConfig>,
    /// What is sent to a collector. The variables for it are OpenTelemetry's, and no settings.
    pub otlp: OtlpConfig,
}

impl Settings {
    /// What is said and changes nothing.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.store.warnings()
    }

    /// Checks the settings and makes a configuration of them, or lists everything that is wrong.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let public = self.listen.public_url.as_ref().and_then(PublicUrl::origin);
        let authenticator = self.auth.check(self.listen.host, public, &mut problems);
        let access = self.access.check(
            self.store
                .database_direct_url
                .as_ref()
                .unwrap_or(&self.store.database_url),
            (self.limits.rates(), self.limits.seats()),
            &mut problems,
        );
        let broadcast_secret = self.access.broadcast_secret(&self.auth, &mut problems);
        let indexer_token = self.access.indexer_token(&mut problems);
        let trusted_proxies = self.listen.proxies(&mut problems);
        let readers = self.readers.check(&mut problems);
        self.check_numbers(&mut problems);
        self.socket_io.check(&mut problems);
        let patio = self.patio.check(broadcast_secret.as_ref(), &mut problems);
        let webhooks = self.webhooks.check(broadcast_secret.as_ref(), &mut problems);
        let members = self.limits.max_connections_per_room;
        let events = self.events.check(members, patio, &mut problems);
        let store = self.store.options();
        if store.notifies && !storage::is_postgres(self.store.database_url.expose()) {
            problems
                .push("PAGEROOM_DATABASE_NOTIFY is set, and DATABASE_URL leads to no PostgreSQL".to_owned());
        }
        if let Err(error) = storage::check_address(self.store.database_url.expose(), store.direct.as_ref()) {
            problems.push(error.to_string());
        }
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        Ok(Config {
            address: SocketAddr::new(self.listen.host, self.listen.port),
            metrics_address: self.listen.metrics_address,
            demo: self.listen.demo,
            admin_page: self.listen.admin_page,
            own_pages: self.auth.own_pages(),
            public_url: self.listen.public_url.clone(),
            http_keepalive: Duration::from_secs(self.listen.http_keepalive_seconds),
            shutdown_deadline: Duration::from_secs(self.listen.shutdown_deadline_seconds),
            database_url: self.store.database_url.clone(),
            store,
            history: self.store.history(),
            trash: self.store.trash(),
            writer: self.writer(),
            authenticator,
            access,
            broadcast_secret,
            indexer_token,
            registry: RegistryConfig {
                room: self.room().into(),
                mailbox: self.limits.room_mailbox.max(1),
            },
            session: self.session(),
            connections: ConnectionLimits {
                total: self.limits.max_connections,
                per_user: self.limits.max_connections_per_user,
                per_ip: self.limits.max_connections_per_ip,
            },
            trusted_proxies,
            max_message_bytes: self.limits.max_message_bytes,
            max_outbox_bytes: self.limits.max_outbox_bytes,
            max_body_bytes: self.limits.max_body_bytes,
            body_timeout: Duration::from_secs(self.limits.body_timeout_seconds),
            engine_io: self
                .socket_io
                .engine(self.session(), self.limits.max_message_bytes),
            socket_io: self.socket_io(),
            events,
            lobby: self.limits.lobby(),
            readers,
            webhooks,
            otlp: OtlpConfig::default(),
        })
    }

    fn check_numbers(&self, problems: &mut Vec<String>) {
        let rooms = &self.rooms;
        if rooms.keepalive_seconds == 0 || rooms.keepalive_seconds > 20 {
            problems.push("PAGEROOM_KEEPALIVE_SECONDS must be between 1 and 20: y-websocket clients reconnect after 30 s of silence".to_owned());
        }
        if rooms.connection_timeout_seconds <= rooms.keepalive_seconds {
            problems.push("PAGEROOM_CONNECTION_TIMEOUT_SECONDS must be above PAGEROOM_KEEPALIVE_SECONDS, or no client lives to answer".to_owned());
        }
        if self.store.snapshot_interval_seconds == 0 {
            problems.push("PAGEROOM_SNAPSHOT_INTERVAL_SECONDS must be at least 1".to_owned());
        }
        if self.limits.max_nesting == 0 || self.limits.max_nesting > 4096 {
            problems.push(
                "PAGEROOM_MAX_NESTING must be between 1 and 4096: deeper pages cannot be walked safely"
                    .to_owned(),
            );
        }
        if self.limits.max_page_bytes != 0
            && (self.limits.max_message_bytes as u64) > self.limits.max_page_bytes
        {
            problems.push("PAGEROOM_MAX_MESSAGE_BYTES is above PAGEROOM_MAX_PAGE_BYTES".to_owned());
        }
    }

    fn writer(&self) -> WriterConfig {
        WriterConfig {
            batches: BatchLimits {
                commit_interval: Duration::from_millis(self.store.commit_interval_milliseconds),
                max_backoff: Duration::from_millis(self.store.store_retry_milliseconds.max(50)),
                max_pages: MAX_BATCH_PAGES,
                max_bytes: MAX_BATCH_BYTES,
            },
            max_unstored_bytes: self.store.max_unstored_bytes,
        }
    }

    fn room(&self) -> RoomConfig {
        let unlimited = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        RoomConfig {
            gate: crdt::Limits {
                max_clients_per_update: unlimited(self.limits.max_clients_per_update),
                max_nesting: self.limits.max_nesting,
                max_any_depth: self.limits.max_value_nesting,
                max_pending_bytes: unlimited(self.limits.max_parked_bytes),
                keeps_deleted: !self.store.gc,
                max_clients_per_state_vector: unlimited(self.limits.max_clients_per_state_vector),
                ..crdt::Limits::default()
            },
            snapshots: SnapshotPolicy {
                interval: Duration::from_secs(self.store.snapshot_interval_seconds),
                max_log_rows: MAX_LOG_ROWS,
                max_log_bytes: MAX_LOG_BYTES,
            },
            idle: Duration::from_secs(self.rooms.room_idle_seconds),
            max_window: Duration::from_millis(self.rooms.max_window_milliseconds),
            max_page_bytes: self.limits.max_page_bytes,
            max_members: self.limits.max_connections_per_room,
            awareness: crdt::AwarenessLimits {
                max_state_bytes: unlimited(self.limits.max_awareness_bytes),
                max_clients_per_owner: unlimited(self.limits.max_awareness_clients),
                max_total_bytes: unlimited(self.limits.max_room_awareness_bytes),
                grace: Duration::from_secs(self.rooms.presence_grace_seconds),
                timeout: Duration::from_secs(self.rooms.presence_timeout_seconds),
                ..crdt::AwarenessLimits::default()
            },
            sleep: Duration::from_secs(self.rooms.document_sleep_seconds),
        }
    }

    fn socket_io(&self) -> SocketIoConfig {
        self.socket_io.limits(
            self.limits.max_message_bytes,
            Duration::from_secs(self.limits.auth_timeout_seconds),
            self.limits.max_pages_per_connection,
        )
    }

    fn session(&self) -> SessionConfig {
        SessionConfig {
            keep_alive: Duration::from_secs(self.rooms.keepalive_seconds),
            timeout: Duration::from_secs(self.rooms.connection_timeout_seconds),
            max_stall: Duration::from_secs(self.limits.max_stall_seconds),
            messages_per_second: self.limits.max_updates_per_second,
            burst: self.limits.max_updates_burst,
        }
    }
}
