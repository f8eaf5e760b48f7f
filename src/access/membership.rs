//! What a connection has when it takes its seat, and how it gets it.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::HeaderMap;
use storage::PageId;

use super::{Access, Decision, Note, answers::Stamp};
use crate::{
    auth::{Credential, Identity, complaints, now, shown_origin},
    rooms::{Refusal, Role, RoomName},
};

/// Where somebody comes from who wants to connect.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The network address that it counts for.
    pub address: IpAddr,
    /// The origin of its page, if a browser tells one: as much of it as whoever runs the server reads.
    pub origin: Option<Arc<str>>,
}

impl Caller {
    /// Who sends these headers from an address.
    pub fn new(address: IpAddr, headers: &HeaderMap) -> Self {
        Self {
            address,
            origin: shown_origin(headers).map(Arc::from),
        }
    }
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
    pub(super) caller: Option<Caller>,
    pub(super) until: Option<SystemTime>,
    pub(super) stamp: Stamp,
    /// The page, or what the sources are asked for a room without a document.
    pub(super) asked: PageId,
}

impl Membership {
    /// The page that it is for: of one that was renamed, under the id that it has now.
    pub fn page(&self) -> &PageId {
        &self.asked
    }
}

impl Access {
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
        self.member(identity, page, None).await
    }

    /// What somebody may do with a page, or in a room without a document for which that is asked.
    pub(super) async fn member(
        &self,
        identity: Arc<Identity>,
        page: &PageId,
        room: Option<&RoomName>,
    ) -> Result<Membership, Refusal> {
        let now = now();
        // Read before anything is asked: a change after this is noticed when the seat is taken.
        let stamp = self.0.stamps.read(identity.user.as_deref());
        let (decision, asked) = match room {
            Some(room) => (self.decide_room(&identity, room, page, now).await?, page.clone()),
            None => self.follow(&identity, page, now).await?,
        };
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
            caller: None,
            stamp,
            asked,
        })
    }

    /// What somebody may do with a page, whatever its id is now.
    async fn follow(
        &self,
        identity: &Identity,
        page: &PageId,
        now: SystemTime,
    ) -> Result<(Decision, PageId), Refusal> {
        let decided = self.decide(identity, page, now).await;
        let renamed = decided
            .as_ref()
            .err()
            .and_then(|refusal| refusal.renamed_to.clone());
        match renamed {
            Some(to) => self
                .decide(identity, &to, now)
                .await
                .map(|decision| (decision, to)),
            None => decided.map(|decision| (decision, page.clone())),
        }
    }

    /// What somebody may do who comes to enter a page, once `count` has counted the connection for its user. Whoever is
    /// refused is noted; whoever is not is noted by [`Self::join`].
    pub async fn admit<T>(
        &self,
        identified: Result<Arc<Identity>, Refusal>,
        page: &PageId,
        caller: &Caller,
        count: impl FnOnce(Option<&Arc<str>>) -> Result<T, Refusal>,
    ) -> Result<(Membership, T), Refusal> {
        let user = identified.as_ref().ok().and_then(|known| known.user.clone());
        let admitting = async {
            let mut membership = self.membership_of(identified?, page).await?;
            membership.caller = Some(caller.clone());
            let counted = count(membership.user.as_ref())?;
            Ok((membership, counted))
        };
        let admitted = admitting.await;
        if let Err(refusal) = &admitted {
            self.note_refused(user.as_deref(), Some(page), Some(caller), refusal);
        }
        admitted
    }

    /// Notes why somebody was refused, with the page and from where as far as that is known.
    pub fn note_refused(
        &self,
        user: Option<&str>,
        page: Option<&PageId>,
        caller: Option<&Caller>,
        refusal: &Refusal,
    ) {
        self.note_connect(user, page, caller, Err(refusal));
    }

    /// Notes how somebody has come, or why not.
    pub(super) fn note_connect(
        &self,
        user: Option<&str>,
        page: Option<&PageId>,
        caller: Option<&Caller>,
        came: Result<(), &Refusal>,
    ) {
        let origin = caller.and_then(|caller| caller.origin.as_deref());
        let address = caller.map(|caller| caller.address.to_string());
        let mut detail = String::new();
        if let Err(refusal) = came {
            complain(user, page, (address.as_deref(), origin), refusal);
            detail = reason_and_origin(refusal, origin);
        }
        self.note(Note {
            action: "connect",
            outcome: came.map_or_else(|refusal| refusal.code.as_str(), |()| "ok"),
            user: user.or(came.err().and_then(|refusal| refusal.user.as_deref())),
            page: page.map(PageId::as_str),
            address: address.as_deref(),
            detail: &detail,
        });
    }
}

/// Why somebody was refused, as it stands in the audit log.
pub(crate) fn reason_and_origin(refusal: &Refusal, origin: Option<&str>) -> String {
    match origin {
        Some(origin) => format!("{} (from a page of {origin})", refusal.message),
        None => refusal.message.to_string(),
    }
}

/// Tells whoever runs the server why somebody may not connect, each cause once a minute.
fn complain(
    user: Option<&str>,
    page: Option<&PageId>,
    (address, origin): (Option<&str>, Option<&str>),
    refusal: &Refusal,
) {
    let code = refusal.code.as_str();
    let Some(remedy) = complaints::remedy(refusal, true) else {
        return;
    };
    if complaints::is_refusal_due("connect", origin, refusal) {
        tracing::warn!(
            code,
            page = page.map(|page| complaints::shown(page.as_str())),
            user = user.or(refusal.user.as_deref()).map(complaints::shown),
            origin,
            address,
            reason = %refusal.message,
            remedy,
            "a connection was refused"
        );
    }
}
