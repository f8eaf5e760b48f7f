//! Opens the encrypted session cookies of NextAuth v4 and Auth.js v5.
//!
//! Both are a JWE in compact form (RFC 7516) with `alg: dir`: the content is encrypted with a key that both sides derive from
//! a shared secret with HKDF-SHA256. The two differ in what they derive and how they encrypt:
//!
//! | | NextAuth v4 | Auth.js v5 |
//! |---|---|---|
//! | salt | empty | name of the cookie |
//! | info | `NextAuth.js Generated Encryption Key` | `Auth.js Generated Encryption Key (NAME)` |
//! | `enc` | A256GCM | A256CBC-HS512 |
//!
//! What decides which is expected is the name of the cookie, never the token. Under a name of the application's own both are
//! looked for, each with its own key.

use std::{sync::Arc, time::SystemTime};

use aes::Aes256;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag, aead::AeadInOut};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::{
    Identity, Secret,
    claims::{Claims, LEEWAY, NumericDate, Unproven, text_or_number},
    jwt::MAX_TOKEN_BYTES,
};
use crate::rooms::RefusalCode;

/// Names of the cookies, in the order in which they are looked for.
pub(super) const COOKIES: [&str; 4] = [
    "__Secure-authjs.session-token",
    "authjs.session-token",
    "__Secure-next-auth.session-token",
    "next-auth.session-token",
];

/// Opens session cookies with the application's secrets.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    secrets: Vec<Secret>,
    /// Of cookies, in the order in which they are looked for.
    names: Vec<Arc<str>>,
}

/// How a cookie is sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seal {
    V4,
    V5,
}

/// The protected header; anything else that may be in it changes nothing here, and `zip` and `crit` are refused.
#[derive(Deserialize)]
struct Head {
    alg: String,
    enc: String,
    zip: Option<serde_json::Value>,
    crit: Option<serde_json::Value>,
}

/// What a session says of its user. Whatever else an application puts there is no grant.
#[derive(Deserialize)]
struct Content {
    #[serde(default, deserialize_with = "text_or_number")]
    sub: Option<String>,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    name: Option<serde_json::Value>,
    picture: Option<serde_json::Value>,
}

impl SessionKeys {
    /// Opens cookies with any of these secrets, which may be the last ones and the next.
    pub fn new(secrets: Vec<Secret>) -> Self {
        let names = COOKIES.map(Arc::from).to_vec();
        Self { secrets, names }
    }

    /// Looks first for cookies with these names.
    #[must_use]
    pub fn named(mut self, names: &[String]) -> Self {
        let own = names.iter().map(|name| Arc::from(name.as_str()));
        self.names.splice(0..0, own);
        self
    }

    /// The names of cookies that may hold a session.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether no cookie can be opened.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Whose session it is that a client without cookies sends as a bearer token, perhaps as it stood in its cookie,
    /// percent-encoded. Which cookie that was is part of its key.
    pub(super) fn open_bearer(&self, token: &str, now: SystemTime) -> Result<Identity, Unproven> {
        let sealed =
            || Unproven::because("the session cookie is not sealed with NEXTAUTH_SECRET or AUTH_SECRET");
        let token = percent_decode_str(token).decode_utf8().map_err(|_| sealed())?;
        let seals = self.names.iter().map(|name| self.open(name, &token, now));
        let proved = |opened: &Result<Identity, Unproven>| match opened {
            Ok(_) => true,
            Err(unproven) => unproven.refusal.code != RefusalCode::Unauthenticated,
        };
        let mut seals = seals;
        seals.find(proved).unwrap_or_else(|| Err(sealed()))
    }

    /// Whose session it is that the cookie `name` holds.
    pub(super) fn open(&self, name: &str, token: &str, now: SystemTime) -> Result<Identity, Unproven> {
        let content = self
            .secrets
            .iter()
            .find_map(|secret| decrypt(secret, name, token));
        let content = content.ok_or_else(|| {
            Unproven::because(
                "the session cookie is not sealed with NEXTAUTH_SECRET or AUTH_SECRET for its name",
            )
        })?;
        let content: Content = serde_json::from_slice(&content)
            .map_err(|_| Unproven::because("the session cookie holds no session with a user and an end"))?;
        let is_early = |begin: SystemTime| now.checked_add(LEEWAY).is_none_or(|latest| begin > latest);
        if content.nbf.is_some_and(|nbf| nbf.time().is_none_or(is_early)) {
            return Err(Unproven::because(
                "the session begins later (claim `nbf`): clocks differ?",
            ));
        }
        let claims = Claims {
            sub: content.sub,
            exp: Some(content.exp),
            iat: content.iat,
            name: content.name,
            picture: content.picture,
            ..Claims::default()
        };
        claims.into_identity(now)
    }
}

/// Whether a token can be an encrypted session: five parts, of which the second, for a key, is empty. No signed token looks so.
pub(super) fn is_sealed(token: &str) -> bool {
    let token = token.replace("%2E", ".").replace("%2e", ".");
    let mut parts = token.split('.');
    parts.nth(1) == Some("") && parts.count() == 3
}

