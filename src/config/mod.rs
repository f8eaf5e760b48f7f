//! Every setting with its flag, variable, default and reason; and the rules between them.

mod access;
mod auth;
mod environment;
mod reader;
mod store;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use ipnet::IpNet;
use storage::StoreOptions;

use crate::{
    access::{AccessConfig, Rate, RateLimits, SeatLimits},
    auth::{Authenticator, PublicUrl, Secret},
    connections::{
        ConnectionLimits, SessionConfig,
        engine_io::EngineConfig,
        hocuspocus::PendingAuthLimits,
        socket_io::{SocketIoConfig, SocketIoSettings},
    },
    reader::ReaderConfig,
    rooms::{BatchLimits, RegistryConfig, RoomConfig, SnapshotPolicy, WriterConfig},
    telemetry::LogFormat,
};

use self::{access::AccessSettings, reader::ReaderSettings, store::StoreSettings};
pub(crate) use self::{auth::AuthSettings, environment::Environment};

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
    pub(crate) log: LogSettings,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where to listen")]
struct ListenSettings {
    /// Address to listen on. Anything but a loopback address needs a secret (or an explicit PAGEROOM_AUTH=open).
    #[arg(
        long,
        env = "HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS",
        value_parser = own_address
    )]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 3001)]
    port: u16,
    /// Reverse proxies whose `X-Forwarded-For` or `Forwarded` is believed: addresses or networks, separated by commas.
    #[arg(
        long,
        env = "PAGEROOM_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        value_delimiter = ','
    )]
    trusted_proxies: Vec<String>,
    /// Scheme, host, port and path under which clients reach the server, where it stands behind something that changes them.
    #[arg(long, env = "PAGEROOM_PUBLIC_URL", value_name = "URL")]
    public_url: Option<PublicUrl>,
    /// An HTTP connection stays open this long between two requests. Longer than the proxy before the server keeps one, or it finds
    /// connections closed.
    #[arg(
        long,
        env = "PAGEROOM_HTTP_KEEPALIVE_SECONDS",
        default_value_t = 75,
        value_parser = clap::value_parser!(u64).range(1..=86_400),
        value_name = "SECONDS"
    )]
    http_keepalive_seconds: u64,
    /// Whether `/` serves the demo editor.
    #[arg(long, env = "PAGEROOM_DEMO", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    demo: bool,
    /// On SIGTERM: how long storing what is unwritten and saying goodbye may take.
    #[arg(
        long,
        env = "PAGEROOM_SHUTDOWN_DEADLINE_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    shutdown_deadline_seconds: u64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rooms and connections")]
struct RoomSettings {
    /// An empty room leaves memory after this time.
    #[arg(
        long,
        env = "PAGEROOM_ROOM_IDLE_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    room_idle_seconds: u64,
    /// A quiet room keeps only the encoded page in memory after this time.
    #[arg(
        long,
        env = "PAGEROOM_DOCUMENT_SLEEP_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    document_sleep_seconds: u64,
    /// A crowded room sends deltas at most this often, because people do not see the difference. Rooms of up to 8 members never wait; each
    /// further member adds half a millisecond up to this.
    #[arg(
        long,
        env = "PAGEROOM_MAX_WINDOW_MILLISECONDS",
        default_value_t = 25,
        value_name = "MILLISECONDS"
    )]
    max_window_milliseconds: u64,
    /// After a connection broke, its presence stays this long, so that a quick reconnect does not flicker.
    #[arg(
        long,
        env = "PAGEROOM_PRESENCE_GRACE_SECONDS",
        default_value_t = 3,
        value_name = "SECONDS"
    )]
    presence_grace_seconds: u64,
    /// A presence that its client has not renewed for this long is withdrawn (Yjs clients renew every 15 s).
    #[arg(
        long,
        env = "PAGEROOM_PRESENCE_TIMEOUT_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    presence_timeout_seconds: u64,
    /// Something is sent to each client at least this often (y-websocket clients reconnect after 30 s of silence).
    #[arg(
        long,
        env = "PAGEROOM_KEEPALIVE_SECONDS",
        default_value_t = 15,
        value_name = "SECONDS"
    )]
    keepalive_seconds: u64,
    /// A client that answers no ping for this long is gone.
    #[arg(
        long,
        env = "PAGEROOM_CONNECTION_TIMEOUT_SECONDS",
        default_value_t = 35,
        value_name = "SECONDS"
    )]
    connection_timeout_seconds: u64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits (0 switches one off)")]
