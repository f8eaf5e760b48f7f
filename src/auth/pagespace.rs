//! PageSpace's opaque tokens, looked up in its own tables.
//!
//! A token is never stored: its SHA3-256 finds the row of `sessions`. A session that its user's state has overtaken is ended
//! there, as PageSpace's own servers do it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sha3::{Digest, Sha3_256};
use storage::{Application, PageSpaceSession};

use super::{
    Identity, Profile, Secret,
    field_cipher::{Ciphertext, Field, FieldCipher},
    identity::{expired, revoked, unauthenticated},
};
use crate::rooms::Refusal;

/// What tokens begin with, and the kind of session each must lead to. Kinds that are not for people at a socket are refused.
const KINDS: [(&str, &str); 2] = [("ps_sock_", "socket"), ("ps_sess_", "user")];
/// Every token of PageSpace begins with this.
const PREFIX: &str = "ps_";

/// Looks up opaque tokens.
#[derive(Clone)]
pub struct PageSpace {
    application: Arc<Application>,
    /// A session that was not used for this long has ended; zero for never.
    idle_timeout: Duration,
    /// Reads names that are kept encrypted.
    cipher: Option<Arc<FieldCipher>>,
}

/// How PageSpace's tables are read.
#[derive(Clone, Debug)]
pub struct PageSpaceConfig {
    /// Sessions end when they are not used for this long; zero for never.
    pub idle_timeout: Duration,
    /// What names of users are encrypted with.
    pub encryption_key: Option<Secret>,
}

/// The name of somebody who has none that can be read.
const NAMELESS: &str = "Unknown";

/// Whether a token is one of PageSpace's, good or not. No signed token looks like one.
pub(crate) fn is_opaque(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// The kind of session that a well-formed token must lead to.
fn kind(token: &str) -> Option<&'static str> {
    let (prefix, kind) = KINDS.into_iter().find(|(prefix, _)| token.starts_with(prefix))?;
    let random = token.strip_prefix(prefix)?;
    let is_random = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    ((40..=100).contains(&token.len()) && !random.is_empty() && random.bytes().all(is_random)).then_some(kind)
}

