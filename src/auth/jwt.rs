//! Verifies signed tokens and maps their claims to an identity.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
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
    /// The user. A whole number counts as its decimal text.
    #[serde(
        default,
        deserialize_with = "text_or_number",
        skip_serializing_if = "Option::is_none"
    )]
    pub sub: Option<String>,
    /// The user, where `sub` is missing.
    #[serde(
        default,
        rename = "userId",
        deserialize_with = "text_or_number",
        skip_serializing_if = "Option::is_none"
    )]
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
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<NumericDate>,
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

/// Reads the id of a user, which databases often count.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Positive(u64),
        Negative(i64),
    }

    let id = Option::<Id>::deserialize(deserializer)
        .map_err(|_| D::Error::custom("an id is a text or a whole number"))?;
    Ok(id.map(|id| match id {
        Id::Text(text) => text,
        Id::Positive(number) => number.to_string(),
        Id::Negative(number) => number.to_string(),
    }))
}

/// Why a token proves nothing: what its bearer is told, and what whoever runs the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    pub(super) refusal: Refusal,
    pub(super) reason: Cow<'static, str>,
}

impl Unproven {
    pub(super) fn because(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            refusal: unauthenticated(),
            reason: reason.into(),
        }
    }
}

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

    /// Whether no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.file.is_none()
    }

    /// Who the bearer of `token` is.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Unproven> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Unproven::because("the token is too long"));
        }
        let mut parts = token.split('.');
        let (Some(head), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Unproven::because("the token is no JSON Web Token"));
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header = decode(head).and_then(|head| serde_json::from_slice::<Head>(&head).ok());
        let header = header.ok_or_else(|| Unproven::because("the token is no JSON Web Token"))?;
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
        let is_named = |key: &Key| match (&key.id, &header.kid) {
            (Some(id), Some(named)) => id == named,
            (None, _) | (_, None) => true,
        };
        let (mut fits, mut named) = (false, false);
        for key in self.keys.iter().chain(from_file) {
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

impl ClaimRules {
    /// What is asked of the claims of a token whose signature is good.
    fn check(&self, claims: &Claims, now: SystemTime) -> Result<(), Unproven> {
        if claims.exp.is_none() && !self.without_expiry {
            return Err(Unproven::because(
                "the token never expires (no claim `exp`): PAGEROOM_TOKENS_WITHOUT_EXPIRY would take it",
            ));
        }
        let is_early = |begin: SystemTime| now.checked_add(LEEWAY).is_none_or(|latest| begin > latest);
        if claims.nbf.is_some_and(|nbf| nbf.time().is_none_or(is_early)) {
            return Err(Unproven::because(
                "the token begins later (claim `nbf`): clocks differ?",
            ));
        }
        if let Some(issuer) = &self.issuer
            && !names(claims.iss.as_ref(), issuer)
        {
            return Err(Unproven::because("claim `iss` is not what JWT_ISSUER asks for"));
        }
        if let Some(audience) = &self.audience
            && !names(claims.aud.as_ref(), audience)
        {
            return Err(Unproven::because("claim `aud` is not what JWT_AUDIENCE asks for"));
        }
        Ok(())
    }
}

/// Whether a claim is a text, or a list that has it.
fn names(claim: Option<&serde_json::Value>, wanted: &str) -> bool {
    match claim {
        Some(serde_json::Value::Array(list)) => {
            list.iter().all(serde_json::Value::is_string)
                && list.iter().any(|item| item.as_str() == Some(wanted))
        }
        Some(single) => single.as_str() == Some(wanted),
        None => false,
    }
}

/// What is wrong with claims that cannot be read: which one, and what it should be. Never what it is.
fn flaw(claims: &[u8]) -> String {
    use serde_json::Value;

    let Ok(Value::Object(claims)) = serde_json::from_slice::<Value>(claims) else {
        return "the token's claims are no JSON object".to_owned();
    };
    let is_time = |value: &Value| serde_json::from_value::<NumericDate>(value.clone()).is_ok();
    let is_id = |value: &Value| value.is_string() || value.is_u64() || value.is_i64() || value.is_null();
    let is_roles = |value: &Value| {
        value
            .as_object()
            .is_some_and(|roles| roles.values().all(Value::is_string))
    };
    type Rule<'a> = (&'a str, &'a str, &'a dyn Fn(&Value) -> bool);
    let rules: [Rule<'_>; 8] = [
        ("sub", "a text or a whole number", &is_id),
        ("userId", "a text or a whole number", &is_id),
        ("role", "a text", &|value| value.is_string() || value.is_null()),
        ("pages", "an object of roles by page, each named once", &is_roles),
        ("tokenVersion", "a whole number", &|value| {
            value.is_u64() || value.is_null()
        }),
        ("exp", "a time in seconds", &|value| {
            is_time(value) || value.is_null()
        }),
        ("nbf", "a time in seconds", &|value| {
            is_time(value) || value.is_null()
        }),
        ("iat", "a time in seconds", &|value| {
            is_time(value) || value.is_null()
        }),
    ];
    let wrong = rules
        .iter()
        .find(|(name, _, is_right)| claims.get(*name).is_some_and(|value| !is_right(value)));
    match wrong {
        Some((name, should, _)) => format!("claim `{name}` is not {should}"),
        None => "a claim is given twice".to_owned(),
    }
}

impl Claims {
    /// Who these claims are about. Their signature and issuer have been checked.
    pub(super) fn into_identity(self, now: SystemTime) -> Result<Identity, Unproven> {
        let user = self.sub.or(self.user_id);
        let user =
            user.ok_or_else(|| Unproven::because("the token names no user: claim `sub` or `userId`"))?;
        let mut identity = Identity::user(&user, now).map_err(|refusal| Unproven {
            refusal,
            reason:
                "the user that the token names (`sub`) is empty, too long, `*`, or has control characters"
                    .into(),
        })?;
        if let Some(exp) = self.exp {
            let ends = exp.time().and_then(|ends| ends.checked_add(LEEWAY));
            let ends = ends.ok_or_else(|| Unproven::because("claim `exp` is beyond the end of time"))?;
            identity.expires_at = Some(ends);
            if identity.has_expired(now) {
                return Err(Unproven {
                    refusal: expired(),
                    reason: "the token has expired".into(),
                });
            }
        }
        for (pattern, role) in self.pages {
            let unknown =
                || Unproven::because("claim `pages` gives a role that is none: view, comment, edit or admin");
            let role = Role::from_name(&role).ok_or_else(unknown)?;
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

#[cfg(test)]
mod tests {
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
