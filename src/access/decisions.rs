//! What somebody may do, decided from who it is and what the sources say.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use storage::{PageId, StoreError};

use super::{
    Access, Decision,
    answers::{Answer, Question, SOURCE_TIMEOUT, Version, Whereabouts},
};
use crate::{
    auth::{Credential, Identity, Kind, blocked, expired, is_opaque, now, revoked},
    rooms::{Refusal, RefusalCode, Role},
};

/// Where a page is, is asked for no longer than this while its room is open and can answer instead.
const WHEREABOUTS_TIMEOUT: Duration = Duration::from_secs(1);

impl Access {
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
                    Err(refusal) if refusal.code.is_about_token() => refusals.push(refusal),
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
        let opaque = credential.filter(|credential| is_opaque(credential.token()));
        let identity = match (&self.0.pagespace, opaque) {
            (Some(pagespace), Some(credential)) => pagespace.identify(credential.token(), now).await?,
            _ => {
                let authenticator = &self.0.authenticator;
                if let Some(credential) = credential {
                    authenticator.look_for_keys(credential).await?;
                }
                authenticator.identify(credential, now)?
            }
        };
        let standing = self.check_standing(&identity, now).await;
        standing.map_err(|refusal| refusal.of(identity.user.as_ref()))?;
        Ok(identity)
    }

    /// What somebody may do with a page.
    pub async fn role(&self, identity: &Identity, page: &PageId) -> Result<Role, Refusal> {
        let decision = self.decide(identity, page, now()).await;
        decision.map(|decision| decision.role)
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
        let whereabouts = self.whereabouts(page).await;
        if let Ok(Whereabouts::RenamedTo(to)) = whereabouts {
            // Whoever may not see a page is not told what its id is.
            self.decide_role(identity, &to, now).await?;
            return Err(Refusal::renamed(Some(to)));
        }
        // In this order: whoever may not see a page is not told that it was deleted.
        let decision = self.decide_role(identity, page, now).await?;
        match whereabouts? {
            Whereabouts::InTrash => Err(Refusal::new(RefusalCode::PageDeleted, "the page was deleted")),
            Whereabouts::Here | Whereabouts::RenamedTo(_) => Ok(decision),
        }
    }

    /// Where a page is to be found. When the store does not say, or not soon, what it said last counts: a page whose room is open was
    /// not deleted when that opened and nobody has been told otherwise since, and whoever comes is served from there rather than kept
    /// out. Of every other page it is not known.
    async fn whereabouts(&self, page: &PageId) -> Result<Whereabouts, Refusal> {
        let stamp = self.0.stamps.read(None);
        let question = Question::Whereabouts(stamp, page.clone());
        let asking = async || {
            let asked = self.ask_whereabouts(page).await;
            asked.map(Answer::Whereabouts).map_err(|error| {
                tracing::warn!(%error, "where a page is cannot be found out");
                unknown_whereabouts()
            })
        };
        let patience = match self.0.registry.is_open(page) {
            true => WHEREABOUTS_TIMEOUT,
            false => SOURCE_TIMEOUT,
        };
        let answer = tokio::time::timeout(patience, self.0.answers.get(question, asking)).await;
        let Ok(Ok(Answer::Whereabouts(whereabouts))) = answer else {
            return match self.0.trashed.contains_key(page) {
                true => Ok(Whereabouts::InTrash),
                false if self.0.registry.is_open(page) => Ok(Whereabouts::Here),
                false => Err(unknown_whereabouts()),
            };
        };
        // What was asked before something changed may be older than what is remembered.
        if self.0.stamps.read(None) == stamp {
            let is_in_trash = matches!(whereabouts, Whereabouts::InTrash);
            self.note_trashed(page, is_in_trash).await;
        }
        Ok(whereabouts)
    }

    async fn ask_whereabouts(&self, page: &PageId) -> Result<Whereabouts, StoreError> {
        Ok(match self.0.store.page(page).await? {
            Some(record) if record.deleted_at.is_some() => Whereabouts::InTrash,
            Some(_) => Whereabouts::Here,
            None => match self.0.store.renamed(page).await? {
                Some(to) => Whereabouts::RenamedTo(to),
                None => Whereabouts::Here,
            },
        })
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
        match self.0.answers.get(question, asking).await {
            // An answer that is kept may have run out.
            Ok(Answer::Role(Some(decision))) if decision.until.is_some_and(|ends| ends <= now) => {
                Box::pin(source.ask(user, page, now)).await
            }
            Ok(Answer::Role(decision)) => Ok(decision),
            Ok(
                Answer::User(..)
                | Answer::Whereabouts(_)
                | Answer::Room(_)
                | Answer::IsRemoved(_)
                | Answer::Drive(_),
            ) => Err(unanswered()),
            Err(refusal) => Err(refusal),
        }
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
        let Answer::User(record, version) = self.0.answers.get(question, asking).await? else {
            return Err(unanswered());
        };
        if record.blocked {
            return Err(blocked());
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
}

fn unknown_whereabouts() -> Refusal {
    Refusal::unavailable("where the page is cannot be found out now, try again")
}

/// The answer to another question was kept for this one. Nobody is let in by that.
fn unanswered() -> Refusal {
    Refusal::unavailable("what you may do cannot be found out now, try again")
}

fn forbidden() -> Refusal {
    Refusal::new(RefusalCode::Forbidden, "you have no access to this page")
}
