//! Who is asking: from the bytes of a request to an identity, in one place for every protocol. What it may do is [`access`](crate::access)'s.
//!
//! # From bytes to identity
//!
//! 1. [`Authenticator::credential`] finds the token in a request: the first source of a fixed list wins, also when its token is
//!    wrong. What a browser sends by itself (a cookie) counts only with an allowed `Origin` ([`OriginPolicy`]), and of several
//!    cookies the first that proves something, because other applications leave theirs under the same names.
//! 2. [`Authenticator`] makes an [`Identity`] of it, or says that it proves nothing. Which keys may verify it, and with which
//!    algorithms, is decided by the configuration and by where the token was found, never by the token: [`TokenKeys`] for signed
//!    tokens, [`SessionKeys`] for the encrypted session cookies of NextAuth and Auth.js. [`PageSpace`] looks opaque tokens up.
//!
//! # What else stands here
//!
//! [`AuthBackoff`] slows down whoever guesses, and [`signature`] checks messages of backends. Tokens are in no log, and the reason why one
//! proves nothing is told to nobody: the code of a refusal is all.

mod auth_backoff;
mod claims;
pub mod complaints;
mod credentials;
mod field_cipher;
mod identity;
mod jwt;
mod key_address;
mod keys;
mod origin;
mod pagespace;
mod proxies;
mod session_cookie;
pub mod signature;
mod webhook;

use std::{sync::Arc, time::SystemTime};

use axum::http::{HeaderMap, Uri};

pub use auth_backoff::{AuthBackoff, network};
pub use claims::{ClaimRules, Claims, NumericDate};
pub use credentials::{Credential, SUBPROTOCOL_PREFIX};
pub use identity::{Identity, Kind, MAX_USER_BYTES, Profile};
pub use jwt::TokenKeys;
pub use keys::KeyError;
pub use origin::{Origin, OriginPolicy, shown_origin};
pub use pagespace::{PageSpace, PageSpaceConfig};
pub use proxies::{PublicUrl, Reached, client_address, forget_claims, is_trusted, tell_of_silent_proxy};
pub use session_cookie::SessionKeys;
use subtle::ConstantTimeEq;
pub use webhook::{Webhook, WebhookError};

use self::{claims::Unproven, identity::unauthenticated};
pub(crate) use self::{
    identity::{blocked, expired, revoked},
    pagespace::is_opaque,
};
use crate::rooms::{Refusal, RefusalCode};

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

/// Decides who is asking, from the token alone.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// Verifies signed tokens.
    pub keys: TokenKeys,
    /// Opens session cookies.
    pub sessions: SessionKeys,
    /// The backend's token.
    pub admin_token: Option<Secret>,
    /// Whether everybody may edit as a guest.
    pub open: bool,
    /// Which browsers' pages may connect.
    pub origins: OriginPolicy,
}

impl Authenticator {
    /// The first credential of a request.
    pub fn find(&self, headers: &HeaderMap, uri: &Uri) -> Option<Credential> {
        credentials::find(headers, uri, self.sessions.names())
    }

