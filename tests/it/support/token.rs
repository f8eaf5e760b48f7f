//! Tokens as an application mints them, good ones and forged ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The secret that the test servers are configured with.
pub(crate) const SECRET: &str = "a secret of the tests, 32 bytes or more";

/// A moment relative to now, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "tokens are good for a time that the server compares with its clock"
)]
pub(crate) fn seconds_from_now(offset: i64) -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    now.checked_add(Duration::from_secs(60 * 60 * 24))
        .and_then(|tomorrow| tomorrow.as_secs().checked_add_signed(offset))
        .expect("a moment after 1970")
        - 60 * 60 * 24
}

/// A token with some claims, signed with `secret`.
pub(crate) fn sign(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    jsonwebtoken::encode(
        &Header::new(algorithm),
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .expect("claims that can be signed")
}

/// Claims of `user` with a role on each page, good for an hour.
pub(crate) fn claims(user: &str, pages: &Value) -> Value {
    json!({ "sub": user, "pages": pages, "exp": seconds_from_now(3600) })
}

/// A token for `user`, good for an hour.
pub(crate) fn token(user: &str, pages: &Value) -> String {
    sign(&claims(user, pages), SECRET, Algorithm::HS256)
}

/// A token that is not signed, whatever its header says.
pub(crate) fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}
