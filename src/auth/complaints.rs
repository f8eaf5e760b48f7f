//! What whoever runs the server should know about refusals, each cause once a minute.
//!
//! Clients are told no more than a code; why it was, and what would change it, stands in the log. A cause is told again after a
//! minute, so that neither one broken client nor a thousand of them fill the log.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    identity::is_blocked,
    origin::{is_refused_for_cookie, is_refused_for_name, is_refused_for_origin},
    signature::is_unproven,
};
use crate::rooms::{Refusal, RefusalCode};

/// A cause is told at most this often.
const PAUSE: Duration = Duration::from_secs(60);
/// Causes in the words of strangers that are remembered. More of them in a minute are not told: a stranger fills no log, and keeps no other
/// cause out of it.
const MAX_OF_STRANGERS: usize = 50;
/// Longest text of a stranger that is repeated, in letters.
const MAX_SHOWN: usize = 200;

/// One log is written by the whole process.
static TOLD: LazyLock<Mutex<Complaints>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Complaints {
    ours: BTreeMap<Cow<'static, str>, Instant>,
    of_strangers: BTreeMap<String, Instant>,
}

impl Complaints {
    fn is_due(&mut self, now: Instant, cause: Cow<'static, str>) -> bool {
        let is_due = self.ours.get(&cause).is_none_or(|at| !is_fresh(now, *at));
        if is_due {
            self.ours.insert(cause, now);
        }
        is_due
    }

    fn is_due_of_stranger(&mut self, now: Instant, cause: &str) -> bool {
        if self.of_strangers.get(cause).is_some_and(|at| is_fresh(now, *at)) {
            return false;
        }
        if self.of_strangers.len() >= MAX_OF_STRANGERS {
            self.of_strangers.retain(|_, at| is_fresh(now, *at));
        }
        let has_place = self.of_strangers.len() < MAX_OF_STRANGERS;
        if has_place {
            self.of_strangers.insert(cause.to_owned(), now);
        }
        has_place
    }
}

fn is_fresh(now: Instant, told: Instant) -> bool {
    now.saturating_duration_since(told) < PAUSE
}

/// Whether a cause should be told now. It is in words of ours, of which there are not many.
pub fn is_due(cause: impl Into<Cow<'static, str>>) -> bool {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.is_due(now(), cause.into())
}

/// The same of a cause that has a stranger's words in it.
pub fn is_due_of_stranger(cause: &str) -> bool {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.is_due_of_stranger(now(), cause)
}

/// Whether a refusal should be told now of somebody who came by `way`, which is in words of ours. Whoever comes the same way for the same
/// reason has the same cause; an origin that is refused is one cause, whatever its pages ask for.
pub(crate) fn is_refusal_due(way: &str, origin: Option<&str>, refusal: &Refusal) -> bool {
    match (origin, &refusal.message) {
        (Some(origin), _) if is_refused_for_origin(refusal) => {
            is_due_of_stranger(&format!("origin {origin}"))
        }
        (_, Cow::Borrowed(reason)) => is_due(format!("{way}: {reason}")),
        // What is put together may have words of strangers in it.
        (_, Cow::Owned(reason)) => is_due_of_stranger(&format!("{way}: {}", shown(reason))),
    }
}