fn hash(token: &str) -> String {
    let digest = Sha3_256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// It has ended, or is of another kind.
    Over,
    /// It has run out.
    Expired,
    /// It must be ended for this reason.
    Overtaken(&'static str),
}

fn flaw(session: &PageSpaceSession, kind: &str, idle_timeout: Duration, now: SystemTime) -> Option<Flaw> {
    if session.revoked || session.kind != kind {
        return Some(Flaw::Over);
    }
    if session.expires_at <= now {
        return Some(Flaw::Expired);
    }
    if session.suspended {
        return Some(Flaw::Overtaken("user_suspended"));
    }
    if session.token_version != session.user_token_version {
        return Some(Flaw::Overtaken("token_version_mismatch"));
    }
    let idle = now.duration_since(session.used_at).unwrap_or_default();
    (!idle_timeout.is_zero() && idle > idle_timeout).then_some(Flaw::Overtaken("idle_timeout"))
}

impl PageSpace {
    /// Looks tokens up in this database.
    pub fn new(application: Arc<Application>, config: PageSpaceConfig) -> Self {
        let cipher = config.encryption_key.as_ref().and_then(FieldCipher::new);
        Self {
            application,
            idle_timeout: config.idle_timeout,
            cipher: cipher.map(Arc::new),
        }
    }

    /// The name that is shown of a user: that of the profile, else the user's own, which may be encrypted.
    async fn name(&self, profile: Option<String>, own: Option<String>) -> String {
        let name = match (profile, own.map(Field::new)) {
            (Some(name), _) | (None, Some(Field::Plain(name))) => Some(name),
            (None, Some(Field::Encrypted(salt, ciphertext))) => self.decrypted(salt, ciphertext).await,
            (None, None) => None,
        };
        name.unwrap_or_else(|| NAMELESS.to_owned())
    }

    async fn decrypted(&self, salt: Option<Vec<u8>>, ciphertext: Ciphertext) -> Option<String> {
        let cipher = self.cipher.clone()?;
        let opened = match salt {
            None => cipher.open(None, ciphertext),
            // Making a key takes long.
            Some(salt) => tokio::task::spawn_blocking(move || cipher.open(Some(&salt), ciphertext))
                .await
                .unwrap_or_default(),
        };
        if opened.is_none() {
            tracing::warn!("a user's name cannot be decrypted with ENCRYPTION_KEY");
        }
        opened
    }

    /// Who the bearer of an opaque token is.
    pub(crate) async fn identify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let kind = kind(token).ok_or_else(unauthenticated)?;
        let session = self.application.session(&hash(token)).await.map_err(|error| {
            tracing::warn!(%error, "the application's sessions cannot be read");
            Refusal::unavailable("who you are cannot be found out now, try again")
        })?;
        let session = session.ok_or_else(unauthenticated)?;
        match flaw(&session, kind, self.idle_timeout, now) {
            None => {}
            Some(Flaw::Over) => return Err(unauthenticated()),
            Some(Flaw::Expired) => return Err(expired()),
            Some(Flaw::Overtaken(reason)) => {
                self.note(
                    "ended",
                    self.application.revoke_session(&session.id, reason).await,
                );
                return Err(revoked());
            }
        }
        let this = self.clone();
        let id = session.id;
        tokio::spawn(async move { this.note("used", this.application.session_used(&id).await) });
        let mut identity = Identity::user(&session.user, now)?;
        identity.expires_at = Some(session.expires_at);
        identity.profile = Profile {
            name: Some(self.name(session.name, session.user_name).await),
            avatar_url: session.avatar_url,
        };
        Ok(identity)
    }

    fn note(&self, what: &str, result: Result<(), storage::StoreError>) {
        if let Err(error) = result {
            tracing::warn!(%error, what, "a session of the application could not be marked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::Value;

    use super::*;

    #[test]
    fn tokens_are_found_by_their_hash() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/pagespace.json")).expect("vectors");
        let hashes = vectors["token_hash"].as_array().expect("a list");
        assert!(!hashes.is_empty());
        for vector in hashes {
            let token = vector["token"].as_str().expect("a token");
            assert_eq!(hash(token), vector["sha3_256_hex"].as_str().expect("a hash"));
            assert!(is_opaque(token) && kind(token).is_some(), "{token}");
        }
    }

    #[test]
    fn only_tokens_for_sockets_and_people_are_well_formed() {
        let random = "A".repeat(43);
        for (token, expected) in [
            (format!("ps_sock_{random}"), Some("socket")),
            (format!("ps_sess_{random}"), Some("user")),
            (format!("ps_mcp_{random}"), None),
            (format!("ps_sock_{random}="), None),
            (format!("ps_sock_{random}\u{e9}"), None),
            ("ps_sock_short".to_owned(), None),
            (format!("ps_sock_{}", "A".repeat(100)), None),
            (format!("xps_sock_{random}"), None),
        ] {
            assert_eq!(kind(&token), expected, "{token}");
        }
    }

    #[test]
    fn a_session_counts_until_something_overtakes_it() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let good = PageSpaceSession {
            id: "1".to_owned(),
            kind: "socket".to_owned(),
            user: "ada".to_owned(),
            token_version: 3,
            user_token_version: 3,
            suspended: false,
            revoked: false,
            expires_at: at(1000),
            used_at: at(100),
            name: None,
            user_name: None,
            avatar_url: None,
        };
        let idle = Duration::from_secs(300);
        let check = |change: fn(&mut PageSpaceSession), now| {
            let mut session = good.clone();
            change(&mut session);
            flaw(&session, "socket", idle, at(now))
        };
        assert_eq!(check(|_| {}, 200), None);
        assert_eq!(check(|_| {}, 401), Some(Flaw::Overtaken("idle_timeout")));
        assert_eq!(flaw(&good, "socket", Duration::ZERO, at(999)), None);
        assert_eq!(check(|_| {}, 1000), Some(Flaw::Expired));
        assert_eq!(check(|session| session.revoked = true, 200), Some(Flaw::Over));
        assert_eq!(
            check(|session| session.kind = "user".to_owned(), 200),
            Some(Flaw::Over)
        );
        assert_eq!(
            check(|session| session.suspended = true, 200),
            Some(Flaw::Overtaken("user_suspended"))
        );
        assert_eq!(
            check(|session| session.user_token_version = 4, 200),
            Some(Flaw::Overtaken("token_version_mismatch"))
        );
    }
}
