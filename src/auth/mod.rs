//! Who is asking, and what they may do: from the bytes of a request to a role on a page, in one place for every protocol.
//!
//! 1. [`credentials`] finds the token: the first source of the contract's list wins.
//! 2. [`jwt`] makes an [`Identity`] of it, or says that it proves nothing.
//! 3. [`Identity::role`] says what that user may do with a page.
//!
//! [`Authenticator`] strings these together. A protocol added later calls it and gets the same answers.

mod credentials;
mod jwt;
mod origin;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use credentials::{Credential, SUBPROTOCOL_PREFIX, find as find_credential};
pub use jwt::{Claims, TokenKeys};
pub use origin::{Origin, OriginPolicy};
use storage::PageId;
use subtle::ConstantTimeEq;

use crate::rooms::{Refusal, RefusalCode, Role};

/// Shortest secret that is accepted, in bytes.
pub const MIN_SECRET_BYTES: usize = 32;

/// Text that must not be shown: its `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a text as a secret.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one who uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same, in time that does not depend on where they differ.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user; `None` for a guest.
    pub user: Option<Arc<str>>,
    /// May do everything.
    pub admin: bool,
    /// Page ids and prefix patterns (`team-7/*`, `*`) with the role they give.
    pub grants: BTreeMap<String, Role>,
    /// When the token ends.
    pub expires_at: Option<SystemTime>,
}

impl Identity {
    /// A guest of the open mode, who may edit everything.
    fn guest() -> Self {
        let grants = BTreeMap::from([("*".to_owned(), Role::Edit)]);
        Self {
            user: None,
            admin: false,
            grants,
            expires_at: None,
        }
    }

    /// The backend, which may do everything.
    fn backend() -> Self {
        Self {
            user: None,
            admin: true,
            grants: BTreeMap::new(),
            expires_at: None,
        }
    }

    /// What this user may do with a page; `None` for nothing. The page's own id counts before patterns, and a longer pattern
    /// before a shorter one.
    pub fn role(&self, page: &PageId) -> Option<Role> {
        if self.admin {
            return Some(Role::Admin);
        }
        if let Some(role) = self.grants.get(page.as_str()) {
            return Some(*role);
        }
        let covering = self.grants.iter().filter_map(|(pattern, role)| {
            let prefix = pattern.strip_suffix('*')?;
            page.as_str().starts_with(prefix).then_some((prefix.len(), *role))
        });
        covering.max_by_key(|(length, _)| *length).map(|(_, role)| role)
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
}

/// Decides who is asking.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// Verifies tokens; `None` without a secret.
    pub keys: Option<TokenKeys>,
    /// The backend's token.
    pub admin_token: Option<Secret>,
    /// Whether everybody may edit as a guest.
    pub open: bool,
    /// Which browsers' pages may connect.
    pub origins: OriginPolicy,
}

impl Authenticator {
    /// Who the bearer of `credential` is. The message of a refusal tells a stranger no more than its code does.
    pub fn identify(&self, credential: Option<&Credential>, now: SystemTime) -> Result<Identity, Refusal> {
        let Some(credential) = credential else {
            return match self.open {
                true => Ok(Identity::guest()),
                false => Err(Refusal::new(RefusalCode::Unauthenticated, "a token is needed")),
            };
        };
        if let (Some(admin), Credential::Bearer(token)) = (&self.admin_token, credential)
            && admin.matches(token)
        {
            return Ok(Identity::backend());
        }
        match &self.keys {
            Some(keys) => keys.verify(credential.token(), now),
            None if self.open => Ok(Identity::guest()),
            None => Err(Refusal::new(
                RefusalCode::Unauthenticated,
                "the token proves nothing here",
            )),
        }
    }

    /// What the bearer of `credential` may do with a page.
    pub fn membership(
        &self,
        credential: Option<&Credential>,
        page: &PageId,
        now: SystemTime,
    ) -> Result<Membership, Refusal> {
        let identity = self.identify(credential, now)?;
        let role = identity
            .role(page)
            .ok_or_else(|| Refusal::new(RefusalCode::Forbidden, "you have no access to this page"))?;
        let expires_in = identity
            .expires_at
            .map(|at| at.duration_since(now).unwrap_or_default());
        Ok(Membership {
            role,
            user: identity.user,
            expires_in,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(grants: &[(&str, Role)]) -> Identity {
        let grants = grants
            .iter()
            .map(|(pattern, role)| ((*pattern).to_owned(), *role))
            .collect();
        Identity {
            user: Some("ada".into()),
            admin: false,
            grants,
            expires_at: None,
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
        let role = |page| ada.role(&PageId::new(page).expect("a page id"));
        assert_eq!(role("other"), Some(Role::View));
        assert_eq!(role("team/a"), Some(Role::Edit));
        assert_eq!(role("team/secret/b"), Some(Role::View));
        assert_eq!(role("team/secret/mine"), Some(Role::Admin));
        assert_eq!(
            identity(&[("team/*", Role::Edit)]).role(&PageId::new("teammate").expect("a page id")),
            None
        );
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }
}