/// The content of a JWE, if this secret made it for this cookie.
fn decrypt(secret: &Secret, name: &str, token: &str) -> Option<Vec<u8>> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let may_be = |seal: Seal| match seal {
        Seal::V4 => !name.ends_with("authjs.session-token"),
        Seal::V5 => !name.ends_with("next-auth.session-token"),
    };
    let mut parts = token.split('.');
    let (head, key, iv, content, tag) = (
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
    );
    if parts.next().is_some() || !key.is_empty() {
        return None;
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let (iv, content, tag) = (decode(iv)?, decode(content)?, decode(tag)?);
    let head_json: Head = serde_json::from_slice(&decode(head)?).ok()?;
    if head_json.alg != "dir" || head_json.zip.is_some() || head_json.crit.is_some() {
        return None;
    }
    match head_json.enc.as_str() {
        "A256GCM" if may_be(Seal::V4) => {
            let key: [u8; 32] = derive(secret, "", "NextAuth.js Generated Encryption Key");
            open_gcm(&key, head, &iv, content, &tag)
        }
        "A256CBC-HS512" if may_be(Seal::V5) => {
            let key: [u8; 64] = derive(
                secret,
                name,
                &format!("Auth.js Generated Encryption Key ({name})"),
            );
            open_cbc(&key, head, &iv, content, &tag)
        }
        _ => None,
    }
}

fn derive<const N: usize>(secret: &Secret, salt: &str, info: &str) -> [u8; N] {
    let mut key = [0; N];
    // Fails only for keys longer than 255 hashes.
    let _ = Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret.expose().as_bytes())
        .expand(info.as_bytes(), &mut key);
    key
}

/// AES-256-GCM; what is authenticated beside the content is the header as it was sent.
fn open_gcm(key: &[u8; 32], head: &str, iv: &[u8], mut content: Vec<u8>, tag: &[u8]) -> Option<Vec<u8>> {
    let (nonce, tag) = (Nonce::try_from(iv).ok()?, Tag::try_from(tag).ok()?);
    let cipher = Aes256Gcm::new(key.into());
    cipher
        .decrypt_inout_detached(&nonce, head.as_bytes(), content.as_mut_slice().into(), &tag)
        .ok()?;
    Some(content)
}

