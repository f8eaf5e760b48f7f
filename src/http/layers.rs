//! What stands around the handlers of requests: who asks too often waits, and browsers are told which pages may read answers.

use axum::{
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{App, correlate, page_state, pages, prefer};
use crate::auth::Authenticator;

/// Holds back the answer to whoever fails again and again to prove who it is.
pub(super) async fn delay_auth_failures(State(app): State<App>, request: Request, next: Next) -> Response {
    let address = app.address(&request);
    let answer = next.run(request).await;
    if answer.status() == StatusCode::UNAUTHORIZED
        && let Some(address) = address
    {
        app.around.access.auth_backoff().failed(address).await;
    }
    answer
}

/// Refuses what comes from an address that asks too often.
pub(super) async fn limit_rate(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.count(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Which pages of the web may read answers, and what of them.
pub(super) fn cors(authenticator: &Authenticator) -> CorsLayer {
    // The policy that lets a page connect decides whether it may read answers, too.
    let origins = authenticator.origins.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, request| {
            origins.lets_in(origin, &request.headers)
        }))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            prefer::PREFER,
            correlate::ID_HEADER,
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            page_state::SEQ_HEADER,
            pages::STATE_VECTOR_HEADER,
            prefer::APPLIED,
            correlate::ID_HEADER,
        ])
}
