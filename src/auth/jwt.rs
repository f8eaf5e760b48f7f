//! Verifies signed tokens and maps their claims to an identity.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};

use super::{
    Identity, Profile, Secret,
    identity::{expired, unauthenticated},
    keys::{Key, KeyError, KeyFile},
};
use crate::rooms::{Refusal, Role};

/// Clocks of the issuer and ours may differ by this much.
pub(super) const LEEWAY: Duration = Duration::from_secs(15);
/// Longest token that is looked at, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

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
    #[serde(
        default,
        deserialize_with = "each_once",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub pages: BTreeMap<String, String>,
    /// When the token ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<NumericDate>,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<NumericDate>,
    /// The version of the user's tokens when it was issued.
    #[serde(default, rename = "tokenVersion", skip_serializing_if = "Option::is_none")]
    pub token_version: Option<u64>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<serde_json::Value>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<serde_json::Value>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<serde_json::Value>,
    /// Address of the user's picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<serde_json::Value>,
    /// The same, where `picture` is missing.
    #[serde(default, rename = "avatarUrl", skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<serde_json::Value>,
}

/// Seconds since 1970. Tokens may give fractions (RFC 7519 §2), of which only the whole seconds count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NumericDate(pub u64);

impl NumericDate {
    /// The moment; `None` beyond the end of time.
    pub fn time(self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.0))
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let fraction = || number.as_f64().filter(|seconds| (0.0..9e15).contains(seconds));
        number
            .as_u64()
            .or_else(|| fraction().map(|seconds| seconds as u64))
            .map(Self)
            .ok_or_else(|| D::Error::custom("no time"))
    }
}

/// Reads grants of which none may be given twice: whoever signed the token may have meant the other one.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Grants;

    impl<'de> Visitor<'de> for Grants {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of roles by page")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut grants = BTreeMap::new();
            while let Some((page, role)) = map.next_entry()? {
                if grants.insert(page, role).is_some() {
                    return Err(A::Error::custom("a page is named twice"));
                }
            }
            Ok(grants)
        }
    }

    deserializer.deserialize_map(Grants)
}

/// What is asked of claims beside a good signature.
#[derive(Clone, Debug, Default)]
pub struct ClaimRules {
    /// The token must name this issuer.
    pub issuer: Option<String>,
    /// The token must name this audience.
    pub audience: Option<String>,
    /// Tokens that never expire are taken too.
    pub without_expiry: bool,
}

/// Verifies tokens with keys that are each pinned to their algorithms.
#[derive(Clone)]
pub struct TokenKeys {
    signing: Option<EncodingKey>,
    keys: Vec<Key>,
    file: Option<Arc<KeyFile>>,
    rules: ClaimRules,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys")
    }
}

impl TokenKeys {
    /// No keys yet.
    pub fn new(rules: ClaimRules) -> Self {
        Self {
            signing: None,
            keys: Vec::new(),
            file: None,
            rules,
        }
    }

    /// Takes tokens signed with a secret, and can sign some.
    pub fn add_secret(&mut self, secret: &Secret) {
        self.signing = Some(EncodingKey::from_secret(secret.expose().as_bytes()));
        self.keys.push(Key::from_secret(secret));
    }

    /// Takes tokens that a public key in PEM verifies.
    pub fn add_public_key(&mut self, pem: &str) -> Result<(), KeyError> {
        self.keys.push(Key::from_pem(pem)?);
        Ok(())
    }

    /// Takes tokens that a key in a JSON Web Key Set verifies. The file is read again when it changes.
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        self.file = Some(Arc::new(KeyFile::open(path)?));
        Ok(())
    }

    /// Whether no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.file.is_none()
    }

    /// Who the bearer of `token` is.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(unauthenticated());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| unauthenticated())?;
        // RFC 7515 §4.1.11: a token that insists on an extension we do not know must not be taken.
        if header.crit.is_some() {
            return Err(unauthenticated());
        }
        let from_file = self.file.as_ref().map(|file| file.keys(now));
        let from_file = from_file.iter().flat_map(|keys| keys.iter());
        let is_meant = |key: &&Key| {
            let named = match (&key.id, &header.kid) {
                (Some(id), Some(named)) => id == named,
                (None, _) | (_, None) => true,
            };
            named && key.algorithms.contains(&header.alg)
        };
        let mut verdict = Err(unauthenticated());
        for key in self.keys.iter().chain(from_file).filter(is_meant) {
            verdict = self.verify_with(key, header.alg, token, now);
            match &verdict {
                // Another key may be the right one.
                Err(refusal) if *refusal == unauthenticated() => {}
                Ok(_) | Err(_) => break,
            }
        }
        verdict
    }

    fn verify_with(
        &self,
        key: &Key,
        algorithm: Algorithm,
        token: &str,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &self.validation(algorithm));
        let claims = decoded
            .map_err(|error| {
                if *error.kind() == ErrorKind::ExpiredSignature {
                    expired()
                } else {
                    unauthenticated()
                }
            })?
            .claims;
        claims.into_identity(now)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = self.rules.audience.is_some();
        let mut required = Vec::new();
        if !self.rules.without_expiry {
            required.push("exp");
        }
        if let Some(issuer) = &self.rules.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.rules.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// Whether there is a secret to sign with.
    pub fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// Signs a token with the secret. `None` without one.
    pub fn sign(&self, mut claims: Claims) -> Option<Result<String, jsonwebtoken::errors::Error>> {
        let key = self.signing.as_ref()?;
        claims.iss = claims.iss.or_else(|| self.rules.issuer.clone().map(Into::into));
        claims.aud = claims.aud.or_else(|| self.rules.audience.clone().map(Into::into));
        Some(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key))
    }
}

impl Claims {
    /// Who these claims are about. Their signature and issuer have been checked.
    pub(super) fn into_identity(self, now: SystemTime) -> Result<Identity, Refusal> {
        let user = self.sub.or(self.user_id).ok_or_else(unauthenticated)?;
        let mut identity = Identity::user(&user, now)?;
        if let Some(exp) = self.exp {
            let ends = exp.time().and_then(|ends| ends.checked_add(LEEWAY));
            identity.expires_at = Some(ends.ok_or_else(unauthenticated)?);
            if identity.has_expired(now) {
                return Err(expired());
            }
        }
        for (pattern, role) in self.pages {
            let role = Role::from_name(&role).ok_or_else(unauthenticated)?;
            identity.grants.insert(pattern, role);
        }
        // A time in the future would outlive the next sign-out.
        let issued_at = self
            .iat
            .and_then(NumericDate::time)
            .filter(|issued| *issued <= now);
        identity.issued_at = issued_at.unwrap_or(now);
        identity.admin = self.role.as_deref() == Some(Role::Admin.as_str());
        identity.token_version = self.token_version;
        let text = |value: Option<serde_json::Value>| value?.as_str().map(str::to_owned);
        identity.profile = Profile {
            name: text(self.name),
            avatar_url: text(self.picture).or_else(|| text(self.avatar_url)),
        };
        Ok(identity)
    }
}