/// AES-256-CBC with HMAC-SHA512 (RFC 7518 §5.2): the first half of the key authenticates, the second encrypts. The tag is
/// checked before anything is decrypted.
fn open_cbc(key: &[u8; 64], head: &str, iv: &[u8], mut content: Vec<u8>, tag: &[u8]) -> Option<Vec<u8>> {
    let (mac_key, content_key) = key.split_at(32);
    let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(mac_key).ok()?;
    mac.update(head.as_bytes());
    mac.update(iv);
    mac.update(&content);
    mac.update(&(head.len() as u64 * 8).to_be_bytes());
    let expected = mac.finalize().into_bytes();
    let is_ours: bool = expected.get(..32)?.ct_eq(tag).into();
    if !is_ours {
        return None;
    }
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(content_key, iv).ok()?;
    let length = cipher.decrypt_padded::<Pkcs7>(&mut content).ok()?.len();
    content.truncate(length);
    Some(content)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::Value;

    use super::*;
    use crate::rooms::RefusalCode;

    /// Made with the published packages.
    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/nextauth.json")).expect("vectors")
    }

    fn text<'a>(vectors: &'a Value, path: &str) -> &'a str {
        vectors.pointer(path).and_then(Value::as_str).expect("a text")
    }

    fn keys(vectors: &Value) -> SessionKeys {
        SessionKeys::new(vec![Secret::new(text(vectors, "/secret"))])
    }

    /// Some time after the good ones were issued, and before they end.
    fn then(vectors: &Value) -> SystemTime {
        let issued = vectors.pointer("/v4/decoded_valid/iat").and_then(Value::as_u64);
        UNIX_EPOCH + Duration::from_secs(issued.expect("a time") + 60)
    }

    fn code(result: Result<Identity, Unproven>) -> Result<String, RefusalCode> {
        let user = |identity: Identity| identity.user.expect("a user").to_string();
        result.map(user).map_err(|unproven| unproven.refusal.code)
    }

    #[test]
    fn a_session_of_next_auth_4_opens_under_both_names_and_no_other() {
        let vectors = vectors();
        let (keys, now) = (keys(&vectors), then(&vectors));
        let valid = text(&vectors, "/v4/valid");
        let sub = text(&vectors, "/v4/decoded_valid/sub").to_owned();
        for name in COOKIES {
            let expected = match name.contains("next-auth") {
                true => Ok(sub.clone()),
                false => Err(RefusalCode::Unauthenticated),
            };
            assert_eq!(code(keys.open(name, valid, now)), expected, "{name}");
        }
        let identity = keys.open(COOKIES[3], valid, now).expect("a session");
        assert_eq!(identity.profile.name.as_deref(), Some("Ada Lovelace"));
        assert_eq!(
            identity.profile.avatar_url.as_deref(),
            Some("https://example.test/a.png")
        );
        assert!(!identity.admin && identity.grants.is_empty());
        let chunked = text(&vectors, "/v4/large_for_chunking");
        assert_eq!(code(keys.open(COOKIES[3], chunked, now)), Ok(sub));
    }

    #[test]
    fn a_session_of_either_kind_counts_as_a_bearer_token() {
        let vectors = vectors();
        let (keys, now) = (keys(&vectors), then(&vectors));
        let v4 = text(&vectors, "/v4/valid");
        let v5 = text(&vectors, &format!("/v5/{}/valid", COOKIES[1]));
        for token in [v4, v5, &v4.replace('.', "%2E")] {
            assert!(
                is_sealed(token) && keys.open_bearer(token, now).is_ok(),
                "{token}"
            );
        }
        for (token, expected) in [
            (text(&vectors, "/v4/expired"), RefusalCode::TokenExpired),
            (text(&vectors, "/v4/wrong_secret"), RefusalCode::Unauthenticated),
            ("%ff....", RefusalCode::Unauthenticated),
            (&format!("{v4}%"), RefusalCode::Unauthenticated),
        ] {
            assert_eq!(code(keys.open_bearer(token, now)), Err(expected), "{token}");
        }
        assert!(!is_sealed("a.b.c") && !is_sealed("opaque") && !is_sealed("a.b.c.d.e"));
    }

    #[test]
    fn what_is_wrong_with_a_session_of_next_auth_4_shuts_it() {
        let vectors = vectors();
        let (keys, now) = (keys(&vectors), then(&vectors));
        for (what, expected) in [
            ("wrong_secret", RefusalCode::Unauthenticated),
            ("no_sub", RefusalCode::Unauthenticated),
            ("tampered_tag", RefusalCode::Unauthenticated),
            ("expired", RefusalCode::TokenExpired),
        ] {
            let token = text(&vectors, &format!("/v4/{what}"));
            assert_eq!(code(keys.open(COOKIES[3], token, now)), Err(expected), "{what}");
        }
        let valid = text(&vectors, "/v4/valid");
        let parts: Vec<&str> = valid.split('.').collect();
        let head = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for changed in [
            format!("{}.{}", valid, "AAAA"),
            valid.replacen("..", ".AAAA.", 1),
            format!("{}..{}.{}.", parts[0], parts[2], parts[3]),
            format!("{}...{}.{}", parts[0], parts[3], parts[4]),
            valid.replacen(parts[0], &head(r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#), 1),
            valid.replacen(parts[0], &head(r#"{"alg":"none","enc":"A256GCM"}"#), 1),
            "....".to_owned(),
            String::new(),
        ] {
            let refused = code(keys.open(COOKIES[3], &changed, now));
            assert_eq!(refused, Err(RefusalCode::Unauthenticated), "{changed}");
        }
        let long_after = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        assert_eq!(
            code(keys.open(COOKIES[3], valid, long_after)),
            Err(RefusalCode::TokenExpired)
        );
        let long_before = code(keys.open(COOKIES[3], valid, UNIX_EPOCH));
        assert!(long_before.is_ok(), "a time of issue is no beginning");
    }

    #[test]
    fn a_session_of_auth_js_5_opens_under_its_own_name_with_either_secret() {
        let vectors = vectors();
        let now = then(&vectors);
        let both = SessionKeys::new(vec![
            Secret::new(text(&vectors, "/secret2")),
            Secret::new(text(&vectors, "/secret")),
        ]);
        for (name, other) in [(COOKIES[1], COOKIES[0]), (COOKIES[0], COOKIES[1])] {
            let of = |what: &str| text(&vectors, &format!("/v5/{name}/{what}")).to_owned();
            let sub = text(&vectors, &format!("/v5/{name}/decoded_valid/sub")).to_owned();
            let key: [u8; 64] = derive(
                &Secret::new(text(&vectors, "/secret")),
                name,
                &format!("Auth.js Generated Encryption Key ({name})"),
            );
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, of("hkdf/okm_hex"));
            assert_eq!(
                code(both.open(name, &of("valid"), now)),
                Ok(sub.clone()),
                "{name}"
            );
            assert_eq!(
                code(both.open(name, &of("valid_with_rotated_secret"), now)),
                Ok(sub),
                "{name}"
            );
            let copied = code(both.open(other, &of("valid"), now));
            assert_eq!(copied, Err(RefusalCode::Unauthenticated), "{name} as {other}");
            assert_eq!(
                code(both.open(name, &of("expired"), now)),
                Err(RefusalCode::TokenExpired)
            );
            let rotated = code(keys(&vectors).open(name, &of("valid_with_rotated_secret"), now));
            assert_eq!(rotated, Err(RefusalCode::Unauthenticated));
            // One bit of each part.
            let valid = of("valid");
            for at in [
                2,
                valid.find("..").expect("dots") + 3,
                valid.len() / 2,
                valid.len() - 5,
            ] {
                let mut bytes = valid.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let bent = String::from_utf8(bytes).expect("text");
                assert_eq!(
                    code(both.open(name, &bent, now)),
                    Err(RefusalCode::Unauthenticated),
                    "{at}"
                );
            }
        }
    }
}
