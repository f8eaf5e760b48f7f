//! Why we hang up, and the close code that says so to a WebSocket client.
//!
//! 4400–4499 are for good: the client should not come back as it is. 1011–1013 are for now.

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
        RefusalCode::TooLarge => 4413,
        RefusalCode::RateLimited => 4429,
        RefusalCode::Draining => 1012,
        RefusalCode::RoomFull | RefusalCode::Unavailable => 1013,
        RefusalCode::Internal => 1011,
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