struct LimitSettings {
    /// Largest message.
    #[arg(long, env = "PAGEROOM_MAX_MESSAGE_BYTES", default_value_t = 16 << 20, value_name = "BYTES")]
    max_message_bytes: usize,
    /// Largest presence state of one client id.
    #[arg(long, env = "PAGEROOM_MAX_AWARENESS_BYTES", default_value_t = 64 << 10, value_name = "BYTES")]
    max_awareness_bytes: usize,
    /// Presence states of one page together; beyond it no state of more than 1 KiB is taken in.
    #[arg(
        long,
        env = "PAGEROOM_MAX_ROOM_AWARENESS_BYTES",
        default_value_t = 4 << 20,
        value_name = "BYTES"
    )]
    max_room_awareness_bytes: usize,
    /// Client ids that one connection may show presence for.
    #[arg(
        long,
        env = "PAGEROOM_MAX_AWARENESS_CLIENTS",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    max_awareness_clients: usize,
    /// Largest page, encoded; beyond it reading goes on and edits are refused.
    #[arg(long, env = "PAGEROOM_MAX_PAGE_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    max_page_bytes: u64,
    /// Levels of lists and maps inside one plain value.
    #[arg(
        long,
        env = "PAGEROOM_MAX_VALUE_NESTING",
        default_value_t = 1000,
        value_name = "LEVELS"
    )]
    max_value_nesting: u16,
    /// Client ids of whom one update may bring something new. Each takes about 200 bytes of memory.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CLIENTS_PER_UPDATE",
        default_value_t = 100_000,
        value_name = "COUNT"
    )]
    max_clients_per_update: usize,
    /// Levels of shared types inside one another.
    #[arg(
        long,
        env = "PAGEROOM_MAX_NESTING",
        default_value_t = 512,
        value_name = "LEVELS"
    )]
    max_nesting: u16,
    /// Connections to this process.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS",
        default_value_t = 20_000,
        value_name = "COUNT"
    )]
    max_connections: usize,
    /// Connections to one page.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_ROOM",
        default_value_t = 1500,
        value_name = "COUNT"
    )]
    max_connections_per_room: usize,
    /// Connections of one user to one page; several may share a socket. Guests are not users.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_USER_AND_ROOM",
        default_value_t = 50,
        value_name = "COUNT"
    )]
    max_connections_per_user_and_room: usize,
    /// Of a page's connections, so many of a hundred are kept for those who may edit.
    #[arg(
        long,
        env = "PAGEROOM_EDITORS_SHARE_PERCENT",
        default_value_t = 10,
        value_name = "PERCENT"
    )]
    editors_share_percent: usize,
    /// Connections of one user. Guests are not users.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_USER",
        default_value_t = 50,
        value_name = "COUNT"
    )]
    max_connections_per_user: usize,
    /// Connections of one address. Loopback addresses are exempt.
    #[arg(
        long,
        env = "PAGEROOM_MAX_CONNECTIONS_PER_IP",
        default_value_t = 500,
        value_name = "COUNT"
    )]
    max_connections_per_ip: usize,
    /// Pages on one connection, where a protocol has several.
    #[arg(
        long,
        env = "PAGEROOM_MAX_PAGES_PER_CONNECTION",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    max_pages_per_connection: usize,
    /// Where a protocol shows its token after connecting: how long it may take to show a good one.
    #[arg(
        long,
        env = "PAGEROOM_AUTH_TIMEOUT_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    auth_timeout_seconds: u64,
    /// Messages a second that one connection is read at; faster ones wait in their socket.
    #[arg(
        long,
        env = "PAGEROOM_MAX_UPDATES_PER_SECOND",
        default_value_t = 2000,
        value_name = "COUNT"
    )]
    max_updates_per_second: u32,
    /// Messages of one connection that may come at once.
    #[arg(
        long,
        env = "PAGEROOM_MAX_UPDATES_BURST",
        default_value_t = 20_000,
        value_name = "COUNT"
    )]
    max_updates_burst: u32,
    /// Bytes that may wait for a slow reader before it gets one diff instead.
    #[arg(long, env = "PAGEROOM_MAX_OUTBOX_BYTES", default_value_t = 4 << 20, value_name = "BYTES")]
    max_outbox_bytes: usize,
    /// A reader that takes nothing for this long is hung up on.
    #[arg(
        long,
        env = "PAGEROOM_MAX_STALL_SECONDS",
        default_value_t = 60,
        value_name = "SECONDS"
    )]
    max_stall_seconds: u64,
    /// REST requests a second of one user, and of one address. Backends and loopback addresses are exempt.
    #[arg(
        long,
        env = "PAGEROOM_MAX_REQUESTS_PER_SECOND",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    max_requests_per_second: u32,
    /// Such requests that may come at once.
    #[arg(
        long,
        env = "PAGEROOM_MAX_REQUESTS_BURST",
        default_value_t = 500,
        value_name = "COUNT"
    )]
    max_requests_burst: u32,
    /// Connections a second that one address may ask for. Loopback addresses are exempt.
    #[arg(
        long,
        env = "PAGEROOM_MAX_ARRIVALS_PER_SECOND",
        default_value_t = 50,
        value_name = "COUNT"
    )]
    max_arrivals_per_second: u32,
    /// Such connections that may come at once.
    #[arg(
        long,
        env = "PAGEROOM_MAX_ARRIVALS_BURST",
        default_value_t = 500,
        value_name = "COUNT"
    )]
    max_arrivals_burst: u32,
    /// Largest body of an HTTP request.
    #[arg(long, env = "PAGEROOM_MAX_BODY_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    max_body_bytes: usize,
    /// The body of a request must have come within this time.
    #[arg(
        long,
        env = "PAGEROOM_BODY_TIMEOUT_SECONDS",
        default_value_t = 60,
        value_name = "SECONDS"
    )]
    body_timeout_seconds: u64,
    /// Commands that wait in a room's mailbox; connections that find it full are not read.
    #[arg(
        long,
        env = "PAGEROOM_ROOM_MAILBOX",
        default_value_t = 256,
        value_name = "COUNT"
    )]
    room_mailbox: usize,
    /// Bytes of updates that wait in a page for what they build on, with about 160 for each update.
    #[arg(long, env = "PAGEROOM_MAX_PARKED_BYTES", default_value_t = 16 << 20, value_name = "BYTES")]
    max_parked_bytes: usize,
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
    /// Whether `/` serves the demo.
    pub demo: bool,
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
    /// The store's writer.
    pub writer: WriterConfig,
    /// Who is who.
    pub authenticator: Authenticator,
    /// Where roles come from.
    pub access: AccessConfig,
    /// What backends sign their messages with.
    pub broadcast_secret: Option<Secret>,
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
    /// Limits before anybody is let in, where a protocol shows its token after connecting.
    pub lobby: PendingAuthLimits,
    /// The processes in which pages are read.
    pub readers: ReaderConfig,
}