    /// The same of a request whose page may connect.
    pub fn credential(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<Credential>, Refusal> {
        let credential = self.find(headers, uri);
        let is_cookie = credential.as_ref().is_some_and(Credential::is_cookie);
        self.origins.check(headers, is_cookie)?;
        Ok(credential)
    }

    /// What is answered when none of several cookies opens: what is wrong with the first that is ours. Where everybody may come,
    /// cookies of others keep nobody out.
    pub(crate) fn none_of(&self, refusals: Vec<Refusal>, now: SystemTime) -> Result<Identity, Refusal> {
        let is_ours = |refusal: &Refusal| refusal.code != RefusalCode::Unauthenticated;
        match refusals.into_iter().find(is_ours) {
            Some(refusal) => Err(refusal),
            None if self.open => Ok(Identity::guest(now)),
            None => Err(unauthenticated()),
        }
    }

    /// Whether this is the backend's token.
    pub fn is_backend(&self, credential: &Credential) -> bool {
        match (&self.admin_token, credential) {
            (Some(admin), Credential::Bearer(token)) => admin.matches(token),
            _ => false,
        }
    }

    /// Fetches keys where those of a token are at an address and not known.
    pub(crate) async fn look_for_keys(&self, credential: &Credential) -> Result<(), Refusal> {
        match self.is_backend(credential) {
            true => Ok(()),
            false => self.keys.look_for(credential.token()).await,
        }
    }

    /// Who the bearer of `credential` is. The message of a refusal tells a stranger no more than its code does.
    pub fn identify(&self, credential: Option<&Credential>, now: SystemTime) -> Result<Identity, Refusal> {
        let Some(credential) = credential else {
            return match self.open {
                true => Ok(Identity::guest(now)),
                false => {
                    if complaints::is_due("no token") {
                        tracing::warn!(
                            "somebody came without a token and was refused: clients must send one, or PAGEROOM_AUTH=open lets everybody in"
                        );
                    }
                    Err(Refusal::new(RefusalCode::Unauthenticated, "a token is needed"))
                }
            };
        };
        if self.is_backend(credential) {
            return Ok(Identity::backend(now));
        }
        let identity = match credential {
            Credential::Cookies(cookies) => {
                let mut refusals = Vec::new();
                for cookie in cookies {
                    match self.prove(cookie, now) {
                        Ok(identity) => return Ok(identity),
                        Err(unproven) => refusals.push(self.doubt(credential, unproven)),
                    }
                }
                return self.none_of(refusals, now);
            }
            Credential::Bearer(_)
            | Credential::Given(_)
            | Credential::Cookie(_)
            | Credential::Session(..) => self.prove(credential, now),
        };
        match identity.map_err(|unproven| self.doubt(credential, unproven)) {
            Err(refusal) if credential.is_cookie() => self.none_of(vec![refusal], now),
            proved => proved,
        }
    }

    /// Who the bearer of a single credential is.
    fn prove(&self, credential: &Credential, now: SystemTime) -> Result<Identity, Unproven> {
        match credential {
            Credential::Session(name, token) if !self.sessions.is_empty() => {
                self.sessions.open(name, token, now)
            }
            Credential::Bearer(token) if !self.sessions.is_empty() && session_cookie::is_sealed(token) => {
                self.sessions.open_bearer(token, now)
            }
            Credential::Bearer(token) | Credential::Given(token) | Credential::Cookie(token)
                if !self.keys.is_empty() =>
            {
                self.keys.verify(token, now)
            }
            // Applications that always send a token need not be changed to try the server out.
            Credential::Bearer(_)
            | Credential::Given(_)
            | Credential::Cookie(_)
            | Credential::Session(..)
            | Credential::Cookies(_) => match self.open {
                true => Ok(Identity::guest(now)),
                false => Err(Unproven::because(
                    "no key is configured for what it is: JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_FILE, JWT_JWKS_URL, NEXTAUTH_SECRET or AUTH_SECRET",
                )),
            },
        }
    }

    /// Tells whoever runs the server why a token proves nothing, each reason once a minute. Its bearer is told a code.
    fn doubt(&self, credential: &Credential, unproven: Unproven) -> Refusal {
        let Unproven { refusal, reason } = unproven;
        let code = refusal.code.as_str();
        // Where everybody may come, cookies of others keep nobody out.
        if credential.is_cookie() && self.open {
            tracing::debug!(code, %reason, "a cookie proves nothing");
            return refusal;
        }
        // Tokens end every day, and each at a moment of its own.
        if refusal.code == RefusalCode::TokenExpired {
            if complaints::is_due("token expired") {
                tracing::info!(code, %reason, "a token proves nothing any more");
            }
        } else if credential.is_cookie() {
            // It may be another application's.
            if complaints::is_due_of_stranger(&format!("cookie: {reason}")) {
                tracing::info!(code, %reason, "a cookie proves nothing");
            }
        } else if complaints::is_due_of_stranger(&reason) {
            tracing::warn!(code, %reason, "a token proves nothing");
        }
        refusal
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens and permissions meet the clock here"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }
}
