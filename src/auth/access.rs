//! Decides what somebody may do with a page, from the configured sources, and keeps the answers as long as they are good.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use hyper::Uri;
use moka::future::Cache;
use storage::{Application, EVERYBODY, PageId, SharedStore, StoreError, UserRecord};
use tokio_util::sync::CancellationToken;

use super::{
    Audit, Authenticator, Credential, Failures, Identity, Kind, Note, PageSpace, PageSpaceConfig, RateLimits,
    Rates, Secret, SourceName,
    identity::{expired, revoked},
    live::Live,
    now, pagespace,
    seats::{SeatLimits, Seats},
    sources::{Decision, Source, Webhook},
};
use crate::rooms::{Refusal, RefusalCode, Registry, Role};

/// Answers that are kept, at most.
const MAX_ANSWERS: u64 = 200_000;
/// Longest time that a question to the application's database may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that anybody waits for an answer of a source.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Whether a page was deleted is asked for no longer than this where its room is open and can answer instead.
const DELETED_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages that are remembered to be in the trash, at most.
const MAX_TRASHED: u64 = 100_000;
/// Users share this many counters of changes.
const STAMPS: usize = 4096;

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
pub struct Access(pub(super) Arc<Parts>);

/// What decisions are made from.
pub(super) struct Parts {
    authenticator: Authenticator,
    pub(super) store: SharedStore,
    pub(super) registry: Registry,
    pub(super) audit: Audit,
    failures: Failures,
    rates: Rates,
    pagespace: Option<PageSpace>,
    versions: Option<(Arc<Application>, String)>,
    /// Whether the token's grants come before the other sources, after so many of them, or not at all.
    token_at: Option<usize>,
    sources: Vec<Source>,
    answers: Cache<Question, Answer>,
    keeps_answers: bool,
    /// Pages that were in the trash when that was last heard.
    trashed: Cache<PageId, ()>,
    pub(super) stamps_presence: bool,
    stamps: Stamps,
    pub(super) live: Live,
    pub(super) seats: Seats,
    pub(super) stop: CancellationToken,
}

/// What a connection has when it takes its seat.
#[derive(Clone, Debug)]
pub struct Membership {
    /// What it may do.
    pub role: Role,
    /// Whose it is.
    pub user: Option<Arc<str>>,
    /// How long its token lasts from now.
    pub expires_in: Option<Duration>,
    /// Who asked.
    pub identity: Arc<Identity>,
    /// What the client calls its connection, where it calls it anything.
    pub socket: Option<Arc<str>>,
    /// Where it comes from, of a connection that enters.
    pub(super) address: Option<IpAddr>,
    pub(super) until: Option<SystemTime>,
    pub(super) stamp: Stamp,
    /// What was asked for.
    pub(super) asked: PageId,
}

/// Something that is asked of a source. The stamp makes every question after a change a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    User(Stamp, Arc<str>),
    Role(Stamp, usize, Arc<str>, PageId),
    IsDeleted(Stamp, PageId),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    /// With the version that the user's tokens must have, where that is known.
    User(UserRecord, Version),
    Role(Option<Decision>),
    IsDeleted(bool),
}

/// Which version a user's tokens must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Any,
    Exactly(u64),
    /// The application does not know the user.
    None,
}

/// Counts changes, so that no answer outlives one.
pub(super) struct Stamps {
    everybody: AtomicU64,
    users: Vec<AtomicU64>,
    hasher: RandomState,
}

/// How many changes there had been, of everybody and of a user.
pub(super) type Stamp = (u64, u64);

