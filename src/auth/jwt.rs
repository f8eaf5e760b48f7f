//! Verifies signed tokens and maps their claims to an identity.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

use super::{Identity, Secret};
use crate::rooms::{Refusal, RefusalCode, Role};

/// Clocks of the issuer and ours may differ by this much.
pub(super) const LEEWAY: Duration = Duration::from_secs(15);
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a token says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The user, where `sub` is missing.
    #[serde(default, rename = "userId", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// `admin` may do everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Page ids and prefix patterns with the name of the role they give.
    #[serde(default)]
    pub pages: BTreeMap<String, String>,
    /// When the token ends, in seconds since 1970.
    pub exp: u64,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<serde_json::Value>,
}

/// Verifies tokens signed with one secret, HS256 and nothing else.
#[derive(Clone)]
pub struct TokenKeys {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
    issuer: Option<String>,
    audience: Option<String>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKeys")
    }
}

impl TokenKeys {
    /// Keys from a secret. A token must name `issuer` and `audience` where they are given.
    pub fn new(secret: &Secret, issuer: Option<String>, audience: Option<String>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = audience.is_some();
        validation.set_required_spec_claims(&["exp"]);
        if let Some(issuer) = &issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = &audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        let bytes = secret.expose().as_bytes();
        let (decoding, encoding) = (DecodingKey::from_secret(bytes), EncodingKey::from_secret(bytes));
        Self {
            decoding,
            encoding,
            validation,
            issuer,
            audience,
        }
    }

    /// Who the bearer of `token` is.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let unauthenticated = || Refusal::new(RefusalCode::Unauthenticated, "the token proves nothing here");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(unauthenticated());
        }
        let decoded =
            jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).map_err(|error| {
                if *error.kind() == ErrorKind::ExpiredSignature {
                    expired()
                } else {
                    unauthenticated()
                }
            })?;
        // RFC 7515 §4.1.11: a token that insists on an extension we do not know must not be taken.
        if decoded.header.crit.is_some() {
            return Err(unauthenticated());
        }
        let claims = decoded.claims;
        let expires_at = UNIX_EPOCH
            .checked_add(Duration::from_secs(claims.exp))
            .ok_or_else(unauthenticated)?;
        let ends = expires_at.checked_add(LEEWAY).ok_or_else(unauthenticated)?;
        if ends <= now {
            return Err(expired());
        }
        let user = claims
            .sub
            .or(claims.user_id)
            .filter(|user| !user.is_empty())
            .ok_or_else(unauthenticated)?;
        let mut grants = BTreeMap::new();
        for (pattern, role) in claims.pages {
            let role = Role::from_name(&role).ok_or_else(unauthenticated)?;
            grants.insert(pattern, role);
        }
        let admin = claims.role.as_deref() == Some(Role::Admin.as_str());
        Ok(Identity {
            user: Some(user.into()),
            admin,
            grants,
            expires_at: Some(ends),
        })
    }

    /// Signs a token, for trying things out.
    pub fn sign(&self, mut claims: Claims) -> Result<String, jsonwebtoken::errors::Error> {
        claims.iss = claims.iss.or_else(|| self.issuer.clone());
        claims.aud = claims.aud.or_else(|| self.audience.clone().map(Into::into));
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }
}

fn expired() -> Refusal {
    Refusal::new(RefusalCode::TokenExpired, "the token has expired")
}
