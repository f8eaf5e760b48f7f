//! Why something is refused: one list of codes for every protocol, each with a sentence for people.

use std::{borrow::Cow, fmt, sync::Arc};

use serde_json::Value as Json;
use storage::PageId;

/// The reason of a refusal, the same in every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No token, or one that proves nothing.
    Unauthenticated,
    /// The token was good once.
    TokenExpired,
    /// The token was withdrawn.
    TokenRevoked,
    /// The user may not do this.
    Forbidden,
    /// The user may read and not change.
    ReadOnly,
    /// The page is in the trash.
    PageDeleted,
    /// The page has another id now.
    PageRenamed,
    /// The page has another document now, of which the client has no copy.
    PageRebuilt,
    /// The room has as many members as it may have.
    RoomFull,
    /// Too much in too short a time.
    RateLimited,
    /// A message, page or body over its limit.
    TooLarge,
    /// Bytes that make no sense.
    Malformed,
    /// There is no such thing.
    NotFound,
    /// What was asked contradicts the present state.
    Conflict,
    /// The server or its store cannot serve now; later it can.
    Unavailable,
    /// The server is stopping; another one or a later one can serve.
    Draining,
    /// A defect of the server.
    Internal,
}

impl RefusalCode {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::Forbidden,
        Self::ReadOnly,
        Self::PageDeleted,
        Self::PageRenamed,
        Self::PageRebuilt,
        Self::RoomFull,
        Self::RateLimited,
        Self::TooLarge,
        Self::Malformed,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::Draining,
        Self::Internal,
    ];

    /// The code as it goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::Forbidden => "forbidden",
            Self::ReadOnly => "read_only",
            Self::PageDeleted => "page_deleted",
            Self::PageRenamed => "page_renamed",
            Self::PageRebuilt => "page_rebuilt",
            Self::RoomFull => "room_full",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }

    /// Whether it concerns who somebody is, so that no other page or room would answer differently.
    pub fn is_about_token(self) -> bool {
        matches!(
            self,
            Self::Unauthenticated | Self::TokenExpired | Self::TokenRevoked
        )
    }

    /// Whether a client of several pages is to connect again for one of them: clients do that by themselves when their connection ends, and
    /// then for all of their pages. A full page is no reason for that, because it may stay full.
    pub fn needs_new_connection(self) -> bool {
        self.is_retryable() && !matches!(self, Self::RoomFull | Self::RateLimited)
    }

    /// Whether the same request may succeed later without the client changing anything.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::PageRenamed
            | Self::RoomFull
            | Self::RateLimited
            | Self::Unavailable
            | Self::Draining
            | Self::Internal => true,
            Self::Unauthenticated
            | Self::TokenExpired
            | Self::TokenRevoked
            | Self::Forbidden
            | Self::ReadOnly
            | Self::PageDeleted
            | Self::PageRebuilt
            | Self::TooLarge
            | Self::Malformed
            | Self::NotFound
            | Self::Conflict => false,
        }
    }
}

/// A refusal: a code for programs and a sentence for people, without tokens or content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: RefusalCode,
    /// The sentence: lower case, no full stop.
    pub message: Cow<'static, str>,
    /// What a backend has to say of it to the programs of those it concerns.
    pub notice: Option<Arc<Notice>>,
    /// Who was refused, where that is known: for whoever runs the server.
    pub user: Option<Arc<str>>,
    /// The id that the page has now, for those who may see it.
    pub renamed_to: Option<PageId>,
}

/// What a backend says to the programs of those it sends away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The room, as the backend spells it.
    pub room: String,
    /// Why, in a word of the application.
    pub reason: String,
    /// What else the application wants its programs to know.
    pub metadata: Option<Arc<Json>>,
}

impl Refusal {
    /// A refusal of `code` that says `message`.
    pub fn new(code: RefusalCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            notice: None,
            user: None,
            renamed_to: None,
        }
    }

    /// The same, of a user who is known.
    #[must_use]
    pub fn of(self, user: Option<&Arc<str>>) -> Self {
        let user = user.cloned().or(self.user);
        Self { user, ..self }
    }

    /// The page has another id now, which is said to those who may see it.
    pub fn renamed(to: Option<PageId>) -> Self {
        Self {
            renamed_to: to,
            ..Self::new(
                RefusalCode::PageRenamed,
                "the page has another id now, connect again",
            )
        }
    }

    /// The page has another document now. What the client has is a copy of a former one: merged, everything would be there twice.
    pub fn rebuilt() -> Self {
        Self::new(
            RefusalCode::PageRebuilt,
            "the page was rebuilt: open it again without the copy that you have",
        )
    }

    /// Bytes that make no sense.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::Malformed, message)
    }

    /// Something over its limit.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::TooLarge, message)
    }

    /// Not now.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::Unavailable, message)
    }

    /// The server is stopping.
    pub fn draining() -> Self {
        Self::new(RefusalCode::Draining, "the server is stopping, connect again")
    }

    /// A change by somebody who may only read.
    pub fn read_only() -> Self {
        Self::new(RefusalCode::ReadOnly, "you may read this page and not change it")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::RefusalCode;

    #[test]
    fn the_description_has_every_code_as_it_goes_over_the_wire() {
        let schema = serde_json::to_value(RefusalCode::schema()).expect("a schema is JSON");
        let codes = RefusalCode::ALL.map(RefusalCode::as_str);
        assert_eq!(schema["enum"], serde_json::json!(codes));
    }
}