impl Settings {
    /// Checks the settings and makes a configuration of them, or lists everything that is wrong.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let authenticator = self.auth.check(self.listen.host, &mut problems);
        let access = self.access.check(
            &self.store.database_url,
            (self.rates(), self.seats()),
            &mut problems,
        );
        let broadcast_secret = self.access.broadcast_secret(&self.auth, &mut problems);
        let trusted_proxies = self.listen.proxies(&mut problems);
        let readers = self.readers.check(&mut problems);
        self.check_numbers(&mut problems);
        self.socket_io.check(&mut problems);
        if let Err(error) = storage::check_address(self.store.database_url.expose()) {
            problems.push(error.to_string());
        }
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        Ok(Config {
            address: SocketAddr::new(self.listen.host, self.listen.port),
            demo: self.listen.demo,
            public_url: self.listen.public_url.clone(),
            http_keepalive: Duration::from_secs(self.listen.http_keepalive_seconds),
            shutdown_deadline: Duration::from_secs(self.listen.shutdown_deadline_seconds),
            database_url: self.store.database_url.clone(),
            store: self.store.options(),
            writer: self.writer(),
            authenticator,
            access,
            broadcast_secret,
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
            lobby: self.lobby(),
            readers,
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

    fn seats(&self) -> SeatLimits {
        SeatLimits {
            per_user: self.limits.max_connections_per_user_and_room,
            total: self.limits.max_connections_per_room,
            kept_for_editors: self.limits.editors_share_percent,
        }
    }

    fn rates(&self) -> RateLimits {
        RateLimits {
            requests: Rate {
                per_second: self.limits.max_requests_per_second,
                burst: self.limits.max_requests_burst,
            },
            arrivals: Rate {
                per_second: self.limits.max_arrivals_per_second,
                burst: self.limits.max_arrivals_burst,
            },
        }
    }

    fn writer(&self) -> WriterConfig {
        WriterConfig {
            batches: BatchLimits {
                commit_interval: Duration::from_millis(self.store.commit_interval_milliseconds),
                max_backoff: Duration::from_millis(self.store.store_retry_milliseconds.max(50)),
                max_pages: 1000,
                max_bytes: 32 << 20,
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
                ..crdt::Limits::default()
            },
            snapshots: SnapshotPolicy {
                interval: Duration::from_secs(self.store.snapshot_interval_seconds),
                max_log_rows: 5000,
                max_log_bytes: 16 << 20,
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

    fn lobby(&self) -> PendingAuthLimits {
        PendingAuthLimits {
            timeout: Duration::from_secs(self.limits.auth_timeout_seconds),
            max_messages: 100,
            max_bytes: 1 << 20,
            max_pages: self.limits.max_pages_per_connection,
        }
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

/// An address of this machine; `localhost` is the only name that is one everywhere.
fn own_address(text: &str) -> Result<IpAddr, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse();
    address
        .map_err(|_| "write an address of this machine, `localhost`, or 0.0.0.0 for all of them".to_owned())
}

impl ListenSettings {
    fn proxies(&self, problems: &mut Vec<String>) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in self
            .trusted_proxies
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
        {
            match text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            {
                Ok(network) => networks.push(network),
                Err(_) => problems.push(format!(
                    "PAGEROOM_TRUSTED_PROXIES: `{text}` is neither an address nor a network"
                )),
            }
        }
        networks
    }
}
