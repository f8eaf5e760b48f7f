//! Verifies signed tokens with keys that are each pinned to their algorithms.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::Uri;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;

use super::{
    Identity, Secret,
    claims::{ClaimRules, Claims, Unproven, flaw},
    key_address::KeyAddress,
    keys::{Key, KeyError, KeyFile},
};
use crate::rooms::Refusal;

/// Longest token that is looked at, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What is read of a token's header.
#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

impl Head {
    fn algorithm(&self) -> Option<Algorithm> {
        match self.alg.as_str() {
            // Its name since RFC 9864.
            "Ed25519" => Some(Algorithm::EdDSA),
            name => name.parse().ok(),
        }
    }
}

/// The header of a token.
fn head(token: &str) -> Result<Head, Unproven> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Unproven::because("the token is too long"));
    }
    let head = token.split('.').next().and_then(decode);
    let head = head.and_then(|head| serde_json::from_slice(&head).ok());
    head.ok_or_else(|| Unproven::because("the token is no JSON Web Token"))
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn is_secret(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

/// Verifies tokens with keys that are each pinned to their algorithms.
#[derive(Clone)]
pub struct TokenKeys {
    signing: Option<EncodingKey>,
    keys: Vec<Key>,
    file: Option<Arc<KeyFile>>,
    address: Option<KeyAddress>,
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
            address: None,
            rules,
        }
    }

    /// Takes tokens signed with a secret, and can sign some.
    pub fn add_secret(&mut self, secret: &Secret) {
        self.signing = Some(EncodingKey::from_secret(secret.expose().as_bytes()));
        self.keys.push(Key::from_secret(secret));
    }

    /// Takes tokens that a public key in PEM verifies, or one of several.
    pub fn add_public_key(&mut self, pem: &str) -> Result<(), KeyError> {
        self.keys.extend(Key::from_pem(pem)?);
        Ok(())
    }

    /// Takes tokens that a key in a JSON Web Key Set verifies. The file is read again when it changes.
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        self.file = Some(Arc::new(KeyFile::open(path)?));
        Ok(())
    }

    /// Takes tokens that a key in the JSON Web Key Set at this address verifies.
    pub fn add_address(&mut self, address: Uri) {
        self.address = Some(KeyAddress::new(address));
    }

    /// Whether no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.file.is_none() && self.address.is_none()
    }

    /// How old the keys at an address are, if there is one.
    pub fn age(&self) -> Option<Duration> {
        self.address.as_ref().map(KeyAddress::age)
    }

    /// Fetches the keys at an address whenever they are old. Runs for ever.
    pub async fn keep_fresh(&self) {
        match &self.address {
            Some(address) => address.keep_fresh().await,
            None => std::future::pending().await,
        }
    }

    /// Fetches keys from the address if a token may need them.
    pub(super) async fn look_for(&self, token: &str) -> Result<(), Refusal> {
        let Some(address) = &self.address else {
            return Ok(());
        };
        match head(token) {
            // Of the algorithms that keys at an address are for.
            Ok(head) if head.algorithm().is_some_and(|algorithm| !is_secret(algorithm)) => {
                match self.has_own(&head) {
                    true => Ok(()),
                    false => address.look_for(head.kid.as_deref()).await,
                }
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether a key that is not at the address is named by a token.
    fn has_own(&self, head: &Head) -> bool {
        let from_file = self.file.as_ref().map(|file| file.keys(super::now()));
        let from_file = from_file.iter().flat_map(|keys| keys.iter());
        let mut own = self.keys.iter().chain(from_file);
        head.kid.is_some() && own.any(|key| key.id == head.kid)
    }

    /// Who the bearer of `token` is.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Unproven> {
        let header = head(token)?;
        let mut parts = token.split('.');
        let (Some(head), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Unproven::because("the token is no JSON Web Token"));
        };
        // RFC 7515 §4.1.11: a token that insists on an extension we do not know must not be taken.
        if header.crit.is_some() {
            return Err(Unproven::because("the token insists on an extension (`crit`)"));
        }
        let algorithm = header
            .algorithm()
            .ok_or_else(|| Unproven::because("the token is signed with no algorithm that is taken"))?;
        let signed = token.get(..head.len() + 1 + claims.len()).unwrap_or_default();
        self.verify_signature(&header, algorithm, signed, signature)?;
        let claims = decode(claims).ok_or_else(|| Unproven::because("the token's claims are unreadable"))?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Unproven::because(flaw(&claims)))?;
        self.rules.check(&claims, now)?;
        claims.into_identity(now)
    }

    fn verify_signature(
        &self,
        header: &Head,
        algorithm: Algorithm,
        signed: &str,
        signature: &str,
    ) -> Result<(), Unproven> {
        let from_file = self.file.as_ref().map(|file| file.keys(super::now()));
        let from_file = from_file.iter().flat_map(|keys| keys.iter());
        let from_address = self.address.as_ref().map(KeyAddress::keys);
        let from_address = from_address.iter().flat_map(|keys| keys.iter());
        let is_named = |key: &Key| match (&key.id, &header.kid) {
            (Some(id), Some(named)) => id == named,
            (None, _) | (_, None) => true,
        };
        let (mut fits, mut named) = (false, false);
        for key in self.keys.iter().chain(from_file).chain(from_address) {
            if !key.algorithms.contains(&algorithm) {
                continue;
            }
            fits = true;
            if !is_named(key) {
                continue;
            }
            named = true;
            let verified =
                jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.decoding, algorithm);
            if verified.unwrap_or(false) {
                return Ok(());
            }
        }
        Err(Unproven::because(match (fits, named) {
            (false, _) => format!("no key is for the token's algorithm {algorithm:?}"),
            (true, false) => "no key has the name (`kid`) that the token gives".to_owned(),
            (true, true) => "the signature is not by any key of this server: secrets differ?".to_owned(),
        }))
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Value, json};

    use super::*;
    use crate::rooms::RefusalCode;

    const SECRET: &str = "a secret of the tests, long enough";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn keys(rules: ClaimRules) -> TokenKeys {
        let mut keys = TokenKeys::new(rules);
        keys.add_secret(&Secret::new(SECRET));
        keys
    }

    fn sign(claims: &Value) -> String {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("a token")
    }

    fn verdict(rules: ClaimRules, claims: Value) -> Result<String, (RefusalCode, String)> {
        let mut claims = claims;
        if claims.get("exp").is_none() {
            claims["exp"] = json!(2000);
        }
        let verified = keys(rules).verify(&sign(&claims), at(1000));
        verified
            .map(|identity| identity.user.expect("a user").to_string())
            .map_err(|unproven| (unproven.refusal.code, unproven.reason.into_owned()))
    }

    #[test]
    fn a_user_may_be_a_whole_number() {
        for (claims, user) in [
            (json!({ "sub": "ada" }), "ada"),
            (json!({ "sub": 42 }), "42"),
            (json!({ "sub": 0 }), "0"),
            (json!({ "sub": -7 }), "-7"),
            (json!({ "sub": u64::MAX }), "18446744073709551615"),
            (json!({ "userId": 42 }), "42"),
            (json!({ "sub": null, "userId": "bob" }), "bob"),
            (
                json!({ "sub": "ada", "role": null, "tokenVersion": null, "iat": null }),
                "ada",
            ),
        ] {
            assert_eq!(
                verdict(ClaimRules::default(), claims.clone()).as_deref(),
                Ok(user),
                "{claims}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_claims_is_named() {
        for (claims, reason) in [
            (json!({}), "names no user"),
            (json!({ "sub": "" }), "(`sub`) is empty"),
            (
                json!({ "sub": 1.5 }),
                "claim `sub` is not a text or a whole number",
            ),
            (json!({ "sub": ["ada"] }), "claim `sub` is not"),
            (json!({ "userId": true }), "claim `userId` is not"),
            (
                json!({ "sub": "ada", "role": ["admin"] }),
                "claim `role` is not a text",
            ),
            (
                json!({ "sub": "ada", "tokenVersion": "3" }),
                "claim `tokenVersion` is not a whole number",
            ),
            (
                json!({ "sub": "ada", "pages": null }),
                "claim `pages` is not an object",
            ),
            (
                json!({ "sub": "ada", "pages": ["a"] }),
                "claim `pages` is not an object",
            ),
            (
                json!({ "sub": "ada", "pages": { "a": 1 } }),
                "claim `pages` is not an object",
            ),
            (
                json!({ "sub": "ada", "pages": { "a": "owner" } }),
                "claim `pages` gives a role",
            ),
            (
                json!({ "sub": "ada", "exp": "2000" }),
                "claim `exp` is not a time",
            ),
            (json!({ "sub": "ada", "exp": null }), "never expires"),
            (json!({ "sub": "ada", "nbf": 1016 }), "begins later"),
        ] {
            let (code, said) = verdict(ClaimRules::default(), claims.clone()).expect_err("a refusal");
            assert_eq!(code, RefusalCode::Unauthenticated, "{claims}");
            assert!(said.contains(reason), "{claims}: {said}");
        }
        let (code, said) =
            verdict(ClaimRules::default(), json!({ "sub": "ada", "exp": 985 })).expect_err("a refusal");
        assert_eq!(
            (code, said.as_str()),
            (RefusalCode::TokenExpired, "the token has expired")
        );
        assert!(
            verdict(
                ClaimRules::default(),
                json!({ "sub": "ada", "exp": 986, "nbf": 1015 })
            )
            .is_ok()
        );
    }

    #[test]
    fn issuer_and_audience_may_stand_in_lists() {
        let rules = || ClaimRules {
            issuer: Some("https://issuer".to_owned()),
            audience: Some("pages".to_owned()),
            without_expiry: false,
        };
        for (iss, aud, reason) in [
            (json!("https://issuer"), json!("pages"), None),
            (json!(["https://issuer"]), json!(["other", "pages"]), None),
            (json!("https://other"), json!("pages"), Some("JWT_ISSUER")),
            (json!(null), json!("pages"), Some("JWT_ISSUER")),
            (json!("https://issuer"), json!(["other"]), Some("JWT_AUDIENCE")),
            (json!("https://issuer"), json!(7), Some("JWT_AUDIENCE")),
        ] {
            let claims = json!({ "sub": "ada", "iss": iss, "aud": aud });
            let said = verdict(rules(), claims.clone()).err().map(|(_, said)| said);
            match (said, reason) {
                (None, None) => {}
                (Some(said), Some(reason)) => assert!(said.contains(reason), "{claims}: {said}"),
                (said, _) => panic!("{claims}: {said:?}"),
            }
        }
    }

    #[test]
    fn the_newer_name_of_an_algorithm_is_taken_and_no_other_key_is() {
        let private = include_bytes!("../../tests/keys/ed25519.pem");
        let key = EncodingKey::from_ed_pem(private).expect("a key");
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let claims = part(r#"{"sub":"ada","exp":2000}"#);
        let token = |alg: &str| {
            let signed = format!("{}.{claims}", part(&format!(r#"{{"alg":"{alg}"}}"#)));
            let signature =
                jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::EdDSA).expect("a signature");
            format!("{signed}.{signature}")
        };
        let mut edwards = TokenKeys::new(ClaimRules::default());
        edwards
            .add_public_key(include_str!("../../tests/keys/ed25519.public.pem"))
            .expect("a key");
        let secret = keys(ClaimRules::default());
        for (alg, taken) in [
            ("EdDSA", true),
            ("Ed25519", true),
            ("Ed448", false),
            ("none", false),
            ("HS256", false),
        ] {
            assert_eq!(edwards.verify(&token(alg), at(1000)).is_ok(), taken, "{alg}");
            assert!(secret.verify(&token(alg), at(1000)).is_err(), "{alg}");
        }
    }
}
