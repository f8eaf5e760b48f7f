//! Signs and checks messages between backends: `t=SECONDS,v1=HEX` over the time and the raw bytes of a body.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Secret;
use crate::rooms::{Refusal, RefusalCode};

/// Clocks may differ by this much, and a message may be repeated for as long.
const MAX_SKEW: Duration = Duration::from_secs(300);

/// What is wrong with somebody who is no backend.
const UNPROVEN: &str = "neither a good signature nor the token of a backend";

/// Why something is not done that is for backends.
pub fn unproven() -> Refusal {
    Refusal::new(RefusalCode::Unauthenticated, UNPROVEN)
}

/// Whether somebody was refused who is no backend.
pub(super) fn is_unproven(refusal: &Refusal) -> bool {
    refusal.message == UNPROVEN
}

fn mac(secret: &Secret, time: &str, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let code = mac.finalize().into_bytes();
    Some(code.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The signature of a body that is sent now.
pub fn sign(secret: &Secret, now: SystemTime, body: &[u8]) -> String {
    let time = now
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        .to_string();
    let code = mac(secret, &time, body).unwrap_or_default();
    format!("t={time},v1={code}")
}

/// Whether a signature has the form of one and is not too old or too new, which can be seen without the body.
pub fn may_hold(now: SystemTime, signature: &str) -> bool {
    read(signature).is_some_and(|(_, sent, _)| is_recent(now, sent))
}

/// Whether a signature is right for a body, and not too old or too new.
pub fn verify(secret: &Secret, now: SystemTime, signature: &str, body: &[u8]) -> bool {
    let Some((time, sent, code)) = read(signature) else {
        return false;
    };
    let expected = mac(secret, time, body);
    expected.is_some_and(|expected| expected.as_bytes().ct_eq(code.as_bytes()).into())
        && is_recent(now, sent)
        && !body.is_empty()
}

fn is_recent(now: SystemTime, sent: u64) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    now.abs_diff(sent) <= MAX_SKEW.as_secs()
}

/// The time of a signature as it is written, the time, and the code.
fn read(signature: &str) -> Option<(&str, u64, &str)> {
    let (mut time, mut code) = (None, None);
    let mut parts = 0;
    for part in signature.split(',') {
        parts += 1;
        match part.trim().split_once('=') {
            Some(("t", value)) => time = Some(value),
            Some(("v1", value)) => code = Some(value),
            Some(_) | None => return None,
        }
    }
    let (Some(time), Some(code), 2) = (time, code, parts) else {
        return None;
    };
    let is_number = !time.is_empty() && time.bytes().all(|digit| digit.is_ascii_digit());
    let sent = time.parse().ok().filter(|_| is_number)?;
    Some((time, sent, code))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn signatures_of_backends_are_checked_over_raw_bytes_and_time() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/pagespace.json")).expect("vectors");
        let vector = &vectors["broadcast_hmac"];
        let text = |name: &str| vector[name].as_str().expect("a text");
        let secret = Secret::new(text("secret"));
        let sent = vector["timestamp"].as_u64().expect("a time");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let (header, body) = (text("header_value"), text("body_utf8").as_bytes());
        assert_eq!(sign(&secret, at(sent), body), header);
        for (seconds, expected) in [
            (sent, true),
            (sent + 300, true),
            (sent - 300, true),
            (sent + 301, false),
            (sent - 301, false),
        ] {
            assert_eq!(verify(&secret, at(seconds), header, body), expected, "{seconds}");
        }
        let (time, code) = header.split_once(',').expect("two parts");
        assert!(
            verify(&secret, at(sent), &format!("{code},{time}"), body),
            "in either order"
        );
        let last = header.len() - 1;
        for bent in [
            String::new(),
            time.to_owned(),
            code.to_owned(),
            format!("{header},{time}"),
            format!("{time},{time}"),
            header[..last].to_owned(),
            header.to_uppercase(),
            header.replacen("t=", "t=+", 1),
            header.replacen("v1=", "v0=", 1),
        ] {
            assert!(!verify(&secret, at(sent), &bent, body), "{bent}");
        }
        assert!(!verify(&secret, at(sent), header, &body[1..]));
        assert!(!verify(
            &Secret::new("another secret of the backends...."),
            at(sent),
            header,
            body
        ));
        assert!(
            !verify(&secret, at(sent), &sign(&secret, at(sent), b""), b""),
            "an empty body"
        );
    }
}