/// What would allow it; `None` for what is wrong with what was asked itself.
/// Of somebody who only wants to read, if `reads`.
pub(crate) fn remedy(refusal: &Refusal, reads: bool) -> Option<&'static str> {
    match refusal.code {
        RefusalCode::Unauthenticated if is_unproven(refusal) => Some(
            "sign the body with REALTIME_BROADCAST_SECRET, with clocks that differ by less than five minutes, or send PAGEROOM_ADMIN_TOKEN \
             as `Authorization: Bearer`",
        ),
        RefusalCode::Unauthenticated => Some(
            "send PAGEROOM_ADMIN_TOKEN or a user's token as `Authorization: Bearer`; a browser's origin must be in CORS_ORIGIN",
        ),
        RefusalCode::TokenExpired => Some("fetch a fresh token before the old one ends"),
        RefusalCode::TokenRevoked => Some("the user was signed out: mint a new token"),
        RefusalCode::Forbidden if is_refused_for_origin(refusal) => {
            Some("add the origin to CORS_ORIGIN, if its pages are yours")
        }
        RefusalCode::Forbidden if is_refused_for_name(refusal) => Some(
            "if the name is the server's, say so with PAGEROOM_PUBLIC_URL or CORS_ORIGIN; or set JWT_SECRET",
        ),
        RefusalCode::Forbidden if is_refused_for_cookie(refusal) => {
            Some("programs, and pages without an origin of their own, must send a token instead of a cookie")
        }
        RefusalCode::Forbidden if is_blocked(refusal) => Some(
            "the user is blocked: `DELETE /api/users/{user}/block` lets the user in again, and no role does",
        ),
        RefusalCode::Forbidden if reads => Some(
            "give the user a role on the page, in the token (`pages`) or another source of PAGEROOM_ACCESS; what is for backends needs \
             PAGEROOM_ADMIN_TOKEN",
        ),
        RefusalCode::Forbidden | RefusalCode::ReadOnly => Some(
            "give the user the role `edit` on the page, or `admin` to manage it; what is for backends needs PAGEROOM_ADMIN_TOKEN",
        ),
        RefusalCode::RateLimited => {
            Some("PAGEROOM_MAX_REQUESTS_PER_SECOND and PAGEROOM_MAX_REQUESTS_BURST allow more")
        }
        RefusalCode::PageDeleted
        | RefusalCode::PageRenamed
        | RefusalCode::PageRebuilt
        | RefusalCode::RoomFull
        | RefusalCode::TooLarge
        | RefusalCode::Malformed
        | RefusalCode::NotFound
        | RefusalCode::Conflict
        | RefusalCode::Unavailable
        | RefusalCode::Draining
        | RefusalCode::Internal => None,
    }
}

/// As much of a stranger's text as is repeated.
pub fn shown(text: &str) -> String {
    text.chars()
        .take(MAX_SHOWN)
        .map(|letter| {
            if matches!(letter, ' '..='~') {
                letter
            } else {
                '\u{fffd}'
            }
        })
        .collect()
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;
    use crate::auth::{OriginPolicy, identity::blocked};

    #[test]
    fn a_cause_is_told_once_a_minute_and_others_beside_it() {
        let (mut complaints, start) = (Complaints::default(), now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(complaints.is_due_of_stranger(start, "origin"));
        assert!(!complaints.is_due_of_stranger(after(59), "origin"));
        assert!(complaints.is_due(after(59), "token".into()));
        assert!(!complaints.is_due(after(60), "token".into()));
        assert!(complaints.is_due_of_stranger(after(60), "origin"));
        let told = (0..5000).filter(|n| complaints.is_due_of_stranger(after(61), &n.to_string()));
        assert_eq!(told.count(), MAX_OF_STRANGERS - 1, "memory and log are bounded");
        // However much strangers make up, our own causes are told.
        assert!(complaints.is_due(after(120), "token".into()));
        assert!(complaints.is_due_of_stranger(after(200), "origin"));
    }

    #[test]
    fn another_reason_another_way_and_another_origin_are_other_causes() {
        let forbidden = |message: &'static str| Refusal::new(RefusalCode::Forbidden, message);
        let (role, block) = (forbidden("no role, in this test"), blocked());
        for (way, refusal, due) in [
            ("this test", &role, true),
            ("this test", &role, false),
            ("this test", &block, true),
            ("this test", &block, false),
            ("this test elsewhere", &role, true),
        ] {
            assert_eq!(is_refusal_due(way, None, refusal), due, "{way} {refusal}");
        }
        let origins = OriginPolicy::default();
        let mut headers = HeaderMap::new();
        headers.insert("origin", "https://evil.net".parse().expect("a header"));
        let foreign = origins.check(&headers, false).expect_err("a foreign origin");
        for (way, origin, due) in [
            ("this test", "https://a.complaint", true),
            ("this test elsewhere", "https://a.complaint", false),
            ("this test", "https://another.complaint", true),
        ] {
            assert_eq!(is_refusal_due(way, Some(origin), &foreign), due, "{way} {origin}");
        }
    }

    #[test]
    fn what_would_allow_it_fits_the_reason() {
        let advice = |refusal: &Refusal| remedy(refusal, true).expect("advice");
        assert!(advice(&blocked()).contains("DELETE /api/users/{user}/block"));
        let no_role = Refusal::new(RefusalCode::Forbidden, "you have no access to this page");
        assert!(advice(&no_role).contains("PAGEROOM_ACCESS"));
        let origins = OriginPolicy::default();
        let cookie = origins.check(&HeaderMap::new(), true).expect_err("no origin");
        assert!(advice(&cookie).contains("token"));
    }
}
