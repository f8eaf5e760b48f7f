//! What somebody may do with a page: the one place where every protocol asks, and which goes on deciding while they stay.
//!
//! # From identity to decision
//!
//! [`auth`](crate::auth) says who is asking. From there on:
//!
//! 1. [`Access::identify`] asks whether the user is blocked, or was signed out since the token was issued.
//! 2. [`Access::role`] asks the configured sources in order; the first that knows the page decides, nobody knowing it is no
//!    access, and a source that fails is no access and an error that may be retried. Answers are kept for a few seconds, and
//!    never longer than until a change is made or announced; the same question is asked once however many wait for it.
//! 3. [`Access::join`] takes a seat in the room, whose role the room checks at every single change.
//!
//! # Changes
//!
//! Every seat that [`Access::join`] has given is known to [`Access`] by user and page. When something changes
//! ([`Access::changed`], the time of a grant or a token running out, an announcement of PostgreSQL), the decision is made again
//! for each seat concerned, and the room is told through the seat's [handle](crate::rooms::SeatHandle): another role, or out.
//! That goes past everything that the member has said and that still waits. A protocol has nothing to do for it.
//!
//! A page in the trash is closed by the same mechanism: [`Access::join`] and every request ask for it after the role, so that whoever
//! may not see the page learns nothing, and deleting or restoring it is a change that concerns everybody.
//!
//! # Authorship
//!
//! The room knows which member writes with a Yjs client id: whoever brought something new under it, by an edit, until it
//! leaves. New structs under that id from another user would leave two replicas with different content at the same clocks and equal
//! state vectors, which no sync ever mends. So an edit, or a post of a user, that has some is refused, and its sender sent away. A resync
//! may repeat anybody's edits, because programs that sync from peer to peer do so, but what is new in it of somebody who is here is
//! left out: the writer brings that. When the writer leaves, whoever brought some of it is asked again.
//!
//! Presence is bound to connections in the same way. Where the configuration asks for it, each member has a
//! [stamp](crdt::IdentityStamp) made of its [`Identity`](crate::auth::Identity), and what it shows says who it is.
//!
//! # What else stands here
//!
//! [`Audit`] keeps what was done and refused, and [`RateLimiters`] slow down whoever asks too often.

mod answers;
mod audit;
mod connected_users;
mod decisions;
mod enforcement;
mod live;
mod membership;
mod page_drives;
mod rates;
mod reach;
mod seats;
mod shared_rooms;
mod sources;

use std::{sync::Arc, time::Duration};

use hyper::Uri;
use moka::{future::Cache, policy::EvictionPolicy};
use storage::{Application, PageId, SharedStore, StoreError};
use tokio_util::sync::CancellationToken;

pub(crate) use self::membership::reason_and_origin;
use self::{
    answers::{Answers, Stamp, Stamps},
    live::Live,
    seats::Seats,
    sources::{RoleWebhook, Source},
};
pub use self::{
    audit::{Audit, Note},
    connected_users::ConnectedUser,
    enforcement::{Decision, Enforcement, Held, HolderId, Newcomer, Order, PATIENCE, PAUSE, Question},
    live::{Attendance, LiveSeat, LiveSocket, RoomControl, RoomSeat, Viewer},
    membership::{Caller, Membership},
    rates::{Buckets, Rate, RateLimiters, RateLimits},
    reach::{Range, Reach},
    seats::SeatLimits,
    shared_rooms::REMOVED,
    sources::SourceName,
};
use crate::{
    auth::{AuthBackoff, Authenticator, PageSpace, PageSpaceConfig, Secret, now},
    rooms::Registry,
};

/// Longest time that a question to the application's database may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that are remembered to be in the trash, at most.
const MAX_TRASHED: u64 = 100_000;

/// Where roles come from.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// The sources, in the order in which they are asked.
    pub sources: Vec<SourceName>,
    /// How long an answer is kept that nobody has taken back.
    pub cache: Duration,
    /// The application's database, for the sources below.
    pub database_url: Secret,
    /// Gives the role of user `$1` on page `$2`.
    pub query: Option<String>,
    /// Gives name, members at most and end of the shared room `$1`.
    pub room_query: Option<String>,
    /// Gives the drive that page `$1` belongs to.
    pub page_drive_query: Option<String>,
    /// The query that says what a page holds that has never been stored.
    pub content_query: Option<String>,
    /// Gives the version that tokens of user `$1` must have; no row for users whose tokens are void.
    pub token_version_query: Option<String>,
    /// Is asked what a user may do with a page.
    pub webhook: Option<(Uri, Option<Secret>)>,
    /// Whether opaque tokens are looked up in PageSpace's tables, and how.
    pub pagespace: Option<PageSpaceConfig>,
    /// How long the audit log is kept; zero for not at all.
    pub audit_retention: Duration,
    /// Whether the presence of members says who they are, whatever their programs say.
    pub stamps_presence: bool,
    /// How often somebody may ask.
    pub rates: RateLimits,
    /// How many seats of a page somebody may take.
    pub seats: SeatLimits,
}

