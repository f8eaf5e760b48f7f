//! Why we hang up or refuse, and the code that says so: a close code to a WebSocket client, a status to one that speaks HTTP.
//!
//! 4400–4499 are for good: the client should not come back as it is. 1011–1013 are for now.

use hyper::StatusCode;

use crate::rooms::{Refusal, RefusalCode};

/// Longest reason that fits into a close frame, in bytes (RFC 6455 §5.5: 125 less the code).
pub const MAX_REASON_BYTES: usize = 123;

/// The close code of a refusal.
pub fn close_code(code: RefusalCode) -> u16 {
    match code {
        RefusalCode::Malformed | RefusalCode::Conflict => 4400,
        RefusalCode::Unauthenticated | RefusalCode::TokenExpired | RefusalCode::TokenRevoked => 4401,
        RefusalCode::Forbidden | RefusalCode::ReadOnly => 4403,
        RefusalCode::PageDeleted | RefusalCode::NotFound => 4404,
        RefusalCode::PageRebuilt => 4410,
        RefusalCode::TooLarge => 4413,
        RefusalCode::RateLimited => 4429,
        RefusalCode::Draining | RefusalCode::PageRenamed => 1012,
        RefusalCode::RoomFull | RefusalCode::Unavailable => 1013,
        RefusalCode::Internal => 1011,
    }
}

/// The status of the answer to an HTTP request that is refused.
pub fn status(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::Unauthenticated | RefusalCode::TokenExpired | RefusalCode::TokenRevoked => {
            StatusCode::UNAUTHORIZED
        }
        RefusalCode::Forbidden | RefusalCode::ReadOnly => StatusCode::FORBIDDEN,
        RefusalCode::PageDeleted | RefusalCode::NotFound => StatusCode::NOT_FOUND,
        RefusalCode::PageRenamed => StatusCode::PERMANENT_REDIRECT,
        RefusalCode::Conflict => StatusCode::CONFLICT,
        RefusalCode::PageRebuilt => StatusCode::GONE,
        RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::Malformed => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        RefusalCode::RoomFull | RefusalCode::Unavailable | RefusalCode::Draining => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        RefusalCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The reason text of a close frame: the code, a colon and the sentence, cut to what fits.
pub fn close_reason(refusal: &Refusal) -> String {
    let mut reason = refusal.to_string();
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let refusal = Refusal::malformed("ä".repeat(200));
        let reason = close_reason(&refusal);
        assert!(reason.len() <= MAX_REASON_BYTES && reason.len() > MAX_REASON_BYTES - 2);
        assert!(reason.starts_with("malformed: ä"));
    }
}
