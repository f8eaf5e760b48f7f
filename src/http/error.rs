//! The one place where an error becomes a status code and a JSON body.

use std::any::Any;

use axum::{
    Json,
    extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use storage::{PageIdError, StoreError};
use utoipa::ToSchema;

use super::refusals::Refused;
use crate::{
    protocols::codes::status,
    reader::{MergeError, ReadError},
    rooms::{Refusal, RefusalCode},
};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The request was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The page is in another state than whoever asks supposes.
    #[error("the page is in another state than the request is for")]
    Precondition,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored of the page cannot be read.
    #[error("the stored page is damaged")]
    Damaged(#[source] crdt::LoadError),
    /// The page broke while it was read.
    #[error("the page cannot be read")]
    Broken(#[source] crdt::ApplyError),
    /// The page was not read in a form for people.
    #[error(transparent)]
    Unread(#[from] ReadError),
    /// What was to be read or written has not been.
    #[error(transparent)]
    Unmerged(#[from] MergeError),
}

impl HttpError {
    pub(super) fn forbidden(message: &'static str) -> Self {
        Refusal::new(RefusalCode::Forbidden, message).into()
    }

    pub(super) fn unknown_page() -> Self {
        Refusal::new(RefusalCode::NotFound, "there is no such page").into()
    }

    /// The same for whoever is told it in another way.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Precondition => Refusal::new(RefusalCode::Conflict, self.to_string()),
            Self::Store(error) => {
                tracing::warn!(%error, kind = error.kind(), "a request could not be served from the store");
                Refusal::unavailable("the store cannot be reached now, try again")
            }
            Self::Damaged(error) => {
                tracing::error!(%error, "what is stored of a page does not fit together");
                Refusal::new(RefusalCode::Internal, "what is stored of the page is damaged")
            }
            Self::Broken(error) => {
                tracing::error!(%error, "a page broke while it was read");
                Refusal::new(RefusalCode::Internal, "the page cannot be read")
            }
            Self::Unread(error) => error.refusal(),
            Self::Unmerged(error) => error.refusal(),
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let refusal = self.refusal();
        let code = refusal.code;
        let status = match &self {
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            // Just now, and nobody has found out where to.
            Self::Refused(refusal) if code == RefusalCode::PageRenamed && refusal.renamed_to.is_none() => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Refused(_)
            | Self::Store(_)
            | Self::Damaged(_)
            | Self::Broken(_)
            | Self::Unread(_)
            | Self::Unmerged(_) => status(code),
        };
        let problem = Problem {
            kind: "about:blank",
            title: status.canonical_reason(),
            status: status.as_u16(),
            detail: refusal.message.to_string(),
            error: Reason::of(&refusal),
        };
        let mut answer = (status, Json(problem)).into_response();
        if code == RefusalCode::RateLimited {
            // Every bucket gets a token back within a second.
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer.extensions_mut().insert(Refused(refusal));
        answer
    }
}

/// Problem details (RFC 9457), and our code beside them.
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the code in `error` says which problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The words of the status.
    #[schema(required)]
    title: Option<&'static str>,
    /// The status.
    #[schema(minimum = 300, maximum = 599)]
    status: u16,
    /// The same sentence as in `error`.
    detail: String,
    error: Reason,
}

/// Why a request was refused.
#[derive(Serialize, ToSchema)]
pub(super) struct Reason {
    /// The reason for programs.
    #[schema(value_type = RefusalCode)]
    code: &'static str,
    /// The reason for people: a sentence in lower case, without a full stop.
    message: String,
    /// Whether the same request may succeed later.
    retryable: bool,
}

impl Reason {
    /// What is said of a refusal.
    pub(super) fn of(refusal: &Refusal) -> Self {
        Self {
            code: refusal.code.as_str(),
            message: refusal.message.to_string(),
            retryable: refusal.code.is_retryable(),
        }
    }
}

/// Media type of problem details (RFC 9457 §3).
pub(super) const PROBLEM: &str = "application/problem+json";

/// Whether a request names problem details among what it accepts.
pub(super) fn accepts_problems(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted.filter_map(|accept| accept.to_str().ok()).any(|accept| {
        accept
            .split([',', ';'])
            .any(|part| part.trim().eq_ignore_ascii_case(PROBLEM))
    })
}

/// Calls an error what the request asked for. For all others it is JSON.
pub(super) fn name_problem(answer: &mut Response) {
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
}

impl From<PageIdError> for HttpError {
    fn from(error: PageIdError) -> Self {
        Refusal::malformed(error.to_string()).into()
    }
}

impl From<PathRejection> for HttpError {
    fn from(rejection: PathRejection) -> Self {
        Refusal::malformed(rejection.body_text()).into()
    }
}

impl From<QueryRejection> for HttpError {
    fn from(rejection: QueryRejection) -> Self {
        Refusal::malformed(rejection.body_text()).into()
    }
}

impl From<JsonRejection> for HttpError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large("the body is over the limit").into(),
            _ => Refusal::malformed(rejection.body_text()).into(),
        }
    }
}

impl From<BytesRejection> for HttpError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large("the body is over the limit").into(),
            _ => Refusal::malformed("the body could not be read").into(),
        }
    }
}

/// Answers for addresses that are not in the table.
pub(super) async fn not_found() -> HttpError {
    Refusal::new(RefusalCode::NotFound, "there is nothing at this address").into()
}

/// Answers for methods that an address does not have.
pub(super) async fn no_such_method() -> Response {
    let refusal = Refusal::new(RefusalCode::NotFound, "this address does not have that method");
    let mut answer = HttpError::from(refusal).into_response();
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    answer
}

/// Answers for a handler that panicked.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    defect().into_response()
}

/// What is no fault of whoever asked.
pub(super) fn defect() -> HttpError {
    Refusal::new(RefusalCode::Internal, "a defect of the server").into()
}