impl Stamps {
    fn new() -> Self {
        Self {
            everybody: AtomicU64::new(0),
            users: (0..STAMPS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    fn of(&self, user: &str) -> Option<&AtomicU64> {
        let index = self.hasher.hash_one(user) as usize % STAMPS;
        self.users.get(index)
    }

    pub(super) fn read(&self, user: Option<&str>) -> Stamp {
        let own = user.and_then(|user| self.of(user));
        (
            self.everybody.load(Ordering::SeqCst),
            own.map_or(0, |own| own.load(Ordering::SeqCst)),
        )
    }

    /// Notes a change for a user, or for everybody.
    pub(super) fn advance(&self, user: Option<&str>) {
        match user
            .filter(|user| *user != EVERYBODY)
            .and_then(|user| self.of(user))
        {
            Some(own) => own.fetch_add(1, Ordering::SeqCst),
            None => self.everybody.fetch_add(1, Ordering::SeqCst),
        };
    }
}

impl Access {
    /// Access as it is configured, over a store and its rooms.
    pub fn new(
        authenticator: Authenticator,
        config: &AccessConfig,
        store: SharedStore,
        registry: Registry,
        audit: Audit,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let has_queries =
            config.query.is_some() || config.token_version_query.is_some() || config.pagespace.is_some();
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
                    let webhook = Webhook::new(address.clone(), secret.clone());
                    sources.push(Source::Webhook(Box::new(webhook)));
                }
                // The configuration was checked for these.
                (SourceName::Sql | SourceName::Webhook, ..) => {}
            }
        }
        let versions = application.clone().zip(config.token_version_query.clone());
        let pagespace = application.zip(config.pagespace.clone());
        Ok(Self(Arc::new(Parts {
            authenticator,
            store,
            registry,
            audit,
            failures: Failures::default(),
            rates: Rates::new(config.rates),
            pagespace: pagespace.map(|(application, config)| PageSpace::new(application, config)),
            versions,
            token_at,
            sources,
            answers: Cache::builder()
                .max_capacity(MAX_ANSWERS)
                .time_to_live(config.cache.max(Duration::from_millis(1)))
                .build(),
            trashed: Cache::new(MAX_TRASHED),
            keeps_answers: !config.cache.is_zero(),
            stamps_presence: config.stamps_presence,
            stamps: Stamps::new(),
            live: Live::default(),
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
    pub fn failures(&self) -> &Failures {
        &self.0.failures
    }

    /// How often somebody may ask.
    pub fn rates(&self) -> &Rates {
        &self.0.rates
    }

    /// Who the bearer of `credential` is, and that nothing has withdrawn the token.
    pub async fn identify(&self, credential: Option<&Credential>) -> Result<Identity, Refusal> {
        let now = now();
        if let Some(Credential::Cookies(cookies)) = credential {
            let mut refusals = Vec::new();
            for cookie in cookies {
                match self.identify_one(Some(cookie), now).await {
                    Ok(identity) if identity.kind != Kind::Guest => return Ok(identity),
                    Ok(_) => {}
                    // Only what proves nothing makes place for another: a block holds, and nobody becomes somebody else because a
                    // question could not be answered.
                    Err(refusal) if proves_nothing(&refusal) => refusals.push(refusal),
                    Err(refusal) => return Err(refusal),
                }
            }
            return self.0.authenticator.none_of(refusals, now);
        }
        self.identify_one(credential, now).await
    }

    async fn identify_one(
        &self,
        credential: Option<&Credential>,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        let opaque = credential.filter(|credential| pagespace::is_opaque(credential.token()));
        let identity = match (&self.0.pagespace, opaque) {
            (Some(pagespace), Some(credential)) => pagespace.identify(credential.token(), now).await?,
            _ => self.0.authenticator.identify(credential, now)?,
        };
        self.check_standing(&identity, now).await?;
        Ok(identity)
    }

    /// How long the token of somebody lasts from now, if it ends.
    pub fn time_left(&self, identity: &Identity) -> Option<Duration> {
        let left = |at: SystemTime| at.duration_since(now()).unwrap_or_default();
        identity.expires_at.map(left)
    }

    /// What somebody may do with a page.
    pub async fn role(&self, identity: &Identity, page: &PageId) -> Result<Role, Refusal> {
        let decision = self.decide(identity, page, now()).await;
        decision.map(|decision| decision.role)
    }

    /// Who the bearer of `credential` is, and what it may do with a page.
    pub async fn membership(
        &self,
        credential: Option<&Credential>,
        page: &PageId,
    ) -> Result<Membership, Refusal> {
        let identity = self.identify(credential).await?;
        self.membership_of(Arc::new(identity), page).await
    }

    /// What somebody who is known already may do with a page.
    pub async fn membership_of(&self, identity: Arc<Identity>, page: &PageId) -> Result<Membership, Refusal> {
        let now = now();
        // Read before anything is asked: a change after this is noticed when the seat is taken.
        let stamp = self.0.stamps.read(identity.user.as_deref());
        let decision = self.decide(&identity, page, now).await?;
        let expires_in = identity
            .expires_at
            .map(|at| at.duration_since(now).unwrap_or_default());
        Ok(Membership {
            role: decision.role,
            user: identity.user.clone(),
            expires_in,
            until: decision.until,
            identity,
            socket: None,
            address: None,
            stamp,
            asked: page.clone(),
        })
    }

    /// What somebody may do who comes from an address to enter a page, once `count` has counted the connection for its user. Whoever is
    /// refused is noted; whoever is not is noted by [`Self::join`].
    pub async fn admit<T>(
        &self,
        identified: Result<Arc<Identity>, Refusal>,
        page: &PageId,
        address: IpAddr,
        count: impl FnOnce(Option<&Arc<str>>) -> Result<T, Refusal>,
    ) -> Result<(Membership, T), Refusal> {
        let user = identified.as_ref().ok().and_then(|known| known.user.clone());
        let admitting = async {
            let mut membership = self.membership_of(identified?, page).await?;
            membership.address = Some(address);
            let counted = count(membership.user.as_ref())?;
            Ok((membership, counted))
        };
        let admitted = admitting.await;
        if let Err(refusal) = &admitted {
            self.note_connect(user.as_deref(), Some(page), Some(address), Err(refusal));
        }
        admitted
    }

    /// Notes how somebody has come, or why not.
    pub(super) fn note_connect(
        &self,
        user: Option<&str>,
        page: Option<&PageId>,
        address: Option<IpAddr>,
        came: Result<(), &Refusal>,
    ) {
        let address = address.map(|address| address.to_string());
        self.note(Note {
            action: "connect",
            outcome: came.map_or_else(|refusal| refusal.code.as_str(), |()| "ok"),
            user,
            page: page.map(PageId::as_str),
            address: address.as_deref(),
            ..Note::default()
        });
    }

    /// Notes that somebody was refused before it was known what for.
    pub fn note_refused(&self, user: Option<&str>, address: Option<IpAddr>, refusal: &Refusal) {
        self.note_connect(user, None, address, Err(refusal));
    }

    /// How many changes there have been that concern a user.
    pub(super) fn stamp(&self, user: Option<&str>) -> Stamp {
        self.0.stamps.read(user)
    }

    /// Forgets every answer that a change may have made wrong.
    pub(super) fn forget(&self, user: Option<&str>) {
        self.0.stamps.advance(user);
    }

    /// What somebody may do with a page, also when it is in the trash.
    pub async fn role_in_trash(&self, identity: &Identity, page: &PageId) -> Result<Role, Refusal> {
        let decision = self.decide_role(identity, page, now()).await;
        decision.map(|decision| decision.role)
    }

    pub(super) async fn decide(
        &self,
        identity: &Identity,
        page: &PageId,
        now: SystemTime,
    ) -> Result<Decision, Refusal> {
        // In this order: whoever may not see a page is not told that it was deleted.
        let decision = self.decide_role(identity, page, now).await?;
        match self.is_deleted(page).await? {
            true => Err(Refusal::new(RefusalCode::PageDeleted, "the page was deleted")),
            false => Ok(decision),
        }
    }

    /// Whether a page is in the trash. When the store does not say, or not soon, what it said last counts: a page whose room is open was
    /// not deleted when that opened and nobody has been told otherwise since, and whoever comes is served from there rather than kept
    /// out. Of every other page it is not known.
    async fn is_deleted(&self, page: &PageId) -> Result<bool, Refusal> {
        let stamp = self.0.stamps.read(None);
        let question = Question::IsDeleted(stamp, page.clone());
        let asking = async || {
            let record = self.0.store.page(page).await.map_err(|error| {
                tracing::warn!(%error, "whether a page was deleted cannot be found out");
                unknown_whether_deleted()
            })?;
            let deleted = record.is_some_and(|record| record.deleted_at.is_some());
            Ok(Answer::IsDeleted(deleted))
        };
        let patience = match self.0.registry.is_open(page) {
            true => DELETED_TIMEOUT,
            false => SOURCE_TIMEOUT,
        };
        let answer = tokio::time::timeout(patience, self.kept(question, asking)).await;
        let Ok(Ok(Answer::IsDeleted(deleted))) = answer else {
            return match self.0.trashed.contains_key(page) {
                true => Ok(true),
                false if self.0.registry.is_open(page) => Ok(false),
                false => Err(unknown_whether_deleted()),
            };
        };
        // What was asked before something changed may be older than what is remembered.
        if self.0.stamps.read(None) == stamp {
            self.note_trashed(page, deleted).await;
        }
        Ok(deleted)
    }

    /// Remembers that a page is in the trash, or that it is not, for when the store does not say.
    pub async fn note_trashed(&self, page: &PageId, deleted: bool) {
        if deleted {
            self.0.trashed.insert(page.clone(), ()).await;
        } else if self.0.trashed.contains_key(page) {
            self.0.trashed.invalidate(page).await;
        }
    }

    async fn decide_role(
        &self,
        identity: &Identity,
        page: &PageId,
        now: SystemTime,
    ) -> Result<Decision, Refusal> {
        self.check_standing(identity, now).await?;
        if let Some(role) = identity.fixed_role() {
            return Ok(Decision { role, until: None });
        }
        let user = identity.user.as_ref().ok_or_else(forbidden)?;
        for at in 0..=self.0.sources.len() {
            if self.0.token_at == Some(at)
                && let Some(role) = identity.granted(page)
            {
                return Ok(Decision { role, until: None });
            }
            if at < self.0.sources.len()
                && let Some(decision) = self.ask(at, user, page, now).await?
            {
                return Ok(decision);
            }
        }
        Err(forbidden())
    }

    /// What a source says, which may have been asked lately.
    async fn ask(
        &self,
        at: usize,
        user: &Arc<str>,
        page: &PageId,
        now: SystemTime,
    ) -> Result<Option<Decision>, Refusal> {
        let Some(source) = self.0.sources.get(at) else {
            return Ok(None);
        };
        let question = Question::Role(self.0.stamps.read(Some(user)), at, user.clone(), page.clone());
        let asking = async || {
            let decision = source.ask(user, page, now).await?;
            Ok::<_, Refusal>(Answer::Role(decision))
        };
        match self.kept(question, asking).await {
            // An answer that is kept may have run out.
            Ok(Answer::Role(Some(decision))) if decision.until.is_some_and(|ends| ends <= now) => {
                Box::pin(source.ask(user, page, now)).await
            }
            Ok(Answer::Role(decision)) => Ok(decision),
            Ok(Answer::User(..) | Answer::IsDeleted(_)) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// An answer that is kept, or that somebody is waiting for already, or else a new one.
    async fn kept(
        &self,
        question: Question,
        asking: impl AsyncFnOnce() -> Result<Answer, Refusal>,
    ) -> Result<Answer, Refusal> {
        if self.0.keeps_answers
            && let Some(answer) = self.0.answers.get(&question).await
        {
            return Ok(answer);
        }
        // In a box: it is as large as all that every future around it holds together.
        let asked = Box::pin(self.0.answers.try_get_with(question.clone(), asking()));
        let Ok(asked) = tokio::time::timeout(SOURCE_TIMEOUT, asked).await else {
            return Err(Refusal::unavailable(
                "what you may do cannot be found out now, try again",
            ));
        };
        if !self.0.keeps_answers {
            // Only those who came while it was being asked share it.
            self.0.answers.invalidate(&question).await;
        }
        asked.map_err(|refusal| (*refusal).clone())
    }

    /// Whether a user may enter at all with this token.
    pub(super) async fn check_standing(&self, identity: &Identity, now: SystemTime) -> Result<(), Refusal> {
        if identity.has_expired(now) {
            return Err(expired());
        }
        let (Kind::User, Some(user)) = (identity.kind, &identity.user) else {
            return Ok(());
        };
        let question = Question::User(self.0.stamps.read(Some(user)), user.clone());
        let asking = async || self.ask_standing(user).await;
        let Answer::User(record, version) = self.kept(question, asking).await? else {
            return Ok(());
        };
        if record.blocked {
            return Err(Refusal::new(RefusalCode::Forbidden, "you may not enter"));
        }
        let is_wrong = match (identity.token_version, version) {
            (Some(claimed), Version::Exactly(current)) => claimed != current,
            (_, Version::None) => true,
            (None, Version::Exactly(_)) | (_, Version::Any) => false,
        };
        // A token that names the version of after the sign-out was issued after it, whatever its clock says.
        let names_own_version =
            identity.token_version.is_some() && identity.token_version == record.token_version;
        let is_older = record.signed_out_at.is_some_and(|at| identity.issued_at < at) && !names_own_version;
        match is_wrong || is_older {
            true => Err(revoked()),
            false => Ok(()),
        }
    }

    async fn ask_standing(&self, user: &str) -> Result<Answer, Refusal> {
        let failed = |error: StoreError| {
            tracing::error!(%error, "whether a user may enter cannot be found out; nobody enters until it can");
            Refusal::unavailable("whether you may enter cannot be found out now, try again")
        };
        let record = self.0.store.user(user).await.map_err(failed)?;
        let Some((application, query)) = &self.0.versions else {
            let version = record.token_version.map_or(Version::Any, Version::Exactly);
            return Ok(Answer::User(record, version));
        };
        let version = match application.ask(query, &[user]).await.map_err(failed)? {
            Some(version) => version.trim().parse().map_or(Version::None, Version::Exactly),
            None => Version::None,
        };
        Ok(Answer::User(record, version))
    }

    /// Notes something that somebody did or that befell somebody.
    pub(super) fn note(&self, note: Note<'_>) {
        self.0.audit.note(now(), note);
    }
}

fn unknown_whether_deleted() -> Refusal {
    Refusal::unavailable("whether the page was deleted cannot be found out now, try again")
}

fn forbidden() -> Refusal {
    Refusal::new(RefusalCode::Forbidden, "you have no access to this page")
}

fn proves_nothing(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        RefusalCode::Unauthenticated | RefusalCode::TokenExpired | RefusalCode::TokenRevoked
    )
}