/// Who may do what. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Parts>);

/// What decisions are made from.
struct Parts {
    authenticator: Authenticator,
    store: SharedStore,
    registry: Registry,
    audit: Audit,
    auth_backoff: AuthBackoff,
    rates: RateLimiters,
    pagespace: Option<PageSpace>,
    versions: Option<(Arc<Application>, String)>,
    /// What knows shared rooms that the store does not.
    rooms: Option<(Arc<Application>, String)>,
    /// What knows the drives of pages.
    drives: Option<(Arc<Application>, String)>,
    /// Whether the token's grants come before the other sources, after so many of them, or not at all.
    token_at: Option<usize>,
    sources: Vec<Source>,
    answers: Answers,
    /// Pages that were in the trash when that was last heard.
    trashed: Cache<PageId, ()>,
    stamps_presence: bool,
    stamps: Stamps,
    live: Live,
    attendance: Arc<dyn Attendance>,
    seats: Seats,
    stop: CancellationToken,
}

impl Access {
    /// Access as it is configured, over a store and its rooms, with somebody who hears of every seat.
    pub fn new(
        authenticator: Authenticator,
        config: &AccessConfig,
        store: SharedStore,
        (registry, attendance): (Registry, Arc<dyn Attendance>),
        audit: Audit,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let has_queries = config.query.is_some()
            || config.room_query.is_some()
            || config.page_drive_query.is_some()
            || config.token_version_query.is_some()
            || config.sources.contains(&SourceName::PageSpace)
            || config.pagespace.is_some();
        let application = match has_queries {
            true => Some(Arc::new(Application::new(
                config.database_url.expose(),
                QUERY_TIMEOUT,
            )?)),
            false => None,
        };
        let (mut token_at, mut sources) = (None, Vec::new());
        for name in &config.sources {
            match (name, &application, &config.query, &config.webhook) {
                (SourceName::Token, ..) => token_at = token_at.or(Some(sources.len())),
                (SourceName::Store, ..) => sources.push(Source::Store(store.clone())),
                (SourceName::Sql, Some(application), Some(query), _) => sources.push(Source::Sql {
                    application: application.clone(),
                    query: query.clone(),
                }),
                (SourceName::Webhook, .., Some((address, secret))) => {
                    let webhook = RoleWebhook::new(address.clone(), secret.clone());
                    sources.push(Source::Webhook(Box::new(webhook)));
                }
                (SourceName::PageSpace, Some(application), ..) => {
                    sources.push(Source::PageSpace(application.clone()));
                }
                // The configuration was checked for these.
                (SourceName::Sql | SourceName::PageSpace | SourceName::Webhook, ..) => {}
            }
        }
        let rooms = application.clone().zip(config.room_query.clone());
        let drives = application.clone().zip(config.page_drive_query.clone());
        let versions = application.clone().zip(config.token_version_query.clone());
        let pagespace = application.zip(config.pagespace.clone());
        Ok(Self(Arc::new(Parts {
            authenticator,
            store,
            registry,
            audit,
            auth_backoff: AuthBackoff::default(),
            rates: RateLimiters::new(config.rates),
            pagespace: pagespace.map(|(application, config)| PageSpace::new(application, config)),
            versions,
            rooms,
            drives,
            token_at,
            sources,
            answers: Answers::new(config.cache),
            trashed: Cache::builder()
                .max_capacity(MAX_TRASHED)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            stamps_presence: config.stamps_presence,
            stamps: Stamps::new(),
            live: Live::default(),
            attendance,
            seats: Seats::new(config.seats),
            stop,
        })))
    }

    /// The part that knows keys and origins.
    pub fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }

    /// Takes notes of what was done.
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Slows down whoever fails to prove who it is.
    pub fn auth_backoff(&self) -> &AuthBackoff {
        &self.0.auth_backoff
    }

    /// How often somebody may ask.
    pub fn rates(&self) -> &RateLimiters {
        &self.0.rates
    }

    /// How many changes there have been that concern a user.
    fn stamp(&self, user: Option<&str>) -> Stamp {
        self.0.stamps.read(user)
    }

    /// Forgets every answer that a change may have made wrong.
    fn forget(&self, user: Option<&str>) {
        self.0.stamps.advance(user);
    }

    /// Notes something that somebody did or that befell somebody.
    fn note(&self, note: Note<'_>) {
        self.0.audit.note(now(), note);
    }
}
