//! Who somebody is, as far as a token proves it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use crdt::IdentityStamp;
use storage::{EVERYBODY, PageId};

use crate::rooms::{Refusal, RefusalCode, Role};

/// Longest user id, in bytes.
pub const MAX_USER_BYTES: usize = 255;

/// What kind of asker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A guest of the open mode, who may edit everything.
    Guest,
    /// The backend, which may do everything.
    Backend,
    /// A user that a token names.
    User,
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What kind of asker it is.
    pub kind: Kind,
    /// The user; `None` for guests and the backend.
    pub user: Option<Arc<str>>,
    /// The token says that this user may do everything.
    pub admin: bool,
    /// Page ids and prefix patterns (`team-7/*`, `*`) with the role they give.
    pub grants: BTreeMap<String, Role>,
    /// When the token ends, with the leeway for clocks that differ.
    pub expires_at: Option<SystemTime>,
    /// The version that the user's tokens had when this one was issued.
    pub token_version: Option<u64>,
    /// When the token was issued, else when it was first seen: what is older than the user's last sign-out counts no more.
    pub issued_at: SystemTime,
    /// How others see the user.
    pub profile: Profile,
}

/// How others see a user, as the token says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub name: Option<String>,
    /// Address of a picture.
    pub avatar_url: Option<String>,
}

impl Identity {
    /// A guest of the open mode.
    pub fn guest(now: SystemTime) -> Self {
        Self::of(Kind::Guest, None, now)
    }

    /// The backend.
    pub fn backend(now: SystemTime) -> Self {
        Self::of(Kind::Backend, None, now)
    }

    /// A user who was named just now by a token that says nothing more. Ids that could not be stored, shown or told from
    /// everybody are refused.
    pub fn user(user: &str, now: SystemTime) -> Result<Self, Refusal> {
        let is_id = !user.is_empty()
            && user.len() <= MAX_USER_BYTES
            && user != EVERYBODY
            && !user.chars().any(char::is_control);
        match is_id {
            true => Ok(Self::of(Kind::User, Some(user.into()), now)),
            false => Err(unauthenticated()),
        }
    }

    fn of(kind: Kind, user: Option<Arc<str>>, now: SystemTime) -> Self {
        Self {
            kind,
            user,
            admin: false,
            grants: BTreeMap::new(),
            expires_at: None,
            token_version: None,
            issued_at: now,
            profile: Profile::default(),
        }
    }

    /// What others are told of who this is, in its presence. Guests must not pass for users; the backend may show whomever it
    /// speaks for.
    pub fn stamp(&self) -> Option<IdentityStamp> {
        let Profile { name, avatar_url } = &self.profile;
        match self.kind {
            Kind::Backend => None,
            Kind::Guest => Some(IdentityStamp::new(None, None, None)),
            Kind::User => Some(IdentityStamp::new(
                self.user.as_deref(),
                name.as_deref(),
                avatar_url.as_deref(),
            )),
        }
    }

    /// A role that nothing outside the token can change: that of guests, the backend and administrators.
    pub fn fixed_role(&self) -> Option<Role> {
        match self.kind {
            Kind::Guest => Some(Role::Edit),
            Kind::Backend => Some(Role::Admin),
            Kind::User => self.admin.then_some(Role::Admin),
        }
    }

    /// What the token's grants say of a page; `None` for nothing. The page's own id counts before patterns, and a longer
    /// pattern before a shorter one.
    pub fn granted(&self, page: &PageId) -> Option<Role> {
        if let Some(role) = self.grants.get(page.as_str()) {
            return Some(*role);
        }
        let covering = self.grants.iter().filter_map(|(pattern, role)| {
            let prefix = pattern.strip_suffix('*')?;
            page.as_str().starts_with(prefix).then_some((prefix.len(), *role))
        });
        covering.max_by_key(|(length, _)| *length).map(|(_, role)| role)
    }

    /// The pages and patterns that the token's grants name.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.grants.keys().map(String::as_str)
    }

    /// Whether the token has expired.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|ends| ends <= now)
    }
}

/// A token that proves nothing. Why is nobody's business: the sentence says no more than the code.
pub(super) fn unauthenticated() -> Refusal {
    Refusal::new(RefusalCode::Unauthenticated, "the token proves nothing here")
}

const BLOCKED: &str = "you may not enter";

/// A user who is blocked.
pub(crate) fn blocked() -> Refusal {
    Refusal::new(RefusalCode::Forbidden, BLOCKED)
}

/// Whether somebody was refused for being blocked, whatever was asked for.
pub(super) fn is_blocked(refusal: &Refusal) -> bool {
    refusal.message == BLOCKED
}

/// A token that was good once.
pub(crate) fn expired() -> Refusal {
    Refusal::new(RefusalCode::TokenExpired, "the token has expired")
}

/// A token that was withdrawn.
pub(crate) fn revoked() -> Refusal {
    Refusal::new(RefusalCode::TokenRevoked, "the token has been withdrawn")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn identity(grants: &[(&str, Role)]) -> Identity {
        let grants = grants
            .iter()
            .map(|(pattern, role)| ((*pattern).to_owned(), *role))
            .collect();
        Identity {
            grants,
            ..Identity::user("ada", UNIX_EPOCH).expect("a user")
        }
    }

    #[test]
    fn the_narrowest_grant_decides() {
        let ada = identity(&[
            ("*", Role::View),
            ("team/*", Role::Edit),
            ("team/secret/*", Role::View),
            ("team/secret/mine", Role::Admin),
        ]);
        let role = |page| ada.granted(&PageId::new(page).expect("a page id"));
        assert_eq!(role("other"), Some(Role::View));
        assert_eq!(role("team/a"), Some(Role::Edit));
        assert_eq!(role("team/secret/b"), Some(Role::View));
        assert_eq!(role("team/secret/mine"), Some(Role::Admin));
        let elsewhere = identity(&[("team/*", Role::Edit)]);
        assert_eq!(
            elsewhere.granted(&PageId::new("teammate").expect("a page id")),
            None
        );
    }

    #[test]
    fn a_user_id_is_short_printable_and_not_everybody() {
        let long = "é".repeat(128);
        for bad in ["", "*", "a\0b", "a\nb", "\u{85}", &long] {
            assert!(Identity::user(bad, UNIX_EPOCH).is_err(), "{bad:?}");
        }
        for good in ["ada", "**", "Zoë \u{1f600}", "' OR 1=1 --", "\u{202e}ada"] {
            assert!(Identity::user(good, UNIX_EPOCH).is_ok(), "{good:?}");
        }
    }
}
